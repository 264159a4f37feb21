"""What lies on this machine that could be learned from, by names and sizes alone: nothing is opened.

Tools keep their sessions at places of their own, listed here with the vendor whose terms hold for what its assistant wrote.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from apprentice.core.text_safety import terminal_safe
from apprentice.sessions.policy import TERMS
from apprentice.sessions.readers.files import READERS

MAX_FILES = 200_000
"""Counted at a place; more are said to be more."""

_CODE = {"darwin": "Library/Application Support", "win32": "AppData/Roaming"}.get(sys.platform, ".config")
_PLACES = (
    ("editor", "Apprentice in the editor", ".apprentice/recorded", (".jsonl",)),
    ("claude_code", "Claude Code", "~/.claude/projects", (".jsonl",)),
    ("codex", "Codex CLI", "~/.codex/sessions", (".jsonl",)),
    ("gemini", "Gemini CLI", "~/.gemini/tmp", (".json",)),
    ("cursor", "Cursor", f"~/{_CODE}/Cursor/User", (".vscdb",)),
    ("cursor_cli", "Cursor CLI", "~/.cursor/chats", (".db",)),
    ("copilot", "Copilot chat", f"~/{_CODE}/Code/User/workspaceStorage", (".json", ".jsonl")),
    ("continue", "Continue", "~/.continue/dev_data", (".jsonl",)),
    ("specstory", "SpecStory", ".specstory/history", (".md",)),
    ("aider", "Aider", ".aider.chat.history.md", (".md",)),
)
"""(source, name, place, endings); places without `~` are in the project at hand."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Sessions of one tool."""

    source: str
    name: str
    path: str
    files: int
    bytes: int
    readable: bool
    """Whether there is a reader for them."""
    vendor: str = ""
    terms: str = ""
    terms_read: str = ""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def look(home: Path, project: Path) -> list[Place]:
    """Places that hold files, in a fixed order. What cannot be looked into is passed over."""
    readable = {reader().source for reader in READERS}
    found: list[Place] = []
    for source, name, place, endings in _PLACES:
        path = home / place[2:] if place.startswith("~/") else project / place
        sizes = list(_sizes(path, endings))
        if sizes:
            terms = TERMS.get(source)
            found.append(Place(
                source=source, name=name, path=str(path), files=len(sizes), bytes=sum(sizes), readable=source in readable,
                vendor=terms.vendor if terms else "", terms=terms.link if terms else "", terms_read=terms.read if terms else "",
            ))  # fmt: skip
    return found


def table(found: Sequence[Place]) -> str:
    """For the terminal."""
    if not found:
        return "no sessions of assistants or editors found; the history of a repository is read with `apprentice sessions read PATH`"
    lines: list[str] = []
    for place in found:
        can = "" if place.readable else ", no reader yet"
        amount = f"{place.files:,} file{'s' * (place.files != 1)}, {_size(place.bytes)}"
        lines.append(terminal_safe(f"{place.name}: {amount}{can}\n  {place.path}"))
        if place.vendor:
            read = f", read {place.terms_read}" if place.terms_read else ""
            lines.append(f"  what the assistant wrote: terms of {place.vendor}{read}")
            lines += [f"    {place.terms}"] if place.terms else []
    lines.append("What people wrote is learned from; an assistant's words only where the policy says so. Nothing was read.")
    return "\n".join(lines)


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:,.1f} MB" if num_bytes >= 100_000 else f"{num_bytes / 1e3:,.1f} kB"


def _sizes(path: Path, endings: tuple[str, ...]) -> Iterator[int]:
    """Of files at a place; a link leads elsewhere."""
    count = 0
    for file in [path] if _is_plain_file(path) else _walk(path):
        if file.name.endswith(endings):
            try:
                yield file.lstat().st_size
            except OSError:
                continue
            count += 1
            if count == MAX_FILES:
                return


def _is_plain_file(path: Path) -> bool:
    try:
        return path.is_file() and not path.is_symlink()
    except OSError:
        return False


def _walk(path: Path) -> Iterator[Path]:
    try:
        is_link = path.is_symlink()
    except OSError:
        return
    for folder, _, names in [] if is_link else os.walk(path):
        yield from (Path(folder) / name for name in names)
