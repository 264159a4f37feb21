"""How fast could matrix products be on this machine, and how fast are they? Limits measured, then kernels against them.

    benchmarks/run roofline [--variant avx2]      the limits alone

    Arm (packed weights of a whole model) --prepare(rows)--> Pass --run()--> nanoseconds
    Limits (read bandwidth, operations a second) + the pass's steps --floor_ns--> nanoseconds that no kernel can beat

A pass is one token step or one prompt: the products of all layers in turn, each layer with weights of its own, so that
they come from memory as in decoding and not from a cache. A product takes at least as long as reading its weights once,
and at least as long as its arithmetic at the peak of the instruction that it uses: the larger of both is its floor, the
sum over products that of a pass. A share of 1 would be a kernel that never waits for anything but the one thing it is
limited by. Traffic of activations and the pool's hand-over between products count as the kernel's own loss.

Limits change under our feet: what two threads read together jumps between 36 and 60 GB/s on one of our machines, by what
its neighbours do. So each arm's passes alternate with readings of a large buffer, and a repeat's share is made of what
was measured in the same third of a second. Arms take turns within a repeat; what counts is the median of the repeats. A
limit that was disturbed more than the kernel would flatter it: `other_load_cores` and the spread of the limits tell.

Left out: attention, norms and everything else of a decoder. Letters: M rows, O outputs, K inputs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from apprentice.core import machine
from apprentice.kernels import baseline, native, nvfp4, tiles
from apprentice.kernels.native import Library, Pool
from apprentice.kernels.tiles import aligned
from benchmarks.harness import Row

READ_BYTES = 256 << 20
"""Many times the last-level cache."""
READ_PIECE = 1 << 20
"""What a thread reads at a time: smaller pieces are slower, larger ones no faster."""
ARITHMETIC_S = 0.1
SWEEP_S = 0.3
"""A repeat runs passes of an arm, and readings between them, for so long, and takes the medians."""
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
        x = activations((shape for shape, _ in self._matrices), rows, prompt)
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


class Nvfp4Arm:
    """NVFP4 weights and 8-bit activations; the head in 8 bits, as the engine keeps it."""

    name = "nvfp4"
    is_baseline = False

    def __init__(self, library: Library, pool: Pool, variant: str, shapes: Sequence[Shape]) -> None:
        self._library, self._pool, self._variant = library, pool, variant
        sizes = {s: tiles.size(library, s.outputs, s.inputs, is_int8=s.last_row_only) for s in shapes}
        memory = aligned(sum(sizes[shape] * shape.copies for shape in shapes))
        self._matrices: list[tuple[Shape, tiles.Tiles]] = []
        packed: dict[str, nvfp4.Packed] = {}
        end = 0
        for shape, weight in in_order(shapes):
            place = memory[end : end + sizes[shape]]
            end += sizes[shape]
            if shape.last_row_only:
                matrix = tiles.pack_int8(library, weight, out=place)
            else:
                if shape.name not in packed:
                    packed[shape.name] = nvfp4.encode(weight, search=False)
                matrix = tiles.pack(library, packed[shape.name], out=place)
            self._matrices.append((shape, matrix))

    def prepare(self, rows: int, *, prompt: bool) -> Pass:
        x = activations((shape for shape, _ in self._matrices), rows, prompt)
        chosen = [(matrix, x[shape]) for shape, matrix in self._matrices]
        products = tiles.Products(self._library, self._pool, chosen, variant=self._variant, as_prompt=prompt, keep=False)
        arithmetic = baseline.OPERATIONS[-1]
        if baseline.operations_per_ns(self._library, self._pool, arithmetic, pieces=1, turns=1, variant=self._variant) is None:
            arithmetic = baseline.OPERATIONS[0]
        steps = [
            Step(matrix.data.nbytes, 2 * len(x[shape]) * shape.outputs * shape.inputs, arithmetic)
            for shape, matrix in self._matrices
        ]
        return Pass(steps, products.run)


def activations(shapes: Iterable[Shape], rows: int, prompt: bool) -> dict[Shape, np.ndarray]:
    """Random inputs. The same ones in all layers: in a decoder they have just been computed and lie in a cache."""
    rng = np.random.default_rng(rows)
    sizes = {shape: (1 if prompt and shape.last_row_only else rows, shape.inputs) for shape in shapes}
    return {shape: rng.standard_normal(size, np.float32) for shape, size in sizes.items()}


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


@dataclass(frozen=True, slots=True)
class Limits:
    """What this machine can do at the moment: bytes and operations a nanosecond."""

    read: float
    operations: Mapping[str, float]
    """By kind of arithmetic, as far as there are instructions for it."""

    def floor_ns(self, steps: Sequence[Step]) -> float:
        """No kernel can be faster."""
        return sum(max(step.weight_bytes / self.read, step.operations / self.operations[step.arithmetic]) for step in steps)

    def bound_by(self, steps: Sequence[Step]) -> str:
        """`memory` or `arithmetic`, whichever takes longer by itself."""
        reading = sum(step.weight_bytes for step in steps) / self.read
        return "memory" if reading >= sum(step.operations / self.operations[step.arithmetic] for step in steps) else "arithmetic"


class Meter:
    """Measures limits with the threads of a pool."""

    def __init__(self, library: Library, pool: Pool, variant: str) -> None:
        self._library, self._pool, self._variant = library, pool, variant
        self._buffer = aligned(READ_BYTES)
        self._buffer[:] = 1
        self._turns: dict[str, int] = {}

    def read(self) -> float:
        """GB/s of one reading of a buffer, some milliseconds."""
        took = baseline.read_ns(self._library, self._pool, self._buffer, piece=READ_PIECE, variant=self._variant)
        return READ_BYTES / took

    def operations(self) -> dict[str, float]:
        """G operations/s, the better of two runs each."""
        found = {}
        for kind in baseline.OPERATIONS:
            if turns := self._turns_of(kind):
                found[kind] = max(self._speed(kind, turns), self._speed(kind, turns))
        return found

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
class Repeat:
    """Of an arm: the median pass, and the limits at that time."""

    ms: float
    limits: Limits


@dataclass(frozen=True, slots=True)
class Timing:
    """An arm in one cell."""

    name: str
    is_baseline: bool
    steps: Sequence[Step]
    repeats: Sequence[Repeat]

    @property
    def ms(self) -> list[float]:
        """Of each repeat."""
        return [repeat.ms for repeat in self.repeats]

    @property
    def floors_ms(self) -> list[float]:
        """Of each repeat."""
        return [repeat.limits.floor_ns(self.steps) / 1e6 for repeat in self.repeats]

    @property
    def shares(self) -> list[float]:
        """How much of the time of each repeat no kernel could save."""
        return [floor / ms for floor, ms in zip(self.floors_ms, self.ms, strict=True)]


def compare(
    library: Library, pool: Pool, variant: str, arms: Sequence[Arm], rows: int, *, prompt: bool, repeats: int
) -> tuple[list[Row], dict[str, Any]]:
    """Arms and limits in turn, `repeats` times."""
    meter, load = Meter(library, pool, variant), OtherLoad()
    passes = [arm.prepare(rows, prompt=prompt) for arm in arms]
    found: list[list[Repeat]] = [[] for _ in arms]
    for one in passes:
        one.run()
    for number in range(repeats):
        operations = meter.operations()
        # Each repeat begins with another arm.
        for index in (*range(number % len(arms), len(arms)), *range(number % len(arms))):
            found[index].append(_repeat(passes[index].run, meter, operations))
    timings = [
        Timing(arm.name, arm.is_baseline, one.steps, repeat) for arm, one, repeat in zip(arms, passes, found, strict=True)
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
        "baseline_share_of_floor": None if base is None else round(statistics.median(base.shares), 3),
        "bound_by": {one.name: one.repeats[-1].limits.bound_by(one.steps) for one in timings},
        "other_load_cores": load.cores(),
        "repeats_ms": {one.name: [round(ms, 4) for ms in one.ms] for one in timings},
        "repeats_read_gb_per_s": {one.name: [round(repeat.limits.read, 2) for repeat in one.repeats] for one in timings},
    }
    return [*machine_rows(timings), *figures(timings, rows, gate)], details


def machine_rows(timings: Sequence[Timing]) -> list[Row]:
    """The limits: medians, least and most that was seen."""
    limits = [repeat.limits for one in timings for repeat in one.repeats]
    rows = [_row("machine", "read_gb_per_s", [limit.read for limit in limits])]
    return rows + [
        _row("machine", f"{kind}_gop_per_s", [limit.operations[kind] for limit in limits]) for kind in limits[0].operations
    ]


def figures(timings: Sequence[Timing], rows: int, gate: float) -> list[Row]:
    """Milliseconds, bandwidth, operations and share of the floor of each arm; then what the others gain over the faster
    baseline, unless that one misses the gate."""
    found: list[Row] = []
    for one in timings:
        size, operations = sum(step.weight_bytes for step in one.steps), sum(step.operations for step in one.steps)
        found += [
            _row(one.name, "ms", one.ms),
            _row(one.name, "rows_per_s", [1000 * rows / ms for ms in one.ms]),
            _row(one.name, "weights_gb_per_s", [size / ms / 1e6 for ms in one.ms]),
            _row(one.name, "gop_per_s", [operations / ms / 1e6 for ms in one.ms]),
            _row(one.name, "floor_ms", one.floors_ms),
            _row(one.name, "share_of_floor", one.shares),
        ]
    base = fastest_baseline(timings)
    if base is None or statistics.median(base.shares) < gate:
        return found
    for one in timings:
        if not one.is_baseline:
            found += [
                _row(one.name, f"times_faster_than_{base.name}", _quotients(base.ms, one.ms)),
                _row(one.name, f"ceiling_over_{base.name}", _quotients(base.floors_ms, one.floors_ms)),
            ]
    return found


def fastest_baseline(timings: Sequence[Timing]) -> Timing | None:
    """What the others are compared with."""
    return min((one for one in timings if one.is_baseline), key=lambda one: statistics.median(one.ms), default=None)


def _quotients(above: Sequence[float], below: Sequence[float]) -> list[float]:
    return [a / b for a, b in zip(above, below, strict=True)]


def _row(arm: str, metric: str, values: Sequence[float]) -> Row:
    """Median, least and most."""
    return Row(arm, metric, statistics.median(values), min(values), max(values))


def native_inputs() -> dict[str, str]:
    """Hash of the native sources, for cells: the harness looks at Python files."""
    digest = hashlib.sha256()
    for path in sorted(Path(native.__file__).with_name("native").iterdir()):
        digest.update(path.name.encode() + path.read_bytes())
    return {"native": digest.hexdigest()}


def _repeat(run: Callable[[], int], meter: Meter, operations: Mapping[str, float]) -> Repeat:
    reads, took = [meter.read()], [run() / 1e6]
    while sum(took) < 1000 * SWEEP_S:
        reads.append(meter.read())
        took.append(run() / 1e6)
    reads.append(meter.read())
    return Repeat(statistics.median(took), Limits(statistics.median(reads), operations))


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
        load, meter = OtherLoad(), Meter(library, Pool(library, threads), options.variant or library.variant)
        seen: dict[str, list[float]] = {"read_gb_per_s": [meter.read() for _ in range(4 * options.repeats)]}
        for _ in range(options.repeats):
            for kind, speed in meter.operations().items():
                seen.setdefault(f"{kind}_gop_per_s", []).append(speed)
        for row in (_row(f"{threads} threads", metric, values) for metric, values in seen.items()):
            if options.json:
                print(json.dumps(asdict(row)))
            else:
                print(f"{row.arm}  {row.metric:20s} {row.value:8.1f}  {row.low:.1f} to {row.high:.1f}")
        print(f"{threads} threads  other load: {load.cores()} cores", file=sys.stderr)
    return 0
