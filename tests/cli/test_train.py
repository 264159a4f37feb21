from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

from apprentice.core import artifacts
from apprentice.examples import conversation_store


def test_a_few_steps_make_a_checkpoint_that_the_same_command_finds_done(
    apprentice: Any, learned: Any, debug_base: Path, tmp_path: Path
) -> None:
    words = ["train", "sft", "--examples", learned.run / "examples", "--out", tmp_path / "tuned", "--base", debug_base]
    words += ["--steps", 2, "--set", "weights=lora", "--set", "lora_rank=2", "--json"]
    done = apprentice(*words)
    assert done.code == 0, done.err
    value = json.loads(done.out)
    assert value["counts"]["steps"] == 2
    assert value["weights"] == "lora"
    assert (tmp_path / "tuned" / "adapter" / "adapter_config.json").is_file()
    assert "plan: " not in apprentice(*words).err


def test_a_dry_run_prints_the_recipe_that_it_would_follow(apprentice: Any, learned: Any, debug_base: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('weights = "upper"\n[optimizer]\nlr = 3e-4\n')
    words = ["train", "sft", recipe, "--examples", learned.run / "examples", "--out", tmp_path / "tuned", "--dry-run", "--base", debug_base]
    printed = tomllib.loads(apprentice(*words, "--set", "seed=7").out)
    assert (printed["weights"], printed["optimizer"]["lr"], printed["seed"]) == ("upper", 3e-4, 7)
    assert not (tmp_path / "tuned").exists()


def test_a_misspelt_key_is_told_the_nearest(apprentice: Any, learned: Any, tmp_path: Path) -> None:
    words = ["train", "sft", "--examples", learned.run / "examples", "--out", tmp_path / "tuned"]
    done = apprentice(*words, "--set", "optimizer.lrr=1")
    assert (done.code, done.out) == (2, "")
    assert "`optimizer.lr`" in done.err


def test_silent_places_and_their_share_go_together(apprentice: Any, learned: Any, tmp_path: Path) -> None:
    words = ["train", "sft", "--examples", learned.run / "examples", "--out", tmp_path / "tuned"]
    for half in (["--set", "silence=0.1"], ["--silent-places", tmp_path]):
        done = apprentice(*words, *half)
        assert (done.code, done.out) == (2, "")
        assert "hint: `examples make --silent-places` makes" in done.err


def test_what_a_dry_run_would_have_to_download_is_not_downloaded(apprentice: Any, learned: Any, tmp_path: Path) -> None:
    words = ["train", "sft", "--examples", learned.run / "examples", "--out", tmp_path / "tuned", "--dry-run"]
    done = apprentice(*words, "--base", "somebody/some-model")
    assert (done.code, done.out) == (2, "")
    assert "`somebody/some-model` is not on this machine" in done.err


def test_conversations_made_beside_other_examples_are_refused(apprentice: Any, learned: Any, tmp_path: Path) -> None:
    with artifacts.create(tmp_path / "talks", kind=conversation_store.KIND, version=1, parents={"examples": "others"}) as writer:
        writer.finish()
    words = ["train", "sft", "--examples", learned.run / "examples", "--out", tmp_path / "tuned", "--conversations", tmp_path / "talks"]
    done = apprentice(*words)
    assert (done.code, done.out) == (2, "")
    assert "was not made beside" in done.err
