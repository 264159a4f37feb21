"""What a file tells, written down by the process that reads it and taken in by the one that writes the store.

    file --Recorder--> FILE: texts, what was kept aside, sessions with their events, counts --take_in()--> SessionsWriter

Everything in FILE is redacted. Taking in gives the store what reading there would have given it, in the same order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

from apprentice.core.protocols import SecretScanner
from apprentice.sessions.events import AnyEvent, Provenance, Session
from apprentice.sessions.spilled import Events
from apprentice.sessions.store import SessionsWriter, text_id

_LENGTH_BYTES = 8


class _Text(msgspec.Struct, tag="text", array_like=True):
    near: str
    text: str


class _Aside(msgspec.Struct, tag="aside", array_like=True):
    where: Provenance
    reason: str
    detail: str


class _Session(msgspec.Struct, tag="session", array_like=True):
    id: str
    source: str
    repository: str
    time: float
    num_events: int
    """That follow."""


class _End(msgspec.Struct, tag="end", array_like=True):
    dropped: dict[str, int]
    findings: dict[str, int]


_Entry = _Text | _Aside | _Session | _End


class Recorder:
    """Implements `conversation.Sink`."""

    def __init__(self, scanner: SecretScanner, stream: BinaryIO) -> None:
        self._scanner, self._stream = scanner, stream
        self._encoder = msgspec.msgpack.Encoder()
        self._dropped, self._findings = Counter[str](), Counter[str]()

    def redact(self, text: str) -> str:
        redacted, findings = self._scanner.redact(text)
        self._findings.update(findings)
        return redacted

    def add_text(self, redacted: str, *, near: str = "") -> str:
        self._write(_Text(near, redacted))
        return text_id(redacted)

    def drop(self, reason: str, count: int = 1) -> None:
        self._dropped[reason] += count

    def keep_aside(self, reason: str, where: Provenance, detail: str = "") -> None:
        self._write(_Aside(Provenance(source=where.source, file=self.redact(where.file), offset=where.offset), reason, self.redact(detail)))

    def add_session(self, session: Session) -> None:
        self._write(_Session(session.id, session.source, session.repository, session.time, len(session.events)))
        for event in session.events:
            self._write(event)

    def finish(self) -> None:
        self._write(_End(dict(self._dropped), dict(self._findings)))

    def _write(self, entry: _Entry | AnyEvent) -> None:
        body = self._encoder.encode(entry)
        self._stream.write(len(body).to_bytes(_LENGTH_BYTES, "little") + body)


def take_in(path: Path, writer: SessionsWriter) -> list[Session]:
    """The sessions; what goes with them is in the store then."""
    session: _Session | None = None
    events = Events()
    told: list[Session] = []
    for entry in _entries(path):
        if isinstance(entry, _Text):
            writer.add_text(entry.text, near=entry.near)
        elif isinstance(entry, _Aside):
            writer.add_aside(entry.reason, entry.where, entry.detail)
        elif isinstance(entry, _Session):
            session, events = entry, Events()
        elif isinstance(entry, _End):
            for reason, count in entry.dropped.items():
                writer.drop(reason, count)
            writer.count_findings(entry.findings)
        else:
            events.append(entry)
            assert session is not None
            if len(events) == session.num_events:
                told.append(Session(id=session.id, source=session.source, repository=session.repository, time=session.time, events=events.settled()))
    return told


def _entries(path: Path) -> Iterator[_Entry | AnyEvent]:
    entries, events = msgspec.msgpack.Decoder(_Entry), msgspec.msgpack.Decoder(AnyEvent)
    due = 0
    with path.open("rb") as stream:
        while head := stream.read(_LENGTH_BYTES):
            body = stream.read(int.from_bytes(head, "little"))
            if due:
                due -= 1
                yield events.decode(body)
                continue
            entry = entries.decode(body)
            due = entry.num_events if isinstance(entry, _Session) else 0
            yield entry
