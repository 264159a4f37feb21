from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from apprentice.eval.samples import SAMPLES, TIMINGS, WORKING, Row, Samples, read


def _row(example: str, *, arm: str = "base", version: str = "1", **values: object) -> Row:
    return Row(measure="line", arm=arm, version=version, example=example, commit="c", order=int(example), **values)  # type: ignore[arg-type]


def test_rows_are_there_again_after_a_restart(tmp_path: Path) -> None:
    Samples(tmp_path).add(_row("1", text="ü\n😀", confidence=-0.5, seconds=2.0))
    again = Samples(tmp_path)
    assert again.find("line", "base", "1", "1") == _row("1", text="ü\n😀", confidence=-0.5, seconds=2.0)
    assert again.find("line", "base", "2", "1") is None
    assert again.find("line", "tuned", "1", "1") is None


def test_what_failed_is_asked_again(tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    samples = Samples(tmp_path / "first")
    for row in (_row("1", error="no answer"), _row("2")):
        samples.add(row)
    assert [row.example for row in samples.rows()] == ["1", "2"]
    for again in (Samples(tmp_path / "first"), Samples(tmp_path / "second", reuse=[tmp_path / "first"])):
        assert again.find("line", "base", "1", "1") is None
        assert again.find("line", "base", "1", "2") == _row("2")
    samples.finish(samples.rows())
    assert Samples(tmp_path / "first").find("line", "base", "1", "1") is None


@pytest.mark.parametrize("torn", [b"{", b'{"measure":"line"', b'{"measure":"line","arm":"b\xc3'])
def test_a_torn_last_line_is_dropped_and_the_next_row_is_whole(tmp_path: Path, torn: bytes) -> None:
    Samples(tmp_path).add(_row("1"))
    with (tmp_path / WORKING).open("ab") as stream:
        stream.write(torn)
    samples = Samples(tmp_path)
    assert [row.example for row in samples.rows()] == ["1"]
    samples.add(_row("2"))
    assert [row.example for row in Samples(tmp_path).rows()] == ["1", "2"]


def test_every_cut_of_the_file_gives_back_the_rows_before_it(tmp_path: Path) -> None:
    samples = Samples(tmp_path)
    for i in range(3):
        samples.add(_row(str(i), text="é"))
    data = (tmp_path / WORKING).read_bytes()
    for size in range(len(data) + 1):
        (tmp_path / WORKING).write_bytes(data[:size])
        assert [row.example for row in Samples(tmp_path).rows()] == ["0", "1", "2"][: data[:size].count(b"\n")]


def test_finished_files_do_not_depend_on_the_order_of_work_and_hold_no_timings(tmp_path: Path) -> None:
    for name, order in (("a", "012"), ("b", "201")):
        (tmp_path / name).mkdir()
        samples = Samples(tmp_path / name)
        for example in order:
            samples.add(_row(example, seconds=float(len(name) + int(example)) + (name == "b")))
        samples.finish(samples.rows())
    assert (tmp_path / "a" / SAMPLES).read_bytes() == (tmp_path / "b" / SAMPLES).read_bytes()
    assert (tmp_path / "a" / TIMINGS).read_bytes() != (tmp_path / "b" / TIMINGS).read_bytes()
    assert not (tmp_path / "a" / WORKING).exists()
    assert [row.seconds for row in read(tmp_path / "a")] == [1.0, 2.0, 3.0]


def test_a_kill_between_the_files_of_finish_loses_nothing(tmp_path: Path) -> None:
    samples = Samples(tmp_path)
    samples.add(_row("1", seconds=1.5))
    working = (tmp_path / WORKING).read_bytes()
    samples.finish(samples.rows())
    (tmp_path / WORKING).write_bytes(working)
    assert Samples(tmp_path).rows() == [_row("1", seconds=1.5)]


def test_rows_of_earlier_evaluations_are_taken_over_when_asked_for(tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
    old = Samples(tmp_path / "old")
    old.add(_row("1"))
    old.add(_row("2"))
    old.finish(old.rows())
    new = Samples(tmp_path / "new", reuse=[tmp_path / "old", tmp_path / "nothing here"])
    assert new.rows() == []
    assert new.find("line", "base", "1", "2") == _row("2")
    assert [row.example for row in Samples(tmp_path / "new").rows()] == ["2"]


def test_a_row_without_its_defaults_is_short(tmp_path: Path) -> None:
    assert msgspec.json.decode(msgspec.json.encode(_row("1"))) == {
        "measure": "line", "arm": "base", "version": "1", "example": "1", "commit": "c", "order": 1}  # fmt: skip
