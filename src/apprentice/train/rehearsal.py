"""What keeps the rest alive: the base's own answers, repeated between the edits.

    sequences of edits: e e e e e e e e ...
    answers, packed:    a b c           ->  e e e e a e e e e b ...

A model that is trained on nothing but edits forgets how to end an answer: code in a chat goes on and on. What it has to
keep is what the base says, so the base says it, and no foreign data is needed.

Sources: Robins 1995, "Catastrophic forgetting, rehearsal and pseudorehearsal"; Scialom et al. 2022, arXiv:2205.12393
(one in a hundred examples of earlier tasks keeps them).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from apprentice.text.chat import Rendered
from apprentice.train.packing import CONTEXT, KINDS, PackedSequence

REPLY = KINDS.index("reply")
NO_ROW = -1
"""In `PackedSequence.rows_T`: of no example."""


def interleave(
    edits: Sequence[PackedSequence], answers: Sequence[Rendered], *, share: float, tokens: int
) -> list[PackedSequence]:
    """The edits in their order with a sequence of answers behind every few of them, so that these are `share` of
    all. The answers begin anew where they are used up. `tokens`: longest sequence."""
    packed = list(_packed(answers, tokens))
    if not packed or share <= 0:
        return list(edits)
    mixed: list[PackedSequence] = []
    used = 0
    for number, sequence in enumerate(edits, 1):
        mixed.append(sequence)
        while used + 1 <= share * (number + used + 1):
            mixed.append(packed[used % len(packed)])
            used += 1
    return mixed


def _packed(answers: Sequence[Rendered], tokens: int) -> Iterator[PackedSequence]:
    """Whole conversations, each a segment of its own, as many to a sequence as fit. One that is longer is left out."""
    parts: list[tuple[np.ndarray, np.ndarray]] = []
    for rendered in answers:
        if len(rendered.token_ids) > tokens:
            continue
        if sum(len(ids) for ids, _ in parts) + len(rendered.token_ids) > tokens:
            yield _sequence(parts)
            parts = []
        kinds = np.where(np.array(rendered.learnable), REPLY, CONTEXT).astype(np.uint8)
        parts.append((np.array(rendered.token_ids, np.int32), kinds))
    if parts:
        yield _sequence(parts)


def _sequence(parts: Sequence[tuple[np.ndarray, np.ndarray]]) -> PackedSequence:
    token_ids_T = np.concatenate([ids for ids, _ in parts])
    segments_T = np.repeat(np.arange(len(parts), dtype=np.int32), [len(ids) for ids, _ in parts])
    return PackedSequence(
        token_ids_T,
        np.concatenate([kinds for _, kinds in parts]),
        segments_T,
        np.full(len(token_ids_T), NO_ROW, np.int32),
    )
