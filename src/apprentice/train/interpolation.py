"""Drawing tuned weights back towards the base: base + share * (tuned - base).

A model that was trained on nothing but edits gets better at edits and forgets how to end an answer: code in a chat goes on
and on. Between the two weights lies no worse model than at the ends: with 0.7 of the change most of what the base could do
is back, and edits are predicted no worse. It costs no training time, and no examples of anything else are needed.

Source: Wortsman et al. 2022, "Robust fine-tuning of zero-shot models" (WiSE-FT, arXiv:2109.01903).
"""

from __future__ import annotations

from pathlib import Path

import torch

from apprentice.model import adapter, weights
from apprentice.model.transformer import Transformer


@torch.no_grad()
def draw_back(model: Transformer, base: Path, share: float) -> None:
    """In place. `share`: of the change that is kept, 0 to 1. Adapters that are attached are scaled instead."""
    if share == 1 or adapter.scale(model, share):
        return
    # The base's values a second time: less than the optimizer held beside the model.
    for parameter, before in zip(model.parameters(), weights.load(base).parameters(), strict=True):
        parameter.copy_(torch.lerp(before.to(parameter.dtype), parameter, share))
