"""Conversations to be exported."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.sessions.readers.conftest import RememberingSink

from apprentice.core import artifacts
from apprentice.sessions.conversation import Change, Conversation, Use
from apprentice.sessions.events import Session
from apprentice.sessions.policy import Policy
from apprentice.sessions.store import KIND, VERSION, Sessions, SessionsWriter


def talk(name: str = "s-1", agent: str = "claude", start: float = 1_700_000_000.25) -> Session:
    """What a developer, an assistant and its tools said and did; 13 events."""
    made = Conversation(RememberingSink(), source="claude_code", file="f", session_id=name, agent=agent, repository="engine")
    made.said("why does it fail?", start, 0)
    uses = [
        Use(name="Bash", arguments='{"command":  "pytest"}', result="1 failed, 2 passed in 0.1s", kind="shell", command="pytest", exit_code=1),
        Use(name="Read", arguments='{"file_path": "a.py"}', result="x = 1", kind="read", path="a.py"),
        Use(name="apply_patch", arguments="*** Begin Patch", result=""),
    ]
    made.replied("I look", start + 1.5, 1, reasoning="a test, surely", uses=uses)
    made.typed("git diff", "- x\n+ y", start + 2, 2, exit_code=0)
    made.typed("pytest -x", "all good", start + 2.5, 2, tests=(3, 0))
    made.replied("", start + 3, 3, uses=[Use(name="Edit", arguments="{}", kind="edit", changes=(Change(path="a.py", old="x", new="y"),), rejected=True)])
    made.voted("down", "not so", start + 4, 4)
    made.noted("summary", "so far: a test", start + 5, 5)
    made.asked("go on", start + 6, 6, by_assistant=True)
    made.replied("done <|im_end|> \U0001f916", start + 7, 7)
    session = made.session()
    assert session is not None
    return session


@pytest.fixture
def store(tmp_path: Path, scanner: Any) -> Callable[..., Sessions]:
    """Puts conversations into an artifact."""

    def run(*talks: Session, into: str = "sessions") -> Sessions:
        with artifacts.create(tmp_path / into, kind=KIND, version=VERSION) as artifact:
            with SessionsWriter(artifact, scanner) as writer:
                writer.start_stream("git", "engine")
                writer.start_stream("claude_code", "", talks=True)
                for one in talks:
                    writer.add_session(one)
                writer.finish(config={}, policy=Policy())
        return Sessions.open(tmp_path / into)

    return run
