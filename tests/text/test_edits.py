"""The edit language: what is rendered is parsed back, what is a hunk is applied, what changed is inside the text."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apprentice.text import edits
from apprentice.text.edits import Edit, EditFormatError, Span

LINE = st.text(st.characters(exclude_characters="\n", exclude_categories=("Cs",)), max_size=12)
CODE_LINE = st.sampled_from(["", "    ", "x = 1", "x = 2", "def f(a):", "    return a", "é\x0c", "\u2028", "a\r", "======"])
LINES = st.lists(LINE | CODE_LINE, max_size=14)
PAIRS = st.tuples(st.lists(CODE_LINE, max_size=14), st.lists(CODE_LINE, max_size=14)) | st.tuples(LINES, LINES)


def text_of(lines: list[str]) -> str:
    return "".join(line + "\n" for line in lines)


def no_marks(lines: list[str]) -> bool:
    return not edits.contains_mark(lines)


@given(PAIRS, st.integers(0, 4))
@settings(max_examples=300, deadline=None)
def test_hunks_applied_one_after_the_other_give_the_text_after(pair: tuple[list[str], list[str]], gap: int) -> None:
    before, after = pair
    lines = edits.split_lines(text_of(before))
    for edit in edits.hunks("a.py", text_of(before), text_of(after), merge_gap=gap):
        changed = edits.apply(lines, edit)
        assert edits.revert(changed, edit) == lines
        lines = changed
    assert lines == edits.split_lines(text_of(after))


@given(PAIRS)
@settings(max_examples=300, deadline=None)
def test_hunks_know_the_lines_around_them(pair: tuple[list[str], list[str]]) -> None:
    before, after = pair
    lines = before
    for edit in edits.hunks("a.py", text_of(before), text_of(after)):
        end = edit.start_line + len(edit.old)
        assert list(edit.above) == lines[max(0, edit.start_line - edits.CONTEXT_LINES) : edit.start_line]
        assert list(edit.below) == lines[end : end + edits.CONTEXT_LINES]
        assert edit.old != edit.new
        lines = edits.apply(lines, edit)


@given(PAIRS, st.integers(0, 3))
@settings(max_examples=200, deadline=None)
def test_edits_lie_apart_by_more_than_the_gap(pair: tuple[list[str], list[str]], gap: int) -> None:
    found = edits.hunks("a.py", text_of(pair[0]), text_of(pair[1]), merge_gap=gap)
    for first, second in zip(found, found[1:], strict=False):
        assert second.start_line - (first.start_line + len(first.new)) > gap


@given(LINES.filter(no_marks), LINES.filter(no_marks))
@settings(max_examples=300, deadline=None)
def test_a_rendered_target_is_parsed_to_the_new_lines(old: list[str], new: list[str]) -> None:
    text, _ = edits.join(edits.render_target(old, new))
    assert edits.parse_target(text) == new
    assert edits.parse_target(text + "\nwhatever the model goes on with") == new


@given(LINES, LINES)
@settings(max_examples=300, deadline=None)
def test_pieces_of_a_target_cover_it_and_the_changed_ones_are_the_changed_ranges(old: list[str], new: list[str]) -> None:
    pieces = edits.render_target(old, new)
    text, spans = edits.join(pieces)
    body = "".join("\n" + line for line in new)
    assert text == body + "\n" + edits.END_MARK
    assert [span.start for span in spans] == [0, *(span.end for span in spans[:-1])]
    assert spans[-1] == Span(len(body), len(text), "end")
    changed = [(span.start, span.end) for span in spans if span.kind == "changed"]
    assert changed == edits.changed_ranges("".join("\n" + line for line in old), body)


@given(LINE | st.sampled_from(["f(a, b)", "f(a)", "aaa", "aa"]), LINE | st.sampled_from(["f(a)", "f(b, a)", "aaaa"]))
@settings(max_examples=400, deadline=None)
def test_changed_ranges_are_in_order_inside_the_text_and_carry_the_rest_over(old: str, new: str) -> None:
    ranges = edits.changed_ranges(old, new)
    at = 0
    kept = ""
    for start, end in ranges:
        assert at <= start < end <= len(new)
        kept += new[at:start]
        at = end
    rest = iter(old)
    assert all(character in rest for character in kept + new[at:]), "what is not new is old, in the same order"


@given(LINE)
def test_nothing_changes_in_the_same_text_and_everything_is_new_in_no_text(text: str) -> None:
    assert edits.changed_ranges(text, text) == []
    assert edits.changed_ranges("", text) == ([(0, len(text))] if text else [])
    assert edits.changed_ranges(text, "") == []


@pytest.mark.parametrize(("old", "new", "ranges"), [
    ("f(a)", "f(a, b)", [(3, 6)]),
    ("return x", "return y", [(7, 8)]),
    ("\n    a", "\n        a", [(5, 9)]),
    ("value", "values", [(5, 6)]),
    ("cat", "dog", [(0, 3)]),
])  # fmt: skip
def test_changed_ranges_by_hand(old: str, new: str, ranges: list[tuple[int, int]]) -> None:
    assert edits.changed_ranges(old, new) == ranges


def test_a_place_ends_in_the_mark_without_a_line_break() -> None:
    text, spans = edits.join(edits.render_place("a.py", ["x"], ["y"], ["z"]))
    assert text == "# a.py, below the edit\nz\n# a.py\nx\n<<<<<<< before\ny\n======="
    assert [span.kind for span in spans] == ["path", "below", "path", "above", "mark", "old", "mark"]


def test_an_insertion_into_an_empty_file_is_a_place_too() -> None:
    text, _ = edits.join(edits.render_place("a.py", [], [], []))
    assert text == "# a.py\n<<<<<<< before\n======="


def test_a_deletion_is_an_empty_replacement() -> None:
    text, _ = edits.join(edits.render_target(["x"], []))
    assert text == "\n>>>>>>> after"
    assert edits.parse_target(text) == []


@pytest.mark.parametrize("text", [
    "", "x\n>>>>>>> after", "\nx", "\nx\n>>>>>>> aft", "\n=======\n>>>>>>> after", "\n<<<<<<< before\n>>>>>>> after",
])  # fmt: skip
def test_text_that_is_no_replacement_is_refused(text: str) -> None:
    with pytest.raises(EditFormatError):
        edits.parse_target(text)


@given(st.text(max_size=60) | st.lists(st.sampled_from(["\n", *edits.MARKS, "x"]), max_size=9).map("".join))
@settings(max_examples=300, deadline=None)
def test_any_generated_text_is_parsed_or_refused(text: str) -> None:
    try:
        new = edits.parse_target(text)
    except EditFormatError:
        return
    assert text.startswith("".join("\n" + line for line in new) + "\n" + edits.END_MARK)


def test_an_edit_at_the_wrong_place_is_refused() -> None:
    edit = Edit("a.py", 1, ("x",), ("y",))
    with pytest.raises(ValueError, match=r"a\.py.*line 2"):
        edits.apply(["x", "z"], edit)
    with pytest.raises(ValueError, match=r"a\.py.*line 2"):
        edits.revert(["x"], edit)


def test_lines_end_at_line_feeds_only() -> None:
    assert edits.split_lines("a\x0cb\u2028c\rd\r\ne\n") == ["a\x0cb\u2028c\rd\r", "e"]
    assert edits.split_lines("") == []
    assert edits.split_lines("\n\n") == ["", ""]


def test_neighbouring_pieces_of_one_kind_are_one_span() -> None:
    text, spans = edits.join([edits.Piece("a", "x"), edits.Piece("", "y"), edits.Piece("b", "x"), edits.Piece("c", "y")])
    assert text == "abc"
    assert spans == [Span(0, 2, "x"), Span(2, 3, "y")]
