"""Rows of several arms at the same places -> the table, the paired differences, the object of `learn --json`.

A difference is paired edit by edit and its interval resamples commits whole. Beside its mean stand the median over edits
and the share of edits that got worse: gains have heavy tails, and a mean can hide that most edits gain nothing.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from apprentice.core.errors import InternalError
from apprentice.eval import measures
from apprentice.eval.measures import METRICS, Metric
from apprentice.eval.samples import LINE, MEASURES, Row
from apprentice.eval.statistics import Commits, Estimate, Resampling

PAIRS = (
    ("base", "window"),
    ("base_memory", "base"),
    ("tuned", "base"),
    ("tuned_memory", "base_memory"),
    ("tuned_memory", "base"),
    ("quantized_memory", "tuned_memory"),
    ("tuned_other", "tuned"),
    ("tuned_shuffled", "base"),
)
"""Compared where both arms were run."""
CLEARLY = 0.05
"""A difference of more than this, in the metric's unit per edit, is more than rounding."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TableRow:
    """A line of the table; `benchmarks/run --json` prints these."""

    arm: str
    metric: str
    value: float
    low: float | None
    high: float | None
    examples: int
    commits: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """Arm `a` minus arm `b` in one metric."""

    a: str
    b: str
    metric: str
    estimate: Estimate
    examples: int
    commits: int
    median: float
    """Over the edits, each for itself."""
    worse: float
    """Share of the edits at which `a` is worse than `b`, 0 to 1."""
    clearly_worse: float
    """By more than CLEARLY."""
    lower_is_better: bool

    @property
    def name(self) -> str:
        return f"{self.a}-{self.b}"

    @property
    def is_better(self) -> bool:
        """Better in the mean, whatever the interval says."""
        return self.estimate.value < 0 if self.lower_is_better else self.estimate.value > 0

    @property
    def is_sure(self) -> bool:
        """The interval leaves zero out."""
        low, high = self.estimate.low, self.estimate.high
        return low is not None and high is not None and (low > 0 or high < 0)


class Comparison:
    """All that the rows say. Rows of all arms must be of the same places (`runner.Evaluation.rows` sees to it)."""

    def __init__(self, rows: Iterable[Row], arms: Sequence[str], resampling: Resampling | None = None) -> None:
        """`arms`: in the order of the table."""
        self.arms, self._resampling = list(arms), resampling or Resampling()
        self._by_arm: defaultdict[str, list[Row]] = defaultdict(list)
        for row in rows:
            self._by_arm[row.arm].append(row)
        self._estimates = {arm: self._of_arm(self._by_arm[arm]) for arm in self.arms}

    def estimates(self, metric: str) -> dict[str, Estimate]:
        """Arm -> estimate, for the arms that have it."""
        return {arm: found[metric] for arm, found in self._estimates.items() if metric in found}

    def table(self) -> list[TableRow]:
        """Arm by arm, metric by metric."""
        rows = []
        for arm in self.arms:
            for metric, found in self._estimates[arm].items():
                measure = METRICS[metric].measure if metric in METRICS else LINE
                places = [row for row in self._by_arm[arm] if row.measure == measure]
                rows.append(
                    TableRow(arm=arm, metric=metric, value=found.value, low=found.low, high=found.high,
                             examples=len(places), commits=len({row.commit for row in places}))
                )  # fmt: skip
        return rows

    def difference(self, a: str, b: str, metric: str = measures.CHANGED_BITS) -> Difference | None:
        """`a` minus `b`; None where one of them has no rows for it."""
        chosen = METRICS[metric]
        pairs = self._pairs(a, b, chosen)
        if not pairs:
            return None
        commits = Commits([left.commit for left, _ in pairs], self._resampling)
        denominators = [chosen.denominator(left) for left, _ in pairs]
        gaps = [chosen.numerator(left) - chosen.numerator(right) for left, right in pairs]
        each = [gap / size for gap, size in zip(gaps, denominators, strict=True)]
        harm = [x if chosen.lower_is_better else -x for x in each]
        return Difference(
            a=a, b=b, metric=metric, estimate=commits.ratio(gaps, denominators), examples=len(pairs),
            commits=commits.num_commits, median=statistics.median(each),
            worse=sum(x > 0 for x in harm) / len(harm), clearly_worse=sum(x > CLEARLY for x in harm) / len(harm),
            lower_is_better=chosen.lower_is_better,
        )  # fmt: skip

    def differences(self, metric: str = measures.CHANGED_BITS) -> list[Difference]:
        """Those of PAIRS that were run."""
        return [found for a, b in PAIRS if (found := self.difference(a, b, metric)) is not None]

    def learn_json(
        self, *, seconds: Mapping[str, float], peak_gib: float, seed: int, learned_tokens: Mapping[str, int],
        artifacts: Mapping[str, str],
    ) -> dict[str, Any]:
        """The object that `learn --json` prints (DESIGN 9)."""
        return {
            **self.summary(),
            "seconds": dict(seconds),
            "peak_gib": peak_gib,
            "seed": seed,
            "learned_tokens": {"developer": 0, "assistant": 0, **learned_tokens},
            "artifacts": dict(artifacts),
        }

    def summary(self) -> dict[str, Any]:
        """The part of `learn --json` that the evaluation knows."""
        names = (measures.CHANGED_BITS, measures.TARGET_BITS, measures.LINE_EXACT, measures.CONFIDENCE,
                 measures.VALID_FORMAT)  # fmt: skip
        summary: dict[str, Any] = {"heldout": self.heldout()}
        for name in names:
            summary[name] = {arm: found.as_list() for arm, found in self.estimates(name).items()}
        summary["differences"] = {found.name: found.estimate.as_list() for found in self.differences()}
        return summary

    def heldout(self, measure: str | None = None) -> dict[str, int]:
        """Places and commits of one measure; of the largest where none is named."""
        sizes = []
        for name in [measure] if measure else MEASURES:
            rows = {row.example: row.commit for rows in self._by_arm.values() for row in rows if row.measure == name}
            sizes.append((len(rows), len(set(rows.values()))))
        examples, commits = (sizes[0] if sizes[0][0] or measure else max(sizes))
        return {"examples": examples, "commits": commits}

    def _of_arm(self, rows: Sequence[Row]) -> dict[str, Estimate]:
        found: dict[str, Estimate | None] = {
            name: measures.estimate(metric, rows, self._resampling) for name, metric in METRICS.items()
        }
        found[measures.CONFIDENCE] = measures.surest(rows, self._resampling)
        found["latency_p50"] = measures.latency(rows, 0.5, self._resampling)
        found["latency_p95"] = measures.latency(rows, 0.95, self._resampling)
        return {name: value for name, value in found.items() if value is not None}

    def _pairs(self, a: str, b: str, metric: Metric) -> list[tuple[Row, Row]]:
        """Rows of both arms at the same place, where the metric counts something."""
        if not metric.paired:
            return []
        left, right = ({r.example: r for r in self._by_arm[arm] if r.measure == metric.measure} for arm in (a, b))
        pairs = [(left[example], right[example]) for example in sorted(left.keys() & right.keys())]
        if any(metric.denominator(mine) != metric.denominator(theirs) for mine, theirs in pairs):
            raise InternalError(f"arms `{a}` and `{b}` were not asked the same")
        return [pair for pair in pairs if metric.denominator(pair[0])]


def better(comparison: Comparison, new: str, old: str) -> bool:
    """Whether the new model may replace the old one: better in the paired mean of bits per changed character, and not
    wholly worse on exact lines (the interval of that difference does not lie below zero as a whole)."""
    bits = comparison.difference(new, old, measures.CHANGED_BITS)
    lines = comparison.difference(new, old, measures.LINE_EXACT)
    lost = lines is not None and lines.estimate.high is not None and lines.estimate.high < 0
    return bits is not None and bits.is_better and not lost


