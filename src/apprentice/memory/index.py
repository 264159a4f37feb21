"""Documents of tokens in; for any context, the places whose preceding tokens agree with it longest out.

    add(tokens) ... remove(document) ... view() --nearest(context, count)--> Matches(next tokens, match lengths, places)

A place is a position in a document; what stands in front of it, read BACKWARDS, is its key. Places are sorted by key
(a suffix array of the reversed text), so the places that share the longest suffix with a context are neighbours of
the spot where the context would be inserted: one binary search over bytes, then a look to the left and to the right.
Nothing is counted beforehand: every match length is there at once, and leaving out a file costs a mask.

Growth: each addition makes a small sorted segment, and a segment is merged with its neighbour unless that one is at
least twice as large. So an edit is in the index at once, a lookup visits few segments, and no token is sorted more
often than the logarithm of the size. Removed documents are masked, and dropped at the next merge. Segments never
change, so a `View` of the index at one moment costs next to nothing: what is added later is not seen through it.

What is left out: matches longer than `MAX_MATCH` tokens compare as equal, and a lookup gives up on a side after
`MAX_WINDOW` places that are left out.

Source: Manber and Myers 1993 (prefix doubling); O'Neil et al. 1996 (log-structured merge).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

MAX_MATCH = 32
"""Tokens compared, a power of two."""
MAX_WINDOW = 4096
"""Places looked at on one side of the spot, in each segment."""
SMALL = 2048
"""Places below which segments are always merged."""
NO_GROUP = -1
REMOVED = -2
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
class Document:
    """Some text as tokens."""

    tokens: np.ndarray
    """int32"""
    first: int = 0
    """Tokens in front of this position are context only: they are never found as what comes next."""
    group: int = NO_GROUP
    """Documents of a group can be left out of a lookup."""


class Index:
    """Grows and shrinks by documents. Document numbers rise and are never used again."""

    def __init__(self) -> None:
        self._documents: dict[int, Document] = {}
        self._segments: list[_Segment] = []
        self._groups = np.full(64, REMOVED, np.int32)
        self._next_number = 0
        self._num_tokens = 0

    @property
    def num_tokens(self) -> int:
        """Tokens of all documents that were not removed."""
        return self._num_tokens

    @property
    def documents(self) -> Mapping[int, Document]:
        """Number -> document, in the order of addition, without the removed ones."""
        return self._documents

    def add(self, tokens: Sequence[int] | np.ndarray, *, first: int = 0, group: int = NO_GROUP) -> int:
        """The new document's number."""
        return self.add_all([Document(np.asarray(tokens, np.int32), first, group)])[0]

    def add_all(self, documents: Iterable[Document]) -> list[int]:
        """The new documents' numbers: one sort for all."""
        numbers = [self._register(document) for document in documents]
        self._insert(_Segment(numbers, self._documents))
        return numbers

    def restore(self, documents: Iterable[Document], keys: np.ndarray) -> list[int]:
        """`add_all` to an empty index without sorting: `keys` as `compact` gave them for the same documents.
        Raises: ValueError where they are not keys of these documents."""
        numbers = [self._register(document) for document in documents]
        self._segments = [_Segment(numbers, self._documents, keys)]
        return numbers

    def compact(self) -> np.ndarray:
        """Merge all segments into one; its keys in their order, which `restore` takes."""
        self._segments = [_Segment(list(self._documents), self._documents)]
        return self._segments[0].keys

    def remove(self, number: int) -> None:
        """Raises: KeyError where there is no such document."""
        self._num_tokens -= len(self._documents.pop(number).tokens)
        self._groups[number] = REMOVED

    def copy(self) -> Index:
        """An index that grows apart from this one. Segments never change, so they are shared."""
        twin = Index()
        twin._documents, twin._segments = dict(self._documents), list(self._segments)
        twin._groups, twin._next_number, twin._num_tokens = self._groups.copy(), self._next_number, self._num_tokens
        return twin

    def view(self) -> View:
        """The index as it is now, whatever is added or removed later."""
        segments = tuple(segment for segment in self._segments if len(segment))
        return View(segments, self._groups[: self._next_number].copy(), self._documents)

    def _register(self, document: Document) -> int:
        number = self._next_number
        self._next_number += 1
        if number == len(self._groups):
            self._groups = np.concatenate([self._groups, np.full(len(self._groups), REMOVED, np.int32)])
        self._documents[number] = document
        self._groups[number] = document.group
        self._num_tokens += len(document.tokens)
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
    documents: Mapping[int, Document]
    """Shared with the index: a document removed since is missing."""

    def nearest(self, context: Sequence[int], count: int, *, without_group: int | None = None) -> Matches:
        """The `count` places that agree with the end of `context` longest, at least one token. Where more places than
        that agree equally long, which of them are taken is arbitrary (but always the same)."""
        query = np.asarray(context[-MAX_MATCH:], np.int64)[::-1] + 1
        if not len(query) or not self.segments:
            return NOTHING
        found = [segment.nearest(query, count, self.groups, without_group) for segment in self.segments]
        places, lengths, documents, tokens = (np.concatenate(column) for column in zip(*found, strict=True))
        best = np.lexsort((places, -documents, -lengths))[: min(count, np.count_nonzero(lengths))]
        return Matches(tokens[best], lengths[best], documents[best], places[best])

    def following(self, document: int, position: int, count: int) -> list[int]:
        """Up to `count` tokens of a document from a position on; none where the document has been removed."""
        found = self.documents.get(document)
        return [] if found is None else found.tokens[position : position + count].tolist()


class _Segment:
    """Some documents, written backwards one after the other, and the order of their places. Never changes."""

    def __init__(self, numbers: list[int], documents: Mapping[int, Document], keys: np.ndarray | None = None) -> None:
        self.numbers = numbers
        text, starts, is_place = _concatenate([documents[n] for n in numbers])
        self._backwards = np.concatenate([text[::-1], np.zeros(MAX_MATCH, np.int32)])
        self._bytes = self._backwards.astype(">u4").tobytes()
        # The key of the place `at` starts at the token in front of it, read backwards.
        all_keys = len(text) - np.flatnonzero(is_place)
        if keys is None:
            order = np.argsort(_rank(self._backwards)[all_keys], kind="stable")
            keys = all_keys[order].astype(np.int32)
        elif not np.array_equal(np.sort(keys), np.sort(all_keys)):
            raise ValueError("the keys do not belong to these documents")
        self.keys = keys
        self._key_bytes = (keys.astype(np.int64) * 4).data
        owner = np.searchsorted(starts, len(text) - keys, side="right") - 1
        self._documents = np.array(numbers, np.int32)[owner] if numbers else _EMPTY
        self._places = (len(text) - keys - starts[owner] - 1).astype(np.int32) if numbers else _EMPTY

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """What native code reads: the text backwards, keys, documents and places, all int32."""
        return self._backwards, self.keys, self._documents, self._places

    def nearest(
        self, query: np.ndarray, count: int, groups: np.ndarray, without_group: int | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Places, lengths, documents and tokens of at least the `count` best places, unordered; lengths can be 0."""
        text, wanted = self._bytes, query.astype(">u4").tobytes()
        width = len(wanted)
        spot = bisect_left(self._key_bytes, wanted, key=lambda at: text[at : at + width])
        rows = self._around(spot, count, groups, without_group)
        keys = self.keys[rows]
        same = self._backwards[keys[:, None] + _OFFSETS[: len(query)]] == query
        lengths = np.where(same.all(axis=1), len(query), same.argmin(axis=1))
        return self._places[rows], lengths, self._documents[rows], self._backwards[keys - 1] - 1

    def _around(self, spot: int, count: int, groups: np.ndarray, without_group: int | None) -> slice | np.ndarray:
        """The first `count` rows on each side of the spot that are not left out."""
        near = slice(max(0, spot - count), spot + count)
        if self._allowed(near, groups, without_group).all():
            return near
        sides = [self._side(spot, step, count, groups, without_group) for step in (-1, 1)]
        return np.concatenate(sides)

    def _side(self, spot: int, step: int, count: int, groups: np.ndarray, without_group: int | None) -> np.ndarray:
        window = 4 * count
        while True:
            low, high = (spot, min(len(self), spot + window)) if step > 0 else (max(0, spot - window), spot)
            rows = low + np.flatnonzero(self._allowed(slice(low, high), groups, without_group))
            if len(rows) >= count or high - low < window or window >= MAX_WINDOW:
                return rows[:count] if step > 0 else rows[-count:]
            window *= 4

    def _allowed(self, rows: slice, groups: np.ndarray, without_group: int | None) -> np.ndarray:
        found = groups[self._documents[rows]]
        return found != REMOVED if without_group is None else (found != REMOVED) & (found != without_group)


def _concatenate(documents: list[Document]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One text with a 0 in front of each document (tokens are raised by one), where each starts, and what is a place:
    every token from `first` on that has a token in front of it."""
    sizes = np.array([len(document.tokens) + 1 for document in documents], np.int64)
    starts = np.cumsum(sizes) - sizes
    text = np.zeros(int(sizes.sum()), np.int32)
    is_place = np.zeros(len(text), bool)
    for document, start, size in zip(documents, starts.tolist(), sizes.tolist(), strict=True):
        text[start + 1 : start + size] = document.tokens + 1
        is_place[start + 1 + max(document.first, 1) : start + size] = True
    return text, starts, is_place


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
