from __future__ import annotations

import math
from pathlib import Path

import pytest
from tests.learn.browse.conftest import Make, example, row, rows

from apprentice.core.errors import InputError
from apprentice.eval.samples import EDIT, LIKELIHOOD, LINE
from apprentice.examples.example import COMPLETION, NEXT_EDIT
from apprentice.learn.browse.places import outcome, places, read_examples, read_rows, value, verdict, worst_first


def test_the_number_of_a_measure() -> None:
    assert value(row(LIKELIHOOD, "a", 0, changed_bits=20.0, changed_chars=10)) == 2.0
    assert value(row(LIKELIHOOD, "a", 0, target_bits=30.0, target_chars=20)) == 1.5
    assert value(row(LIKELIHOOD, "a", 0)) is None
    assert value(row(EDIT, "a", 0, delta_chrf=12.5)) == 12.5
    assert value(row(LINE, "a", 0, confidence=math.log(0.25))) == pytest.approx(0.25)
    assert value(row(LINE, "a", 0)) is None


def test_an_answer_that_failed_is_wrong_and_a_likelihood_neither() -> None:
    assert outcome(row(LINE, "a", 0, exact=True)) == "right"
    assert outcome(row(LINE, "a", 0, exact=True, error="timeout")) == "wrong"
    assert outcome(row(LIKELIHOOD, "a", 0)) == ""


def test_the_worst_come_first() -> None:
    dear = [row(LIKELIHOOD, "a", i, changed_bits=float(i), changed_chars=1) for i in range(3)]
    assert [one.order for one in sorted(dear, key=worst_first)] == [2, 1, 0]
    lines = [row(LINE, "a", 0, exact=True, confidence=-9.0), row(LINE, "a", 1, confidence=-5.0), row(LINE, "a", 2, confidence=-1.0)]
    assert [one.order for one in sorted(lines, key=worst_first)] == [2, 1, 0]
    edits = [row(EDIT, "a", 0, delta_chrf=9.0), row(EDIT, "a", 1, delta_chrf=1.0), row(EDIT, "a", 2, exact=True, delta_chrf=0.0)]
    assert [one.order for one in sorted(edits, key=worst_first)] == [1, 0, 2]


def likely(bits: float, chars: int = 10) -> object:
    return row(LIKELIHOOD, "a", 0, changed_bits=bits, changed_chars=chars, target_bits=1.0, target_chars=1)


@pytest.mark.parametrize(
    ("here", "there", "expected"),
    [
        (likely(20), likely(10), "better"), (likely(10), likely(20), "worse"), (likely(20), likely(20.4), "equal"),
        (likely(20), likely(20, 11), None), (row(LIKELIHOOD, "a", 0), row(LIKELIHOOD, "a", 0), None),
        (row(LINE, "a", 0), row(LINE, "a", 0, exact=True), "better"), (row(LINE, "a", 0, exact=True), row(LINE, "a", 0, exact=True, error="x"), "worse"),
        (row(LINE, "a", 0, confidence=-1.0), row(LINE, "a", 0, confidence=-9.0), "equal"),
        (row(EDIT, "a", 0, delta_chrf=50.0), row(EDIT, "a", 0, exact=True, delta_chrf=40.0), "better"),
        (row(EDIT, "a", 0, delta_chrf=50.0), row(EDIT, "a", 0, delta_chrf=49.0), "worse"),
        (row(EDIT, "a", 0, delta_chrf=50.0), row(EDIT, "a", 0, delta_chrf=50.01), "equal"),
    ],
)  # fmt: skip
def test_the_verdict_on_a_place(here: object, there: object, expected: str | None) -> None:
    assert verdict(here, there) == expected  # pyrefly: ignore[bad-argument-type]


def test_places_are_in_the_order_of_the_history_each_with_its_example_and_arms() -> None:
    both = [example(number, kind) for number in range(2) for kind in (NEXT_EDIT, COMPLETION)]
    found = places(reversed(rows(3)), rows(2, arms=("base", "other")), both)
    assert [(place.measure, place.order) for place in found] == [(m, i) for m in (LIKELIHOOD, LINE, EDIT) for i in range(3)]
    assert [place.example and place.example.kind for place in found] == [NEXT_EDIT, NEXT_EDIT, None, COMPLETION, COMPLETION, None, NEXT_EDIT, NEXT_EDIT, None]
    assert list(found[0].rows) == ["base", "tuned"]
    assert [list(place.others) for place in found[:3]] == [["base", "other"], ["base", "other"], []]
    assert (found[3].start, found[0].start) == ("new ", "")


@pytest.mark.parametrize("finished", [True, False])
def test_an_evaluation_is_read_finished_or_not_without_what_is_no_sample(make: Make, finished: bool) -> None:
    made = [*rows(1), row("<script>", "a", 0), row(LINE, "a", 10**400), row(LINE, "a", 0, changed_chars=-(10**40))]
    folder = make("run", made, finished=finished)
    with next(folder.glob("*.jsonl")).open("a") as stream:
        stream.write('{"measure": 7}\nnot JSON\n')
    assert sorted({one.measure for one in read_rows(folder)}) == [EDIT, LIKELIHOOD, LINE]
    assert len(read_rows(folder)) == len(rows(1))


def test_what_is_no_evaluation_is_refused(make: Make, tmp_path: Path) -> None:
    folder = make("run", [])
    for path in (folder, tmp_path, tmp_path / "nowhere", tmp_path / "run" / "examples"):
        with pytest.raises(InputError) as caught:
            read_rows(path)
        assert caught.value.hint


def test_the_examples_must_be_those_of_the_evaluation(make: Make, tmp_path: Path) -> None:
    folder, other = make("run", rows(3)), make("other", rows(3), parents={"examples": "0" * 64})
    assert len(read_examples(tmp_path / "run" / "examples", folder)) == 6
    with pytest.raises(InputError, match="made of other examples"):
        read_examples(tmp_path / "run" / "examples", other)
    with pytest.raises(InputError, match="are not in"):
        read_examples(tmp_path / "nowhere", folder)
