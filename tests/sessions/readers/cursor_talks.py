"""Cursor's databases in the making, and what a reader takes out of them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.sessions.readers.conftest import RememberingSink

from apprentice.sessions import events
from apprentice.sessions.events import Session
from apprentice.sessions.readers.cursor import Cursor

FOLDER = "/home/ada/engine"
URI = f"file://{FOLDER}/a.py"
TEXT = "one\ntwo\nthree\n"
CHATS = "workbench.panel.aichat.view.aichat.chatdata"


class Talk:
    """A composer in the making, in the layout that has a row for each message."""

    def __init__(self, talk_id: str = "c", **header: Any) -> None:
        self.id, self.rows = talk_id, dict[str, Any]()
        self.header: dict[str, Any] = {
            "_v": 16, "composerId": talk_id, "createdAt": 1767323045000, "fullConversationHeadersOnly": [],
            "workspaceIdentifier": {"id": "hash", "uri": {"fsPath": FOLDER, "scheme": "file"}}, **header,
        }  # fmt: skip

    def add(self, kind: int, **fields: Any) -> str:
        named = self.header["fullConversationHeadersOnly"]
        bubble_id = f"b{len(named)}"
        named.append({"bubbleId": bubble_id, "type": kind})
        self.row(f"bubbleId:{self.id}:{bubble_id}", {"_v": 3, "type": kind, "bubbleId": bubble_id, "text": "", **fields})
        return bubble_id

    def user(self, text: str, **fields: Any) -> str:
        return self.add(1, text=text, **fields)

    def tool(self, name: str, arguments: Any = None, result: Any = None, **fields: Any) -> str:
        """A tool that is used, its arguments and its result as JSON in JSON."""
        data = {"name": name, "params": json.dumps(arguments), "result": json.dumps(result), "status": "completed", **fields}
        return self.add(2, capabilityType=15, toolFormerData=data)

    def row(self, key: str, value: Any) -> None:
        self.rows[key] = value if isinstance(value, (str, bytes)) else json.dumps(value)

    def block(self, bubble_id: str, status: str, *, uri: str = URI, **fields: Any) -> None:
        """A code block of a message, in the layout with a table by id."""
        of_file = self.header.setdefault("codeBlockData", {}).setdefault(uri, {})
        of_file[f"k{len(of_file)}"] = {"bubbleId": bubble_id, "status": status, "uri": {"fsPath": uri.removeprefix("file://")}, **fields}

    def all_rows(self) -> dict[str, Any]:
        return {f"composerData:{self.id}": json.dumps(self.header), **self.rows}


def write(
    path: Path, kv: Mapping[str, Any] | None = None, items: Mapping[str, Any] | None = None, *, log: bool = False,
    headers: Mapping[str, tuple[int, Any]] | None = None,
) -> Path:  # fmt: skip
    """A database as Cursor makes them. `headers`: the table of newer ones, by talk (whether it is a sub-agent's, value)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA journal_mode = {'WAL' if log else 'DELETE'}")
        for table, rows in (("ItemTable", items), ("cursorDiskKV", kv)):
            connection.execute(f"CREATE TABLE {table} (key TEXT UNIQUE ON CONFLICT REPLACE, value BLOB)")
            connection.executemany(f"INSERT INTO {table} VALUES (?, ?)", list((rows or {}).items()))
        if headers is not None:
            connection.execute("CREATE TABLE composerHeaders (composerId TEXT PRIMARY KEY, createdAt INTEGER, isSubagent INTEGER, value TEXT)")
            rows = [(name, 0, is_sub_agent, json.dumps(value)) for name, (is_sub_agent, value) in headers.items()]
            connection.executemany("INSERT INTO composerHeaders VALUES (?, ?, ?, ?)", rows)
        connection.commit()
    return path


def read(path: Path, sink: RememberingSink) -> list[Session]:
    return list(Cursor().read(path, sink))


def told(talk: Talk, tmp_path: Path, sink: RememberingSink) -> Session:
    """The session that one talk becomes."""
    (session,) = read(write(tmp_path / "globalStorage" / "state.vscdb", talk.all_rows()), sink)
    return session


def kinds(session: Session) -> list[str]:
    return [str(event.__struct_config__.tag) for event in session.events]


def one(session: Session, kind: type[Any]) -> Any:
    (found,) = [event for event in session.events if isinstance(event, kind)]
    return found


def outcomes(session: Session) -> list[tuple[str, tuple[str, ...], tuple[str, ...]]]:
    return [(event.outcome, event.edit.old, event.edit.new) for event in session.events if isinstance(event, events.Suggestion)]
