"""Ids of earlier files."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from apprentice.sessions.readers.seen import Seen, short


@given(st.lists(st.lists(st.integers(min_value=0, max_value=300), max_size=20), max_size=12))
def test_it_knows_what_a_set_knows(files: list[list[int]]) -> None:
    seen, known = Seen(), set[int]()
    for ids in files:
        assert [one in seen for one in range(301)] == [one in known for one in range(301)]
        seen.add(ids)
        known.update(ids)
    assert {one for one in range(301) if one in seen} == known


def test_runs_stay_few() -> None:
    seen = Seen()
    for number in range(1000):
        seen.add([short(f"{number}/{one}") for one in range(3)])
    assert len(seen._runs) <= 12
