"""Recordings of the editor, as they were written and as somebody else may have written them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.sessions.readers.conftest import RememberingSink

from apprentice.sessions.events import EditEvent, Suggestion
from apprentice.sessions.readers.editor import Editor

HEADER = '{"recording":"apprentice","version":1,"session":"editor:s","time":12.5,"repository":"engine"}'
HUNK = {"path": "a.py", "start_line": 3, "old": ["x = 1"], "new": ["x = 2"], "above": ["# hunter2"], "below": []}
BASE = {"id": "any", "session_id": "other", "time": 20.0, "author": {"kind": "developer"}, "provenance": {"source": "git", "file": "x"}}


def edit(**fields: Any) -> dict[str, Any]:
    return {"type": "edit", **BASE, "path": "a.py", "before_id": None, "after_id": None, "hunks": [HUNK], **fields}


def suggestion(outcome: str = "kept", **fields: Any) -> dict[str, Any]:
    return {"type": "suggestion", **BASE, "author": {"kind": "assistant", "agent": "apprentice"}, "edit": HUNK, "outcome": outcome, **fields}


def write(path: Path, *lines: Any) -> Path:
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in (HEADER, *lines)), encoding="utf-8")
    return path


def test_events_in_the_order_of_their_time_redacted_again(tmp_path: Path, sink: RememberingSink) -> None:
    path = write(tmp_path / "s.jsonl", edit(time=30.0), suggestion(time=25.0), edit(time=26.0, author={"kind": "assistant"}))
    assert Editor().recognizes(path, path.read_bytes())
    assert Editor().started(path, path.read_bytes()) == 12.5
    (session,) = Editor().read(path, sink)
    assert (session.id, session.source, session.repository, session.time) == ("editor:s", "editor", "engine", 25.0)
    assert [(type(event), event.author.kind, event.id) for event in session.events] == [
        (Suggestion, "assistant", "editor:s/0"), (EditEvent, "assistant", "editor:s/1"), (EditEvent, "developer", "editor:s/2"),
    ]  # fmt: skip
    assert "hunter2" not in repr(session)
    assert path.read_bytes()[session.events[0].provenance.offset :].startswith(b'{"type": "suggestion"')
    assert {event.provenance.source for event in session.events} == {"editor"}


def test_a_revision_is_no_place_to_hide_a_text_and_a_newer_version_is_kept_aside(tmp_path: Path, sink: RememberingSink) -> None:
    (session,) = Editor().read(write(tmp_path / "s.jsonl", edit(revision="hunter2")), sink)
    assert "hunter2" not in repr(session)
    newer = tmp_path / "n.jsonl"
    newer.write_text(HEADER.replace('"version":1', '"version":2') + "\n" + json.dumps(edit()) + "\n")
    assert list(Editor().read(newer, sink)) == []
    assert sink.aside == {"another version": 1}


def test_who_wrote_it_is_not_believed_where_it_cannot_be(tmp_path: Path, sink: RememberingSink) -> None:
    path = write(
        tmp_path / "s.jsonl", suggestion(author={"kind": "developer", "person": "Ada Lovelace"}), edit(author={"kind": "tool", "agent": "x"}),
        edit(author={"kind": "developer", "person": "Ada Lovelace"}),
    )  # fmt: skip
    (session,) = Editor().read(path, sink)
    assert [(event.author.kind, event.author.person, event.author.agent) for event in session.events] == [
        ("assistant", "", "apprentice"), ("assistant", "", "apprentice"), ("developer", "local-user", ""),
    ]  # fmt: skip


def test_what_is_no_event_is_kept_aside_and_what_teaches_nothing_is_counted(tmp_path: Path, sink: RememberingSink) -> None:
    path = write(
        tmp_path / "s.jsonl", "{", "[]", {"type": "prompt", **BASE, "text": "x"}, suggestion("liked"), edit(hunks=[{**HUNK, "old": 3}]),
        edit(hunks=[{**HUNK, "old": ["hunter2"], "new": ["<secret>"]}]), edit(hunks=[{**HUNK, "new": ["y" * 300_000]}]), edit(hunks=[]),
        edit(hunks=[{**HUNK, "new": ["a\nb"]}]), '{"type":"edit","id":"torn',
    )  # fmt: skip
    (session,) = Editor().read(path, sink)
    assert [event.hunks[0].new for event in session.events if isinstance(event, EditEvent)] == [("a b",)]
    assert sink.aside == {"no event": 6}
    assert sink.dropped == {"edits: no line changed": 2, "edits: too long": 1}


def test_files_without_events_and_of_others(tmp_path: Path, sink: RememberingSink) -> None:
    assert list(Editor().read(write(tmp_path / "a.jsonl"), sink)) == []
    assert list(Editor().read(write(tmp_path / "b.jsonl", "{}"), sink)) == []
    other = tmp_path / "c.jsonl"
    other.write_text('{"recording":"apprentice","nothing":1}\n' + json.dumps(edit()) + "\n")
    assert list(Editor().read(other, sink)) == []
    for name, beginning in (("a.md", HEADER), ("a.jsonl", '{"sessionId": "x"}'), ("a.jsonl", "")):
        assert not Editor().recognizes(Path(name), beginning.encode())
    assert Editor().started(other, b'{"recording":"apprentice","time":1e999999}') in (0.0, float("inf"))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["type", "edit", "hunks", "old", "new", "outcome", "path", "time", "author", "kind"]), inner, max_size=4
    ), max_leaves=9,
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.lists(JSON | st.text(max_size=20).map(lambda text: text.replace("\n", "")), max_size=4), st.integers(0, 400))
def test_any_file_is_read_or_kept_aside(tmp_path_factory: Any, lines: list[Any], cut: int) -> None:
    path = tmp_path_factory.mktemp("any") / "s.jsonl"
    write(path, edit(), *[line if isinstance(line, str) else json.dumps(line) for line in lines])
    path.write_bytes(path.read_bytes()[: len(HEADER) + 1 + cut])
    for session in Editor().read(path, RememberingSink()):
        assert session.events
