from __future__ import annotations

import pytest

from apprentice.examples.kinds.asked import Asked, asked_at
from apprentice.examples.work import FileWork, Moment, Work, moments
from apprentice.text.edits import hunks

LINES = [f"line_{number} = {number}" for number in range(60)]


def _moment(at: int, old: int, *new: str) -> Moment:
    before, after = ("".join(line + "\n" for line in lines) for lines in (LINES, [*LINES[:at], *new, *LINES[at + old :]]))
    return next(moments([Work(commit="c", time=0, author="developer", files=[FileWork("m.py", LINES, hunks("m.py", before, after))])]))


def _one(found: list[Asked], form: str, *, is_silent: bool = False) -> Asked | None:
    return next((asked for asked in found if asked.form == form and asked.is_silent is is_silent), None)


@pytest.mark.parametrize(
    ("at", "old", "new", "start", "right"),
    [
        (30, 1, ["line_30 = 31"], 30, ("line_30 = 31",)),
        (30, 1, ["a = 1", "b = 2"], 30, ("a = 1", "b = 2")),
        (30, 2, ["a = 1", "b = 2"], 30, ("a = 1",)),
        (30, 2, [], 30, ()),
        (30, 3, ["new = 1", "line_30 = 30", "line_31 = 31", "x = 3"], 33, ("x = 3",)),
    ],
)
def test_the_first_changed_line_is_asked_for_what_it_became(at: int, old: int, new: list[str], start: int, right: tuple[str, ...]) -> None:
    asked = _one(asked_at(_moment(at, old, *new)), "edit")
    assert asked is not None
    assert (asked.place.start_line, asked.place.end_line, asked.right) == (start, start + 1, right)
    assert asked.old[0].startswith("line_3")
    # What stands above is as the developer has it by then.
    assert list(asked.place.lines[at:start]) == new[: start - at]


@pytest.mark.parametrize(("old", "new"), [(0, ["new = 1"]), (2, ["a = 1", "b = 2", "c = 3"]), (3, ["a = 1"])])
def test_insertions_and_lines_of_unknown_origin_are_asked_for_their_text_only(old: int, new: list[str]) -> None:
    found = asked_at(_moment(30, old, *new))
    assert _one(found, "edit") is None
    line = _one(found, "line")
    assert line is not None
    assert line.right == (new[0],)
    assert (line.place.start_line, line.line_start, line.old) == (30, "", ("",))
    assert list(line.place.lines[31:]) == LINES[30 + old :]


def test_as_many_places_are_silent_as_are_not_and_their_lines_stay() -> None:
    found = asked_at(_moment(30, 1, "line_30 = 31"), silent=2)
    assert [(asked.form, asked.is_silent) for asked in found].count(("edit", True)) == 2
    assert [(asked.form, asked.is_silent) for asked in found].count(("line", True)) == 2
    silent = [asked for asked in found if asked.is_silent]
    assert len({asked.place.start_line for asked in silent}) == 4
    for asked in silent:
        assert asked.right == asked.old == (LINES[asked.place.start_line],)
        assert asked.line_start == ("" if asked.form == "edit" else asked.old[0])
        assert not asked.is_exact(asked.old)
        assert not asked.is_useful(["new"])


def test_right_is_what_was_written_and_useful_what_it_begins_with() -> None:
    edit = _one(asked_at(_moment(30, 1, "a = 1", "b = 2")), "edit")
    assert edit is not None
    assert edit.is_exact(["a = 1  ", "b = 2"])
    assert edit.is_useful(["a = 1", "b = 2"])
    assert edit.is_useful(["a = 1"])
    assert not edit.is_exact(["a = 1"])
    assert not edit.is_useful(["b = 2"])
    assert not edit.is_useful([])
    line = _one(asked_at(_moment(30, 1, "line_30 = f(x)")), "line")
    assert line is not None
    assert line.line_start == "line_30 = "
    assert line.is_exact(["line_30 = f(x) "])
    assert line.is_useful(["line_30 = f("])
    assert not line.is_useful(["line_30 = "])
    assert not line.is_useful(["line_30 = g("])


def test_an_edit_that_only_takes_lines_out_is_right_only_when_nothing_is_left() -> None:
    edit = _one(asked_at(_moment(30, 1)), "edit")
    assert edit is not None
    assert edit.is_exact([])
    assert not edit.is_exact(["line_30 = 30"])
    assert not edit.is_useful(["line_30 = 30"])
