"""What a prompt of a suggestion may see, built the same way in training, evaluation, serving and the agent.

    Place (path, the file's lines, the region) + the developer's latest edits --> Prompt (text, spans)

Order: latest edits (oldest first), then the same file: what stands below the region, what stands above it, the
region. Each part has a budget in tokens and loses whole lines, farthest from the region first. Not in a prompt, by
design: the commit's message and anything later than the edit, for they are not known when a suggestion is made.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from apprentice.core.protocols import Tokenizer
from apprentice.text.edits import Edit, Piece, Span, contains_mark, join, render_place, target_text

_CLOSING = ")]}>\"'`:;,"
"""What editors put behind the cursor of their own accord."""


@dataclass(frozen=True, slots=True)
class Place:
    """Lines [start_line, end_line) of a file as it stands, 0-based; equal numbers mean an insertion."""

    path: str
    lines: Sequence[str]
    start_line: int
    end_line: int


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptConfig:
    """Budgets of a prompt's parts."""

    above_tokens: int = 320
    """Tokens of the same file in front of the region, 0 or more."""
    below_tokens: int = 180
    """Tokens of the same file behind the region, 0 or more."""
    recent_tokens: int = 300
    """Tokens of the developer's latest edits, 0 or more."""
    recent_lines: int = 3
    """Lines around each latest edit, 0 to 6."""

    def __post_init__(self) -> None:
        for name in ("above_tokens", "below_tokens", "recent_tokens", "recent_lines"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be 0 or more")


@dataclass(frozen=True, slots=True)
class Prompt:
    """The text of a prompt and what each part of it is (kinds of `text.edits.Piece`)."""

    text: str
    spans: tuple[Span, ...]


def next_edit_prompt(
    tokenizer: Tokenizer, place: Place, recent: Sequence[Edit] = (), config: PromptConfig = PromptConfig()
) -> Prompt:
    """The prompt that asks for the replacement of a region. `recent`: latest edits, oldest first."""
    above, below = _around(tokenizer, place, config)
    pieces = _recent(tokenizer, recent, config)
    pieces += render_place(place.path, above, place.lines[place.start_line : place.end_line], below)
    text, spans = join(pieces)
    return Prompt(text, tuple(spans))


def completion_prompt(
    tokenizer: Tokenizer, place: Place, line_start: str, recent: Sequence[Edit] = (), config: PromptConfig = PromptConfig()
) -> Prompt:
    """The prompt that asks to go on at a cursor: the region's lines are gone, `line_start` is what stands on the
    cursor's line in front of it. The text below is shown first, so the prompt ends at the cursor."""
    above, below = _around(tokenizer, place, config)
    pieces = _recent(tokenizer, recent, config)
    if below:
        pieces += [Piece(f"# {place.path}, below the edit\n", "path"), Piece("".join(x + "\n" for x in below), "below")]
    pieces.append(Piece(f"# {place.path}\n", "path"))
    pieces.append(Piece("".join(line + "\n" for line in above) + line_start, "above"))
    text, spans = join(piece for piece in pieces if piece.text)
    return Prompt(text, tuple(spans))


def completion_text(generated: str, path: str, line_rest: str = "") -> str:
    """What the reply to `completion_prompt` suggests: a line, without its end where that stands behind the cursor
    already (`line_rest`); nothing where the model began another part of the prompt instead."""
    line = generated.split("\n", 1)[0]
    if contains_mark([line]) or line in (f"# {path}", f"# {path}, below the edit"):
        return ""
    rest = line_rest.rstrip()
    if rest and line.rstrip().endswith(rest):
        return line.rstrip().removesuffix(rest)
    closing = rest[: len(rest) - len(rest.lstrip(_CLOSING))]
    return next((line[: len(line) - n] for n in range(len(closing), 0, -1) if line.endswith(closing[:n])), line)


def _around(tokenizer: Tokenizer, place: Place, config: PromptConfig) -> tuple[list[str], list[str]]:
    above = _fit(tokenizer, reversed(place.lines[: place.start_line]), config.above_tokens)[::-1]
    below = _fit(tokenizer, iter(place.lines[place.end_line :]), config.below_tokens)
    return above, below


def _fit(tokenizer: Tokenizer, lines: Iterable[str], budget: int) -> list[str]:
    """The first lines that fit the budget together."""
    taken = []
    for line in lines:
        # A line longer than the budget in characters cannot be skipped over: what lies behind it is out of context.
        budget -= len(tokenizer.encode(line + "\n")) if len(line) <= 16 * max(budget, 1) else budget + 1
        if budget < 0:
            break
        taken.append(line)
    return taken


def _recent(tokenizer: Tokenizer, recent: Sequence[Edit], config: PromptConfig) -> list[Piece]:
    shown: list[str] = []
    budget = config.recent_tokens
    for edit in reversed(recent):
        text = edit_text(edit, config.recent_lines)
        if len(text) > 16 * max(budget, 1):
            break
        budget -= len(tokenizer.encode(text))
        if budget < 0:
            break
        shown.append(text)
    return [Piece(text, "recent") for text in reversed(shown)]


def edit_text(edit: Edit, around: int) -> str:
    """A finished edit in the form of the prompt and its target, with up to `around` lines on each side."""
    above = edit.above[len(edit.above) - min(around, len(edit.above)) :]
    pieces = render_place(edit.path, above, edit.old, edit.below[:around])
    return "".join(piece.text for piece in pieces) + target_text(edit.new) + "\n"
