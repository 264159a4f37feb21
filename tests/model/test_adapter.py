import json
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
import transformers

from apprentice.core.errors import HostileInputError, InputError, InternalError
from apprentice.model import adapter, tensor_files, weights
from apprentice.model.adapter import LoraConfig, LoraLinear
from apprentice.model.transformer import Transformer

# peft 0.21 asks transformers 5.23 by a name that the latter calls deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")


def trained(model: Transformer, config: LoraConfig) -> Transformer:
    """With corrections that are no longer zero."""
    random = torch.Generator().manual_seed(9)
    adapter.attach(model, config, seed=1)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, LoraLinear):
                module.lora_B.normal_(0, 0.1, generator=random)
    return model


def tokens(model: Transformer) -> torch.Tensor:
    return (torch.arange(60) * 31 % model.config.vocab_size)[None]


@torch.no_grad()
def test_a_new_adapter_changes_nothing_and_trains_nothing_else(debug_model: Transformer) -> None:
    before = debug_model(tokens(debug_model))
    config = LoraConfig(rank=4)
    learning = adapter.attach(debug_model, config)
    assert torch.equal(debug_model(tokens(debug_model)), before)
    assert len(learning) == 2 * 7 * debug_model.config.num_layers
    assert not debug_model.embed_tokens.weight.requires_grad


@torch.no_grad()
def test_merged_logits_equal_those_of_the_adapter(model: Transformer) -> None:
    trained(model, LoraConfig(rank=4))
    before = model(tokens(model))
    adapter.merge(model)
    assert not any(isinstance(module, LoraLinear) for module in model.modules())
    assert torch.allclose(model(tokens(model)), before, atol=1e-4)
    assert all(parameter.requires_grad for parameter in model.parameters())


@torch.no_grad()
def test_peft_loads_our_adapter_and_computes_the_same(model: Transformer, tmp_path: Path) -> None:
    weights.save(model, tmp_path / "base")
    config = LoraConfig(rank=4, alpha=12, targets=("q_proj", "down_proj"))
    adapter.save(trained(model, config), config, tmp_path / "adapter", base=str(tmp_path / "base"))
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=torch.float32)
    theirs = peft.PeftModel.from_pretrained(theirs, tmp_path / "adapter")
    assert torch.allclose(theirs(tokens(model)).logits, model(tokens(model)), atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("rank_stabilized", [False, True])
def test_we_load_the_adapters_of_peft_and_compute_the_same(
    model: Transformer, rank_stabilized: bool, tmp_path: Path
) -> None:
    weights.save(model, tmp_path / "base")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=torch.float32)
    targets = ["v_proj", "up_proj"]
    theirs = peft.get_peft_model(
        theirs,
        peft.LoraConfig(
            r=4, lora_alpha=10, target_modules=targets, init_lora_weights=False, use_rslora=rank_stabilized
        ),
    )
    theirs.eval().save_pretrained(str(tmp_path / "adapter"))
    config = adapter.load(model, tmp_path / "adapter")
    assert set(config.targets) == set(targets)
    assert torch.allclose(model(tokens(model)), theirs(tokens(model)).logits, atol=1e-4)


@torch.no_grad()
def test_an_adapter_survives_the_way_to_disk_and_back(debug_model: Transformer, tmp_path: Path) -> None:
    weights.save(debug_model, tmp_path / "base")
    config = LoraConfig(rank=3, alpha=6, targets=("o_proj",))
    adapter.save(trained(debug_model, config), config, tmp_path / "adapter", card="# An adapter\n")
    again = weights.load(tmp_path / "base")
    assert adapter.load(again, tmp_path / "adapter") == config
    assert torch.equal(again(tokens(again)), debug_model(tokens(again)))


def test_a_model_with_an_adapter_is_not_saved_as_if_it_had_none(debug_model: Transformer, tmp_path: Path) -> None:
    adapter.attach(debug_model, LoraConfig())
    with pytest.raises(ValueError, match="not merged"):
        weights.save(debug_model, tmp_path)


def test_a_merge_that_changes_the_logits_is_our_mistake(debug_model: Transformer) -> None:
    trained(debug_model, LoraConfig(rank=4))
    with pytest.raises(InternalError, match="differ"):
        adapter.merge(debug_model, tolerance=-1.0)


def test_dropout_acts_in_training_only(debug_model: Transformer) -> None:
    trained(debug_model, LoraConfig(rank=4, dropout=0.5))
    debug_model.train()
    assert not torch.equal(debug_model(tokens(debug_model)), debug_model(tokens(debug_model)))
    debug_model.eval()
    assert torch.equal(debug_model(tokens(debug_model)), debug_model(tokens(debug_model)))


@pytest.fixture
def saved(debug_model: Transformer, tmp_path: Path) -> tuple[Path, Path]:
    """A base and an adapter for it, to be spoilt."""
    weights.save(debug_model, tmp_path / "base")
    config = LoraConfig(rank=4, targets=("q_proj",))
    adapter.save(trained(debug_model, config), config, tmp_path / "adapter")
    return tmp_path / "base", tmp_path / "adapter"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"peft_type": "IA3"}, "IA3"),
        ({"use_dora": True}, "use_dora"),
        ({"bias": "all"}, "bias"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"rank_pattern": {"q_proj": 2}}, "rank_pattern"),
        ({"init_lora_weights": "pissa"}, "pissa"),
        ({"r": 2**40}, "rank"),
        ({"r": -1}, "rank"),
        ({"r": "4"}, "number"),
        ({"lora_alpha": None}, "number"),
        ({"lora_alpha": float("inf")}, "alpha"),
        ({"r": 8}, r"q_proj.*shape"),
    ],
)
def test_an_adapter_that_asks_for_more_is_refused(
    saved: tuple[Path, Path], changes: dict[str, Any], message: str
) -> None:
    folder, spoilt = saved
    path = spoilt / adapter.CONFIG_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(InputError, match=message):
        adapter.load(weights.load(folder), spoilt)


def test_an_adapter_for_another_base_is_refused(saved: tuple[Path, Path]) -> None:
    folder, spoilt = saved
    name = "base_model.model.model.layers.77.self_attn.q_proj.lora_A.weight"
    tensor_files.write(spoilt / adapter.WEIGHTS_FILE, {name: ("F32", (4, 64))}, [np.zeros((4, 64), np.float32)])
    with pytest.raises(InputError, match="has no place"):
        adapter.load(weights.load(folder), spoilt)


def test_a_tensor_that_would_be_overlooked_is_refused(saved: tuple[Path, Path]) -> None:
    folder, spoilt = saved
    path = spoilt / adapter.WEIGHTS_FILE
    whole = tensor_files.TensorFile(path)
    arrays = {name: np.array(whole.array(name)) for name in whole.tensors}
    arrays["base_model.model.model.layers.0.self_attn.q_proj.lora_B.bias"] = np.zeros(64, np.float32)
    tensor_files.write(path, {name: ("F32", array.shape) for name, array in arrays.items()}, arrays.values())
    with pytest.raises(InputError, match="lora_B.bias"):
        adapter.load(weights.load(folder), spoilt)


def test_a_pickled_adapter_is_refused(saved: tuple[Path, Path]) -> None:
    folder, spoilt = saved
    (spoilt / adapter.WEIGHTS_FILE).rename(spoilt / "adapter_model.bin")
    with pytest.raises(HostileInputError, match="pickled"):
        adapter.load(weights.load(folder), spoilt)
