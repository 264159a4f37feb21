"""The developer's latest edits, out of keystrokes: consecutive changes at one place are one edit.

    Change, Change, ... --History.before() / .after()--> one Stretch while the place stays the same --edits()--> Edit

An edit ends when something is changed elsewhere, more than `NEAR_LINES` lines away or in another document. What was put in by
accepting a suggestion is an edit of its own (`claim`): the model wrote it, not the developer.

What must not be suggested is known here too: what would take the last edit back, wholly or in part, and a line that the
developer has just left by deleting from it.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from apprentice.serve.lsp.documents import Change, Document, whole
from apprentice.sessions.differences import hunks_between
from apprentice.sessions.unusable import Unusable
from apprentice.text.edits import Edit

NEAR_LINES = 2
"""Unchanged lines between two changes of one edit; also what `text.edits.hunks` merges."""
MAX_EDITS = 32
"""That are remembered."""
MAX_EDIT_LINES = 120
"""Old and new lines of an edit; a longer one (a file that was pasted or formatted) is not shown to the model."""
AROUND_LINES = 200
"""Kept around an edit, so that a secret of several lines is seen whole."""
MAX_LEFT = 64


@dataclass(frozen=True, slots=True)
class Stretch:
    """Lines that were changed at one place, with those around them."""

    uri: str
    name: str
    first_line: int
    """Of the lines below, in the document after the change."""
    old: tuple[str, ...]
    new: tuple[str, ...]
    time: float = 0.0
    """Of its last change, in seconds since 1970."""
    by_model: bool = False
    """Put in by accepting a suggestion."""

    @classmethod
    def between(
        cls, document: Document, before: Sequence[str], after: Sequence[str], time: float = 0.0, *, by_model: bool = False
    ) -> Stretch:
        """What differs between two states of a document."""
        before, after = whole(before), whole(after)
        shorter = min(len(before), len(after))
        head = next((i for i in range(shorter) if before[i] != after[i]), shorter)
        tail = next((i for i in range(shorter - head) if before[-1 - i] != after[-1 - i]), shorter - head)
        first, behind = max(head - AROUND_LINES, 0), max(tail - AROUND_LINES, 0)
        old, new = before[first : len(before) - behind], after[first : len(after) - behind]
        return cls(document.uri, document.name, first, tuple(old), tuple(new), time, by_model)

    def edits(self) -> list[Edit]:
        """Top to bottom; none where nothing changed, or where the comparison would take too long."""
        try:
            found = hunks_between(self.name, _text(self.old), _text(self.new))
        except Unusable:
            return []
        return [replace(edit, start_line=edit.start_line + self.first_line) for edit in found]


@dataclass(slots=True)
class _Current:
    """The edit that is being made."""

    document: Document
    before: list[str]
    first: int
    """Lines [first, end) of the document are its place, as the document stands."""
    end: int
    left: deque[str] = field(default_factory=lambda: deque(maxlen=MAX_LEFT))
    """Lines as they were before something was deleted from them."""
    time: float = 0.0
    time_before: float = 0.0
    """Of the last change in front of `inserted_on`."""
    inserted_on: list[str] | None = None
    """The document before what may turn out to be an accepted suggestion was put in, and after it."""
    inserted: list[str] | None = None

    def stretch(self) -> Stretch:
        return Stretch.between(self.document, self.before, self.document.lines, self.time)


class History:
    """Of all documents of a session."""

    def __init__(self, on_edit: Callable[[Stretch], None] = lambda stretch: None, clock: Callable[[], float] = time.time) -> None:
        """`on_edit` is told of each edit when it has ended."""
        self._on_edit, self._clock = on_edit, clock
        self._edits: deque[Edit] = deque(maxlen=MAX_EDITS)
        self._last: dict[str, Stretch] = {}
        self._current: _Current | None = None

    def before(self, document: Document, change: Change, *, may_be_accepted: bool = False) -> None:
        """Told of a change that comes. `may_be_accepted`: it may be a suggestion that is put in."""
        current = self._current
        first, end = change.start.line, change.end.line + 1
        if current is None or current.document is not document or first > current.end + NEAR_LINES or end < current.first - NEAR_LINES:
            self.close()
            current = self._current = _Current(document, list(document.lines), first, end)
        if change.old.strip():
            current.left.extend(document.lines[first:end][:MAX_LEFT])
        if current.inserted_on is not None and current.inserted is None:
            current.inserted = list(document.lines)
        if may_be_accepted:
            current.inserted_on, current.inserted, current.time_before = list(document.lines), None, current.time
        current.time = self._clock()
        grown = change.new_end.line - change.end.line
        current.first, current.end = min(current.first, first), max(current.end, end) + grown

    def claim(self, document: Document) -> None:
        """The latest of those insertions was an accepted suggestion: what the developer did before and after it are other edits."""
        current = self._current
        if current is None or current.document is not document or current.inserted_on is None:
            return
        before, after = current.inserted_on, current.inserted or list(document.lines)
        self._finish(Stretch.between(document, current.before, before, current.time_before))
        self._finish(Stretch.between(document, before, after, current.time, by_model=True))
        self._current = replace(current, before=after, inserted_on=None, inserted=None)

    def close(self, document: Document | None = None) -> None:
        """The edit that is being made (in that document) has ended."""
        current = self._current
        if current is not None and document in (None, current.document):
            self._current = None
            self._finish(current.stretch())

    def forget(self, document: Document) -> None:
        """The document was closed; its edits stay among the latest ones."""
        self.close(document)
        self._last.pop(document.uri, None)

    def abandon(self, document: Document) -> None:
        """What is being done there can no longer be followed."""
        if self._current is not None and self._current.document is document:
            self._current = None
        self._last.pop(document.uri, None)

    def seed(self, edits: Sequence[Edit]) -> None:
        """Edits that were made before this session: older than all that are known."""
        room = MAX_EDITS - len(self._edits)
        kept = [edit for edit in edits if _is_short(edit)]
        self._edits.extendleft(reversed(kept[max(len(kept) - room, 0) :]))

    def ended(self) -> list[Edit]:
        """Oldest first, without the one that is being made."""
        return list(self._edits)

    def recent(self, document: Document | None = None, line: int | None = None) -> list[Edit]:
        """Oldest first, with the one that is being made, but for what it has changed on that line: there the developer is writing."""
        found = list(self._edits)
        if self._current is not None:
            for edit in self._current.stretch().edits():
                here = document is self._current.document and line is not None
                if _is_short(edit) and not (here and edit.start_line <= (line or 0) < edit.start_line + max(len(edit.new), 1)):
                    found.append(edit)
        return found[-MAX_EDITS:]

    def undoes(self, document: Document, start: int, old: Sequence[str], new: Sequence[str]) -> bool:
        """Whether putting `new` in the place of the lines `old` at `start` would take the document's last edit back."""
        current = self._current if self._current is not None and self._current.document is document else None
        edits = current.stretch().edits() if current else []
        if not edits and document.uri in self._last:
            edits = self._last[document.uri].edits()
        added, gone = Counter(new) - Counter(old), Counter(old) - Counter(new)
        if current and added and current.first <= start + len(old) and start <= current.end and added <= Counter(current.left):
            return True
        for edit in edits:
            if start > edit.start_line + len(edit.new) or edit.start_line > start + len(old):
                continue
            removed, written = Counter(edit.old) - Counter(edit.new), Counter(edit.new) - Counter(edit.old)
            if (added or gone) and added <= removed and gone <= written:
                return True
        return False

    def _finish(self, stretch: Stretch) -> None:
        if stretch.old == stretch.new:
            return
        self._last[stretch.uri] = stretch
        self._edits.extend(edit for edit in stretch.edits() if _is_short(edit))
        self._on_edit(stretch)


def _is_short(edit: Edit) -> bool:
    return len(edit.old) + len(edit.new) <= MAX_EDIT_LINES


def _text(lines: Sequence[str]) -> str:
    return "".join(line + "\n" for line in lines)
