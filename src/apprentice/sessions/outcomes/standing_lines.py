"""Which lines stand in a file where an edit had put its own.

    the lines that an edit left, with what stands around them      a b C d e
    the file as it was committed                             ... a b c c2 d e ...      -->  C became c, c2

The two are laid beside each other at lines that stand once in each and keep their order; between two such lines the rest is
compared. What lies before the first or behind the last of them is not told: nothing says where it ends.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice

from apprentice.sessions.differences import anchors, hunks_between
from apprentice.sessions.unusable import Unusable
from apprentice.text.edits import Edit

MAX_GAP = 200
"""Lines between two that are the same: more is another part of the file."""
MAX_CHANGES = 50
"""Of one edit."""


def changes(hunks: Sequence[Edit], text: Sequence[str], path: str) -> list[Edit]:
    """Edits that turn what was written into what stands in the text: `old` the lines of the edit, `new` those instead of them.
    `start_line` is that in the text. Hunks whose lines all stand there are passed over."""
    lines = [line.rstrip() for line in text]
    standing = set(lines)
    changed = (hunk for hunk in hunks if any(line.rstrip() not in standing for line in hunk.new))
    found = (edit for hunk in islice(changed, MAX_CHANGES) for edit in _of_hunk(hunk, lines, path))
    return list(islice(found, MAX_CHANGES))


def _of_hunk(hunk: Edit, text: Sequence[str], path: str) -> Iterator[Edit]:
    above, new = ([line.rstrip() for line in side] for side in (hunk.above, hunk.new))
    written = [*above, *new, *(line.rstrip() for line in hunk.below)]
    first, behind = len(above), len(above) + len(new)
    places = [(-1, -1), *anchors(written, text), (len(written), len(text))]
    for (i, j), (i_next, j_next) in zip(places, places[1:], strict=False):
        is_open = (i < 0 or i_next == len(written)) and not _is_end(hunk, i, i_next, len(written))
        is_inside = max(i + 1, first) < min(i_next, behind) or first <= i < i_next < behind
        if is_inside and not is_open and max(i_next - i, j_next - j) <= MAX_GAP:
            old, now = written[i + 1 : i_next], list(text[j + 1 : j_next])
            if old != now:
                yield from _between(path, old, now, j + 1)


def _is_end(hunk: Edit, i: int, i_next: int, length: int) -> bool:
    """Whether what lies in front of the first line in common, or behind the last, lies at an end of both files."""
    is_whole = not hunk.old and not hunk.above and not hunk.below and hunk.start_line == 0
    return is_whole and not (i < 0 and i_next == length)


def _between(path: str, old: Sequence[str], now: Sequence[str], at: int) -> Iterator[Edit]:
    try:
        found = hunks_between(path, "".join(line + "\n" for line in old), "".join(line + "\n" for line in now))
    except Unusable:
        found = [Edit(path, 0, tuple(old), tuple(now))]
    for edit in found:
        if any(line.strip() for line in (*edit.old, *edit.new)):
            yield replace(edit, start_line=edit.start_line + at)
