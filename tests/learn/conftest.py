"""A repository with a history that can be learned from, small enough for a test."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from apprentice.model import base as bases

NAMES = ("load", "store", "parse", "render", "check", "count", "merge", "split", "trim", "join")
SECRET = "ghp_" + "A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8"


def source(random_numbers: random.Random, version: int) -> str:
    """A module of small functions, a little different in each version."""
    lines = ["import os", ""]
    for name in NAMES:
        lines += [f"def {name}(value, limit={version}):", f"    total = {random_numbers.randint(0, 9)}", "    return value + total", ""]
    return "\n".join(lines) + "\n"


def build(repository: Any, num_commits: int) -> Path:
    """Commits of edits at different places of three modules, one of them with a secret."""
    numbers = random.Random(0)
    texts = {f"module_{i}.py": source(numbers, 1) for i in range(3)}
    for path, text in texts.items():
        repository.write(path, text)
    repository.commit("Begin")
    for number in range(num_commits):
        path = f"module_{number % 3}.py"
        lines = texts[path].split("\n")
        at = numbers.choice([i for i, line in enumerate(lines) if line.startswith("    total")])
        lines[at] = f"    total = len(value) * {number}  # step {number}"
        if number % 5 == 0:
            lines.insert(at + 1, f"    check_{number}(total)")
        if number == 30:
            lines.insert(2, f'TOKEN = "{SECRET}"')
        texts[path] = "\n".join(lines)
        repository.write(path, texts[path])
        repository.commit(f"Step {number}" if number % 4 else f"Count characters of the value instead of a constant in step {number}")
    return repository.path


@pytest.fixture
def history(new_repository: Callable[..., Any]) -> Path:
    """Sixty commits."""
    return build(new_repository("project"), 60)


@pytest.fixture(scope="session")
def short_history(repository_at: Callable[[Path], Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty commits that all tests share: to be read only."""
    return build(repository_at(tmp_path_factory.mktemp("short") / "project"), 40)


@pytest.fixture
def secret() -> str:
    """What one of the commits adds and no run may keep."""
    return SECRET


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of bases apart from the user's."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def debug_base(cache: Path) -> Path:
    """The folder that the word `debug` stands for."""
    return bases.resolve("debug", cache)
