from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from apprentice.cli.learn import in_width

KEYS = {
    "heldout", "changed_bits_per_char", "target_bits_per_char", "line_exact", "confidence", "valid_format", "differences",
    "seconds", "peak_gib", "seed", "learned_tokens", "artifacts",
}  # fmt: skip
DIFFERENCES = {
    "base-window", "base_memory-base", "tuned-base", "tuned_memory-base_memory", "tuned_memory-base",
    "quantized_memory-tuned_memory",
}  # fmt: skip


def test_learning_prints_one_json_object_with_all_that_was_measured(learned: Any) -> None:
    result = json.loads(learned.done.out)
    assert set(result) >= KEYS
    assert set(result["differences"]) >= DIFFERENCES
    assert all(len(estimate) == 3 for estimate in result["changed_bits_per_char"].values())
    assert result["heldout"] == {"examples": result["heldout"]["examples"], "commits": 2}
    assert result["learned_tokens"]["developer"] > 0
    assert {"sessions", "examples", "answers", "train", "quantize", "gates", "evaluate", "silence", "memory"} >= set(result["seconds"]) - {"report"} - {"base"}
    for name, path in result["artifacts"].items():
        assert Path(path).is_dir(), name


def test_the_report_shows_scripts_and_escapes_as_text(learned: Any, harmless: Any) -> None:
    page = (learned.run / "report" / "index.html").read_text(encoding="utf-8")
    harmless(page)
    assert "<script" not in page
    assert "&lt;script&gt;" in page, "the samples contain some"


def test_progress_goes_to_stderr_without_escapes(learned: Any, harmless: Any) -> None:
    harmless(learned.done.err)
    assert "usable: " in learned.done.err
    assert learned.done.err.endswith("next: apprentice complete FILE:LINE --why\n")


def test_the_same_command_again_has_nothing_to_do_and_prints_the_table(
    apprentice: Any, learned: Any, debug_base: Path, harmless: Any
) -> None:
    options = ["--repo", learned.repository, "--base", debug_base, "--steps", 2, "--eval-commits", 2]
    done = apprentice("learn", *options, "--out", learned.out)
    assert done.code == 0
    assert "tuned_memory" in done.out
    assert f"report: {learned.run / 'report' / 'index.html'}" in done.out
    assert not (learned.out / "runs" / "0002").exists()
    harmless(done.out)


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(
    apprentice: Any, repository: Path, debug_base: Path, tmp_path: Path
) -> None:
    done = apprentice(
        "learn", "--repo", repository, "--base", debug_base, "--out", tmp_path / "runs", "--budget", "1h30m", "--dry-run", "--json"
    )
    assert done.code == 0
    said = json.loads(done.out)
    assert said["budget"] == "1h30m"
    assert str(repository) in said["sources"]
    assert said["weights"] == "full"
    assert "GiB available" in said["memory of training"]
    assert list(tmp_path.iterdir()) == []


def test_a_misspelt_key_of_the_recipe_is_told_before_anything_is_read(apprentice: Any, tmp_path: Path) -> None:
    done = apprentice("learn", "--repo", tmp_path / "nowhere", "--out", tmp_path / "runs", "--set", "silense=0.1")
    assert (done.code, done.out) == (2, "")
    assert "`silence`" in done.err
    assert not (tmp_path / "runs").exists()


def test_a_wide_table_is_shown_in_parts_that_fit_the_terminal() -> None:
    table = [["arm", "first", "second", "third"], ["base", "1", "2", "3"]]
    assert in_width(table, None) == [table]
    assert in_width(table, 80) == [table]
    assert in_width(table, 19) == [[["arm", "first", "second"], ["base", "1", "2"]], [["arm", "third"], ["base", "3"]]]
    # Narrower than a column: one each, none is lost.
    assert [part[0][1:] for part in in_width(table, 3)] == [["first"], ["second"], ["third"]]
