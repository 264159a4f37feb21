"""What the numbers are called, which rows they come from, and which way is better.

Every ratio is a sum over a sum, so an edit weighs as much as it has characters (bits), or as one (shares). `surest` ranks
first: of the 20% of places with the most confident suggestions, the share that the developer typed exactly; a place
where a model suggests nothing ranks last.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from apprentice.eval.samples import EDIT, LIKELIHOOD, LINE, Row
from apprentice.eval.statistics import Commits, Estimate, Resampling

CHANGED_BITS = "changed_bits_per_char"
TARGET_BITS = "target_bits_per_char"
LINE_EXACT = "line_exact"
CONFIDENCE = "confidence"
VALID_FORMAT = "valid_format"
SUREST_SHARE = 0.2


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """A ratio over rows of one measure."""

    name: str
    measure: str
    numerator: Callable[[Row], float]
    denominator: Callable[[Row], float]
    lower_is_better: bool
    title: str
    paired: bool = True
    """Both arms have the same denominator at a place, so that their difference means something."""


METRICS = {
    metric.name: metric
    for metric in (
        Metric(name=CHANGED_BITS, measure=LIKELIHOOD, numerator=lambda row: row.changed_bits,
               denominator=lambda row: row.changed_chars, lower_is_better=True, title="bits per changed character"),
        Metric(name=TARGET_BITS, measure=LIKELIHOOD, numerator=lambda row: row.target_bits,
               denominator=lambda row: row.target_chars, lower_is_better=True, title="bits per character of the target"),
        Metric(name="deletion_bits", measure=LIKELIHOOD,
               numerator=lambda row: 0.0 if row.changed_chars else row.target_bits,
               denominator=lambda row: float(not row.changed_chars), lower_is_better=True, title="bits per pure deletion"),
        Metric(name=LINE_EXACT, measure=LINE, numerator=lambda row: float(row.exact), denominator=lambda row: 1.0,
               lower_is_better=False, title="lines completed exactly"),
        Metric(name=VALID_FORMAT, measure=EDIT, numerator=lambda row: float(row.valid), denominator=lambda row: 1.0,
               lower_is_better=False, title="replacements in valid format"),
        Metric(name="edit_exact", measure=EDIT, numerator=lambda row: float(row.exact), denominator=lambda row: 1.0,
               lower_is_better=False, title="whole edits exact"),
        Metric(name="delta_chrf", measure=EDIT, numerator=lambda row: row.delta_chrf, denominator=lambda row: 1.0,
               lower_is_better=False, title="delta chrF, 0 to 100"),
        Metric(name="reversal_ratio", measure=EDIT, numerator=lambda row: float(row.reversed_chars),
               denominator=lambda row: float(row.moved_chars), lower_is_better=True,
               paired=False, title="share of the suggested change that undoes what was just typed"),
    )
}  # fmt: skip
"""Name -> metric."""

DERIVED = {
    CONFIDENCE: "surest 20% of completions: typed exactly",
    "latency_p50": "seconds for a completion, median",
    "latency_p95": "seconds for a completion, 95th percentile",
}
"""Name -> title of what is no ratio."""


def estimate(metric: Metric, rows: Sequence[Row], resampling: Resampling) -> Estimate | None:
    """The metric over one arm's rows; None where they say nothing about it."""
    used = [row for row in rows if row.measure == metric.measure]
    denominators = [metric.denominator(row) for row in used]
    if not math.fsum(denominators):
        return None
    commits = Commits([row.commit for row in used], resampling)
    return commits.ratio([metric.numerator(row) for row in used], denominators)


def surest(rows: Sequence[Row], resampling: Resampling) -> Estimate | None:
    """Share of exact lines among the surest; None for an arm without confidence."""
    used = [row for row in rows if row.measure == LINE]
    if not any(row.confidence is not None for row in used):
        return None
    commits = Commits([row.commit for row in used], resampling)
    return commits.surest([sureness(row) for row in used], [float(row.exact) for row in used], share=SUREST_SHARE)


def sureness(row: Row) -> float:
    """What completions are ranked by."""
    return row.confidence if row.confidence is not None and row.text.strip() else -math.inf


def latency(rows: Sequence[Row], q: float, resampling: Resampling) -> Estimate | None:
    """Quantile of the seconds that a completion took."""
    used = [row for row in rows if row.measure == LINE and not row.error]
    if not used:
        return None
    return Commits([row.commit for row in used], resampling).quantile([row.seconds for row in used], q)
