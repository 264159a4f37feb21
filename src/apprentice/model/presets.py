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


def smollm2_135m() -> ModelConfig:
    """SmolLM2-135M, the default base."""
    return ModelConfig(
        architecture="llama",
        vocab_size=49152,
        hidden_size=576,
        intermediate_size=1536,
        num_layers=30,
        num_heads=9,
        num_kv_heads=3,
        head_size=64,
        max_positions=8192,
        rope_theta=100000.0,
        norm_epsilon=1e-5,
        bos_id=1,
        eos_ids=(2,),
    )


def known_bases() -> dict[str, ModelConfig]:
    """Hub name -> shape of open coding bases of this decoder's families, for advice on what fits a machine."""
    shapes = {
        "Qwen/Qwen2.5-Coder-0.5B": (151936, 896, 4864, 24, 14, 2, 64, True),
        "Qwen/Qwen2.5-Coder-1.5B": (151936, 1536, 8960, 28, 12, 2, 128, True),
        "Qwen/Qwen2.5-Coder-3B": (151936, 2048, 11008, 36, 16, 2, 128, True),
        "Qwen/Qwen2.5-Coder-7B": (152064, 3584, 18944, 28, 28, 4, 128, False),
    }
    return {
        name: ModelConfig(
            architecture="qwen2", vocab_size=vocab, hidden_size=hidden, intermediate_size=inner, num_layers=layers,
            num_heads=heads, num_kv_heads=kv_heads, head_size=head, max_positions=32768, rope_theta=1e6, qkv_bias=True,
            tie_embeddings=tied,
        )
        for name, (vocab, hidden, inner, layers, heads, kv_heads, head, tied) in shapes.items()
    }  # fmt: skip
