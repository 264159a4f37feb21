"""Any JSON whatsoever is either a request or refused in OpenAI's form."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from apprentice.serve.errors import ApiError
from apprentice.serve.requests import ChatRequest, CompletionRequest, Shared, parse

NUMBERS = st.one_of(st.integers(), st.floats(), st.sampled_from([0, 1, -1, 2**31, 2**63, 2**64, 1e308, -0.0]))
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, st.text(max_size=20)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)),
    max_leaves=12,
)
SOUND = {"messages": [{"role": "user", "content": "x"}], "prompt": "x"}


def check_refusal(error: ApiError) -> None:
    assert error.status == 400
    assert error.body()["error"]["message"]


@pytest.mark.parametrize("kind", [ChatRequest, CompletionRequest])
@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_any_values_of_any_fields_are_taken_or_refused(kind: type[Shared], data: st.DataObject) -> None:
    names = st.sampled_from(kind.__struct_fields__)
    sound = {name: value for name, value in SOUND.items() if name in kind.__struct_fields__}
    body: dict[str, Any] = {"model": "m", **sound, **data.draw(st.dictionaries(names, JSON, max_size=4))}
    try:
        request = parse(json.dumps(body).encode(), kind)
        texts = request.conversation() if isinstance(request, ChatRequest) else []
        prompts = request.prompts() if isinstance(request, CompletionRequest) else []
    except ApiError as error:
        check_refusal(error)
        return
    assert all(isinstance(message["content"], str) for message in texts)
    assert all(prompts)
    assert request.temperature is None or 0 <= request.temperature <= 2
    assert request.n is None or 1 <= request.n <= 16


@settings(max_examples=200, deadline=None)
@given(body=st.binary(max_size=200))
@example(body=b"{}")
def test_bytes_that_are_no_request_are_refused(body: bytes) -> None:
    with pytest.raises(ApiError) as refusal:
        parse(body, CompletionRequest).prompts()
    check_refusal(refusal.value)


def conversation(*messages: dict[str, Any], **fields: Any) -> list[dict[str, Any]]:
    return parse(json.dumps({"model": "m", "messages": messages, **fields}).encode(), ChatRequest).conversation()


def test_roles_are_those_that_templates_know() -> None:
    said = conversation({"role": "developer", "content": "Be brief."}, {"role": "function", "name": "f", "content": "1"})
    assert said == [{"role": "system", "content": "Be brief."}, {"role": "tool", "content": "1"}]


def test_calls_of_earlier_replies_are_told() -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "ls", "arguments": '{"path": "."}'}}
    said = conversation({"role": "assistant", "content": None, "tool_calls": [call]}, {"role": "tool", "tool_call_id": "call_1", "content": "a.py"})
    assert said[0]["tool_calls"] == [{"type": "function", "function": {"name": "ls", "arguments": '{"path": "."}'}}]
    assert said[1] == {"role": "tool", "content": "a.py"}
    with pytest.raises(ApiError, match="tool_calls"):
        conversation({"role": "assistant", "tool_calls": [{"function": {"arguments": "{}"}}]})


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({}, {}), ({"reasoning_effort": "high"}, {}), ({"reasoning_effort": "none"}, {"enable_thinking": False}),
        ({"chat_template_kwargs": {"enable_thinking": True}, "reasoning_effort": "none"}, {"enable_thinking": True}),
    ],
)  # fmt: skip
def test_a_template_is_told_whether_to_think(fields: dict[str, Any], told: dict[str, Any]) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}], **fields}
    assert parse(json.dumps(body).encode(), ChatRequest).variables() == told


def test_tools_that_must_not_be_called_do_not_hinder() -> None:
    tool = {"type": "function", "function": {"name": "ls"}}
    assert conversation({"role": "user", "content": "x"}, tools=[tool], tool_choice="none")
    for fields in ({"tools": [tool]}, {"tools": [tool], "tool_choice": "required"}, {"chat_template_kwargs": {"x": 1}}):
        with pytest.raises(ApiError) as caught:
            conversation({"role": "user", "content": "x"}, **fields)
        check_refusal(caught.value)
