"""The report of a quantization as a page: which matrices four bits change how much, drawn over layers and kinds.

    Report, Sensitivity of each group --write_page()--> quantization_report.html beside the weights

One map of how far outputs (without a text: weights) are off, one of what each group costs alone. Empty fields are matrices that
stayed in 16 bits. Where nothing can draw (vl-convert is part of the extra `learn`), the page has its tables alone.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from apprentice.core.html import Page
from apprentice.quantize.report import Report
from apprentice.quantize.sensitivity import Sensitivity

PAGE_FILE = "quantization_report.html"
MOST_ROWS = 20
_KINDS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def write_page(folder: Path, report: Report, measured: Sequence[Sensitivity]) -> None:
    """`measured`: in the order of layers; empty where nothing was kept for its sensitivity."""
    page = Page("What four bits change")
    page.facts({name: value for name, value in report.summary().items() if not isinstance(value, dict)})
    if report.distillation:
        page.paragraph(report.distillation.sentence())
    _errors(page, report)
    if measured:
        _costs(page, report, measured)
    page.save(folder / PAGE_FILE)


def _errors(page: Page, report: Report) -> None:
    what = "weights" if report.output_error is None else "outputs"
    page.heading(f"How far {what} are off")
    errors = [(m.name, m.relative_error if m.output_error is None else m.output_error) for m in report.matrices]
    rows = [{"layer": _layer(name), "matrix": name.rsplit(".", 1)[-1], "value": value} for name, value in errors]
    _draw(page, rows, f"Error of {what} in relation to their size, by layer and matrix; empty: stayed in 16 bits")
    worst = sorted(errors, key=lambda error: -error[1])[:MOST_ROWS]
    page.table([(name, f"{value:.4f}") for name, value in worst], ("the worst", f"error of {what}"))


def _costs(page: Page, report: Report, measured: Sequence[Sensitivity]) -> None:
    page.heading("What each group costs alone")
    page.paragraph(
        "KL divergence, thousandths of a bit a token, from the original to the model with this group alone in four bits, plainly rounded."
        " Those that cost most per weight stayed in 16 bits."
    )
    rows = [
        {"layer": _layer(module), "matrix": module.rsplit(".", 1)[-1], "value": 1e9 * group.divergence / group.num_weights}
        for group in measured for module in group.modules
    ]  # fmt: skip
    _draw(page, rows, "Thousandths of a bit a token that a group costs alone, for each million of its weights")
    kept = [group for group in measured if group.modules[0] + ".weight" in report.kept]
    by_weight = sorted(kept, key=lambda group: -group.divergence / group.num_weights)
    page.table(
        [(", ".join(group.modules), f"{group.num_weights:,}", f"{1000 * group.divergence:.2f}") for group in by_weight],
        ("stayed in 16 bits", "weights", "would cost, millibits"),
    )


def _draw(page: Page, rows: Sequence[dict[str, Any]], caption: str) -> None:
    if importlib.util.find_spec("vl_convert") is None:
        page.paragraph("A map of this needs the extra `learn`.")
        return
    page.chart({
        "data": {"values": list(rows)},
        "width": {"step": 18},
        "height": {"step": 18},
        "mark": "rect",
        "encoding": {
            "x": {"field": "layer", "type": "ordinal", "title": "layer", "axis": {"labelAngle": 0, "labelOverlap": True}},
            "y": {"field": "matrix", "type": "nominal", "title": None, "sort": list(_KINDS)},
            # In steps: the legend of a smooth scale has a number that is another one each time, and equal inputs give equal files.
            "color": {"field": "value", "type": "quantitative", "title": None,
                      "scale": {"type": "quantize", "scheme": {"name": "oranges", "count": 8}, "zero": True}},
        },
    }, caption=caption)  # fmt: skip


def _layer(module: str) -> int:
    """Of `model.layers.3.mlp.up_proj`."""
    return int(module.split(".")[2])
