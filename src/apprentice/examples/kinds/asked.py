"""A moment -> where an editor would ask for a suggestion there, with what was right: at the edit, and where nothing was to be done.

    the edit's first changed line    --edit--> the lines that it became      its first new text    --line--> the line as it was typed
    a silent line                    --edit--> as it is                      the end of one        --line--> as it is

Editors ask for one line at a time, so places are single lines of the file as it stands: for the rest of a line the developer has
typed everything up to the cursor and taken the old lines out. Where a hunk makes several lines of several others, nobody can say
which became which: such a place is asked for its new text only. So is an insertion.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from apprentice.examples.kinds.completion import cursor
from apprentice.examples.kinds.silence import silent_places
from apprentice.examples.work import Moment
from apprentice.repository.prompt import Place
from apprentice.text.edits import contains_mark

Form = Literal["edit", "line"]


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, and what would have been right."""

    form: Form
    place: Place
    """The cursor's line."""
    line_start: str
    """What stands in front of the cursor; nothing stands behind it. Of the form `line`."""
    right: tuple[str, ...]
    """What the developer made of the line."""
    is_silent: bool
    """It was left as it is."""

    @property
    def old(self) -> tuple[str, ...]:
        return tuple(self.place.lines[self.place.start_line : self.place.end_line])

    def is_exact(self, new: Sequence[str]) -> bool:
        """Whether the lines are what the developer wrote, but for blanks at their ends."""
        return not self.is_silent and _stripped(new) == _stripped(self.right)

    def is_useful(self, new: Sequence[str]) -> bool:
        """Whether they are, as far as they go: the first lines of an edit, the beginning of a line."""
        said, right = _stripped(new), _stripped(self.right)
        if self.is_silent or said == right:
            return not self.is_silent
        if self.form == "line":
            return len(said) == 1 and len(said[0]) > len(self.line_start.rstrip()) and right[0].startswith(said[0])
        return 0 < len(said) < len(right) and said == right[: len(said)] and said != _stripped(self.old)


def asked_at(moment: Moment, *, silent: int = 1, seed: int = 0) -> list[Asked]:
    """Requests at the edit, and as many times `silent` where nothing was to be done: of each form as many as the edit has."""
    lines, edit = moment.lines, moment.edit
    if contains_mark(lines) or contains_mark(edit.new):
        return []
    found: list[Asked] = []
    changed = _changed_line(edit.old, edit.new)
    if changed is not None:
        index, right = changed
        at = edit.start_line + index
        # Inside of a hunk the developer has come as far as this line.
        before = [*lines[: edit.start_line], *right.typed, *lines[at:]]
        start = edit.start_line + len(right.typed)
        found.append(Asked("edit", Place(edit.path, before, start, start + 1), "", right.lines, False))
    here = cursor(lines, edit)
    if here is not None:
        typed = here.place.lines[: here.place.start_line]
        now = [*typed, here.line_start, *here.place.lines[here.place.end_line :]]
        at = len(typed)
        found.append(Asked("line", Place(edit.path, now, at, at + 1), here.line_start, (here.line_start + here.rest,), False))
    silences = iter(silent_places(moment, silent * len(found), num_lines=1, seed=seed))
    for asked in list(found):
        for _, place in zip(range(silent), silences, strict=False):
            line = place.lines[place.start_line]
            found.append(Asked(asked.form, place, line if asked.form == "line" else "", (line,), True))
    return found


@dataclass(frozen=True, slots=True)
class _Right:
    typed: tuple[str, ...]
    """New lines in front of it."""
    lines: tuple[str, ...]


def _changed_line(old: Sequence[str], new: Sequence[str]) -> tuple[int, _Right] | None:
    """(which of the old lines is the first that did not stay, what it became), where that can be said."""
    for tag, i1, i2, j1, j2 in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag in ("equal", "insert"):
            continue
        typed = tuple(new[:j1])
        if tag == "delete":
            return i1, _Right(typed, ())
        if i2 - i1 == 1:
            return i1, _Right(typed, tuple(new[j1:j2]))
        return (i1, _Right(typed, (new[j1],))) if i2 - i1 == j2 - j1 else None
    return None


def _stripped(lines: Sequence[str]) -> tuple[str, ...]:
    return tuple(line.rstrip() for line in lines)
