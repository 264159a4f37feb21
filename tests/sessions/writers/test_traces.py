"""The Hub's simple form of session traces, field by field as its page has them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from tests.sessions.writers.conftest import talk

from apprentice.sessions.policy import Policy
from apprentice.sessions.writers import traces
from apprentice.sessions.writers.turns import turns

FIELDS = {"role", "content", "reasoningContent", "toolCalls", "toolCallId", "timestamp", "model"}


def lines() -> list[dict[str, Any]]:
    told = [turn for turn in turns(talk(), Policy()) if isinstance(turn.event, traces.TOLD)]
    return [json.loads(line) for line in traces.document(talk(), told, Policy()).splitlines()]


def test_the_first_line_is_the_session() -> None:
    assert lines()[0] == {
        "type": "session", "harness": "claude_code", "id": "s-1", "name": "why does it fail?", "agent": "claude", "learn_from": ["developer"],
    }  # fmt: skip


def test_every_other_line_is_a_message_of_documented_fields() -> None:
    said = [line["message"] for line in lines()[1:]]
    assert all(set(line) == {"type", "message"} and line["type"] == "message" for line in lines()[1:])
    assert all(set(message) <= FIELDS and isinstance(message["content"], str) for message in said)
    assert [message["role"] for message in said][:4] == ["user", "assistant", "tool", "tool"]
    assert said[0]["timestamp"] == 1_700_000_000_250
    assert said[1]["reasoningContent"] == "a test, surely"
    call = said[1]["toolCalls"][0]
    assert call == {"id": "call00000", "function": {"name": "Bash", "arguments": '{"command":  "pytest"}'}}
    assert (said[2]["toolCallId"], said[2]["content"]) == (call["id"], "1 failed, 2 passed in 0.1s")


def test_its_name_is_one_harmless_line() -> None:
    session = msgspec.structs.replace(talk(), id="s\x1b[31m\n<script>" + "x" * 500)
    replies = [turn for turn in turns(session, Policy()) if isinstance(turn.event, traces.TOLD)][1:2]
    name = json.loads(traces.document(session, replies, Policy()).splitlines()[0])["name"]
    assert name.startswith("s\\n<script>")
    assert len(name) == 80


@pytest.mark.parametrize("when", [0.0, 1e306, -1e306, 1e300])
def test_a_time_that_is_none_is_left_out(when: float) -> None:
    (turn, *_) = [turn for turn in turns(talk(), Policy()) if isinstance(turn.event, traces.TOLD)]
    timeless = replace(turn, event=msgspec.structs.replace(turn.event, time=when))
    assert "timestamp" not in json.loads(traces.document(talk(), [timeless], Policy()).splitlines()[1])["message"]
