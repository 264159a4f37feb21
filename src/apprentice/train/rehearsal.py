"""What keeps the rest alive: the base's own answers, repeated between the edits.

    sequences of edits: e e e e e e e e ...
    answers, packed:    a b c           ->  e e e e a e e e e b ...
    the base, before the first step --Teacher--> its hidden states at every token of an answer

A model that is trained on nothing but edits forgets how to end an answer: code in a chat goes on and on. What it has to
keep is what the base says, so the base says it, and no foreign data is needed.

At an answer's tokens it does not learn the token that came but the distribution that the base has there: what came is one
draw, and a model that sees it three times learns it by heart (measured: other replies then cost 5% more bits). The base's
distributions are its head times its hidden states, which are kept; so there is one more copy of the head in memory, and no
second model.

Sources: Robins 1995, "Catastrophic forgetting, rehearsal and pseudorehearsal"; Li and Hoiem 2016, "Learning without
Forgetting", arXiv:1606.09282; Scialom et al. 2022, arXiv:2205.12393 (one in a hundred examples of earlier tasks keeps them).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from apprentice.model.transformer import Transformer
from apprentice.text.chat import Rendered
from apprentice.train import losses
from apprentice.train.packing import CONTEXT, KINDS, Batch, PackedSequence, collate

REPLY = KINDS.index("reply")
NO_ROW = -1
"""In `PackedSequence.rows_T`: of no example."""


class Teacher:
    """What a model says of answers now, whatever becomes of it. Implements `losses.Teacher`."""

    @torch.no_grad()
    def __init__(self, model: Transformer, sequences: Sequence[PackedSequence], *, matmul: torch.dtype) -> None:
        """Of all sequences those that are answers."""
        self._answers = {id(sequence): sequence for sequence in sequences if sequence.rows_T[0] == NO_ROW}
        self._head_VD = model.lm_head.weight.detach().to(matmul, copy=True) if self._answers else torch.empty(0)
        self._states: dict[int, Tensor] = {}
        for key, sequence in self._answers.items():
            batch = collate([sequence])
            self._states[key] = losses.hidden_at(model, batch, batch.kinds_BT[:, 1:] == REPLY, matmul)[0].to(matmul)

    def soft(self, batch: Batch, wanted_BT: np.ndarray) -> losses.Soft | None:
        """See `losses.Teacher`. Of an answer all tokens of the reply are wanted, and no others."""
        counts = wanted_BT.sum(axis=1).tolist()
        states = [self._states.get(id(sequence)) for sequence in batch.sequences]
        if all(one is None for one in states):
            return None
        rows: list[Tensor] = []
        first = 0
        for count, one in zip(counts, states, strict=True):
            rows.append(torch.full((count,), -1) if one is None else torch.arange(first, first + count))
            first += 0 if one is None else count
        return losses.Soft(torch.cat(rows), torch.cat([one for one in states if one is not None]), self._head_VD)


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
