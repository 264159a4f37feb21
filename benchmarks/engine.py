"""How fast are the kernels against what the machine can do?

    benchmarks/run engine [--cells 'kernels*batch*'] [--variant avx2] [--repeats 7] [--json]

Cells: `kernels-VARIANT-batch-N`, `kernels-VARIANT-prompt-N` (the matrix products of SmolLM2-135M over all its layers by
each of ARMS, beside their floor from measured bandwidth and arithmetic: `roofline.py`). Whole models: `decoding`.

`--trial` runs kernels with three layers and two repeats, shows them and keeps nothing: the head then weighs more than it
does in the model.
"""

from __future__ import annotations

import argparse
import dataclasses
import fnmatch
import functools
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from apprentice.core import machine
from apprentice.kernels import native
from apprentice.kernels.native import Library, Pool
from benchmarks import roofline
from benchmarks.harness import Benchmark, Row

ARMS: tuple[roofline.ArmMaker, ...] = (roofline.float_arm, roofline.bf16_arm, roofline.Nvfp4Arm)
BATCHES = (1, 2, 4, 8, 16)
PROMPTS = (128, 512)


class KernelCells:
    """The cells `kernels-*`. Weights of all arms are packed once, when the first cell that must run asks for them."""

    def __init__(self, library: Library, variant: str, *, repeats: int, layers: int | None) -> None:
        self._library, self._variant, self._repeats = library, variant, repeats
        self._shapes = roofline.MODELS["smollm2-135m"]
        if layers is not None:
            self._shapes = tuple(dataclasses.replace(shape, copies=min(shape.copies, layers)) for shape in self._shapes)
        self._pool = Pool(library, machine.cores())
        self._arms: Sequence[roofline.Arm] = ()

    def cells(self) -> Iterator[tuple[str, Callable[[], tuple[list[Row], dict[str, Any]]]]]:
        for name, sizes in (("batch", BATCHES), ("prompt", PROMPTS)):
            for rows in sizes:
                work = functools.partial(self._run, rows, prompt=name == "prompt")
                yield f"kernels-{self._variant}-{name}-{rows}", work

    def _run(self, rows: int, *, prompt: bool) -> tuple[list[Row], dict[str, Any]]:
        self._arms = self._arms or [make(self._library, self._pool, self._variant, self._shapes) for make in ARMS]
        return roofline.compare(
            self._library, self._pool, self._variant, self._arms, rows, prompt=prompt, repeats=self._repeats
        )


def main(arguments: list[str]) -> int:
    """See the top of this file."""
    parser = argparse.ArgumentParser(prog="benchmarks/run engine")
    parser.add_argument("--cells", default="*")
    parser.add_argument("--variant", default="")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--trial", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    if options.trial:
        with tempfile.TemporaryDirectory() as folder:
            return _run(options, Benchmark("engine", results=Path(folder), work=Path(folder) / "work"))
    return _run(options, Benchmark("engine"))


def _run(options: argparse.Namespace, benchmark: Benchmark) -> int:
    library = native.load()
    if library is None:
        sys.stderr.write(f"warning: no cells: {native.why_missing()}\nhint: {native.how_to_mend()}\n")
        return 1
    kernels = KernelCells(
        library, options.variant or library.variant, repeats=2 if options.trial else options.repeats,
        layers=3 if options.trial else None,
    )  # fmt: skip
    for name, work in kernels.cells():
        if fnmatch.fnmatch(name, options.cells):
            _show(benchmark.cell(name, work, inputs=roofline.native_inputs), as_json=options.json)
    return 0


def _show(result: dict[str, Any], *, as_json: bool) -> None:
    print(json.dumps(result["rows"]) if as_json else f"\n{result['cell']}")
    for row in () if as_json else result["rows"]:
        spread = "" if row["low"] is None else f"  {row['low']:.4g} to {row['high']:.4g}"
        print(f"{row['arm']:12s} {row['metric']:36s} {row['value']:.4g}{spread}")
    details = result["details"]
    if not as_json and (share := details.get("baseline_share_of_floor")):
        verdict = "reaches" if share >= details["gate"] else "no ratio is shown: below"
        print(f"{details['baseline']} at {share} of its floor {verdict} the gate of {details['gate']}")
        print(f"other load: {details['other_load_cores']} cores")
