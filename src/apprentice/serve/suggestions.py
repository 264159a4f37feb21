"""What would the developer write here? One place in, suggestions with their confidence out; shared by command and server.

    Place, latest edits --repository.prompt--> prompt --Generator (+ memory)--> Suggestion

At a line: the replacement of that line, in the form the model was trained on. At a cursor inside a line: how the line
goes on. Confidence is the product of the model's own token probabilities; whether a suggestion is worth showing unasked says a
`silence.Decision`, which knows more.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from apprentice.core.protocols import Generator, Mixture, Request, Sample, Tokenizer
from apprentice.repository.prompt import Place, PromptConfig, completion_prompt, completion_text, next_edit_prompt
from apprentice.serve.silence import SHOW_FROM, Decision, Shown, facts
from apprentice.serve.wanted import generate_while
from apprentice.text.edits import Edit, EditFormatError, UntilEndMark, parse_target
from apprentice.text.healing import before_healing, heal

EDIT_TOKENS = 256
LINE_TOKENS = 96


class PlaceMemory(Protocol):
    """What is asked of a memory (`memory.memory.Memory`)."""

    def mixture(
        self, *, path: str, lines: Sequence[str], start_line: int, end_line: int, prompt_ids: Sequence[int],
        line_start: str = "",
    ) -> Mixture: ...

    def explain(
        self, *, path: str, lines: Sequence[str], start_line: int, end_line: int, new_text: str, limit: int = 5
    ) -> Sequence[Any]: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Suggestion:
    """What stands in the place of lines [start_line, end_line) if it is taken."""

    path: str
    start_line: int
    end_line: int
    new: tuple[str, ...]
    confidence: float
    """0 to 1: the product of the model's own token probabilities."""
    tokens: int
    steps: int
    """Forward passes; fewer than tokens where the memory's drafts were right."""
    is_shown: bool
    """Whether it is worth showing unasked."""
    resembles: tuple[Any, ...] = ()
    """Places and commits that it resembles."""
    chance: float | None = None
    """That it is right, 0 to 1; None where nothing decides by it."""
    kind: str = ""
    """Of `silence.KINDS`."""
    facts: tuple[float, ...] = ()
    """What the chance was computed from, in the order of `silence.FACTS`."""


class Suggester:
    """A model and perhaps a memory."""

    def __init__(
        self, generator: Generator, tokenizer: Tokenizer, memory: PlaceMemory | None = None, *,
        decision: Decision | None = None, show_from: float = SHOW_FROM, config: PromptConfig | None = None,
    ) -> None:  # fmt: skip
        """`decision`: shows what is right with a chance of `show_from` or more; without one everything that has news is shown."""
        self._generator, self._tokenizer, self._memory = generator, tokenizer, memory
        self._decision, self._show_from = decision, show_from
        self._config = config or PromptConfig()

    def edit(
        self, place: Place, recent: Sequence[Edit] = (), *, why: bool = False, is_wanted: Callable[[], bool] = lambda: True
    ) -> Suggestion | None:
        """The replacement of the region; None where the model gave none in our form. `is_wanted` is asked at every token and while
        the prompt is read; where it says no, what comes back means nothing."""
        prompt = next_edit_prompt(self._tokenizer, place, recent, self._config)
        prompt_ids = self._tokenizer.encode(prompt.text)
        mixture = None
        if self._memory is not None:
            mixture = self._memory.mixture(
                path=place.path, lines=place.lines, start_line=place.start_line, end_line=place.end_line,
                prompt_ids=prompt_ids,
            )  # fmt: skip
        request = Request(prompt_ids=prompt_ids, max_tokens=EDIT_TOKENS, mixture=mixture)
        until_end = UntilEndMark()

        def goes_on(index: int, token_id: int, text: str) -> bool:
            return is_wanted() and until_end(index, token_id, text)

        (sample,) = generate_while(self._generator, [request], is_wanted, on_token=goes_on)
        try:
            new = parse_target(sample.text)
        except EditFormatError:
            return None
        return self._suggestion(place, new, sample, recent, is_line=False, why=why)

    def line(
        self, place: Place, line_start: str, line_rest: str = "", recent: Sequence[Edit] = (), *, why: bool = False,
        is_wanted: Callable[[], bool] = lambda: True,
    ) -> Suggestion:  # fmt: skip
        """How a line goes on at the cursor. `place` is that line; `line_rest` stands behind the cursor and stays. `is_wanted`: as
        for `edit`."""
        prompt = completion_prompt(self._tokenizer, place, line_start, recent, self._config)
        text, must_start_with = heal(self._tokenizer, prompt.text)
        prompt_ids = self._tokenizer.encode(text)
        mixture = None
        if self._memory is not None:
            start_line, said = before_healing(place.lines, place.start_line, line_start, must_start_with)
            mixture = self._memory.mixture(
                path=place.path, lines=place.lines, start_line=start_line, end_line=place.end_line,
                prompt_ids=prompt_ids, line_start=said,
            )  # fmt: skip
        limit = LINE_TOKENS + len(self._tokenizer.encode(must_start_with))
        request = Request(
            prompt_ids=prompt_ids, max_tokens=limit, stop_texts=("\n",), must_start_with=must_start_with, mixture=mixture
        )
        (sample,) = generate_while(self._generator, [request], is_wanted, on_token=lambda *_: is_wanted())
        new = line_start + completion_text(sample.text, place.path, line_rest) + line_rest
        return self._suggestion(place, [new], sample, recent, is_line=True, why=why)

    def _suggestion(
        self, place: Place, new: list[str], sample: Sample, recent: Sequence[Edit], *, is_line: bool, why: bool
    ) -> Suggestion:
        sureness = math.fsum(sample.model_log_probs)
        is_shown = new != list(place.lines[place.start_line : place.end_line])
        shown = Shown(place.path, place.lines, place.start_line, place.end_line, new, is_line)
        chance, known = None, ()
        if self._decision is not None:
            known = facts(shown, sample, recent)
            chance = self._decision.chance(shown.kind, known)
            is_shown = is_shown and chance >= self._show_from
        resembles: Sequence[Any] = ()
        if why and self._memory is not None:
            resembles = self._memory.explain(
                path=place.path, lines=place.lines, start_line=place.start_line, end_line=place.end_line, new_text="\n".join(new)
            )
        return Suggestion(
            path=place.path, start_line=place.start_line, end_line=place.end_line, new=tuple(new),
            confidence=math.exp(sureness), tokens=len(sample.token_ids), steps=sample.steps, is_shown=is_shown,
            resembles=tuple(resembles), chance=chance, kind=shown.kind, facts=known,
        )  # fmt: skip
