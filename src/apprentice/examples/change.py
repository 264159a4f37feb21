"""Edits of several files as a question and its answer: the code around them, and the blocks that make them.

    Places of a file (its lines, what becomes of some) --excerpts()--> what a prompt shows
                                                       --blocks()----> what an answer says

A block quotes as few lines as tell its place apart from all others of the file, at least one where it only adds lines.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from apprentice.examples.conversation import Excerpt
from apprentice.examples.work import FileWork
from apprentice.text.blocks import Block, BlockError, apply, fenced, is_writable, place_of, render
from apprentice.text.edits import CONTEXT_LINES, Edit

NEAR_LINES = 3
"""Excerpts with so few lines between them are one."""
UNKNOWN = -1


@dataclass(frozen=True, slots=True)
class Place:
    """Lines [start, end) become `new`."""

    start: int
    end: int
    new: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FileChange:
    """What happens to a file, or to a part of it where no more of it is known."""

    path: str
    lines: Sequence[str]
    """Before; none for a new file."""
    places: Sequence[Place]
    """Top to bottom, by the lines before."""
    first_line: int = 0
    """Of `lines` in the file; -1 where it is not known."""

    @classmethod
    def of_work(cls, file: FileWork) -> FileChange:
        """A file's share of a commit."""
        return cls(file.path, file.before, places_of(file.edits))

    @classmethod
    def of_edit(cls, edit: Edit) -> FileChange:
        """An edit of which no more is known than the lines beside it."""
        start = len(edit.above)
        first = edit.start_line - start if edit.start_line >= start else UNKNOWN
        return cls(edit.path, (*edit.above, *edit.old, *edit.below), [Place(start, start + len(edit.old), edit.new)], first)

    @property
    def after(self) -> list[str]:
        """The lines afterwards."""
        lines = list(self.lines)
        for place in reversed(self.places):
            lines[place.start : place.end] = place.new
        return lines


def places_of(edits: Sequence[Edit]) -> list[Place]:
    """Edits, each at its place after the ones before it, by the lines before all of them."""
    places: list[Place] = []
    grown = 0
    for edit in edits:
        start = edit.start_line - grown
        places.append(Place(start, start + len(edit.old), edit.new))
        grown += len(edit.new) - len(edit.old)
    return places


def excerpts(changes: Sequence[FileChange], around: int = CONTEXT_LINES) -> list[Excerpt]:
    """The lines around all places, each once."""
    found = []
    for change in changes:
        for start, end in _ranges(change, around) if change.lines else ():
            first = UNKNOWN if change.first_line == UNKNOWN else change.first_line + start
            found.append(Excerpt(change.path, first, tuple(change.lines[start:end])))
    return found


def question(shown: Sequence[Excerpt]) -> str:
    """The excerpts as a prompt has them."""
    return "\n\n".join(f"{_title(part)}\n{fenced(''.join(line + chr(10) for line in part.lines), part.path)}" for part in shown)


def answer(changes: Sequence[FileChange]) -> str | None:
    """The blocks as an answer has them; None where the form cannot hold them, or does not tell the places apart."""
    found: list[Block] = []
    for change in changes:
        blocks = list(_blocks(change))
        try:
            if not all(map(is_writable, blocks)) or apply({change.path: change.lines}, blocks)[change.path] != change.after:
                return None
        except BlockError:
            return None
        found += blocks
    return render(found)


def diff(changes: Sequence[FileChange], around: int = 3) -> str:
    """The change as a unified diff, without numbers of lines."""
    parts: list[str] = []
    for change in changes:
        head = f"--- a/{change.path}" if change.lines else "--- /dev/null"
        parts += [head, f"+++ b/{change.path}"]
        for start, end in _ranges(change, around):
            parts.append("@@")
            at = start
            for place in (place for place in change.places if start <= place.start <= end):
                parts += [" " + line for line in change.lines[at : place.start]]
                parts += ["-" + line for line in change.lines[place.start : place.end]] + ["+" + line for line in place.new]
                at = place.end
            parts += [" " + line for line in change.lines[at:end]]
    return "".join(line + "\n" for line in parts)


def _title(part: Excerpt) -> str:
    where = "" if part.start_line == UNKNOWN else f", lines {part.start_line + 1} to {part.start_line + len(part.lines)}"
    return f"{part.path}{where}:"


def _ranges(change: FileChange, around: int) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for place in change.places:
        start, end = max(place.start - around, 0), min(place.end + around, len(change.lines))
        if found and start - found[-1][1] <= NEAR_LINES:
            found[-1] = (found[-1][0], end)
        else:
            found.append((start, end))
    return found


def _blocks(change: FileChange) -> Iterator[Block]:
    if not change.lines:
        yield Block(change.path, (), tuple(change.after))
        return
    ends = [0, *(place.end for place in change.places)]
    starts = [*(place.start for place in change.places), len(change.lines)]
    for number, place in enumerate(change.places):
        # Lines of a neighbour are not what they were.
        lowest, highest = ends[number], starts[number + 1]
        for around in range(CONTEXT_LINES + 1):
            start, end = max(place.start - around, lowest), min(place.end + around // 2, highest)
            if (place.start < place.end or around) and _is_single(change.lines, start, end):
                break
        yield Block(change.path, tuple(change.lines[start:end]), (*change.lines[start : place.start], *place.new, *change.lines[place.end : end]))


def _is_single(lines: Sequence[str], start: int, end: int) -> bool:
    wanted = lines[start:end]
    first = place_of(lines, wanted)
    return first == start and place_of(lines, wanted, start + 1) is None
