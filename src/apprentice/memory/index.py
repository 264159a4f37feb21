"""Documents of tokens in; for any context, the places whose preceding tokens agree with it longest out.

    add(tokens) ... remove(document) ... nearest(context, count) -> Matches(next tokens, match lengths, places)

A place is a position in a document; what stands in front of it, read BACKWARDS, is its key. Places are sorted by key
(a suffix array of the reversed text), so the places that share the longest suffix with a context are neighbours of
the spot where the context would be inserted: one binary search over bytes, then a look to the left and to the right.
Nothing is counted beforehand: every match length is there at once, and leaving out a file costs a mask.

Growth: each addition makes a small sorted segment, and a segment is merged with its neighbour unless that one is
at least twice as large. So an edit is in the index at once, a lookup visits few segments, and no token is sorted more often than
the logarithm of the size. Removed documents are masked, and dropped at the next merge. Segments never change, so a
`View` of the index at one moment costs next to nothing: what is added later is not seen through it.

What is left out: matches longer than `MAX_MATCH` tokens compare as equal, and a lookup gives up on a side after
`MAX_WINDOW` places that are left out.

Source: Manber and Myers 1993 (prefix doubling); O'Neil et al. 1996 (log-structured merge).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

MAX_MATCH = 32
"""Tokens compared, a power of two."""
MAX_WINDOW = 4096
"""Places looked at on one side of the spot, in each segment."""
SMALL = 2048
"""Tokens below which segments are always merged."""
NO_GROUP = -1
_REMOVED = -2
_OFFSETS = np.arange(MAX_MATCH)


@dataclass(frozen=True, slots=True)
class Matches:
    """Places ordered by falling match length, the newest document first among equals. Arrays of one length."""

    tokens: np.ndarray
    """The token at each place, int32: what came next there."""
    lengths: np.ndarray
    """Tokens in front of each place that agree with the context, 1 to MAX_MATCH."""
    documents: np.ndarray
    positions: np.ndarray
    """Of the token in its document."""

    def __len__(self) -> int:
        return len(self.tokens)


_EMPTY = np.zeros(0, np.int32)
NOTHING = Matches(_EMPTY, _EMPTY, _EMPTY, _EMPTY)


@dataclass(frozen=True, slots=True)
class _Document:
    tokens: np.ndarray
    first: int
    """Tokens in front of this position are context only: they are never a place."""


class Index:
    """Grows and shrinks by documents. Document numbers rise and are never used again."""

    def __init__(self) -> None:
        self._documents: dict[int, _Document] = {}
        self._segments: list[_Segment] = []
        self._groups = np.full(64, _REMOVED, np.int32)
        self._next_document = 0
        self._num_tokens = 0

    @property
    def num_tokens(self) -> int:
        """Tokens of all documents that were not removed."""
        return self._num_tokens

    @property
    def documents(self) -> list[int]:
        return list(self._documents)

    def add(self, tokens: Sequence[int] | np.ndarray, *, first: int = 0, group: int = NO_GROUP) -> int:
        """The new document's number. Its tokens from `first` on can be found; `group` can be left out of lookups."""
        return self.add_all([(tokens, first, group)])[0]

    def add_all(self, documents: Iterable[tuple[Sequence[int] | np.ndarray, int, int]]) -> list[int]:
        """Many (tokens, first, group) at once: one sort for all."""
        numbers = [self._register(*document) for document in documents]
        self._insert(_Segment(numbers, self._documents))
        return numbers

    def remove(self, document: int) -> None:
        """Raises: KeyError where there is no such document."""
        self._num_tokens -= len(self._documents.pop(document).tokens)
        self._groups[document] = _REMOVED

    def tokens(self, document: int) -> np.ndarray:
        """A document's tokens, int32."""
        return self._documents[document].tokens

    def first(self, document: int) -> int:
        return self._documents[document].first

    def group(self, document: int) -> int:
        return int(self._groups[document])

    def nearest(self, context: Sequence[int], count: int, *, without_group: int | None = None) -> Matches:
        """`View.nearest` of the index as it is now."""
        return self.view().nearest(context, count, without_group=without_group)

    def view(self) -> View:
        """The index as it is now, whatever is added or removed later."""
        return View(tuple(self._segments), self._groups[: self._next_document].copy())
    def _register(self, tokens: Sequence[int] | np.ndarray, first: int, group: int) -> int:
        number = self._next_document
        self._next_document += 1
        if number == len(self._groups):
            self._groups = np.concatenate([self._groups, np.full(len(self._groups), _REMOVED, np.int32)])
        self._documents[number] = _Document(np.asarray(tokens, np.int32), first)
        self._groups[number] = group
        self._num_tokens += len(tokens)
        return number

    def _insert(self, segment: _Segment) -> None:
        while self._segments:
            size, before = len(segment), len(self._segments[-1])
            if before >= 2 * size and before + size > SMALL:
                break
            numbers = [n for n in self._segments.pop().numbers + segment.numbers if n in self._documents]
            segment = _Segment(numbers, self._documents)
        self._segments.append(segment)


@dataclass(frozen=True, slots=True)
class View:
    """An index at one moment."""

    segments: tuple[_Segment, ...]
    groups: np.ndarray

    def nearest(self, context: Sequence[int], count: int, *, without_group: int | None = None) -> Matches:
        """The `count` places that agree with the end of `context` longest, at least one token. Where more places than
        that agree equally long, which of them are taken is arbitrary (but always the same)."""
        query = np.asarray(context[-MAX_MATCH:], np.int64)[::-1] + 1
        if not len(query):
            return NOTHING
        found = [
            segment.nearest(query, count, self.groups, without_group) for segment in self.segments if len(segment)
        ]
        if not found:
            return NOTHING
        places, lengths, documents, tokens = (np.concatenate(column) for column in zip(*found, strict=True))
        best = np.lexsort((places, -documents, -lengths))[:count]
        return Matches(tokens[best], lengths[best], documents[best], places[best])


class _Segment:
    """Some documents, written backwards one after the other, and the order of their places. Never changes."""

    def __init__(self, numbers: list[int], documents: dict[int, _Document]) -> None:
        self.numbers = numbers
        sizes = np.array([len(documents[n].tokens) + 1 for n in numbers], np.int64)
        starts = np.cumsum(sizes) - sizes
        size = int(sizes.sum())
        text = np.zeros(size, np.int64)  # 0 stands in front of each document; tokens are raised by one
        is_place = np.ones(size, bool)
        for number, start, length in zip(numbers, starts.tolist(), sizes.tolist(), strict=True):
            text[start + 1 : start + length] = documents[number].tokens.astype(np.int64) + 1
            is_place[start : start + 2 + max(0, documents[number].first - 1)] = False
            is_place[start + 2 : start + 1 + max(1, documents[number].first)] = False
        self._backwards = np.concatenate([text[::-1], np.zeros(MAX_MATCH, np.int64)]).astype(np.int32)
        self._bytes = self._backwards.astype(">u4").tobytes()
        rank = _rank(self._backwards)
        at = np.flatnonzero(is_place)
        keys = size - at  # the key of the place `at` starts at the token in front of it, read backwards
        order = np.argsort(rank[keys], kind="stable")
        self._keys = keys[order].astype(np.int32)
        self._key_bytes = memoryview((self._keys * 4).astype(np.int64))
        owner = np.repeat(np.arange(len(numbers)), sizes)[at[order]]
        self._documents = np.array(numbers, np.int32)[owner] if numbers else _EMPTY
        self._places = (at[order] - starts[owner] - 1).astype(np.int32) if numbers else _EMPTY

    def __len__(self) -> int:
        return len(self._keys)

    def nearest(
        self, query: np.ndarray, count: int, groups: np.ndarray, without_group: int | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Places, lengths, documents and tokens of at least the `count` best places, unordered."""
        text, wanted = self._bytes, query.astype(">u4").tobytes()
        width = len(wanted)
        spot = bisect_left(self._key_bytes, wanted, key=lambda at: text[at : at + width])
        left = self._side(spot, -1, count, groups, without_group)
        right = self._side(spot, 1, count, groups, without_group)
        at = np.concatenate([left, right])
        keys = self._keys[at]
        same = self._backwards[keys[:, None] + _OFFSETS[: len(query)]] == query
        lengths = np.where(same.all(axis=1), len(query), same.argmin(axis=1)).astype(np.int32)
        keep = lengths > 0
        at, keys = at[keep], keys[keep]
        return self._places[at], lengths[keep], self._documents[at], self._backwards[keys - 1] - 1

    def _side(self, spot: int, step: int, count: int, groups: np.ndarray, without_group: int | None) -> np.ndarray:
        """Rows of the first `count` places on one side of the spot that are not left out."""
        window = count
        while True:
            low, high = (spot, min(len(self), spot + window)) if step > 0 else (max(0, spot - window), spot)
            allowed = groups[self._documents[low:high]]
            mask = allowed != _REMOVED
            if without_group is not None:
                mask &= allowed != without_group
            rows = low + np.flatnonzero(mask)
            if len(rows) >= count or high - low < window or window >= MAX_WINDOW:
                return rows[:count] if step > 0 else rows[-count:]
            window *= 4


def _rank(text: np.ndarray) -> np.ndarray:
    """For each position, the rank of the MAX_MATCH tokens from there on; equal stretches have equal ranks."""
    rank = _dense(text.astype(np.int64))
    width = 1
    while width < MAX_MATCH:
        following = np.zeros_like(rank)
        following[:-width] = rank[width:]
        rank = _dense(rank * (int(rank.max()) + 1) + following)
        width *= 2
    return rank


def _dense(values: np.ndarray) -> np.ndarray:
    order = np.argsort(values)
    steps = np.empty(len(values), np.int64)
    steps[0] = 0
    steps[1:] = np.cumsum(np.diff(values[order]) != 0)
    rank = np.empty(len(values), np.int64)
    rank[order] = steps
    return rank
