from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest


@pytest.mark.parametrize("format", ["nvfp4", "mxfp4"])
@pytest.mark.parametrize("calibrated", [False, True])
def test_a_checkpoint_is_stored_in_four_bits(
    apprentice: Any, learned: Any, tmp_path: Path, calibrated: bool, format: str
) -> None:
    out = tmp_path / "quantized"
    extra = ["--calibrate", learned.run / "examples"] if calibrated else []
    done = apprentice("model", "quantize", learned.run / "checkpoint", "--out", out, "--format", format, *extra, "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)
    assert json.loads((out / "config.json").read_text())["quantization_config"]["format"] == f"{format}-pack-quantized"
    assert apprentice("chat", "Hello", "--model", out, "--max-tokens", 3, "--json").code == 0
