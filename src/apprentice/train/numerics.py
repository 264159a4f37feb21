"""Which arithmetic and how many threads train fastest on THIS machine: measured at the start, never looked up.

    model, a real sequence --each candidate: forward + backward--> Numerics (written into the plan)

    fp32          torch's default matrix product
    fp32-onednn   oneDNN's: 1.1 to 1.8 times as fast on the machines measured so far; the same precision
    bf16          products in bfloat16, all else float32 (autocast): twice as fast where the CPU has AVX512-BF16 or AMX,
                  seven times slower where it has not

Machines differ by such factors that a table of CPUs would be wrong for half of them. A candidate whose loss is off by
more than LOSS_TOLERANCE is refused. With a given number of steps nothing is measured, for then the result must not
depend on a clock: `fixed` follows from what the CPU says of itself.

`tune_process` sets what can be set in a running process; what must be set before torch is loaded is in `environment`.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import time
from collections.abc import Callable, Iterator
from typing import Any, Literal, cast

import msgspec
import torch
from msgspec.structs import replace

from apprentice.core import machine
from apprentice.model.transformer import Transformer

LOSS_TOLERANCE = 0.02
CLEARLY_FASTER = 0.85
"""Part of the time of all cores that fewer must stay below to be chosen."""
Arithmetic = Literal["fp32", "fp32-onednn", "bf16"]
ARITHMETIC: tuple[Arithmetic, ...] = ("fp32", "fp32-onednn", "bf16")


class Numerics(msgspec.Struct, frozen=True, kw_only=True):
    """What was chosen, and why."""

    arithmetic: Arithmetic
    threads: int
    seconds: dict[str, float] = {}
    """Candidate -> seconds for the measured forward and backward."""
    peak_gflops: float = 0.0
    """Of a large matrix product in this arithmetic: what MFU is a part of. 0: not measured."""

    @property
    def matmul(self) -> torch.dtype:
        """Number format of the large products."""
        return torch.bfloat16 if self.arithmetic == "bf16" else torch.float32


def tune_process() -> None:
    """Let freed memory stay with the process: each step allocates the same hundreds of MB again, and giving them back
    to the system and faulting them in anew costs a tenth to a seventh of the time. Does nothing where there is no glibc."""
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        for option, value in ((-4, 0), (-1, 2**31 - 1), (-2, 64 << 20)):  # M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD
            mallopt(option, value)


def trim_memory() -> None:
    """Give back what lies free between blocks in use: with sequences of many lengths the holes add up to gigabytes."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def fixed(arithmetic: Arithmetic | None = None, threads: int | None = None) -> Numerics:
    """Numerics that follow from the machine's description, the same on every run."""
    fast16 = not {"avx512_bf16", "amx_bf16"}.isdisjoint(machine.look().flags)
    return Numerics(arithmetic=arithmetic or ("bf16" if fast16 else "fp32"), threads=threads or machine.cores())


def measure(
    model: Transformer,
    loss_of: Callable[[torch.dtype], torch.Tensor],
    *,
    arithmetic: Arithmetic | None = None,
    threads: int | None = None,
    repeats: int = 1,
    limit_s: float = math.inf,
) -> Numerics:
    """Time forward and backward of `loss_of(number format of the large products)` in each candidate. What is given is
    not varied; no further candidate is begun after `limit_s`. Leaves no gradients behind."""
    cores, started = threads or machine.cores(), time.perf_counter()
    seconds: dict[str, float] = {}
    losses: dict[str, float] = {}
    best: tuple[float, Numerics] | None = None
    for candidate in [Numerics(arithmetic=arithmetic, threads=cores)] if arithmetic else _promising(cores):
        if best is not None and time.perf_counter() - started > limit_s:
            break
        took, loss = _time(model, candidate, loss_of, repeats, give_up_s=1.5 * best[0] if best else math.inf)
        seconds[label(candidate)] = round(took, 4)
        losses[candidate.arithmetic] = loss
        if best is None or took < best[0]:
            best = (took, candidate)
    assert best is not None
    best = refuse_imprecise(best, losses, seconds)
    for fewer in [] if threads or time.perf_counter() - started > limit_s else _fewer(cores):
        candidate = Numerics(arithmetic=best[1].arithmetic, threads=fewer)
        took, _ = _time(model, candidate, loss_of, repeats, give_up_s=best[0])
        seconds[label(candidate)] = round(took, 4)
        # A program that ran for that second makes two threads look as slow as one, and the choice holds for hours.
        if took < CLEARLY_FASTER * best[0]:
            best = (took, candidate)
    chosen = best[1]
    return replace(chosen, seconds=seconds, peak_gflops=round(peak_gflops(chosen), 1))


def label(numerics: Numerics) -> str:
    """The key of a candidate in `Numerics.seconds`."""
    return f"{numerics.arithmetic} x {numerics.threads}"


def _promising(cores: int) -> list[Numerics]:
    """Candidates by the speed of their products, fastest first; hopeless ones, some of them seven times slower, are
    left out: a whole step would be a waste to find that out."""
    all_of_them = [Numerics(arithmetic=name, threads=cores) for name in ARITHMETIC]
    speeds = {numerics.arithmetic: peak_gflops(numerics, size=512) for numerics in all_of_them}
    fast = [numerics for numerics in all_of_them if speeds[numerics.arithmetic] > 0.4 * max(speeds.values())]
    return sorted(fast, key=lambda numerics: -speeds[numerics.arithmetic])


def refuse_imprecise(
    best: tuple[float, Numerics], losses: dict[str, float], seconds: dict[str, float]
) -> tuple[float, Numerics]:
    """The fastest of those whose loss is that of float32, where float32 was measured. Keys: arithmetic of `losses`,
    arithmetic and threads of `seconds`."""
    reference = losses.get("fp32", losses.get("fp32-onednn"))
    if reference is None:
        return best
    allowed = LOSS_TOLERANCE * max(abs(reference), 1.0)
    exact = {name for name, loss in losses.items() if abs(loss - reference) <= allowed}
    if best[1].arithmetic in exact:
        return best
    candidates = [replace(best[1], arithmetic=name) for name in ARITHMETIC if name in exact]
    chosen = min(candidates, key=lambda numerics: seconds[label(numerics)])
    return seconds[label(chosen)], chosen


def peak_gflops(numerics: Numerics, *, size: int = 1024) -> float:
    """Speed of a square matrix product, best of a few."""
    best = math.inf
    with applied(numerics):
        a, b = (torch.ones(size, size, dtype=numerics.matmul) for _ in range(2))
        for _ in range(5):
            start = time.perf_counter()
            torch.mm(a, b)
            best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best / 1e9


@contextlib.contextmanager
def applied(numerics: Numerics) -> Iterator[None]:
    """Within the block torch multiplies in these numerics; the number format goes to each product (`losses`)."""
    # Known to torch at run time only.
    products = cast(Any, torch.backends.mkldnn).matmul
    threads, precision = torch.get_num_threads(), products.fp32_precision
    torch.set_num_threads(numerics.threads)
    # The name promises less precision than it gives: oneDNN takes it as leave to convert, and without AMX it does not.
    products.fp32_precision = "none" if numerics.arithmetic == "fp32" else "bf16"
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        products.fp32_precision = precision


def _time(
    model: Transformer, numerics: Numerics, loss_of: Callable[[torch.dtype], torch.Tensor], repeats: int, *,
    give_up_s: float,
) -> tuple[float, float]:
    """Best seconds and the loss. The first round warms up, and is the last one for a candidate that is far behind."""
    best, loss = math.inf, math.nan
    with applied(numerics):
        for round_number in range(repeats + 1):
            start = time.perf_counter()
            value = loss_of(numerics.matmul)
            value.backward()
            took = time.perf_counter() - start
            loss = float(value.detach())
            model.zero_grad(set_to_none=True)
            if round_number > 0 or took > give_up_s:
                best = min(best, took)
            if took > 2 * give_up_s:
                break
    return best, loss


def _fewer(cores: int) -> list[int]:
    """Numbers of threads worth trying besides all: half (two threads a core may be counted double), and one less."""
    return sorted({n for n in (cores // 2, cores - 1) if 1 <= n < cores}, reverse=True)
