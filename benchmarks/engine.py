"""How fast the numpy engine reads and writes, and what NVFP4 costs in bits a token, by way of choosing scales.

    benchmarks/run engine [--base smollm2] [--json]

Cells: `speed` (prefill, decode at several batch sizes, scoring; milliseconds and tokens a second, best of three) and
`quantization` (the same checkpoint quantized with amax / 6, with the search, with the inputs' mean squares, with error
feedback; loss in bits a token against the unquantized weights on code that calibration did not see). Calibration reads
modules of Python's standard library, the test is this project's own source.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from apprentice.core.protocols import Request
from apprentice.engine.engine import Engine
from apprentice.engine.loader import load_weights
from apprentice.engine.model import EngineConfig, NumpyModel
from apprentice.model import base
from apprentice.quantize.calibration import Moments, calibrate
from apprentice.quantize.convert import QuantizeConfig, convert
from apprentice.text import decoding
from apprentice.text.tokenizer import Tokenizer
from benchmarks.harness import ROOT, Benchmark, Row

CALIBRATION = ("argparse", "ast", "socket", "typing", "zipfile", "inspect", "shutil", "tarfile")
CALIBRATION_TOKENS = 4096
TEST_FILES = 24
CONTEXT, SCORED = 100, 300
STEPS = 24


def speed(folder: Path) -> tuple[list[Row], dict[str, Any]]:
    """Of a folder as it is loaded by `serve`."""
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


def main(arguments: list[str]) -> int:
    """See the top of this file."""
    parser = argparse.ArgumentParser(prog="benchmarks/run engine")
    parser.add_argument("--base", default=base.DEFAULT)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    folder = base.resolve(options.base)
    benchmark = Benchmark("engine")
    label = Path(options.base).name
    results = [
        benchmark.cell(f"{label}-quantization", lambda: quantization(folder, benchmark.work / label)),
        benchmark.cell(f"{label}-speed", lambda: speed(benchmark.work / label / "feedback")),
    ]
    for result in results:
        for row in result["rows"]:
            print(json.dumps(row) if options.json else f"{row['arm']:12s} {row['metric']:36s} {row['value']:.4g}")
    return 0
