"""Examples -> token sequences with a kind for every token: what one step of training reads.

    rows (prompt, target, spans) --trim--> pieces --tokenize--> tokens with kinds --fill--> Sequences --collate--> Batch

Two forms. `stream`: the developer's edits in the order of time, one after the other, until a sequence is full; the
context of an edit IS the edits before it, in the form that the model also sees when serving, so the prompts' own part
of latest edits is dropped and the windows of the file are cut short. No padding, no mask. `rows`: every prompt as it is
served; several share a sequence, and each attends to itself only (segments).

Nothing is lost at borders. A token can carry loss only if something stands in front of it, so every segment begins with
a line break that carries none. A row longer than a sequence goes on in the next one behind a repeated stretch that
carries none. Therefore the tokens of kind other than `context`, in order, are exactly the tokens of the rows.

A token that covers characters of several kinds is of the kind that stands last in KINDS: a token that overlaps a
changed character counts as changed, as in the measure of evaluation. Prompt and target are tokenized apart where the
prompt ends on a token border by design (at regions), and together where the cursor may stand inside a word.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, Protocol

import numpy as np

from apprentice.core.protocols import Tokenizer

KINDS = ("context", "reply", "recent", "path", "below", "above", "mark", "old", "copied", "end", "changed", "said", "unchanged")
CONTEXT = KINDS.index("context")
CHANGED = KINDS.index("changed")
APART = ("next_edit", "silence")
"""Kinds of rows whose prompt and target are tokenized apart."""
SEPARATOR = "\n"
ROUND = 16
_LINE = re.compile(r"[^\n]*\n|[^\n]+")


class Row(Protocol):
    """What packing reads of an example. `spans`: (start, end, kind) in characters of prompt + target."""

    @property
    def kind(self) -> str: ...
    @property
    def prompt(self) -> str: ...
    @property
    def target(self) -> str: ...
    @property
    def spans(self) -> Sequence[Any]: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class LossWeights:
    """Weight of the loss at a token by its kind, 0 or more. What decides whether training helps: with equal weights a
    model learns to copy, and an edit is where copying is wrong."""

    changed: float = 1.0
    """New characters of an edit, and what was typed in a completion."""
    copied: float = 0.02
    """Characters of a replacement that stood there before."""
    end: float = 1.0
    """The mark that ends a replacement: with less the model does not learn to stop."""
    mark: float = 0.0
    """The marks around the old lines, which a server writes itself: a model that learned them suggests them."""
    old: float = 0.1
    """The lines to be replaced."""
    above: float = 0.1
    """The same file in front of the place: free adaptation to the code that is being edited."""
    below: float = 0.1
    """The same file behind the place."""
    recent: float = 0.0
    """The developer's latest edits, where the prompt shows them (form `rows`)."""
    path: float = 0.0
    """Lines that name a file: they follow every line of code, and a model that learned them puts `#` everywhere."""
    reply: float = 1.0
    """The base's own answers, see `train.rehearsal`."""
    said: float = 1.0
    """The last reply of a conversation, see `train.talks`."""
    unchanged: float = 1.0
    """The lines of a place where nothing was to be done, repeated, see `train.silence`."""

    def __post_init__(self) -> None:
        for field in fields(self):
            if not 0 <= getattr(self, field.name) < float("inf"):
                raise ValueError(f"{field.name} must be 0 or more")

    def table(self) -> np.ndarray:
        """Weight by number of kind, float32."""
        return np.array([0.0, *(getattr(self, kind) for kind in KINDS[1:])], np.float32)


@dataclass(frozen=True, kw_only=True, slots=True)
class PackingConfig:
    """How examples become sequences."""

    form: Literal["stream", "rows"] = "stream"
    """`stream`: edits one after the other; `rows`: each prompt as served."""
    sequence_tokens: int = 768
    """Longest sequence, 32 to 32768 tokens."""
    above_lines: int = 6
    """Form `stream`: lines of the same file in front of a place, 0 or more."""
    below_lines: int = 6
    """Form `stream`: lines of the same file behind a place, 0 or more."""
    window_tokens: int = 160
    """Form `stream`: most tokens of each of these two windows, 0 or more."""

    def __post_init__(self) -> None:
        if self.form not in ("stream", "rows"):
            raise ValueError("form must be `stream` or `rows`")
        if not 32 <= self.sequence_tokens <= 32768:
            raise ValueError("sequence_tokens must be from 32 to 32768")
        for name in ("above_lines", "below_lines", "window_tokens"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be 0 or more")


@dataclass(frozen=True, slots=True, eq=False)
class PackedSequence:
    """Tokens that one forward pass reads; a token attends to the tokens of its segment in front of it."""

    token_ids_T: np.ndarray
    """int32"""
    kinds_T: np.ndarray
    """uint8, places in KINDS."""
    segments_T: np.ndarray
    """int32, rising from 0."""
    rows_T: np.ndarray
    """int32, the number of the row that each token belongs to."""

    def __len__(self) -> int:
        return len(self.token_ids_T)


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Sequences side by side, padded behind."""

    token_ids_BT: np.ndarray
    kinds_BT: np.ndarray
    """Padding is `context`: it never carries loss."""
    segments_BT: np.ndarray | None
    """None where every sequence is one segment: a causal mask is enough."""
    num_tokens: int
    """Without padding."""
    sequences: tuple[PackedSequence, ...] = ()
    """What stands in the rows."""


@dataclass(frozen=True, slots=True, eq=False)
class Tokens:
    """A row's tokens with their kinds."""

    token_ids: np.ndarray
    kinds: np.ndarray


def pack(
    rows: Iterable[Row], tokenizer: Tokenizer, config: PackingConfig, *, seed: int | None = None
) -> list[PackedSequence]:
    """Rows in the order given -> sequences in the same order. `seed` moves the places where a stream is cut, so that
    seeds differ in which edits see which."""
    filler = _Filler(config.sequence_tokens, np.array(tokenizer.encode(SEPARATOR), np.int32), config.form == "stream")
    if seed is not None and config.form == "stream":
        filler.shorten_first(random.Random(seed).randint(0, config.sequence_tokens // 2))
    for number, row in enumerate(rows):
        filler.add(row_tokens(row, tokenizer, config), number)
    return filler.finish()


def collate(sequences: Sequence[PackedSequence]) -> Batch:
    """Sequences -> one batch as long as the longest, rounded up."""
    # What a forward pass reads is a multiple of ROUND: libraries keep code and memory for every length they meet.
    length = 1 + -(-(max(len(sequence) for sequence in sequences) - 1) // ROUND) * ROUND
    token_ids_BT = np.zeros((len(sequences), length), np.int64)
    kinds_BT = np.full((len(sequences), length), CONTEXT, np.uint8)
    segments_BT = np.zeros((len(sequences), length), np.int64)
    for i, sequence in enumerate(sequences):
        at = len(sequence)
        token_ids_BT[i, :at], kinds_BT[i, :at] = sequence.token_ids_T, sequence.kinds_T
        segments_BT[i, :at], segments_BT[i, at:] = sequence.segments_T, sequence.segments_T[-1]
    whole = not segments_BT.any()
    return Batch(token_ids_BT, kinds_BT, None if whole else segments_BT, sum(map(len, sequences)), tuple(sequences))


def row_tokens(row: Row, tokenizer: Tokenizer, config: PackingConfig) -> Tokens:
    """The tokens of a row, in the form `stream` without latest edits, with short windows and a separator behind."""
    prompt, target = _cut(row)
    if config.form == "stream":
        prompt = _trim(prompt, tokenizer, config)
        target = [*target, ("mark", SEPARATOR)]
    parts = [prompt, target] if row.kind in APART else [[*prompt, *target]]
    encoded = [_encode(part, tokenizer) for part in parts]
    return Tokens(np.concatenate([t.token_ids for t in encoded]), np.concatenate([t.kinds for t in encoded]))


class _Filler:
    """Fills sequences with rows, whole rows where they fit."""

    def __init__(self, capacity: int, separator: np.ndarray, stream: bool) -> None:
        self._capacity, self._separator, self._stream = capacity, separator, stream
        self._limit = capacity
        self._done: list[PackedSequence] = []
        self._open()

    def shorten_first(self, by: int) -> None:
        self._limit = self._capacity - by

    def add(self, row: Tokens, number: int) -> None:
        room = self._limit - self._size - (len(self._separator) if self._new_segment else 0)
        if len(row.token_ids) > room and self._num_rows:
            self._close()
            room = self._limit - len(self._separator)
        at, overlap = 0, 0
        while len(row.token_ids) - at > room - overlap:
            self._put(row, number, at - overlap, at + room - overlap, at)
            at += room - overlap
            self._close()
            room = self._limit - len(self._separator)
            overlap = min(room // 4, at)
        self._put(row, number, at - overlap, len(row.token_ids), at)
        self._num_rows += 1
        self._new_segment = not self._stream

    def finish(self) -> list[PackedSequence]:
        if self._num_rows:
            self._close()
        return self._done

    def _put(self, row: Tokens, number: int, start: int, end: int, fresh: int) -> None:
        """Tokens [start, end) of the row; those in front of `fresh` were in an earlier sequence and carry no loss."""
        if self._new_segment:
            self._segment += 1
            self._append(self._separator, np.full(len(self._separator), CONTEXT, np.uint8), number)
            self._new_segment = False
        kinds = row.kinds[start:end].copy()
        kinds[: fresh - start] = CONTEXT
        self._append(row.token_ids[start:end], kinds, number)

    def _append(self, token_ids: np.ndarray, kinds: np.ndarray, number: int) -> None:
        segments, rows = (np.full(len(token_ids), value, np.int32) for value in (self._segment, number))
        self._parts.append((token_ids, kinds, segments, rows))
        self._size += len(token_ids)

    def _open(self) -> None:
        self._parts: list[tuple[np.ndarray, ...]] = []
        self._size, self._num_rows, self._segment, self._new_segment = 0, 0, -1, True

    def _close(self) -> None:
        self._done.append(PackedSequence(*(np.concatenate(part) for part in zip(*self._parts, strict=True))))
        self._limit = self._capacity
        self._open()


def _cut(row: Row) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """(kind, text) pieces of prompt and target. Characters that no span covers are `context`."""
    text, border = row.prompt + row.target, len(row.prompt)
    prompt: list[tuple[str, str]] = []
    target: list[tuple[str, str]] = []
    at = 0
    for start, end, kind in [*_triples(row.spans), (len(text), len(text), "context")]:
        for a, b, name in ((at, start, "context"), (start, end, kind)):
            if a < min(b, border):
                prompt.append((name, text[a : min(b, border)]))
            if max(a, border) < b:
                target.append((name, text[max(a, border) : b]))
        at = max(at, end)
    return prompt, target


def _triples(spans: Sequence[Any]) -> Iterator[tuple[int, int, str]]:
    """Spans sorted by place, as objects with start, end, kind or as triples."""
    triples = [(s.start, s.end, s.kind) if hasattr(s, "kind") else (int(s[0]), int(s[1]), str(s[2])) for s in spans]
    at = 0
    for start, end, kind in sorted(triples):
        if kind not in KINDS or not at <= start <= end:
            raise ValueError(f"span [{start}, {end}) of kind {kind!r} is of no known kind or overlaps another")
        yield start, end, kind
        at = end


def _trim(pieces: list[tuple[str, str]], tokenizer: Tokenizer, config: PackingConfig) -> list[tuple[str, str]]:
    kept: list[tuple[str, str]] = []
    for kind, text in pieces:
        if kind == "recent":
            continue
        if kind == "below":
            text = "".join(_nearest(_LINE.findall(text), config.below_lines, config.window_tokens, tokenizer))
            if not text and kept and kept[-1][0] == "path":
                # Without its lines the heading of the part below says nothing.
                kept.pop()
        elif kind == "above":
            lines = _nearest(_LINE.findall(text)[::-1], config.above_lines, config.window_tokens, tokenizer)
            text = "".join(reversed(lines))
        if text:
            kept.append((kind, text))
    return kept


def _nearest(lines: list[str], max_lines: int, max_tokens: int, tokenizer: Tokenizer) -> list[str]:
    """The first lines, as many as both bounds allow. A line without its break is where a cursor stands: always kept."""
    cursor, lines = (lines[:1], lines[1:]) if lines and not lines[0].endswith("\n") else ([], lines)
    taken = lines[:max_lines]
    while taken and len(tokenizer.encode("".join(taken)[: 16 * max_tokens + 16])) > max_tokens:
        # Halving, for a window of minified lines would take long otherwise.
        taken = taken[: len(taken) // 2] if len("".join(taken)) > 8 * max_tokens else taken[:-1]
    return [*cursor, *taken]


def _encode(pieces: list[tuple[str, str]], tokenizer: Tokenizer) -> Tokens:
    """Pieces tokenized as one text; a token's kind is the highest among its characters'."""
    text = "".join(piece for _, piece in pieces)
    kinds_of_characters = np.concatenate(
        [np.empty(0, np.uint8), *(np.full(len(piece), KINDS.index(kind), np.uint8) for kind, piece in pieces)]
    )
    token_ids, offsets = tokenizer.encode_with_offsets(text)
    if not token_ids:
        return Tokens(np.empty(0, np.int32), np.empty(0, np.uint8))
    # One more character, so that every border is a place in the array.
    padded = np.append(kinds_of_characters, np.uint8(CONTEXT))
    kinds = np.maximum.reduceat(padded, np.array(offsets, np.int64).reshape(-1))[::2]
    return Tokens(np.array(token_ids, np.int32), kinds)
