"""Floors, gates and ratios of the kernel benchmark."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from benchmarks.harness import Row
from benchmarks.roofline import Limits, Repeat, Step, Timing, figures

READING = Step(weight_bytes=2_000_000, operations=1_000_000, arithmetic="float")
COMPUTING = Step(weight_bytes=1_000, operations=40_000_000, arithmetic="float")


LIMITS = Limits(read=20.0, operations={"float": 100.0, "int8": 400.0})
"""20 GB/s, 100 and 400 G operations/s."""
WORSE = Limits(read=10.0, operations={"float": 100.0, "int8": 400.0})


def metrics(rows: Sequence[Row], arm: str) -> dict[str, float | None]:
    return {row.metric: row.value for row in rows if row.arm == arm}


def timing(name: str, ms: float, *, is_baseline: bool = False, weight_bytes: int = 2_000_000) -> Timing:
    repeats = [Repeat(1.1 * ms, LIMITS), Repeat(ms, LIMITS), Repeat(0.9 * ms, LIMITS)]
    return Timing(name, is_baseline, [Step(weight_bytes, 1_000_000, "float")], repeats)


def test_a_pass_takes_at_least_the_slower_of_reading_and_computing_for_each_product() -> None:
    assert LIMITS.floor_ns([READING]) == 100_000
    assert LIMITS.floor_ns([COMPUTING]) == 400_000
    assert LIMITS.floor_ns([READING, COMPUTING]) == 500_000
    assert LIMITS.bound_by([READING]) == "memory"
    assert LIMITS.bound_by([READING, COMPUTING]) == "arithmetic"


def test_a_share_is_of_the_limits_at_the_same_time() -> None:
    """Memory at half its speed, and the kernel with it, is no worse kernel."""
    repeats = [Repeat(0.11, LIMITS), Repeat(0.22, WORSE), Repeat(0.12, LIMITS)]
    rows = figures([Timing("bf16", True, [READING], repeats)], 1, 0.85)
    assert metrics(rows, "bf16")["share_of_floor"] == pytest.approx(1 / 1.1)


def test_a_ratio_is_shown_against_the_faster_baseline() -> None:
    timings = [
        timing("float", 0.3, is_baseline=True), timing("bf16", 0.11, is_baseline=True),
        timing("nvfp4", 0.055, weight_bytes=500_000),
    ]  # fmt: skip
    rows = figures(timings, 1, 0.85)
    assert metrics(rows, "bf16")["share_of_floor"] == pytest.approx(0.1 / 0.11)
    assert metrics(rows, "nvfp4")["times_faster_than_bf16"] == pytest.approx(2)
    assert metrics(rows, "nvfp4")["ceiling_over_bf16"] == pytest.approx(4)
    assert "times_faster_than_float" not in metrics(rows, "nvfp4")


def test_no_ratio_is_shown_where_the_baseline_misses_its_gate() -> None:
    timings = [timing("bf16", 0.12, is_baseline=True), timing("nvfp4", 0.03)]
    assert not [row for row in figures(timings, 1, 0.85) if "bf16" in row.metric]
    assert [row for row in figures(timings, 1, 0.75) if "bf16" in row.metric]


def test_a_slow_baseline_at_its_gate_does_not_stand_in_for_a_faster_one_below_it() -> None:
    slow_but_good = timing("float", 0.2, is_baseline=True, weight_bytes=4_000_000)
    fast_but_weak = timing("bf16", 0.15, is_baseline=True)
    rows = figures([slow_but_good, fast_but_weak, timing("nvfp4", 0.05)], 1, 0.85)
    assert not [metric for metric in metrics(rows, "nvfp4") if metric.startswith("times_faster")]
