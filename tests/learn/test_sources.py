"""What a run reads: as named, and what goes with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.conftest import GitRepository

from apprentice.core.errors import InputError
from apprentice.learn.config import LearnConfig
from apprentice.learn.sources import chosen, passed_over


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


def test_a_checkout_that_cannot_be_read_is_not_passed_over_in_silence(new_repository: Callable[..., GitRepository], tmp_path: Path) -> None:
    new_repository("empty")
    assert chosen(LearnConfig(), tmp_path / "empty") == []
    # A worktree whose repository is elsewhere.
    (tmp_path / "worktree").mkdir()
    (tmp_path / "worktree" / ".git").write_text("gitdir: /nowhere/.git/worktrees/x\n")
    with pytest.raises(InputError, match="worktree"):
        chosen(LearnConfig(), tmp_path / "worktree")


def test_it_is_said_why_the_history_at_hand_is_not_read(new_repository: Callable[..., GitRepository], tmp_path: Path) -> None:
    made = new_repository("made")
    for number in range(2):
        made.commit(a_py=f"{number}\n")
    made.git("clone", "-q", "--depth", "1", made.path.as_uri(), str(tmp_path / "shallow"))
    (inside := made.path / "src").mkdir()
    assert chosen(LearnConfig(), tmp_path / "shallow") == []
    assert "git fetch --unshallow" in passed_over(LearnConfig(), tmp_path / "shallow")
    assert chosen(LearnConfig(), inside) == []
    assert str(made.path) in passed_over(LearnConfig(), inside)
    # Where it is read, or others were named, there is nothing to say.
    assert passed_over(LearnConfig(), made.path) == ""
    assert passed_over(LearnConfig(repositories=(made.path,)), tmp_path / "shallow") == ""
