"""Cursor's databases that are in use, damaged or none: read as of one moment or kept aside, and never written to."""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.sessions.readers.conftest import RememberingSink, words
from tests.sessions.readers.cursor_talks import Talk, read, write


def state(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.rglob("*")) if path.is_file()
    }  # fmt: skip


def rows(num_talks: int = 1) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for number in range(num_talks):
        talk = Talk(f"c{number}")
        talk.user("go")
        found |= talk.all_rows()
    return found


@contextmanager
def program(path: Path, code: str) -> Iterator[subprocess.Popen[str]]:
    """Another one, that has the database open; `code` says a line when it is ready and ends when its input does."""
    start = f"import sqlite3, sys, json\nconnection = sqlite3.connect({str(path)!r}, isolation_level=None)\n"
    process = subprocess.Popen([sys.executable, "-c", start + code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert process.stdout.readline()
        yield process
    finally:
        process.stdin.close()
        process.wait(timeout=30)
        process.stdout.close()


WAIT = "print('ready', flush=True)\nsys.stdin.read()\n"


@pytest.mark.parametrize("log", [True, False])
def test_nothing_is_written_beside_a_database_that_nobody_has_open(tmp_path: Path, sink: RememberingSink, log: bool) -> None:
    path = write(tmp_path / "globalStorage" / "state.vscdb", rows(), log=log)
    before = state(tmp_path)
    assert len(read(path, sink)) == 1
    assert state(tmp_path) == before
    assert list(before) == ["globalStorage/state.vscdb"]


def test_a_database_is_read_with_the_log_of_the_program_that_has_it_open(tmp_path: Path, sink: RememberingSink) -> None:
    path = write(tmp_path / "state.vscdb", rows(), log=True)
    value = json.dumps({"fullConversationHeadersOnly": [{"bubbleId": "b", "type": 1}]})
    code = (
        f"connection.execute('INSERT INTO cursorDiskKV VALUES (?, ?)', ('composerData:new', {value!r}))\n"
        "connection.execute('INSERT INTO cursorDiskKV VALUES (?, ?)', ('bubbleId:new:b', '{\"type\": 1, \"text\": \"from the log\"}'))\n"
    )
    with program(path, code + WAIT):
        before = state(tmp_path)
        assert list(before) == ["state.vscdb", "state.vscdb-shm", "state.vscdb-wal"]
        assert {text for session in read(path, sink) for text in words(session)} == {"go", "from the log"}
        assert state(tmp_path) == before
    assert not sink.aside


WRITER = """
print('ready', flush=True)
named, number = [], 0
connection.execute('PRAGMA wal_autocheckpoint = 5')
import select, time
while not select.select([sys.stdin], [], [], 0)[0]:
    number += 1
    if number % 40 == 0:
        named = []
    named.append({'bubbleId': f'b{number}', 'type': 1})
    connection.execute('BEGIN IMMEDIATE')
    if len(named) == 1:
        connection.execute("DELETE FROM cursorDiskKV WHERE key LIKE 'bubbleId:c0:%'")
    connection.execute('INSERT INTO cursorDiskKV VALUES (?, ?)', (f'bubbleId:c0:b{number}', json.dumps({'type': 1, 'text': 'x' * 3000})))
    connection.execute('INSERT INTO cursorDiskKV VALUES (?, ?)', ('composerData:c0', json.dumps({'fullConversationHeadersOnly': named})))
    connection.execute('COMMIT')
    # Where there is no log, readers wait for writers.
    time.sleep(PAUSE_S)
"""


@pytest.mark.parametrize("log", [True, False])
def test_a_talk_that_is_being_written_is_read_as_of_one_moment(tmp_path: Path, sink: RememberingSink, log: bool) -> None:
    path = write(tmp_path / "state.vscdb", rows(), log=log)
    lengths = set[int]()
    with program(path, WRITER.replace("PAUSE_S", "0.0" if log else "0.02")) as writer:
        for _ in range(25):
            sessions = read(path, sink)
            lengths |= {len(session.events) for session in sessions}
            time.sleep(0.01)
        assert writer.poll() is None
    assert len(lengths) > 2
    # A list and its messages are written together: no message may be missing, and none be more.
    assert not sink.dropped
    assert set(sink.aside) <= {"database locked"}


def test_a_database_that_is_locked_is_kept_aside(tmp_path: Path, sink: RememberingSink) -> None:
    path = write(tmp_path / "state.vscdb", rows())
    with program(path, "connection.execute('BEGIN EXCLUSIVE')\n" + WAIT):
        assert read(path, sink) == []
    assert dict(sink.aside) == {"database locked": 1}


def test_a_log_without_its_index_is_kept_aside_and_stays(tmp_path: Path, sink: RememberingSink) -> None:
    path = write(tmp_path / "a" / "state.vscdb", rows(), log=True)
    with program(path, "connection.execute('INSERT INTO cursorDiskKV VALUES (1, 2)')\n" + WAIT):
        for ending in ("", "-wal"):
            (tmp_path / "b").mkdir(exist_ok=True)
            shutil.copy(f"{path}{ending}", tmp_path / "b")
    before = state(tmp_path / "b")
    assert read(tmp_path / "b" / "state.vscdb", sink) == []
    assert dict(sink.aside) == {"log without its index": 1}
    assert state(tmp_path / "b") == before


def damaged(path: Path, how: str) -> None:
    whole = path.read_bytes()
    if how == "half":
        path.write_bytes(whole[: len(whole) // 2])
    elif how == "noise":
        path.write_bytes(whole[:100] + bytes(range(256)) * (len(whole) // 256))
    elif how == "schema":
        path.write_bytes(whole.replace(b"CREATE TABLE", b"CREATE TABEL"))
    elif how == "words":
        path.write_text("no database at all")
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "header":
        path.write_bytes(whole[:60])


@pytest.mark.parametrize("how", ["half", "noise", "schema", "words", "empty", "header"])
@pytest.mark.parametrize("log", [True, False])
def test_a_damaged_database_is_kept_aside_and_stays(tmp_path: Path, sink: RememberingSink, how: str, log: bool) -> None:
    path = write(tmp_path / "state.vscdb", rows(40), log=log)
    damaged(path, how)
    before = state(tmp_path)
    assert len(read(path, sink)) < 40
    assert set(sink.aside) <= {"database damaged", "no database", "database unreadable"}
    assert sink.aside
    assert state(tmp_path) == before


def test_a_file_that_is_not_there_or_not_ours_to_open(tmp_path: Path, sink: RememberingSink) -> None:
    assert read(tmp_path / "state.vscdb", sink) == []
    (tmp_path / "folder.vscdb").mkdir()
    assert read(tmp_path / "folder.vscdb", sink) == []
    assert dict(sink.aside) == {"file unreadable": 2}


def test_only_tables_are_read(tmp_path: Path, sink: RememberingSink) -> None:
    path = tmp_path / "state.vscdb"
    with closing(sqlite3.connect(path)) as connection:
        endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT 'composerData:' || i AS key, '{}' AS value FROM n"
        connection.execute(f"CREATE VIEW cursorDiskKV AS {endless}")
        connection.execute("CREATE TABLE ItemTable (name TEXT, content BLOB)")
    assert read(path, sink) == []
    assert not sink.aside


def test_values_that_are_no_talk_are_kept_aside_with_their_key(tmp_path: Path, sink: RememberingSink) -> None:
    talk = Talk()
    talk.user("good")
    talk.user("broken")
    talk.row("bubbleId:c:b1", '{"text": "brok')
    bad = {"composerData:list": "[]", "composerData:none": None, "composerData:noise": b"\xff\xfe", "composerData:number": 7}
    with closing(sqlite3.connect(write(tmp_path / "state.vscdb", {**talk.all_rows(), **bad}))) as connection:
        connection.execute("INSERT INTO cursorDiskKV VALUES ('composerData:long', zeroblob(?))", (65 << 20,))
        connection.commit()
    (session,) = read(tmp_path / "state.vscdb", sink)
    assert words(session) == ["good"]
    assert dict(sink.aside) == {"not JSON": 4, "value too long or no text": 1}
    assert sink.dropped["messages that are gone"] == 1


def test_a_program_that_is_no_cursor_has_nothing_to_say(tmp_path: Path, sink: RememberingSink) -> None:
    assert read(write(tmp_path / "state.vscdb", {}, {"workbench.view": "{}", "composer.composerData": "not JSON"}), sink) == []
    assert dict(sink.aside) == {"not JSON": 1}
