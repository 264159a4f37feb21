"""The edits between two texts of a file, in a time that a hostile file cannot stretch.

`text.edits.hunks` compares all lines with all lines, which takes minutes where a long file repeats a line (blank ones,
braces) thousands of times. So the texts are cut first, at lines that stand once in each and have the same lines around
them, and what is alike at the beginning and end of a part is set aside. Each part is then small, and its edits are those
that the whole would have but for the choice among equal lines. What is too repetitive even so is refused.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from apprentice.sessions.unusable import Unusable
from apprentice.text import edits
from apprentice.text.edits import CONTEXT_LINES, Edit

_MAX_PAIRS = 1_000_000
"""Most pairs of equal lines in a part: a tenth of a second for each block that is searched for."""
_PART_LINES = 40
"""Parts are not cut smaller than this."""


def hunks_between(path: str, before: str, after: str) -> list[Edit]:
    """`text.edits.hunks`, quickly. Raises: Unusable where lines repeat so often that the search would take minutes."""
    old, new = edits.split_lines(before), edits.split_lines(after)
    found: list[Edit] = []
    for i1, i2, j1, j2 in _parts(old, new):
        found += _part_hunks(path, old[i1:i2], new[j1:j2], j1)
    return found


def _part_hunks(path: str, old: Sequence[str], new: Sequence[str], at: int) -> list[Edit]:
    head, tail = _alike(old, new)
    if head == len(old) == len(new):
        return []
    first, behind = max(0, head - CONTEXT_LINES), max(0, tail - CONTEXT_LINES)
    old, new = old[first : len(old) - behind], new[first : len(new) - behind]
    often = Counter(new)
    if sum(count * often[line] for line, count in Counter(old).items()) > _MAX_PAIRS:
        raise Unusable("too_repetitive")
    found = edits.hunks(path, "".join(line + "\n" for line in old), "".join(line + "\n" for line in new))
    return [replace(edit, start_line=edit.start_line + first + at) for edit in found]


def _alike(old: Sequence[str], new: Sequence[str]) -> tuple[int, int]:
    """How many lines are the same at the beginning, and of the others at the end."""
    shorter = min(len(old), len(new))
    head = next((i for i in range(shorter) if old[i] != new[i]), shorter)
    tail = next((i for i in range(shorter - head) if old[-1 - i] != new[-1 - i]), shorter - head)
    return head, tail


def _parts(old: Sequence[str], new: Sequence[str]) -> Iterator[tuple[int, int, int, int]]:
    """(old start, old end, new start, new end) of parts that overlap in lines that are the same in both.

    An overlap is long enough for the context of an edit on either side of it, and for edits on both sides not to meet."""
    i0 = j0 = 0
    cut = -_PART_LINES
    for i, j in anchors(old, new):
        around = CONTEXT_LINES
        enough = i - cut >= _PART_LINES and i >= around and j >= around
        if enough and old[i - around : i + around + 1] == new[j - around : j + around + 1]:
            yield i0, i + around + 1, j0, j + around + 1
            i0, j0, cut = i - around, j - around, i
    yield i0, len(old), j0, len(new)


def anchors(old: Sequence[str], new: Sequence[str]) -> list[tuple[int, int]]:
    """Places of lines that stand once in each text, as many as keep their order (a longest increasing subsequence)."""
    in_old, in_new = Counter(old), Counter(new)
    places = {line: j for j, line in enumerate(new) if in_new[line] == 1}
    pairs = [(i, places[line]) for i, line in enumerate(old) if in_old[line] == 1 and line in places]
    ends: list[int] = []
    last: list[int] = []
    before: list[int] = []
    for number, (_, j) in enumerate(pairs):
        length = bisect_left(ends, j)
        before.append(last[length - 1] if length else -1)
        ends[length : length + 1] = [j]
        last[length : length + 1] = [number]
    chain: list[tuple[int, int]] = []
    number = last[-1] if last else -1
    while number >= 0:
        chain.append(pairs[number])
        number = before[number]
    return chain[::-1]
