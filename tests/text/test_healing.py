"""Healing: where a prompt is cut and what may be said until the cursor is reached."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apprentice.core.fakes import ByteTokenizer
from apprentice.text.healing import MAX_HEALED_CHARS, PrefixConstraint, heal
from apprentice.text.tokenizer import Tokenizer

CODE = 'def group(items):\n    """It\'s x1."""\n    for item in items:\n        return self._append(item, 12)\n'


def test_a_healed_prompt_and_its_rest_are_the_prompt(bpe: Tokenizer) -> None:
    for at in range(1, len(CODE)):
        prompt, rest = heal(bpe, CODE[:at])
        assert prompt + rest == CODE[:at]
        assert prompt


def test_tokens_of_a_healed_prompt_do_not_change_when_the_text_goes_on(bpe: Tokenizer) -> None:
    whole = bpe.encode(CODE)
    for at in range(4, len(CODE)):
        ids = bpe.encode(heal(bpe, CODE[:at])[0])
        assert whole[: len(ids)] == ids, CODE[:at]


def test_a_word_begun_is_cut_off_whole(bpe: Tokenizer) -> None:
    assert heal(bpe, "x = 1\nretur") == ("x = 1\n", "retur")


def test_white_space_at_the_end_goes_together(qwen_like: Tokenizer) -> None:
    assert heal(qwen_like, "x\n\n    ") == ("x", "\n\n    ")


def test_a_prompt_of_one_word_stays_whole(bpe: Tokenizer) -> None:
    assert heal(bpe, "retur") == ("retur", "")


def test_a_long_literal_is_left_alone(bpe: Tokenizer) -> None:
    text = "x = " + "a" * (MAX_HEALED_CHARS + 1)
    assert heal(bpe, text) == (text, "")


def test_tokenizers_that_merge_nothing_need_no_healing() -> None:
    assert heal(Tokenizer.byte_level(), "x retur") == ("x retur", "")
    assert heal(ByteTokenizer(), "x retur") == ("x retur", "")


def test_allowed_tokens_are_those_that_spell_the_text(bpe: Tokenizer) -> None:
    rest = "retur"
    allowed = PrefixConstraint(bpe, rest).allowed()
    assert allowed is not None
    expected = [
        i for i in range(bpe.vocab_size)
        if not bpe.is_special(i) and (said := bpe.token_bytes(i))
        and (rest.encode().startswith(said) or said.startswith(rest.encode()))
    ]  # fmt: skip
    assert allowed.tolist() == expected


def test_a_special_token_spells_nothing(bpe: Tokenizer) -> None:
    allowed = PrefixConstraint(bpe, "<|im_").allowed()
    assert allowed is not None
    assert not np.isin(list(bpe.special_tokens.values()), allowed).any()


@given(st.text(min_size=1, max_size=20), st.randoms(use_true_random=False))
@settings(max_examples=50, deadline=None)
def test_any_allowed_path_spells_the_text(text: str, random: Random) -> None:
    tokenizer = Tokenizer.byte_level()
    constraint = PrefixConstraint(tokenizer, text)
    said = []
    while not constraint.done:
        allowed = constraint.allowed()
        assert allowed is not None
        said.append(random.choice(allowed.tolist()))
        constraint.advance(said[-1])
    assert tokenizer.decode(said).startswith(text)
    assert constraint.allowed() is None


def test_the_last_token_may_run_past_the_cursor(bpe: Tokenizer) -> None:
    token = next(i for i in range(bpe.vocab_size) if bpe.token_bytes(i) == b" return")
    constraint = PrefixConstraint(bpe, " retur")
    constraint.advance(token)
    assert constraint.done


def test_a_token_that_spells_something_else_is_refused(bpe: Tokenizer) -> None:
    constraint = PrefixConstraint(bpe, "retur")
    with pytest.raises(ValueError, match="does not spell"):
        constraint.advance(bpe.encode("x")[0])


def test_text_of_several_bytes_a_character_is_spelled_by_bytes(bpe: Tokenizer) -> None:
    constraint = PrefixConstraint(bpe, "é")
    by_bytes = {bpe.token_bytes(i): i for i in range(bpe.vocab_size)}
    constraint.advance(by_bytes["é".encode()[:1]])
    assert not constraint.done
    constraint.advance(by_bytes["é".encode()[1:]])
    assert constraint.done
