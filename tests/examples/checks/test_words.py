from __future__ import annotations

import pytest

from apprentice.examples.checks.words import chrf, same_calls
from apprentice.examples.conversation import Call, Function


def test_the_same_words_are_a_hundred_and_others_nothing() -> None:
    assert chrf("Fix the timeout", "Fix the  timeout\n") == pytest.approx(100)
    assert chrf("abc", "xyz") == 0.0
    assert chrf("abc", "") == 0.0
    assert 40 < chrf("Fix the timeout of reads", "Fix the timeout of writes") < 95


def test_calls_are_compared_as_json() -> None:
    one, other = (Call(str(n), Function("run", text)) for n, text in enumerate(('{"a": 1, "b": 2}', '{"b":2,"a":1}')))
    assert same_calls([one], [other])
    assert not same_calls([one], [Call("2", Function("run", '{"a": 1}'))])
    assert not same_calls([one], [])
    assert not same_calls([one], [Call("2", Function("run", "not json"))])
