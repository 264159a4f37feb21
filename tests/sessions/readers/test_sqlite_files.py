"""Databases of other programs, read while anything may happen to them."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from apprentice.sessions.readers.sqlite_files import Database, Rows
from apprentice.sessions.unusable import Unusable


def make(path: Path, *statements: str) -> Database:
    with closing(sqlite3.connect(path)) as connection:
        for statement in ("PRAGMA journal_mode = WAL", "CREATE TABLE t (key TEXT UNIQUE, value BLOB)", *statements):
            connection.execute(statement)
        connection.commit()
    return Database(path, "t", "u")


def elsewhere(path: Path, statement: str, *, end: str = "os._exit(0)") -> None:
    """Another program writes and ends, without putting its log away unless told."""
    code = f"import os, sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None); c.execute(sys.argv[2]); {end}"
    subprocess.run([sys.executable, "-c", code, path, statement], check=True)


def test_what_was_read_of_a_database_that_somebody_began_to_write_is_thrown_away(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    database = make(path, "INSERT INTO t VALUES ('k', 'old')")
    times = 0

    def collect(rows: Rows) -> bytes | None:
        nonlocal times
        times += 1
        found = rows.value("t", "k")
        if times == 1:
            elsewhere(path, "UPDATE t SET value = 'new'")
        return found

    assert database.read(collect) == b"new"
    assert times == 2


def test_a_database_that_changes_each_time_is_given_up(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    database = make(path)

    def collect(rows: Rows) -> None:
        elsewhere(path, "INSERT INTO t VALUES (hex(randomblob(9)), 1)", end="c.close()")

    with pytest.raises(Unusable, match="database locked"):
        database.read(collect)


def test_keys_come_as_they_were_written_and_values_as_bytes(tmp_path: Path) -> None:
    database = make(
        tmp_path / "a ?#%.db", "INSERT INTO t VALUES ('p:b', 'text'), ('p:a', x'ff'), ('p:n', NULL), ('p:i', 7), (x'00', 1), (3, 2)",
        "INSERT INTO t VALUES ('p', 0), ('p;', 0), ('q:', 0), ('p:' || CAST(x'fe' AS TEXT), 0)",
    )  # fmt: skip
    assert database.read(lambda rows: list(rows.keys("t", "p:"))) == ["p:b", "p:a", "p:n", "p:i", "p:\ufffd"]
    assert database.read(lambda rows: [rows.value("t", f"p:{name}") for name in "bani"]) == [b"text", b"\xff", None, b"7"]
    assert database.read(lambda rows: [list(rows.keys("u", "p:")), rows.value("u", "p:a"), rows.value("t", "gone")]) == [[], None, None]


def test_a_link_is_read_with_the_log_beside_what_it_names(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    path = tmp_path / "there" / "a.db"
    make(path)
    elsewhere(path, "INSERT INTO t VALUES ('k', 'log')")
    (tmp_path / "link.db").symlink_to(path)
    assert Database(tmp_path / "link.db", "t").read(lambda rows: rows.value("t", "k")) == b"log"


def test_a_reading_that_takes_too_long_ends(tmp_path: Path) -> None:
    numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 200000)"
    database = make(tmp_path / "a.db", f"INSERT INTO t {numbers} SELECT 'p' || i, i FROM n")
    with pytest.raises(Unusable, match="database takes too long"):
        Database(tmp_path / "a.db", "t", max_read_s=0.0).read(lambda rows: list(rows.keys("t", "p")))
    assert len(database.read(lambda rows: list(rows.keys("t", "p")))) == 200_000
