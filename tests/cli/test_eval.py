from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest


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


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--url", "there=http://127.0.0.1:9/v1"), "NAME=URL,MODEL"),
        (("--model", "base=x"), "two are called `base`"),
        (("--model", "a=x", "--url", "a=http://127.0.0.1:9/v1,m"), "two are called `a`"),
        (("--per-commit", "-1"), "`--per-commit` 1 or more"),
        (("--commits", "-1"), "`--commits` must be 0 or more"),
        (("--seed", "-1"), "below 0"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_loaded(apprentice: Any, tmp_path: Path, words: Any, said: str) -> None:
    nowhere = tmp_path / "nowhere"
    done = apprentice("eval", "--examples", nowhere, "--sessions", nowhere, "--out", tmp_path / "eval", "--base", nowhere, *words)
    assert (done.code, done.out) == (2, "")
    assert said in done.err


def test_a_server_that_does_not_answer_is_no_bad_model(
    apprentice: Any, learned: Any, debug_base: Path, tmp_path: Path
) -> None:
    words = ["eval", "--examples", learned.run / "examples", "--sessions", learned.out / "sessions", "--out", tmp_path / "eval"]
    words += ["--base", debug_base, "--commits", 1, "--per-commit", 1, "--url", "there=http://127.0.0.1:9/v1,m"]
    done = apprentice(*words)
    assert done.code == 2
    assert "of `there` did not come, and count as wrong" in done.err


def test_a_model_without_a_name_is_refused(apprentice: Any, learned: Any, tmp_path: Path) -> None:
    words = ["eval", "--examples", learned.run / "examples", "--sessions", learned.out / "sessions", "--out", tmp_path / "eval"]
    done = apprentice(*words, "--model", "folder")
    assert done.code == 2
    assert "hint: write it as `--model NAME=VALUE`" in done.err
