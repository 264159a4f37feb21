from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from apprentice.core import artifacts
from apprentice.core.progress import Silent
from apprentice.repository.git import Git
from apprentice.sessions.git_history import GitHistoryConfig, read_history
from apprentice.sessions.policy import Policy
from apprentice.sessions.store import KIND, VERSION, Sessions, SessionsWriter


class Scanner:
    """Takes one word out of texts."""

    def __init__(self, secret: str = "hunter2") -> None:
        self.secret = secret
        self.seen: list[str] = []

    def redact(self, text: str) -> tuple[str, dict[str, int]]:
        self.seen.append(text)
        count = text.count(self.secret)
        return text.replace(self.secret, "<secret>"), {"secret": count} if count else {}


@pytest.fixture
def scanner() -> Scanner:
    """Takes `hunter2` out of texts."""
    return Scanner()


@pytest.fixture
def read(tmp_path: Path, scanner: Scanner) -> Callable[..., Sessions]:
    """Reads repositories into an artifact: `read(path, limit_commits=5, into="name", previous=sessions)`."""

    def run(*paths: Path, into: str = "sessions", previous: Sessions | None = None, **limits: Any) -> Sessions:
        folder = tmp_path / into
        with artifacts.create(folder, kind=KIND, version=VERSION) as artifact:
            with SessionsWriter(artifact, scanner, previous=previous) as writer:
                for path in paths:
                    read_history(Git.open(path), writer, GitHistoryConfig(**limits), Silent())
                writer.finish(config=limits, policy=Policy())
        return Sessions.open(folder)

    return run
