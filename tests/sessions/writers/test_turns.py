from __future__ import annotations

import json

import msgspec
import pytest
from tests.sessions.writers.conftest import talk

from apprentice.sessions.events import Author, Command, Prompt, Provenance, Reply, Session, ToolCall
from apprentice.sessions.policy import Policy
from apprentice.sessions.writers.turns import assistant, iso_time, turns, untold


def replied(arguments: str) -> Session:
    reply = Reply(
        id="s/0", session_id="s", time=1.0, author=Author(kind="assistant"), provenance=Provenance(source="x", file="f"), text="",
        tool_calls=(ToolCall("t", arguments, "r"),),
    )  # fmt: skip
    return Session(id="s", source="x", repository="", time=1.0, events=(reply,))


def test_by_default_nothing_is_marked_and_a_named_assistant_s_replies_are() -> None:
    assert not any(turn.train for turn in turns(talk(), Policy()))
    named = Policy(learn_from=("developer", "assistant:claude"))
    assert [isinstance(turn.event, Reply) for turn in turns(talk(), named)] == [turn.train for turn in turns(talk(), named)]
    assert sum(turn.train for turn in turns(talk(), named)) == 3
    assert not any(turn.train for turn in turns(talk(agent="other"), named))


def test_calls_are_numbered_over_the_whole_conversation_in_nine_letters_and_digits() -> None:
    ids = [call.id for turn in turns(talk(), Policy()) for call in turn.calls]
    assert ids == ["call00000", "call00001", "call00002", "call00003"]
    assert all(len(one) == 9 and one.isalnum() for one in ids)


@pytest.mark.parametrize("arguments", ['{"a":  1e3}', "{}", '{"a": {"b": [1, "\\u00e9"]}}'])
def test_arguments_that_are_an_object_stay_as_they_are(arguments: str) -> None:
    ((call,),) = [turn.calls for turn in turns(replied(arguments), Policy())]
    assert (call.arguments, call.recorded) == (arguments, None)


@pytest.mark.parametrize("arguments", ["", "*** Begin Patch", "[1]", "7", '{"a": 1', '{"a": 1e999}', '{"a": "\\ud800"}', "{" * 5000, '{"a": NaN}'])
def test_other_arguments_become_the_input_of_an_object(arguments: str) -> None:
    ((call,),) = [turn.calls for turn in turns(replied(arguments), Policy())]
    assert (json.loads(call.arguments), call.recorded) == ({"input": arguments}, arguments)


def test_what_a_tool_s_call_tells_is_no_turn_and_is_counted() -> None:
    told = list(turns(talk(), Policy()))
    assert sum(isinstance(turn.event, Command) for turn in told) == 1
    assert untold(talk(), told) == {"test_run": 1, "navigation": 1, "suggestion": 1}
    assert untold(talk(), [turn for turn in told if isinstance(turn.event, Prompt | Reply)])["command"] == 1


def test_a_time_is_written_to_the_microsecond_or_not_at_all() -> None:
    assert iso_time(1_700_000_000.25) == "2023-11-14T22:13:20.250000Z"
    assert [iso_time(time) for time in (0.0, 1e30, -1e30)] == [None, None, None]


def test_who_answered() -> None:
    assert assistant(talk()) == "claude"
    assert assistant(replied("{}")) == "assistant"


def test_a_reply_that_claims_to_be_the_developers_is_marked_under_no_policy() -> None:
    reply = msgspec.structs.replace(replied("{}").events[0], author=Author(kind="developer"))
    session = msgspec.structs.replace(replied("{}"), events=(reply,))
    assert [turn.train for turn in turns(session, Policy())] == [False]
