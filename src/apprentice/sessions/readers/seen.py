"""Which ids were met in earlier files, 8 bytes for each: millions of them must not fill the memory."""

from __future__ import annotations

import bisect
import hashlib
import heapq
from array import array
from collections.abc import Iterable

_GROWS = 2


def short(name: str) -> int:
    """64 bits of a name. That two of a million names are taken for one has a chance of 1 in 40 million."""
    return int.from_bytes(hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


class Seen:
    """Sorted runs, each at least twice as long as the one behind it."""

    def __init__(self) -> None:
        self._runs: list[array[int]] = []

    def add(self, ids: Iterable[int]) -> None:
        run = array("Q", sorted(ids))
        while self._runs and len(self._runs[-1]) < _GROWS * len(run):
            run = array("Q", heapq.merge(self._runs.pop(), run))
        self._runs.append(run)

    def __contains__(self, one: int) -> bool:
        return any((at := bisect.bisect_left(run, one)) < len(run) and run[at] == one for run in self._runs)
