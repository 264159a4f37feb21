from __future__ import annotations

import random

from apprentice.examples.change import FileChange, Place, answer, diff, excerpts, places_of, question
from apprentice.examples.checks.blocks import score_blocks
from apprentice.text.blocks import parse
from apprentice.text.edits import Edit, hunks

CODE = [f"line {n}" for n in range(40)]


def _changed(before: list[str], after: list[str]) -> FileChange:
    texts = ("".join(line + "\n" for line in lines) for lines in (before, after))
    return FileChange("a.py", before, places_of(hunks("a.py", *texts)))


def test_places_count_by_the_lines_before() -> None:
    after = [*CODE[:5], "new", *CODE[5:20], "LINE 20", *CODE[21:]]
    change = _changed(CODE, after)
    assert [(place.start, place.end) for place in change.places] == [(5, 5), (20, 21)]
    assert change.after == after


def test_a_block_quotes_no_more_than_tells_its_place_apart() -> None:
    change = _changed(CODE, [*CODE[:20], "LINE 20", *CODE[21:]])
    (block,) = parse(answer([change]) or "")
    assert (block.old, block.new) == (("line 20",), ("LINE 20",))
    twice = [*CODE[:10], "same", "end", *CODE[10:20], "same", "end", *CODE[20:]]
    (block,) = parse(answer([_changed(twice, [*twice[:22], "other", *twice[23:]])]) or "")
    assert block.old == ("line 19", "same")


def test_added_lines_quote_a_line_beside_them() -> None:
    (block,) = parse(answer([_changed(CODE, [*CODE[:7], "new", *CODE[7:]])]) or "")
    assert (block.old, block.new) == (("line 6",), ("line 6", "new"))
    (block,) = parse(answer([_changed(CODE, ["new", *CODE])]) or "")
    assert block.new[0] == "new"
    assert block.old


def test_a_new_file_is_a_block_without_old_lines() -> None:
    change = FileChange("b.py", (), [Place(0, 0, ("x", "y"))])
    (block,) = parse(answer([change]) or "")
    assert (block.path, block.old, block.new) == ("b.py", (), ("x", "y"))
    assert not excerpts([change])


def test_places_that_nothing_tells_apart_have_no_answer() -> None:
    alike = ["pass"] * 40
    assert answer([_changed(alike, [*alike[:20], "new", *alike[20:]])]) is None


def test_lines_that_are_marks_of_the_form_have_no_answer() -> None:
    assert answer([_changed(["=======", "x"], ["=======", "y", "=======", "x"])]) is None


def test_excerpts_near_each_other_are_one() -> None:
    change = _changed(CODE, [*CODE[:10], "A", *CODE[11:20], "B", *CODE[21:38], "C", *CODE[39:]])
    assert [(part.start_line, part.start_line + len(part.lines)) for part in excerpts([change])] == [(4, 27), (32, 40)]
    assert "a.py, lines 5 to 27:\n```python\nline 4\n" in question(excerpts([change]))


def test_a_diff_shows_what_went_and_what_came() -> None:
    change = _changed(CODE, [*CODE[:10], "A", *CODE[11:]])
    assert diff([change], 1) == "--- a/a.py\n+++ b/a.py\n@@\n line 9\n-line 10\n+A\n line 11\n"


def test_an_edit_of_an_unknown_file_is_a_part_of_one() -> None:
    change = FileChange.of_edit(Edit("a.py", -1, ("old",), ("new",), ("above",), ("below",)))
    assert (change.lines, change.first_line) == (("above", "old", "below"), -1)
    assert question(excerpts([change])).startswith("a.py:\n")
    assert change.after == ["above", "new", "below"]


def test_random_changes_are_answered_exactly() -> None:
    rng = random.Random(0)
    answered = 0
    for _ in range(200):
        before = [rng.choice(["a", "b", "", f"x{rng.randrange(30)}"]) for _ in range(rng.randrange(1, 40))]
        after = [line for line in before if rng.random() > 0.1]
        for _ in range(rng.randrange(3)):
            after.insert(rng.randrange(len(after) + 1), f"new {rng.randrange(9)}")
        change = _changed(before, after)
        text = answer([change]) if change.places else None
        if text is not None:
            answered += 1
            shown = excerpts([change])
            assert score_blocks(text, text, shown).exact
    assert answered > 100
