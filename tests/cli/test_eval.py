from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def test_models_are_compared_at_the_same_places(
    apprentice: Any, learned: Any, debug_base: Path, tmp_path: Path, harmless: Any
) -> None:
    words = ["eval", "--examples", learned.run / "examples", "--sessions", learned.out / "sessions", "--out", tmp_path / "eval"]
    words += ["--base", debug_base, "--model", f"small={learned.run / 'quantized'}", "--commits", 1, "--per-commit", 1]
    done = apprentice(*words, "--json")
    assert done.code == 0, done.err
    summary = json.loads(done.out)
    assert set(summary["changed_bits_per_char"]) == {"window", "base", "base_memory", "small", "small_memory"}
    assert summary["heldout"]["commits"] == 1
    again = apprentice(*words)
    assert "small_memory" in again.out
    harmless(again.out)


def test_a_model_without_a_name_is_refused(apprentice: Any, learned: Any, tmp_path: Path) -> None:
    words = ["eval", "--examples", learned.run / "examples", "--sessions", learned.out / "sessions", "--out", tmp_path / "eval"]
    done = apprentice(*words, "--model", "folder")
    assert done.code == 2
    assert "hint: write it as `--model NAME=VALUE`" in done.err
