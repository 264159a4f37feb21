"""The sessions artifact: events, texts and trees in Parquet, redacted before they reach the disk.

    sessions/
      events/SOURCE-0000.parquet   a row an event: columns to query by, and `body`, the whole event as JSON
      texts/0000.parquet           text_id, text: every version of every file that an event or a tree names
      tree.parquet                 repository, path, text_id: the files at the start of each history's window
      kept_aside.jsonl             what could not be read: reason, source, file, offset
      manifest.json                counts, what was left out and why, one entry a stream (see below)

A text's id is the start of the SHA-256 of the REDACTED text, so equal texts are stored once and nothing can be guessed
from an id. Texts are written in row groups of some megabytes, versions of one file side by side, which zstd makes tenths
of; a reader decodes a row group at a time and keeps the latest ones. Memory stays bounded by row groups on both sides.

A stream is one reading of one repository or file. A later reading takes over the earlier streams' files as they are
(`previous`) and adds its own. `Sessions.sessions()` merges streams by time and keeps each stream's own order.
"""

from __future__ import annotations

import contextlib
import hashlib
import heapq
import itertools
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from apprentice.core import artifacts, files
from apprentice.core.artifacts import ArtifactWriter, Manifest
from apprentice.core.errors import InputError, InternalError
from apprentice.core.protocols import SecretScanner
from apprentice.sessions.events import SCHEMA_VERSION, AnyEvent, Provenance, Session
from apprentice.sessions.policy import Policy
from apprentice.sessions.remembered import Remembering

KIND = "sessions"
ASIDE = "kept_aside.jsonl"
VERSION = 3
"""Of this stage: a change makes earlier artifacts stale."""
_TEXT_GROUP_BYTES = 16 << 20
_EVENT_GROUP_BYTES = 8 << 20
_LONG_SESSION_BYTES = 2 * _EVENT_GROUP_BYTES
"""A row group ends with a session, but where a session has more than this."""
_CACHE_BYTES = 192 << 20

_EVENT_SCHEMA = pa.schema(
    [
        ("session_id", pa.string()),
        ("event_id", pa.string()),
        ("type", pa.string()),
        ("time", pa.float64()),
        ("author", pa.string()),
        ("person", pa.string()),
        ("agent", pa.string()),
        ("repository", pa.string()),
        ("revision", pa.string()),
        ("file", pa.string()),
        ("offset", pa.int64()),
        ("path", pa.string()),
        ("before_id", pa.string()),
        ("after_id", pa.string()),
        ("body", pa.string()),
    ]
)
_TEXT_SCHEMA = pa.schema([("text_id", pa.string()), ("text", pa.large_string())])
_TREE_SCHEMA = pa.schema([("repository", pa.string()), ("path", pa.string()), ("text_id", pa.string())])


def text_id(text: str) -> str:
    """Id of a redacted text."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]


TalkKey = tuple[str, str, float, int]


def talk_key(source: str, events: Sequence[AnyEvent]) -> TalkKey:
    """What a talk that is met twice is known by. An id alone is not enough: two runs of an agent are called after the same task, and a talk
    may have gone on since somebody exported it."""
    return source, events[0].session_id, events[0].time, len(events)


class Stream(msgspec.Struct, kw_only=True):
    """One reading of one repository or file, as the manifest has it."""

    source: str
    repository: str
    events_file: str
    talks: bool = False
    """Conversations with assistants, not the history of a repository."""
    state: dict[str, Any] = {}
    """What the reader needs to go on from here."""
    files: int = 1
    sessions: int = 0
    texts: int = 0
    events: dict[str, int] = {}
    kept_aside: dict[str, int] = {}
    dropped: dict[str, int] = {}


class SessionsWriter:
    """Writes the artifact, a stream at a time. A context manager; `finish` makes it whole."""

    def __init__(self, artifact: ArtifactWriter, scanner: SecretScanner, *, previous: Sessions | None = None) -> None:
        self._artifact, self._remembering = artifact, Remembering(scanner)
        self._stack = contextlib.ExitStack()
        self._streams: list[Stream] = []
        self._tree: list[dict[str, str]] = []
        self._known: set[bytes] = set()
        self.told: set[TalkKey] = set()
        """Conversations that are in it already."""
        self._findings: Counter[str] = Counter()
        self._text_rows: list[tuple[str, str, str]] = []
        self._text_bytes = 0
        self._event_rows: list[dict[str, Any]] = []
        self._event_bytes = 0
        self._texts: pq.ParquetWriter | None = None
        self._events: pq.ParquetWriter | None = None
        self._aside: BinaryIO | None = None
        self.previous = previous

    def __enter__(self) -> SessionsWriter:
        self._stack.__enter__()
        if self.previous is not None:
            self._take_over(self.previous)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def redact(self, text: str) -> str:
        """The text as it may be written."""
        redacted, findings = self._remembering.redact(text)
        self._findings.update(findings)
        return redacted

    def count_findings(self, findings: Mapping[str, int]) -> None:
        """Of texts that were redacted elsewhere."""
        self._findings.update(findings)

    def add_text(self, redacted: str, *, near: str = "") -> str:
        """Store a redacted text; its id. Texts with the same `near` (their path) are laid side by side."""
        digest = hashlib.sha256(redacted.encode()).digest()[:16]
        if digest not in self._known:
            self._known.add(digest)
            self._text_rows.append((near, digest.hex(), redacted))
            self._text_bytes += len(redacted)
            self._stream.texts += 1
            if self._text_bytes >= _TEXT_GROUP_BYTES:
                self._flush_texts()
        return digest.hex()

    def free_name(self, repository: str) -> str:
        """The name, or with a number where a stream of this artifact has it already."""
        taken = {stream.repository for stream in self._streams}
        names = (repository if number == 1 else f"{repository}-{number}" for number in itertools.count(1))
        return next(name for name in names if name not in taken)

    def start_stream(self, source: str, repository: str, *, talks: bool = False) -> Stream:
        """Begin a reading; what is added from now on belongs to it. `talks`: it is not the history of one repository."""
        self._end_stream()
        if not source.isidentifier():
            raise ValueError(f"{source!r} is no name of a source")
        name = f"events/{source}-{len(self._streams):04d}.parquet"
        self._streams.append(Stream(source=source, repository=repository, events_file=name, talks=talks))
        sink = self._stack.enter_context(contextlib.ExitStack())
        stream = sink.enter_context(files.open_write(self._artifact.path(name)))
        self._events = sink.enter_context(pq.ParquetWriter(stream, _EVENT_SCHEMA, compression="zstd"))
        self._close_events = sink
        return self._streams[-1]

    def add_tree(self, path: str, text_id: str) -> None:
        """A file of the repository at the start of the stream."""
        self._tree.append({"repository": self._stream.repository, "path": path, "text_id": text_id})

    def add_session(self, session: Session) -> None:
        """Sessions come in the order in which they happened."""
        if self._stream.talks and session.events:
            self.told.add(talk_key(session.source, session.events))
        for event in session.events:
            body = msgspec.json.encode(event).decode()
            self._event_rows.append(_event_row(event, body))
            self._event_bytes += len(body)
            kind = str(event.__struct_config__.tag)
            self._stream.events[kind] = self._stream.events.get(kind, 0) + 1
            if self._event_bytes >= _LONG_SESSION_BYTES:
                self._flush_events()
        self._stream.sessions += 1
        if self._event_bytes >= _EVENT_GROUP_BYTES:
            self._flush_events()

    def drop(self, reason: str, count: int = 1) -> None:
        """Something was left out by rule."""
        self._stream.dropped[reason] = self._stream.dropped.get(reason, 0) + count

    def keep_aside(self, reason: str, where: Provenance, detail: str = "") -> None:
        """Something could not be read."""
        self.add_aside(reason, Provenance(source=where.source, file=self.redact(where.file), offset=where.offset), self.redact(detail))

    def add_aside(self, reason: str, where: Provenance, detail: str) -> None:
        """The same, where names and details are redacted already."""
        self._stream.kept_aside[reason] = self._stream.kept_aside.get(reason, 0) + 1
        if self._aside is None:
            self._aside = self._stack.enter_context(files.open_write(self._artifact.path(ASIDE)))
        row = {"reason": reason, "source": where.source, "file": where.file, "offset": where.offset, "detail": detail}
        self._aside.write(msgspec.json.encode(row) + b"\n")

    def finish(
        self, *, config: Mapping[str, Any], policy: Policy, parents: Mapping[str, str] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> Manifest:  # fmt: skip
        """Write what is left and the manifest. `extra`: further facts for it."""
        self._end_stream()
        self._flush_texts()
        self._write_table("tree.parquet", _TREE_SCHEMA, self._tree)
        self._stack.close()
        facts = {
            "schema": SCHEMA_VERSION,
            "streams": msgspec.to_builtins(self._streams),
            "policy": policy.describe(stream.source for stream in self._streams),
            "redacted": dict(sorted(self._findings.items())),
            **(extra or {}),
        }
        counts, dropped = Counter[str](), Counter[str]()
        for stream in self._streams:
            counts.update({"sessions": stream.sessions, "texts": stream.texts, "events": sum(stream.events.values())})
            counts.update({f"kept_aside/{reason}": n for reason, n in stream.kept_aside.items()})
            dropped.update(stream.dropped)
        return self._artifact.finish(config=config, counts=counts, dropped=dropped, extra=facts, parents=parents)

    @property
    def _stream(self) -> Stream:
        if not self._streams:
            raise InternalError("`start_stream` comes first")
        return self._streams[-1]

    def _take_over(self, previous: Sessions) -> None:
        for name in previous.data_files():
            files.copy_file(previous.folder / name, self._artifact.path(name))
        self._streams = previous.streams()
        self._known = {bytes.fromhex(known) for known in previous.text_ids()}
        for repository, tree in previous.trees().items():
            self._tree += [{"repository": repository, "path": path, "text_id": id} for path, id in tree.items()]
        aside = previous.folder / ASIDE
        if aside.is_file():
            self._aside = self._stack.enter_context(files.open_write(self._artifact.path(ASIDE)))
            self._aside.write(aside.read_bytes())

    def _end_stream(self) -> None:
        if self._events is not None:
            self._flush_events()
            self._close_events.close()
            self._events = None

    def _flush_events(self) -> None:
        assert self._events is not None
        if self._event_rows:
            self._events.write_table(pa.Table.from_pylist(self._event_rows, schema=_EVENT_SCHEMA))
        self._event_rows.clear()
        self._event_bytes = 0

    def _flush_texts(self) -> None:
        if not self._text_rows:
            return
        if self._texts is None:
            number = len({name for name in self._artifact.folder.glob("texts/*.parquet")})
            path = self._artifact.path(f"texts/{number:04d}.parquet")
            stream = self._stack.enter_context(files.open_write(path))
            writer = pq.ParquetWriter(stream, _TEXT_SCHEMA, compression="zstd", compression_level=6,
                                      use_dictionary=False, write_statistics=False, data_page_size=8 << 20)  # fmt: skip
            self._texts = self._stack.enter_context(writer)
        self._text_rows.sort(key=lambda row: row[0])
        columns = [
            pa.array([row[1] for row in self._text_rows]),
            pa.array([row[2] for row in self._text_rows], pa.large_string()),
        ]
        self._texts.write_table(pa.Table.from_arrays(columns, schema=_TEXT_SCHEMA))
        self._text_rows.clear()
        self._text_bytes = 0

    def _write_table(self, name: str, schema: pa.Schema, rows: list[dict[str, str]]) -> None:
        with files.open_write(self._artifact.path(name)) as stream:
            pq.write_table(pa.Table.from_pylist(rows, schema=schema), stream, compression="zstd")


class Sessions:
    """A finished sessions artifact. Implements `core.protocols.TextSource`."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder, self.manifest = folder, manifest
        self._parts = [self._open(name) for name in sorted(manifest.files) if name.startswith("texts/")]
        self._places: dict[str, tuple[int, int, int]] = {}
        for part, file in enumerate(self._parts):
            for group in range(file.num_row_groups):
                ids = file.read_row_group(group, columns=["text_id"]).column(0).to_pylist()
                self._places.update((text_id, (part, group, row)) for row, text_id in enumerate(ids))
        self._groups: OrderedDict[tuple[int, int], pa.ChunkedArray] = OrderedDict()
        self._cached_bytes = 0

    @classmethod
    def open(cls, folder: Path) -> Sessions:
        """Raises: InputError naming the folder and the command that makes it."""
        return cls(folder, artifacts.read(folder, kind=KIND))

    @property
    def hash(self) -> str:
        """Content hash of the artifact."""
        return self.manifest.hash

    def streams(self) -> list[Stream]:
        """What was read, in the order in which it was read."""
        return msgspec.convert(self.manifest.extra["streams"], list[Stream])

    def repositories(self) -> list[str]:
        """Names of the repositories whose history is here, each once."""
        return list(dict.fromkeys(stream.repository for stream in self.streams() if stream.repository and not stream.talks))

    def sessions(self, repository: str | None = None) -> Iterator[Session]:
        """Of all repositories' histories, or one's, oldest first; within a stream in the order in which they were stored."""
        return self._merged([s for s in self.streams() if not s.talks and repository in (None, s.repository)])

    def talks(self) -> Iterator[Session]:
        """Conversations with assistants, oldest first."""
        return self._merged([stream for stream in self.streams() if stream.talks])

    def _merged(self, streams: list[Stream]) -> Iterator[Session]:
        chains: dict[str, list[Stream]] = {}
        for stream in streams:
            # Readings of a history go on from each other; talks of one tool may have been read in two places.
            chains.setdefault(stream.events_file if stream.talks else f"{stream.source}/{stream.repository}", []).append(stream)
        return heapq.merge(*(self._chain(chain) for chain in chains.values()), key=lambda session: session.time)

    def text(self, text_id: str) -> str:
        """Raises: KeyError for an id that is not here."""
        part, group, row = self._places[text_id]
        return self._group(part, group)[row].as_py()

    def __contains__(self, text_id: object) -> bool:
        return text_id in self._places

    def text_ids(self) -> Iterator[str]:
        """Ids of all texts."""
        return iter(self._places)

    def trees(self) -> dict[str, dict[str, str]]:
        """Repository -> path -> id of the text: the files at the start of the history's window."""
        trees: dict[str, dict[str, str]] = {}
        for row in self._open("tree.parquet").read().to_pylist():
            trees.setdefault(row["repository"], {})[row["path"]] = row["text_id"]
        return trees

    def tree(self, repository: str) -> dict[str, str]:
        """Path -> id of the text, of one repository."""
        return self.trees().get(repository, {})

    def data_files(self) -> list[str]:
        """Files that a later reading takes over as they are."""
        return [name for name in self.manifest.files if name.startswith(("texts/", "events/"))]

    def summary(self) -> dict[str, Any]:
        """The object that `sessions read --json` prints."""
        sources: dict[str, Stream] = {}
        for stream in self.streams():
            total = sources.setdefault(
                stream.source, Stream(source=stream.source, repository="", events_file="", files=0)
            )
            total.files += stream.files
            total.sessions += stream.sessions
            total.events = dict(Counter(total.events) + Counter(stream.events))
            total.kept_aside = dict(Counter(total.kept_aside) + Counter(stream.kept_aside))
            total.dropped = dict(Counter(total.dropped) + Counter(stream.dropped))
        shown = ("files", "sessions", "events", "kept_aside", "dropped")
        return {"sources": {name: {field: getattr(total, field) for field in shown} for name, total in sources.items()}}

    def _chain(self, streams: list[Stream]) -> Iterator[Session]:
        for stream in streams:
            yield from self.of_stream(stream)

    def of_stream(self, stream: Stream) -> Iterator[Session]:
        """One reading's sessions, in the order in which they were stored."""
        decoder = msgspec.json.Decoder(AnyEvent)
        events: list[AnyEvent] = []
        file = self._open(stream.events_file)
        # One row group at a time: over all of them pyarrow 26 keeps what it has read, as much as the file is long.
        groups = (file.iter_batches(batch_size=256, row_groups=[group], columns=["body"]) for group in range(file.num_row_groups))
        for batch in itertools.chain.from_iterable(groups):
            for body in batch.column(0).to_pylist():
                try:
                    event = decoder.decode(body)
                except (msgspec.DecodeError, UnicodeDecodeError) as error:
                    raise InputError(f"`{self.folder / stream.events_file}` holds an event that cannot be read: {error}",
                                     hint="read the sessions again: `apprentice sessions read`") from error  # fmt: skip
                if events and event.session_id != events[0].session_id:
                    yield _session(stream, events)
                    events = []
                events.append(event)
        if events:
            yield _session(stream, events)

    def _group(self, part: int, group: int) -> pa.ChunkedArray:
        key = (part, group)
        if key not in self._groups:
            self._groups[key] = self._parts[part].read_row_group(group, columns=["text"]).column(0)
            self._cached_bytes += self._groups[key].nbytes
            while self._cached_bytes > _CACHE_BYTES and len(self._groups) > 1:
                self._cached_bytes -= self._groups.popitem(last=False)[1].nbytes
        self._groups.move_to_end(key)
        return self._groups[key]

    def _open(self, name: str) -> pq.ParquetFile:
        try:
            return pq.ParquetFile(self.folder / name)
        except (OSError, pa.ArrowException) as error:
            raise InputError(f"`{self.folder / name}` cannot be read: {error}",
                             hint="read the sessions again: `apprentice sessions read`") from error  # fmt: skip


def _event_row(event: AnyEvent, body: str) -> dict[str, Any]:
    return {
        "session_id": event.session_id,
        "event_id": event.id,
        "type": event.__struct_config__.tag,
        "time": event.time,
        "author": event.author.kind,
        "person": event.author.person,
        "agent": event.author.agent,
        "repository": event.repository,
        "revision": event.revision,
        "file": event.provenance.file,
        "offset": event.provenance.offset,
        "path": getattr(event, "path", None),
        "before_id": getattr(event, "before_id", None),
        "after_id": getattr(event, "after_id", None),
        "body": body,
    }


def _session(stream: Stream, events: list[AnyEvent]) -> Session:
    first = events[0]
    return Session(
        id=first.session_id, source=stream.source, repository=first.repository, time=first.time, events=tuple(events)
    )
