"""What lies on a machine is told by names and sizes; nothing is opened."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from apprentice.learn import discovery


def test_places_are_found_and_no_file_is_opened(tmp_path: Path) -> None:
    home, project = tmp_path / "home", tmp_path / "project"
    for path, size in (
        (home / ".claude/projects/a/s.jsonl", 30), (home / ".claude/projects/a/notes.txt", 7), (home / ".claude/projects/b/t.jsonl", 12),
        (home / ".codex/sessions/2026/r.jsonl", 5), (project / ".specstory/history/x.md", 9), (project / ".aider.chat.history.md", 4),
        (project / ".apprentice/recorded/s.jsonl", 6),
    ):  # fmt: skip
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * size)

    opened: list[str] = []

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and str(arguments[0]).startswith(str(tmp_path)):
            opened.append(str(arguments[0]))

    sys.addaudithook(watch)
    found = {place.source: place for place in discovery.look(home, project)}
    assert opened == []
    assert {name: (place.files, place.bytes) for name, place in found.items()} == {
        "claude_code": (2, 42), "codex": (1, 5), "specstory": (1, 9), "aider": (1, 4), "editor": (1, 6),
    }  # fmt: skip
    assert found["claude_code"].readable
    assert not found["codex"].readable
    assert found["claude_code"].vendor == "Anthropic"
    text = discovery.table(list(found.values()))
    assert "Claude Code: 2 files, 0.0 kB" in text
    assert "Codex CLI: 1 file, 0.0 kB, no reader yet" in text
    assert "Nothing was read" in text


def test_a_small_amount_is_not_said_to_be_nothing(tmp_path: Path) -> None:
    file = tmp_path / ".claude/projects/a/s.jsonl"
    file.parent.mkdir(parents=True)
    for size, said in ((12_345, "1 file, 12.3 kB"), (2_345_678, "1 file, 2.3 MB")):
        file.write_bytes(b"x" * size)
        assert said in discovery.table(discovery.look(tmp_path, tmp_path / "project"))


def test_an_empty_machine(tmp_path: Path) -> None:
    assert discovery.look(tmp_path, tmp_path) == []
    assert "sessions read PATH" in discovery.table([])
