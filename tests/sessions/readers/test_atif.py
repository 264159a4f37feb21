"""Agent trajectories: what others write, what our own export wrote, and what neither should have."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.sessions.readers.conftest import RememberingSink

from apprentice.sessions.events import Feedback, Note, Prompt, Reply, Session
from apprentice.sessions.readers.atif import Atif


def step(source: str, message: Any, **fields: Any) -> dict[str, Any]:
    return {"source": source, "message": message, "timestamp": "2026-01-02T03:04:05Z", **fields}


def call(id: str, name: str = "bash_command", **arguments: Any) -> dict[str, Any]:
    return {"tool_call_id": id, "function_name": name, "arguments": arguments}


def trajectory(*steps: dict[str, Any], **fields: Any) -> dict[str, Any]:
    numbered = [{"step_id": number, **one} for number, one in enumerate(steps, 1)]
    return {"schema_version": "ATIF-v1.6", "session_id": "s", "agent": {"name": "terminus-2", "version": "2"}, "steps": numbered, **fields}


def read(tmp_path: Path, document: Any, sink: RememberingSink, reader: Atif | None = None, name: str = "trajectory.json") -> list[Session]:
    path = tmp_path / name
    path.write_text(document if isinstance(document, str) else json.dumps(document), encoding="utf-8")
    return list((reader or Atif()).read(path, sink))


def test_it_is_recognized_by_how_it_begins(tmp_path: Path) -> None:
    reader = Atif()
    beginning = json.dumps(trajectory(step("user", "go")), indent=2).encode()
    assert reader.recognizes(Path("trajectory.json"), beginning)
    assert reader.started(Path("trajectory.json"), beginning) == 1767323045.0
    assert not reader.recognizes(Path("trajectory.jsonl"), beginning)
    assert not reader.recognizes(Path("package.json"), b'{"name": "x"}')
    assert reader.started(Path("x.json"), b'{"timestamp"') == 0.0


def test_a_foreign_trajectory_becomes_prompts_and_replies(tmp_path: Path, sink: RememberingSink) -> None:
    (session,) = read(tmp_path, trajectory(
        step("system", "You are an agent"),
        step("user", "fix hunter2 <system-reminder>be nice</system-reminder>"),
        step("agent", "I look", reasoning_content="hm", tool_calls=[call("a", keystrokes="ls\n"), call("b", keystrokes="pwd\n")],
             observation={"results": [{"source_call_id": "b", "content": "/x"}, {"source_call_id": "a", "content": [{"type": "text", "text": "f.py"}]}]}),
        step("agent", "again", tool_calls=[call("c")], observation={"results": [{"content": "by order"}, {"content": "of nobody"}]}),
        step("user", [{"type": "text", "text": "see"}, {"type": "image", "source": {"media_type": "image/png", "path": "a.png"}}]),
        step("agent", "copied", is_copied_context=True),
    ), sink)  # fmt: skip
    assert (session.source, session.id, session.author.kind) == ("atif", "s", "developer")
    assert [(type(event), event.text) for event in session.events if isinstance(event, Prompt | Reply)] == [
        (Prompt, "fix <secret>"), (Reply, "I look"), (Reply, "again"), (Prompt, "see"),
    ]  # fmt: skip
    first, second = [event for event in session.events if isinstance(event, Reply)]
    assert (first.author.agent, first.reasoning) == ("terminus-2", "hm")
    assert [(c.name, json.loads(c.arguments), c.result) for c in first.tool_calls] == [
        ("bash_command", {"keystrokes": "ls\n"}, "f.py"), ("bash_command", {"keystrokes": "pwd\n"}, "/x"),
    ]  # fmt: skip
    assert second.tool_calls[0].result == "by order"
    assert sink.dropped == {
        "prompts of the system": 1, "notices of the tool": 1, "results of no call": 1, "images and sounds": 1,
        "steps copied from an earlier trajectory": 1,
    }  # fmt: skip


def test_a_call_with_several_results_keeps_them_all(tmp_path: Path, sink: RememberingSink) -> None:
    results = [{"source_call_id": "a", "content": "one"}, {"source_call_id": "x", "content": "?"}, {"source_call_id": "a", "content": "two"}]
    (session,) = read(tmp_path, trajectory(step("agent", "go", tool_calls=[call("a")], observation={"results": [*results, results[1]]})), sink)
    (reply,) = session.events
    assert isinstance(reply, Reply)
    assert reply.tool_calls[0].result == "one\ntwo"
    assert sink.dropped["results of no call"] == 2


def test_a_sub_agent_is_a_session_of_its_own_asked_by_the_assistant(tmp_path: Path, sink: RememberingSink) -> None:
    inner = trajectory(step("user", "look around"), step("agent", "done"), trajectory_id="t-1")
    main, part = read(tmp_path, trajectory(step("user", "go"), step("agent", "yes"), subagent_trajectories=[inner]), sink)
    assert (main.id, part.id) == ("s", "s/t-1")
    assert {event.author.kind for event in part.events} == {"assistant"}


def test_a_summary_after_a_compaction_is_kept(tmp_path: Path, sink: RememberingSink) -> None:
    compaction = step("system", "Context compaction performed", observation={"results": [{"content": "so far: x"}]},
                      extra={"context_management": {"type": "compaction", "boundary": "replace"}})  # fmt: skip
    (session,) = read(tmp_path, trajectory(step("user", "go"), compaction), sink)
    assert [(note.kind, note.text) for note in session.events if isinstance(note, Note)] == [("summary", "so far: x")]


def test_a_session_that_goes_on_in_another_document_keeps_both(tmp_path: Path, sink: RememberingSink) -> None:
    reader = Atif()
    names = [
        session.id
        for name, text in (("a", "one"), ("b", "two"), ("c", "one"))
        for session in read(tmp_path, trajectory(step("user", text)), sink, reader, f"{name}.json")
    ]
    assert names == ["s", "s/part-2"]
    assert sink.dropped == {"sessions that another file has": 1}


def test_without_a_name_or_times_it_is_read_all_the_same(tmp_path: Path, sink: RememberingSink) -> None:
    steps = [{"step_id": 1, "source": "user", "message": "go"}, step("agent", "ok", timestamp="yesterday")]
    (session,) = read(tmp_path, trajectory(*steps, session_id=None), sink)
    assert len(session.id) == 16
    assert [event.time for event in session.events] == [0.0, 0.0]


@pytest.mark.parametrize("extra", [
    {"type": "note", "kind": "law"}, {"type": "feedback", "vote": "left"}, {"type": "feedback"}, {"type": "command", "exit_code": "0"},
    {"type": "command", "exit_code": True}, {"type": "test_run", "passed": True, "failed": 0}, {"type": "test_run", "passed": 1, "failed": False},
    {"type": ["note"]}, {}, "note", 7,
])  # fmt: skip
def test_what_only_looks_like_ours_is_a_prompt_of_the_system(tmp_path: Path, sink: RememberingSink, extra: Any) -> None:
    (session,) = read(tmp_path, trajectory(step("user", "go"), step("system", "x", extra={"apprentice": extra})), sink)
    assert len(session.events) == 1
    assert sink.dropped["prompts of the system"] == 1


@pytest.mark.parametrize("document", [
    "[]", "{", '{"schema_version": "ATIF-v1.7"}', json.dumps(trajectory(step("tool", "x"))), json.dumps(trajectory({"source": "user"})),
    json.dumps(trajectory(step("agent", "x", tool_calls=[{"tool_call_id": "a"}]))), '{"schema_version": "ATIF-v1.7", "steps": ' + "[" * 5000,
])  # fmt: skip
def test_a_document_that_breaks_the_specification_is_an_error_for_the_reading_to_keep_aside(
    tmp_path: Path, sink: RememberingSink, document: str
) -> None:
    with pytest.raises((msgspec.MsgspecError, RecursionError)):
        read(tmp_path, document, sink)


def test_another_version_is_kept_aside(tmp_path: Path, sink: RememberingSink) -> None:
    assert read(tmp_path, trajectory(step("user", "go"), schema_version="ATIF-v2.0"), sink) == []
    assert sink.aside == {"another version": 1}


def test_nobody_votes_in_a_foreign_trajectory(tmp_path: Path, sink: RememberingSink) -> None:
    (session,) = read(tmp_path, trajectory(step("user", "go"), step("agent", "no", extra={"vote": "up"})), sink)
    assert not any(isinstance(event, Feedback) for event in session.events)


def test_many_calls_and_results_take_no_time(tmp_path: Path, sink: RememberingSink) -> None:
    count = 20_000
    many = step("agent", "x", tool_calls=[call("same", x=i) for i in range(count)], observation={"results": [{"content": "r"}] * 2 * count})
    deep: dict[str, Any] = trajectory(step("user", "inside"))
    for _ in range(50):
        deep = trajectory(step("user", "go"), subagent_trajectories=[deep], agent={"name": "a" * 100_000, "version": "1"})
    start = time.process_time()
    (session,) = read(tmp_path, trajectory(many), sink)
    assert len(read(tmp_path, deep, sink)) == 51
    assert time.process_time() - start < 5
    assert isinstance(session.events[0], Reply)
    assert len(session.events[0].tool_calls) == count
    assert sink.dropped["results of no call"] == count
