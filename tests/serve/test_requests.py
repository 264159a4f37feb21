"""Any JSON whatsoever is either a request or refused in OpenAI's form."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
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
def test_any_bytes_are_refused_or_taken(body: bytes) -> None:
    with pytest.raises(ApiError):
        parse(body, CompletionRequest)
