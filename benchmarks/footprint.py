"""How long until a server's first token, and how much memory does it take beside the file of its model?

    benchmarks/run footprint --model FOLDER      a quantized folder, such as .apprentice/runs/0001/quantized

`program` serves the `debug` model, which has next to no weights and no large vocabulary: what any server takes. `half-billion` are
random weights in the shape of Qwen2.5-Coder-0.5B, in NVFP4. Files are in the system's cache: they have been read before.

    first_token_s        from the start of the process until the first piece of a completion
    packing_s            the same where nothing is kept of an earlier start, so that weights are packed first
    memory_mb            of the process then, pages shared with others counted by their part (PSS)
    with_1000_mb         after a prompt of 1,000 tokens and 24 more, which stay in the cache
    cache_mb             what those 1,024 tokens take in it (16 bits a value)
    peak_mb              the most until then, with the mapped pages of the file (VmHWM)
    file_mb              the weights on disk
    times_file           (memory_mb - program's) / file_mb
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from apprentice.model import base
from apprentice.model.config import read_config
from benchmarks.harness import Benchmark, Row
from benchmarks.serving import CONTEXT, NEW_TOKENS, SERVER, Client, half_billion, running

REPEATS = 5
MB = 1e6
PROMPT = "def mean(values: list[float]) -> float:\n    return"


def main(arguments: list[str]) -> int:
    """See the top of this file."""
    parser = argparse.ArgumentParser(prog="benchmarks/run footprint")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    result = Benchmark("footprint").cell("footprint", lambda: work(options.model), runs=SERVER)
    for row in result["rows"]:
        spread = "" if row["low"] is None else f" ({row['low']:.2f} to {row['high']:.2f})"
        print(json.dumps(row) if options.json else f"{row['arm']:14s} {row['metric']:16s} {row['value']:8.2f}{spread}")
    return 0


def work(model: Path) -> tuple[list[Row], dict[str, Any]]:
    """Each server started REPEATS times, one after another; what they keep lies in a folder of its own."""
    large = Benchmark("serving").work / "half-billion"
    if not (large / "config.json").is_file():
        half_billion(large.parent)
    folders = {"program": base.resolve("debug"), "model": model, "half-billion": large}
    with tempfile.TemporaryDirectory(dir=large.parent) as cache:
        os.environ[base.CACHE_VARIABLE] = cache
        runs = {name: runs_of(folder, Path(cache)) for name, folder in folders.items()}
    rows: list[Row] = []
    for name, folder in folders.items():
        found = {metric: [run[metric] for run in runs[name]] for metric in runs[name][0]}
        rows += [Row(name, metric, statistics.median(values), min(values), max(values)) for metric, values in found.items()]
        file_mb = sum(path.stat().st_size for path in folder.glob("*.safetensors")) / MB
        rows += [Row(name, "cache_mb", cache_mb(folder)), Row(name, "file_mb", file_mb)]
        if name != "program":
            beside = statistics.median(run["memory_mb"] for run in runs["program"])
            rows.append(Row(name, "times_file", (statistics.median(found["memory_mb"]) - beside) / file_mb))
    return rows, {"runs": runs}


def runs_of(folder: Path, cache: Path) -> list[dict[str, float]]:
    """Of a first start and one more, each time."""
    # Reads the files.
    started(folder)
    runs = []
    for _ in range(REPEATS):
        shutil.rmtree(cache / "packed", ignore_errors=True)
        packing_s = started(folder)["first_token_s"]
        # Nobody keeps the small one of `program`.
        assert any((cache / "packed").glob("*")) or folder.name == "debug", "there is no room on the disk"
        runs.append({"packing_s": packing_s, **started(folder)})
    return runs


def started(folder: Path) -> dict[str, float]:
    """One server's figures."""
    before, start = set(children()), time.perf_counter()
    with running(folder) as url:
        (process,) = set(children()) - before
        asked = {"prompt": PROMPT, "max_tokens": 4, "temperature": 0}
        next(iter(Client(url).stream("/completions", asked)))
        seconds, memory = time.perf_counter() - start, memory_mb(process)
        Client(url).ask("POST", "/completions", {"prompt": [100 + i % 100 for i in range(CONTEXT)], "max_tokens": NEW_TOKENS})
        peak = _kilobytes(Path(f"/proc/{process}/status"), "VmHWM")
        return {"first_token_s": seconds, "memory_mb": memory, "with_1000_mb": memory_mb(process), "peak_mb": peak * 1024 / MB}


def cache_mb(folder: Path) -> float:
    """Keys and values of the tokens that were read and made."""
    shape = read_config(folder)
    return (CONTEXT + NEW_TOKENS) * shape.num_layers * 2 * shape.num_kv_heads * shape.head_size * 2 / MB


def children() -> Iterator[int]:
    """Processes that this one has started."""
    for task in Path("/proc/self/task").iterdir():
        yield from map(int, (task / "children").read_text().split())


def memory_mb(process: int) -> float:
    return _kilobytes(Path(f"/proc/{process}/smaps_rollup"), "Pss") * 1024 / MB


def _kilobytes(path: Path, name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB", path.read_text(), re.MULTILINE)
    assert found, path
    return int(found[1])
