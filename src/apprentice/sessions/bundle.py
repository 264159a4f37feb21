"""A sessions artifact as one small file: what the package brings along, and what people hand to each other.

    Sessions --export_bundle()--> FILE --import_bundle()--> SessionsWriter

The file is JSON lines in one zstd frame: a header; the texts, versions of one file one after the other, so that a long
compression window makes each cost little more than its difference; the trees; the sessions, those of histories first,
then conversations. Texts are named by their number in the file and hunks are left out, for both follow from the texts;
only an edit in a conversation of which no text is known keeps its hunks.

A bundle may come from anybody. Its size, lines and types are checked while it is read, everything in it is redacted
again, and hunks are computed here, so they are true to the texts whatever the file says.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import zstandard

from apprentice.core import files
from apprentice.core.errors import DAMAGED_HINT, HostileInputError, InputError
from apprentice.core.text_safety import shorten
from apprentice.repository.world import World
from apprentice.sessions import replay
from apprentice.sessions.differences import hunks_between
from apprentice.sessions.events import AnyEvent, Commit, EditEvent, Move, Provenance, Session
from apprentice.sessions.store import Sessions, SessionsWriter, talk_key
from apprentice.sessions.unusable import Unusable

FORMAT = "apprentice-sessions"
VERSION = 2
"""2: with conversations. A bundle without any is written as 1, which earlier readers take."""
_WINDOW_LOG = 27
_MAX_LINE = 64 << 20
_MAX_BYTES = 1 << 30
_UNTOUCHED = frozenset(
    {"type", "kind", "id", "session_id", "revision", "parents", "before_id", "after_id", "text_id", "source"}
)
"""Fields that no redaction changes: ids, and words out of the schema."""
_UNTOUCHED_OF_TALKS = _UNTOUCHED - {"id", "session_id", "revision", "source"}
"""Ids of a conversation are made of names that its tool, or somebody, gave."""


class _Header(msgspec.Struct, kw_only=True):
    format: str
    version: int
    hash: str = ""


class _Text(msgspec.Struct, tag_field="row", tag="text"):
    path: str
    text: str


class _Tree(msgspec.Struct, tag_field="row", tag="tree"):
    source: str
    repository: str
    files: dict[str, int]


class _Session(msgspec.Struct, tag_field="row", tag="session", omit_defaults=True):
    source: str
    repository: str
    events: list[AnyEvent]
    talk: bool = False
    """A conversation: it belongs to no history."""


_Row = _Text | _Tree | _Session


@dataclass(frozen=True, slots=True)
class Bundled:
    """What a bundle holds."""

    bytes: int
    sessions: int
    """Of histories."""
    conversations: int


def export_bundle(
    sessions: Sessions, path: Path, *, newest: int | None = None, max_bytes: int | None = None, conversations: bool = True
) -> Bundled:
    """Write the newest sessions of each repository and the newest conversations of each tool (all by default).

    Raises: InputError where the file would be larger than `max_bytes`; nothing is written then."""
    counts = [0, 0]

    def counted() -> Iterator[Any]:
        for row in _rows(sessions, newest, conversations=conversations):
            if isinstance(row, _Session):
                counts[row.talk] += 1
            yield row

    data = b"".join(_compressed(counted()))
    if max_bytes is not None and len(data) > max_bytes:
        raise InputError(
            f"the bundle has {len(data):,} bytes, more than {max_bytes:,}",
            hint="take fewer sessions, for example `--newest 500`",
        )
    files.write_bytes(path, data)
    return Bundled(len(data), *counts)


def import_bundle(path: Path, writer: SessionsWriter) -> int:
    """Add a bundle's sessions to an artifact; how many. Raises: InputError naming the file."""
    reading = _Import(path, writer)
    try:
        return reading.run(_lines(path))
    except (OSError, zstandard.ZstdError) as error:
        raise InputError(
            f"`{path}` cannot be read: {error}", hint="a bundle is made by `apprentice sessions export`"
        ) from error
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise InputError(
            f"`{path}` is no bundle of sessions: line {reading.line}: {error}", hint=DAMAGED_HINT
        ) from error


def import_sessions(sessions: Sessions, writer: SessionsWriter) -> int:
    """Add another artifact's sessions, as if they came in a bundle."""
    return _Import(sessions.folder, writer).run(msgspec.json.encode(row) for row in _rows(sessions, None))


def _rows(sessions: Sessions, newest: int | None, *, conversations: bool = True) -> Iterator[Any]:
    tools = list(dict.fromkeys(stream.source for stream in sessions.streams() if stream.talks and conversations))
    yield _Header(format=FORMAT, version=VERSION if tools else 1, hash=sessions.hash)
    trees, chosen = _choose(sessions, newest)
    order: dict[str, tuple[str, int]] = {}

    def meet(path: str, text_id: str | None) -> None:
        if text_id is not None:
            order.setdefault(text_id, (path, len(order)))

    for tree in trees.values():
        for file, text_id in tree.items():
            meet(file, text_id)
    histories = itertools.chain.from_iterable(_following(sessions, chosen, name) for name in trees)
    talks = itertools.chain.from_iterable(_talks(sessions, tool, newest) for tool in tools)
    for session in itertools.chain(histories, talks):
        for move in session.moves:
            meet(move.path, move.text_id)
        for event in session.edits:
            meet(event.renamed_from or event.path, event.before_id)
            meet(event.path, event.after_id)
    numbers: dict[str, int] = {}
    for text_id, (file, _) in sorted(order.items(), key=lambda item: item[1]):
        numbers[text_id] = len(numbers)
        yield _Text(file, sessions.text(text_id))
    sources = {stream.repository: stream.source for stream in sessions.streams()}
    for repository, tree in trees.items():
        yield _Tree(sources[repository], repository, {file: numbers[text_id] for file, text_id in tree.items()})
        for session in _following(sessions, chosen, repository):
            yield _Session(session.source, session.repository, [_numbered(event, numbers) for event in session.events])
    for session in itertools.chain.from_iterable(_talks(sessions, tool, newest) for tool in tools):
        events = [event if _has_bare_hunks(event) else _numbered(event, numbers) for event in session.events]
        yield _Session(session.source, session.repository, events, talk=True)


def _choose(sessions: Sessions, newest: int | None) -> tuple[dict[str, dict[str, str]], dict[str, int]]:
    """Repository -> the tree that its chosen sessions start from, and -> how many sessions are passed over."""
    trees = {repository: sessions.tree(repository) for repository in sessions.repositories()}
    skipped = dict.fromkeys(trees, 0)
    if newest is None:
        return trees, skipped
    for repository in trees:
        skipped[repository] = max(0, sum(1 for _ in sessions.sessions(repository)) - newest)
        world = World(trees[repository], sessions)
        for session in itertools.islice(sessions.sessions(repository), skipped[repository]):
            replay.advance(world, session)
        trees[repository] = world.files()
    return trees, skipped


def _following(sessions: Sessions, skipped: dict[str, int], repository: str) -> Iterator[Session]:
    return itertools.islice(sessions.sessions(repository), skipped[repository], None)


def _talks(sessions: Sessions, tool: str, newest: int | None) -> Iterable[Session]:
    found = (session for session in sessions.talks() if session.source == tool)
    return found if newest is None else deque(found, maxlen=newest)


def _has_bare_hunks(event: AnyEvent) -> bool:
    return isinstance(event, EditEvent) and event.before_id is None and event.after_id is None


def _numbered(event: AnyEvent, numbers: dict[str, int]) -> AnyEvent:
    if isinstance(event, EditEvent):
        before = None if event.before_id is None else str(numbers[event.before_id])
        after = None if event.after_id is None else str(numbers[event.after_id])
        return msgspec.structs.replace(event, before_id=before, after_id=after, hunks=())
    if isinstance(event, Commit):
        moves = [Move(m.path, None if m.text_id is None else str(numbers[m.text_id])) for m in event.moves]
        return msgspec.structs.replace(event, moves=tuple(moves))
    return event


def _compressed(rows: Iterator[Any]) -> Iterator[bytes]:
    parameters = zstandard.ZstdCompressionParameters.from_level(19, window_log=_WINDOW_LOG, enable_ldm=True)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    total = 0
    for row in rows:
        line = msgspec.json.encode(row) + b"\n"
        total += len(line)
        if len(line) > _MAX_LINE:
            hint = "leave conversations out with `--no-conversations`, or take fewer with `--newest`"
            raise InputError("a conversation is longer than a bundle can hold", hint=hint)
        if total > _MAX_BYTES:
            raise InputError("these are more sessions than a bundle can hold", hint="take fewer, for example `--newest 500`")
        yield compressor.compress(line)
    yield compressor.flush()


class _Import:
    """One pass over the lines of a bundle: texts, then trees, then sessions."""

    def __init__(self, path: Path, writer: SessionsWriter) -> None:
        self._path, self._writer = path, writer
        self._texts: list[str] = []
        self._trees: dict[tuple[str, str], dict[str, int]] = {}
        self._current: tuple[str, str, bool] | None = None
        self._name = ""
        self.line = 1

    def run(self, lines: Iterator[bytes]) -> int:
        decoder = msgspec.json.Decoder(_Row)
        header = msgspec.json.decode(next(lines, b"{}"), type=_Header)
        if header.format != FORMAT:
            raise InputError(f"`{self._path}` is no bundle of sessions", hint=DAMAGED_HINT)
        if header.version > VERSION:
            raise InputError(f"`{self._path}` was written by a newer Apprentice", hint="update Apprentice")
        count = 0
        for line in lines:
            self.line += 1
            row = decoder.decode(line)
            if isinstance(row, _Text):
                self._texts.append(self._writer.redact(row.text))
            elif isinstance(row, _Tree):
                self._trees[row.source, row.repository] = row.files
                self._turn_to(row.source, row.repository)
            else:
                self._turn_to(row.source, "" if row.talk else row.repository, talks=row.talk)
                count += self._add(row)
        return count

    def _turn_to(self, source: str, repository: str, *, talks: bool = False) -> None:
        """The following rows belong to this repository, or to this tool's conversations: a stream of its own, a
        repository's under a name that is still free."""
        if (source, repository, talks) == self._current:
            return
        if not source.isidentifier() or len(source) > 40:
            raise InputError(
                f"`{self._path}` is no bundle of sessions: line {self.line}: no name of a source", hint=DAMAGED_HINT
            )
        self._current = (source, repository, talks)
        if talks:
            self._writer.start_stream(source, "", talks=True)
            return
        self._name = self._writer.free_name(self._writer.redact(shorten(repository, 200)))
        self._writer.start_stream(source, self._name)
        for path, number in self._trees.get((source, repository), {}).items():
            if path.isprintable() and 0 <= number < len(self._texts):
                redacted = self._writer.redact(path)
                self._writer.add_tree(redacted, self._stored(number, redacted))
            else:
                self._writer.drop("tree: odd_entry")

    def _add(self, row: _Session) -> bool:
        if row.talk and row.events and talk_key(row.source, row.events) in self._writer.told:
            self._writer.drop("sessions that another file has")
            return False
        try:
            events = [self._event(event, is_talk=row.talk) for event in row.events]
        except Unusable as unusable:
            where = Provenance(source=row.source, file=self._path.name, offset=self.line)
            self._writer.keep_aside(unusable.reason, where)
            return False
        if not events or len({event.session_id for event in events}) != 1:
            self._writer.keep_aside(
                "session_mixed", Provenance(source=row.source, file=self._path.name, offset=self.line)
            )
            return False
        first = events[0]
        self._writer.add_session(
            Session(
                id=first.session_id, source=row.source, repository=first.repository, time=first.time, events=tuple(events)
            )
        )
        return True

    def _event(self, event: AnyEvent, *, is_talk: bool) -> AnyEvent:
        plain = _redacted(msgspec.to_builtins(event), self._writer, _UNTOUCHED_OF_TALKS if is_talk else _UNTOUCHED)
        clean: AnyEvent = msgspec.convert(plain if is_talk else {**plain, "repository": self._name}, AnyEvent)
        if isinstance(clean, Commit):
            moves = [Move(move.path, self._reference(move.text_id, move.path)) for move in clean.moves]
            return msgspec.structs.replace(clean, moves=tuple(moves))
        if not isinstance(clean, EditEvent):
            return clean
        if is_talk and _has_bare_hunks(clean):
            return clean
        if not is_talk and not clean.path.isprintable():
            raise Unusable("odd_path")
        before_id = self._reference(clean.before_id, clean.renamed_from or clean.path)
        after_id = self._reference(clean.after_id, clean.path)
        texts = [self._texts[int(number)] if number else "" for number in (clean.before_id, clean.after_id)]
        found = tuple(hunks_between(clean.path, *texts))
        return msgspec.structs.replace(clean, before_id=before_id, after_id=after_id, hunks=found)

    def _reference(self, number: str | None, path: str) -> str | None:
        if number is None:
            return None
        if not number.isdecimal() or len(number) > 9:
            raise Unusable("text_missing")
        return self._stored(int(number), path)

    def _stored(self, number: int, path: str) -> str:
        if not 0 <= number < len(self._texts):
            raise Unusable("text_missing")
        return self._writer.add_text(self._texts[number], near=path)


def _redacted(value: Any, writer: SessionsWriter, untouched: frozenset[str]) -> Any:
    if isinstance(value, str):
        return writer.redact(value)
    if isinstance(value, Mapping):
        return {key: item if key in untouched else _redacted(item, writer, untouched) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [_redacted(item, writer, untouched) for item in value]
    return value


def _lines(path: Path) -> Iterator[bytes]:
    """Lines of the decompressed file. Raises: HostileInputError where a line or the whole is larger than it may be."""
    total = 0
    with (
        path.open("rb") as file,
        zstandard.ZstdDecompressor(max_window_size=1 << _WINDOW_LOG).stream_reader(file) as stream,
    ):
        rest = bytearray()
        while data := stream.read(1 << 20):
            total += len(data)
            rest += data
            if total > _MAX_BYTES or len(rest) > _MAX_LINE + len(data):
                raise HostileInputError(f"`{path}` unpacks to more than a bundle may hold", hint=DAMAGED_HINT)
            if b"\n" in data:
                *lines, last = rest.split(b"\n")
                yield from map(bytes, lines)
                rest = last
    if rest:
        raise InputError(f"`{path}` ends within a line", hint="copy or download it again")
