from __future__ import annotations

import pytest

from apprentice.core.fakes import ByteTokenizer
from apprentice.examples.kinds.completion import completion, cursor
from apprentice.examples.work import FileWork, Work, moments
from apprentice.repository.prompt import PromptConfig
from apprentice.text.edits import Edit, hunks, split_lines


def _cursors(before: str, after: str) -> list[tuple[str, str] | None]:
    work = Work(commit="c", time=0, author="developer",
                files=[FileWork("m.py", split_lines(before), hunks("m.py", before, after))])  # fmt: skip
    found = [cursor(moment.lines, moment.edit) for moment in moments([work])]
    return [None if at is None else (at.line_start, at.rest) for at in found]


@pytest.mark.parametrize(
    ("before", "after", "place"),
    [
        ("x = f(a)\n", "x = f(a, b)\n", ("x = f(a", ", b)")),
        ("", "import os\n", ("", "import os")),
        ("a\n", "a\n    b = 1\n", ("", "    b = 1")),
        ("a\n", "a\n\n\nb = 1\n", ("", "b = 1")),
        ("    return x\n", "    return y\n", ("    return ", "y")),
        ("s = 'ä'\n", "s = 'äö😀'\n", ("s = 'ä", "ö😀'")),
        ("f(\n    a)\n", "f(\n    a,\n    b)\n", ("    a", ",")),
    ],
)
def test_the_cursor_stands_at_the_first_changed_character(before: str, after: str, place: tuple[str, str]) -> None:
    assert _cursors(before, after) == [place]


@pytest.mark.parametrize(
    ("before", "after"),
    [("a\nb\nc\n", "a\nc\n"), ("a\n", "a   \n"), ("a\nb\n", "a\n\n\nb\n"), ("x = f(a, b)\n", "x = f(a)\n")],
    ids=["deletion", "trailing blanks", "blank lines", "deletion inside a line"],
)
def test_a_hunk_without_new_text_in_a_line_has_no_place(before: str, after: str) -> None:
    assert _cursors(before, after) == [None]


def test_a_carried_over_line_in_front_is_typed_already() -> None:
    before = ["start", "alpha", "beta", "gamma", "end"]
    edit = Edit("m.py", 1, ("alpha", "beta", "gamma"), ("alpha", "delta", "gamma"), ("start",), ("end",))
    at = cursor(before, edit)
    assert at is not None
    assert (at.line_start, at.rest) == ("", "delta")
    assert list(at.place.lines[: at.place.start_line]) == ["start", "alpha"]
    assert list(at.place.lines[at.place.start_line : at.place.end_line]) == ["alpha", "beta", "gamma"]
    assert list(at.place.lines[at.place.end_line :]) == ["end"]


def test_the_prompt_shows_the_text_below_but_not_the_old_lines() -> None:
    before = "def f(a):\n    return a + 1\n\nprint(f(1))\n"
    after = "def f(a):\n    return a * 2\n\nprint(f(1))\n"
    work = Work(commit="c", time=0, author="developer",
                files=[FileWork("m.py", split_lines(before), hunks("m.py", before, after))])  # fmt: skip
    example = completion(next(iter(moments([work]))), ByteTokenizer(), PromptConfig())
    assert example is not None
    assert example.prompt.endswith("# m.py\ndef f(a):\n    return a ")
    assert "print(f(1))" in example.prompt
    assert "+ 1" not in example.prompt
    assert example.target == "* 2\n"
    assert [(kind, (example.prompt + example.target)[a:b]) for a, b, kind in example.spans][-2:] == [
        ("changed", "* 2"),
        ("end", "\n"),
    ]
    assert example.check == {"type": "line"}
