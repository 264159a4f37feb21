"""Programs that look for secrets or persons, as peers of `benchmarks/run redaction`: strings in, (string, line) pairs out.

Each gets the strings as files of a folder, and settings that find most: `detect-secrets` all its plugins with its usual
filters, `gitleaks` and `betterleaks` their own rules, decoding five layers deep and heeding no marks that ask them to look
away, `scrubadub` its detectors of addresses and phone numbers (its names need models of language). The last and the first run
under a Python of their own (`scan_with.py`); nothing of them is installed here.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from apprentice.core import files

_PYTHON = ("detect-secrets", "scrubadub")


def version(name: str, program: str) -> str:
    """What it says it is."""
    if name in _PYTHON:
        code = f"import importlib.metadata as m; print(m.version({name.replace('-', '_')!r}))"
        return _output([program, "-c", code]).strip()
    return _output([program, "version"] if name == "gitleaks" else [program, "--version"]).strip()


def scan(name: str, program: str, strings: Sequence[str]) -> set[tuple[int, int]]:
    """(number of the string, 0-based line) of every line with a finding."""
    with tempfile.TemporaryDirectory() as folder:
        for number, text in enumerate(strings):
            files.write_text(Path(folder) / f"{number:06d}.txt", text)
        if name in _PYTHON:
            lines = _output([program, str(Path(__file__).with_name("scan_with.py")), name, folder]).splitlines()
            return {(int(number), int(line)) for number, line in (text.split() for text in lines)}
        if name == "gitleaks":
            report = _output([program, "dir", folder, "--no-banner", "--report-format", "json", "--report-path", "-", "--max-decode-depth", "5",
                              "--ignore-gitleaks-allow", "--exit-code", "0", "--log-level", "error"])  # fmt: skip
            found = [(row["File"], row["StartLine"], row["EndLine"]) for row in json.loads(report or "[]")]
        else:
            report = Path(folder) / "report.jsonl"
            _output([program, folder, "--no-banner", "--silent", "--output", str(report), "--max-decode-depth", "5", "--no-allow-signatures", "--exit-code", "0"])
            rows = [json.loads(line).get("finding") for line in report.read_text(encoding="utf-8").splitlines()]
            found = [(row["location"]["path"], row["location"]["start_line"], row["location"]["end_line"]) for row in rows if row]
    return {(int(Path(path).stem), line - 1) for path, first, last in found for line in range(first, max(first, last) + 1)}


def _output(command: Sequence[str]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
