from __future__ import annotations

import math
import random

import numpy as np
import pytest
import scipy.stats

from apprentice.eval.statistics import Commits, Estimate, Resampling

FAST = Resampling(draws=2000, seed=1)


def test_a_ratio_is_sum_over_sum_not_the_mean_of_ratios() -> None:
    found = Commits(["a", "a", "b"], FAST).ratio([1, 3, 10], [1, 1, 8])
    assert found.value == pytest.approx(14 / 10)


def test_flat_data_gives_the_interval_of_scipys_bootstrap() -> None:
    values = np.random.default_rng(3).lognormal(size=80)
    found = Commits([f"c{i}" for i in range(80)], Resampling(draws=20_000, seed=0)).ratio(list(values), [1.0] * 80)
    theirs = scipy.stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(7)
    ).confidence_interval
    spread = values.std() / math.sqrt(80)
    assert found.value == pytest.approx(values.mean())
    # Two ends estimated from 20,000 draws each differ by about 0.02 standard errors.
    assert found.low == pytest.approx(theirs.low, abs=0.08 * spread)
    assert found.high == pytest.approx(theirs.high, abs=0.08 * spread)


def test_a_ratio_of_sums_gives_the_interval_of_scipys_paired_bootstrap() -> None:
    random_ = np.random.default_rng(5)
    sizes = random_.integers(1, 200, 60).astype(float)
    gaps = sizes * random_.normal(-0.1, 0.5, 60)
    found = Commits([f"c{i}" for i in range(60)], Resampling(draws=20_000, seed=0)).ratio(list(gaps), list(sizes))
    theirs = scipy.stats.bootstrap(
        (gaps, sizes), _ratio_of_sums, paired=True, n_resamples=20_000,
        method="percentile", vectorized=True, rng=np.random.default_rng(7),
    )  # fmt: skip
    tolerance = 0.08 * theirs.standard_error
    assert found.low == pytest.approx(theirs.confidence_interval.low, abs=tolerance)
    assert found.high == pytest.approx(theirs.confidence_interval.high, abs=tolerance)


def test_clustered_rows_equal_a_slow_loop_over_resampled_commits() -> None:
    source = random.Random(2)
    commits = [f"c{source.randrange(12)}" for _ in range(90)]
    numerators = [source.gauss(0, 1) + _effect(commit) for commit in commits]
    denominators = [float(source.randrange(1, 9)) for _ in commits]
    found = Commits(commits, Resampling(draws=20_000, seed=4)).ratio(numerators, denominators)
    above, below = _sums(commits, numerators), _sums(commits, denominators)
    names = sorted(above)
    drawn: list[float] = []
    for _ in range(20_000):
        chosen = source.choices(names, k=len(names))
        drawn.append(sum(above[name] for name in chosen) / sum(below[name] for name in chosen))
    drawn.sort()
    spread = float(np.std(drawn))
    assert found.low == pytest.approx(drawn[500], abs=0.1 * spread)
    assert found.high == pytest.approx(drawn[19_499], abs=0.1 * spread)
    flat = Commits([str(i) for i in range(90)], Resampling(draws=20_000, seed=4)).ratio(numerators, denominators)
    assert found.high - found.low > 1.3 * (flat.high - flat.low)  # type: ignore[operator]


def _effect(commit: str) -> float:
    return int(commit[1:]) - 5.5


def _ratio_of_sums(a: np.ndarray, b: np.ndarray, axis: int) -> np.ndarray:
    return a.sum(axis) / b.sum(axis)


def _sums(commits: list[str], values: list[float]) -> dict[str, float]:
    sums: dict[str, float] = {}
    for commit, value in zip(commits, values, strict=True):
        sums[commit] = sums.get(commit, 0.0) + value
    return sums


def test_the_order_of_rows_and_commits_does_not_matter() -> None:
    rows = [("b", 1.0, 2.0), ("a", 5.0, 3.0), ("c", 2.0, 2.0), ("a", 1.0, 1.0)]
    first = _ratio(rows)
    assert _ratio(rows[::-1]) == first
    assert _ratio(rows[2:] + rows[:2]) == first


def _ratio(rows: list[tuple[str, float, float]]) -> Estimate:
    return Commits([r[0] for r in rows], FAST).ratio([r[1] for r in rows], [r[2] for r in rows])


def test_intervals_of_one_table_use_the_same_draws_and_the_same_seed_the_same_interval() -> None:
    commits = [f"c{i % 9}" for i in range(50)]
    values = [math.sin(i) for i in range(50)]
    first = Commits(commits, FAST).ratio(values, [1.0] * 50)
    assert first == Commits(commits, FAST).ratio(values, [1.0] * 50)
    doubled = Commits(commits, FAST).ratio([2 * v for v in values], [1.0] * 50)
    assert doubled.low == pytest.approx(2 * first.low)  # type: ignore[operator]
    assert first != Commits(commits, Resampling(draws=2000, seed=2)).ratio(values, [1.0] * 50)


def test_one_commit_has_no_interval_and_no_characters_have_no_value() -> None:
    assert Commits(["a", "a"], FAST).ratio([1, 2], [1, 1]) == Estimate(1.5, None, None)
    empty = Commits(["a", "b"], FAST).ratio([0, 0], [0, 0])
    assert math.isnan(empty.value)
    assert empty.as_list() == [None, None, None]
    assert Commits([], FAST).surest([], []).as_list() == [None, None, None]


def test_the_surest_fifth_by_hand() -> None:
    commits = [f"c{i}" for i in range(10)]
    confidences = [-0.1, -0.2, -3, -4, -5, -6, -7, -8, -9, -10]
    assert Commits(commits, FAST).surest(confidences, [1, 0, 1, 1, 1, 1, 1, 1, 1, 1]).value == pytest.approx(0.5)
    assert Commits(commits, FAST).surest(confidences, [1, 1, 0, 0, 0, 0, 0, 0, 0, 0]).value == pytest.approx(1.0)
    # A fifth of 11 rows is 2.2: three rows are taken.
    more = Commits([*commits, "c10"], FAST).surest([*confidences, -11], [1, 1, 0] + [0] * 8)
    assert more.value == pytest.approx(2 / 3)


def test_ties_at_the_border_share_what_is_left() -> None:
    found = Commits([f"c{i}" for i in range(10)], FAST).surest([-1, *[-2] * 4, *[-9] * 5], [1, 1, 1, 0, 0] + [0] * 5)
    assert found.value == pytest.approx((1 + 0.5) / 2)


def test_the_surest_are_ranked_anew_in_each_draw() -> None:
    source = random.Random(6)
    commits = [f"c{source.randrange(10)}" for _ in range(60)]
    confidences = [source.choice([-1.0, -2.0, -3.5, -math.inf, source.random()]) for _ in commits]
    hits = [float(source.random() < 0.4) for _ in commits]
    found = Commits(commits, Resampling(draws=4000, seed=3)).surest(confidences, hits)
    names = sorted(set(commits))
    drawn: list[float] = []
    for _ in range(4000):
        chosen = source.choices(names, k=len(names))
        rows = [(c, h) for name in chosen for k, c, h in zip(commits, confidences, hits, strict=True) if k == name]
        drawn.append(_slow_surest(rows))
    assert found.value == pytest.approx(_slow_surest(list(zip(confidences, hits, strict=True))))
    assert found.low == pytest.approx(np.quantile(drawn, 0.025), abs=0.04)
    assert found.high == pytest.approx(np.quantile(drawn, 0.975), abs=0.04)


def _slow_surest(rows: list[tuple[float, float]]) -> float:
    wanted = math.ceil(0.2 * len(rows) - 1e-9)
    border = sorted((c for c, _ in rows), reverse=True)[wanted - 1]
    above = [h for c, h in rows if c > border]
    tied = [h for c, h in rows if c == border]
    return (sum(above) + (wanted - len(above)) * sum(tied) / len(tied)) / wanted


def test_quantiles_are_values_that_occurred() -> None:
    commits = Commits([f"c{i}" for i in range(100)], FAST)
    values = [float(i) for i in range(1, 101)]
    assert commits.quantile(values, 0.5).value == 50.0
    assert commits.quantile(values, 0.95).value == 95.0
    assert commits.quantile(values[::-1], 0.95).value == 95.0
    found = commits.quantile(values, 0.5)
    assert found.low is not None
    assert found.high is not None
    assert 35 < found.low < 50 < found.high < 65


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="draws"):
        Resampling(draws=0)
    with pytest.raises(ValueError, match="level"):
        Resampling(level=1.0)
