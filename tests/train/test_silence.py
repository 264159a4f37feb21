from __future__ import annotations

from dataclasses import dataclass

from apprentice.train.silence import interleave


@dataclass(frozen=True)
class Row:
    moment: str
    time: float
    is_silent: bool = False


EDITS = [Row(f"m{n}", float(n)) for n in range(20)]
BESIDE = [Row(f"m{n}", float(n), is_silent=True) for n in range(20)]


def _rejected(*times: float) -> list[Row]:
    return [Row(f"r{time:g}", time, is_silent=True) for time in times]


def test_a_silent_place_stands_just_before_its_edit() -> None:
    mixed = interleave(EDITS, BESIDE, share=0.2, seed=0)
    silent = [at for at, row in enumerate(mixed) if row.is_silent]
    assert len(silent) == 5
    assert all(mixed[at + 1].moment == mixed[at].moment for at in silent)
    assert [row for row in mixed if not row.is_silent] == EDITS


def test_the_seed_draws_which_edits_have_one() -> None:
    drawn = [[row.moment for row in interleave(EDITS, BESIDE, share=0.2, seed=seed) if row.is_silent] for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_rejections_come_first_and_in_their_time() -> None:
    mixed = interleave(EDITS, sorted([*BESIDE, *_rejected(3.5, 30.0)], key=lambda row: row.time), share=0.2, seed=0)
    assert sum(row.is_silent for row in mixed) == 5
    at = [row.moment for row in mixed].index("r3.5")
    assert (mixed[at + 1].time, max(row.time for row in mixed[:at])) == (4.0, 3.0)
    assert mixed[-1].moment == "r30"


def test_of_more_rejections_than_the_share_the_newest_are_taken() -> None:
    mixed = interleave(EDITS, [*BESIDE, *_rejected(*(n + 20.5 for n in range(9)))], share=0.2, seed=0)
    assert [row.time for row in mixed if row.is_silent] == [24.5, 25.5, 26.5, 27.5, 28.5]


def test_where_there_are_fewer_all_are_taken_and_without_a_share_none() -> None:
    assert sum(row.is_silent for row in interleave(EDITS, BESIDE[:2], share=0.5, seed=0)) == 2
    assert interleave(EDITS, [*BESIDE, *_rejected(1.0)], share=0.0, seed=0) == EDITS
