"""What a training run says of each step: one line on stderr in a fixed order, and the same in `metrics.jsonl`.

    step 12/340 loss 1.234 grad_norm 0.98 lr 9.1e-05 tok/s 301 MFU 43.0% memory 3.4 GiB eta 3m12s

The file also holds what the clock decided for the step (`places`, `remaining`), so that a run that was killed repeats
the steps after its last checkpoint exactly, and the seconds that had passed, so that a budget is summed over resumes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from apprentice.core import files
from apprentice.core.progress import duration
from apprentice.core.protocols import ProgressSink
from apprentice.train.heldout import HeldOut

METRICS = "metrics.jsonl"
SAY_AT_ONCE = 3
"""The first steps are shown as they come."""
SAY_EVERY_S = 2.0


class Metrics(msgspec.Struct, frozen=True, kw_only=True):
    """One step."""

    step: int
    """Steps done, this one included."""
    loss: float
    """Weighted nats per unit of weight."""
    grad_norm: float
    lr: float
    tokens_per_s: float
    mfu: float
    """Part of the measured peak of a matrix product, 0 to 1; 0 where the peak was not measured."""
    memory_gib: float
    """Peak so far."""
    eta_s: float
    tokens: int
    """Of this step."""
    elapsed_s: float
    """Since the start, summed over resumes."""
    places: list[int]
    """In the plan's order: what was trained on."""
    remaining: int
    """Steps that were to come, this one included."""


class Log:
    """The file, and the lines on stderr."""

    def __init__(
        self, folder: Path, progress: ProgressSink, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.path = folder / METRICS
        self._progress, self._clock = progress, clock
        self._said = -SAY_EVERY_S
        self._count = 0

    @staticmethod
    def read(folder: Path) -> Iterator[Metrics | HeldOut]:
        """What was written so far, in order. A step that was repeated after an interruption stands there twice."""
        for line in files.read_lines(folder / METRICS):
            yield msgspec.json.decode(line, type=HeldOut if '"bits":' in line else Metrics)

    @classmethod
    def tidy(cls, folder: Path) -> None:
        """Keep the last record of each step, in order: what counted."""
        kept = {(entry.step, isinstance(entry, HeldOut)): entry for entry in cls.read(folder)}
        files.write_bytes(folder / METRICS, b"".join(msgspec.json.encode(kept[key]) + b"\n" for key in sorted(kept)))

    def step(self, entry: Metrics, total: int) -> None:
        """Write a step down, and show it if the last shown one is a while ago."""
        files.append_line(self.path, msgspec.json.encode(entry).decode())
        self._count += 1
        now = self._clock()
        last = entry.remaining == 1
        line = step_line(entry, total)
        if self._count <= SAY_AT_ONCE or now - self._said >= SAY_EVERY_S or last:
            self._said = now
            self._progress.note(line)
        self._progress.advance(1, f"loss {entry.loss:.3f}")

    def heldout(self, entry: HeldOut, best: HeldOut | None) -> None:
        """Write a point of the curve down and show it."""
        files.append_line(self.path, msgspec.json.encode(entry).decode())
        against = "" if best is None else f", best so far {best.bits:.4f} at step {best.step}"
        self._progress.note(
            f"held out after step {entry.step}: {entry.bits:.4f} bits per changed token "
            f"({entry.num_tokens:,} tokens, {duration(entry.seconds)}){against}"
        )


def step_line(entry: Metrics, total: int) -> str:
    """The line of a step."""
    return (
        f"step {entry.step}/{total} loss {entry.loss:.3f} grad_norm {entry.grad_norm:.2f} lr {entry.lr:.1e} "
        f"tok/s {entry.tokens_per_s:.0f} MFU {entry.mfu:.1%} memory {entry.memory_gib:.1f} GiB "
        f"eta {duration(entry.eta_s)}"
    )
