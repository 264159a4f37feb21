from __future__ import annotations

from apprentice.core.fakes import ByteTokenizer
from apprentice.examples.example import NEXT_EDIT, Example
from apprentice.examples.kinds.next_edit import next_edit
from apprentice.examples.work import FileWork, Work, moments
from apprentice.repository.prompt import PromptConfig
from apprentice.text.edits import hunks, parse_target, split_lines

BEFORE = "import os\n\n\ndef f(a):\n    return a\n\n\nprint(f(1))\n"
AFTER = "import os\nimport sys\n\n\ndef f(a):\n    return a\n\n\nprint(f(1, 'ß😀'))\n"


def _examples() -> list[Example]:
    edits = hunks("m.py", BEFORE, AFTER)
    work = Work(commit="c1", time=5.0, author="developer", person="p", session="s", repository="r",
                files=[FileWork("m.py", split_lines(BEFORE), edits)])  # fmt: skip
    return [next_edit(moment, ByteTokenizer(), PromptConfig()) for moment in moments([work])]


def test_spans_cover_prompt_and_target_without_a_gap() -> None:
    for example in _examples():
        text = example.prompt + example.target
        assert example.spans[0][0] == 0
        assert example.spans[-1][1] == len(text)
        assert all(a[1] == b[0] and a[0] < a[1] for a, b in zip(example.spans, example.spans[1:], strict=False))
        assert any(start == len(example.prompt) for start, _, _ in example.spans)


def test_spans_say_what_each_part_is() -> None:
    _, example = _examples()
    text = example.prompt + example.target
    parts = [(kind, text[start:end]) for start, end, kind in example.spans]
    assert parts[0][0] == "recent"
    assert "import sys" in parts[0][1]
    assert parts[1:] == [
        ("path", "# m.py\n"),
        ("above", "import os\nimport sys\n\n\ndef f(a):\n    return a\n\n\n"),
        ("mark", "<<<<<<< before\n"),
        ("old", "print(f(1))\n"),
        ("mark", "======="),
        ("copied", "\nprint(f(1"),
        ("changed", ", 'ß😀'"),
        ("copied", "))"),
        ("end", "\n>>>>>>> after"),
    ]


def test_target_spans_count_from_the_target() -> None:
    _, example = _examples()
    changed = [example.target[s.start : s.end] for s in example.target_spans if s.kind == "changed"]
    assert changed == [", 'ß😀'"]
    assert "".join(example.prompt[s.start : s.end] for s in example.prompt_spans) == example.prompt


def test_the_target_parses_back_into_what_the_developer_wrote() -> None:
    for example in _examples():
        assert parse_target(example.target) == list(example.edit.new)


def test_the_row_says_where_it_comes_from() -> None:
    first, second = _examples()
    assert (first.kind, first.check, first.commit, first.session, first.repository) == (
        NEXT_EDIT, {"type": "edit"}, "c1", "s", "r")  # fmt: skip
    assert (first.time, first.author, first.person, first.hunk, second.hunk) == (5.0, "developer", "p", 0, 1)
    assert first.text_id != second.text_id
    assert first.moment != second.moment
