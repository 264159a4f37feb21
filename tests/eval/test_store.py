from __future__ import annotations

from pathlib import Path

import pytest

from apprentice.core import artifacts
from apprentice.core.errors import InputError, InternalError
from apprentice.eval import store
from apprentice.eval.comparison import Comparison
from apprentice.eval.samples import Row, Samples
from apprentice.eval.statistics import Resampling

FAST = Resampling(draws=50)


def _row(i: int, seconds: float) -> Row:
    return Row(measure="line", arm="base", version="1", example=str(i), commit=f"c{i}", order=i, exact=i % 2 == 0,
               confidence=-float(i), text="x", seconds=seconds)  # fmt: skip


def _make(folder: Path, seconds: float, order: list[int]) -> artifacts.Manifest:
    with store.evaluation(folder, parents={"examples": "e"}, config={"seed": 0}) as work:
        for i in order:
            work.samples.add(_row(i, seconds * (i + 1)))
        rows = work.samples.rows()
        return work.finish(Comparison(rows, ["base"], FAST), rows, seed=0)


def test_the_hash_does_not_depend_on_the_order_or_speed_of_work(tmp_path: Path) -> None:
    first, second = _make(tmp_path / "a", 0.5, [0, 1, 2, 3]), _make(tmp_path / "b", 0.7, [3, 1, 0, 2])
    assert first.hash == second.hash
    assert first.counts == {"examples": 4, "commits": 4, "rows_base": 4}
    assert artifacts.verify(tmp_path / "a") == []


def test_summary_and_table_are_read_back(tmp_path: Path) -> None:
    _make(tmp_path / "e", 1.0, [0, 1, 2, 3])
    assert store.read_summary(tmp_path / "e")["line_exact"]["base"][0] == 0.5
    assert {row["metric"] for row in store.read_table(tmp_path / "e")} == {
        "line_exact", "confidence", "latency_p50", "latency_p95"}  # fmt: skip


def test_an_interrupted_evaluation_keeps_its_rows(tmp_path: Path) -> None:
    with pytest.raises(InternalError, match="finish"), store.evaluation(tmp_path / "e", parents={}, config={}) as work:
        work.samples.add(_row(1, 1.0))
    with pytest.raises(InputError):
        store.read_summary(tmp_path / "e")
    with store.evaluation(tmp_path / "e", parents={}, config={}) as work:
        assert [row.example for row in work.samples.rows()] == ["1"]
        rows = work.samples.rows()
        work.finish(Comparison(rows, ["base"], FAST), rows)


def test_rows_of_other_examples_are_not_kept(tmp_path: Path) -> None:
    with pytest.raises(InternalError), store.evaluation(tmp_path / "e", parents={"examples": "a"}, config={}) as work:
        work.samples.add(_row(1, 1.0))
    with pytest.raises(InternalError), store.evaluation(tmp_path / "e", parents={"examples": "b"}, config={}) as work:
        assert work.samples.rows() == []


def test_rows_of_unfinished_commits_are_kept_for_a_longer_evaluation(tmp_path: Path) -> None:
    with store.evaluation(tmp_path / "e", parents={}, config={}) as work:
        for i in range(4):
            work.samples.add(_row(i, 1.0))
        rows = work.samples.rows()[:3]
        manifest = work.finish(Comparison(rows, ["base"], FAST), rows)
    assert manifest.counts["rows_base"] == 3
    assert Samples(tmp_path / "e").rows() == rows
    with store.evaluation(tmp_path / "f", parents={}, config={}, reuse=[tmp_path / "e"]) as work:
        assert work.samples.find("line", "base", "1", "3") == _row(3, 1.0)
        work.finish(Comparison(work.samples.rows(), ["base"], FAST), work.samples.rows())
