"""Reading into the artifact of a run: again, and only what is new."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.conftest import GitRepository

from apprentice.core.progress import Silent
from apprentice.learn.config import LearnConfig
from apprentice.learn.sources import Source
from apprentice.learn.stages import sessions as stage
from apprentice.sessions.policy import Policy
from apprentice.sessions.store import Sessions


def test_a_repository_that_is_named_after_a_person(new_repository: Callable[..., GitRepository], tmp_path: Path) -> None:
    repository = new_repository("Grace Hopper")
    repository.commit("one", author="Grace Hopper <grace@example.org>", a_py="1\n")

    def read() -> Sessions:
        return stage.read([Source("git", repository.path, "")], tmp_path / "sessions", LearnConfig(), Policy(), Silent())

    first = read()
    assert "Hopper" not in first.folder.joinpath("manifest.json").read_text()
    assert "Hopper" not in repr(list(first.sessions()))
    # It is found again under the name that it has there: nothing is read, then only the new commit.
    assert read().manifest.hash == first.manifest.hash
    repository.commit("two", author="Grace Hopper <grace@example.org>", a_py="2\n")
    streams = read().streams()
    assert [stream.sessions for stream in streams] == [1, 1]
    assert streams[0].repository == streams[1].repository == first.repositories()[0]
