"""A run as people look at it: one page with the table of arms, what each layer gave, the curve, samples, provenance.

    result (the object of `learn --json`), curve, samples, provenance --> report/index.html
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apprentice.core.html import Page
from apprentice.eval.samples import EDIT, LINE, Row
from apprentice.examples.example import COMPLETION, NEXT_EDIT, Example
from apprentice.learn.stages.silence import Reliability
from apprentice.serve.silence import SHOW_FROM
from apprentice.text.edits import EditFormatError, parse_target

ARMS = {
    "window": "the base, shown only the lines around the place",
    "base": "the base, shown the file and the latest edits (context)",
    "base_memory": "the base with the instant memory",
    "tuned": "the trained weights",
    "tuned_memory": "the trained weights with the memory",
    "quantized_memory": "what is served: trained, in NVFP4, with the memory",
    "copy": "the nearest earlier edit, repeated",
}
"""Arm -> what it is, in the order of the table."""
LAYERS = {
    "base-window": "context",
    "base_memory-base": "instant memory",
    "tuned-base": "weights",
    "tuned_memory-base_memory": "weights, memory already there",
    "tuned_memory-base": "memory and weights together",
    "quantized_memory-tuned_memory": "what 4 bits cost",
}
"""Difference -> the layer it measures."""
METRICS = {
    "changed_bits_per_char": "bits per changed character",
    "target_bits_per_char": "bits per character of the whole target",
    "line_exact": "exact lines",
    "confidence": "exact among the surest 20%",
    "valid_format": "valid format",
}
"""Measures of the table in its order."""
FEW_COMMITS = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class CurvePoint:
    """A held-out point of training."""

    tokens: int
    bits: float
    """Per changed token of the early-stop split."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleView:
    """One place of the test, as the report shows it."""

    title: str
    old: str
    developer: str
    answers: Mapping[str, str]
    """Arm -> what it wrote."""


def estimate_text(estimate: Sequence[float | None] | None, digits: int = 3) -> str:
    """`1.234 [1.200, 1.270]`, or a dash."""
    if not estimate or estimate[0] is None:
        return "-"
    value, low, high = estimate
    text = f"{value:.{digits}f}"
    return text if low is None or high is None else f"{text} [{low:.{digits}f}, {high:.{digits}f}]"


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Columns of text for a terminal."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))] if rows else []
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)


def table(result: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and rows: an arm a row, a measure a column."""
    metrics = [name for name in METRICS if result.get(name)]
    header = ["arm", *(METRICS[name] for name in metrics)]
    arms = [arm for arm in ARMS if any(arm in result[name] for name in metrics)]
    arms += sorted({arm for name in metrics for arm in result[name]} - set(arms))
    return header, [[arm, *(estimate_text(result[name].get(arm)) for name in metrics)] for arm in arms]


def difference_rows(result: Mapping[str, Any]) -> list[list[str]]:
    """What each layer gave: difference, layer, estimate, verdict."""
    rows = []
    for name, estimate in result["differences"].items():
        rows.append([name, LAYERS.get(name, ""), estimate_text(estimate), _verdict(estimate)])
    return rows


def warnings(result: Mapping[str, Any]) -> list[str]:
    """What a reader must know before believing the table."""
    heldout = result["heldout"]
    lines = [f"measured on {heldout['examples']} held-out edits of {heldout['commits']} commits, newer than all that was learned"]
    if heldout["commits"] < FEW_COMMITS:
        lines.append("that is few: the intervals are wide and a little too narrow still; a longer budget evaluates more")
    return lines


def samples(rows: Sequence[Row], examples: Sequence[Example], count: int) -> list[SampleView]:
    """Places of the test at which something was generated, one of each commit: whole edits first, then lines."""
    return [*_views(rows, examples, EDIT, NEXT_EDIT), *_views(rows, examples, LINE, COMPLETION)][:count]


def _views(rows: Sequence[Row], examples: Sequence[Example], measure: str, kind: str) -> list[SampleView]:
    answers: dict[str, dict[str, str]] = {}
    for row in rows:
        if row.measure == measure:
            answers.setdefault(row.example, {})[row.arm] = replacement(row) if measure == EDIT else row.text
    one_each: dict[str, Example] = {}
    for example in examples:
        if example.kind == kind and example.moment in answers:
            one_each.setdefault(example.commit, example)
    views = []
    for example in one_each.values():
        edit, place = example.edit, f"{example.edit.path}, line {example.edit.start_line + 1}"
        if measure == EDIT:
            old, new, title = "\n".join(edit.old), "\n".join(edit.new), f"{place}: a whole edit"
        else:
            start = example.prompt.rsplit("\n", 1)[-1]
            old, new, title = start, start + example.target.rstrip("\n"), f"{place}: the rest of a line" + (f", from `{start.strip()}`" if start.strip() else "")
        views.append(SampleView(title=title, old=old, developer=new, answers=answers[example.moment]))
    return views


def replacement(row: Row) -> str:
    """The lines that a generated edit would put in place."""
    try:
        return "\n".join(parse_target(row.text))
    except EditFormatError as error:
        return f"({error})\n{row.text}"


def write(
    path: Path, result: Mapping[str, Any], *, curve: Sequence[CurvePoint], samples: Sequence[SampleView],
    provenance: Mapping[str, object], claim: str, silence: Reliability | None = None,
) -> None:
    """The page. `claim`: the one sentence that the run comes down to."""
    page = Page("What Apprentice learned")
    page.paragraph(claim)
    for line in warnings(result):
        page.paragraph(line)
    header, rows = table(result)
    page.heading("Arms").table(rows, header)
    page.facts({arm: ARMS[arm] for arm, *_ in rows if arm in ARMS})
    bars = _bars(result)
    if bars:
        page.chart(_arms_chart(bars), caption="Bits per changed character, lower is better, with 95% intervals over commits")
    page.heading("What each layer gave").paragraph("Bits per changed character; negative is better")
    page.table(difference_rows(result), ["difference", "layer", "estimate", "verdict"])
    if curve:
        page.heading("Training").chart(_curve_chart(curve), caption="Held-out loss while training, lower is better")
    if silence is not None and silence.requests:
        _silence(page, silence)
    if samples:
        page.heading("Samples")
        page.paragraph("Places of the test: what the developer did, and what the models would have written there")
    for sample in samples:
        page.heading(sample.title, 3).paragraph("the developer").diff(sample.old, sample.developer)
        page.columns(sample.answers)
    page.heading("Where it comes from").facts(provenance)
    page.save(path)


def _silence(page: Page, found: Reliability) -> None:
    page.heading("When it is silent")
    page.paragraph(
        f"Asked {found.requests} times on commits that the weights have not seen, {found.silent} of them where nothing was to be done; "
        f"{found.offered} suggestions, {found.right} right. What has a chance of {SHOW_FROM:g} or more of being right is shown. Each commit is "
        "decided on by what was fitted on others."
    )
    page.facts({
        "shown, of the requests": estimate_text(found.shown),
        "right, of those shown": estimate_text(found.precision),
        "shown where nothing was to be done": estimate_text(found.noise),
        "the same with everything shown": estimate_text(found.noise_before),
        "squared error of the chances": estimate_text(found.brier),
        "the same of one chance for all": estimate_text(found.even),
    })  # fmt: skip
    if found.curve:
        page.chart(_silence_chart(found), caption="Of the surest suggestions, how many are right, and what the least sure of them said")


def _silence_chart(found: Reliability) -> dict[str, Any]:
    names = ("right", "the lowest chance among them")
    values = [
        {"share": share, "value": value, "what": name}
        for share, precision, chance in found.curve for name, value in zip(names, (precision, chance), strict=True)
    ]  # fmt: skip
    return {
        "data": {"values": values},
        "width": 560,
        "height": 220,
        "mark": {"type": "line", "point": True},
        "encoding": {
            "x": {"field": "share", "type": "quantitative", "title": "share of the suggestions shown, surest first"},
            "y": {"field": "value", "type": "quantitative", "title": "share"},
            "color": {"field": "what", "type": "nominal", "title": None},
        },
    }


def _verdict(estimate: Sequence[float | None]) -> str:
    value, low, high = estimate
    if value is None or low is None or high is None:
        return "not known"
    if high < 0:
        return "better"
    return "worse" if low > 0 else "no clear difference"


def _bars(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    found = result.get("changed_bits_per_char", {})
    rows = []
    for arm in ARMS:
        if arm in found and found[arm][0] is not None:
            value, low, high = found[arm]
            rows.append({"arm": arm, "bits": value, "low": value if low is None else low, "high": value if high is None else high})
    return rows


def _arms_chart(rows: list[dict[str, Any]]) -> dict[str, Any]:
    arm = {"field": "arm", "type": "nominal", "sort": None, "title": None}
    return {
        "data": {"values": rows},
        "width": 560,
        "layer": [
            {"mark": {"type": "rule", "strokeWidth": 2}, "encoding": {
                "y": arm, "x": {"field": "low", "type": "quantitative", "title": "bits per changed character", "scale": {"zero": False}},
                "x2": {"field": "high"}}},
            {"mark": {"type": "point", "filled": True, "size": 70}, "encoding": {
                "y": arm, "x": {"field": "bits", "type": "quantitative", "scale": {"zero": False}}}},
        ],
    }  # fmt: skip


def _curve_chart(curve: Sequence[CurvePoint]) -> dict[str, Any]:
    return {
        "data": {"values": [{"tokens": point.tokens, "bits": point.bits} for point in curve]},
        "width": 560,
        "height": 220,
        "mark": {"type": "line", "point": True},
        "encoding": {
            "x": {"field": "tokens", "type": "quantitative", "title": "tokens learned from"},
            "y": {"field": "bits", "type": "quantitative", "title": "bits per changed token", "scale": {"zero": False}},
        },
    }
