"""Before a run: what it would do and cost. After it: which larger base this machine could train, and in what time.

Estimates, good to about a third (`model.estimate`): memory and arithmetic are counted, the machine's speed is measured.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from apprentice.core import machine
from apprentice.core.progress import duration
from apprentice.learn import sources
from apprentice.learn.config import EVALUATION_SHARE, LearnConfig
from apprentice.learn.stages.train import weights_for
from apprentice.model import base as bases
from apprentice.model import estimate, presets

TOKENS = 300_000
"""What a recommended base should be able to learn from: a thousand edits or two."""
STEP_TOKENS = 768
HEAD_SHARE = 0.3


def dry_run(config: LearnConfig, folder: Path) -> dict[str, Any]:
    """What a run would do. Reads names and sizes, no history; nothing is written or downloaded."""
    chosen = sources.chosen(config, folder)
    model = bases.look(None if config.base == "default" else config.base)
    found: dict[str, Any] = {
        "sources": "; ".join(source.why for source in chosen) or "the bundled history",
        **({"note": why} if (why := sources.passed_over(config, folder)) else {}),
        "base": config.base + ("" if model is not None else " (to be downloaded)"),
        "weights": config.weights,
        "budget": duration(config.budget_s),
        "evaluating": f"at most {duration(EVALUATION_SHARE * config.budget_s)}",
        "seed": config.seed,
    }
    if model is None:
        return found | {"memory of training": "not known before the base is a folder or a file on this machine"}
    weights = weights_for(config, model.num_parameters)
    peak = estimate.training_bytes(model, STEP_TOKENS, weights=weights, head_share=HEAD_SHARE) / 2**30
    available = machine.look().memory_available_gib
    return found | {
        "weights": weights, "parameters": f"{model.num_parameters:,}", "memory of training": f"about {peak:.1f} GiB of {available} GiB available",
    }  # fmt: skip


def recommend(trained_gflops: float, present: str) -> str:
    """The last line of a run: a larger base that fits this machine, with an estimated time. `trained_gflops`: the speed
    of matrix products that training measured here."""
    here = machine.look()
    able = estimate.Machine(gflops=trained_gflops, memory_gib=0.8 * here.memory_available_gib)
    night_s = 12 * 3600.0
    name = estimate.largest_that_fits(
        presets.known_bases(), able, tokens=TOKENS, budget_s=night_s, weights="lora", tokens_per_step=STEP_TOKENS, head_share=HEAD_SHARE
    )
    if name is None:
        return f"no larger base than `{present}` trains on this machine over night"
    seconds = estimate.training_seconds(
        presets.known_bases()[name], TOKENS, STEP_TOKENS, able, weights="lora", head_share=HEAD_SHARE
    )
    return f"a larger base that this machine can train: `--base {name} --weights lora`, about {duration(seconds)} for {TOKENS:,} tokens"
