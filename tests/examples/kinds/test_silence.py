from __future__ import annotations

import pytest

from apprentice.core.fakes import ByteTokenizer
from apprentice.examples.checks.edit import score_edit
from apprentice.examples.kinds.silence import NEAR_LINES, rejections, silence, silent_places
from apprentice.examples.work import FileWork, Moment, Work, moments
from apprentice.repository.prompt import PromptConfig
from apprentice.sessions.events import Author, EditEvent, Provenance, Session, Suggestion
from apprentice.text.edits import Edit, hunks, split_lines

TOKENIZER = ByteTokenizer()
LINES = [f"line_{number} = {number}" for number in range(100)]


def _moments(before: list[str], after: list[str]) -> list[Moment]:
    old, new = ("".join(line + "\n" for line in lines) for lines in (before, after))
    work = Work(commit="c", time=0, author="developer", files=[FileWork("m.py", split_lines(old), hunks("m.py", old, new))])
    return list(moments([work]))


def _all_starts(moment: Moment, num_lines: int = 1) -> set[int]:
    return {place.start_line for place in silent_places(moment, 1000, num_lines=num_lines)}


def test_silent_places_lie_near_the_edit_and_not_beside_it() -> None:
    (moment,) = _moments(LINES, [*LINES[:50], "new = 1", *LINES[51:]])
    near = {start for start in range(50 - NEAR_LINES - 1, 51 + NEAR_LINES + 1) if not 49 <= start <= 51}
    assert _all_starts(moment) == near


def test_both_neighbours_of_an_insertion_are_left_out() -> None:
    (moment,) = _moments(LINES, [*LINES[:50], "new = 1", *LINES[50:]])
    assert {48, 51} <= _all_starts(moment)
    assert not {49, 50} & _all_starts(moment)


def test_what_later_edits_of_the_commit_change_is_not_silent() -> None:
    after = [*LINES[:40], "a = 1", "b = 2", *LINES[40:50], "new = 1", *LINES[51:55], *LINES[56:]]
    first, second, third = _moments(LINES, after)
    assert not {39, 40, 49, 50, 51, 54, 55, 56} & _all_starts(first)
    assert {41, 48, 52, 53, 57} <= _all_starts(first)
    # What was done before is over: of these lines nothing more was made.
    assert {39, 40, 41, 42} <= _all_starts(second)
    assert second.lines[40] == "a = 1"
    assert 52 in _all_starts(third)


def test_an_overlap_with_the_edit_is_no_silent_place() -> None:
    (moment,) = _moments(LINES, [*LINES[:50], "new = 1", "more = 2", *LINES[53:]])
    places = silent_places(moment, 1000)
    assert {place.end_line - place.start_line for place in places} == {3}
    assert not any(place.start_line < 54 and place.end_line > 49 for place in places)
    starts = [place.start_line for place in places]
    assert all(b - a >= 3 for a, b in zip(starts, starts[1:], strict=False))


def test_blank_lines_and_files_with_marks_have_no_silent_places() -> None:
    (moment,) = _moments(["", "", "x = 1", "", ""], ["", "", "x = 2", "", ""])
    assert silent_places(moment, 10) == []
    (marked,) = _moments(["a", "b", "=======", "c", "x = 1"], ["a", "b", "=======", "c", "x = 2"])
    assert silent_places(marked, 10) == []


def test_the_same_seed_draws_the_same_places() -> None:
    (moment,) = _moments(LINES, [*LINES[:50], "new = 1", *LINES[51:]])
    drawn = [[place.start_line for place in silent_places(moment, 3, seed=seed)] for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(set(drawn[0])) == 3


def test_the_answer_of_silence_is_the_region_as_it_is() -> None:
    (moment,) = _moments(LINES, [*LINES[:50], "new = 1", *LINES[51:]])
    first, second = silent_places(moment, 2)
    example = silence(moment, first, TOKENIZER, PromptConfig())
    assert example.kind == "silence"
    assert example.moment == moment.key
    assert example.target == f"\n{LINES[first.start_line]}\n>>>>>>> after"
    assert {span.kind for span in example.target_spans} == {"unchanged", "end"}
    score = score_edit(example.target, example.edit)
    assert score.exact
    assert score.moved_chars == 0
    assert example.prompt.endswith(f"<<<<<<< before\n{LINES[first.start_line]}\n=======")
    assert silence(moment, second, TOKENIZER, PromptConfig(), 1).id != example.id


@pytest.mark.parametrize(
    ("outcome", "later", "count"),
    [
        ("rejected", None, 1), ("undone", None, 1), ("kept", None, 0), ("ignored", None, 0),
        ("rejected", Edit("a.py", 4, ("b = 2",), ("b = 3",)), 0), ("rejected", Edit("a.py", 90, ("z = 2",), ("z = 3",)), 1),
        ("rejected", Edit("b.py", 4, ("b = 2",), ("b = 3",)), 1), ("rejected", Edit("a.py", -1, ("z",), ("y",)), 0),
        # It was accepted and taken back: nothing else was done there.
        ("undone", Edit("a.py", 4, ("b = 7",), ("b = 2",)), 1), ("undone", Edit("a.py", 4, ("b = 7",), ("b = 3",)), 0),
    ],
)  # fmt: skip
def test_a_rejection_teaches_silence_where_nothing_was_done_afterwards(outcome: str, later: Edit | None, count: int) -> None:
    facts = {"session_id": "s", "time": 1.0, "provenance": Provenance(source="editor", file="f")}
    developer = Author(kind="developer")
    before = Edit("a.py", 1, ("x = 1",), ("x = 2",), ("import os",), ())
    offered = Edit("a.py", 4, ("b = 2",), ("b = 7",), ("a = 1",), ("c = 3",))
    events = [
        EditEvent(id="1", author=developer, path="a.py", before_id=None, after_id=None, hunks=(before,), **facts),
        Suggestion(id="2", author=Author(kind="assistant", agent="apprentice"), edit=offered, outcome=outcome, **facts),  # pyrefly: ignore
    ]
    if later is not None:
        events.append(EditEvent(id="3", author=developer, path=later.path, before_id=None, after_id=None, hunks=(later,), **facts))
    session = Session(id="s", source="editor", repository="r", time=1.0, events=tuple(events))
    found = list(rejections(session, TOKENIZER, PromptConfig()))
    assert len(found) == count
    for example in found:
        assert example.target == "\nb = 2\n>>>>>>> after"
        assert "x = 2" in example.prompt
        assert "b = 7" not in example.prompt


def test_of_a_rejected_insertion_the_line_above_it_stays_as_it_is() -> None:
    facts = {"session_id": "s", "time": 1.0, "provenance": Provenance(source="editor", file="f"), "author": Author(kind="assistant")}
    offers = [Edit("a.py", 4, (), ("new = 7",), ("a = 1", "b = 2"), ("c = 3",)), Edit("a.py", 0, (), ("new = 7",), (), ("c = 3",))]
    events = [Suggestion(id=str(n), edit=edit, outcome="rejected", **facts) for n, edit in enumerate(offers)]
    (example,) = rejections(Session(id="s", source="editor", repository="r", time=1.0, events=tuple(events)), TOKENIZER, PromptConfig())
    assert example.prompt.endswith("a = 1\n<<<<<<< before\nb = 2\n=======")
    assert example.target == "\nb = 2\n>>>>>>> after"
    assert (example.edit.start_line, example.edit.old, example.edit.above) == (3, ("b = 2",), ("a = 1",))
