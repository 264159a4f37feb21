"""How fast are the kernels against what the machine can do, how fast is the engine, and what does NVFP4 cost in bits?

    benchmarks/run engine [--cells 'kernels*'] [--variant avx2] [--base smollm2] [--repeats 7] [--json]

Cells: `kernels-VARIANT-batch-N`, `kernels-VARIANT-prompt-N` (the matrix products of SmolLM2-135M over all its layers by
each of ARMS, beside their floor from measured bandwidth and arithmetic: `roofline.py`);
`BASE-quantization` (the same checkpoint quantized with amax / 6, with the search, with the inputs' mean squares, with error
feedback; loss in bits a token against the unquantized weights on code that calibration did not see; calibration reads
modules of Python's standard library, the test is this project's own source) and `BASE-speed` (prefill, decode at several
batch sizes, scoring; milliseconds and tokens a second, best of three), which needs the folder that the former makes.

`--trial` runs kernels with three layers and two repeats, shows them and keeps nothing: the head then weighs more than it
does in the model.
"""

from __future__ import annotations

import argparse
import dataclasses
import fnmatch
import functools
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from apprentice.core import machine
from apprentice.kernels import native
from apprentice.kernels.native import Library, Pool
from benchmarks import roofline
from benchmarks.harness import ROOT, Benchmark, Row

ARMS: tuple[roofline.ArmMaker, ...] = (roofline.float_arm, roofline.bf16_arm, roofline.Nvfp4Arm)
BATCHES = (1, 2, 4, 8, 16)
PROMPTS = (128, 512)

CALIBRATION = ("argparse", "ast", "socket", "typing", "zipfile", "inspect", "shutil", "tarfile")
CALIBRATION_TOKENS = 4096
TEST_FILES = 24
CONTEXT, SCORED = 100, 300
STEPS = 24


def speed(folder: Path) -> tuple[list[Row], dict[str, Any]]:
    """Of a folder as it is loaded by `serve`."""
    # Here and below: a cell of kernels must not become stale by what the engine does.
    from apprentice.core.protocols import Request
    from apprentice.engine.engine import Engine
    from apprentice.engine.model import EngineConfig

    started = time.perf_counter()
    engine = Engine.load(folder, EngineConfig(prefix_cache_mib=0))
    rows = [Row("engine", "load_seconds", time.perf_counter() - started)]
    ids = engine.tokenizer.encode(" ".join(path.read_text() for path in sorted((ROOT / "src").rglob("*.py"))[:20]))
    for count in (128, 512, 1024):
        seconds = _best(lambda n=count: engine.generate([Request(prompt_ids=ids[:n], max_tokens=1)]))
        rows.append(Row("engine", f"prefill_{count}_tokens_per_second", count / seconds))
    for batch in (1, 4, 8, 16):

        def decode(steps: int, sequences: int = batch) -> None:
            engine.generate([Request(prompt_ids=ids[9 * i : 9 * i + 32], max_tokens=steps) for i in range(sequences)])

        seconds = _best(lambda run=decode: run(STEPS)) - _best(lambda run=decode: run(1))
        rows.append(Row("engine", f"decode_batch_{batch}_ms_per_step", 1000 * seconds / (STEPS - 1)))
        rows.append(Row("engine", f"decode_batch_{batch}_tokens_per_second", batch * (STEPS - 1) / seconds))
    prompts, targets = [ids[i * 400 : i * 400 + 300] for i in range(4)], [ids[i * 400 + 300 : i * 400 + 320] for i in range(4)]
    rows.append(Row("engine", "score_tokens_per_second", 4 * 320 / _best(lambda: engine.score(prompts, targets))))
    return rows, {"parameters": engine.model.config.num_parameters}


def quantization(folder: Path, work: Path) -> tuple[list[Row], dict[str, Any]]:
    """Loss of each way to choose scales."""
    from apprentice.quantize.calibration import Moments, calibrate
    from apprentice.quantize.convert import QuantizeConfig, convert
    from apprentice.text.tokenizer import Tokenizer

    tokenizer = Tokenizer.load(folder)
    library = Path(shutil.__file__).parent
    texts = [tokenizer.encode((library / f"{name}.py").read_text())[500:1012] for name in CALIBRATION]
    tests = [tokenizer.encode(path.read_text())[: CONTEXT + SCORED] for path in sorted((ROOT / "src").rglob("*.py"))]
    tests = [ids for ids in tests if len(ids) == CONTEXT + SCORED][:TEST_FILES]
    plain = _bits(folder, tests)
    rows = [Row("bf16", "bits_per_token", float(np.mean(plain)))]
    started = time.perf_counter()
    matrices = calibrate(folder, texts, max_tokens=CALIBRATION_TOKENS)
    rows.append(Row("feedback", "calibration_seconds", time.perf_counter() - started))
    diagonals = calibrate(folder, texts, max_tokens=CALIBRATION_TOKENS, matrix_bytes=0)
    ways: dict[str, tuple[QuantizeConfig, Moments | None]] = {
        "amax_over_6": (QuantizeConfig(search=False), None),
        "search": (QuantizeConfig(), None),
        "mean_squares": (QuantizeConfig(), diagonals),
        "feedback": (QuantizeConfig(), matrices),
    }
    for name, (config, moments) in ways.items():
        started = time.perf_counter()
        report = convert(folder, work / name, config, moments=moments)
        rows.append(Row(name, "convert_seconds", time.perf_counter() - started))
        lost = np.subtract(_bits(work / name, tests), plain)
        error = 1.96 * float(np.std(lost)) / len(lost) ** 0.5
        mean = float(np.mean(lost))
        rows.append(Row(name, "bits_per_token_lost", mean, mean - error, mean + error))
        rows.append(Row(name, "relative_error", report.relative_error))
    return rows, {"files": len(tests), "tokens": SCORED * len(tests), "calibration_tokens": CALIBRATION_TOKENS}


def _bits(folder: Path, tests: list[list[int]]) -> list[float]:
    """Mean bits a token of each file."""
    from apprentice.engine.loader import load_weights
    from apprentice.engine.model import NumpyModel
    from apprentice.text import decoding

    model = NumpyModel(load_weights(folder))
    scores = decoding.score(model, [ids[:CONTEXT] for ids in tests], [ids[CONTEXT:] for ids in tests])
    return [-float(np.mean(score.model_log_probs)) / float(np.log(2)) for score in scores]


def _best(work: Callable[[], object]) -> float:
    seconds: list[float] = []
    for _ in range(3):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


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
    from apprentice.model import base

    parser = argparse.ArgumentParser(prog="benchmarks/run engine")
    parser.add_argument("--base", default=base.DEFAULT)
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
    code = 0

    def wanted(name: str) -> bool:
        return fnmatch.fnmatch(name, options.cells)

    library = native.load()
    if library is None:
        sys.stderr.write(f"warning: no cells `kernels-*`: {native.why_missing()}\nhint: {native.how_to_mend()}\n")
        code = 1
    else:
        kernels = KernelCells(
            library, options.variant or library.variant, repeats=2 if options.trial else options.repeats,
            layers=3 if options.trial else None,
        )  # fmt: skip
        for name, work in kernels.cells():
            if wanted(name):
                _forget_other_kernels(benchmark.folder / f"{name}.json")
                _show(benchmark.cell(name, work), as_json=options.json)
    if options.trial:
        return code
    from apprentice.model import base

    label = Path(options.base).name
    if wanted(f"{label}-quantization"):
        folder = base.resolve(options.base)
        _show(benchmark.cell(f"{label}-quantization", lambda: quantization(folder, benchmark.work / label)), as_json=options.json)
    if wanted(f"{label}-speed"):
        _show(benchmark.cell(f"{label}-speed", lambda: speed(benchmark.work / label / "feedback")), as_json=options.json)
    return code


def _forget_other_kernels(path: Path) -> None:
    """The harness looks at Python files; this cell depends on the native ones too."""
    if path.is_file() and json.loads(path.read_text())["details"].get("native_sources") != roofline.native_hash():
        path.unlink()


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
