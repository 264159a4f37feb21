import json
from pathlib import Path
from typing import Any

import pytest

from apprentice.core.errors import HostileInputError, InputError
from apprentice.model import presets
from apprentice.model.config import ModelConfig, from_hugging_face, read_config, to_hugging_face

QWEN_2_5: dict[str, Any] = {
    "architectures": ["Qwen2ForCausalLM"],
    "attention_dropout": 0.0,
    "bos_token_id": 151643,
    "eos_token_id": [151645, 151643],
    "hidden_act": "silu",
    "hidden_size": 896,
    "intermediate_size": 4864,
    "max_position_embeddings": 32768,
    "max_window_layers": 21,
    "model_type": "qwen2",
    "num_attention_heads": 14,
    "num_hidden_layers": 24,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-06,
    "rope_theta": 1000000.0,
    "sliding_window": 32768,
    "tie_word_embeddings": True,
    "use_sliding_window": False,
    "vocab_size": 151936,
}


def test_a_published_config_gives_the_published_number_of_parameters() -> None:
    config = from_hugging_face(QWEN_2_5)
    assert config.num_parameters == 494_032_768
    assert config.qkv_bias
    assert not config.output_bias
    assert config.eos_ids == (151645, 151643)


def test_smollm2_has_its_published_number_of_parameters() -> None:
    assert presets.smollm2_135m().num_parameters == 134_515_008


def test_config_survives_the_way_to_json_and_back(settings: dict[str, Any]) -> None:
    config = from_hugging_face(settings)
    assert from_hugging_face(json.loads(json.dumps(to_hugging_face(config)))) == config


def test_the_older_spelling_of_rope_scaling_means_the_same() -> None:
    scaling = {"factor": 4.0, "original_max_position_embeddings": 128}
    newer = from_hugging_face(
        QWEN_2_5 | {"rope_theta": 0, "rope_parameters": {"rope_type": "yarn", "rope_theta": 1e6, **scaling}}
    )
    older = from_hugging_face(QWEN_2_5 | {"rope_scaling": {"type": "yarn", **scaling}})
    assert newer == older


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "mamba"}, "mamba"),
        ({"model_type": ["llama"]}, "not supported"),
        ({"hidden_size": 0}, "hidden_size"),
        ({"hidden_size": 2**40}, "hidden_size"),
        ({"hidden_size": "576"}, "hidden_size"),
        ({"hidden_size": True}, "hidden_size"),
        ({"hidden_size": None}, "missing"),
        ({"vocab_size": -1}, "vocab_size"),
        ({"num_hidden_layers": 10**9}, "num_layers"),
        ({"num_key_value_heads": 3}, "divide"),
        ({"head_dim": 63}, "odd"),
        ({"rope_theta": -1.0}, "rope_theta"),
        ({"rope_theta": float("nan")}, "rope_theta"),
        ({"rms_norm_eps": 1.0}, "norm_epsilon"),
        ({"hidden_act": "gelu"}, "gelu"),
        ({"use_sliding_window": True}, "sliding"),
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "dynamic"),
        ({"rope_scaling": {"type": "yarn"}}, "factor"),
        ({"rope_scaling": {"type": "linear", "factor": 0}}, "factor"),
        ({"rope_scaling": [1]}, "rope_scaling"),
        ({"eos_token_id": "2"}, "eos_token_id"),
    ],
)
def test_a_config_that_cannot_be_computed_is_refused_by_name(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        from_hugging_face(QWEN_2_5 | changes)


def test_code_that_comes_with_a_checkpoint_is_refused() -> None:
    with pytest.raises(HostileInputError, match="auto_map"):
        from_hugging_face(QWEN_2_5 | {"auto_map": {"AutoModelForCausalLM": "modeling.Evil"}})


def test_an_error_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InputError, match=r"config\.json.*JSON"):
        read_config(tmp_path)
    with pytest.raises(InputError, match="No such file"):
        read_config(tmp_path / "missing")


def test_json_nested_too_deeply_is_an_error_and_no_crash(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("[" * 200_000)
    with pytest.raises(InputError, match="JSON"):
        read_config(tmp_path)


def test_defaults_of_a_constructed_config_are_checked() -> None:
    with pytest.raises(InputError, match="head_size"):
        ModelConfig(
            architecture="llama",
            vocab_size=1,
            hidden_size=1,
            intermediate_size=1,
            num_layers=1,
            num_heads=1,
            num_kv_heads=1,
            head_size=2**20,
            max_positions=1,
        )
