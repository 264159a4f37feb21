"""How fast does a whole model read prompts and generate, ours and llama.cpp, the same weights side by side?

    benchmarks/run decoding --quantized FOLDER --base FOLDER [--llama PYTHON --gguf FILE [--converter SCRIPT]]
                            [--vllm PYTHON] [--cells 'batch*'] [--threads 2]

Arms: `nvfp4` is the quantized folder on the native engine, `bf16` and `float32` the base on the same engine (its weights
stored so), `numpy` the reference. With `--llama`, a Python that has llama-cpp-python, also llama.cpp with the GGUF file
brought to each of KINDS by its own quantizer (`peers/llama.py`), and with `--converter`, its convert_hf_to_gguf.py, the
quantized folder itself as `llama_nvfp4`: the same codes and scales as `nvfp4`. With `--vllm`, a Python that has vLLM's CPU build,
the base in BF16 and in float32 there (`peers/vllm_cpu.py`). All arms stay open; they take turns within a repeat, and a
figure is the median over repeats, beside its spread. A cell is one batch, context or prompt: prompts of random tokens, then
steps that each answer with all log-probabilities. Ratios are of medians of the same cell. `neighbour` is one sequence beside
a process that keeps one core busy: the share of its own speed that each arm keeps. With as many threads as cores, three
runnable threads on two cores leave each two thirds of one: 0.67 is the fair share there.

Some hosts move the two cores about while we measure (`benchmarks/cores.py`): `..._near` and `..._far` are the medians over the repeats
before and behind which the cores shared a cache, or did not, and `details` says how far apart they were at each.

`APPRENTICE_NATIVE=avx2` makes our arms run on those operators; its cells are called `batch-8-avx2` and so on.
"""

from __future__ import annotations

import argparse
import contextlib
import fnmatch
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from apprentice.core import files, machine
from apprentice.engine.engine import Engine
from apprentice.engine.model import EngineConfig
from apprentice.kernels import native
from apprentice.model import weights
from apprentice.text.decoding import Feed
from benchmarks import cores, roofline
from benchmarks.harness import Benchmark, Row

KINDS = {"llama_f32": 0, "llama_bf16": 32, "llama_q4_0": 2, "llama_q4_1": 3, "llama_q8_0": 7}
"""`llama_ftype` of llama.h."""
PEERS = Path(__file__).parent / "peers"
BATCHES = (1, 2, 4, 8, 16)
SHORT, LONG = 128, 1000
PROMPTS = (128, 512, 1024, 4096)
STEPS = {1: 32, 2: 24, 4: 16, 8: 12, 16: 8}


class Arm(Protocol):
    """Seconds that each kind of work takes."""

    def prefill(self, tokens: int) -> float: ...
    def decode(self, sequences: int, context: int, steps: int) -> float: ...


class Ours:
    """A folder on our engine."""

    def __init__(self, folder: Path, threads: int, backend: Any = "native") -> None:
        config = EngineConfig(threads=threads, prefix_cache_mib=0, backend=backend)
        self._model: Any = Engine.load(folder, config).model
        self._random = random.Random(0)

    def _tokens(self, count: int) -> list[int]:
        return [self._random.randrange(self._model.config.vocab_size) for _ in range(count)]

    def prefill(self, tokens: int) -> float:
        prompt, cache = self._tokens(tokens), self._model.new_cache(tokens)
        started = time.perf_counter()
        self._model.forward([Feed(prompt, 1, cache)])
        return time.perf_counter() - started

    def decode(self, sequences: int, context: int, steps: int) -> float:
        caches = [self._model.new_cache(context + steps + 1) for _ in range(sequences)]
        for cache in caches:
            self._model.forward([Feed(self._tokens(context), 1, cache)])
        self._model.forward([Feed([7], 1, cache) for cache in caches])
        started = time.perf_counter()
        for _ in range(steps):
            self._model.forward([Feed(self._tokens(1), 1, cache) for cache in caches])
        return time.perf_counter() - started


class Peer:
    """A model on another engine, in a process of its own."""

    def __init__(self, python: Path, script: str, path: Path, threads: int, **more: object) -> None:
        # As it is started by hand: that our process lets threads sleep while they wait costs llama.cpp two thirds.
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
        self._process = subprocess.Popen(
            [python, PEERS / script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        sizes = {"sequences": max(BATCHES), "context": max(PROMPTS) // 4}
        opened = self.ask(do="open", path=str(path), threads=threads, **sizes, **more)
        self.version = opened["version"]

    def ask(self, **question: object) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def prefill(self, tokens: int) -> float:
        return self.ask(do="prefill", tokens=tokens)["seconds"]

    def decode(self, sequences: int, context: int, steps: int) -> float:
        return self.ask(do="decode", sequences=sequences, context=context, steps=steps)["seconds"]


def cells(arms: Mapping[str, Arm], repeats: int) -> dict[str, Callable[[], tuple[list[Row], dict[str, Any]]]]:
    """Name -> work."""
    found: dict[str, Callable[[], tuple[list[Row], dict[str, Any]]]] = {}
    for batch in BATCHES:
        found[f"batch-{batch}"] = lambda n=batch: measured(arms, repeats, lambda arm: n * STEPS[n] / arm.decode(n, SHORT, STEPS[n]))
    found["context-1000"] = lambda: measured(arms, repeats, lambda arm: STEPS[1] / arm.decode(1, LONG, STEPS[1]))
    for prompt in PROMPTS:
        found[f"prompt-{prompt}"] = lambda n=prompt: measured(arms, repeats, lambda arm: n / arm.prefill(n))
    found["neighbour"] = lambda: disturbed(arms, repeats)
    return found


def disturbed(arms: Mapping[str, Arm], repeats: int) -> tuple[list[Row], dict[str, Any]]:
    """Share of its speed that each arm keeps beside a busy process: median, lowest, highest."""
    kept: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(repeats):
        for name, arm in arms.items():
            alone = arm.decode(1, SHORT, STEPS[1])
            with busy():
                kept[name].append(alone / arm.decode(1, SHORT, STEPS[1]))
    rows = [Row(name, "speed_kept", statistics.median(shares), min(shares), max(shares)) for name, shares in kept.items()]
    return rows, {"repeats": repeats}


@contextlib.contextmanager
def busy() -> Iterator[None]:
    """A process that computes without a pause."""
    with subprocess.Popen([sys.executable, "-c", "print(flush=True)\nwhile True: pass"], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield
        finally:
            process.kill()


def measured(
    arms: Mapping[str, Arm], repeats: int, rate: Callable[[Arm], float], distance: Callable[[], float | None] = cores.distance_ns
) -> tuple[list[Row], dict[str, Any]]:
    """Tokens a second of each arm: median, lowest, highest; and ratios of NVFP4 to every other."""
    seen: dict[str, list[tuple[float, str | None]]] = {name: [] for name in arms}
    loads: list[Any] = []
    apart: list[float | None] = []
    for _ in range(repeats):
        loads.append(machine.look().load)
        apart.append(distance())
        for name, arm in arms.items():
            found = rate(arm)
            apart.append(distance())
            seen[name].append((found, cores.place(*apart[-2:])))
    rows: list[Row] = []
    for ending, places in {"": ("near", "far", None), "_near": ("near",), "_far": ("far",)}.items():
        chosen = {name: [one for one, place in rates if place in places] for name, rates in seen.items()}
        rows += summary({name: rates for name, rates in chosen.items() if rates}, ending)
    return rows, {"loads": loads, "repeats": repeats, "core_to_core_ns": apart}


def summary(seen: Mapping[str, list[float]], ending: str) -> list[Row]:
    """Of the arms that were measured."""
    middle = {name: statistics.median(rates) for name, rates in seen.items()}
    rows = [Row(name, f"tokens_per_second{ending}", middle[name], min(rates), max(rates)) for name, rates in seen.items()]
    if "nvfp4" in middle:
        rows += [Row(f"nvfp4/{name}", f"ratio{ending}", middle["nvfp4"] / value) for name, value in middle.items() if name != "nvfp4"]
    return rows


def folders(benchmark: Benchmark, base: Path) -> dict[str, Path]:
    """The base stored in each precision."""
    found = {}
    for name in ("bf16", "float32"):
        found[name] = benchmark.work / name
        if not (found[name] / "config.json").is_file():
            dtype: Any = "bfloat16" if name == "bf16" else name
            weights.save(weights.load(base), found[name], dtype=dtype, tokenizer_folder=base)
    return found


def converted(script: Path, quantized: Path, target: Path) -> Path:
    """Our folder as llama.cpp reads it, by its own converter, which needs torch, transformers, sentencepiece and its gguf."""
    paths = [str(script.parent / "gguf-py"), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, script, quantized, "--outfile", target]
    subprocess.run(command, check=True, capture_output=True, env=environment)
    return target


def main(arguments: list[str]) -> int:
    """See the top of this file."""
    parser = argparse.ArgumentParser(prog="benchmarks/run decoding")
    parser.add_argument("--quantized", type=Path, required=True)
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--llama", type=Path, help="a Python with llama-cpp-python")
    parser.add_argument("--gguf", type=Path, help="the base as GGUF")
    parser.add_argument("--vllm", type=Path, help="a Python with vLLM's CPU build")
    parser.add_argument("--cells", default="*")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=machine.cores())
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--converter", type=Path, help="llama.cpp's convert_hf_to_gguf.py, beside its other files")
    options = parser.parse_args(arguments)
    benchmark = Benchmark("decoding")
    arms: dict[str, Arm] = {"nvfp4": Ours(options.quantized, options.threads)}
    for name, folder in folders(benchmark, options.base).items():
        arms[name] = Ours(folder, options.threads)
    arms["numpy"] = Ours(options.quantized, options.threads, "numpy")
    if options.llama:
        for name, kind in KINDS.items():
            gguf = files.make_folder(benchmark.work) / f"{name}.gguf"
            if not gguf.is_file():
                question = json.dumps({"do": "quantize", "source": str(options.gguf), "target": str(gguf), "kind": kind})
                subprocess.run([options.llama, PEERS / "llama.py"], input=question + "\n", text=True, check=True, capture_output=True)
            arms[name] = Peer(options.llama, "llama.py", gguf, options.threads)
        if options.converter:
            gguf = converted(options.converter, options.quantized, benchmark.work / "llama_nvfp4.gguf")
            arms["llama_nvfp4"] = Peer(options.llama, "llama.py", gguf, options.threads)
    for dtype in ("bfloat16", "float32") if options.vllm else ():
        arms[f"vllm_{dtype}"] = Peer(options.vllm, "vllm_cpu.py", options.base, options.threads, dtype=dtype)
    variant = os.environ.get(native.SWITCH)
    for plain, work in cells(arms, options.repeats).items():
        name = f"{plain}-{variant}" if variant else plain
        if not fnmatch.fnmatch(name, options.cells):
            continue
        result = benchmark.cell(name, work, inputs=roofline.native_inputs)
        for row in result["rows"]:
            print(json.dumps({"cell": name, **row}) if options.json else _line(name, row))
    return 0


def _line(cell: str, row: dict[str, Any]) -> str:
    spread = "" if row["low"] is None else f" ({row['low']:.1f} to {row['high']:.1f})"
    return f"{cell:14s} {row['arm']:20s} {row['metric']:18s} {row['value']:10.2f}{spread}"
