"""Recordings of Apprentice in the editor: `.apprentice/recorded/*.jsonl`, one file a session of the language server.

    {"recording":"apprentice","version":1,"session":..,"time":..,"repository":..}     the first line
    {"type":"edit" | "suggestion", ...}                                               an event each, as `sessions.events` has it

`serve.lsp.recording` writes them, redacted. Here they are read like anybody's files: every text is redacted again (rules have
been added since, and the names of a history's authors are known now), and what is no event is kept aside. Events come in the
order of their time; the outcome of a suggestion was known later than its time says.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

from apprentice.core.errors import InputError
from apprentice.sessions.conversation import DEVELOPER, MAX_TEXT, Sink
from apprentice.sessions.events import Author, EditEvent, Provenance, Session, Suggestion
from apprentice.sessions.readers.lines import read_lines
from apprentice.text.edits import Edit, split_lines

SOURCE = "editor"
AGENT = "apprentice"
PLACES = (".apprentice/recorded",)
"""Where such files lie, in a project."""
SUFFIX = ".jsonl"
VERSION = 1
MAX_FILE_BYTES = 512 << 20
_BEGINS = b'{"recording":"apprentice",'
_TIME = re.compile(rb'"time":([0-9.e+]{1,30})[,}]')


class Header(msgspec.Struct, frozen=True, kw_only=True, tag_field="recording", tag="apprentice"):
    """The first line of a recording."""

    version: int = VERSION
    session: str
    time: float
    """Of the first event, in seconds since 1970."""
    repository: str = ""


class Editor:
    """Reads files one after the other."""

    source = SOURCE

    def recognizes(self, path: Path, beginning: bytes) -> bool:
        """Whether a file that begins so is one of these."""
        return path.suffix == SUFFIX and beginning.startswith(_BEGINS)

    def identity(self, beginning: bytes) -> str:
        """A session lies in one file."""
        return ""

    def started(self, path: Path, beginning: bytes) -> float:
        """When the session began; 0 where the beginning does not say it."""
        found = _TIME.search(beginning.partition(b"\n")[0])
        try:
            return float(found[1]) if found else 0.0
        except ValueError:
            return 0.0

    def read(self, path: Path, sink: Sink) -> Iterator[Session]:
        """The session of a file; none where it holds no event."""
        if path.stat().st_size > MAX_FILE_BYTES:
            raise InputError(f"`{path}` is larger than {MAX_FILE_BYTES:,} bytes", hint="leave it out")
        header: Header | None = None
        events: list[Suggestion | EditEvent] = []
        decoder = msgspec.json.Decoder(Suggestion | EditEvent)
        name = sink.redact(path.name)
        for line in read_lines(path, SOURCE, sink):
            where = Provenance(source=SOURCE, file=name, offset=line.offset)
            try:
                if header is None:
                    header = msgspec.json.decode(line.data, type=Header)
                    if header.version > VERSION:
                        sink.keep_aside("another version", where, str(header.version))
                        return
                    continue
                event = decoder.decode(line.data)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                # The last line may be one that was being written when the machine stopped.
                sink.keep_aside("no event", where, str(error)[:200])
                if header is None:
                    return
                continue
            mended = _mended(event, where, header, sink)
            if mended is not None:
                events.append(mended)
        if header is not None and events:
            session_id, repository = sink.redact(header.session), sink.redact(header.repository)
            ordered = sorted(events, key=lambda event: event.time)
            numbered = tuple(
                msgspec.structs.replace(event, id=f"{session_id}/{number}", session_id=session_id, repository=repository, revision="")
                for number, event in enumerate(ordered)
            )
            yield Session(id=session_id, source=SOURCE, repository=repository, time=numbered[0].time, events=numbered)


def _mended(event: Suggestion | EditEvent, where: Provenance, header: Header, sink: Sink) -> Suggestion | EditEvent | None:
    """The event with its texts redacted, or None, counted, where it holds nothing to learn from."""
    by_model = isinstance(event, Suggestion) or event.author.kind != "developer"
    author = Author(kind="assistant", agent=AGENT) if by_model else DEVELOPER
    hunks = (event.edit,) if isinstance(event, Suggestion) else event.hunks
    if sum(len(line) for hunk in hunks for part in (hunk.old, hunk.new, hunk.above, hunk.below) for line in part) > MAX_TEXT:
        sink.drop("edits: too long")
        return None
    mended = [_redacted(hunk, sink) for hunk in hunks]
    mended = [hunk for hunk in mended if hunk.old != hunk.new]
    if not mended:
        sink.drop("edits: no line changed")
        return None
    if isinstance(event, Suggestion):
        return msgspec.structs.replace(event, edit=mended[0], author=author, provenance=where)
    return msgspec.structs.replace(
        event, path=mended[0].path, hunks=tuple(mended), author=author, provenance=where, before_id=None, after_id=None, renamed_from=None
    )


def _redacted(edit: Edit, sink: Sink) -> Edit:
    old, new, above, below = (
        tuple(split_lines(sink.redact("".join(line.replace("\n", " ") + "\n" for line in part))))
        for part in (edit.old, edit.new, edit.above, edit.below)
    )
    return Edit(sink.redact(edit.path), max(edit.start_line, -1), old, new, above, below)
