"""A small made-up history."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest

from apprentice.core import artifacts
from apprentice.core.progress import Silent
from apprentice.examples.work import FileWork, Work
from apprentice.repository.git import Git
from apprentice.sessions.conversation import Change, Conversation, Use
from apprentice.sessions.git_history import GitHistoryConfig, read_history
from apprentice.sessions.policy import Policy
from apprentice.sessions.store import KIND, VERSION, Sessions, SessionsWriter
from apprentice.text.edits import hunks, split_lines

MakeWork = Callable[..., Work]


@pytest.fixture
def make_work() -> MakeWork:
    """make_work("c1", {"a.py": ("before", "after")}, time=1) -> Work"""

    def make(commit: str, files: dict[str, tuple[str, str]], *, time: float = 0.0, author: str = "developer",
             repository: str = "r", may_learn: bool = True) -> Work:
        changed = [
            FileWork(path, split_lines(before), hunks(path, before, after), removed=after == "")
            for path, (before, after) in files.items()
        ]
        return Work(commit=commit, time=time, author=author, files=changed, session=f"s-{commit}", repository=repository,
                    may_learn=may_learn)

    return make


class Talk:
    """A conversation with an assistant about a repository. Its clock counts the seconds since the first commit of `GitRepository`."""

    def __init__(self, made: Conversation) -> None:
        self._made = made
        self._at = 0

    def ask(self, text: str, at: float) -> None:
        self._made.said(text, at, self._next())

    def say(self, text: str, at: float, *uses: Use) -> None:
        self._made.replied(text, at, self._next(), uses=uses)

    def edit(self, at: float, *changes: Change, text: str = "", rejected: bool = False) -> None:
        self.say(text, at, Use(name="Edit", arguments="{}", result="done", kind="edit", changes=changes, rejected=rejected))

    def run(self, command: str, output: str, at: float, *, exit_code: int | None = None) -> None:
        self.say("", at, Use(name="Bash", arguments='{"command":"x"}', result=output, kind="shell", command=command, exit_code=exit_code))

    def vote(self, vote: Literal["up", "down"], at: float) -> None:
        self._made.voted(vote, "", at, self._next())

    def _next(self) -> int:
        self._at += 1
        return self._at


class _Plain:
    def redact(self, text: str) -> tuple[str, dict[str, int]]:
        return text, {}


@pytest.fixture
def read_talks(tmp_path: Path) -> Callable[..., Sessions]:
    """read_talks([repository], talk, talk): each talk is a function of a `Talk`; with an artifact of both."""

    def read(repositories: Sequence[Any], *talks: Callable[[Talk], None], agent: str = "claude") -> Sessions:
        with artifacts.create(tmp_path / "sessions", kind=KIND, version=VERSION) as artifact:
            with SessionsWriter(artifact, _Plain()) as writer:
                for repository in repositories:
                    read_history(Git.open(repository.path), writer, GitHistoryConfig(), Silent())
                writer.start_stream("claude_code", "", talks=True)
                for number, tell in enumerate(talks):
                    made = Conversation(writer, source="claude_code", file="t.jsonl", session_id=f"talk-{number}", agent=agent, repository="engine")
                    tell(Talk(made))
                    session = made.session()
                    assert session is not None
                    writer.add_session(session)
                writer.finish(config={}, policy=Policy())
        return Sessions.open(tmp_path / "sessions")

    return read
