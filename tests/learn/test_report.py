from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from apprentice.eval.samples import EDIT, LINE, Row
from apprentice.examples.example import NEXT_EDIT, Example
from apprentice.learn import report
from apprentice.learn.report import CurvePoint, SampleView
from apprentice.text.edits import Edit, join, render_target

HOSTILE = "<script>alert(1)</script>\x1b[31m\u202e"


def result(commits: int = 40, **more: Any) -> dict[str, Any]:
    return {
        "heldout": {"examples": 200, "commits": commits},
        "changed_bits_per_char": {"tuned": [1.5, 1.4, 1.6], "base": [2.0, None, None], "extra": [1.0, 0.9, 1.1]},
        "line_exact": {"base": [0.25, 0.2, 0.3]},
        "valid_format": {},
        "differences": {
            "tuned-base": [-0.5, -0.6, -0.4], "base-window": [0.5, 0.4, 0.6],
            "quantized_memory-tuned_memory": [0.01, -0.1, 0.1], "base_memory-base": [None, None, None],
        },
        **more,
    }  # fmt: skip


def test_an_estimate_is_a_value_with_its_interval_or_a_dash() -> None:
    assert report.estimate_text([1.2345, 1.2, 1.27]) == "1.234 [1.200, 1.270]"
    assert report.estimate_text([1.0, None, None], digits=1) == "1.0"
    assert report.estimate_text([None, None, None]) == report.estimate_text(None) == "-"


def test_columns_are_aligned_and_lines_end_without_blanks() -> None:
    assert report.aligned([["arm", "bits"], ["tuned", "1"], ["b", ""]]) == "arm    bits\ntuned  1\nb"
    assert report.aligned([]) == ""


def test_the_table_has_the_known_arms_in_their_order_and_only_measures_that_were_taken() -> None:
    header, rows = report.table(result())
    assert header == ["arm", "bits per changed character", "exact lines"]
    assert [row[0] for row in rows] == ["base", "tuned", "extra"]
    assert rows[1] == ["tuned", "1.500 [1.400, 1.600]", "-"]


def test_a_verdict_needs_an_interval_on_one_side_of_zero() -> None:
    verdicts = {row[0]: row[3] for row in report.difference_rows(result())}
    assert verdicts == {
        "tuned-base": "better", "base-window": "worse", "quantized_memory-tuned_memory": "no clear difference",
        "base_memory-base": "not known",
    }  # fmt: skip


@pytest.mark.parametrize(("commits", "is_few"), [(report.FEW_COMMITS - 1, True), (report.FEW_COMMITS, False)])
def test_few_commits_come_with_a_warning(commits: int, is_few: bool) -> None:
    assert any("few" in line for line in report.warnings(result(commits))) == is_few


def test_the_page_runs_no_script_and_shows_hostile_text_escaped(tmp_path: Path) -> None:
    pytest.importorskip("vl_convert")
    path = tmp_path / "index.html"
    report.write(
        path, result(changed_bits_per_char={"base": [2.0, 1.0, 3.0], HOSTILE: [1.0, 0.5, 1.5]}),
        curve=[CurvePoint(tokens=0, bits=2.0), CurvePoint(tokens=100, bits=1.5)],
        samples=[SampleView(title=HOSTILE, old=HOSTILE, developer="new" + HOSTILE, answers={HOSTILE: HOSTILE})],
        provenance={"learned from": HOSTILE, HOSTILE: 1}, claim=HOSTILE,
    )  # fmt: skip
    page = path.read_text(encoding="utf-8")
    assert "<script" not in page
    assert "\x1b" not in page
    assert "\u202e" not in page
    assert "&lt;script&gt;" in page
    assert "default-src 'none'" in page
    assert page.count('src="data:image/svg+xml') == 2
    assert "worse" in page
    assert "better" in page


def example(number: int, commit: str) -> Example:
    edit = Edit("a.py", number, ("old",), ("new",), (), ())
    return Example(
        id=f"m{number}-next_edit", kind=NEXT_EDIT, prompt="p", target="t", spans=((0, 2, "changed"),), check={"type": "edit"},
        edit=edit, text_id="", repository="r", commit=commit, session="s", time=0.0, author="developer",
    )  # fmt: skip


def row(number: int, text: str, measure: str = EDIT) -> Row:
    return Row(measure=measure, arm="base", version="1", example=f"m{number}", commit="c", order=number, text=text)


def test_samples_show_one_place_of_each_commit_and_why_an_answer_is_none() -> None:
    target = join(render_target(("old",), ("said",)))[0]
    rows = [row(0, "no end mark"), row(1, target), row(2, target), row(3, target, LINE)]
    views = report.samples(rows, [example(0, "c"), example(1, "c"), example(2, "d"), example(3, "e")], 8)
    assert [view.title for view in views] == ["a.py, line 1: a whole edit", "a.py, line 3: a whole edit"]
    assert (views[1].old, views[1].developer, views[1].answers) == ("old", "new", {"base": "said"})
    assert views[0].answers["base"].startswith("(")
    assert "no end mark" in views[0].answers["base"]


def test_lines_are_shown_as_samples_where_no_whole_edit_was_generated() -> None:
    edit = Edit("a.py", 4, (), ("x = compute(y)",))
    example = Example(
        id="m-completion", kind="completion", prompt="# a.py\nx = ", target="compute(y)\n", spans=((0, 11, "above"), (11, 21, "changed")),
        check={"type": "line"}, edit=edit, text_id="t", repository="r", commit="c", session="s", time=0.0, author="developer",
    )  # fmt: skip
    row = Row(measure="line", arm="base", version="v", example=example.moment, commit="c", order=0, text="guess(y)")
    views = report.samples([row], [example], 8)
    assert [(view.old, view.developer, view.answers) for view in views] == [("x = ", "x = compute(y)", {"base": "guess(y)"})]
