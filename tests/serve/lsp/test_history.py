"""Keystrokes become edits; what would take the last one back is known."""

from __future__ import annotations

import random

from apprentice.serve.lsp.documents import Document, Point
from apprentice.serve.lsp.history import MAX_EDIT_LINES, MAX_EDITS, History, Stretch
from apprentice.text.edits import Edit, apply

LINES = [f"line {number}" for number in range(30)]


class Hand:
    """Types into one document."""

    def __init__(self, lines: list[str] | None = None, uri: str = "file:///a.py", history: History | None = None) -> None:
        self.ended: list[Stretch] = []
        self.history = history or History(self.ended.append)
        self.document = Document(uri, "".join(line + "\n" for line in (LINES if lines is None else lines)), name=uri[-4:])

    def put(self, line: int, start: int, end: int, text: str, *, end_line: int | None = None, may_be_accepted: bool = False) -> None:
        change = self.document.plan(text, Point(line, start), Point(line if end_line is None else end_line, end))
        assert change is not None
        self.history.before(self.document, change, may_be_accepted=may_be_accepted)
        self.document.apply(change)

    def type(self, line: int, column: int, text: str) -> None:
        for number, character in enumerate(text):
            self.put(line, column + number, column + number, character)

    @property
    def edits(self) -> list[tuple[int, tuple[str, ...], tuple[str, ...]]]:
        return [(edit.start_line, edit.old, edit.new) for stretch in self.ended for edit in stretch.edits()]


def test_changes_at_one_place_are_one_edit_and_elsewhere_another() -> None:
    hand = Hand()
    hand.type(3, 6, " and more")
    hand.put(4, 0, 4, "row")
    assert hand.edits == []
    hand.type(20, 7, "!")
    assert hand.edits == [(3, ("line 3", "line 4"), ("line 3 and more", "row 4"))]
    assert hand.ended[0].first_line == 0
    (edit,) = hand.ended[0].edits()
    assert (edit.above[-1], edit.below[0]) == ("line 2", "line 5")
    hand.history.close()
    assert hand.edits[1:] == [(20, ("line 20",), ("line 20!",))]


def test_lines_put_in_above_do_not_tear_an_edit_apart() -> None:
    hand = Hand()
    hand.put(10, 0, 0, "new\nlines\n")
    hand.type(12, 7, "!")
    hand.put(9, 0, 0, "", end_line=10)
    hand.history.close()
    assert hand.edits == [(9, ("line 9", "line 10"), ("new", "lines", "line 10!"))]


def test_another_document_is_another_place_and_what_comes_to_nothing_is_no_edit() -> None:
    one = Hand()
    other = Hand(uri="file:///b.py", history=one.history)
    one.type(3, 6, "x")
    other.type(3, 6, "y")
    assert [stretch.name for stretch in one.ended] == ["a.py"]
    other.put(3, 6, 7, "")
    one.type(3, 7, "z")
    assert [stretch.name for stretch in one.ended] == ["a.py"]
    assert [(edit.path, edit.new) for edit in one.history.recent()] == [("a.py", ("line 3x",)), ("a.py", ("line 3xz",))]


def test_edits_give_the_document_in_its_order() -> None:
    for seed in range(200):
        choose = random.Random(seed)
        hand = Hand()
        before = list(hand.document.whole_lines)
        for _ in range(30):
            line = choose.randrange(len(hand.document.lines))
            end_line = min(line + choose.randrange(3), len(hand.document.lines) - 1)
            start = choose.randrange(len(hand.document.lines[line]) + 1)
            end = choose.randrange(start if end_line == line else 0, len(hand.document.lines[end_line]) + 1)
            text = "".join(choose.choice("ab \n") for _ in range(choose.randrange(6)))
            change = hand.document.plan(text, Point(line, start), Point(end_line, end))
            if change is not None:
                hand.history.before(hand.document, change, may_be_accepted=choose.random() < 0.3)
                hand.document.apply(change)
                if choose.random() < 0.2:
                    hand.history.claim(hand.document)
        hand.history.close()
        for stretch in hand.ended:
            for edit in stretch.edits():
                before = apply(before, edit)
        assert before == hand.document.whole_lines, seed


def test_the_list_has_a_bound_and_long_edits_are_not_in_it() -> None:
    hand = Hand()
    for number in range(100):
        hand.put(number % 2 * 20, 0, 1, "abc"[number % 3] + str(number))
    assert len(hand.history.recent()) == MAX_EDITS
    assert hand.history.recent()[-1].new[0].startswith("a99")
    hand.put(10, 0, 0, "x\n" * (MAX_EDIT_LINES + 1))
    hand.history.close()
    assert hand.history.recent()[-1].new[0].startswith("a99")
    hand.history.seed([Edit("a.py", 0, ("a",), ("b",))])
    assert len(hand.history.recent()) == MAX_EDITS


def test_what_was_accepted_is_an_edit_of_its_own() -> None:
    hand = Hand()
    hand.type(3, 6, " = f(")
    hand.put(3, 11, 11, "a, b)", may_be_accepted=True)
    hand.type(3, 16, "  # ok")
    hand.history.claim(hand.document)
    hand.history.close()
    assert [stretch.by_model for stretch in hand.ended] == [False, True, False]
    assert [new for _, _, (new,) in hand.edits] == ["line 3 = f(", "line 3 = f(a, b)", "line 3 = f(a, b)  # ok"]


def test_what_takes_the_last_edit_back_is_known() -> None:
    hand = Hand()
    hand.put(3, 0, 4, "row")
    undoes = lambda line, old, new: hand.history.undoes(hand.document, line, old, new)  # noqa: E731
    assert undoes(3, ["row 3"], ["line 3"])
    assert not undoes(3, ["row 3"], ["row 3!"])
    assert not undoes(20, ["line 20"], ["line 3"])
    # Also after the place was left for another document.
    other = Hand(uri="file:///b.py", history=hand.history)
    other.type(0, 0, "x")
    assert undoes(3, ["row 3"], ["line 3"])
    # A part of an edit, and lines that were put in.
    hand.put(10, 0, 7, "one\ntwo\nthree")
    assert undoes(11, ["two"], ["line 10"])
    assert undoes(11, ["two"], [])
    assert undoes(10, ["one"], ["two", "one"]) is False
    assert not undoes(11, ["two"], ["2"])


def test_what_was_just_deleted_is_not_suggested_although_the_edit_does_not_show_it() -> None:
    hand = Hand()
    hand.type(3, 6, " + b")
    hand.put(3, 6, 10, "")
    assert hand.history.undoes(hand.document, 3, ["line 3"], ["line 3 + b"])
    assert not hand.history.undoes(hand.document, 3, ["line 3"], ["line 3 + c"])
    hand.put(5, 0, 0, "", end_line=6)
    assert hand.history.undoes(hand.document, 5, ["line 6"], ["line 5", "line 6"])
