"""Checkpoints in, float32 out; hostile ones refused with the file and the tensor named, before anything is allocated."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from apprentice.core import files
from apprentice.core.errors import HostileInputError, InputError
from apprentice.engine.loader import load_weights, needed_bytes
from apprentice.kernels import mxfp4, nvfp4
from apprentice.model import presets, tensor_files
from apprentice.quantize.calibration import fit
from apprentice.quantize.convert import QuantizeConfig, convert

MakeFolder = Callable[..., Path]

UP = "model.layers.0.mlp.up_proj.weight"


@pytest.fixture
def quantized(make_folder: MakeFolder, tmp_path: Path) -> Path:
    convert(make_folder(replace(presets.debug(), tie_embeddings=False)), tmp_path / "quantized")
    return tmp_path / "quantized"


def tensor(folder: Path, name: str) -> np.ndarray:
    file = tensor_files.open_folder(folder)[name]
    return tensor_files.to_float32(file.array(name), file.tensors[name].dtype)


def rewrite(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Changes the header of the weights and leaves the data."""
    path = folder / "model.safetensors"
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    change(header)
    encoded = json.dumps(header).encode()
    files.write_bytes(path, struct.pack("<Q", len(encoded)) + encoded + data[8 + length :])


def poke(folder: Path, name: str, value: bytes, at: int = 0) -> None:
    """Overwrites bytes of a tensor."""
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    start = tensor_files.open_folder(folder)[name].tensors[name].start + at
    data[start : start + len(value)] = value
    files.write_bytes(path, data)


def change_config(folder: Path, **changes: Any) -> None:
    files.write_json(folder / "config.json", json.loads((folder / "config.json").read_text()) | changes)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_plain_folders_are_read_exactly(dtype: str, make_folder: MakeFolder) -> None:
    folder = make_folder(dtype=dtype)
    weights = load_weights(folder)
    layer = weights.layers[1]
    qkv = [tensor(folder, f"model.layers.1.self_attn.{name}_proj.weight") for name in "qkv"]
    np.testing.assert_array_equal(layer.qkv_OD, np.concatenate(qkv))
    np.testing.assert_array_equal(layer.down_DF, tensor(folder, "model.layers.1.mlp.down_proj.weight"))
    np.testing.assert_array_equal(weights.embedding_VD, tensor(folder, "model.embed_tokens.weight"))
    assert weights.head_VD is weights.embedding_VD
    assert layer.qkv_bias_O is None


def test_quantized_folders_are_widened_exactly(quantized: Path) -> None:
    weights = load_weights(quantized)
    found = tensor_files.open_folder(quantized)
    parts = []
    for name in ("model.layers.0.mlp.gate_proj.weight", UP):
        codes, scales, divisor = (found[name + end].array(name + end) for end in ("_packed", "_scale", "_global_scale"))
        parts.append(nvfp4.decode(nvfp4.Packed(codes, scales, np.float32(divisor[0]))))
    np.testing.assert_array_equal(weights.layers[0].gate_up_FD, np.concatenate(parts))
    np.testing.assert_array_equal(weights.head_VD, tensor(quantized, "lm_head.weight"))


def test_mxfp4_is_widened_exactly_and_its_nan_refused(make_folder: MakeFolder, tmp_path: Path) -> None:
    folder = tmp_path / "mxfp4"
    convert(make_folder(), folder, QuantizeConfig(format="mxfp4"))
    found = tensor_files.open_folder(folder)
    assert UP + "_global_scale" not in found
    gate, up = ("model.layers.0.mlp.gate_proj.weight", UP)
    stored = [[found[name + end].array(name + end) for end in ("_packed", "_scale")] for name in (gate, up)]
    decoded = np.concatenate([mxfp4.decode(mxfp4.Packed(codes, scales)) for codes, scales in stored])
    np.testing.assert_array_equal(load_weights(folder).layers[0].gate_up_FD, decoded)
    poke(folder, UP + "_scale", b"\xff", at=3)
    with pytest.raises(HostileInputError, match=r"up_proj\.weight_scale` has scales that are NaN"):
        load_weights(folder)


def test_a_model_that_does_not_fit_is_refused_with_its_need(make_folder: MakeFolder) -> None:
    folder = make_folder()
    need = needed_bytes(presets.debug())
    load_weights(folder, memory_bytes=need)
    with pytest.raises(InputError, match=r"needs 0\.3 GiB of memory in float32, 0\.2 GiB are free"):
        load_weights(folder, memory_bytes=need - 30 * 2**20)


def test_a_shape_that_would_fill_the_memory_is_refused_before_it_is_allocated(quantized: Path) -> None:
    change_config(quantized, vocab_size=2**22, hidden_size=2**17, num_attention_heads=2**10)
    with pytest.raises(HostileInputError, match=r"tensor `model\.embed_tokens\.weight` has shape"):
        load_weights(quantized)


HOSTILE_HEADERS: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "missing scale": (lambda header: header.pop(UP + "_scale"), "_scale` is missing"),
    "missing divisor": (lambda header: header.pop(UP + "_global_scale"), "_global_scale` is missing"),
    "missing norm": (lambda header: header.pop("model.norm.weight"), r"model\.norm\.weight` is missing"),
    "missing matrix": (lambda header: header.pop(UP + "_packed"), "up_proj.weight` is missing"),
    "past the end": (lambda header: header[UP + "_packed"].update(data_offsets=[0, 2**40]), "does not fit"),
    "huge shape": (lambda header: header[UP + "_packed"].update(shape=[2**62, 2**62]), "does not fit"),
    "negative": (lambda header: header[UP + "_packed"].update(shape=[-192, -32]), "no list of whole numbers"),
    "bytes": (lambda header: header[UP + "_packed"].update(shape=[192, 31]), "does not fit"),
    "swapped shape": (lambda header: header[UP + "_packed"].update(shape=[32, 192]), r"has shape \(32, 192\)"),
    "signed codes": (lambda header: header[UP + "_packed"].update(dtype="I8"), "has type I8, not U8"),
    "plain scales": (lambda header: header[UP + "_scale"].update(dtype="U8"), "has type U8, not F8_E4M3"),
    "whole divisor": (lambda header: header[UP + "_global_scale"].update(dtype="I32"), "has type I32, not F32"),
    "overlap": (
        lambda header: header[UP + "_packed"].update(data_offsets=[x + 16 for x in header[UP + "_packed"]["data_offsets"]]),
        "overlaps",
    ),
    "surplus": (lambda header: header.update({"model.extra": header.pop("__metadata__") and _empty()}), "unknown to this engine"),
}  # fmt: skip


def _empty() -> dict[str, Any]:
    return {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}


@pytest.mark.parametrize("case", HOSTILE_HEADERS)
def test_a_hostile_header_is_refused_by_file_and_tensor(case: str, quantized: Path) -> None:
    change, message = HOSTILE_HEADERS[case]
    rewrite(quantized, change)
    with pytest.raises(InputError, match=message) as caught:
        load_weights(quantized)
    assert str(quantized) in caught.value.message


@pytest.mark.parametrize("code", [0x7F, 0xFF])
def test_scales_that_are_nan_are_refused(code: int, quantized: Path) -> None:
    poke(quantized, UP + "_scale", bytes([code]), at=77)
    with pytest.raises(HostileInputError, match=r"model\.safetensors: tensor `.*up_proj\.weight_scale` has scales that are NaN"):
        load_weights(quantized)


@pytest.mark.parametrize("divisor", [0.0, -1.0, np.nan, np.inf, 1e-40])
def test_divisors_that_give_no_finite_weights_are_refused(divisor: float, quantized: Path) -> None:
    poke(quantized, UP + "_global_scale", np.float32(divisor).tobytes())
    with pytest.raises(HostileInputError, match=r"weight_global_scale` is .*, no usable divisor"):
        load_weights(quantized)


@pytest.mark.parametrize("divisor", [0.0, -1.0, np.nan, np.inf])
def test_scales_of_activations_that_are_no_divisors_are_refused(
    divisor: float, make_folder: MakeFolder, tmp_path: Path
) -> None:
    source = make_folder()
    convert(source, tmp_path / "w4a4", QuantizeConfig(activations=True), fitted=fit(source, [list(range(99))]))
    poke(tmp_path / "w4a4", UP.replace("weight", "input_global_scale"), np.float32(divisor).tobytes())
    with pytest.raises(HostileInputError, match=r"up_proj\.input_global_scale` is .*, no usable divisor"):
        load_weights(tmp_path / "w4a4")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_plain_values_that_are_not_finite_are_refused(value: float, make_folder: MakeFolder) -> None:
    folder = make_folder()
    poke(folder, UP, np.float32(value).tobytes(), at=400)
    with pytest.raises(HostileInputError, match=r"up_proj\.weight` has values that are not finite"):
        load_weights(folder)


def test_large_finite_values_are_no_mistake(make_folder: MakeFolder) -> None:
    folder = make_folder()
    poke(folder, UP, np.array([3e38, 3e38, 3e38], np.float32).tobytes())
    assert load_weights(folder).layers[0].gate_up_FD[192, 0] == np.float32(3e38)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "gpt_bigcode"}, "architecture 'gpt_bigcode' is not supported"),
        ({"auto_map": {"AutoModel": "evil.Model"}}, "auto_map"),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantization 'gptq' is not supported"),
        ({"quantization_config": {"format": "pack-quantized"}}, "'pack-quantized' is not supported"),
        ({"quantization_config": [1]}, "not supported"),
        ({"num_hidden_layers": 3}, r"model\.layers\.2\..* is missing"),
        ({"num_hidden_layers": 1}, "unknown to this engine"),
        ({"num_hidden_layers": 10**9}, "num_layers"),
        ({"num_attention_heads": 3}, "does not divide|has shape"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(changes: dict[str, Any], message: str, quantized: Path) -> None:
    change_config(quantized, **changes)
    with pytest.raises(InputError, match=message):
        load_weights(quantized)


def test_pickled_weights_are_never_opened(make_folder: MakeFolder) -> None:
    folder = make_folder()
    files.rename(folder / "model.safetensors", folder / "pytorch_model.bin")
    with pytest.raises(HostileInputError, match="pickled"):
        load_weights(folder)


def test_a_thousand_damaged_files_are_read_or_refused_and_nothing_else(quantized: Path) -> None:
    """Bytes of the header and of the numbers behind it changed at random."""
    path = quantized / "model.safetensors"
    sound = path.read_bytes()
    header_end = 8 + struct.unpack("<Q", sound[:8])[0]
    random = np.random.default_rng(0)
    refusals = []
    for _ in range(1000):
        data = bytearray(sound)
        for place in random.integers(0, header_end, random.integers(1, 4)):
            data[place] = random.integers(0, 256)
        path.write_bytes(data)
        try:
            load_weights(quantized)
        except InputError as error:
            refusals.append(error.message)
    assert len(refusals) > 900
    assert all(str(quantized) in message for message in refusals)


def test_a_file_cut_short_is_refused(quantized: Path) -> None:
    path = quantized / "model.safetensors"
    data = path.read_bytes()
    for size in (0, 4, 8, 100, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:size])
        with pytest.raises(HostileInputError, match="safetensors"):
            load_weights(quantized)
