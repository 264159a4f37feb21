"""How fast do session files become a redacted store, how much memory does it take, and does that stay the same as they grow?

    benchmarks/run ingest [--samples FOLDER] [--cells 'files-*'] [--peer teich=BIN] [--peer claude_code_log=BIN] [--peer ccusage=BIN]

A cell is one input, made by `inputs/session_files.py` out of the texts of `--samples` (session files of any kind) or, without it,
of Python's own library, and removed afterwards: `files-N` is N MB of Claude Code's files of 1 MB, `large-N` of 100 MB,
`one-N` a single file, `specstory-N` SpecStory's of 0.5 MB. Arms: `ours` is `apprentice sessions read` on all cores, with the
search of what was written that follows every reading; `ours_one_core` the same in one process. Peers run as their users would
run them on the same files in the same run; BIN is the folder of their commands. What each does:

    teich            copies files with secrets, addresses and user names taken out (`extract claude`); no store, no outcomes
    teich_convert    files to rows of messages for training (`convert`); no redaction
    claude_code_log  files to one JSON of messages (`convert --format json`); no redaction
    ccusage          counts tokens of each session; reads, writes nothing; no redaction
    jq, msgspec      parse each line and forget it: what nobody can be faster than in that language

Memory is that of all processes of an arm together: `memory_mb` the most at one time with shared pages counted once (PSS, looked
at every 0.05 s), `resident_mb` the sum of each process's own maximum (VmHWM), which may not have come at the same time. Times are
of the fastest of `--repeats`; low and high are the slowest and the fastest. MB are millions of bytes of input.
"""

from __future__ import annotations

import argparse
import contextlib
import fnmatch
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from apprentice.core import artifacts, files, machine
from apprentice.sessions.store import Sessions
from apprentice.text import rescanning
from apprentice.text.anchors import Anchors
from benchmarks.harness import Benchmark, Row
from benchmarks.inputs import session_files
from benchmarks.inputs.session_files import Made, Words

MB = 1_000_000
SEED = 7
LOOK_EVERY_S = 0.05
REPEATS_BYTES = 150 * MB
"""Inputs up to this size are read several times by each arm, larger ones once."""
CELLS: dict[str, tuple[Callable[..., Made], int, int]] = {
    "files-100": (session_files.claude_code, 100 * MB, 1 * MB),
    "files-500": (session_files.claude_code, 500 * MB, 1 * MB),
    "files-2000": (session_files.claude_code, 2000 * MB, 1 * MB),
    "large-500": (session_files.claude_code, 500 * MB, 100 * MB),
    "one-500": (session_files.claude_code, 500 * MB, 500 * MB),
    "specstory-100": (session_files.specstory, 100 * MB, MB // 2),
}
"""Name -> what makes it, bytes in all, bytes of a file."""
PEERS = ("teich", "claude_code_log", "ccusage")
WITH_PEERS = ("files-100",)
ON_ONE_CORE = ("files-100", "files-500", "specstory-100")
"""Cells in which one process is measured too."""
_PARSE = "import sys, msgspec\nfor name in sys.argv[1:]:\n    for line in open(name, 'rb'):\n        msgspec.json.decode(line)"


@dataclass(slots=True)
class Run:
    """What one run of an arm took."""

    seconds: float = 0.0
    cpu_s: float = 0.0
    memory_mb: float = 0.0
    resident_mb: float = 0.0
    code: int = 0
    load: float = 0.0
    """Of the machine, when it began."""


@dataclass(slots=True)
class Arm:
    """A command that reads a folder and writes to another."""

    name: str
    command: Callable[[Path, Path], list[str]]
    environment: dict[str, str] = field(default_factory=dict)
    runs: list[Run] = field(default_factory=list)
    codes: tuple[int, ...] = (0,)


def main(arguments: list[str]) -> int:
    """See the top of this file."""
    parser = argparse.ArgumentParser(prog="benchmarks/run ingest")
    parser.add_argument("--samples", type=Path)
    parser.add_argument("--cells", default="*")
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=BIN")
    parser.add_argument("--repeats", type=int, default=3, help="of inputs up to 150 MB; larger ones are read once")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    peers = {name: Path(path) for name, _, path in (peer.partition("=") for peer in options.peer)}
    if unknown := peers.keys() - set(PEERS):
        parser.error(f"no peer is called {', '.join(sorted(unknown))}; there are {', '.join(PEERS)}")
    benchmark = Benchmark("ingest")
    for name in fnmatch.filter(CELLS, options.cells):
        work = partial(_measure, benchmark.work, name, options.samples, peers, options.repeats)
        result = benchmark.cell(name, work, seed=SEED, runs=("apprentice.cli.sessions", "apprentice.learn.stages.sessions"))
        for row in result["rows"]:
            print(json.dumps({"cell": name, **row}) if options.json else f"{name:14s} {row['arm']:16s} {row['metric']:12s} {row['value']:.1f}")
    return 0


def _measure(work: Path, name: str, samples: Path | None, peers: Mapping[str, Path], repeats: int) -> tuple[list[Row], dict[str, Any]]:
    folder, out = work / name / "projects" / "-workspace-project", work / f"{name}-out"
    make, total, of_file = CELLS[name]
    words = Words(samples, seed=SEED)
    files.remove_tree(work / name)
    try:
        made = make(folder, words, total=total, of_file=of_file)
        arms = _arms(work / name, peers if name in WITH_PEERS else {})
        arms = [arm for arm in arms if arm.name == "ours" or (name in ON_ONE_CORE if arm.name == "ours_one_core" else name in WITH_PEERS)]
        found: dict[str, Any] = {}
        for _ in range(repeats if made.bytes <= REPEATS_BYTES else 1):
            for arm in arms:
                files.remove_tree(out)
                files.make_folder(out)
                arm.runs.append(run := _run(arm, folder, out))
                if run.code not in arm.codes:
                    raise RuntimeError(f"{arm.name} ended with {run.code}")
                found[arm.name] = _left(out, words.secrets if made.bytes <= REPEATS_BYTES else [])
        versions = {peer: _version(peer, path) for peer, path in peers.items() if name in WITH_PEERS}
        details = {
            "input": asdict(made), "texts": {"from": words.source, "bytes": words.corpus_bytes}, "secrets_planted": len(words.secrets), "found": found,
            "peers": versions, "runs": {arm.name: [asdict(run) for run in arm.runs] for arm in arms},
        }  # fmt: skip
        return [row for arm in arms for row in _rows(arm, made.bytes / MB)], details
    finally:
        files.remove_tree(work / name)
        files.remove_tree(out)


def _rows(arm: Arm, size_mb: float) -> list[Row]:
    rates = sorted(size_mb / run.seconds for run in arm.runs)
    fastest = min(arm.runs, key=lambda run: run.seconds)
    return [
        Row(arm.name, "mb_per_s", round(rates[-1], 2), round(rates[0], 2), round(rates[-1], 2)),
        Row(arm.name, "mb_per_cpu_s", round(max(size_mb / run.cpu_s for run in arm.runs), 2)),
        Row(arm.name, "seconds", round(fastest.seconds, 1)),
        Row(arm.name, "memory_mb", round(max(run.memory_mb for run in arm.runs), 1)),
        Row(arm.name, "resident_mb", round(max(run.resident_mb for run in arm.runs), 1)),
    ]


def _arms(home: Path, peers: Mapping[str, Path]) -> list[Arm]:
    def ours(source: Path, out: Path) -> list[str]:
        return [sys.executable, "-m", "apprentice", "sessions", "read", str(source), "--out", str(out / "sessions"), "--json"]

    arms = [Arm("ours", ours), Arm("ours_one_core", ours, {"OMP_NUM_THREADS": "1"})]
    if "teich" in peers:
        teich = str(peers["teich"] / "teich")
        # It asks whether to upload at its end, and is told nothing.
        arms.append(Arm("teich", lambda source, out: [teich, "extract", "claude", "--sessions-dir", str(source.parent), "--out", str(out)], codes=(0, 1)))
        arms.append(Arm("teich_convert", lambda source, out: [teich, "convert", str(source), "--out", str(out / "rows.jsonl")]))
    if "claude_code_log" in peers:
        log = str(peers["claude_code_log"] / "claude-code-log")
        arms.append(Arm("claude_code_log", lambda source, out: [log, "convert", str(source), "-o", str(out / "all.json"), "--format", "json", "--no-cache"]))
    if "ccusage" in peers:
        usage = str(peers["ccusage"] / "ccusage")
        arms.append(Arm("ccusage", lambda source, out: [usage, "session", "--json", "--offline"], {"CLAUDE_CONFIG_DIR": str(home)}))
    arms.append(Arm("msgspec", lambda source, out: [sys.executable, "-c", _PARSE, *map(str, sorted(source.iterdir()))]))
    if shutil.which("jq"):
        arms.append(Arm("jq", lambda source, out: ["jq", "-c", ".type", *map(str, sorted(source.iterdir()))]))
    return arms


def _run(arm: Arm, source: Path, out: Path) -> Run:
    run = Run(load=machine.look().load)
    # Peers keep caches and settings in the home folder; ours keeps its compiled rules there, as it does for its users.
    home = {} if arm.name.startswith("ours") else {"HOME": str(files.make_folder(out / "home"))}
    before, started = os.times(), time.perf_counter()
    process = subprocess.Popen(
        arm.command(source, out), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, **home, **arm.environment}
    )
    highest: dict[int, float] = {}
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            run.code = process.wait(LOOK_EVERY_S)
            break
        together = 0.0
        for one in _family(process.pid):
            shared, own = _memory_mb(one)
            together += shared
            highest[one] = max(own, highest.get(one, 0.0))
        run.memory_mb = max(run.memory_mb, together)
    run.seconds, after = time.perf_counter() - started, os.times()
    run.cpu_s = after.children_user - before.children_user + after.children_system - before.children_system
    run.resident_mb = sum(highest.values())
    return run


def _family(parent: int) -> list[int]:
    """The process and all that it started."""
    found = [parent]
    for one in found:
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{one}/task").iterdir():
                found += [int(child) for child in (task / "children").read_text().split()]
    return found


def _memory_mb(process: int) -> tuple[float, float]:
    """(PSS, VmHWM)."""
    with contextlib.suppress(OSError):
        shared = re.search(r"^Pss:\s+(\d+)", Path(f"/proc/{process}/smaps_rollup").read_text(), re.MULTILINE)
        highest = re.search(r"^VmHWM:\s+(\d+)", Path(f"/proc/{process}/status").read_text(), re.MULTILINE)
        if shared and highest:
            return int(shared[1]) * 1024 / MB, int(highest[1]) * 1024 / MB
    return 0.0, 0.0


def _left(out: Path, secrets: Sequence[str]) -> dict[str, Any]:
    """What an arm wrote: sessions and events where it is ours, and how many of the planted secrets stand in it (of large inputs
    nobody looks: it takes longer than the reading)."""
    found: dict[str, Any] = {}
    if artifacts.is_finished(out / "sessions"):
        manifest = Sessions.open(out / "sessions").manifest
        found = {"hash": manifest.hash, "counts": manifest.counts, "dropped": manifest.dropped, "redacted": manifest.extra["redacted"]}
    anchors, standing = Anchors({secret.encode(): secret for secret in secrets}), set[str]()
    written = sorted(path for path in out.rglob("*") if path.is_file() and "home" not in path.relative_to(out).parts)
    found["bytes_written"] = sum(path.stat().st_size for path in written)
    if not secrets:
        return found
    for path in written:
        for text in rescanning.texts_of(path):
            standing.update(secret for _, _, secret in anchors.find(text.text.encode("utf-8", "surrogatepass")))
    return {**found, "secrets_standing": len(standing)}


def _version(peer: str, path: Path) -> str:
    shown = subprocess.run([str(path / peer.replace("_", "-")), "--version"], capture_output=True, text=True, check=False).stdout
    if found := re.search(r"\d+\.\d+\.\d+", shown):
        return found[0]
    code = f"import importlib.metadata as m; print(m.version({peer.replace('_', '-')!r}))"
    return subprocess.run([str(path / "python"), "-c", code], capture_output=True, text=True, check=False).stdout.strip()
