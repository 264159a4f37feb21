"""What a model costs before it is loaded: memory and time of training, scoring and generation. No torch here.

    ModelConfig + Machine (speeds) --> bytes, seconds

Counted are multiplications in matrix products and attention, weights and gradients, the optimizer's two moments, what
backward keeps of each layer, logits where there is loss, and keys and values. Speeds are those of the machine at hand,
measured by the caller; the share of a step that is not matrix products is a measured constant, so an estimate is good
to about a third. It is for choosing a base and a plan, not for a promise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from apprentice.model.config import ModelConfig

GIB = 2**30
FLOAT = 4
SAVED_WIDTHS = 8
"""Residual widths that backward keeps for a token and layer besides keys, values and the MLP; counted by saved-tensor
hooks: 11,147 numbers a token and layer of SmolLM2-135M in all."""
SAVED_INNER = 4
"""MLP widths that backward keeps for a token and layer: gate, silu(gate), up and their product."""
BLOCKED_TOKENS = 1024
"""Sequences up to here keep attention's probabilities for backward."""

Weights = Literal["full", "upper", "lora"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """Speeds of the machine at hand."""

    gflops: float
    """Matrix products in the precision used, all threads, 10^9 operations a second."""
    gb_per_s: float = 20.0
    """Reading memory, 10^9 bytes a second."""
    efficiency: float = 0.7
    """Share of a step's time that is matrix products, 0 to 1."""
    memory_gib: float = 8.0
    """What a run may use."""


def forward_flops(config: ModelConfig, num_tokens: int, context: int, num_outputs: int) -> float:
    """Operations to read tokens in sequences of `context` tokens, with the head at `num_outputs` places."""
    attention = 2 * 2 * (context / 2) * config.num_heads * config.head_size * config.num_layers
    head = 2 * config.vocab_size * config.hidden_size
    return num_tokens * (2 * _layer_parameters(config) + attention) + num_outputs * head


def training_flops(
    config: ModelConfig, num_tokens: int, context: int, *, weights: Weights = "full", head_share: float = 1.0
) -> float:
    """Operations to train on tokens. `head_share`: share of places with loss."""
    layers = forward_flops(config, num_tokens, context, 0)
    head = forward_flops(config, num_tokens, context, round(num_tokens * head_share)) - layers
    # Backward costs two products where weights learn, one where only the gradient passes on.
    return {"full": 3 * layers + 3 * head, "upper": 2 * layers + 2 * head, "lora": 2.1 * layers + 2 * head}[weights]


def training_seconds(
    config: ModelConfig,
    num_tokens: int,
    context: int,
    machine: Machine,
    *,
    weights: Weights = "full",
    head_share: float = 1.0,
) -> float:
    """Time to train once on `num_tokens` tokens."""
    flops = training_flops(config, num_tokens, context, weights=weights, head_share=head_share)
    return flops / (machine.gflops * 1e9 * machine.efficiency)


def scoring_seconds(config: ModelConfig, num_tokens: int, context: int, num_outputs: int, machine: Machine) -> float:
    """Time to score targets of `num_outputs` tokens in all within `num_tokens` tokens."""
    return forward_flops(config, num_tokens, context, num_outputs) / (machine.gflops * 1e9 * machine.efficiency)


def generation_tokens_per_second(
    config: ModelConfig, machine: Machine, *, context: int = 512, batch: int = 1, bits_per_weight: float = 32.0
) -> float:
    """All sequences together. A step reads every weight once, and each sequence's keys and values."""
    weights = config.num_parameters * bits_per_weight / 8
    read = (weights + batch * kv_cache_bytes(config, context)) / (machine.gb_per_s * 1e9)
    computed = batch * forward_flops(config, 1, context, 1) / (machine.gflops * 1e9 * machine.efficiency)
    return batch / max(read, computed)


def kv_cache_bytes(config: ModelConfig, num_tokens: int) -> int:
    """Keys and values of that many tokens."""
    return 2 * config.num_layers * config.num_kv_heads * config.head_size * FLOAT * num_tokens


def training_bytes(
    config: ModelConfig, tokens_per_step: int, *, weights: Weights = "full", rank: int = 16, head_share: float = 1.0
) -> int:
    """Peak memory of a training process without the interpreter: weights, gradients, moments, activations, logits."""
    parameters = config.num_parameters
    layers = _layer_parameters(config)
    learning = {"full": parameters, "upper": layers // 2, "lora": _lora_parameters(config, rank)}[weights]
    keys_and_values = 2 * config.num_kv_heads * config.head_size
    of_attention = config.num_heads * min(tokens_per_step, BLOCKED_TOKENS) / 2
    kept = SAVED_WIDTHS * config.hidden_size + keys_and_values + SAVED_INNER * config.intermediate_size + of_attention
    kept *= tokens_per_step * config.num_layers * (0.5 if weights == "upper" else 1.0)
    logits = 3 * tokens_per_step * head_share * config.vocab_size
    return round(FLOAT * (parameters + 3 * learning + kept + logits))


def largest_that_fits(
    bases: dict[str, ModelConfig],
    machine: Machine,
    *,
    tokens: int,
    budget_s: float,
    weights: Weights = "lora",
    tokens_per_step: int = 768,
    head_share: float = 0.3,
) -> str | None:
    """The base with most parameters that trains on `tokens` tokens within time and memory; None where none does."""
    fitting = [
        (config.num_parameters, name)
        for name, config in bases.items()
        if training_bytes(config, tokens_per_step, weights=weights, head_share=head_share) <= machine.memory_gib * GIB
        and training_seconds(config, tokens, tokens_per_step, machine, weights=weights, head_share=head_share)
        <= budget_s
    ]
    return max(fitting)[1] if fitting else None


def _layer_parameters(config: ModelConfig) -> int:
    """Parameters of the layers' matrices."""
    attention = 2 * config.hidden_size * config.head_size * (config.num_heads + config.num_kv_heads)
    return config.num_layers * (attention + 3 * config.hidden_size * config.intermediate_size)


def _lora_parameters(config: ModelConfig, rank: int) -> int:
    hidden, inner = config.hidden_size, config.intermediate_size
    queries, keys = config.num_heads * config.head_size, config.num_kv_heads * config.head_size
    return config.num_layers * rank * (2 * (hidden + queries) + 2 * (hidden + keys) + 3 * (hidden + inner))
