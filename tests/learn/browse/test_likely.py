from __future__ import annotations

import pytest
from tests.learn.browse.conftest import example

from apprentice.core.fakes import ByteTokenizer, ScriptedGenerator
from apprentice.examples.example import NEXT_EDIT
from apprentice.learn.browse.likely import developer_log_probs


def test_a_model_is_asked_once_for_each_example_with_its_prompt() -> None:
    tokenizer = ByteTokenizer()
    generator = ScriptedGenerator(tokenizer, log_prob=lambda prompt, target: [-float(i) for i in range(len(target))])
    ask, one = developer_log_probs(generator, tokenizer), example(1, NEXT_EDIT)
    pieces = ask(one)
    assert "".join(text for text, _ in pieces) == one.target
    assert [log_prob for _, log_prob in pieces] == [-float(i) for i in range(len(one.target))]
    assert ask(one) == pieces
    assert generator.scored == [(tokenizer.encode(one.prompt), tokenizer.encode(one.target))]


def test_tokens_of_one_character_are_one_piece() -> None:
    tokenizer = ByteTokenizer()
    one = example(1, NEXT_EDIT, text="\U0001f916")
    pieces = developer_log_probs(ScriptedGenerator(tokenizer, log_prob=-1.0), tokenizer)(one)
    assert dict(pieces)["\U0001f916"] == pytest.approx(4 * dict(pieces)["n"])
    assert "".join(text for text, _ in pieces) == one.target
