"""A moment -> the example that asks for the rest of a line at the place of a real edit.

DESIGN's exact line: one place a hunk, its first non-blank new line, the cursor at the first changed character, the old
lines removed, the text below shown. A line of the hunk that was only carried over is not a new line: the first line
that has a changed character, and text from there on, is the place. A hunk without one (a deletion, trailing blanks,
lines joined or moved whole) has no place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from apprentice.core.protocols import Tokenizer
from apprentice.examples.example import COMPLETION, Example, from_moment
from apprentice.examples.work import Moment
from apprentice.repository.prompt import Place, PromptConfig, completion_prompt
from apprentice.text.edits import Edit, Piece, changed_ranges


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place inside a line."""

    place: Place
    """The file with the hunk's earlier new lines typed; its region, still there, is the hunk's old lines."""
    line_start: str
    """What stands on the line in front of the cursor."""
    rest: str
    """What the developer typed behind it, up to the line break."""


def cursor(lines: Sequence[str], edit: Edit) -> Cursor | None:
    """The hunk's place for a completion, or None."""
    new = "".join("\n" + line for line in edit.new)
    changed = changed_ranges("".join("\n" + line for line in edit.old), new)
    end = 0
    for index, line in enumerate(edit.new):
        start, end = end + 1, end + 1 + len(line)
        touched = [max(a, start) - start for a, b in changed if a < end and b > start]
        if touched and line[touched[0] :].strip():
            typed = [*lines[: edit.start_line], *edit.new[:index]]
            place = Place(edit.path, [*typed, *lines[edit.start_line :]], len(typed), len(typed) + len(edit.old))
            return Cursor(place, line[: touched[0]], line[touched[0] :])
    return None


def completion(moment: Moment, tokenizer: Tokenizer, config: PromptConfig) -> Example | None:
    """The example of this moment, or None where the hunk has no place."""
    at = cursor(moment.lines, moment.edit)
    if at is None:
        return None
    prompt = completion_prompt(tokenizer, at.place, at.line_start, moment.recent, config)
    return from_moment(moment, COMPLETION, "line", prompt, [Piece(at.rest, "changed"), Piece("\n", "end")])
