from __future__ import annotations

import numpy as np

from apprentice.text.chat import Rendered
from apprentice.train.packing import CONTEXT, PackedSequence
from apprentice.train.talks import SAID, Talk, interleave


def _edit(number: int, length: int = 10) -> PackedSequence:
    zeros = np.zeros(length, np.int32)
    return PackedSequence(np.full(length, number, np.int32), np.zeros(length, np.uint8), zeros, zeros)


def _talk(row: int, learnable: str = "..##..##", *, first: int = 100) -> Talk:
    return Talk(row, Rendered("", [first + row] * len(learnable), [mark == "#" for mark in learnable]))


def _rows(sequences: list[PackedSequence]) -> list[list[int]]:
    return [sorted(set(s.rows_T.tolist())) for s in sequences if s.rows_T[0] >= 50]


def test_only_the_last_reply_of_a_conversation_carries_loss() -> None:
    mixed, _ = interleave([], [_talk(50)], share=0.5, tokens=64)
    assert mixed[0].kinds_T.tolist() == [CONTEXT] * 6 + [SAID] * 2
    mixed, _ = interleave([], [_talk(50, "..##.")], share=0.5, tokens=64)
    assert mixed[0].kinds_T.tolist() == [CONTEXT] * 2 + [SAID] * 2 + [CONTEXT]


def test_conversations_share_a_sequence_and_see_only_themselves() -> None:
    mixed, left = interleave([], [_talk(50), _talk(51), _talk(52)], share=0.5, tokens=16)
    assert [s.segments_T.tolist() for s in mixed] == [[0] * 8 + [1] * 8, [0] * 8]
    assert (_rows(mixed), left) == ([[50, 51], [52]], 0)


def test_they_stand_evenly_between_the_edits_in_their_order() -> None:
    mixed, left = interleave([_edit(n) for n in range(20)], [_talk(50 + n) for n in range(4)], share=0.5, tokens=8)
    places = [n for n, s in enumerate(mixed) if s.rows_T[0] >= 50]
    assert _rows(mixed) == [[50], [51], [52], [53]]
    assert np.diff(places).tolist() == [6, 6, 6]
    assert [s.token_ids_T[0] for s in mixed if s.rows_T[0] < 50] == list(range(20))
    assert left == 0


def test_beyond_their_share_the_newest_are_taken() -> None:
    mixed, left = interleave([_edit(n) for n in range(20)], [_talk(50 + n) for n in range(40)], share=0.2, tokens=8)
    assert _rows(mixed) == [[85], [86], [87], [88], [89]]
    assert left == 35


def test_one_that_is_too_long_or_has_no_reply_is_left_out() -> None:
    mixed, left = interleave([_edit(0)], [_talk(50, "." * 30 + "##"), _talk(51, "....")], share=0.5, tokens=16)
    assert (len(mixed), left) == (1, 2)
