"""What every benchmark shares: cells that are run once, results that say where they come from, staleness.

    cell(name, work) --> benchmarks/results/BENCHMARK/NAME.json, unless it is there and its code is unchanged

A result holds its rows (arm, metric, value, low, high), commit, machine, load, package versions, seed, and the hash of
every source file of the project that the run had imported, or that a process which it started imports: of its statements, without comments and docstrings; of native code, where
it had been loaded, what runs on that processor. A figure holds until one of these changes: `--stale` lists what must run again. Code whose whole effect lies in files that a cell is made
from can be left out, where the cell says what those files are (`inputs`): the next run looks whether they are the same. Work that outlives a kill (training, samples) lies under `.cache/benchmarks`, not here.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import json
import os
import pkgutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from apprentice.core import files, machine

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
WORK = ROOT / ".cache" / "benchmarks"
NOT_BENCHMARKS = {"harness"}
NATIVE = "src/apprentice/kernels/native"
VARIANTS = ("portable", "avx2", "avx512", "neon")
STORAGE = (
    *(f"src/apprentice/core/{name}.py" for name in ("artifacts", "errors", "files", "machine", "progress", "waiting")),
    "src/apprentice/engine/stored_packing.py",
)  # fmt: skip
"""What keeps, locks and tells what others compute: no figure is made there but how long that takes. What the machine has, as it was found
out, stands in each result."""
TIMES_STORAGE = {"ingest", "startup", "footprint"}
HARNESS = "benchmarks/harness.py"
ALIKE = (
    # `benchmarks/run`: how an error is printed.
    {"139c01aad2c961bcf300df42306020a305660e0b3dbed9198c07cc5bcfa95e78", "d10094e5512c4ee74600386c4d7360c8bc47a77afd7bd4bb4b826072bba6c7fd"},
    # `model/tensor_files.py`: a file whose types are lists is refused, where reading it had failed.
    {"a2f9d765f78c1d7801b37ecd5138dadab0a1b533c1b178098078f7d8ef18bb57", "71b25aa36432e24339fd7174c9f95005d19f16470f1f12b7f374fdca1d53710c"},
    # `quantization.py`: `edits` takes no answers of other code any more; its result is newer than that, and no other cell has such.
    {"118e93ec0278968fbc7feb7f520a6c71d87240b11b62411170579d46b88af521", "877f70338074568cefc453bdb8f72760b884f96c9d436f96071b4fbc53b02b62"},
    # `learn/compare.py`, `stages/memory.py`, `stages/silence.py`, `suggestions.py`: the same edits are chosen, and counted before progress says how many.
    {"84bcf391b1bee0c09e3dc11eb1a1fe70abec0848d4670927bd1a8a6905d1b148", "ffaaeb71e6048f89931204194a54663c730e19063f4b0d0792289fd5f0f2324b"},
    {"6b2351d4acaa661f3d8d0de54dbfa2ca981011a69cc8c5375db1296f56ecaf9e", "944584be73a39d42edd054b926e5f7aa56be328d91027bd2cf4c70d21eec88c8"},
    {"a7da7d30fac99577fadb0cce8bfa53aacedca7d52880c4920af093905035f56b", "2e1cde5c10f3e8c5ab776d266f67efc47950b1b61fe16861d416e6a5a496456f"},
    {"dc96a2fe8654e7f85aa7e3c33c0d040b68a1a77c8535ce3e21b5bab032e5c180", "81cdcfd2682d5907201e9aa65b2bde4c595e8b323d66737f3658e77e3072fb6b"},
)
"""Versions of a file that differ in what no result has seen: whoever saw it had no result."""
SWITCH = "APPRENTICE_NATIVE"
"""`kernels.native.SWITCH`, without importing it: what a run imports makes its results stale."""


@dataclass(frozen=True, slots=True)
class Row:
    """One figure."""

    arm: str
    metric: str
    value: float | None
    low: float | None = None
    high: float | None = None


class Benchmark:
    """The results of one benchmark."""

    def __init__(self, name: str, *, results: Path = RESULTS, work: Path = WORK, variant: str = os.environ.get(SWITCH, "")) -> None:
        self.name, self._variant = name, variant
        self.folder = files.make_folder(results / name)
        self.work = files.make_folder(work / name)

    def cell(
        self, name: str, work: Callable[[], tuple[list[Row], dict[str, Any]]], *, seed: int | None = None,
        ignoring: tuple[str, ...] = (), inputs: Callable[[], dict[str, str]] = dict, runs: tuple[str, ...] = (),
    ) -> dict[str, Any]:  # fmt: skip
        """The result of a cell: read where it holds, made where it does not. `work` gives rows and details; `ignoring`: how
        the paths of sources begin that it does not depend on; `inputs`: name -> hash of what it is made from; `runs`: modules
        that other processes import for it."""
        path, made_from = self._path(name), inputs()
        if path.is_file() and not changed_sources(result := self.result(name)) and result.get("inputs", {}) == made_from:
            return result
        load, started = machine.look().load, time.monotonic()
        rows, details = work()
        result = {
            "benchmark": self.name,
            "cell": path.stem,
            "seed": seed,
            "rows": [asdict(row) for row in rows],
            "details": details,
            "inputs": made_from,
            "seconds": round(time.monotonic() - started, 1),
            "load_before": load,
            "machine": machine.look().to_dict(),
            "versions": machine.versions(),
            **{key: value for key, value in machine.code_version().items() if key == "commit"},
            "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "sources": {path: digest for path, digest in [*imported_sources(), *sources_of(runs)] if not path.startswith(ignoring)},
        }
        files.write_json(path, result)
        return result

    def result(self, name: str) -> dict[str, Any]:
        """Of a cell that was run."""
        return json.loads(self._path(name).read_text())

    def _path(self, name: str) -> Path:
        is_named = not self._variant or self._variant in name.split("-")
        return self.folder / (f"{name}.json" if is_named else f"{name}-{self._variant}.json")


def imported_sources() -> Iterator[tuple[str, str]]:
    """(path in the project, hash of its code) of every file of ours that is imported now."""
    paths = {Path(file) for module in list(sys.modules.values()) if (file := getattr(module, "__file__", None))}
    for path in sorted(paths):
        if path.is_relative_to(ROOT / "src") or path.is_relative_to(ROOT / "benchmarks"):
            yield path.relative_to(ROOT).as_posix(), code_hash(path)
    if native := sys.modules.get("apprentice.kernels.native"):
        variant = library.variant if (library := native.load()) else "none"
        yield f"{NATIVE}:{variant}", code_hash(ROOT / NATIVE, variant)


def sources_of(modules: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """`imported_sources` of a process that imports these modules, and nothing else of ours but this file."""
    if modules:
        code = f"import json, {', '.join(modules)}; from benchmarks import harness; print(json.dumps([*harness.imported_sources()]))"
        yield from json.loads(subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout)


def code_hash(path: Path, variant: str = "") -> str:
    """sha256 of what a Python file does: its syntax tree without comments, docstrings and places in the file. Of a folder of native
    code: of its lines without comments, but for files of other variants than this one (`products_avx2.cpp`)."""
    if path.is_dir():
        others = set(VARIANTS) - {variant} if variant else set()
        sources = [file for file in sorted(path.iterdir()) if file.stem.rpartition("_")[2] not in others]
        lines = [line.split("//")[0].strip() for file in sources for line in file.read_text(encoding="utf-8").splitlines()]
        return hashlib.sha256("\n".join(filter(None, lines)).encode()).hexdigest()
    tree = ast.parse(path.read_bytes())
    for node in ast.walk(tree):
        if isinstance(body := getattr(node, "body", None), list):
            # A string that stands alone does nothing.
            node.body = [part for part in body if not _is_text(part)]  # pyrefly: ignore[missing-attribute]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def changed_sources(result: dict[str, Any]) -> list[str]:
    """Files that are not what they were when the result was made."""
    changed = []
    ignored = (HARNESS,) if result.get("benchmark") in TIMES_STORAGE else (HARNESS, *STORAGE)
    for name, digest in result.get("sources", {}).items():
        place, _, variant = name.partition(":")
        path = ROOT / place
        if name not in ignored and (not path.exists() or ((now := code_hash(path, variant)) != digest and not any({now, digest} <= alike for alike in ALIKE))):
            changed.append(name)
    return changed


def stale(results: Path = RESULTS) -> list[tuple[str, list[str]]]:
    """(result, changed files) of each result that no longer holds."""
    found = []
    for path in sorted(results.rglob("*.json")):
        if changed := changed_sources(json.loads(path.read_text())):
            found.append((path.relative_to(results).as_posix(), changed))
    return found


def main(arguments: list[str]) -> int:
    """See `benchmarks/run`."""
    if arguments == ["--stale"]:
        found = stale()
        for name, changed in found:
            print(f"{name}: {', '.join(changed)}")
        print(f"{len(found)} stale results")
        return 0
    names = [module.name for module in pkgutil.iter_modules([str(ROOT / "benchmarks")]) if module.name not in NOT_BENCHMARKS]
    if not arguments or arguments[0] not in names:
        for name in names:
            story = (importlib.import_module(f"benchmarks.{name}").__doc__ or "").split("\n")[0]
            print(f"{name}: {story}")
        return 0 if arguments == ["--list"] else 2
    return importlib.import_module(f"benchmarks.{arguments[0]}").main(arguments[1:])
