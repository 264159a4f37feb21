from __future__ import annotations

from apprentice.examples.checks.blocks import BlocksScore, score_blocks
from apprentice.examples.conversation import Excerpt
from apprentice.text.blocks import Block, render

SHOWN = (Excerpt("a.py", 0, ("one", "two")), Excerpt("a.py", 30, ("three", "four")), Excerpt("b.py", 0, ("x",)))
WANTED = render([Block("a.py", ("two",), ("2",)), Block("b.py", ("x",), ("y",)), Block("c.py", (), ("new",))])


def test_the_same_edits_in_other_words_are_exact() -> None:
    other = render([Block("c.py", (), ("new",)), Block("b.py", ("x",), ("y",)), Block("a.py", ("one", "two"), ("one", "2"))])
    assert score_blocks(f"Sure!\n\n{other}", WANTED, SHOWN) == BlocksScore(True, True, 3, 3)


def test_a_part_of_the_edits_is_counted() -> None:
    some = render([Block("a.py", ("two",), ("2",)), Block("b.py", ("x",), ("z",))])
    assert score_blocks(some, WANTED, SHOWN) == BlocksScore(True, False, 1, 3)


def test_an_edit_besides_is_not_exact() -> None:
    more = f"{WANTED}\n\n{render([Block('a.py', ('four',), ('4',))])}"
    assert score_blocks(more, WANTED, SHOWN) == BlocksScore(True, False, 3, 3)


def test_an_answer_without_blocks_or_with_foreign_lines_is_not_valid() -> None:
    assert score_blocks("I cannot.", WANTED, SHOWN) == BlocksScore(False, False, 0, 3)
    assert score_blocks(render([Block("a.py", ("five",), ("5",))]), WANTED, SHOWN) == BlocksScore(False, False, 0, 3)
    assert score_blocks(render([Block("../../etc/passwd", ("root",), ("me",))]), WANTED, SHOWN) == BlocksScore(False, False, 0, 3)
