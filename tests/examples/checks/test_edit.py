from __future__ import annotations

import pytest

from apprentice.examples.checks.edit import delta_chrf, reversal, score_edit
from apprentice.text.edits import END_MARK, Edit

EDIT = Edit("m.py", 0, ("x = f(a)",), ("x = f(a, b)",))
RIGHT = f"\nx = f(a, b)\n{END_MARK}"


def test_the_developers_own_replacement_is_exact_and_scores_full_marks() -> None:
    score = score_edit(RIGHT + "\nwhatever comes behind", EDIT)
    assert (score.valid, score.exact, score.delta_chrf) == (True, True, pytest.approx(100.0))


def test_leaving_the_region_as_it_was_is_valid_and_worth_nothing() -> None:
    score = score_edit(f"\nx = f(a)\n{END_MARK}", EDIT)
    assert (score.valid, score.exact, score.delta_chrf, score.moved_chars) == (True, False, 0.0, 0)


@pytest.mark.parametrize("generated", ["", "x = f(a, b)", "\nx = f(a, b)", f"\n<<<<<<< before\nx\n{END_MARK}"])
def test_text_that_is_not_in_our_form_is_invalid_and_leaves_the_region_alone(generated: str) -> None:
    score = score_edit(generated, EDIT)
    assert (score.valid, score.exact, score.delta_chrf) == (False, False, 0.0)


def test_an_invalid_answer_is_not_exact_even_where_nothing_was_to_change() -> None:
    assert not score_edit("", Edit("m.py", 0, ("a",), ("a",))).exact


def test_delta_chrf_by_hand() -> None:
    # "ab" -> "abc" wanted, "abd" given. n=1: wanted +c, got +d: 0 of 1. n=2: +bc against +bd: 0. n=3: +abc, +abd: 0.
    # n=4..6: neither changes anything: 1 and 1. Mean precision = recall = 3/6.
    assert delta_chrf(["ab"], ["abc"], ["abd"]) == pytest.approx(50.0)
    # Wanted +c +d (n=1), +bc +cd, +abc +bcd, +abcd; given only c: n=1 p 1 r 1/2; n=2 p 1 r 1/2; n=3 p 1 r 1/2;
    # n=4 nothing given: p 0 r 0; n=5, 6: 1 and 1. p = 5/6, r = 3.5/6; F2 = 5pr / (4p + r).
    p, r = 5 / 6, 3.5 / 6
    assert delta_chrf(["ab"], ["abcd"], ["abc"]) == pytest.approx(100 * 5 * p * r / (4 * p + r))


def test_delta_chrf_ignores_white_space_and_tells_adding_from_removing() -> None:
    assert delta_chrf(["a b"], ["a bc"], ["  a   b c "]) == pytest.approx(100.0)
    # Adding "c" where it was to be removed: only the orders without a change on either side agree.
    assert delta_chrf(["c"], [], ["c", "c"]) < delta_chrf(["c"], [], [])


def test_undoing_the_latest_edit_is_all_reversal() -> None:
    recent = [Edit("m.py", 0, ("a = 1",), ("a = 2",))]
    assert reversal("m.py", ["a = 2"], ["a = 1"], recent) == (10, 10)
    assert reversal("m.py", ["a = 2"], ["a = 3"], recent) == (5, 10)
    assert reversal("m.py", ["b = 2"], ["b = 3"], recent) == (0, 10)


def test_only_the_latest_edits_of_the_same_file_can_be_undone() -> None:
    other = Edit("n.py", 0, ("a = 1",), ("a = 2",))
    assert reversal("m.py", ["a = 2"], ["a = 1"], [other]) == (0, 10)
    mine = Edit("m.py", 0, ("a = 1",), ("a = 2",))
    later = [Edit("m.py", i, (), (f"z{i}",)) for i in range(8)]
    assert reversal("m.py", ["a = 2"], ["a = 1"], [mine, *later]) == (0, 10)


def test_moved_indentation_alone_moves_no_line() -> None:
    assert reversal("m.py", ["    a"], ["a"], []) == (0, 0)
