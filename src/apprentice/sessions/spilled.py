"""The events of one session in the making: in memory while they are few, in a file without a name when they are many.

A session is handed on whole, and one of half a gigabyte would be held whole in memory otherwise. The file lies where the
system keeps temporary ones, holds what is redacted already, and is gone with the object, or with the process.
"""

from __future__ import annotations

import itertools
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, overload

import msgspec

from apprentice.core.errors import StorageError
from apprentice.sessions.events import AnyEvent

IN_MEMORY_BYTES = 16 << 20
_LENGTH_BYTES = 8


class Events(Sequence[AnyEvent]):
    """Grows at its end. One reader at a time."""

    def __init__(self, *, in_memory_bytes: int = IN_MEMORY_BYTES, folder: Path | None = None) -> None:
        """`folder`: where the file is, if not where the system keeps temporary ones."""
        self._encoder = msgspec.msgpack.Encoder()
        self._latest: list[AnyEvent] = []
        self._in_memory_bytes, self._bytes, self._folder = in_memory_bytes, 0, folder
        self._file: IO[bytes] | None = None
        self._num_spilled = 0

    def append(self, event: AnyEvent) -> None:
        self._latest.append(event)
        self._bytes += len(self._encoder.encode(event))
        if self._bytes > self._in_memory_bytes:
            self._spill()

    def settled(self) -> Sequence[AnyEvent]:
        """All of them, as they stay."""
        return self if self._file is not None else tuple(self._latest)

    def __len__(self) -> int:
        return self._num_spilled + len(self._latest)

    def __iter__(self) -> Iterator[AnyEvent]:
        return itertools.chain(self._spilled(), self._latest)

    @overload
    def __getitem__(self, index: int) -> AnyEvent: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[AnyEvent]: ...
    def __getitem__(self, index: int | slice) -> AnyEvent | Sequence[AnyEvent]:
        """Near the ends only is this fast."""
        if isinstance(index, slice):
            return tuple(self)[index]
        index += len(self) if index < 0 else 0
        if not 0 <= index < len(self):
            raise IndexError(index)
        if index >= self._num_spilled:
            return self._latest[index - self._num_spilled]
        return next(itertools.islice(self._spilled(), index, None))

    def _spill(self) -> None:
        try:
            self._write()
        except OSError as error:
            # Not the fault of the file that is read.
            folder = self._folder or tempfile.gettempdir()
            raise StorageError(
                f"cannot write a long session's events in `{folder}`: {error.strerror or error}", hint="free some space there, or name another folder with `TMPDIR`"
            ) from error
        self._num_spilled += len(self._latest)
        self._latest.clear()
        self._bytes = 0

    def _write(self) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile(dir=self._folder)
            weakref.finalize(self, self._file.close)
        self._file.seek(0, 2)
        for event in self._latest:
            body = self._encoder.encode(event)
            self._file.write(len(body).to_bytes(_LENGTH_BYTES, "little") + body)
        self._file.flush()

    def _spilled(self) -> Iterator[AnyEvent]:
        if self._file is None:
            return
        decoder = msgspec.msgpack.Decoder(AnyEvent)
        self._file.seek(0)
        for _ in range(self._num_spilled):
            length = int.from_bytes(self._file.read(_LENGTH_BYTES), "little")
            yield decoder.decode(self._file.read(length))
