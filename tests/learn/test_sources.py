"""What a run reads: as named, and what goes with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.conftest import GitRepository

from apprentice.learn.config import LearnConfig
from apprentice.learn.sources import chosen


def test_talks_go_with_the_history_of_the_checkout_they_are_about(new_repository: Callable[..., GitRepository], tmp_path: Path) -> None:
    here, other = new_repository("here"), new_repository("other")
    for repository in (here, other):
        repository.commit("one", a_py="1\n")
    talks, bundle = tmp_path / "projects", tmp_path / "team.jsonl.zst"

    def paths(config: LearnConfig) -> list[Path]:
        return [source.path for source in chosen(config, here.path)]

    assert paths(LearnConfig()) == [here.path]
    assert paths(LearnConfig(sessions=(talks,))) == [here.path, talks]
    assert paths(LearnConfig(sessions=(talks,), repositories=(other.path,))) == [other.path, talks]
    # An exported history is learned from as it is.
    assert paths(LearnConfig(sessions=(bundle,))) == [bundle]


def test_talks_alone_where_there_is_no_checkout(tmp_path: Path) -> None:
    (source,) = chosen(LearnConfig(sessions=(tmp_path / "projects",)), tmp_path)
    assert source.kind == "sessions"
