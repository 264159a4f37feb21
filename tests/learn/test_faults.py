"""A whole run in which one file operation fails: what stands afterwards is old or new, never between.

A sample of the operations by default; APPRENTICE_FAULTS=20 takes 20 for each error, and APPRENTICE_FAULTS=all every place:
EIO and EACCES once at each line of code that asks for an operation, ENOSPC at each operation (an hour)."""

from __future__ import annotations

import errno
import json
import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from apprentice.core import artifacts, files
from apprentice.core.errors import StorageError
from apprentice.core.fakes import FailingOperations
from apprentice.core.progress import Silent
from apprentice.learn import graph
from apprentice.learn.config import LearnConfig
from apprentice.learn.current import Current
from apprentice.learn.run import Home
from apprentice.model import base as bases

WANTED = os.environ.get("APPRENTICE_FAULTS", "3")
ALL = WANTED == "all"
ARTIFACTS = ("examples", "checkpoint", "quantized", "gates-base", "gates-tuned", "memory", "evaluation")


@dataclass(frozen=True)
class Whole:
    """A run in which nothing failed."""

    config: LearnConfig
    out: Path
    hashes: dict[str, str]
    performed: list[tuple[str, str]]
    """(operation, the line of code that asked for it), in order."""
    current: dict[str, Any]


def learn(config: LearnConfig, out: Path) -> None:
    graph.learn(config, out.parent, out, Silent())


def hashes(run: Path) -> dict[str, str]:
    return {name: artifacts.read(run / name).hash for name in ARTIFACTS}


def recorded(config: LearnConfig, out: Path) -> Whole:
    operations = FailingOperations(0, errno.EIO)
    with files.using(operations):
        learn(config, out)
    home = Home(out)
    performed = [(name, site) for (name, _), site in zip(operations.performed, operations.sites, strict=True)]
    return Whole(config, out, hashes(home.runs()[-1]), performed, home.current() or {})


@pytest.fixture(scope="module")
def first(short_history: Path, debug_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """A first run."""
    config = LearnConfig(repositories=(short_history,), base=str(debug_base), steps=2, eval_commits=1)
    return recorded(config, tmp_path_factory.mktemp("first") / "runs")


@pytest.fixture(scope="module")
def second(first: Whole, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """Another run over what the first one left."""
    out = shutil.copytree(first.out, tmp_path_factory.mktemp("second") / "runs")
    return recorded(replace(first.config, seed=1), out)


def numbers(whole: Whole, code: int) -> list[int]:
    """Which operations are made to fail, counted from 1."""
    places = list({place: number for number, place in reversed(list(enumerate(whole.performed, 1)))}.values())
    if ALL:
        return list(range(1, len(whole.performed) + 1)) if code == errno.ENOSPC else sorted(places)
    # Another third of the places for each error.
    at = {errno.EIO: 1, errno.EACCES: 3, errno.ENOSPC: 5}[code]
    count = int(WANTED)
    return [sorted(places)[len(places) * (6 * i + at) // (6 * count)] for i in range(count)]


def fail(config: LearnConfig, out: Path, number: int, code: int) -> None:
    """Run with the N-th operation failing. Either a StorageError names file and remedy, or it did no harm. Files are the run's or,
    where the base's own answers are locked, in the user's cache."""
    operations = FailingOperations(number, code)
    said: list[StorageError] = []
    try:
        with files.using(operations):
            learn(config, out)
    except StorageError as error:
        said.append(error)
    where = f"{operations.performed[number - 1]} at {operations.sites[number - 1]}"
    assert operations.failed, where
    for error in said:
        assert any(f"`{folder}" in error.message for folder in (out.parent, bases.cache_folder() / "answers")), where
        assert os.strerror(code) in error.message, where
        assert error.hint, where


def assert_nothing_is_between(out: Path) -> None:
    """What looks finished is whole, and what is served can be served."""
    for manifest in out.rglob("manifest.json"):
        assert artifacts.verify(manifest.parent) == []
    current = Current.find(Home(out))
    assert current is None or artifacts.verify(current.memory) == []


def assert_equals(out: Path, whole: Whole) -> None:
    """The run was finished and its artifacts are those of a run in which nothing failed."""
    home = Home(out)
    assert len(home.runs()) == len(Home(whole.out).runs())
    assert hashes(home.runs()[-1]) == whole.hashes
    assert home.current() == whole.current
    assert json.loads((home.runs()[-1] / "result.json").read_text())["result"]["changed_bits_per_char"]


@pytest.mark.timeout(0 if WANTED != "3" else 120)
@pytest.mark.parametrize("code", [errno.EIO, errno.EACCES, errno.ENOSPC], ids=errno.errorcode.get)
def test_a_first_run_that_cannot_write_says_so_and_the_same_command_finishes(
    first: Whole, tmp_path: Path, code: int
) -> None:
    for number in numbers(first, code):
        out = tmp_path / str(number) / "runs"
        fail(first.config, out, number, code)
        assert_nothing_is_between(out)
        learn(first.config, out)
        assert_equals(out, first)
        shutil.rmtree(out)


@pytest.mark.timeout(0 if WANTED != "3" else 120)
def test_the_served_model_is_the_old_or_the_new_one_when_the_last_writes_fail(
    first: Whole, second: Whole, tmp_path: Path
) -> None:
    renames = [n for n, (operation, _) in enumerate(second.performed, 1) if operation == "rename"]
    for number in numbers(second, errno.ENOSPC) if ALL else renames[-3:]:
        out = shutil.copytree(first.out, tmp_path / str(number) / "runs")
        fail(second.config, out, number, errno.ENOSPC)
        assert Home(out).current() in (first.current, second.current)
        assert_nothing_is_between(out)
        learn(second.config, out)
        assert_equals(out, second)
        shutil.rmtree(out)
