"""What is not committed yet, as a developer's latest edits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.conftest import GitRepository

from apprentice.learn.loading import latest_edits

NewRepository = Callable[..., GitRepository]


def committed(new_repository: NewRepository, data: bytes) -> Path:
    repository = new_repository()
    (repository.path / "a.txt").write_bytes(data)
    repository.git("add", "-A")
    repository.git("commit", "-q", "-m", "first")
    return repository.path / "a.txt"


def test_an_editor_has_no_carriage_returns_and_the_file_may_have_them(new_repository: NewRepository) -> None:
    path = committed(new_repository, b"one\r\ntwo\r\nthree\r\n")
    (edit,) = latest_edits(path, ["one", "TWO", "three"])[1]
    assert (edit.old, edit.new) == (("two",), ("TWO",))
    (edit,) = latest_edits(path, ["one\r", "TWO\r", "three\r"])[1]
    assert (edit.old, edit.new) == (("two\r",), ("TWO\r",))
    assert latest_edits(path, ["one", "two", "three"]) == ("a.txt", [])


def test_a_file_that_repeats_a_line_thousands_of_times_costs_nothing(new_repository: NewRepository) -> None:
    lines = [line for number in range(10_000) for line in ("{", f'"{number % 7}"', "},")]
    path = committed(new_repository, "".join(line + "\n" for line in lines).encode())
    assert latest_edits(path, ["first", *lines[2:-2], "last"]) == ("a.txt", [])
    (edit,) = latest_edits(path, [*lines, "last"])[1]
    assert edit.new == ("last",)
