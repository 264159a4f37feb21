"""Session files of all tools: found, recognized by how they begin, and read into the store, a stream for each tool.

    paths --find()--> files by tool, oldest first, copies left out --read()--> SessionsWriter

Nothing outside the paths that were named is opened; links are not followed. One session may lie in several files (a tool that
writes it anew under another name): the longest is read, the others are counted.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from apprentice.core.errors import InputError
from apprentice.core.protocols import ProgressSink
from apprentice.sessions.conversation import Sink
from apprentice.sessions.events import Provenance, Session
from apprentice.sessions.readers.aider import Aider
from apprentice.sessions.readers.claude_code import ClaudeCode
from apprentice.sessions.readers.specstory import SpecStory
from apprentice.sessions.readers.swe_agent import SweAgent
from apprentice.sessions.store import SessionsWriter

BEGINNING = 16 << 10
"""Bytes of a file that decide what it is."""
MAX_FILES = 200_000
ENDINGS = (".jsonl", ".md", ".traj", ".traj.json")
"""Of names of files that may be one of a reader's."""


class Reader(Protocol):
    """What a tool's module offers. Made anew for each reading."""

    @property
    def source(self) -> str: ...
    def recognizes(self, path: Path, beginning: bytes) -> bool: ...
    def identity(self, beginning: bytes) -> str:
        """Of the session, where one session may lie in several files; else empty."""
        ...

    def started(self, beginning: bytes) -> float:
        """Seconds since 1970; 0 where it is not known."""
        ...

    def read(self, path: Path, sink: Sink) -> Iterator[Session]: ...


READERS: tuple[type[Reader], ...] = (ClaudeCode, SpecStory, Aider, SweAgent)


@dataclass(frozen=True, slots=True)
class Found:
    """A file and what it is."""

    path: Path
    size: int
    started: float
    identity: str


def find(paths: Sequence[Path]) -> dict[str, list[Found]]:
    """Source -> its files, oldest first; those that no reader recognizes are under an empty name.

    Raises: InputError for a path that cannot be read."""
    readers = [reader() for reader in READERS]
    found: dict[str, list[Found]] = {}
    for path in _files(paths):
        beginning, size = _look(path)
        reader = next((one for one in readers if one.recognizes(path, beginning)), None)
        if reader is None:
            found.setdefault("", []).append(Found(path, size, 0.0, ""))
        else:
            found.setdefault(reader.source, []).append(Found(path, size, reader.started(beginning), reader.identity(beginning)))
    return {source: sorted(files, key=lambda file: (file.started, file.path)) for source, files in sorted(found.items())}


def read(found: dict[str, list[Found]], writer: SessionsWriter, progress: ProgressSink) -> None:
    """Every file of every tool; one that cannot be read is kept aside and does not end the reading."""
    for reader in (make() for make in READERS):
        files = found.get(reader.source, [])
        if not files:
            continue
        progress.stage(f"read {reader.source}", len(files), "files")
        stream = writer.start_stream(reader.source, "", talks=True)
        stream.files = len(files)
        longest = {file.identity: file for file in sorted(files, key=lambda file: file.size)}
        for file in files:
            if file.identity and longest[file.identity] is not file:
                writer.drop("files with a session that a longer file has")
            else:
                _read_one(reader, file.path, writer)
            progress.advance()


def _read_one(reader: Reader, path: Path, writer: SessionsWriter) -> None:
    try:
        for session in reader.read(path, writer):
            writer.add_session(session)
    except (InputError, RecursionError, OSError) as error:
        writer.keep_aside("file unreadable", Provenance(source=reader.source, file=path.name), str(error)[:200])


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    count = 0
    for path in paths:
        if path.is_file():
            yield path
            continue
        for folder, folders, names in os.walk(path):
            folders[:] = sorted(name for name in folders if name not in (".git", "node_modules"))
            for name in sorted(names):
                file = Path(folder) / name
                if name.endswith(ENDINGS) and file.is_file() and not file.is_symlink():
                    count += 1
                    if count > MAX_FILES:
                        raise InputError(f"`{path}` holds more than {MAX_FILES:,} files", hint="name the folder of the sessions itself")
                    yield file


def _look(path: Path) -> tuple[bytes, int]:
    try:
        with path.open("rb") as stream:
            return stream.read(BEGINNING), path.stat().st_size
    except OSError as error:
        raise InputError(f"`{path}` cannot be read: {error.strerror}", hint="check its permissions, or leave it out") from error
