"""The held-out curve: bits per changed token of newer edits, measured while training, and which point of it to keep.

    model, held-out sequences --measure()--> HeldOut (a sum for each edit) --> Curve.best()

A few hundred changed tokens are all that a short budget can afford, and the lowest of several noisy points is then
often an early one by luck; but a schedule that has run to its end is the better model until shown otherwise. So the
best point is the LATEST one that is not worse than the lowest by more than one standard error of their difference,
paired by edit (the one-standard-error rule of Breiman et al., Classification and Regression Trees, 1984, 3.4.3). With
many tokens the error is small and this is the lowest point. Only that choice needs the sums by edit; they never leave
the machine.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np
import torch

from apprentice.model.transformer import Transformer
from apprentice.train import losses
from apprentice.train.packing import PackedSequence, collate

MIN_EDITS = 20
"""Fewer prove nothing: no point counts as worse than another."""


class HeldOut(msgspec.Struct, frozen=True, kw_only=True):
    """One point of the curve."""

    step: int
    bits: float
    """Per changed token of the held-out edits."""
    num_tokens: int
    elapsed_s: float
    seconds: float
    nats: list[float]
    """Of the changed tokens of each edit, in the same order at every point."""


@dataclass(slots=True)
class Curve:
    """The points so far, by step."""

    points: list[HeldOut] = field(default_factory=list)

    def best(self) -> HeldOut | None:
        """See the top of this file."""
        lowest = min(self.points, key=lambda point: (point.bits, point.step), default=None)
        if lowest is None:
            return None
        return next(point for point in reversed(self.points) if point is lowest or not _clearly_worse(point, lowest))

    def stale(self) -> int:
        """Points behind the best one."""
        best = self.best()
        return 0 if best is None else len(self.points) - 1 - self.points.index(best)


def measure(
    model: Transformer, sequences: Sequence[PackedSequence], *, matmul: torch.dtype, step: int, elapsed_s: float
) -> HeldOut | None:
    """A point of the curve; None where no held-out token is changed."""
    started, count = time.perf_counter(), 0
    nats: dict[int, float] = {}
    for sequence in sequences:
        nll_N, at_T = losses.changed_nll(model, collate([sequence]), matmul=matmul)
        count += len(nll_N)
        for row, value in zip(sequence.rows_T[1:][at_T[: len(sequence) - 1]].tolist(), nll_N.tolist(), strict=True):
            nats[row] = nats.get(row, 0.0) + value
    if not count:
        return None
    return HeldOut(
        step=step,
        bits=sum(nats.values()) / count / math.log(2),
        num_tokens=count,
        elapsed_s=elapsed_s,
        seconds=time.perf_counter() - started,
        nats=[nats[row] for row in sorted(nats)],
    )


def _clearly_worse(point: HeldOut, lowest: HeldOut) -> bool:
    differences = np.array(point.nats) - np.array(lowest.nats)
    if len(differences) < MIN_EDITS:
        return False
    return float(differences.sum()) > math.sqrt(len(differences)) * float(differences.std(ddof=1))
