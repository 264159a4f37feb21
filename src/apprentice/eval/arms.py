"""Who answers: a model with a prompt and perhaps a memory, copying the nearest earlier edit, or a server elsewhere.

    View (what is known at an edit) --> likelihood of what the developer typed | rest of the line | replacement

An arm's `version` stands for everything that decides its answers: rows on disk made by another version are not reused.
Arms that share a generator and a prompt are scored in one forward pass (`likelihoods`): a Score carries the model's own
log-probabilities and the mixture's. Generation under the mixture takes another path and is a call of its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Protocol

import msgspec

from apprentice.core.errors import InternalError
from apprentice.core.protocols import Generator, Mixture, Request, Sample, Tokenizer
from apprentice.eval.replay import MixtureSource, View
from apprentice.eval.samples import EDIT, LIKELIHOOD, LINE
from apprentice.examples.checks.likelihood import Likelihood, likelihood
from apprentice.examples.checks.line import confidence
from apprentice.examples.kinds.completion import Cursor
from apprentice.examples.kinds.next_edit import region
from apprentice.repository.prompt import Place, PromptConfig, completion_prompt, completion_text, next_edit_prompt
from apprentice.text.edits import END_MARK, UntilEndMark, join, render_target
from apprentice.text.healing import before_healing, heal

BARE_LINES = 6
"""Lines on each side of the region in the bare window."""
SCORING_VERSION = "2"
"""A change here means that rows made before are not comparable."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Where generation is cut off: a longer answer counts as it stands, so as wrong."""

    line_tokens: int = 96
    """Of a line's rest, 1 or more."""
    edit_tokens: int = 384
    """Of a replacement, 1 or more."""
    edit_extra_tokens: int = 128
    """A replacement may be this much longer than twice the region: known when suggesting, so the same for all."""

    def for_edit(self, old_tokens: int) -> int:
        """Most tokens of a replacement for a region of `old_tokens`."""
        return min(self.edit_tokens, 2 * old_tokens + self.edit_extra_tokens)


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What was generated."""

    text: str
    tokens: int = 0
    steps: int = 0
    confidence: float | None = None
    finished: bool = False
    """It ended of its own accord, not at a limit."""
    error: str = ""


class Arm(Protocol):
    """Something to be compared."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def measures(self) -> tuple[str, ...]:
        """Which of `samples.MEASURES` it can take part in."""
        ...

    def line(self, view: View, cursor: Cursor, limits: Limits) -> Answer: ...
    def edit(self, view: View, limits: Limits) -> Answer: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelArm:
    """A model asked through a prompt, alone or mixed with a memory."""

    name: str
    generator: Generator
    tokenizer: Tokenizer
    source: str
    """Content hash of the weights."""
    prompt: PromptConfig = field(default_factory=PromptConfig)
    """Budgets of the prompt."""
    bare: bool = False
    """Show nothing but BARE_LINES lines on each side of the region."""
    memory: str | None = None
    """Name of one of the view's memories."""
    memory_source: str = ""
    """Content hash of that memory, its gate included."""
    measures: tuple[str, ...] = (LIKELIHOOD, LINE, EDIT)

    @property
    def version(self) -> str:
        parts = [SCORING_VERSION, self.source, asdict(self.prompt), self.bare, self.memory, self.memory_source]
        return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()[:16]

    def line(self, view: View, cursor: Cursor, limits: Limits) -> Answer:
        place = self._shown(cursor.place)
        recent = () if self.bare else view.moment.recent
        prompt = completion_prompt(self.tokenizer, place, cursor.line_start, recent, self.prompt)
        safe, must_start_with = heal(self.tokenizer, prompt.text)
        prompt_ids = self.tokenizer.encode(safe)
        request = Request(
            prompt_ids=prompt_ids,
            max_tokens=limits.line_tokens + len(self.tokenizer.encode(must_start_with)),
            stop_texts=("\n",),
            must_start_with=must_start_with,
            mixture=self._line_mixture(view, cursor, prompt_ids, must_start_with),
        )
        sample = self.generator.generate([request])[0]
        return replace(_answer(sample), text=completion_text(sample.text, place.path))

    def edit(self, view: View, limits: Limits) -> Answer:
        prompt_ids = self.edit_prompt_ids(view)
        request = Request(
            prompt_ids=prompt_ids,
            max_tokens=limits.for_edit(len(self.tokenizer.encode("\n".join(view.moment.edit.old)))),
            mixture=self.edit_mixture(view, prompt_ids),
        )
        return _answer(self.generator.generate([request], on_token=UntilEndMark())[0])

    def edit_prompt_ids(self, view: View) -> list[int]:
        """The prompt that asks for the replacement."""
        place = self._shown(region(view.moment.lines, view.moment.edit))
        recent = () if self.bare else view.moment.recent
        return self.tokenizer.encode(next_edit_prompt(self.tokenizer, place, recent, self.prompt).text)

    def edit_mixture(self, view: View, prompt_ids: Sequence[int]) -> Mixture | None:
        """The memory's mixture for a replacement, where this arm has a memory."""
        if self.memory is None:
            return None
        place = region(view.moment.lines, view.moment.edit)
        return _memory(view, self.memory).mixture(
            path=place.path, lines=place.lines, start_line=place.start_line, end_line=place.end_line, prompt_ids=prompt_ids
        )

    def _line_mixture(
        self, view: View, cursor: Cursor, prompt_ids: Sequence[int], must_start_with: str
    ) -> Mixture | None:
        if self.memory is None:
            return None
        place = cursor.place
        line, line_start = before_healing(place.lines, place.start_line, cursor.line_start, must_start_with)
        # The old lines are gone when a line is completed: what is not there must not be brought back.
        lines = [*place.lines[:line], *place.lines[place.end_line :]]
        return _memory(view, self.memory).mixture(
            path=place.path, lines=lines, start_line=line, end_line=line, prompt_ids=prompt_ids, line_start=line_start
        )

    def _shown(self, place: Place) -> Place:
        """What the prompt may show of the file."""
        if not self.bare:
            return place
        first = max(0, place.start_line - BARE_LINES)
        lines = place.lines[first : place.end_line + BARE_LINES]
        return Place(place.path, lines, place.start_line - first, place.end_line - first)


def likelihoods(arms: Sequence[ModelArm], view: View) -> list[Likelihood]:
    """How likely each arm found what the developer typed. The arms share generator and prompt (`shared_pass`): one
    forward pass for each memory among them, and none besides for the arm without one."""
    first = arms[0]
    prompt_ids = first.edit_prompt_ids(view)
    target, spans = join(render_target(view.moment.edit.old, view.moment.edit.new))
    target_ids, offsets = first.tokenizer.encode_with_offsets(target)
    found: dict[str | None, list[float]] = {}
    for arm in sorted(arms, key=lambda arm: arm.memory is None):
        if arm.memory in found:
            continue
        mixture = arm.edit_mixture(view, prompt_ids)
        score = first.generator.score([prompt_ids], [target_ids], mixtures=[mixture])[0]
        found.setdefault(None, score.model_log_probs)
        if arm.memory is not None:
            if score.mixture_log_probs is None:
                raise InternalError(f"the generator of arm `{arm.name}` scored without the mixture that it was given")
            found[arm.memory] = score.mixture_log_probs
    return [likelihood(spans, offsets, found[arm.memory]) for arm in arms]


def shared_pass(arm: ModelArm) -> tuple[int, str]:
    """Arms with equal keys can be scored together."""
    return id(arm.generator), f"{arm.prompt} {arm.bare}"


def _answer(sample: Sample) -> Answer:
    return Answer(
        text=sample.text,
        tokens=len(sample.token_ids),
        steps=sample.steps,
        confidence=confidence(sample.model_log_probs) if sample.model_log_probs else None,
        finished=sample.finish_reason == "stop",
    )


def _memory(view: View, name: str) -> MixtureSource:
    if name not in view.memories:
        raise InternalError(f"an arm asks for the memory `{name}`, which was not opened")
    return view.memories[name]


Complete = Callable[[str, int, Sequence[str]], Answer]
"""(prompt, most tokens, stop texts) -> answer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RemoteArm:
    """A server that completes text (`eval.remote.Completions`): for measures that need no log-probabilities of given
    text. The prompt is sent as text, so it can end inside a token of the server's model."""

    name: str
    complete: Complete
    tokenizer: Tokenizer
    """Of any model: it only sizes the prompt's parts."""
    source: str
    """What stands for the server's model, such as URL and model name."""
    prompt: PromptConfig = field(default_factory=PromptConfig)
    measures: tuple[str, ...] = (LINE, EDIT)

    @property
    def version(self) -> str:
        return hashlib.sha256(msgspec.json.encode([SCORING_VERSION, self.source, asdict(self.prompt)])).hexdigest()[:16]

    def line(self, view: View, cursor: Cursor, limits: Limits) -> Answer:
        prompt = completion_prompt(self.tokenizer, cursor.place, cursor.line_start, view.moment.recent, self.prompt)
        answer = self.complete(prompt.text, limits.line_tokens, ("\n",))
        return replace(answer, text=completion_text(answer.text, cursor.place.path))

    def edit(self, view: View, limits: Limits) -> Answer:
        place = region(view.moment.lines, view.moment.edit)
        prompt = next_edit_prompt(self.tokenizer, place, view.moment.recent, self.prompt)
        old_tokens = len(self.tokenizer.encode("\n".join(view.moment.edit.old)))
        answer = self.complete(prompt.text, limits.for_edit(old_tokens), ("\n" + END_MARK,))
        # A server cuts the stop text off. One that ends its reply of its own accord has ended the replacement too.
        return replace(answer, text=answer.text + "\n" + END_MARK) if answer.finished else answer
