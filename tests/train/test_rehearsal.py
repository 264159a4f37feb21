"""Answers stand between the edits as often as asked, whole, each seeing only itself."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apprentice.text.chat import Rendered
from apprentice.train.packing import CONTEXT, PackedSequence
from apprentice.train.rehearsal import NO_ROW, REPLY, interleave


def _edits(count: int) -> list[PackedSequence]:
    return [
        PackedSequence(*(np.full(8, value, dtype) for value, dtype in ((i, np.int32), (CONTEXT, np.uint8), (0, np.int32), (i, np.int32))))
        for i in range(count)
    ]  # fmt: skip


def _answer(number: int, asked: int, said: int) -> Rendered:
    return Rendered("", [1000 + number] * (asked + said), [False] * asked + [True] * said)


ANSWERS = [_answer(i, 3, 4 + i) for i in range(5)]


@settings(max_examples=60, deadline=None)
@given(count=st.integers(1, 200), share=st.floats(0.0, 0.5))
def test_the_edits_keep_their_order_and_the_answers_their_share(count, share):
    edits = _edits(count)
    mixed = interleave(edits, ANSWERS, share=share, tokens=64)
    assert [s for s in mixed if s.rows_T[0] != NO_ROW] == edits
    answers = len(mixed) - count
    assert answers <= share * len(mixed) + 1e-9
    assert answers + 1 > share * (len(mixed) + 1) - 1e-9


def test_conversations_are_whole_segments_whose_replies_carry_loss():
    (_, packed) = interleave(_edits(1), ANSWERS, share=0.5, tokens=64)
    assert len(packed) == sum(len(answer.token_ids) for answer in ANSWERS)
    for segment, answer in enumerate(ANSWERS):
        own = packed.segments_T == segment
        assert packed.token_ids_T[own].tolist() == answer.token_ids
        assert (packed.kinds_T[own] == REPLY).tolist() == answer.learnable
    assert set(packed.rows_T.tolist()) == {NO_ROW}


def test_what_does_not_fit_into_a_sequence_is_left_out_and_the_rest_starts_anew_when_used_up():
    mixed = interleave(_edits(4), [_answer(0, 2, 6), _answer(1, 2, 40), _answer(2, 2, 5)], share=0.5, tokens=10)
    assert [int(s.token_ids_T[0]) for s in mixed] == [0, 1000, 1, 1002, 2, 1000, 3, 1002]


@pytest.mark.parametrize(("answers", "share"), [([], 0.5), (ANSWERS, 0.0), ([_answer(0, 2, 80)], 0.5)])
def test_nothing_to_repeat_leaves_the_edits_alone(answers, share):
    edits = _edits(3)
    assert interleave(edits, answers, share=share, tokens=32) == edits
