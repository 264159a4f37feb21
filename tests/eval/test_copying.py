from __future__ import annotations

from apprentice.eval.arms import Limits
from apprentice.eval.copying import CopyArm, predict, transfer
from apprentice.eval.replay import View
from apprentice.examples.checks.edit import score_edit
from apprentice.examples.kinds.completion import Cursor
from apprentice.examples.work import FileWork, Moment, Work
from apprentice.repository.prompt import Place
from apprentice.text.edits import Edit

FAR = Edit("z.py", 0, ("completely = different",), ("completely = other",), ("nothing",), ("alike",))
NEAR = Edit("a.py", 4, ("value = get(name)",), ("value = fetch(name)",), ("def f(name):",), ("    return value",))


def _view(edit: Edit, lines: list[str], earlier: list[Edit]) -> View:
    file = FileWork(edit.path, lines, [edit])
    work = Work(commit="c", time=0, author="developer", files=[file])
    return View(Moment(work, file, 0, edit, lines, (), 0), {}, earlier)


def test_the_nearest_edit_made_again_is_exact_where_work_repeats() -> None:
    lines = ["def f(name):", "value = get(name)", "    return value"]
    edit = Edit("b.py", 1, ("value = get(name)",), ("value = fetch(name)",))
    view = _view(edit, lines, [NEAR, FAR])
    answer = CopyArm().edit(view, Limits())
    assert score_edit(answer.text, edit).exact


def test_words_replaced_there_are_replaced_here() -> None:
    assert transfer(NEAR, ["other = get(key)"]) == ["other = fetch(key)"]


def test_where_nothing_of_it_fits_the_new_lines_are_taken() -> None:
    assert transfer(NEAR, ["print(1)"]) == ["value = fetch(name)"]
    assert transfer(NEAR, []) == ["value = fetch(name)"]


def test_without_earlier_edits_there_is_no_answer() -> None:
    edit = Edit("b.py", 0, ("a",), ("b",))
    assert predict(edit, ["a"], []) is None
    answer = CopyArm().edit(_view(edit, ["a"], []), Limits())
    assert not score_edit(answer.text, edit).valid


def test_the_prediction_does_not_look_at_the_answer() -> None:
    lines = ["def f(name):", "value = get(name)", "    return value"]
    one, two = (Edit("b.py", 1, ("value = get(name)",), (new,)) for new in ("value = fetch(name)", "something else"))
    assert predict(one, lines, [NEAR, FAR]) == predict(two, lines, [NEAR, FAR])


def test_the_latest_of_equally_near_edits_is_taken() -> None:
    older = Edit("a.py", 0, ("x",), ("old answer",))
    newer = Edit("a.py", 0, ("x",), ("new answer",))
    assert predict(Edit("b.py", 0, ("x",), ("?",)), ["x"], [older, newer]) == ["new answer"]


def test_a_line_is_completed_from_the_copied_lines() -> None:
    lines = ["def f(name):", "value = get(name)", "    return value"]
    view = _view(Edit("b.py", 1, ("value = get(name)",), ("value = fetch(name)",)), lines, [NEAR, FAR])
    place = Place("b.py", lines, 1, 2)
    assert CopyArm().line(view, Cursor(place, "value = ", "fetch(name)"), Limits()).text == "fetch(name)"
    assert CopyArm().line(view, Cursor(place, "elsewhere", "x"), Limits()).text == ""
