from __future__ import annotations

import json
from typing import Any

import pytest


def test_a_line_is_completed_behind_a_column_with_the_places_it_resembles(
    apprentice: Any, learned: Any, harmless: Any
) -> None:
    place = f"{learned.repository / 'one.py'}:2:10"
    done = apprentice("complete", place, "--out", learned.out, "--why")
    assert done.code == 0, done.err
    assert "one.py, line 2" in done.out
    assert "confidence " in done.out
    harmless(done.out)


def test_the_replacement_of_a_line_as_json(apprentice: Any, learned: Any) -> None:
    done = apprentice("complete", f"{learned.repository / 'one.py'}:2", "--out", learned.out, "--json")
    value = json.loads(done.out)
    assert value["path"] == "one.py"
    assert value["new"] is None or value["start_line"] == 1


def test_an_uncommitted_change_is_seen(apprentice: Any, learned: Any) -> None:
    path = learned.repository / "two.py"
    committed = path.read_text()
    try:
        path.write_text("import uncommitted_name\n" + committed)
        done = apprentice("complete", f"{path}:3:4", "--out", learned.out, "--json", "--why")
    finally:
        path.write_text(committed)
    assert json.loads(done.out)["start_line"] == 2


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("one.py", "`one.py` is no place"), ("one.py:x", "is no place"), ("one.py:0", "lines, not 0"),
        ("one.py:100000", "lines, not 100000"), ("missing.py:1", "cannot be read"), ("one.py:1:0", "no column 0"),
    ],
)  # fmt: skip
def test_a_bad_place_is_named_with_a_hint(apprentice: Any, learned: Any, place: str, message: str) -> None:
    where = place if place.startswith("one.py") and ":" not in place else str(learned.repository / place)
    done = apprentice("complete", where, "--out", learned.out)
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert "\n\nhint: " in done.err
