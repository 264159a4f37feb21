"""What a training run would cost, before anything is loaded: memory, speed, and how far a budget reaches.

    config.json of the base, SftConfig, one matrix product timed here --> Preview

Counting is `model.estimate`'s; this module knows what this trainer does differently: logits exist for a chunk of tokens
only, all tokens with a window's weight pass the head, and products in bfloat16 leave more of a step to everything else.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from apprentice.model import estimate
from apprentice.model.config import read_config
from apprentice.train import numerics
from apprentice.train.losses import CHUNK_TOKENS
from apprentice.train.sft import SftConfig

EFFICIENCY = {"fp32": 0.85, "fp32-onednn": 0.8, "bf16": 0.6}
"""Part of a step that is matrix products: counted operations over measured CPU seconds, one CPU with AVX512-BF16."""
PROCESS_GIB = 0.4
"""Interpreter and libraries."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Preview:
    """Good to about a third."""

    parameters: int
    memory_gib: float
    tokens_per_s: float
    step_s: float
    steps: int | None
    """Given, or what fits the budget; None where neither bounds it."""
    tokens: int | None
    """Trained on in all steps, at most."""
    arithmetic: str


def preview(base: Path, sft: SftConfig, *, steps: int | None = None, budget_s: float | None = None) -> Preview:
    """Times one matrix product and reads nothing but the base's config. Raises: InputError where there is none."""
    config = read_config(base)
    chosen = numerics.fixed(None if sft.arithmetic == "auto" else sft.arithmetic, sft.threads or None)
    machine = estimate.Machine(gflops=numerics.peak_gflops(chosen), efficiency=EFFICIENCY[chosen.arithmetic])
    length = sft.packing.sequence_tokens
    per_pass = length * sft.loop.batch_sequences
    tokens_per_step = per_pass * sft.loop.accumulate
    step_s = estimate.training_seconds(config, tokens_per_step, length, machine, weights=sft.weights)
    num_bytes = estimate.training_bytes(
        config, per_pass, weights=sft.weights, rank=sft.lora_rank, head_share=min(1.0, CHUNK_TOKENS / per_pass)
    )
    if steps is None and budget_s is not None:
        steps = int(budget_s * (1 - sft.loop.heldout_share) / step_s)
    return Preview(
        parameters=config.num_parameters,
        memory_gib=round(PROCESS_GIB + num_bytes / estimate.GIB, 1),
        tokens_per_s=round(tokens_per_step / step_s, 1),
        step_s=round(step_s, 2),
        steps=steps,
        tokens=None if steps is None else steps * tokens_per_step,
        arithmetic=chosen.arithmetic,
    )
