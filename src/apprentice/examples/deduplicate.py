"""Exact and near duplicates: what is learned from must not be what is tested, nor the same thing many times.

    changes (text), in order of time, each with its split --> reasons for those that are left out

Two edits are compared by what they change and the lines next to it, without path and place: white space apart, the
same words in the same order are an exact duplicate, a Jaccard similarity of their 4-word shingles of at least
`threshold` a near one. Candidates come from MinHash bands (rensa); each is compared exactly before anything is dropped,
so a hash decides nothing alone.

Of two duplicates in different splits the older split gives way, so that the test set never depends on what else there
is. Within a split the first stays. Within the test set only exact duplicates of one commit go: the same change made
again in a newer commit is work, and near ones are too.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from apprentice.examples.split import SPLITS, TEST
from apprentice.text.edits import Edit

SHINGLE_WORDS = 4
NEARBY_LINES = 2
"""Lines on each side of a change that belong to it when it is compared."""
_NUM_PERMUTATIONS, _NUM_BANDS = 128, 32
# 32 bands of 4: a pair of similarity 0.8 is a candidate with probability 1 - 1e-7, one of 0.7 with 0.9998.
_WORD = re.compile(r"\w+|[^\w\s]")


@dataclass(frozen=True, slots=True)
class Change:
    """An edit as it is compared."""

    split: str
    commit: str
    words: tuple[str, ...]

    @property
    def shingles(self) -> frozenset[tuple[str, ...]]:
        """Runs of SHINGLE_WORDS words; a shorter text is one shingle."""
        count = max(len(self.words) - SHINGLE_WORDS + 1, 1)
        return frozenset(self.words[i : i + SHINGLE_WORDS] for i in range(count))


def change_of(edit: Edit, *, split: str, commit: str) -> Change:
    """What is compared of an edit."""
    above = edit.above[max(0, len(edit.above) - NEARBY_LINES) :]
    parts = [*above, "\0", *edit.old, "\0", *edit.new, "\0", *edit.below[:NEARBY_LINES]]
    words = [word for part in parts for word in ([part] if part == "\0" else _WORD.findall(part))]
    return Change(split, commit, tuple(words))


def duplicates(changes: Sequence[Change], *, threshold: float = 0.8) -> dict[int, str]:
    """Index -> reason, for every change that is left out. `changes` are in order of time."""
    out: dict[int, str] = {}
    kept = _Kept(threshold)
    for split in reversed(SPLITS):
        for i in [i for i, change in enumerate(changes) if change.split == split]:
            change = changes[i]
            twin = kept.exact(change) if split != TEST else kept.exact_in_commit(change)
            kind = "exact"
            if twin is None and split != TEST:
                twin, kind = kept.near(change), "near"
            if twin is None:
                kept.add(change)
            else:
                out[i] = f"{kind} duplicates" + (f" of {twin.split} work" if twin.split != split else "")
    return out


class _Kept:
    """The changes that stay, found again by their words and by their shingles."""

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self._by_words: dict[tuple[str, ...], Change] = {}
        self._in_commit: dict[tuple[str, tuple[str, ...]], Change] = {}
        self._shown: list[tuple[Change, frozenset[tuple[str, ...]]]] = []
        self._index = _rensa().RMinHashLSH(threshold, _NUM_PERMUTATIONS, _NUM_BANDS)

    def exact(self, change: Change) -> Change | None:
        return self._by_words.get(change.words)

    def exact_in_commit(self, change: Change) -> Change | None:
        return self._in_commit.get((change.commit, change.words))

    def near(self, change: Change) -> Change | None:
        """The first kept change that is similar enough, by exact comparison of the candidates."""
        shingles = change.shingles
        for key in sorted(self._index.query(_hash(shingles))):
            other, other_shingles = self._shown[key]
            if len(shingles & other_shingles) >= self._threshold * len(shingles | other_shingles):
                return other
        return None

    def add(self, change: Change) -> None:
        self._in_commit.setdefault((change.commit, change.words), change)
        if self._by_words.setdefault(change.words, change) is change:
            shingles = change.shingles
            self._index.insert(len(self._shown), _hash(shingles))
            self._shown.append((change, shingles))


def _hash(shingles: frozenset[tuple[str, ...]]) -> Any:
    return _rensa().RMinHash.from_token_sets([["\1".join(words) for words in shingles]], _NUM_PERMUTATIONS, 42)[0]


def _rensa() -> Any:
    """Loaded when examples are built, not where they are read: quantizing reads some without the libraries of learning."""
    import rensa

    return rensa
