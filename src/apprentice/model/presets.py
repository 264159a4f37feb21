"""Model shapes by name. No torch here."""

from __future__ import annotations

from apprentice.model.config import ModelConfig


def debug(*, vocab_size: int = 273) -> ModelConfig:
    """A decoder of about 0.1 million parameters for tests and trying out: everything runs, nothing is known.

    `vocab_size`: 256 bytes and the special tokens of SmolLM2. All widths are multiples of 16, a block of NVFP4."""
    return ModelConfig(
        architecture="llama",
        vocab_size=vocab_size,
        hidden_size=64,
        intermediate_size=192,
        num_layers=2,
        num_heads=4,
        num_kv_heads=2,
        head_size=16,
        max_positions=4096,
        norm_epsilon=1e-5,
    )
