"""Checkpoints of the three families, in and out, against transformers."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from apprentice.core.errors import HostileInputError, InputError
from apprentice.core.fakes import FailingOperations
from apprentice.core.files import using
from apprentice.model import tensor_files, weights
from apprentice.model.transformer import Transformer

transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()


def tokens(length: int, vocab_size: int, rows: int = 2) -> torch.Tensor:
    return torch.randint(0, vocab_size, (rows, length), generator=torch.Generator().manual_seed(5))


@torch.no_grad()
def logits_of_transformers(folder: Path, tokens_BT: torch.Tensor) -> torch.Tensor:
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return theirs(tokens_BT).logits


@torch.no_grad()
def test_logits_of_checkpoints_written_by_transformers_are_equal(settings: dict[str, Any], tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.for_model(**settings)).eval()
    for name, parameter in theirs.named_parameters():
        torch.nn.init.normal_(parameter, 1.0 if "norm" in name else 0.0, 0.1)
    theirs.save_pretrained(tmp_path)
    tokens_BT = tokens(200, settings["vocab_size"])
    ours = weights.load(tmp_path)
    assert (ours(tokens_BT) - theirs(tokens_BT).logits).abs().max() < 1e-4


@torch.no_grad()
def test_checkpoints_written_by_us_are_read_by_transformers(model: Transformer, tmp_path: Path) -> None:
    weights.save(model, tmp_path, card="# A model\n")
    tokens_BT = tokens(100, model.config.vocab_size)
    assert (logits_of_transformers(tmp_path, tokens_BT) - model(tokens_BT)).abs().max() < 1e-4
    assert (tmp_path / "README.md").read_text() == "# A model\n"


@torch.no_grad()
def test_logits_of_the_real_base_are_those_of_transformers(real_base: Path) -> None:
    text = Path(weights.__file__).read_text()
    from apprentice.text.tokenizer import Tokenizer

    tokens_BT = torch.tensor([Tokenizer.load(real_base).encode(text)[:300]])
    assert (weights.load(real_base)(tokens_BT) - logits_of_transformers(real_base, tokens_BT)).abs().max() < 1e-4


def test_weights_survive_the_way_to_disk_and_back_bit_for_bit(model: Transformer, tmp_path: Path) -> None:
    weights.save(model, tmp_path)
    loaded = weights.load(tmp_path)
    assert loaded.config == model.config
    for (name, a), (other, b) in zip(model.named_parameters(), loaded.named_parameters(), strict=True):
        assert name == other
        assert torch.equal(a, b), name


def test_bfloat16_halves_the_file_and_keeps_what_bfloat16_holds(debug_model: Transformer, tmp_path: Path) -> None:
    weights.save(debug_model, tmp_path / "full")
    weights.save(debug_model, tmp_path / "half", dtype="bfloat16")
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("full", "half")]
    assert sizes[1] < 0.52 * sizes[0]
    for a, b in zip(debug_model.parameters(), weights.load(tmp_path / "half").parameters(), strict=True):
        assert torch.equal(a.bfloat16(), b.bfloat16())
    assert json.loads((tmp_path / "half" / "config.json").read_text())["dtype"] == "bfloat16"


def test_a_tied_head_stays_tied(checkpoint: Path) -> None:
    model = weights.load(checkpoint)
    assert model.lm_head.weight is model.embed_tokens.weight


def test_the_tokenizer_goes_with_the_weights(debug_model: Transformer, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "tokenizer.json").write_text("{}")
    (source / "pytorch_model.bin").write_text("not wanted")
    weights.save(debug_model, tmp_path / "out", tokenizer_folder=source)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ]


def test_a_tensor_of_another_shape_is_refused(checkpoint: Path, change_config: Callable[..., None]) -> None:
    change_config(intermediate_size=208)
    with pytest.raises(HostileInputError, match=r"mlp\.gate_proj\.weight` has shape \(192, 64\)"):
        weights.load(checkpoint)


def test_a_missing_tensor_is_named(checkpoint: Path, change_config: Callable[..., None]) -> None:
    change_config(num_hidden_layers=3)
    with pytest.raises(InputError, match=r"model\.layers\.2\..* is missing"):
        weights.load(checkpoint)


def test_a_surplus_tensor_is_named(checkpoint: Path, change_config: Callable[..., None]) -> None:
    change_config(num_hidden_layers=1)
    with pytest.raises(InputError, match=r"model\.layers\.1\..* is unknown"):
        weights.load(checkpoint)


def test_tensors_of_older_exports_are_passed_over(checkpoint: Path) -> None:
    path = checkpoint / "model.safetensors"
    whole = tensor_files.TensorFile(path)
    arrays = {name: np.array(whole.array(name)) for name in whole.tensors}
    arrays |= {
        "model.layers.0.self_attn.rotary_emb.inv_freq": np.zeros(8, np.float32),
        "lm_head.weight": arrays["model.embed_tokens.weight"],
    }
    tensor_files.write(path, {name: ("F32", array.shape) for name, array in arrays.items()}, arrays.values())
    weights.load(checkpoint)


def test_a_config_that_asks_for_a_terabyte_is_held_against_the_file_first(
    checkpoint: Path, change_config: Callable[..., None]
) -> None:
    change_config(vocab_size=2**22, hidden_size=2**16)
    with pytest.raises(HostileInputError, match="embed_tokens"):
        weights.load(checkpoint)


def test_weights_of_a_type_without_values_are_refused(checkpoint: Path) -> None:
    path = checkpoint / "model.safetensors"
    whole = tensor_files.TensorFile(path)
    infos = {name: ("U8", info.shape) for name, info in whole.tensors.items()}
    tensor_files.write(path, infos, (np.zeros(shape, np.uint8) for _, shape in infos.values()))
    with pytest.raises(InputError, match="U8"):
        weights.load(checkpoint)


def test_a_failing_disk_leaves_the_old_checkpoint_whole(debug_model: Transformer, checkpoint: Path) -> None:
    before = {path.name: path.read_bytes() for path in checkpoint.iterdir()}
    from apprentice.core.errors import StorageError

    with torch.no_grad():
        debug_model.norm.weight.add_(1)
    counting = FailingOperations(0, 28)
    with using(counting):
        weights.save(debug_model, checkpoint)
    weights.save(weights.load(checkpoint), checkpoint)
    num_operations = len(counting.performed)
    for path in checkpoint.iterdir():
        path.write_bytes(before[path.name])
    for number in range(1, num_operations + 1):
        with using(FailingOperations(number, 28)), pytest.raises(StorageError):
            weights.save(debug_model, checkpoint)
        weights.load(checkpoint)
        assert not [path for path in checkpoint.iterdir() if path.name not in before]
