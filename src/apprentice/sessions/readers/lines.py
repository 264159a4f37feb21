"""Lines of a file that may be large, hostile, or still written to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from apprentice.core.errors import InputError
from apprentice.sessions.conversation import Sink
from apprentice.sessions.events import Provenance

MAX_LINE_BYTES = 64 << 20
MAX_LINES = 1_000_000
"""Of a talk that is read as a whole: each line takes a hundred bytes besides what it says."""
BEHIND_MOST = f"lines behind the first {MAX_LINES:,} of a talk"


@dataclass(frozen=True, slots=True)
class Line:
    """Without its line break."""

    offset: int
    data: bytes


def read_lines(path: Path, source: str, sink: Sink, *, max_bytes: int = MAX_LINE_BYTES, blank: bool = False) -> Iterator[Line]:
    """Lines, blank ones only with `blank`. Longer ones than `max_bytes` are kept aside. A last line without its break may
    be one that a tool is still writing: whether it is whole, its reader sees. Raises: InputError where the file cannot be read."""
    try:
        with path.open("rb") as stream:
            offset = 0
            while data := stream.readline(max_bytes + 1):
                start, offset = offset, offset + len(data)
                if len(data) > max_bytes:
                    while data and not data.endswith(b"\n"):
                        data = stream.readline(max_bytes)
                        offset += len(data)
                    sink.keep_aside("line too long", Provenance(source=source, file=path.name, offset=start), f"{offset - start:,} bytes")
                elif blank or data.strip():
                    yield Line(start, data.rstrip(b"\r\n"))
    except OSError as error:
        raise InputError(f"`{path}` cannot be read: {error.strerror}", hint="check its permissions") from error
