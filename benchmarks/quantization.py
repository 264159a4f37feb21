"""What do four bits cost a model, and how much of it does each way of choosing them save?

    benchmarks/run quantization [--base smollm2] [--cells '*'] [--folder DIR] [--json]

One cell for each way: `amax_over_6` and `search` look at the weights alone; `feedback` (GPTQ) and `corrected` (besides, each
matrix makes up for the errors of the layers below) are fitted to TOKENS tokens of text; in `precise`, the default, a tenth of the
weights besides stay as they are, those that four bits hurt most. `native` is `precise` once more, on the native operators, which round
activations, the head and that tenth to 8 bits; `w4a4` with activations in NVFP4 as Blackwell's tensor cores read them. `mxfp4-` the
same in MXFP4. `distilled` starts from `precise` and trains all matrices together for DISTILL_STEPS steps (`train.distillation`), on
several times the text.

Text to fit to: modules of Python's standard library. Text to measure on: this project's own source, which no base has seen;
its hash is kept. Figures are differences to the same model unquantized, over the same tokens: bits a token, and KL divergence
of the next-token distributions in bits; intervals are 1.96 standard errors over files.

`edits` asks what four bits cost where the model works: at places of real edits of httpx's newest commits (`--folder` as in
`benchmarks/run learning`), fitted to its older ones, with and without distillation on them, native operators for all, bits per changed character and exact lines.
"""

from __future__ import annotations

import argparse
import dataclasses
import fnmatch
import hashlib
import itertools
import json
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from apprentice.core import artifacts, files
from apprentice.core.progress import Progress
from apprentice.engine.engine import Engine
from apprentice.engine.loader import load_weights
from apprentice.engine.model import EngineConfig, NumpyModel
from apprentice.engine.native import NativeModel
from apprentice.eval.comparison import Comparison
from apprentice.eval.measures import METRICS
from apprentice.eval.samples import LIKELIHOOD, LINE, Samples
from apprentice.eval.statistics import Resampling
from apprentice.kernels.formats import FORMATS, Name
from apprentice.learn.compare import Contestant
from apprentice.learn.opening import open_model, weights_hash
from apprentice.learn.stages import quantize
from apprentice.memory.gate import Gate
from apprentice.model import base
from apprentice.quantize.calibration import DEFAULT_TOKENS, fit, replaced
from apprentice.quantize.convert import QuantizeConfig, convert
from apprentice.quantize.report import Distillation
from apprentice.quantize.sensitivity import measure as measure_groups
from apprentice.quantize.sensitivity import most_sensitive
from apprentice.text.decoding import Feed
from apprentice.text.tokenizer import Tokenizer
from apprentice.train.distillation import DistillConfig, distill
from apprentice.train.sft import SftConfig
from benchmarks.harness import ROOT, Benchmark, Row, imported_sources
from benchmarks.learning import READERS, Study


@dataclass(frozen=True, kw_only=True, slots=True)
class Way:
    """How a model is quantized and run."""

    format: Name = "nvfp4"
    search: bool = True
    is_fitted: bool = False
    correct: bool = True
    precise: bool = False
    is_distilled: bool = False
    runs: Literal["numpy", "native", "w4a4"] = "numpy"


WAYS = {
    "amax_over_6": Way(search=False),
    "search": Way(),
    "feedback": Way(is_fitted=True, correct=False),
    "corrected": Way(is_fitted=True),
    "precise": Way(is_fitted=True, precise=True),
    "distilled": Way(is_fitted=True, precise=True, is_distilled=True),
    "native": Way(is_fitted=True, precise=True, runs="native"),
    "w4a4": Way(is_fitted=True, precise=True, runs="w4a4"),
    "mxfp4-search": Way(format="mxfp4"),
    "mxfp4-corrected": Way(format="mxfp4", is_fitted=True),
    "mxfp4-precise": Way(format="mxfp4", is_fitted=True, precise=True),
    "mxfp4-native": Way(format="mxfp4", is_fitted=True, precise=True, runs="native"),
}
EDITS = "httpx"
TOKENS = DEFAULT_TOKENS
DISTILL_STEPS = 150
PIECE, PIECES = 512, 4
BESIDE = tuple(f"src/apprentice/{name}.py" for name in ("engine/calling_off", "engine/scheduler", "quantize/report_page"))
"""Who computes when, and how a report is drawn: no figure depends on it (tests hold the engine to that, bit for bit)."""
NOT_USED = BESIDE + tuple(f"src/apprentice/{name}/" for name in ("eval", "examples", "learn", "memory", "repository", "serve", "sessions", "train")) + (
    "benchmarks/learning.py", *(f"src/apprentice/text/{name}" for name in ("people.py", "redaction.py", "secret_", "token_formats.py")),
)
"""What all cells but `edits` do without."""
TRAINS = tuple(f"src/apprentice/train/{name}.py" for name in ("distillation", "losses", "numerics", "optimizer", "packing"))
"""What `distilled` needs of it."""
TEST_FILES, TEST_PIECE, CONTEXT = 24, 400, 100


class Measure:
    """The unquantized model's predictions, and how far others are from them."""

    def __init__(self, folder: Path, tests: Sequence[Sequence[int]]) -> None:
        self.tests = tests
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


def test_texts(folder: Path) -> list[list[int]]:
    """The beginnings of this project's files."""
    tokenizer = Tokenizer.load(folder)
    texts = [tokenizer.encode(path.read_text())[:TEST_PIECE] for path in sorted((ROOT / "src").rglob("*.py"))]
    return [ids for ids in texts if len(ids) == TEST_PIECE][:TEST_FILES]


def _is_used(path: str, *, distills: bool = True) -> bool:
    """Whether a cell other than `edits` depends on this file."""
    return not path.startswith(NOT_USED) or (distills and path in TRAINS)


def _digest(sources: Iterable[tuple[str, str]]) -> str:
    return hashlib.sha256(repr(list(sources)).encode()).hexdigest()[:12]


def _row(arm: str, metric: str, values: Sequence[float]) -> Row:
    error = 1.96 * float(np.std(values)) / len(values) ** 0.5
    mean = float(np.mean(values))
    return Row(arm, metric, mean, mean - error, mean + error)


def calibration_text(folder: Path) -> list[list[int]]:
    """Pieces of modules that are in every Python, mixed: the first of each module, then the second of each."""
    tokenizer = Tokenizer.load(folder)
    paths = sorted(path for path in Path(shutil.__file__).parent.glob("*.py") if path.stat().st_size > 12_000)
    order = np.random.default_rng(0).permutation(len(paths))
    texts = [tokenizer.encode(paths[i].read_text())[500 : 500 + PIECES * PIECE] for i in order]
    pieces = [text[at : at + PIECE] for at in range(0, PIECES * PIECE, PIECE) for text in texts]
    return [piece for piece in pieces if len(piece) > 1]


def work(name: str, folder: Path, target: Path, measure: Callable[[], Measure]) -> tuple[list[Row], dict[str, Any]]:
    """Quantizes and measures."""
    way, started, distillation = WAYS[name], time.perf_counter(), None
    config = QuantizeConfig(format=way.format, search=way.search, activations=way.is_fitted and way.format == "nvfp4")
    # Ways that differ only in how they run share a folder.
    kind = "distilled" if way.is_distilled else "precise" if way.precise else "corrected" if way.correct else "feedback"
    out = target / (f"{way.format}-{kind}" if way.is_fitted else name)
    if not (out / "config.json").is_file():
        fitted, kept, format = None, frozenset[str](), FORMATS[way.format]
        if way.is_fitted:
            text = calibration_text(folder)
            if way.precise:
                kept = most_sensitive(measure_groups(folder, text, format=format), config.precise_share)
            fitted = fit(folder, text, max_tokens=TOKENS, correct=way.correct, format=format, kept=kept)
            if way.is_distilled:
                done = distill(
                    folder, {name: one.packed for name, one in fitted.items()}, format, text, config=DistillConfig(steps=DISTILL_STEPS)
                )
                distillation = Distillation(steps=done.steps, kl_before=done.kl_before, kl_after=done.kl_after)
                fitted = replaced(fitted, done.packed, done.largest_inputs) if done.steps else fitted
        part = files.make_folder(out.parent) / f"{out.name}.part"
        shutil.rmtree(part, ignore_errors=True)
        convert(folder, part, config, fitted=fitted, kept=kept, distillation=distillation)
        part.rename(out)
    seconds = time.perf_counter() - started
    runs = EngineConfig(
        prefix_cache_mib=0, backend="native" if way.runs == "native" else "numpy",
        activations="nvfp4" if way.runs == "w4a4" else "own",
    )  # fmt: skip
    seen = measure()
    rows = seen.rows(name, Engine.load(out, runs).model)
    how = {} if distillation is None else {"distillation": msgspec.structs.asdict(distillation)}
    return [*rows, Row(name, "seconds", seconds)], {"files": len(seen.tests), **how}


def edits(folder: Path, study: Study, work: Path) -> tuple[list[Row], dict[str, Any]]:
    """The base in BF16 and in NVFP4, fitted and distilled besides, at places of real edits. `work`: of this code."""
    paths = {"bf16": folder}
    for name, config in (("nvfp4", None), ("nvfp4-distilled", DistillConfig(steps=DISTILL_STEPS))):
        paths[name] = files.make_folder(work) / name
        if not artifacts.is_finished(paths[name]):
            quantize.write(
                folder, paths[name], QuantizeConfig(), parents={}, progress=study.progress, examples=study.examples, distilling=config
            )
    # None of them has a memory, so no gate is asked.
    models = [
        Contestant(name=name, generator=open_model(path, study.tokenizer), source=weights_hash(path), gate=Gate.default(), gate_hash="")
        for name, path in paths.items()
    ]
    arms = [study.bench.arm(model, measures=(LIKELIHOOD, LINE)) for model in models]
    config = dataclasses.replace(study.config, measures=(LIKELIHOOD, LINE))
    samples = Samples(files.make_folder(work / "samples"))
    _, rows = study.bench.run(samples, models, arms, config)
    comparison = Comparison(rows, [arm.name for arm in arms], Resampling())
    found = [Row(row.arm, row.metric, row.value, row.low, row.high) for row in comparison.table()]
    pairs = (("nvfp4", "bf16"), ("nvfp4-distilled", "bf16"), ("nvfp4-distilled", "nvfp4"))
    for (arm, other), metric in itertools.product(pairs, METRICS):
        if difference := comparison.difference(arm, other, metric):
            found.append(Row(f"{arm}-{other}", metric, *difference.estimate.as_list()))
    return found, {"heldout": comparison.heldout()}


def main(arguments: list[str]) -> int:
    """See the top of this file."""
    parser = argparse.ArgumentParser(prog="benchmarks/run quantization")
    parser.add_argument("--base", default=base.DEFAULT)
    parser.add_argument("--cells", default="*")
    parser.add_argument("--folder", type=Path, help="of bare clones, for the cell `edits`")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    benchmark = Benchmark("quantization")
    folder = base.resolve(options.base)
    # What other code has quantized or answered is no result of this one.
    target = benchmark.work / Path(options.base).name / _digest(one for one in imported_sources() if _is_used(one[0]))
    known_paths = [path for path, _ in imported_sources()]
    texts = test_texts(folder)
    tests_hash = hashlib.sha256(json.dumps(texts).encode()).hexdigest()[:12]
    known: list[Measure] = []

    def measure() -> Measure:
        if not known:
            known.append(Measure(folder, texts))
        return known[0]

    for way in WAYS:
        cell = f"{Path(options.base).name}-{way}"
        if fnmatch.fnmatch(cell, options.cells):
            unused = tuple(path for path in known_paths if not _is_used(path, distills=WAYS[way].is_distilled))
            result = benchmark.cell(
                cell, lambda way=way: work(way, folder, target, measure), ignoring=unused, inputs=lambda: {"tests": tests_hash}
            )
            _show(cell, result, options.json)
    cell = f"{Path(options.base).name}-edits"
    if options.folder and fnmatch.fnmatch(cell, options.cells):
        with Progress() as progress:
            study = Study(Benchmark("learning"), options.folder, EDITS, dev=False, progress=progress, recipe=SftConfig())
            beside = READERS + BESIDE
            place = benchmark.work / cell / _digest(one for one in imported_sources() if not one[0].startswith(beside))
            result = benchmark.cell(cell, lambda: edits(folder, study, place), ignoring=beside, inputs=study.inputs)
        _show(cell, result, options.json)
    return 0


def _show(cell: str, result: dict[str, Any], as_json: bool) -> None:
    for row in result["rows"]:
        print(json.dumps({"cell": cell, **row}) if as_json else _line(row))


def _line(row: dict[str, Any]) -> str:
    spread = "" if row["low"] is None else f" ({row['low']:.4f} to {row['high']:.4f})"
    return f"{row['arm']:16s} {row['metric']:20s} {row['value']:8.4f}{spread}"
