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
    quantized = json.loads((out / "config.json").read_text())["quantization_config"]
    assert quantized["format"] == f"{format}-pack-quantized"
    # A tenth of the weights is kept where there is text to choose by.
    assert (len(quantized["ignore"]) > 1) == calibrated
    assert ("stayed in 16 bits</th>" in (out / "quantization_report.html").read_text()) == calibrated
    assert apprentice("chat", "Hello", "--model", out, "--max-tokens", 3, "--json").code == 0


def test_what_stays_in_16_bits_can_be_said_and_needs_text(apprentice: Any, learned: Any, tmp_path: Path) -> None:
    out = tmp_path / "quantized"
    command = ["model", "quantize", learned.run / "checkpoint", "--out", out]
    done = apprentice(*command, "--precise", "0.2")
    assert done.code == 2
    assert "--calibrate" in done.err
    assert apprentice(*command, "--precise", "1", "--calibrate", learned.run / "examples").code == 2
    assert not out.exists()
    assert apprentice(*command, "--precise", "0", "--calibrate", learned.run / "examples").code == 0
    assert json.loads((out / "config.json").read_text())["quantization_config"]["ignore"] == ["lm_head"]


def test_a_mistyped_source_costs_no_earlier_model(apprentice: Any, learned: Any, tmp_path: Path) -> None:
    out = tmp_path / "quantized"
    assert apprentice("model", "quantize", learned.run / "checkpoint", "--out", out).code == 0
    for source in (tmp_path / "chekpoint", learned.run / "quantized"):
        assert apprentice("model", "quantize", source, "--out", out).code == 2
        assert (out / "model.safetensors").is_file()


@pytest.mark.parametrize("out", ["model", "."])
def test_a_model_is_never_written_over(apprentice: Any, make_folder: Any, tmp_path: Path, out: str) -> None:
    make_folder()
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    done = apprentice("model", "quantize", tmp_path / "model", "--out", tmp_path / out)
    assert done.code == 2
    assert "name another folder with `--out`" in done.err
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


@pytest.mark.parametrize("command", ["model quantize", "examples make", "train sft", "sessions read"])
def test_what_lies_in_a_folder_is_never_lost(apprentice: Any, learned: Any, tmp_path: Path, command: str) -> None:
    mine = tmp_path / "out" / ("examples/mine.txt" if command == "examples make" else "mine.txt")
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    what = {
        "model quantize": [learned.run / "checkpoint"], "examples make": [learned.out / "sessions"],
        "train sft": ["--examples", learned.run / "examples", "--steps", 1], "sessions read": [learned.repository],
    }  # fmt: skip
    done = apprentice(*command.split(), *what[command], "--out", tmp_path / "out")
    assert done.code == 2
    assert "holds files that Apprentice did not make" in done.err
    assert mine.read_text() == "mine"


def test_what_was_quantized_is_distilled_for_as_long_as_is_said(apprentice: Any, learned: Any, tmp_path: Path) -> None:
    out = tmp_path / "quantized"
    command = ["model", "quantize", learned.run / "checkpoint", "--out", out, "--distill", "2s", "--json"]
    refused = apprentice(*command)
    assert refused.code == 2
    assert "--calibrate" in refused.err
    assert not out.exists()
    done = apprentice(*command, "--calibrate", learned.run / "examples")
    assert done.code == 0, done.err
    found = json.loads(done.out)["distillation"]
    # How much fits into two seconds is the machine's business: what becomes of it is told at each place.
    assert found["kl_before"] > 0
    said = "was too short" if found["too_short"] else "KL divergence"
    assert said in (out / "README.md").read_text()
    assert said in (out / "quantization_report.html").read_text()
    assert apprentice("chat", "Hello", "--model", out, "--max-tokens", 3, "--json").code == 0
