import random

import pytest

from apprentice.sessions.differences import hunks_between
from apprentice.sessions.unusable import Unusable
from apprentice.text import edits
from apprentice.text.edits import CONTEXT_LINES, split_lines


def followed(before: str, after: str) -> list[str]:
    """The lines of `before` with all edits applied; each edit's context is checked on the way."""
    old, lines = split_lines(before), split_lines(before)
    grown = 0
    for edit in hunks_between("a.py", before, after):
        start, end = edit.start_line, edit.start_line + len(edit.old)
        assert list(edit.above) == lines[max(0, start - CONTEXT_LINES) : start]
        assert list(edit.below) == old[end - grown : end - grown + CONTEXT_LINES]
        lines = edits.apply(lines, edit)
        grown += len(edit.new) - len(edit.old)
    return lines


@pytest.mark.parametrize("seed", range(60))
def test_edits_lead_from_one_text_to_the_other_and_carry_their_context(seed: int) -> None:
    dice = random.Random(seed)
    common = dice.choice([3, 30, 3000])
    old = [dice.choice(["", "}", f"line {dice.randrange(common)}"]) for _ in range(dice.choice([0, 5, 60, 600]))]
    new = list(old)
    for _ in range(dice.randrange(8)):
        at = dice.randrange(len(new) + 1)
        new[at : at + dice.randrange(20)] = [f"line {dice.randrange(common)}" for _ in range(dice.randrange(20))]
    if dice.random() < 0.3:
        moved = new[: len(new) // 3]
        new = new[len(new) // 3 :] + moved
    before, after = ("".join(line + "\n" for line in lines) for lines in (old, new))
    assert followed(before, after) == new
    assert followed(after, before) == old


def test_usual_edits_are_those_of_the_whole_text() -> None:
    old = [f"x{number} = {number}" for number in range(500)]
    new = list(old)
    new[100:102] = ["changed"]
    new[104:104] = ["", "near"]
    new[300:300] = ["far"]
    new[499:] = []
    before, after = ("".join(line + "\n" for line in lines) for lines in (old, new))
    assert hunks_between("a.py", before, after) == edits.hunks("a.py", before, after)
    assert [edit.start_line for edit in hunks_between("a.py", before, after)] == [100, 104, 300, 499]


@pytest.mark.parametrize(("before", "after"), [("", ""), ("a\n", "a\n"), ("a\n", "a"), ("", "a\n"), ("a\n", "")])
def test_empty_and_equal_texts(before: str, after: str) -> None:
    assert followed(before, after) == split_lines(after)


def test_an_edit_in_a_long_file_of_repeated_lines_is_found_at_once() -> None:
    lines = [text for number in range(20_000) for text in ("{", "", f"  value {number}", "}")]
    changed = list(lines)
    changed[41_000:41_000] = ["{", "", "}"]
    changed[61_000] = "  other"
    before, after = ("".join(line + "\n" for line in part) for part in (lines, changed))
    assert len(hunks_between("a.json", before, after)) == 2
    assert followed(before, after) == changed


def test_what_repeats_too_often_is_refused() -> None:
    with pytest.raises(Unusable, match="too_repetitive"):
        hunks_between("a.txt", "x\ny\n" * 5000, "y\nx\n" * 5000 + "x\n")
