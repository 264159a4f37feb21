"""A repository with a history that can be learned from, small enough for a test."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

NAMES = ("load", "store", "parse", "render", "check", "count", "merge", "split", "trim", "join")
SECRET = "ghp_" + "A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8"


def source(random_numbers: random.Random, version: int) -> str:
    """A module of small functions, a little different in each version."""
    lines = ["import os", ""]
    for name in NAMES:
        lines += [f"def {name}(value, limit={version}):", f"    total = {random_numbers.randint(0, 9)}", "    return value + total", ""]
    return "\n".join(lines) + "\n"


@pytest.fixture
def history(new_repository: Callable[..., Any]) -> Path:
    """Sixty commits of edits at different places of three modules, one of them with a secret."""
    repository = new_repository("project")
    numbers = random.Random(0)
    texts = {f"module_{i}.py": source(numbers, 1) for i in range(3)}
    for path, text in texts.items():
        repository.write(path, text)
    repository.commit("Begin")
    for number in range(60):
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
        repository.commit(f"Step {number}")
    return repository.path


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own for bases."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("APPRENTICE_CACHE", str(folder))
    return folder
