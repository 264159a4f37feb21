import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from apprentice.model import base, presets, tensor_files, weights
from apprentice.model.config import ModelConfig, from_hugging_face, parameter_shapes, to_hugging_face
from apprentice.model.transformer import Transformer

SMALL: dict[str, Any] = {
    "vocab_size": 131,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}
CASES: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama", "tie_word_embeddings": True},
    "llama, biases and llama3 rope": {
        "model_type": "llama",
        "attention_bias": True,
        "mlp_bias": True,
        "tie_word_embeddings": False,
        "rope_parameters": {
            "rope_type": "llama3",
            "rope_theta": 5e5,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        },
    },
    "llama, linear rope": {
        "model_type": "llama",
        "rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0},
    },
    "qwen2": {"model_type": "qwen2", "tie_word_embeddings": True},
    "qwen2, yarn": {
        "model_type": "qwen2",
        "rope_parameters": {
            "rope_type": "yarn",
            "rope_theta": 1e6,
            "factor": 4.0,
            "original_max_position_embeddings": 128,
        },
    },
    "qwen3": {"model_type": "qwen3", "head_dim": 32, "tie_word_embeddings": True},
}


@pytest.fixture(params=CASES)
def settings(request: pytest.FixtureRequest) -> dict[str, Any]:
    """The content of a config.json of each family."""
    return SMALL | CASES[request.param]


def random_model(config: ModelConfig, seed: int = 0) -> Transformer:
    """Weights large enough that every switch of a family shows in the logits."""
    model = Transformer(config).initialize(seed, std=0.08)
    random = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1:
                parameter.normal_(1.0 if "norm" in name else 0.0, 0.1, generator=random)
    return model


@pytest.fixture
def model(settings: dict[str, Any]) -> Transformer:
    return random_model(from_hugging_face(settings))


@pytest.fixture
def debug_model() -> Transformer:
    return random_model(presets.debug())


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A debug checkpoint to be spoilt."""
    folder = tmp_path / "checkpoint"
    weights.save(random_model(presets.debug()), folder)
    return folder


@pytest.fixture
def change_config(checkpoint: Path) -> Callable[..., None]:
    def change(**changes: object) -> None:
        path = checkpoint / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


@pytest.fixture
def real_base() -> Path:
    """The default base, where an earlier run has put it into the cache."""
    folder = base.cache_folder() / "bases" / base.DEFAULT
    if not (folder / "manifest.json").is_file():
        pytest.skip("the default base is not in the cache; `apprentice learn` puts it there")
    return folder


def write_folder(folder: Path, config: ModelConfig, arrays: dict[str, np.ndarray]) -> None:
    """A float32 checkpoint made without torch."""
    folder.mkdir()
    shapes = parameter_shapes(config)
    tensor_files.write(
        folder / "model.safetensors",
        {name: ("F32", shapes[name]) for name in shapes},
        [arrays[name] for name in shapes],
    )
    (folder / "config.json").write_text(json.dumps(to_hugging_face(config)))
