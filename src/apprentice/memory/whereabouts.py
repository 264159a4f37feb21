"""Which file of the repository a text is, where a client does not say.

    lines --WINDOWS places, spread evenly--> the longest match of each --nearly all of them in one file--> its path

A memory leaves the file at hand out of the repository: what it says there is what the file said before. Without a path it would
suggest the committed line wherever a line is being changed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from apprentice.memory.index import MAX_MATCH
from apprentice.memory.memory import Memory

WINDOWS = 16
MIN_LINES = 6
"""Fewer say nothing about where they are from."""
WINDOW_LINES = 6
MIN_MATCH = 16
"""Tokens that must agree in front of a place."""
SHARE, SHARE_OF_FOUND = 0.4, 0.9
"""Of the windows, and of those found in one file alone, that must be found in the same."""


def path_of(memory: Memory, lines: Sequence[str]) -> str:
    """The path of the file as the memory knows it; empty where it knows none like it, or several."""
    last = [number for number, line in enumerate(lines, 1) if line.strip() and number >= MIN_LINES]
    if not last:
        return ""
    view = memory.repository.view()
    count = min(WINDOWS, len(last))
    ends = sorted({last[round(number * (len(last) - 1) / max(count - 1, 1))] for number in range(count)})
    votes = Counter[int]()
    for end in ends:
        # As lines of a memory's documents are cut into tokens, each behind its line break.
        text = "".join("\n" + line for line in lines[max(end - WINDOW_LINES, 0) : end])
        found = view.nearest(memory.tokenizer.encode(text)[-MAX_MATCH:], 4)
        if len(found) and found.lengths[0] >= MIN_MATCH:
            best = set(found.documents[found.lengths == found.lengths[0]].tolist())
            if len(best) == 1:
                votes.update(best)
    if not votes:
        return ""
    document, number = votes.most_common(1)[0]
    known = view.documents.get(document)
    if known is None or number < max(SHARE * len(ends), SHARE_OF_FOUND * votes.total()):
        return ""
    return memory.state().groups[known.group]
