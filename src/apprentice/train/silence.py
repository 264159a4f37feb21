"""Places where nothing was to be done between the edits: what keeps a model from having something to say everywhere.

    edits, in order of time:   e1 e2 e3 e4 ...
    silent places:             s2 beside e2, s when it was rejected   ->   e1 s2 e2 s e3 e4 ...

Each is a row like an edit's and stands in the same stream. One beside an edit comes just before it, when the file stood so: the same
latest edits, here nothing and there something. What was rejected in a recorded session comes first where there are more than
their share, the newest of it; the others are drawn.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence
from typing import Protocol, TypeVar


class Row(Protocol):
    """What is looked at."""

    @property
    def moment(self) -> str: ...
    @property
    def time(self) -> float: ...


R = TypeVar("R", bound=Row)


def interleave(edits: Sequence[R], silent: Sequence[R], *, share: float, seed: int) -> list[R]:
    """The edits in their order, with silent places so that these are at most `share` of all. Both come in order of time."""
    moments = {row.moment for row in edits}
    beside = [row for row in silent if row.moment in moments]
    rejected = [row for row in silent if row.moment not in moments]
    most = round(share / (1 - share) * len(edits))
    rejected = rejected[max(len(rejected) - most, 0) :]
    drawn = {row.moment: row for row in random.Random(seed).sample(beside, min(len(beside), most - len(rejected)))}
    mixed, waiting = list[R](), deque(rejected)
    for row in edits:
        while waiting and waiting[0].time <= row.time:
            mixed.append(waiting.popleft())
        if row.moment in drawn:
            mixed.append(drawn[row.moment])
        mixed.append(row)
    return [*mixed, *waiting]
