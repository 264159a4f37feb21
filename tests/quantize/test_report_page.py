"""The page of a quantization: maps of errors and costs, and tables of the worst."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from apprentice.quantize.calibration import fit
from apprentice.quantize.convert import convert
from apprentice.quantize.report_page import PAGE_FILE
from apprentice.quantize.sensitivity import measure, most_sensitive

MakeFolder = Callable[..., Path]

TEXT = [int(token) for token in np.random.default_rng(0).choice(250, 200)]


def test_what_was_kept_stands_there_with_what_it_would_have_cost(make_folder: MakeFolder, tmp_path: Path) -> None:
    folder = make_folder()
    measured = measure(folder, [TEXT])
    kept = most_sensitive(measured, 0.3)
    fitted = fit(folder, [TEXT], kept=kept)
    convert(folder, tmp_path / "quantized", fitted=fitted, kept=kept, measured=measured)
    page = (tmp_path / "quantized" / PAGE_FILE).read_text()
    assert page.count("data:image/svg+xml") == 2
    assert "error of outputs" in page
    costs = page[page.index("stayed in 16 bits</th>") :]
    for group in measured:
        row = f"<td>{', '.join(group.modules)}</td>"
        assert (row in costs) == (group.modules[0] in kept)
        assert f"{1000 * group.divergence:.2f}" in costs or group.modules[0] not in kept


def test_without_text_weights_are_drawn_and_the_page_is_always_the_same(make_folder: MakeFolder, tmp_path: Path) -> None:
    folder = make_folder()
    pages = []
    for name in ("once", "again"):
        convert(folder, tmp_path / name)
        pages.append((tmp_path / name / PAGE_FILE).read_bytes())
    assert pages[0] == pages[1]
    assert pages[0].count(b"data:image/svg+xml") == 1
    assert b"error of weights" in pages[0]
    assert b"What each group costs alone" not in pages[0]
