"""What later edits of the same session did to the lines of an edit.

An edit is taken back by one that takes its lines away and brings back those that it had replaced; it is overtaken by one that
takes its lines away and brings others. A file that is written as a whole takes away what it does not hold. Lines that say
nothing by themselves, and edits of which only the file is known, are passed over: what they did cannot be told.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from apprentice.sessions.conversation import UNKNOWN_LINE
from apprentice.sessions.events import EditEvent, Suggestion
from apprentice.sessions.outcomes.edit_joins import ALL
from apprentice.sessions.outcomes.line_places import is_plain
from apprentice.text.edits import Edit

_MAX_WHOLES = 20
"""Times that a file was written as a whole, that are compared with an edit before them."""
_MIN_WHOLE = 5
"""Lines of a file that is written without saying in place of what."""


@dataclass(frozen=True, slots=True)
class Later:
    """What became of an edit's lines in its session."""

    gone: frozenset[str]
    """Those that later edits took away."""
    is_overtaken: bool
    """They are at least half of its lines."""
    is_undone: bool
    """They are all of its lines, or nearly, and what it had replaced is back."""
    by: Literal["developer", "assistant"]
    event: str
    """The edit that took most of them."""
    time: float


@dataclass(frozen=True, slots=True)
class _Lines:
    """What an edit brought and took, without what says nothing by itself."""

    brought: frozenset[str]
    took: frozenset[str]
    whole: frozenset[str] | None
    """All lines of the file, where it was written as a whole."""


def is_whole(event: EditEvent) -> bool:
    """Whether it wrote a whole file, and not only some lines of it."""
    if event.after_id is not None and event.before_id is None:
        return True
    if event.after_id is not None or len(event.hunks) != 1 or event.path.endswith(".ipynb"):
        return False
    (hunk,) = event.hunks
    # So the readers tell what was written over a file that they do not know. Cursor's insertions may have nothing around them.
    place = 0 if event.provenance.source == "cursor" else UNKNOWN_LINE
    return not (hunk.old or hunk.above or hunk.below) and hunk.start_line == place and len(hunk.new) >= _MIN_WHOLE


class LaterEdits:
    """Of one session."""

    def __init__(self, edits: Sequence[tuple[int, EditEvent]]) -> None:
        """(position in the session, edit), in order."""
        told = [(position, event) for position, event in edits if event.hunks]
        self._positions = [position for position, _ in told]
        self._edits = [(event, _lines(event.hunks, is_whole(event))) for _, event in told]
        self._takers: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
        self._bringers: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
        self._wholes: defaultdict[str, list[int]] = defaultdict(list)
        for number, (event, lines) in enumerate(self._edits):
            for line in lines.took:
                self._takers[event.path, line].append(number)
            for line in lines.brought:
                self._bringers[event.path, line].append(number)
            if lines.whole is not None:
                self._wholes[event.path].append(number)

    def of(self, position: int, event: EditEvent | Suggestion) -> Later | None:
        """None where nothing later touched its lines."""
        path, hunks = (event.path, event.hunks) if isinstance(event, EditEvent) else (event.edit.path, (event.edit,))
        own, start = _lines(hunks, is_whole=False), bisect_right(self._positions, position)
        if not own.brought:
            return self._brought_back(start, path, own)
        taken = {line: found for line in own.brought if (found := _next(self._takers.get((path, line), ()), start)) is not None}
        wholes = self._wholes.get(path, ())
        at = bisect_left(wholes, start)
        for number in wholes[at : at + _MAX_WHOLES]:
            for line in own.brought - (self._edits[number][1].whole or frozenset()):
                taken[line] = min(number, taken.get(line, number))
        if not taken:
            return None
        taker, lines = self._edits[Counter(taken.values()).most_common(1)[0][0]]
        back = len(own.took & (lines.whole or lines.brought)) >= len(own.took) / 2 if own.took else not lines.brought
        share = len(taken) / len(own.brought)
        return self._later(frozenset(taken), share >= 0.5, share >= ALL and back, taker)

    def _brought_back(self, start: int, path: str, own: _Lines) -> Later | None:
        """Of an edit that only took lines away."""
        for number in {found for line in own.took if (found := _next(self._bringers.get((path, line), ()), start)) is not None}:
            event, lines = self._edits[number]
            if len(own.took & lines.brought) >= ALL * len(own.took):
                return self._later(own.took, True, True, event)
        return None

    def _later(self, gone: frozenset[str], is_overtaken: bool, is_undone: bool, event: EditEvent) -> Later:
        return Later(gone, is_overtaken, is_undone, "developer" if event.author.kind == "developer" else "assistant", event.id, event.time)


def _next(numbers: Sequence[int], start: int) -> int | None:
    at = bisect_left(numbers, start)
    return numbers[at] if at < len(numbers) else None


def _lines(hunks: Sequence[Edit], is_whole: bool) -> _Lines:
    new = Counter(line.rstrip() for hunk in hunks for line in hunk.new)
    old = Counter(line.rstrip() for hunk in hunks for line in hunk.old)
    brought, took = (frozenset(line for line in side if line and not is_plain(line)) for side in (new - old, old - new))
    return _Lines(brought, took, frozenset(new) if is_whole else None)
