"""What a developer did to a repository, one commit after the other, and the exact moment before each edit.

    Sessions --history.History--> Works --moments()--> (the file's lines just before this edit, the edits made earlier)

A `Work` is a commit as the examples see it: files in path order, each with its lines before the commit and the edits
from top to bottom. `moments` plays them forward. What it yields is what was known when the edit was made: edits later
in the same file, in later files of the commit and in later commits have not happened yet. Training examples, the
memory's gate and the evaluation all take their moments from here, so none of them can see more than the others.
"""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from apprentice.text.edits import Edit, apply, contains_mark

MAX_RECENT = 48
"""Earlier edits kept for prompts: more than any prompt's budget shows."""

FileReason = Callable[[str, Sequence[str]], str | None]
"""(path, lines) -> why the file teaches nothing, or None."""


@dataclass(frozen=True, slots=True)
class FileWork:
    """A file's share of a commit."""

    path: str
    before: Sequence[str]
    """Lines before the commit; none for a new file."""
    edits: Sequence[Edit]
    """Top to bottom, each at its place after the ones before it (`text.edits.hunks`)."""
    removed: bool = False
    """The file is gone after the commit."""
    renamed_from: str | None = None
    """The path that the file had before, where it had another."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """One commit."""

    commit: str
    time: float
    """Seconds since 1970, UTC."""
    author: str
    """`developer`, `assistant` or `tool`."""
    files: Sequence[FileWork]
    session: str = ""
    repository: str = ""
    person: str = ""
    """Pseudonym."""
    may_learn: bool = True
    """Whether loss may fall on what this author wrote."""
    moves: Sequence[tuple[str, str | None]] = ()
    """(path, text id; None where it is gone) of files that other people's work changed before this commit began."""


@dataclass(frozen=True, slots=True)
class Moment:
    """Just before an edit."""

    work: Work
    file: FileWork
    hunk: int
    """0-based, within the file's edits of this commit."""
    edit: Edit
    lines: Sequence[str]
    """The file as it stands: earlier edits of the same commit are in it."""
    recent: Sequence[Edit]
    """The latest edits made before this one in the same repository, oldest first."""
    order: int
    """Number of the edit in the whole history, counting those that are left out."""

    @property
    def key(self) -> str:
        """Stable name of the edit."""
        parts = (self.work.repository, self.work.commit, self.edit.path, str(self.hunk))
        return hashlib.sha256("\0".join(parts).encode(errors="surrogatepass")).hexdigest()[:20]


class Player:
    """Plays works forward, one after the other. Files for which `leave_out` names a reason are passed over and counted
    in `dropped`, by edit; they are in nobody's `recent`."""

    def __init__(self, *, leave_out: FileReason = lambda path, lines: None, dropped: Counter[str] | None = None) -> None:
        self._leave_out = leave_out
        self.dropped: Counter[str] = Counter() if dropped is None else dropped
        self._recent: dict[str, deque[Edit]] = {}
        self._order = 0

    def copy(self) -> Player:
        """Another one that goes on from here; it counts what it drops for itself."""
        twin = Player(leave_out=self._leave_out)
        twin._recent = {repository: latest.copy() for repository, latest in self._recent.items()}
        twin._order = self._order
        return twin

    def play(self, work: Work) -> Iterator[Moment]:
        """Every edit of a work, in order, at its moment."""
        latest = self._recent.setdefault(work.repository, deque(maxlen=MAX_RECENT))
        for file in work.files:
            if reason := self.reason(file):
                self._drop(reason, len(file.edits))
                continue
            lines = list(file.before)
            for hunk, edit in enumerate(file.edits):
                try:
                    changed = apply(lines, edit)
                except ValueError:
                    self._drop("edits that do not fit their file", len(file.edits) - hunk)
                    break
                yield Moment(work, file, hunk, edit, lines, tuple(latest), self._order)
                lines = changed
                self._order += 1
                if is_showable(edit):
                    latest.append(edit)

    def reason(self, file: FileWork) -> str | None:
        """Why a file is left out, or None."""
        return self._leave_out(file.path, file.before or [line for edit in file.edits for line in edit.new])

    def _drop(self, reason: str, count: int) -> None:
        self.dropped[reason] += count
        self._order += count


def moments(works: Iterable[Work], player: Player | None = None) -> Iterator[Moment]:
    """Every edit of every work, in order, at its moment."""
    player = player or Player()
    for work in works:
        yield from player.play(work)


def after(file: FileWork) -> list[str]:
    """The file's lines after the commit. Raises: ValueError where the edits do not fit."""
    lines = list(file.before)
    for edit in file.edits:
        lines = apply(lines, edit)
    return lines


def is_showable(edit: Edit) -> bool:
    """Whether the edit can stand in a prompt: none of its lines is a mark of the edit language."""
    return not any(contains_mark(lines) for lines in (edit.above, edit.old, edit.new, edit.below))
