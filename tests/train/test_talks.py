from __future__ import annotations

import numpy as np

from apprentice.text.chat import Rendered
from apprentice.train.packing import CONTEXT, PackedSequence
from apprentice.train.talks import SAID, Talk, interleave


def _edit(number: int, length: int = 10) -> PackedSequence:
    zeros = np.zeros(length, np.int32)
    return PackedSequence(np.full(length, number, np.int32), np.zeros(length, np.uint8), zeros, zeros)


def _talk(row: int, told: str = "..rr..##") -> Talk:
    """`#`: the last reply; `r`: an earlier one."""
    learnable = [mark in "r#" for mark in told]
    return Talk(row, Rendered("", [100 + row] * len(told), learnable, range(told.index("#"), told.rindex("#") + 1)))


def _rows(sequences: list[PackedSequence]) -> list[list[int]]:
    return [sorted(set(s.rows_T.tolist())) for s in sequences if s.rows_T[0] >= 50]


def test_only_the_last_reply_of_a_conversation_carries_loss() -> None:
    (_, mixed), _ = interleave([_edit(0)], [_talk(50)], share=0.5, tokens=64)
    assert mixed.kinds_T.tolist() == [CONTEXT] * 6 + [SAID] * 2
    # Also where nothing tells an earlier reply from it.
    (_, mixed), _ = interleave([_edit(0)], [_talk(50, "..rr##.")], share=0.5, tokens=64)
    assert mixed.kinds_T.tolist() == [CONTEXT] * 4 + [SAID] * 2 + [CONTEXT]


def test_conversations_share_a_sequence_and_see_only_themselves() -> None:
    mixed, left_out = interleave([_edit(0), _edit(1)], [_talk(50), _talk(51), _talk(52)], share=0.5, tokens=16)
    assert [s.segments_T.tolist() for s in mixed if s.rows_T[0] >= 50] == [[0] * 8 + [1] * 8, [0] * 8]
    assert _rows(mixed) == [[50, 51], [52]]
    assert not any(left_out.values())


def test_they_stand_evenly_between_the_edits_in_their_order() -> None:
    mixed, left_out = interleave([_edit(n) for n in range(20)], [_talk(50 + n) for n in range(4)], share=1 / 6, tokens=8)
    places = [n for n, s in enumerate(mixed) if s.rows_T[0] >= 50]
    assert _rows(mixed) == [[50], [51], [52], [53]]
    assert np.diff(places).tolist() == [6, 6, 6]
    assert [s.token_ids_T[0] for s in mixed if s.rows_T[0] < 50] == list(range(20))
    assert not any(left_out.values())


def test_few_stand_among_the_newest_edits_as_dense_as_their_share() -> None:
    mixed, _ = interleave([_edit(n) for n in range(20)], [_talk(50), _talk(51)], share=0.25, tokens=8)
    assert [n for n, s in enumerate(mixed) if s.rows_T[0] >= 50] == [16, 20]
    assert len(mixed) == 22


def test_beyond_their_share_the_newest_are_taken() -> None:
    mixed, left_out = interleave([_edit(n) for n in range(20)], [_talk(50 + n) for n in range(40)], share=0.2, tokens=8)
    assert _rows(mixed) == [[85], [86], [87], [88], [89]]
    assert left_out == {"conversations longer than a sequence": 0, "conversations beyond their share": 35}


def test_one_that_is_too_long_is_left_out() -> None:
    mixed, left_out = interleave([_edit(0)], [_talk(50, "." * 30 + "##")], share=0.5, tokens=16)
    assert len(mixed) == 1
    assert left_out == {"conversations longer than a sequence": 1, "conversations beyond their share": 0}
