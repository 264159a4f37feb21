from __future__ import annotations

from apprentice.sessions.outcomes.standing_lines import MAX_CHANGES, changes
from apprentice.text.edits import Edit


def told(edits: list[Edit]) -> list[tuple[int, tuple[str, ...], tuple[str, ...]]]:
    return [(edit.start_line, edit.old, edit.new) for edit in edits]


def test_lines_between_two_that_stand_are_what_stands_instead() -> None:
    edit = Edit("a", -1, (), ("one", "two", "three"), ("above",), ("below",))
    assert told(changes([edit], ["x", "above", "one", "zwei", "three", "below"], "a")) == [(3, ("two",), ("zwei",))]
    assert told(changes([edit], ["above", "below"], "a")) == [(1, ("one", "two", "three"), ())]
    assert told(changes([edit], ["above", "one", "two", "more", "three", "below"], "a")) == []
    both = told(changes([edit], ["above", "eins", "two", "drei", "below"], "a"))
    assert both == [(1, ("one",), ("eins",)), (3, ("three",), ("drei",))]


def test_what_has_no_line_behind_it_is_not_told() -> None:
    edit = Edit("a", -1, (), ("one", "two", "three"))
    assert told(changes([edit], ["x", "one", "zwei", "y"], "a")) == []
    assert told(changes([edit], ["x", "one", "zwei", "three", "y"], "a")) == [(2, ("two",), ("zwei",))]


def test_the_ends_of_a_whole_file_are_known() -> None:
    edit = Edit("a", 0, (), ("one", "two", "three"))
    assert told(changes([edit], ["eins", "two", "drei"], "a")) == [(0, ("one",), ("eins",)), (2, ("three",), ("drei",))]


def test_context_and_far_away_lines_are_left_alone() -> None:
    edit = Edit("a", -1, (), ("new",), ("far", "above"), ("below",))
    assert told(changes([edit], ["far", "x", "above", "new", "below"], "a")) == []
    edit = Edit("a", -1, (), ("one", "two"), ("above",), ("below",))
    assert told(changes([edit], ["above", *map(str, range(300)), "below"], "a")) == []


def test_many_changes_are_cut() -> None:
    new = tuple(f"{'keep' if i % 2 else 'change'} {i}" for i in range(301))
    text = [line if line.startswith("keep") else line.replace("change", "changed") for line in new]
    assert len(changes([Edit("a", 0, (), new)], text, "a")) == MAX_CHANGES
