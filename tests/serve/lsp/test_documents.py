"""Documents follow the editor through any changes; places are counted in every unit."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apprentice.serve.lsp.documents import Document, Point, column, name_of, path_of, units

TEXTS = st.text(alphabet="ab\n😀é\x0c\u2028", max_size=30)
SIZES = {"utf-8": ("utf-8", 1), "utf-16": ("utf-16-le", 2), "utf-32": ("utf-32-le", 4)}


def at(text: str, place: int) -> Point:
    before = text[:place]
    return Point(before.count("\n"), place - (before.rfind("\n") + 1))


@given(TEXTS, st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40), TEXTS), max_size=6))
def test_lines_are_those_of_the_text_after_any_changes(text: str, changes: list[tuple[int, int, str]]) -> None:
    document = Document("file:///a", text)
    for start, end, new in changes:
        start, end = min(start, len(text)), min(end, len(text))
        change = document.plan(new, at(text, start), at(text, end))
        start, end = min(start, end), max(start, end)
        after = text[:start] + new + text[end:]
        assert (change is None) == (after == text)
        if change is not None:
            assert document.between(change.start, change.end) == change.old
            assert not (change.old and change.text and (change.old[0] == change.text[0] or change.old[-1] == change.text[-1]))
            document.apply(change)
            assert document.between(change.start, change.new_end) == change.text
        text = after
        assert "\n".join(document.lines) == text


@given(TEXTS, TEXTS)
def test_a_whole_text_in_place_of_another_is_a_small_change(before: str, after: str) -> None:
    document = Document("file:///a", before)
    change = document.plan(after)
    if change is None:
        assert before == after
        return
    document.apply(change)
    assert "\n".join(document.lines) == after
    assert len(change.old) <= len(before)


def test_of_a_whole_text_with_one_letter_more_the_change_is_the_letter() -> None:
    document = Document("file:///a", "one\ntwo\nthree\n")
    change = document.plan("one\ntwos\nthree\n")
    assert change is not None
    assert (change.start, change.end, change.text) == (Point(1, 3), Point(1, 3), "s")


@given(st.text(alphabet="a😀é𝄞", max_size=12), st.sampled_from(sorted(SIZES)))
def test_columns_in_units_and_back(text: str, encoding: str) -> None:
    codec, width = SIZES[encoding]
    for number in range(len(text) + 1):
        there = len(text[:number].encode(codec)) // width
        assert units(text[:number], encoding) == there
        assert column(text, there, encoding) == number
    assert column(text, 10_000, encoding) == len(text)
    assert column(text, -5, encoding) == 0


def test_a_place_inside_a_character_is_in_front_of_it() -> None:
    assert column("a😀b", 2, "utf-16") == 1
    assert [column("é!", place, "utf-8") for place in range(5)] == [0, 0, 1, 2, 2]


def test_what_is_large_or_binary_is_not_readable_until_it_is_again() -> None:
    document = Document("file:///a", "a")
    for text, readable in (("a" * (3 << 20), False), ("b", True), ("\0", False)):
        change = document.plan(text)
        assert change is not None
        document.apply(change)
        assert document.is_readable == readable


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("file:///a/b%20c.py", "/a/b c.py"), ("file://localhost/a", "/a"), ("file:///%C3%A9", "/é"), ("untitled:Untitled-1", None),
        ("file://host/a", None), ("file:a", None), ("", None), ("file:///a%00b", None), ("http://[", None), ("zip:///a", None),
    ],
)  # fmt: skip
def test_paths_of_documents(uri: str, path: str | None) -> None:
    assert path_of(uri) == (None if path is None else Path(path))


def test_names_are_paths_in_the_repository_or_the_folder(tmp_path: Path) -> None:
    (tmp_path / "repository" / ".git").mkdir(parents=True)
    assert name_of(tmp_path / "repository" / "src" / "a.py") == "src/a.py"
    assert name_of(tmp_path / "folder" / "src" / "a.py", [tmp_path / "folder"]) == "src/a.py"
    assert name_of(tmp_path / "folder" / "src" / "a.py") == "a.py"
    assert name_of(None) == "untitled"
