"""AdamW with a schedule that follows progress, not the number of a step.

    progress in [0, 1] --learning_rate()--> lr;   gradients, lr --Optimizer.step()--> new weights, norm of the gradient

The run's length is a plan that the clock may shorten, so the schedule reads the part of the run that is done, and
reaches its end whenever the run does. The arithmetic is torch's fused AdamW, measured at 1.5 % of a step over all 135
million weights in float32; the tied embedding is a fifth of them, so a sparse update has nothing to gain. Freezing the
embedding would also save one of the head's three products, about 7 % of the arithmetic by count; not tried.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimizerConfig:
    """How far and in which rhythm the weights move."""

    lr: float = 1e-4
    """Highest learning rate, above 0. For all weights of a 135M model 3e-4 destroys; LoRA wants about 5e-4."""
    warmup: float = 0.1
    """Part of the run in which the rate rises from 0, 0 to 0.9."""
    final_lr: float = 0.0
    """Part of the highest rate that is left at the end, 0 to 1. The way down is linear."""
    beta1: float = 0.9
    """Memory of the mean gradient, 0 to 1."""
    beta2: float = 0.999
    """Memory of the squared gradient, 0 to 1."""
    epsilon: float = 1e-8
    """Added to the root of the squared gradient, above 0."""
    weight_decay: float = 0.01
    """Of matrices, per unit of learning rate, 0 or more."""
    max_grad_norm: float = 1.0
    """Longer gradients are shortened to this, above 0."""

    def __post_init__(self) -> None:
        if not 0 < self.lr <= 1:
            raise ValueError("lr must be above 0 and at most 1")
        if not 0 <= self.warmup <= 0.9:
            raise ValueError("warmup must be from 0 to 0.9")
        for name in ("final_lr", "beta1", "beta2"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be from 0 to 1")
        if self.weight_decay < 0 or self.epsilon <= 0 or self.max_grad_norm <= 0:
            raise ValueError("weight_decay must be 0 or more, epsilon and max_grad_norm above 0")


def learning_rate(config: OptimizerConfig, progress: float) -> float:
    """The rate at a point of the run: 0 is its start, 1 its end."""
    if progress < config.warmup:
        return config.lr * progress / config.warmup
    down = (progress - config.warmup) / (1 - config.warmup)
    return config.lr * (1 - (1 - config.final_lr) * min(down, 1.0))


class Optimizer:
    """Moves the parameters that want a gradient."""

    def __init__(self, parameters: Iterable[tuple[str, nn.Parameter]], config: OptimizerConfig) -> None:
        self._config = config
        self.parameters = {name: parameter for name, parameter in parameters if parameter.requires_grad}
        matrices = [p for p in self.parameters.values() if p.ndim >= 2]
        vectors = [p for p in self.parameters.values() if p.ndim < 2]
        groups = [
            {"params": group, "weight_decay": decay}
            for group, decay in ((matrices, config.weight_decay), (vectors, 0.0))
            if group
        ]
        self._adamw = torch.optim.AdamW(
            groups, lr=config.lr, betas=(config.beta1, config.beta2), eps=config.epsilon, fused=True
        )

    def step(self, lr: float) -> float:
        """One update from the gradients at hand, which are then gone. Gives their norm before shortening; where that is
        not a number, nothing is changed."""
        norm = float(torch.nn.utils.clip_grad_norm_(list(self.parameters.values()), self._config.max_grad_norm))
        if norm < float("inf"):
            for group in self._adamw.param_groups:
                group["lr"] = lr
            self._adamw.step()
        self._adamw.zero_grad(set_to_none=True)
        return norm

    def state(self) -> dict[str, Tensor]:
        """Everything that the next step depends on besides the weights."""
        tensors: dict[str, Tensor] = {}
        for name, parameter in self.parameters.items():
            for key, value in self._adamw.state.get(parameter, {}).items():
                tensors[f"{key}:{name}"] = value
        return tensors

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Take up a state that `state` gave."""
        for key_name, value in tensors.items():
            key, _, name = key_name.partition(":")
            self._adamw.state[self.parameters[name]][key] = value
