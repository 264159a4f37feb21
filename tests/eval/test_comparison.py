from __future__ import annotations

import json
from typing import Any

import pytest

from apprentice.core.errors import InternalError
from apprentice.eval.comparison import Comparison, better
from apprentice.eval.samples import Row
from apprentice.eval.statistics import Commits, Resampling

FAST = Resampling(draws=500, seed=0)


def _row(measure: str, arm: str, example: int, *, commit: str | None = None, **values: Any) -> Row:
    return Row(measure=measure, arm=arm, version="1", example=str(example), commit=commit or f"c{example % 5}",
               order=example, **values)  # fmt: skip


def _likelihoods(arm: str, bits: list[float], chars: list[int] | None = None) -> list[Row]:
    sizes = chars or [10] * len(bits)
    return [
        _row("likelihood", arm, i, changed_bits=b, changed_chars=n, target_bits=b + 4, target_chars=n + 10)
        for i, (b, n) in enumerate(zip(bits, sizes, strict=True))
    ]


def test_bits_are_sum_over_sum_and_deletions_are_apart() -> None:
    rows = [
        _row("likelihood", "base", 0, changed_bits=10, changed_chars=5, target_bits=20, target_chars=15),
        _row("likelihood", "base", 1, changed_bits=2, changed_chars=1, target_bits=3, target_chars=16),
        _row("likelihood", "base", 2, changed_bits=0, changed_chars=0, target_bits=7, target_chars=14),
    ]
    table = {row.metric: row for row in Comparison(rows, ["base"], FAST).table()}
    assert table["changed_bits_per_char"].value == pytest.approx(12 / 6)
    assert table["target_bits_per_char"].value == pytest.approx(30 / 45)
    assert table["deletion_bits"].value == pytest.approx(7.0)
    assert (table["changed_bits_per_char"].examples, table["changed_bits_per_char"].commits) == (3, 3)


def test_a_difference_is_paired_and_its_interval_is_that_of_the_gaps() -> None:
    base = [float(i * i % 37 + 20) for i in range(30)]
    chars = [i % 7 + 3 for i in range(30)]
    tuned = [b - 1 - (i % 3) for i, b in enumerate(base)]
    comparison = Comparison([*_likelihoods("base", base, chars), *_likelihoods("tuned", tuned, chars)], ["base", "tuned"], FAST)
    found = comparison.difference("tuned", "base")
    assert found is not None
    assert found.estimate.value == pytest.approx((sum(tuned) - sum(base)) / sum(chars))
    gaps = [a - b for a, b in zip(tuned, base, strict=True)]
    assert found.estimate == Commits([f"c{i % 5}" for i in range(30)], FAST).ratio(gaps, chars)
    assert (found.is_better, found.is_sure, found.worse) == (True, True, 0.0)
    unpaired = comparison.estimates("changed_bits_per_char")["base"]
    assert found.estimate.high - found.estimate.low < unpaired.high - unpaired.low  # type: ignore[operator]


def test_medians_and_shares_show_what_a_mean_hides() -> None:
    base, tuned = [100.0] * 10, [100.2, 100.2, 100.9, 100.2, 100.2, 100.2, 100.9, 100.9, 20.0, 20.0]
    found = Comparison([*_likelihoods("base", base), *_likelihoods("tuned", tuned)], ["base", "tuned"], FAST).difference(
        "tuned", "base")  # fmt: skip
    assert found is not None
    assert found.estimate.value < 0
    assert found.median == pytest.approx(0.02)
    assert (found.worse, found.clearly_worse) == (0.8, 0.3)


def test_pure_deletions_are_in_no_difference_of_changed_bits() -> None:
    rows = [*_likelihoods("base", [10, 0], [5, 0]), *_likelihoods("tuned", [8, 0], [5, 0])]
    found = Comparison(rows, ["base", "tuned"], FAST).difference("tuned", "base")
    assert found is not None
    assert (found.examples, found.estimate.value) == (1, pytest.approx(-0.4))
    apart = Comparison(rows, ["base", "tuned"], FAST).difference("tuned", "base", "deletion_bits")
    assert apart is not None
    assert apart.examples == 1


def test_for_shares_more_is_better() -> None:
    rows = [_row("line", arm, i, exact=i < hits, confidence=-1.0, text="x") for arm, hits in (("base", 2), ("tuned", 6))
            for i in range(10)]  # fmt: skip
    comparison = Comparison(rows, ["base", "tuned"], FAST)
    found = comparison.difference("tuned", "base", "line_exact")
    assert found is not None
    assert (found.estimate.value, found.worse, found.is_better) == (pytest.approx(0.4), 0.0, True)
    other = comparison.difference("base", "tuned", "line_exact")
    assert other is not None
    assert (other.worse, other.is_better) == (0.4, False)


def test_confidence_ranks_by_the_models_own_product_and_empty_suggestions_last() -> None:
    rows = [
        _row("line", "base", i, exact=exact, confidence=confidence, text=text)
        for i, (exact, confidence, text) in enumerate(
            [(False, -0.01, ""), (True, -0.2, "a"), (True, -0.3, "b"), (False, -0.4, "c"), (True, -5.0, "d"),
             *[(False, -9.0, "e")] * 5]
        )
    ]  # fmt: skip
    comparison = Comparison(rows, ["base"], FAST)
    assert comparison.estimates("confidence")["base"].value == pytest.approx(1.0)


def test_an_arm_without_confidence_has_none() -> None:
    comparison = Comparison([_row("line", "copy", i, exact=True, text="x") for i in range(5)], ["copy"], FAST)
    assert comparison.estimates("confidence") == {}


def test_latency_is_that_of_completions() -> None:
    rows = [_row("line", "base", i, seconds=float(i + 1)) for i in range(100)] + [_row("edit", "base", 0, seconds=900.0)]
    comparison = Comparison(rows, ["base"], FAST)
    assert comparison.estimates("latency_p50")["base"].value == 50.0
    assert comparison.estimates("latency_p95")["base"].value == 95.0


def test_whole_edits_have_their_measures() -> None:
    rows = [
        _row("edit", "base", 0, exact=True, valid=True, delta_chrf=100.0, reversed_chars=0, moved_chars=10),
        _row("edit", "base", 1, exact=False, valid=False, delta_chrf=0.0, reversed_chars=5, moved_chars=10),
    ]
    table = {row.metric: row.value for row in Comparison(rows, ["base"], FAST).table()}
    assert table == {"valid_format": 0.5, "edit_exact": 0.5, "delta_chrf": 50.0, "reversal_ratio": 0.25}


def test_the_learn_object_has_every_key_and_is_plain_json() -> None:
    arms = ["window", "base", "base_memory", "tuned", "tuned_memory", "quantized_memory", "copy"]
    rows = [row for k, arm in enumerate(arms[:-1]) for row in _likelihoods(arm, [50.0 - k - i % 3 for i in range(10)])]
    rows += [_row("line", arm, i, exact=i % 2 == 0, confidence=-float(i), text="x") for arm in arms for i in range(10)]
    rows += [_row("edit", arm, i, valid=True) for arm in arms for i in range(10)]
    found = Comparison(rows, arms, FAST).learn_json(
        seconds={"evaluate": 1.5}, peak_gib=2.0, seed=3, learned_tokens={"developer": 7}, artifacts={"report": "r"}
    )
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert list(found) == [
        "heldout", "changed_bits_per_char", "target_bits_per_char", "line_exact", "confidence", "valid_format",
        "differences", "seconds", "peak_gib", "seed", "learned_tokens", "artifacts",
    ]  # fmt: skip
    assert found["heldout"] == {"examples": 10, "commits": 5}
    assert list(found["changed_bits_per_char"]) == arms[:-1]
    assert list(found["line_exact"]) == arms
    assert list(found["differences"]) == [
        "base-window", "base_memory-base", "tuned-base", "tuned_memory-base_memory", "tuned_memory-base",
        "quantized_memory-tuned_memory",
    ]  # fmt: skip
    assert found["differences"]["tuned-base"] == [pytest.approx(-0.2), pytest.approx(-0.2), pytest.approx(-0.2)]
    assert found["learned_tokens"] == {"developer": 7, "assistant": 0}


def test_nothing_measured_is_still_an_object() -> None:
    found = Comparison([], ["base"], FAST).summary()
    assert found["heldout"] == {"examples": 0, "commits": 0}
    assert found["changed_bits_per_char"] == {}


def test_rows_that_were_not_asked_the_same_are_not_compared() -> None:
    rows = [*_likelihoods("base", [10.0], [5]), *_likelihoods("tuned", [10.0], [6])]
    with pytest.raises(InternalError):
        Comparison(rows, ["base", "tuned"], FAST).difference("tuned", "base")


def _swap(bits: float, hits: int) -> Comparison:
    rows = [*_likelihoods("old", [50.0] * 20), *_likelihoods("new", [50.0 + bits] * 20)]
    rows += [_row("line", "old", i, exact=i < 15, text="x") for i in range(20)]
    rows += [_row("line", "new", i, exact=i < hits, text="x") for i in range(20)]
    return Comparison(rows, ["old", "new"], FAST)


@pytest.mark.parametrize(("bits", "hits", "expected"), [(-1, 15, True), (1, 20, False), (-1, 0, False), (-1, 14, True)])
def test_a_model_is_replaced_by_one_that_is_better_and_not_wholly_worse(bits: float, hits: int, expected: bool) -> None:
    assert better(_swap(bits, hits), "new", "old") is expected
