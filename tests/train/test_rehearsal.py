"""Answers stand between the edits as often as asked, whole, each seeing only itself."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from apprentice.text.chat import Rendered
from apprentice.train import losses
from apprentice.train.packing import CONTEXT, LossWeights, PackedSequence, PackingConfig, collate, pack
from apprentice.train.rehearsal import NO_ROW, REPLY, Teacher, interleave


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


def _taught(model, edits, answers):
    """A batch of an edit beside an answer, and what the model says of it now."""
    mixed = interleave(edits[:1], answers, share=0.5, tokens=256)
    return collate(mixed), Teacher(model, mixed, matmul=torch.float32)


ASKED = [Rendered("", list(range(30, 70)), [False] * 10 + [True] * 30), Rendered("", list(range(90, 120)), [False] * 5 + [True] * 25)]


def test_an_answer_does_not_move_the_model_that_gave_it(debug_model, make_rows, tokenizer):
    edits = pack(make_rows(3), tokenizer, PackingConfig(sequence_tokens=256))
    (_, answer) = interleave(edits[:1], ASKED, share=0.5, tokens=256)
    teacher, table = Teacher(debug_model, [answer], matmul=torch.float32), LossWeights().table()
    batch = collate([answer])
    total = losses.total_weight([batch], table)
    losses.batch_loss(debug_model, batch, table, total, matmul=torch.float32, teacher=teacher).backward()
    taught = max(float(p.grad.abs().max()) for p in debug_model.parameters() if p.grad is not None)
    debug_model.zero_grad()
    losses.batch_loss(debug_model, batch, table, total, matmul=torch.float32).backward()
    drawn = max(float(p.grad.abs().max()) for p in debug_model.parameters() if p.grad is not None)
    assert taught < 1e-4 * drawn


def test_in_one_batch_edits_learn_what_came_and_answers_what_was_meant(debug_model, make_rows, tokenizer):
    edits = pack(make_rows(3), tokenizer, PackingConfig(sequence_tokens=256))
    batch, teacher = _taught(debug_model, edits, ASKED)
    table = LossWeights().table()
    wanted_BT = table[batch.kinds_BT[:, 1:]] > 0
    soft = teacher.soft(batch, wanted_BT)
    assert soft is not None
    of_edit = int(wanted_BT[0].sum())
    assert (soft.rows_N[:of_edit] == -1).all()
    assert soft.rows_N[of_edit:].tolist() == list(range(55))
    with torch.no_grad():
        assert batch.segments_BT is not None
        hidden = debug_model.hidden(torch.from_numpy(batch.token_ids_BT[1:, :-1]), segments_BT=torch.from_numpy(batch.segments_BT[1:, :-1]))
        expected = debug_model.logits(hidden)[0][torch.from_numpy(wanted_BT[1])].softmax(-1)
    torch.testing.assert_close(soft.probabilities(soft.rows_N[of_edit:]), expected, rtol=1e-4, atol=1e-6)
    assert teacher.soft(collate(edits[:1]), wanted_BT[:1]) is None


def test_the_teacher_is_not_moved_with_the_model(debug_model, make_rows, tokenizer):
    edits = pack(make_rows(3), tokenizer, PackingConfig(sequence_tokens=256))
    batch, teacher = _taught(debug_model, edits, ASKED)
    wanted_BT = LossWeights().table()[batch.kinds_BT[:, 1:]] > 0

    def said():
        soft = teacher.soft(batch, wanted_BT)
        assert soft is not None
        return soft.probabilities(soft.rows_N[soft.rows_N >= 0])

    before = said()
    with torch.no_grad():
        for parameter in debug_model.parameters():
            parameter += 0.1
    assert torch.equal(said(), before)
