"""Rotary position embedding: positions -> cosines and sines, with the stretchings that checkpoints ask for.

Sources: RoPE (arXiv:2104.09864), YaRN (arXiv:2309.00071), and for `llama3` the Llama 3.1 release; the formulas are
those of transformers' `modeling_rope_utils`, with which logits are compared. numpy only, shared by both engines.
"""

from __future__ import annotations

import math

import numpy as np

from apprentice.model.config import ModelConfig, RopeScaling


def frequencies(config: ModelConfig) -> tuple[np.ndarray, float]:
    """Radians per position for each of head_size / 2 planes (float32), and the factor on cosines and sines."""
    exponents = np.arange(0, config.head_size, 2, dtype=np.float32) / np.float32(config.head_size)
    # The power in double precision, rounded: what torch's float32 power gives, whereas numpy's is often one step off,
    # which at position 600 moves a logit by 1e-4.
    powers = (np.float64(config.rope_theta) ** exponents.astype(np.float64)).astype(np.float32)
    plain = np.float32(1) / powers
    scaling = config.rope_scaling
    if scaling is None:
        return plain, 1.0
    if scaling.rope_type == "linear":
        return plain / np.float32(scaling.factor), 1.0
    context = scaling.original_max_position_embeddings or config.max_positions
    if scaling.rope_type == "llama3":
        return _llama3(plain, scaling, context), 1.0
    return _yarn(plain, scaling, context, config), _yarn_attention_factor(scaling)


def cos_sin(config: ModelConfig, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Tables for positions 0 .. length - 1, float32 [length, head_size / 2] each."""
    radians, factor = frequencies(config)
    angles = np.arange(length, dtype=np.float32)[:, None] * radians[None, :]
    return np.cos(angles) * np.float32(factor), np.sin(angles) * np.float32(factor)


def _llama3(plain: np.ndarray, scaling: RopeScaling, context: int) -> np.ndarray:
    wavelengths = 2 * math.pi / plain
    long, short = context / scaling.low_freq_factor, context / scaling.high_freq_factor
    smooth = (context / wavelengths - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
    between = (1 - smooth) * plain / scaling.factor + smooth * plain
    scaled = np.where(wavelengths > long, plain / scaling.factor, plain)
    return np.where((wavelengths >= short) & (wavelengths <= long), between, scaled).astype(np.float32)


def _yarn(plain: np.ndarray, scaling: RopeScaling, context: int, config: ModelConfig) -> np.ndarray:
    def dimension(rotations: float) -> float:
        turns = context / (rotations * 2 * math.pi)
        return config.head_size * math.log(turns) / (2 * math.log(config.rope_theta))

    low, high = dimension(scaling.beta_fast), dimension(scaling.beta_slow)
    if scaling.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, config.head_size - 1)
    ramp = (np.arange(config.head_size // 2, dtype=np.float32) - low) / ((high - low) or 0.001)
    left_alone = 1 - np.clip(ramp, 0, 1)
    return (plain / scaling.factor * (1 - left_alone) + plain * left_alone).astype(np.float32)


def _yarn_attention_factor(scaling: RopeScaling) -> float:
    if scaling.attention_factor is not None:
        return scaling.attention_factor

    def scale(mscale: float) -> float:
        return 1.0 if scaling.factor <= 1 else 0.1 * mscale * math.log(scaling.factor) + 1.0

    if scaling.mscale and scaling.mscale_all_dim:
        return scale(scaling.mscale) / scale(scaling.mscale_all_dim)
    return scale(1.0)
