"""How long until help stands there, and until a server answers?

    benchmarks/run startup --model FOLDER      a quantized folder, such as .apprentice/runs/0001/quantized
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from apprentice.core import artifacts
from benchmarks.harness import Benchmark, Row
from benchmarks.serving import SERVER, running

REPEATS = 11
HEAVY = ("torch", "numpy", "pyarrow", "transformers", "scipy")


def main(arguments: list[str]) -> int:
    """See the top of this file."""
    parser = argparse.ArgumentParser(prog="benchmarks/run startup")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    benchmark = Benchmark("startup")

    def work() -> tuple[list[Row], dict[str, Any]]:
        helps = [_help_s() for _ in range(REPEATS + 1)][1:]
        serves = [_serve_s(options.model) for _ in range(REPEATS // 2 + 1)][1:]
        rows = [_row("help", "wall_s", helps), _row("serve", "answers_after_s", serves)]
        model = artifacts.read(options.model).counts if artifacts.is_finished(options.model) else {}
        return rows, {"help_s": helps, "serve_s": serves, "heavy_modules_of_help": _heavy(), "model": model}

    for row in benchmark.cell("startup", work, runs=SERVER)["rows"]:
        low, high = row["low"], row["high"]
        print(json.dumps(row) if options.json else f"{row['arm']}: {row['value']:.2f} s, {low:.2f} to {high:.2f}")
    return 0


def _row(arm: str, metric: str, seconds: list[float]) -> Row:
    """Median, least and most."""
    return Row(arm, metric, round(statistics.median(seconds), 3), round(min(seconds), 3), round(max(seconds), 3))


def _help_s() -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "apprentice", "--help"], check=True, capture_output=True)
    return round(time.perf_counter() - start, 3)


def _heavy() -> list[str]:
    """Heavy modules that help loads."""
    code = f"import sys, apprentice.cli.main as m; m.run(['--help']); sys.stderr.write(' '.join(x for x in {HEAVY} if x in sys.modules))"
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stderr.split()


def _serve_s(model: Path) -> float:
    """From the start of the process until `/v1/models` answers."""
    start = time.perf_counter()
    with running(model):
        return round(time.perf_counter() - start, 3)
