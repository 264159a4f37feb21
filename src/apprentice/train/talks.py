"""Conversations between the sequences of edits: what was said, and the one reply of each that is learned from.

    edits, in order of time:   e e e e e e e e e e
    conversations, packed:     a b c                 ->   e e e a e e e b e e e c e

They are few beside the edits and are spread evenly over them, the oldest first; where there are more than their share, the
newest are taken. A conversation is a segment of its own, and only its last reply carries loss: its kind is `said`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from apprentice.text.chat import Rendered
from apprentice.train.packing import CONTEXT, KINDS, PackedSequence

SAID = KINDS.index("said")


@dataclass(frozen=True, slots=True)
class Talk:
    """A conversation as training reads it."""

    row: int
    """Its number among all rows."""
    rendered: Rendered


def interleave(
    edits: Sequence[PackedSequence], talks: Sequence[Talk], *, share: float, tokens: int
) -> tuple[list[PackedSequence], int]:
    """All sequences, and how many talks are in none: too long for one, or more than the share. `tokens`: longest sequence."""
    packed = list(_packed(talks, tokens))
    most = round(share / (1 - share) * len(edits)) if edits else len(packed)
    taken = packed[max(len(packed) - most, 0) :]
    mixed: list[PackedSequence] = []
    used = 0
    for number, sequence in enumerate(edits, 1):
        mixed.append(sequence)
        # The k-th stands behind the same part of the edits as of the talks.
        while used < len(taken) and (used + 0.5) * len(edits) < number * len(taken):
            mixed.append(taken[used])
            used += 1
    mixed += taken[used:]
    shown = {int(row) for sequence in taken for row in np.unique(sequence.rows_T)}
    return mixed, len(talks) - len(shown)


def _packed(talks: Sequence[Talk], tokens: int) -> Iterator[PackedSequence]:
    """Whole conversations, as many to a sequence as fit."""
    parts: list[tuple[np.ndarray, np.ndarray, int]] = []
    for talk in talks:
        ids = np.array(talk.rendered.token_ids, np.int32)
        if len(ids) > tokens or not any(talk.rendered.learnable):
            continue
        if sum(len(part[0]) for part in parts) + len(ids) > tokens:
            yield _sequence(parts)
            parts = []
        parts.append((ids, _kinds(talk.rendered.learnable), talk.row))
    if parts:
        yield _sequence(parts)


def _kinds(learnable: Sequence[bool]) -> np.ndarray:
    """The last reply alone is learned from."""
    end = len(learnable) - learnable[::-1].index(True)
    start = next((at for at in range(end - 1, -1, -1) if not learnable[at]), -1) + 1
    kinds = np.full(len(learnable), CONTEXT, np.uint8)
    kinds[start:end] = SAID
    return kinds


def _sequence(parts: Sequence[tuple[np.ndarray, np.ndarray, int]]) -> PackedSequence:
    sizes = [len(ids) for ids, _, _ in parts]
    return PackedSequence(
        np.concatenate([ids for ids, _, _ in parts]),
        np.concatenate([kinds for _, kinds, _ in parts]),
        np.repeat(np.arange(len(parts), dtype=np.int32), sizes),
        np.repeat(np.array([row for _, _, row in parts], np.int32), sizes),
    )
