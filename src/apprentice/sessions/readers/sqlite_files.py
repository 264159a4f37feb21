"""Databases of programs that may be running: read as they stand, never written to, nothing left beside them.

    path --Database.read(collect)--> what `collect` takes out of `Rows`, all of it as of one moment

Each reading opens the file anew and takes one transaction, so that nobody waits for us and no log grows on our account. SQLite
would write even for a reader: the index of a write-ahead log (`-shm`), or an empty log where there is none. So, by what there is:

    rollback journal             read-only, locks respected
    log and its index            read-only, the index read-only too; the program may be writing
    log format, but no log       immutable: nobody has it open; if that changes meanwhile, what was read is thrown away
    log without its index        refused: without its index it can only be read by writing one

Values may be text, bytes or nothing, whatever the column says. A database is input like any other: only plain tables are read
(a view can be a query without end), values and time are bounded.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from apprentice.sessions.unusable import Unusable

MAGIC = b"SQLite format 3\0"
"""How a database file begins."""
MAX_VALUE_BYTES = 64 << 20
MAX_RECORDS = 200_000
"""Of a table that is read as a whole."""
MAX_READ_S = 60.0
"""Of one reading."""

_BUSY_S = 2.0
_TRIES = 3
_LOG_FORMAT = 2
"""In bytes 18 and 19 of the header, where a database keeps a write-ahead log."""
_STEPS = 100_000
"""Of SQLite's machine between two looks at the clock."""
_REASONS = {
    sqlite3.SQLITE_BUSY: "database locked", sqlite3.SQLITE_LOCKED: "database locked", sqlite3.SQLITE_CORRUPT: "database damaged",
    sqlite3.SQLITE_NOTADB: "no database", sqlite3.SQLITE_INTERRUPT: "database takes too long",
}  # fmt: skip

Taken = TypeVar("Taken")


class Rows:
    """Tables of keys and values, within one reading."""

    def __init__(self, connection: sqlite3.Connection, tables: set[str], records: Mapping[str, tuple[str, ...]]) -> None:
        self._connection, self._tables, self._records = connection, tables, records

    def keys(self, table: str, prefix: str) -> Iterator[str]:
        """Keys that begin so, in the order in which they were written."""
        if table in self._tables:
            # No LIKE: a prefix may hold its wildcards. The plus sign keeps SQLite from walking the whole table in its order.
            query = f"SELECT key FROM {table} WHERE key >= ? AND key < ? ORDER BY +rowid"
            for (key,) in self._connection.execute(query, (prefix, prefix[:-1] + chr(ord(prefix[-1]) + 1))):
                if isinstance(key, bytes):
                    yield key.decode("utf-8", "replace")

    def records(self, table: str) -> Iterator[tuple[Any, ...]]:
        """The columns that were asked for, of each row, in the order in which they were written; text as bytes."""
        if table in self._tables:
            yield from self._connection.execute(f"SELECT {', '.join(self._records[table])} FROM {table} ORDER BY rowid LIMIT {MAX_RECORDS}")

    def value(self, table: str, key: str) -> bytes | None:
        """None where there is none. Raises: Unusable where it is too long."""
        if table not in self._tables:
            return None
        try:
            row = self._connection.execute(f"SELECT value FROM {table} WHERE key = ?", (key,)).fetchone()
        except (sqlite3.DataError, UnicodeEncodeError) as error:
            raise Unusable("value too long or no text", aside=True, detail=f"{key}: {error}"[:200]) from error
        value = row[0] if row is not None else None
        return value if isinstance(value, bytes) else None if value is None else str(value).encode()


class Database:
    """One file."""

    def __init__(
        self, path: Path, *tables: str, records: Mapping[str, tuple[str, ...]] = MappingProxyType({}), max_read_s: float = MAX_READ_S
    ) -> None:
        """`tables`: those with columns `key` and `value` that are looked for; `records`: others with the columns that they must have."""
        self._path, self._records, self._max_read_s = path.resolve(), records, max_read_s
        self._columns = {**dict.fromkeys(tables, ("key", "value")), **records}

    def read(self, collect: Callable[[Rows], Taken]) -> Taken:
        """What `collect` returns; it may run several times. Raises: Unusable where the file cannot be read."""
        for tries_left in reversed(range(_TRIES)):
            before = self._state()
            try:
                mode = self._mode()
                with closing(self._open(mode)) as connection:
                    taken = collect(Rows(connection, self._plain_tables(connection), self._records))
            except sqlite3.Error as error:
                if tries_left and self._state() != before:
                    continue
                reason = _REASONS.get((getattr(error, "sqlite_errorcode", None) or 0) & 0xFF, "database unreadable")
                raise Unusable(reason, aside=True, detail=str(error)[:200]) from error
            except OSError as error:
                raise Unusable("file unreadable", aside=True, detail=str(error.strerror)) from error
            if "immutable" not in mode or self._state() == before:
                return taken
        raise Unusable("database locked", aside=True, detail="it changed each time that it was read")

    def _mode(self) -> str:
        with self._path.open("rb") as stream:
            header = stream.read(100)
        if not header.startswith(MAGIC):
            raise Unusable("no database", aside=True, detail="it does not begin as SQLite's files do")
        if _LOG_FORMAT not in header[18:20]:
            return "mode=ro"
        log, index = self._beside("-wal"), self._beside("-shm")
        if log.exists() and index.exists():
            return "mode=ro&readonly_shm=1"
        if log.exists() and log.stat().st_size:
            raise Unusable("log without its index", aside=True, detail="start and close the program that it belongs to")
        return "mode=ro&immutable=1"

    def _open(self, mode: str) -> sqlite3.Connection:
        connection = sqlite3.connect(f"{self._path.as_uri()}?{mode}", uri=True, timeout=_BUSY_S, isolation_level=None)
        # Text that is no UTF-8 would end the reading.
        connection.text_factory = bytes
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_VALUE_BYTES)
        end = time.monotonic() + self._max_read_s
        connection.set_progress_handler(lambda: time.monotonic() > end, _STEPS)
        try:
            connection.execute("PRAGMA trusted_schema = OFF")
            connection.execute("BEGIN")
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    def _plain_tables(self, connection: sqlite3.Connection) -> set[str]:
        plain = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND rootpage > 0")}
        found = {table: {name.encode() for name in names} for table, names in self._columns.items() if table.encode() in plain}
        return {
            table for table, names in found.items() if names <= {column[1] for column in connection.execute(f"PRAGMA table_info({table})")}
        }

    def _state(self) -> tuple[tuple[int, int] | None, ...]:
        """Changes when somebody begins to write."""
        files = (self._path, self._beside("-wal"), self._beside("-shm"))
        return tuple((found.st_mtime_ns, found.st_size) if (found := _stat(file)) else None for file in files)

    def _beside(self, ending: str) -> Path:
        return self._path.with_name(self._path.name + ending)


def _stat(file: Path) -> os.stat_result | None:
    try:
        return file.stat()
    except OSError:
        return None
