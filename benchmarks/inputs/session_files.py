"""Session files of any size in the forms that Claude Code and SpecStory write, from real texts, none of it twice.

    texts (session files of a folder, or Python's own library) --Words--> pieces of lines --claude_code(), specstory()--> files

A piece is some lines in a row of a real text; of every third line the words change places, and a word that stands nowhere else is
put in, so no text is stored once in place of twice. What is done in a session has the sizes of real ones: a question, replies, files
read whole, edits that carry the file as it was (`originalFile`, most of the bytes of a real file), commands and what they print.
Keys of vendors, made up, are put in at a fixed rate: what a redactor must find is known.
"""

from __future__ import annotations

import json
import random
import sysconfig
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from apprentice.core import files
from apprentice.text.planted import VENDOR_KEYS

MAX_CORPUS_BYTES = 24 << 20
BYTES_PER_SECRET = 200_000
START = datetime(2026, 1, 5, 8, tzinfo=UTC)
_CWD = "/workspace/project"


@dataclass(frozen=True, kw_only=True, slots=True)
class Made:
    """What was written."""

    files: int
    bytes: int


class Words:
    """Pieces of real lines, each new."""

    def __init__(self, folder: Path | None, *, seed: int) -> None:
        """`folder`: of session files; without it the texts are Python's own library."""
        self.random = random.Random(seed)
        self.source = "session files" if folder else "Python's standard library"
        found = sorted(path for path in (folder or Path(sysconfig.get_paths()["stdlib"])).rglob("*") if path.suffix in (".md", ".jsonl", ".traj", ".py"))
        self._lines: list[str] = []
        size = 0
        for path in found:
            if path.is_file() and "site-packages" not in path.parts and size < MAX_CORPUS_BYTES:
                text = path.read_text(encoding="utf-8", errors="replace")
                size += len(text)
                # A line of JSON holds many lines of what was said.
                self._lines += [line[:400] for line in text.replace("\\n", "\n").split("\n") if not line.startswith(("_**", "<tool-use", "</", "<details"))]
        self.corpus_bytes, self._due = size, 0
        self.secrets: list[str] = []
        """Those that were put in."""

    def piece(self, lines: int) -> str:
        """So many lines."""
        start = self.random.randrange(len(self._lines) - lines)
        taken = self._lines[start : start + lines]
        for number in range(self.random.randrange(3), lines, 3):
            words = taken[number].split(" ")
            self.random.shuffle(words)
            taken[number] = " ".join(words)
        taken[self.random.randrange(lines)] += f" w{self.random.getrandbits(48):012x}"
        text = "\n".join(taken)
        self._due += len(text)
        if self._due > BYTES_PER_SECRET:
            self._due = 0
            self.secrets.append(self.random.choice(list(VENDOR_KEYS.values()))(self.random))
            text += f"\nTOKEN = {self.secrets[-1]!r}\n"
        return text

    def uuid(self) -> str:
        """From the seed."""
        return str(uuid.UUID(int=self.random.getrandbits(128), version=4))


def claude_code(folder: Path, words: Words, *, total: int, of_file: int) -> Made:
    """JSON lines of Claude Code, `total` bytes in files of `of_file` bytes."""
    return _files(folder, words, total, of_file, ".jsonl", _claude_session)


def specstory(folder: Path, words: Words, *, total: int, of_file: int) -> Made:
    """Markdown of SpecStory."""
    return _files(folder, words, total, of_file, ".md", _specstory_session)


def _files(folder: Path, words: Words, total: int, of_file: int, suffix: str, session: Any) -> Made:
    files.make_folder(folder)
    number = written = 0
    while written < total:
        name, size = words.uuid(), 0
        with (folder / f"{name}{suffix}").open("w", encoding="utf-8") as stream:
            for part in session(words, name, START + timedelta(minutes=number)):
                size += stream.write(part)
                if size >= min(of_file, total - written):
                    break
        written += (folder / f"{name}{suffix}").stat().st_size
        number += 1
    return Made(files=number, bytes=written)


def _claude_session(words: Words, session_id: str, now: datetime) -> Iterator[str]:
    """Lines without an end."""
    drawn, parent = words.random, None
    while True:
        texts = {f"src/module_{drawn.randrange(400)}.py": words.piece(drawn.randrange(40, 500)) for _ in range(drawn.randrange(1, 4))}
        for kind, message, details in _claude_turn(words, texts):
            own = words.uuid()
            now += timedelta(seconds=drawn.randrange(1, 40))
            record: dict[str, Any] = {
                "parentUuid": parent, "isSidechain": False, "userType": "external", "cwd": _CWD, "sessionId": session_id, "version": "2.1.20",
                "gitBranch": "main", "type": kind, "message": message, "uuid": own, "timestamp": now.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            }  # fmt: skip
            if details is not None:
                record["toolUseResult"] = details
            parent = own
            yield json.dumps(record, ensure_ascii=False, separators=(",", ":")) + "\n"


def _claude_turn(words: Words, texts: dict[str, str]) -> Iterator[tuple[str, dict[str, Any], Any]]:
    """(type, message, result of the tool) of a question and what followed."""
    drawn = words.random
    yield "user", {"role": "user", "content": words.piece(drawn.randrange(1, 12))}, None
    yield _reply(words, {"type": "thinking", "thinking": words.piece(drawn.randrange(4, 20)), "signature": ""})
    for path, text in texts.items():
        where = f"{_CWD}/{path}"
        yield from _used(words, "Read", {"file_path": where}, text, {"type": "text", "file": {"filePath": where, "content": text}})
        for _ in range(drawn.randrange(1, 4)):
            yield _reply(words, {"type": "text", "text": words.piece(drawn.randrange(1, 8))})
            lines = text.split("\n")
            at = drawn.randrange(max(1, len(lines) - 8))
            old, new = "\n".join(lines[at : at + drawn.randrange(1, 8)]), words.piece(drawn.randrange(1, 12))
            result = {"filePath": where, "oldString": old, "newString": new, "originalFile": text, "userModified": False, "replaceAll": False,
                      "structuredPatch": [{"oldStart": at + 1, "oldLines": old.count("\n") + 1, "newStart": at + 1, "newLines": new.count("\n") + 1,
                                           "lines": [*("-" + line for line in old.split("\n")), *("+" + line for line in new.split("\n"))]}]}  # fmt: skip
            yield from _used(words, "Edit", {"file_path": where, "old_string": old, "new_string": new},
                             f"The file {where} has been updated. Here's a snippet:\n{new}", result)  # fmt: skip
            text = text.replace(old, new, 1)
        printed = words.piece(drawn.randrange(2, 120))
        yield from _used(words, "Bash", {"command": f"pytest -q {path}"}, printed, {"stdout": printed, "stderr": "", "interrupted": False})
    yield _reply(words, {"type": "text", "text": words.piece(drawn.randrange(3, 30))})


def _reply(words: Words, block: dict[str, Any]) -> tuple[str, dict[str, Any], None]:
    usage = {"input_tokens": 4, "cache_creation_input_tokens": 900, "cache_read_input_tokens": 41_000, "output_tokens": 310}
    message = {"id": f"msg_{words.random.getrandbits(96):024x}", "type": "message", "role": "assistant", "model": "claude-sonnet-4-5",
               "content": [block], "stop_reason": None, "usage": usage}  # fmt: skip
    return "assistant", message, None


def _used(words: Words, name: str, given: dict[str, str], result: str, details: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any], Any]]:
    own = f"toolu_{words.random.getrandbits(96):024x}"
    yield _reply(words, {"type": "tool_use", "id": own, "name": name, "input": given})
    yield "user", {"role": "user", "content": [{"tool_use_id": own, "type": "tool_result", "content": result, "is_error": False}]}, details


def _specstory_session(words: Words, session_id: str, now: datetime) -> Iterator[str]:
    drawn = words.random
    yield f"<!-- Generated by SpecStory, Markdown v2.1.0 -->\n\n# {now:%Y-%m-%d %H:%M:%SZ}\n\n"
    yield f"<!-- Claude Code Session {session_id} ({now:%Y-%m-%d %H:%M:%SZ}) -->\n\n"
    while True:
        now += timedelta(seconds=drawn.randrange(1, 90))
        yield f"_**User ({now:%Y-%m-%d %H:%M:%SZ})**_\n\n{_plain(words.piece(drawn.randrange(1, 12)))}\n\n---\n\n"
        for _ in range(drawn.randrange(2, 8)):
            path, said = f"src/module_{drawn.randrange(400)}.py", _plain(words.piece(drawn.randrange(1, 12)))
            yield f"_**Agent (claude-sonnet-4-5 {now:%Y-%m-%d %H:%M:%SZ})**_\n\n{said}\n\n"
            kind = drawn.choice(("read", "write", "shell"))
            shown = _plain(words.piece(drawn.randrange(10, 200)))
            if kind == "write":
                shown = "\n".join(drawn.choice("-+ ") + line for line in shown.split("\n")[:60])
                body = f"```diff\n@@ -{drawn.randrange(1, 300)},1 +1,1 @@\n{shown}\n```"
            else:
                body = f"```\n{shown}\n```"
            summary = {"read": f"Read file: {path}", "write": f"Edit file: {path}", "shell": f"Run command: pytest -q {path}"}[kind]
            name = {"read": "Read", "write": "Edit", "shell": "Bash"}[kind]
            yield f'<tool-use data-tool-type="{kind}" data-tool-name="{name}"><details>\n<summary>Tool use: **{name}** • {summary}</summary>\n\n{body}\n\n</details></tool-use>\n\n---\n\n'


def _plain(text: str) -> str:
    """Without fences and rules that would end what it stands in."""
    return text.replace("```", "'''").replace("<", "(").replace("---", "--")
