"""The benchmark of whole models: what it makes of seconds, and that our arms do the work that is timed."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks import decoding

from apprentice.model import presets, weights
from apprentice.model.transformer import Transformer
from apprentice.text.tokenizer import Tokenizer


class Scripted:
    """An arm that takes as long as it is told to."""

    def __init__(self, *seconds: float) -> None:
        self._seconds = list(seconds)
        self.asked: list[tuple[int, ...]] = []

    def prefill(self, tokens: int) -> float:
        self.asked.append((tokens,))
        return self._seconds[len(self.asked) - 1]

    def decode(self, sequences: int, context: int, steps: int) -> float:
        self.asked.append((sequences, context, steps))
        return self._seconds[len(self.asked) - 1]


def test_figures_are_medians_over_repeats_and_ratios_of_them() -> None:
    arms = {"nvfp4": Scripted(1, 2, 4), "bf16": Scripted(8, 4, 4)}
    rows, details = decoding.measured(arms, 3, lambda arm: 100 / arm.prefill(100), lambda: None)
    found = {(row.arm, row.metric): (row.value, row.low, row.high) for row in rows}
    assert found["nvfp4", "tokens_per_second"] == (50, 25, 100)
    assert found["bf16", "tokens_per_second"] == (25, 12.5, 25)
    assert found["nvfp4/bf16", "ratio"] == (2, None, None)
    assert len(details["loads"]) == 3


def test_every_cell_asks_all_arms_for_the_same_work() -> None:
    arms = {"nvfp4": Scripted(*[1.0] * 20), "bf16": Scripted(*[1.0] * 20)}
    for work in decoding.cells(arms, 1).values():
        work()
    assert arms["nvfp4"].asked == arms["bf16"].asked
    assert (16, 128, decoding.STEPS[16]) in arms["nvfp4"].asked
    assert (1, 1000, decoding.STEPS[1]) in arms["nvfp4"].asked
    assert (4096,) in arms["nvfp4"].asked


def test_our_arm_reads_and_generates(tmp_path: Path) -> None:
    model = Transformer(presets.debug())
    Tokenizer.byte_level().save(tmp_path)
    weights.save(model, tmp_path)
    arm = decoding.Ours(tmp_path, 1, "numpy")
    assert arm.prefill(20) > 0
    assert arm.decode(3, 10, 2) > 0


def test_repeats_are_told_apart_by_where_the_cores_were() -> None:
    apart = iter([40.0, 41.0, 300.0, 310.0, 305.0, 40.0, 42.0, 41.0, 40.0])
    rates = iter([8.0, 2.0, 5.0, 4.0, 9.0, 3.0])
    arms = {"nvfp4": Scripted(), "bf16": Scripted()}
    rows, details = decoding.measured(arms, 3, lambda arm: next(rates), lambda: next(apart))
    found = {(row.arm, row.metric): row.value for row in rows}
    # Repeat 1: nvfp4 near, bf16 on the move; 2: nvfp4 far, bf16 on the move; 3: both near.
    assert found["nvfp4", "tokens_per_second"] == 8.0
    assert found["nvfp4", "tokens_per_second_near"] == 8.5
    assert found["bf16", "tokens_per_second_near"] == 3.0
    assert found["nvfp4", "tokens_per_second_far"] == 5.0
    assert ("bf16", "tokens_per_second_far") not in found
    assert found["nvfp4/bf16", "ratio_near"] == pytest.approx(8.5 / 3)
    assert len(details["core_to_core_ns"]) == 9
