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
        architecture="llama", vocab_size=49152, hidden_size=576, intermediate_size=1536, num_layers=30, num_heads=9,
        num_kv_heads=3, head_size=64, max_positions=8192, rope_theta=100000.0, norm_epsilon=1e-5, bos_id=1, eos_ids=(2,),
    )


def smollm2_360m() -> ModelConfig:
    """SmolLM2-360M."""
    return ModelConfig(
        architecture="llama", vocab_size=49152, hidden_size=960, intermediate_size=2560, num_layers=32, num_heads=15,
        num_kv_heads=5, head_size=64, max_positions=8192, rope_theta=100000.0, norm_epsilon=1e-5, bos_id=1, eos_ids=(2,),
    )


def qwen2_5_coder_0_5b() -> ModelConfig:
    """Qwen2.5-Coder-0.5B."""
    return ModelConfig(
        architecture="qwen2", vocab_size=151936, hidden_size=896, intermediate_size=4864, num_layers=24, num_heads=14,
        num_kv_heads=2, head_size=64, max_positions=32768, rope_theta=1e6, qkv_bias=True,
    )


def qwen2_5_coder_1_5b() -> ModelConfig:
    """Qwen2.5-Coder-1.5B."""
    return ModelConfig(
        architecture="qwen2", vocab_size=151936, hidden_size=1536, intermediate_size=8960, num_layers=28, num_heads=12,
        num_kv_heads=2, head_size=128, max_positions=32768, rope_theta=1e6, qkv_bias=True,
    )


def qwen2_5_coder_7b() -> ModelConfig:
    """Qwen2.5-Coder-7B."""
    return ModelConfig(
        architecture="qwen2", vocab_size=152064, hidden_size=3584, intermediate_size=18944, num_layers=28, num_heads=28,
        num_kv_heads=4, head_size=128, max_positions=32768, rope_theta=1e6, qkv_bias=True, tie_embeddings=False,
    )


def known_bases() -> dict[str, ModelConfig]:
    """What a run may recommend: hub names and shapes, small to large."""
    return {
        "HuggingFaceTB/SmolLM2-135M-Instruct": smollm2_135m(),
        "HuggingFaceTB/SmolLM2-360M-Instruct": smollm2_360m(),
        "Qwen/Qwen2.5-Coder-0.5B-Instruct": qwen2_5_coder_0_5b(),
        "Qwen/Qwen2.5-Coder-1.5B-Instruct": qwen2_5_coder_1_5b(),
        "Qwen/Qwen2.5-Coder-7B-Instruct": qwen2_5_coder_7b(),
    }


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
            num_heads=heads, num_kv_heads=kv_heads, head_size=head, max_positions=32768, tie_embeddings=tied,
        )
        for name, (vocab, hidden, inner, layers, heads, kv_heads, head, tied) in shapes.items()
    }  # fmt: skip
