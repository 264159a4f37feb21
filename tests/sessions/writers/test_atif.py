"""Trajectories against the specification, and back into the same conversation."""

from __future__ import annotations

import importlib
import importlib.util
import json
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.sessions.readers.conftest import RememberingSink
from tests.sessions.writers.conftest import talk

from apprentice.sessions import events
from apprentice.sessions.conversation import Conversation, Use
from apprentice.sessions.events import Command, Feedback, Note, Prompt, Reply, Session
from apprentice.sessions.policy import Policy
from apprentice.sessions.readers.atif import Atif
from apprentice.sessions.writers import atif
from apprentice.sessions.writers.turns import turns

NAMED = Policy(learn_from=("developer", "assistant:claude"))


def document(session: Session, policy: Policy | None = None) -> bytes:
    policy = policy or Policy()
    return atif.document(session, list(turns(session, policy)), policy)


def check(root: dict[str, Any]) -> None:
    """The rules of the specification's sections II and VII that concern what we write."""
    assert set(root) <= {"schema_version", "session_id", "trajectory_id", "agent", "steps", "notes", "final_metrics", "extra"}
    assert root["schema_version"] == "ATIF-v1.7"
    assert set(root["agent"]) == {"name", "version"}
    for number, step in enumerate(root["steps"], 1):
        assert set(step) <= {"step_id", "timestamp", "source", "message", "reasoning_content", "tool_calls", "observation", "extra"}
        assert step["step_id"] == number
        assert step["source"] in ("user", "agent", "system")
        assert isinstance(step["message"], str)
        assert step["source"] == "agent" or not {"reasoning_content", "tool_calls"} & set(step)
        assert step["source"] != "user" or "observation" not in step
        if "timestamp" in step:
            assert datetime.fromisoformat(step["timestamp"]).tzinfo is not None
        calls = [call["tool_call_id"] for call in step.get("tool_calls", [])]
        assert all(isinstance(call["arguments"], dict) and call["function_name"] is not None for call in step.get("tool_calls", []))
        results = [result.get("source_call_id") for result in step.get("observation", {}).get("results", [])]
        assert results == (calls if step["source"] == "agent" else [None] * len(results))


def told(session: Session) -> list[tuple[Any, ...]]:
    """What a round trip keeps of each event: who, when, and every word."""
    replies = [event.id for event in session.events if isinstance(event, Reply)]
    kept: list[tuple[Any, ...]] = []
    for event in session.events:
        common = (type(event).__name__, event.author, event.time, event.repository)
        match event:
            case Prompt(text=text):
                kept.append((*common, text))
            case Reply():
                kept.append((*common, event.text, event.reasoning, event.tool_calls))
            case Note():
                kept.append((*common, event.kind, event.text))
            case Feedback():
                kept.append((*common, event.vote, event.text, replies.index(event.about) if event.about else None))
            case Command() if event.author.kind == "developer":
                kept.append((*common, event.command, event.exit_code, event.output))
            case events.TestRun() if event.author.kind == "developer":
                kept.append((*common, event.command, event.passed, event.failed, event.output))
            case _:
                pass
    return kept


def read_back(data: bytes) -> Session:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "00001.json"
        path.write_bytes(data)
        assert Atif().recognizes(path, data[: 16 << 10])
        (session,) = Atif().read(path, RememberingSink())
    return session


def test_a_conversation_is_a_trajectory_of_the_specification_s_form() -> None:
    root = json.loads(document(talk()))
    check(root)
    assert [step["source"] for step in root["steps"]] == ["user", "agent", "system", "system", "agent", "system", "system", "user", "agent"]
    first = root["steps"][1]
    assert first["tool_calls"][0] == {"tool_call_id": "call00000", "function_name": "Bash", "arguments": {"command": "pytest"}}
    assert first["tool_calls"][2]["arguments"] == {"input": "*** Begin Patch"}
    assert first["observation"]["results"][0] == {"source_call_id": "call00000", "content": "1 failed, 2 passed in 0.1s"}
    assert first["timestamp"] == "2023-11-14T22:13:21.750000Z"


def test_the_mark_and_the_terms_are_in_extra() -> None:
    for policy, expected in ((Policy(), False), (NAMED, True)):
        root = json.loads(document(talk(), policy))
        assert {step["extra"]["train"] for step in root["steps"] if step["source"] == "agent"} == {expected}
        assert root["extra"]["policy"]["learn_from"] == list(policy.learn_from)
        assert root["extra"]["policy"]["terms"][0]["vendor"] == "Anthropic"


@pytest.mark.skipif(importlib.util.find_spec("atif") is None, reason="`pip install atif` for its check")
def test_the_models_of_the_package_atif_take_it() -> None:
    found = importlib.import_module("atif").Trajectory.model_validate_json(document(talk()))
    assert len(found.steps) == 9


def test_what_was_said_done_and_when_comes_back() -> None:
    session = talk()
    back = read_back(document(session))
    assert told(back) == told(session)
    assert (back.id, back.repository, back.source) == (session.id, session.repository, "atif")
    assert len(told(session)) == 9


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=60) | st.sampled_from([
    "<system-reminder>x</system-reminder>", "<bash-input>ls</bash-input>", "[Request interrupted by user]", "\x00\x1b[31m\u202e", "hunter2",
    "This session is being continued from a previous conversation", '"}]}', " x \n", "\r\n",
])  # fmt: skip
ARGUMENTS = TEXTS | st.dictionaries(TEXTS, st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS, lambda inner: st.lists(inner, max_size=3), max_leaves=4,
), max_size=3).map(lambda value: json.dumps(value, indent=len(value)))  # fmt: skip
USES = st.lists(st.builds(Use, name=TEXTS, arguments=ARGUMENTS, result=TEXTS), max_size=3)
DONE = st.one_of(
    st.tuples(st.just("asked"), TEXTS, st.booleans()),
    st.tuples(st.just("said"), TEXTS),
    st.tuples(st.just("replied"), TEXTS, TEXTS, USES),
    st.tuples(st.just("typed"), TEXTS, TEXTS, st.none() | st.integers(0, 255) | st.tuples(st.integers(0, 9), st.integers(0, 9))),
    st.tuples(st.just("noted"), st.sampled_from(["plan", "summary"]), TEXTS),
    st.tuples(st.just("voted"), st.sampled_from([None, "up", "down"]), TEXTS),
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(DONE, st.integers(0, 4_000_000_000_000_000)), min_size=1, max_size=8), TEXTS, TEXTS.filter(bool), st.booleans())
def test_any_conversation_comes_back(done: list[Any], repository: str, agent: str, marked: bool) -> None:
    made = Conversation(RememberingSink(), source="claude_code", file="f", session_id="s", agent=agent, repository=repository)
    for what, microseconds in done:
        time = microseconds / 1_000_000
        match what:
            case ("asked", text, by_assistant):
                made.asked(text, time, 0, by_assistant=by_assistant)
            case ("said", text):
                made.said(text, time, 0)
            case ("replied", text, reasoning, uses):
                made.replied(text, time, 0, reasoning=reasoning, uses=uses)
            case ("typed", command, output, code):
                made.typed(command, output, time, 0, exit_code=code if isinstance(code, int) else None, tests=code if isinstance(code, tuple) else None)
            case ("noted", kind, text):
                made.noted(kind, text, time, 0)
            case (_, vote, text):
                made.voted(vote, text, time, 0)
    session = made.session()
    if session is None:
        return
    data = document(session, NAMED if marked else None)
    check(json.loads(data))
    answered = any(isinstance(event, Reply) for event in session.events)
    expected = [event if answered or event[1].kind != "assistant" else (event[0], "assistant", *event[2:]) for event in told(session)]
    found = [event if answered or event[1].kind != "assistant" else (event[0], "assistant", *event[2:]) for event in told(read_back(data))]
    assert found == expected
