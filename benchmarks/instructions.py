"""How many instructions does a token take, ours and llama.cpp, and where? Counted, so a busy machine counts the same.

    benchmarks/run instructions --quantized FOLDER --base FOLDER [--llama PYTHON] [--cells 'nvfp4']

Each arm answers in a process of its own under valgrind's callgrind, with one thread (a second would be counted while it waits), with
AVX2 at most, for valgrind knows no more. Loading is not counted. Differences of two questions are: what fills a cache or clears it falls
out. Python's own instructions, its modules' and numpy's are left out: they ask, and the engine answers.

    instructions_one       millions a token, one sequence: steps 3 to 6 behind FIRST tokens
    instructions_eight     eight sequences, a token of one of them: steps 2 and 3
    instructions_prompt    a token of a prompt: the 64 behind its first 32

`details` has the functions that take most, millions a token. A cell is an arm. Models of llama.cpp are those that `benchmarks/run decoding
--llama` has made, so that comes first; its build has to be one for AVX2.
"""

from __future__ import annotations

import argparse
import collections
import fnmatch
import functools
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from apprentice.core.errors import InputError
from apprentice.kernels import native
from benchmarks.decoding import KINDS, PEERS, Ours, folders
from benchmarks.harness import ROOT, Benchmark, Row

FIRST = 8
SEQUENCES, ROOM = 8, 128
QUESTIONS: Mapping[str, tuple[dict[str, Any], dict[str, Any], int]] = {
    "one": (
        {"do": "decode", "sequences": 1, "context": FIRST, "steps": 2}, {"do": "decode", "sequences": 1, "context": FIRST, "steps": 6}, 4,
    ),
    "eight": (
        {"do": "decode", "sequences": 8, "context": FIRST, "steps": 1}, {"do": "decode", "sequences": 8, "context": FIRST, "steps": 3}, 16,
    ),
    "prompt": ({"do": "prefill", "tokens": 32}, {"do": "prefill", "tokens": 96}, 64),
}  # fmt: skip
"""Metric -> what is asked first, what is asked then, and how many tokens the second has more."""
FUNCTIONS = 8
"""Told of each question."""
ASKS = re.compile(r"^python|^libpython|\.cpython-|^libffi|^ld-|^\?\?\?")
"""Objects whose instructions are of the asking, not of the engine."""

Counts = collections.Counter[str]
"""Function -> instructions of its own."""


class Counted:
    """An arm under callgrind: the instructions of each answer."""

    def __init__(self, command: list[str | Path], folder: Path) -> None:
        self._out = folder / "counts"
        valgrind = ["valgrind", "-q", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={self._out}"]
        self._process = subprocess.Popen([*valgrind, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._dumps = 0

    def open(self, **question: object) -> None:
        self._ask({"do": "open", **question})
        self._tell("instrumentation", "on")

    def counts(self, question: Mapping[str, object]) -> Counts:
        self._ask(question)
        self._tell("dump")
        self._dumps += 1
        return read_counts(self._out.with_name(f"{self._out.name}.{self._dumps}").read_text().splitlines())

    def close(self) -> None:
        self._process.communicate()

    def _ask(self, question: Mapping[str, object]) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        if not self._process.stdout.readline():
            raise InputError("the counted process has ended", hint="what it said stands above")

    def _tell(self, *words: str) -> None:
        subprocess.run(["vgdb", f"--pid={self._process.pid}", *words], check=True, capture_output=True)


def read_counts(lines: Iterable[str]) -> Counts:
    """Of a file of callgrind: what each function of the engine took by itself.

    Source: https://valgrind.org/docs/manual/cl-format.html. Names are written once, then only their number in brackets; the
    line behind `calls=` is what the called function took, which is told with that function too."""
    names: dict[str, dict[str, str]] = {"fn": {}, "ob": {}}
    here = {"fn": "", "ob": ""}
    found, is_of_called = Counts(), False
    for line in lines:
        key, equals, value = line.partition("=")
        if equals and key in {"fn", "ob", "cfn", "cob"}:
            number, _, name = value.partition(" ")
            known = names[key[-2:]]
            name = known.setdefault(number, name)
            if key in here:
                here[key] = name if key == "ob" else _without_parameters(name)
        elif key == "calls":
            is_of_called = True
        elif line[:1].isdigit() or line[:1] in {"+", "-", "*"}:
            if not is_of_called and not ASKS.search(here["ob"].rpartition("/")[2]):
                found[here["fn"]] += int(line.split()[1])
            is_of_called = False
    return found


def _without_parameters(name: str) -> str:
    return name.replace("(anonymous namespace)::", "").partition("(")[0]


def work(name: str, command: list[str | Path], opened: Mapping[str, object]) -> tuple[list[Row], dict[str, Any]]:
    """Every question once: the counts are the same each time."""
    rows: list[Row] = []
    told: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        arm = Counted(command, Path(folder))
        arm.open(**opened)
        for what, (first, second, tokens) in QUESTIONS.items():
            more = arm.counts(second)
            more.subtract(arm.counts(first))
            rows.append(Row(name, f"instructions_{what}", more.total() / tokens / 1e6))
            told[what] = {function: round(count / tokens / 1e6, 2) for function, count in more.most_common(FUNCTIONS)}
        arm.close()
    return rows, {"functions": told}


def answer() -> None:
    """The counted process of our own arms: as `peers/llama.py`, a line of JSON for a line of JSON."""
    arm: Ours | None = None
    for line in sys.stdin:
        asked = json.loads(line)
        what = asked.pop("do")
        if what == "open":
            arm = Ours(Path(asked["path"]), asked["threads"])
        else:
            getattr(arm, what)(**asked)
        print("{}", flush=True)


def main(arguments: list[str]) -> int:
    """See the top of this file."""
    parser = argparse.ArgumentParser(prog="benchmarks/run instructions")
    parser.add_argument("--quantized", type=Path, required=True)
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--llama", type=Path, help="a Python with llama-cpp-python, built for AVX2")
    parser.add_argument("--cells", default="*")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    if (library := native.load()) and "avx2" in library.usable and library.variant != "avx2":
        raise InputError("valgrind has no AVX-512", hint=f"{native.SWITCH}=avx2 benchmarks/run instructions ...")
    benchmark, made = Benchmark("instructions", variant=""), Benchmark("decoding")
    ours: list[str | Path] = [sys.executable, "-c", "from benchmarks.instructions import answer; answer()"]
    arms: dict[str, tuple[list[str | Path], Path]] = {"nvfp4": (ours, options.quantized), "bf16": (ours, folders(made, options.base)["bf16"])}
    for name in (*KINDS, "llama_nvfp4") if options.llama else ():
        arms[name] = [options.llama, PEERS / "llama.py"], made.work / f"{name}.gguf"
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])])
    for name, (command, path) in arms.items():
        if not fnmatch.fnmatch(name, options.cells):
            continue
        if not path.exists():
            raise InputError(f"{path}: not there", hint="`benchmarks/run decoding --llama ...` makes the models of llama.cpp")
        # Ours take as many sequences as there is memory for.
        opened = {"path": str(path), "threads": 1, **({"sequences": SEQUENCES, "context": ROOM} if command is not ours else {})}
        result = benchmark.cell(name, functools.partial(work, name, command, opened))
        for row in result["rows"]:
            print(json.dumps({"cell": name, **row}) if options.json else f"{name:12s} {row['metric']:22s} {row['value']:8.2f}")
    return 0

