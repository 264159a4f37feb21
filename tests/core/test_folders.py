from __future__ import annotations

import errno
from pathlib import Path

import pytest

from apprentice.core import files
from apprentice.core.errors import InputError, StorageError
from apprentice.core.fakes import FailingOperations
from apprentice.core.folders import new_folder


def fill(path: Path) -> None:
    with new_folder(path) as folder:
        files.write_text(folder / "a", "1")
        files.write_text(folder / "b", "2")


def test_a_folder_is_there_as_a_whole(tmp_path: Path) -> None:
    fill(tmp_path / "deep" / "out")
    assert sorted(path.name for path in (tmp_path / "deep").rglob("*")) == ["a", "b", "out"]


def test_an_empty_folder_is_taken_and_no_other(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    fill(tmp_path / "out")
    (tmp_path / "file").write_text("x")
    for name in ("out", "file"):
        with pytest.raises(InputError, match="is there already"):
            fill(tmp_path / name)


def test_what_an_earlier_kill_left_is_cleared(tmp_path: Path) -> None:
    (tmp_path / "out.unfinished").mkdir()
    (tmp_path / "out.unfinished" / "old").write_text("x")
    fill(tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]
    assert not (tmp_path / "out" / "old").exists()


def test_an_operation_that_fails_leaves_nothing_at_the_place(tmp_path: Path) -> None:
    counting = FailingOperations(0, errno.ENOSPC)
    with files.using(counting):
        fill(tmp_path / "whole")
    for number in range(1, len(counting.performed) + 1):
        with files.using(FailingOperations(number, errno.ENOSPC)), pytest.raises(StorageError):
            fill(tmp_path / "out")
        if counting.performed[number - 1][0] != "fsync":
            assert not (tmp_path / "out").exists()
        files.remove_tree(tmp_path / "out")
