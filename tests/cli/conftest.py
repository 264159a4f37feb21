"""One tiny run, learned once from a repository with hostile names, that the stories of all commands go on from."""

from __future__ import annotations

import contextlib
import io
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from apprentice.cli.main import run
from apprentice.model import base as bases

ESCAPE = "\x1b[31m\x1b]0;title\x07"
SCRIPT = "<script>alert(1)</script>"
HOSTILE_FILE = f"odd{SCRIPT.replace('/', '_')}.py"
ESCAPING_FILE = "odd\x1b[31m.py"
"""Kept aside by the reader, and counted."""


@dataclass(frozen=True)
class Done:
    """What a command left."""

    code: int
    out: str
    err: str


Apprentice = Callable[..., Done]


def start(*words: object) -> Done:
    """A command in this process: everything is loaded only once."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run([str(word) for word in words])
    return Done(code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="session")
def apprentice() -> Apprentice:
    """Runs commands: `apprentice("show", folder)`."""
    return start


@pytest.fixture(scope="session")
def debug_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint to start from."""
    return bases.resolve("debug", tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def repository(repository_at: Callable[[Path], Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty commits, some with escapes and scripts in message, path and code, one with a file that is one long line."""
    made = repository_at(tmp_path_factory.mktemp("told") / "project")
    numbers = random.Random(0)
    paths = ("one.py", "two.py", HOSTILE_FILE)
    texts = {path: "".join(f"def name_{i}(value):\n    total = {i}\n    return total\n\n" for i in range(12)) for path in paths}
    for path, text in texts.items():
        made.write(path, text)
    made.write("data.js", "x" * 3_000_000)
    made.write(ESCAPING_FILE, "x = 1\n")
    made.commit("Begin")
    for number in range(40):
        path = paths[number % 3]
        lines = texts[path].split("\n")
        at = numbers.choice([i for i, line in enumerate(lines) if line.startswith("    total")])
        lines[at] = f"    total = value * {number}  # {SCRIPT} \u202e {number}"
        texts[path] = "\n".join(lines)
        made.write(path, texts[path])
        if number == 20:
            made.write("data.js", "y" * 3_000_000)
        made.commit(f"Step {number} {ESCAPE}{SCRIPT}")
    return made.path


@dataclass(frozen=True)
class Learned:
    """The run, and what `learn --json` said."""

    done: Done
    out: Path
    repository: Path

    @property
    def run(self) -> Path:
        return self.out / "runs" / "0001"


@pytest.fixture(scope="session")
def learned(apprentice: Apprentice, repository: Path, debug_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Learned:
    """Learned once: to be read only."""
    out = tmp_path_factory.mktemp("learned") / "runs"
    done = apprentice(
        "learn", "--repo", repository, "--base", debug_base, "--steps", 2, "--eval-commits", 2, "--out", out, "--json"
    )
    assert done.code == 0, done.err
    return Learned(done, out, repository)


def assert_harmless(text: str) -> None:
    """No escape and nothing that turns the direction of writing reaches a terminal."""
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "\u202e" not in text


@pytest.fixture(scope="session")
def harmless() -> Callable[[str], None]:
    """Asserts that a text may be shown."""
    return assert_harmless
