"""What do four bits cost a model, and how much of it does each way of choosing them save?

    benchmarks/run quantization [--base smollm2] [--cells '*'] [--json]

One cell for each way: `amax_over_6` and `search` look at the weights alone; `feedback` (GPTQ) and `corrected` (besides, each
matrix makes up for the errors of the layers below) are fitted to text, TOKENS tokens unless the name says another number.
`native` is `corrected` once more, on the native operators, which round activations and the head to 8 bits.

Text to fit to: modules of Python's standard library. Text to measure on: this project's own source, which no base has seen;
its hash is kept. Figures are differences to the same model unquantized, over the same tokens: bits a token, and KL divergence
of the next-token distributions in bits; intervals are 1.96 standard errors over files.
"""

from __future__ import annotations

import argparse
import fnmatch
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from apprentice.engine.engine import Engine
from apprentice.engine.loader import load_weights
from apprentice.engine.model import EngineConfig, NumpyModel
from apprentice.engine.native import NativeModel
from apprentice.model import base
from apprentice.quantize.calibration import DEFAULT_TOKENS, fit
from apprentice.quantize.convert import QuantizeConfig, convert
from apprentice.text.decoding import Feed
from apprentice.text.tokenizer import Tokenizer
from benchmarks.harness import ROOT, Benchmark, Row

WAYS = ("amax_over_6", "search", "feedback", "corrected", "corrected-16384", "native")
TOKENS = DEFAULT_TOKENS
PIECE = 512
TEST_FILES, TEST_PIECE, CONTEXT = 24, 400, 100


class Measure:
    """The unquantized model's predictions, and how far others are from them."""

    def __init__(self, folder: Path) -> None:
        tokenizer = Tokenizer.load(folder)
        texts = [tokenizer.encode(path.read_text())[:TEST_PIECE] for path in sorted((ROOT / "src").rglob("*.py"))]
        self.tests = [ids for ids in texts if len(ids) == TEST_PIECE][:TEST_FILES]
        self.hash = hashlib.sha256(json.dumps(self.tests).encode()).hexdigest()[:12]
        self._expected = list(self._predictions(NumpyModel(load_weights(folder), EngineConfig(prefix_cache_mib=0))))

    def rows(self, arm: str, model: NumpyModel | NativeModel) -> list[Row]:
        lost: list[float] = []
        far: list[float] = []
        plain: list[float] = []
        for ids, expected, found in zip(self.tests, self._expected, self._predictions(model), strict=True):
            at = np.arange(len(expected)), np.array(ids[CONTEXT + 1 :])
            plain.append(-float(expected[at].mean()) / np.log(2))
            lost.append(float((expected[at] - found[at]).mean()) / np.log(2))
            far.append(float((np.exp(expected) * (expected - found)).sum(axis=1).mean()) / np.log(2))
        return [
            _row(arm, "bits_per_token_lost", lost),
            _row(arm, "kl_bits_per_token", far),
            Row(arm, "lost_of_all_bits", float(np.mean(lost) / np.mean(plain))),
        ]

    def _predictions(self, model: NumpyModel | NativeModel) -> Any:
        """Natural log-probabilities behind the context of each text, halves to save memory."""
        for ids in self.tests:
            rows = TEST_PIECE - CONTEXT - 1
            yield model.forward([Feed(ids[:-1], rows)])[0].log_probs_TV.astype(np.float16).astype(np.float32)


def _row(arm: str, metric: str, values: Sequence[float]) -> Row:
    error = 1.96 * float(np.std(values)) / len(values) ** 0.5
    mean = float(np.mean(values))
    return Row(arm, metric, mean, mean - error, mean + error)


def calibration_text(folder: Path) -> list[list[int]]:
    """Pieces of modules that are in every Python, mixed."""
    tokenizer = Tokenizer.load(folder)
    paths = sorted(path for path in Path(shutil.__file__).parent.glob("*.py") if path.stat().st_size > 12_000)
    order = np.random.default_rng(0).permutation(len(paths))
    return [tokenizer.encode(paths[i].read_text())[500 : 500 + PIECE] for i in order]


def work(way: str, folder: Path, target: Path, measure: Callable[[], Measure]) -> tuple[list[Row], dict[str, Any]]:
    """Quantizes and measures."""
    started = time.perf_counter()
    source = way if way != "native" else "corrected"
    out = target / source
    if way != "native" or not (out / "config.json").is_file():
        fitted = None
        if source.startswith(("feedback", "corrected")):
            tokens = int(source.partition("-")[2] or TOKENS)
            fitted = fit(folder, calibration_text(folder), max_tokens=tokens, correct=source != "feedback")
        shutil.rmtree(out, ignore_errors=True)
        convert(folder, out, QuantizeConfig(search=way != "amax_over_6"), fitted=fitted)
    seconds = time.perf_counter() - started
    model = Engine.load(out, EngineConfig(prefix_cache_mib=0, backend="native" if way == "native" else "numpy")).model
    seen = measure()
    return [*seen.rows(way, model), Row(way, "seconds", seconds)], {"tests": seen.hash, "files": len(seen.tests)}


def main(arguments: list[str]) -> int:
    """See the top of this file."""
    parser = argparse.ArgumentParser(prog="benchmarks/run quantization")
    parser.add_argument("--base", default=base.DEFAULT)
    parser.add_argument("--cells", default="*")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    benchmark = Benchmark("quantization")
    folder = base.resolve(options.base)
    known: list[Measure] = []

    def measure() -> Measure:
        if not known:
            known.append(Measure(folder))
        return known[0]

    for way in WAYS:
        cell = f"{Path(options.base).name}-{way}"
        if fnmatch.fnmatch(cell, options.cells):
            result = benchmark.cell(cell, lambda way=way: work(way, folder, benchmark.work / Path(options.base).name, measure))
            for row in result["rows"]:
                print(json.dumps({"cell": cell, **row}) if options.json else _line(row))
    return 0


def _line(row: dict[str, Any]) -> str:
    spread = "" if row["low"] is None else f" ({row['low']:.4f} to {row['high']:.4f})"
    return f"{row['arm']:16s} {row['metric']:20s} {row['value']:8.4f}{spread}"
