"""Conversations between the sequences of edits: what was said, and the one reply of each that is learned from.

    edits, in order of time:   e e e e e e e e e e
    conversations, packed:     a b c                 ->   e e e a e e e b e e e c e

They stand at even distances between the edits, the oldest first. Where there are more than their share, the newest are taken; where
there are fewer, they stand among the newest edits, as dense as their share, for a short run learns from these alone. Where there are
none, the sequences of edits stay as they are. A conversation is a segment of its own, and
only its last reply carries loss, of kind `said`: it is the one whose author the policy was asked about.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from apprentice.text.chat import Rendered
from apprentice.train.packing import CONTEXT, KINDS, PackedSequence

SAID = KINDS.index("said")
ORDER = 2
"""Of `interleave`: another number makes checkpoints that learned from conversations stale, and no others."""


@dataclass(frozen=True, slots=True)
class Talk:
    """A conversation as training reads it."""

    row: int
    """Its number among all rows."""
    rendered: Rendered


def interleave(
    edits: Sequence[PackedSequence], talks: Sequence[Talk], *, share: float, tokens: int
) -> tuple[list[PackedSequence], dict[str, int]]:
    """All sequences, and why how many talks are in none. `tokens`: longest sequence."""
    fitting = [talk for talk in talks if len(talk.rendered.token_ids) <= tokens]
    packed = list(_packed(fitting, tokens))
    most = round(share / (1 - share) * len(edits))
    taken = packed[max(len(packed) - most, 0) :]
    mixed: list[PackedSequence] = []
    used = 0
    apart = min((1 - share) / share, len(edits) / max(len(taken), 1)) if share else 0.0
    for number, sequence in enumerate(edits, 1):
        mixed.append(sequence)
        while used < len(taken) and number > len(edits) - (len(taken) - used - 0.5) * apart:
            mixed.append(taken[used])
            used += 1
    mixed += taken[used:]
    shown = {int(row) for sequence in taken for row in np.unique(sequence.rows_T)}
    left_out = {"conversations longer than a sequence": len(talks) - len(fitting), "conversations beyond their share": len(fitting) - len(shown)}
    return mixed, left_out


def _packed(talks: Sequence[Talk], tokens: int) -> Iterator[PackedSequence]:
    """Whole conversations, as many to a sequence as fit."""
    parts: list[tuple[np.ndarray, np.ndarray, int]] = []
    for talk in talks:
        ids = np.array(talk.rendered.token_ids, np.int32)
        kinds = np.full(len(ids), CONTEXT, np.uint8)
        kinds[talk.rendered.last_reply] = SAID
        if sum(len(part[0]) for part in parts) + len(ids) > tokens:
            yield _sequence(parts)
            parts = []
        parts.append((ids, kinds, talk.row))
    if parts:
        yield _sequence(parts)


def _sequence(parts: Sequence[tuple[np.ndarray, np.ndarray, int]]) -> PackedSequence:
    sizes = [len(ids) for ids, _, _ in parts]
    return PackedSequence(
        np.concatenate([ids for ids, _, _ in parts]),
        np.concatenate([kinds for _, kinds, _ in parts]),
        np.repeat(np.arange(len(parts), dtype=np.int32), sizes),
        np.repeat(np.array([row for _, _, row in parts], np.int32), sizes),
    )
