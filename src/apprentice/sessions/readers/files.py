"""Session files of all tools: found, recognized by how they begin, and read into the store, a stream for each tool.

    paths --find()--> files by tool, oldest first, copies left out --read()--> SessionsWriter

Nothing outside the paths that were named is opened, but for what a program keeps right beside a file that was (the log of a
database, the name of its project); links are not followed. One session may lie in several files (a tool that
writes it anew under another name, a recorder beside the tool's own file): one is read, the others are counted. One file that
cannot be read is kept aside and does not end the reading.
"""

from __future__ import annotations

import heapq
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from apprentice.core.errors import InputError, StorageError
from apprentice.core.protocols import ProgressSink
from apprentice.sessions.conversation import Sink
from apprentice.sessions.events import Provenance, Session
from apprentice.sessions.readers.aider import Aider
from apprentice.sessions.readers.atif import Atif
from apprentice.sessions.readers.claude_code import ClaudeCode
from apprentice.sessions.readers.cursor import Cursor
from apprentice.sessions.readers.editor import Editor
from apprentice.sessions.readers.specstory import SpecStory
from apprentice.sessions.readers.swe_agent import SweAgent
from apprentice.sessions.readers.told import take_in
from apprentice.sessions.readers.workers import Workers
from apprentice.sessions.store import SessionsWriter, talk_key

BEGINNING = 16 << 10
"""Bytes of a file that decide what it is."""
MAX_FILES = 200_000
ENDINGS = (".json", ".jsonl", ".md", ".traj", ".vscdb")
"""Of names of files that may be one of a reader's."""


class Reader(Protocol):
    """What a tool's module offers. Made anew for each reading."""

    @property
    def source(self) -> str: ...
    def recognizes(self, path: Path, beginning: bytes) -> bool: ...
    def identity(self, beginning: bytes) -> str:
        """Of the session, where one session may lie in several files; else empty."""
        ...

    def started(self, path: Path, beginning: bytes) -> float:
        """Seconds since 1970; 0 where it is not known. A file that goes on from another one comes behind it."""
        ...

    def read(self, path: Path, sink: Sink) -> Iterator[Session]: ...


APART = (ClaudeCode, SpecStory)
"""Those whose files can be read by several processes: all that they must know of earlier files is which ids were met."""
READERS: tuple[type[Reader], ...] = (Editor, ClaudeCode, Cursor, SpecStory, Aider, Atif, SweAgent)


@dataclass(frozen=True, slots=True)
class Found:
    """A file and what it is."""

    path: Path
    size: int
    started: float
    identity: str


def find(paths: Sequence[Path]) -> dict[str, list[Found]]:
    """Source -> its files, oldest first; those that no reader recognizes, or nobody may open, are under an empty name.

    Raises: InputError for a path that was named and cannot be read."""
    readers = [reader() for reader in READERS]
    found: dict[str, list[Found]] = {}
    seen: set[Path] = set()
    for path, is_named in _files(paths):
        resolved = path.resolve()
        if resolved in seen:
            continue
        seen.add(resolved)
        try:
            with path.open("rb") as stream:
                beginning, size = stream.read(BEGINNING), path.stat().st_size
        except OSError as error:
            if is_named:
                raise InputError(f"`{path}` cannot be read: {error.strerror}", hint="check its permissions, or leave it out") from error
            found.setdefault("", []).append(Found(path, 0, 0.0, ""))
            continue
        reader = next((one for one in readers if one.recognizes(path, beginning)), None)
        if reader is None:
            found.setdefault("", []).append(Found(path, size, 0.0, ""))
            continue
        one = Found(path, size, reader.started(path, beginning), reader.identity(beginning))
        found.setdefault(reader.source, []).append(one)
    # What lies deeper comes first: the databases of Cursor's projects say where the talks of its global one belong.
    order = {source: sorted(files, key=lambda file: (file.started, -len(file.path.parts), file.path)) for source, files in found.items()}
    return dict(sorted(order.items()))


def read(found: dict[str, list[Found]], writer: SessionsWriter, progress: ProgressSink, workers: Workers | None = None) -> None:
    """Every file of every tool, in the order of READERS. `workers`: processes that read files beside this one."""
    known: set[str] = set()
    imported = set(writer.told)
    for reader in (make() for make in READERS):
        files = found.get(reader.source, [])
        if not files:
            continue
        with_agents = {id.partition("/agent-")[0] for id in known if "/agent-" in id}
        progress.stage(f"read {reader.source}", len(files), "files")
        stream = writer.start_stream(reader.source, "", talks=True)
        stream.files = len(files)
        longest = {file.identity: file for file in sorted(files, key=lambda file: file.size)}
        waiting: list[tuple[float, int, Session]] = []
        chosen = [file for file in files if not file.identity or longest[file.identity] is file]
        told = _told(reader, chosen, writer, workers)
        for file in files:
            # A session may begin later than the next file: it waits for its turn.
            while waiting and waiting[0][0] < file.started:
                writer.add_session(heapq.heappop(waiting)[2])
            if file.identity and longest[file.identity] is not file:
                writer.drop("files with a session that a longer file has")
                progress.advance()
                continue
            for session in next(told):
                # A copy of another tool's talk puts all sub-agents of it into one.
                of_agents = session.id.endswith("/sidechain") and session.id.removesuffix("/sidechain") in with_agents
                if session.id in known or of_agents or (session.events and talk_key(session.source, session.events) in imported):
                    writer.drop("sessions that another file has")
                else:
                    known.add(session.id)
                    heapq.heappush(waiting, (session.time, len(known), session))
            progress.advance()
        while waiting:
            writer.add_session(heapq.heappop(waiting)[2])


def _told(reader: Reader, files: Sequence[Found], writer: SessionsWriter, workers: Workers | None) -> Iterator[list[Session]]:
    """The sessions of each file."""
    if workers is None or not isinstance(reader, APART) or len(files) < 2 or not workers.are_useful(sum(file.size for file in files)):
        yield from (read_one(reader, file.path, writer) for file in files)
        return
    for file, done in zip(files, workers.read(reader.source, [file.path for file in files]), strict=True):
        if isinstance(reader, ClaudeCode) and any(id in reader.seen for id in done.ids):
            # It goes on from an earlier file, of which whoever read it knew nothing.
            yield read_one(reader, file.path, writer)
            continue
        if isinstance(reader, ClaudeCode):
            reader.seen.add(done.ids)
        yield take_in(done.path, writer)


def read_one(reader: Reader, path: Path, sink: Sink) -> list[Session]:
    """All or none of it."""
    try:
        return list(reader.read(path, sink))
    except StorageError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever a hostile file does to its reader
        sink.keep_aside("file unreadable", Provenance(source=reader.source, file=path.name), f"{type(error).__name__}: {error}"[:200])
        return []


def _files(paths: Sequence[Path]) -> Iterator[tuple[Path, bool]]:
    """(file, whether it was named itself)."""
    count = 0
    for path in paths:
        if path.is_file():
            yield path, True
            continue
        for folder, folders, names in os.walk(path):
            folders[:] = sorted(name for name in folders if name not in (".git", "node_modules"))
            for name in sorted(names):
                file = Path(folder) / name
                if file.name.endswith(ENDINGS) and file.is_file() and not file.is_symlink():
                    count += 1
                    if count > MAX_FILES:
                        raise InputError(f"`{path}` holds more than {MAX_FILES:,} files", hint="name the folder of the sessions itself")
                    yield file, False
