"""A store that only remembers, and session files in the making."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from apprentice.sessions.events import Provenance, Session


class RememberingSink:
    """Implements `conversation.Sink`; redacts one word."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.dropped: Counter[str] = Counter()
        self.aside: Counter[str] = Counter()
        self.offsets: list[int] = []

    def redact(self, text: str) -> str:
        return text.replace("hunter2", "<secret>")

    def add_text(self, redacted: str, *, near: str = "") -> str:
        assert "hunter2" not in redacted
        self.texts[f"text-{len(self.texts)}"] = redacted
        return f"text-{len(self.texts) - 1}"

    def drop(self, reason: str, count: int = 1) -> None:
        self.dropped[reason] += count

    def keep_aside(self, reason: str, where: Provenance, detail: str = "") -> None:
        self.aside[reason] += 1
        self.offsets.append(where.offset)


def words(session: Session) -> list[str]:
    """The texts of its events, where they have one."""
    return [getattr(event, "text", "") for event in session.events]


def kinds(session: Session) -> list[str]:
    """Of its events, in order."""
    return [str(event.__struct_config__.tag) for event in session.events]


def one(session: Session, kind: type[Any]) -> Any:
    """The only event of this kind."""
    (found,) = [event for event in session.events if isinstance(event, kind)]
    return found


@pytest.fixture
def sink() -> RememberingSink:
    return RememberingSink()


class Records:
    """Claude Code's records, each behind the one before unless told otherwise."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []
        self._last: str | None = None

    def add(self, kind: str, message: dict[str, Any], *, parent: str | None = "last", **fields: Any) -> str:
        number = len(self.lines)
        uuid = f"u{number}"
        self.lines.append({
            "type": kind, "uuid": uuid, "parentUuid": self._last if parent == "last" else parent, "isSidechain": False,
            "timestamp": f"2026-01-02T03:{number // 60:02}:{number % 60:02}.000Z", "cwd": "/home/ada/engine",
            "version": "2.1.0", "message": message, **fields,
        })  # fmt: skip
        self._last = uuid
        return uuid

    def user(self, text: str, **fields: Any) -> str:
        return self.add("user", {"role": "user", "content": text}, **fields)

    def assistant(self, *blocks: dict[str, Any], id: str = "", **fields: Any) -> str:
        message = {"id": id or f"m{len(self.lines)}", "role": "assistant", "model": "claude", "content": list(blocks)}
        return self.add("assistant", message, **fields)

    def tool(self, name: str, arguments: dict[str, Any], result: str, *, details: Any = None, error: bool = False) -> None:
        """A tool that is used, and its result."""
        call = f"call-{len(self.lines)}"
        self.assistant({"type": "tool_use", "id": call, "name": name, "input": arguments})
        block = {"type": "tool_result", "tool_use_id": call, "content": result, "is_error": error}
        self.add("user", {"role": "user", "content": [block]}, toolUseResult=details)

    def write(self, path: Path, more: Sequence[str] = ()) -> Path:
        lines = [{"sessionId": path.stem} | line for line in self.lines]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines) + "".join(more), encoding="utf-8")
        return path


@pytest.fixture
def records() -> Records:
    return Records()
