"""How fast could matrix products be on this machine, and how fast are they? Limits measured, then kernels against them.

    benchmarks/run roofline [--variant avx2]      the limits alone

    Arm (packed weights of a whole model) --prepare(rows)--> Pass --run()--> nanoseconds
    Limits (read bandwidth, operations a second) + the pass's steps --floor_ns--> nanoseconds that no kernel can beat

A pass is one token step or one prompt: the products of all layers in turn, each layer with weights of its own, so that
they come from memory as in decoding and not from a cache. A product takes at least as long as reading its weights once,
and at least as long as its arithmetic at the peak of the instruction that it uses: the larger of both is its floor, the
sum over products that of a pass. A share of 1 would be a kernel that never waits for anything but the one thing it is
limited by. Traffic of activations and the pool's hand-over between products count as the kernel's own loss.

All arms and the limits are measured in turn within each repeat, so that other load meets all of them; medians of the
repeats are compared, the limits are the best that was seen (a disturbed limit would flatter the kernels).

Left out: attention, norms and everything else of a decoder. Letters: M rows, O outputs, K inputs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from apprentice.core import machine
from apprentice.kernels import baseline, native
from apprentice.kernels.native import Library, Pool
from apprentice.kernels.tiles import aligned
from benchmarks.harness import Row

READ_BYTES = 256 << 20
"""Many times the last-level cache."""
READ_PIECES = (256 << 10, 1 << 20, 8 << 20)
ARITHMETIC_S = 0.1
SWEEP_S = 0.3
"""A repeat runs passes for so long and takes their median."""
GATES = {"step": 0.85, "batch": 0.75, "prompt": 0.75}
"""Share of the floor that the baseline must reach before anything is compared with it."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A matrix of a model, in every layer."""

    name: str
    outputs: int
    inputs: int
    copies: int
    """How many of them with different weights a pass goes through."""
    last_row_only: bool = False
    """In a prompt only the last row is wanted."""


MODELS = {
    "smollm2-135m": (
        Shape("qkv", 960, 576, 30),
        Shape("attention_out", 576, 576, 30),
        Shape("gate_up", 3072, 576, 30),
        Shape("down", 576, 1536, 30),
        Shape("head", 49152, 576, 1, last_row_only=True),
    ),
}
"""As an engine multiplies: q, k, v in one product, gate and up in one."""


@dataclass(frozen=True, slots=True)
class Step:
    """What a product cannot do without."""

    weight_bytes: int
    operations: int
    arithmetic: str
    """Of `baseline.OPERATIONS`: by whose peak it is limited."""


@dataclass(frozen=True, slots=True)
class Pass:
    """A token step or a prompt, ready to run."""

    steps: Sequence[Step]
    run: Callable[[], int]
    """Runs all products; nanoseconds."""


class Arm(Protocol):
    """A way to multiply, with the packed weights of a whole model."""

    name: str
    is_baseline: bool

    def prepare(self, rows: int, *, prompt: bool) -> Pass:
        """With random activations of that many rows."""
        ...


ArmMaker = Callable[[Library, Pool, str, Sequence[Shape]], Arm]
"""From a library, its pool, the name of a variant and the model."""


class BaselineArm:
    """FP32 or BF16 weights through our own kernels."""

    is_baseline = True

    def __init__(self, library: Library, pool: Pool, variant: str, shapes: Sequence[Shape], *, form: str) -> None:
        self.name = form
        self._library, self._pool, self._variant = library, pool, variant
        has_bf16 = baseline.operations_per_ns(library, pool, "bf16", pieces=1, turns=1, variant=variant) is not None
        self._arithmetic = "bf16" if form == "bf16" and has_bf16 else "float"
        self._matrices: list[tuple[Shape, baseline.Matrix]] = []
        dtype = np.dtype(np.float32 if form == "float" else np.uint16)
        sizes = {shape: baseline.size(library, shape.outputs, shape.inputs) for shape in shapes}
        # One array, in huge pages; sizes are multiples of 64 bytes.
        memory = aligned(sum(sizes[shape] * shape.copies for shape in shapes) * dtype.itemsize).view(dtype)
        end = 0
        for shape, weight in in_order(shapes):
            stored = weight if form == "float" else baseline.to_bf16(weight)
            start, end = end, end + sizes[shape]
            self._matrices.append((shape, baseline.pack(library, stored, out=memory[start:end])))

    def prepare(self, rows: int, *, prompt: bool) -> Pass:
        rng = np.random.default_rng(rows)
        # The same ones in all layers: in a decoder they have just been computed and lie in a cache.
        x = {shape: rng.standard_normal((1 if prompt and shape.last_row_only else rows, shape.inputs), np.float32)
             for shape, _ in self._matrices}  # fmt: skip
        steps: list[Step] = []
        pairs: list[tuple[baseline.Matrix, np.ndarray]] = []
        for shape, matrix in self._matrices:
            pairs.append((matrix, x[shape]))
            weights = shape.outputs * shape.inputs
            steps.append(Step(weights * matrix.data.itemsize, 2 * weights * len(x[shape]), self._arithmetic))
        products = baseline.Products(self._library, self._pool, pairs, variant=self._variant, keep=False)
        return Pass(steps, products.run)


def float_arm(library: Library, pool: Pool, variant: str, shapes: Sequence[Shape]) -> Arm:
    """FP32."""
    return BaselineArm(library, pool, variant, shapes, form="float")


def bf16_arm(library: Library, pool: Pool, variant: str, shapes: Sequence[Shape]) -> Arm:
    """BF16: multiplied as such where the processor can, else widened to FP32."""
    return BaselineArm(library, pool, variant, shapes, form="bf16")


def in_order(shapes: Sequence[Shape]) -> Iterator[tuple[Shape, np.ndarray]]:
    """Matrices in the order of a pass: layer by layer, then what stands once. All layers get the same random values,
    each to be packed into memory of its own."""
    rng = np.random.default_rng(0)
    weights = {shape.name: rng.standard_normal((shape.outputs, shape.inputs), np.float32) * np.float32(0.05) for shape in shapes}
    for layer in range(max(shape.copies for shape in shapes)):
        for shape in shapes:
            if shape.copies > 1 and layer < shape.copies:
                yield shape, weights[shape.name]
    for shape in shapes:
        if shape.copies == 1:
            yield shape, weights[shape.name]


class Limits:
    """The best that this machine has been seen to do: bytes and operations a nanosecond."""

    def __init__(self) -> None:
        self.seen: dict[str, list[float]] = {}
        """Measurements of `read` and of the kinds of arithmetic that there are."""

    def best(self, name: str) -> float:
        """Of `read` and the kinds of arithmetic."""
        return max(self.seen[name])

    def floor_ns(self, steps: Sequence[Step]) -> float:
        """No kernel can be faster."""
        return sum(max(step.weight_bytes / self.best("read"), step.operations / self.best(step.arithmetic)) for step in steps)

    def bound_by(self, steps: Sequence[Step]) -> str:
        """`memory` or `arithmetic`, whichever takes longer by itself."""
        reading = sum(step.weight_bytes / self.best("read") for step in steps)
        return "memory" if reading >= sum(step.operations / self.best(step.arithmetic) for step in steps) else "arithmetic"

    def rows(self) -> list[Row]:
        """GB/s and G operations/s: the best, the least and the most that was seen."""
        return [
            Row("machine", "read_gb_per_s" if name == "read" else f"{name}_gop_per_s", max(seen), min(seen), max(seen))
            for name, seen in self.seen.items()
        ]


class Meter:
    """Measures limits with the threads of a pool."""

    def __init__(self, library: Library, pool: Pool, variant: str) -> None:
        self._library, self._pool, self._variant = library, pool, variant
        self._buffer = aligned(READ_BYTES)
        self._buffer[:] = 1
        self._turns: dict[str, int] = {}

    def measure(self, into: Limits) -> None:
        """Once, some tenths of a second: the best of a few runs. To be repeated."""
        took = min(
            baseline.read_ns(self._library, self._pool, self._buffer, piece=piece, variant=self._variant)
            for piece in READ_PIECES
            for _ in range(3)
        )
        into.seen.setdefault("read", []).append(READ_BYTES / took)
        for kind in baseline.OPERATIONS:
            if (turns := self._turns_of(kind)) and (speed := max(self._speed(kind, turns), self._speed(kind, turns))):
                into.seen.setdefault(kind, []).append(speed)

    def _turns_of(self, kind: str) -> int:
        """So many that a run takes half of ARITHMETIC_S; 0 where there is no such instruction."""
        if kind not in self._turns:
            started, turns = time.perf_counter(), 20_000
            speed = self._speed(kind, turns)
            self._turns[kind] = int(turns * ARITHMETIC_S / 2 / (time.perf_counter() - started)) if speed else 0
        return self._turns[kind]

    def _speed(self, kind: str, turns: int) -> float:
        # In 16 pieces a thread: a thread that is put aside does not hold the others up.
        speed = baseline.operations_per_ns(
            self._library, self._pool, kind, pieces=16 * self._pool.threads, turns=turns, variant=self._variant
        )
        return speed or 0.0


class OtherLoad:
    """Cores that other processes used while this object was watched; None where the system does not say."""

    def __init__(self) -> None:
        self._started, self._busy, self._own = time.monotonic(), _busy_s(), time.process_time()

    def cores(self) -> float | None:
        busy = _busy_s()
        if busy is None or self._busy is None:
            return None
        used = busy - self._busy - (time.process_time() - self._own)
        return round(max(used, 0) / max(time.monotonic() - self._started, 1e-9), 2)


def _busy_s() -> float | None:
    """Seconds that all cores together were not idle since the start of the machine."""
    try:
        fields = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:9]
    except OSError:
        return None
    user, nice, system, _idle, _wait, interrupts, soft_interrupts, stolen = (int(field) for field in fields)
    return (user + nice + system + interrupts + soft_interrupts + stolen) / 100


@dataclass(frozen=True, slots=True)
class Timing:
    """An arm in one cell."""

    name: str
    is_baseline: bool
    steps: Sequence[Step]
    repeats_ms: list[float]
    """The median pass of each repeat."""

    @property
    def median_ms(self) -> float:
        return statistics.median(self.repeats_ms)


def compare(
    library: Library, pool: Pool, variant: str, arms: Sequence[Arm], rows: int, *, prompt: bool, repeats: int
) -> tuple[list[Row], dict[str, Any]]:
    """Limits and arms in turn, `repeats` times."""
    limits, meter, load = Limits(), Meter(library, pool, variant), OtherLoad()
    passes = [arm.prepare(rows, prompt=prompt) for arm in arms]
    times: list[list[float]] = [[] for _ in arms]
    for one in passes:
        one.run()
    for repeat in range(repeats):
        meter.measure(limits)
        # Each repeat begins with another arm.
        for index in (*range(repeat % len(arms), len(arms)), *range(repeat % len(arms))):
            times[index].append(_median_pass_ms(passes[index].run))
    timings = [
        Timing(arm.name, arm.is_baseline, one.steps, took) for arm, one, took in zip(arms, passes, times, strict=True)
    ]
    gate, base = GATES["prompt" if prompt else "step" if rows == 1 else "batch"], fastest_baseline(timings)
    details: dict[str, Any] = {
        "variant": variant,
        "threads": pool.threads,
        "rows": rows,
        "prompt": prompt,
        "repeats": repeats,
        "gate": gate,
        "baseline": None if base is None else base.name,
        "baseline_share_of_floor": None if base is None else round(share_of_floor(base, limits), 3),
        "bound_by": {one.name: limits.bound_by(one.steps) for one in timings},
        "other_load_cores": load.cores(),
        "repeats_ms": {one.name: [round(took, 4) for took in one.repeats_ms] for one in timings},
        "native_sources": native_hash(),
    }
    return [*limits.rows(), *figures(timings, limits, rows, gate)], details


def figures(timings: Sequence[Timing], limits: Limits, rows: int, gate: float) -> list[Row]:
    """Milliseconds, bandwidth, operations and share of the floor of each arm; then what the others gain over the faster
    baseline, unless that one misses the gate."""
    found: list[Row] = []
    for one in timings:
        least, most = min(one.repeats_ms), max(one.repeats_ms)
        floor = limits.floor_ns(one.steps) / 1e6
        size, operations = sum(step.weight_bytes for step in one.steps), sum(step.operations for step in one.steps)
        found += [
            Row(one.name, "ms", one.median_ms, least, most),
            Row(one.name, "rows_per_s", 1000 * rows / one.median_ms, 1000 * rows / most, 1000 * rows / least),
            Row(one.name, "weights_gb_per_s", size / one.median_ms / 1e6),
            Row(one.name, "gop_per_s", operations / one.median_ms / 1e6),
            Row(one.name, "floor_ms", floor),
            Row(one.name, "share_of_floor", share_of_floor(one, limits), floor / most, floor / least),
        ]
    base = fastest_baseline(timings)
    if base is None or share_of_floor(base, limits) < gate:
        return found
    for one in timings:
        if not one.is_baseline:
            ratios = [theirs / ours for theirs, ours in zip(base.repeats_ms, one.repeats_ms, strict=True)]
            ceiling = limits.floor_ns(base.steps) / limits.floor_ns(one.steps)
            found += [
                Row(one.name, f"times_faster_than_{base.name}", statistics.median(ratios), min(ratios), max(ratios)),
                Row(one.name, f"ceiling_over_{base.name}", ceiling),
            ]
    return found


def fastest_baseline(timings: Sequence[Timing]) -> Timing | None:
    """What the others are compared with."""
    return min((one for one in timings if one.is_baseline), key=lambda one: one.median_ms, default=None)


def share_of_floor(timing: Timing, limits: Limits) -> float:
    """Of its time, how much no kernel could save."""
    return limits.floor_ns(timing.steps) / 1e6 / timing.median_ms


def native_hash() -> str:
    """Of the native sources: results of other kernels are not shown."""
    digest = hashlib.sha256()
    for path in sorted(Path(native.__file__).with_name("native").iterdir()):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def _median_pass_ms(run: Callable[[], int]) -> float:
    took = [run() / 1e6]
    while sum(took) < 1000 * SWEEP_S:
        took.append(run() / 1e6)
    return statistics.median(took)


def main(arguments: list[str]) -> int:
    """See the top of this file."""
    parser = argparse.ArgumentParser(prog="benchmarks/run roofline")
    parser.add_argument("--variant", default="")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    library = native.load()
    if library is None:
        print(f"no native operators: {native.why_missing()}; {native.how_to_mend()}")
        return 1
    for threads in sorted({1, machine.cores()}):
        load, limits = OtherLoad(), Limits()
        meter = Meter(library, Pool(library, threads), options.variant or library.variant)
        for _ in range(options.repeats):
            meter.measure(limits)
        for row in limits.rows():
            if options.json:
                print(json.dumps({"threads": threads, "metric": row.metric, "value": row.value, "low": row.low}))
            else:
                print(f"{threads} threads  {row.metric:20s} {row.value:8.1f}  (worst {row.low:.1f})")
        print(f"{threads} threads  other load: {load.cores()} cores")
    return 0
