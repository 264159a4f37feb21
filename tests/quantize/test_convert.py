"""Folders quantized to NVFP4: what is in them, and that compressed-tensors reads the same values."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from apprentice.core import files
from apprentice.core.errors import ConfigError, InputError, StorageError
from apprentice.core.fakes import FailingOperations
from apprentice.engine.loader import Checkpoint, load_weights
from apprentice.kernels import nvfp4
from apprentice.model import presets, tensor_files
from apprentice.model.config import parameter_shapes
from apprentice.quantize.calibration import Fitted, fit
from apprentice.quantize.convert import QuantizeConfig, convert

MakeFolder = Callable[..., Path]


def packed(folder: Path, name: str) -> nvfp4.Packed:
    found = tensor_files.open_folder(folder)
    codes, scales, divisor = (found[name + end].array(name + end) for end in ("_packed", "_scale", "_global_scale"))
    return nvfp4.Packed(codes, scales, np.float32(divisor[0]))


def original(folder: Path, name: str) -> np.ndarray:
    file = tensor_files.open_folder(folder)[name]
    return tensor_files.to_float32(file.array(name), file.tensors[name].dtype)


def test_every_linear_layer_is_packed_and_the_rest_is_bf16(make_folder: MakeFolder, tmp_path: Path) -> None:
    source, target = make_folder(), tmp_path / "quantized"
    report = convert(source, target)
    infos = {name: file.tensors[name] for name, file in tensor_files.open_folder(target).items()}
    for name, shape in parameter_shapes(presets.debug()).items():
        if name.endswith("_proj.weight"):
            assert infos[name + "_packed"].dtype == "U8"
            assert infos[name + "_packed"].shape == (shape[0], shape[1] // 2)
            assert infos[name + "_scale"].dtype == "F8_E4M3"
            assert infos[name + "_scale"].shape == (shape[0], shape[1] // 16)
            assert infos[name + "_global_scale"].shape == (1,)
            assert infos[name + "_global_scale"].dtype == "F32"
        else:
            assert infos[name].dtype == "BF16"
            rounded = tensor_files.to_float32(tensor_files.to_bfloat16(original(source, name)), "F32")
            np.testing.assert_array_equal(tensor_files.open_folder(target)[name].array(name), rounded)
    assert len(report.matrices) == 14
    assert sum(file.stat().st_size for file in target.glob("*.safetensors")) == pytest.approx(report.bytes_after, abs=8192)


def test_weights_come_back_within_the_error_that_the_report_states(make_folder: MakeFolder, tmp_path: Path) -> None:
    source, target = make_folder(), tmp_path / "quantized"
    report = convert(source, target)
    for matrix in report.matrices:
        weight = original(source, matrix.name + ".weight")
        lost = nvfp4.decode(packed(target, matrix.name + ".weight")) - weight
        assert matrix.relative_error == pytest.approx(np.linalg.norm(lost) / np.linalg.norm(weight), rel=1e-5)
        assert 0.05 < matrix.relative_error < 0.09
    assert report.relative_error < convert(source, tmp_path / "plain", QuantizeConfig(search=False)).relative_error


def test_fused_matrices_share_their_divisor(make_folder: MakeFolder, tmp_path: Path) -> None:
    source, target = make_folder(), tmp_path / "quantized"
    convert(source, target)
    at = "model.layers.1."
    for group in (("self_attn.q", "self_attn.k", "self_attn.v"), ("mlp.gate", "mlp.up")):
        divisors = {float(packed(target, f"{at}{name}_proj.weight").global_scale) for name in group}
        largest = max(float(np.abs(original(source, f"{at}{name}_proj.weight")).max()) for name in group)
        assert len(divisors) == 1
        assert divisors.pop() == pytest.approx(448 * 6 / largest)


def test_the_folder_is_complete(make_folder: MakeFolder, tmp_path: Path) -> None:
    source, target = make_folder(), tmp_path / "quantized"
    files.write_text(source / "README.md", "---\nlicense: apache-2.0\n---\n\nA card.\n")
    files.write_json(source / "generation_config.json", {"eos_token_id": 2})
    convert(source, target)
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        assert (target / name).read_bytes() == (source / name).read_bytes()
    card = (target / "README.md").read_text()
    assert card.startswith("---\nlicense: apache-2.0\n")
    assert "A card." in card
    config = json.loads((target / "config.json").read_text())
    assert config["quantization_config"]["format"] == "nvfp4-pack-quantized"
    assert config["quantization_config"]["ignore"] == ["lm_head"]
    assert config["dtype"] == "bfloat16"
    assert len(json.loads((target / "quantization_report.json").read_text())["matrices"]) == 14


def test_a_matrix_whose_width_is_no_multiple_of_16_stays_and_is_named(make_folder: MakeFolder, tmp_path: Path) -> None:
    target = tmp_path / "quantized"
    report = convert(make_folder(replace(presets.debug(), intermediate_size=40)), target)
    ignored = json.loads((target / "config.json").read_text())["quantization_config"]["ignore"]
    assert ignored == ["lm_head", "model.layers.0.mlp.down_proj", "model.layers.1.mlp.down_proj"]
    assert "model.layers.0.mlp.down_proj.weight" in report.kept
    assert "model.layers.0.mlp.down_proj.weight" in tensor_files.open_folder(target)


def test_equal_inputs_give_equal_files(make_folder: MakeFolder, tmp_path: Path) -> None:
    source = make_folder()
    for name in ("one", "two"):
        convert(source, tmp_path / name)
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "two").iterdir())
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_a_bf16_source_gives_what_its_values_in_float32_give(make_folder: MakeFolder, tmp_path: Path) -> None:
    source = make_folder(dtype="bfloat16")
    convert(source, tmp_path / "quantized")
    name = "model.layers.0.mlp.up_proj.weight"
    expected = nvfp4.encode(original(source, name), packed(tmp_path / "quantized", name).global_scale)
    np.testing.assert_array_equal(packed(tmp_path / "quantized", name).codes, expected.codes)


def test_a_fitted_matrix_is_taken_as_it_is(make_folder: MakeFolder, tmp_path: Path) -> None:
    source, name = make_folder(), "model.layers.0.mlp.up_proj"
    weight = original(source, name + ".weight")
    importance = np.where(np.arange(64) % 8 == 0, 100.0, 0.01).astype(np.float32)
    fitted = Fitted(nvfp4.encode(weight, importance_C=importance), squared_output_error=1.0, squared_outputs=4.0)
    convert(source, tmp_path / "plain")
    report = convert(source, tmp_path / "fitted", fitted={name: fitted})
    assert [matrix.output_error for matrix in report.matrices if matrix.name == name] == [0.5]
    np.testing.assert_array_equal(packed(tmp_path / "fitted", name + ".weight").codes, fitted.packed.codes)
    for other in ("model.layers.0.mlp.gate_proj.weight", "model.layers.1.mlp.up_proj.weight"):
        plain, kept = (packed(tmp_path / folder, other).codes for folder in ("plain", "fitted"))
        np.testing.assert_array_equal(plain, kept)


def test_weights_that_are_not_finite_are_refused_by_name(make_folder: MakeFolder, tmp_path: Path) -> None:
    source = make_folder()
    data = bytearray((source / "model.safetensors").read_bytes())
    name = "model.layers.1.mlp.gate_proj.weight"
    start = tensor_files.open_folder(source)[name].tensors[name].start
    data[start : start + 4] = np.float32(np.nan).tobytes()
    files.write_bytes(source / "model.safetensors", data)
    with pytest.raises(InputError, match=r"model\.safetensors: tensor `model\.layers\.1\.mlp\.gate_proj\.weight`: .*not finite"):
        convert(source, tmp_path / "quantized")


def test_a_quantized_source_is_refused(make_folder: MakeFolder, tmp_path: Path) -> None:
    convert(make_folder(), tmp_path / "quantized")
    with pytest.raises(InputError, match="already quantized"):
        convert(tmp_path / "quantized", tmp_path / "twice")


def test_scales_of_activations_are_those_of_the_text_and_the_layout_is_the_preset(
    make_folder: MakeFolder, tmp_path: Path
) -> None:
    source, target = make_folder(), tmp_path / "w4a4"
    fitted = fit(source, [list(range(20, 200))])
    convert(source, target, QuantizeConfig(activations=True), fitted=fitted)
    scales = load_weights(target).input_scales
    assert set(scales) == set(fitted)
    assert scales["model.layers.1.mlp.up_proj"] == scales["model.layers.1.mlp.gate_proj"]
    for name, one in fitted.items():
        assert scales[name] == pytest.approx(448 * 6 / one.largest_input)
    quantization = pytest.importorskip("compressed_tensors.quantization", exc_type=ImportError)
    config = json.loads((target / "config.json").read_text())["quantization_config"]
    found = quantization.QuantizationConfig.model_validate(config).config_groups["group_0"]
    preset = quantization.preset_name_to_scheme("NVFP4", ["Linear"])
    for part in ("weights", "input_activations"):
        for key in ("num_bits", "type", "symmetric", "group_size", "strategy", "dynamic"):
            assert getattr(getattr(found, part), key) == getattr(getattr(preset, part), key), key
    with pytest.raises(ConfigError, match="scales taken from text"):
        convert(source, tmp_path / "other", QuantizeConfig(activations=True))


def test_every_failing_write_names_the_file(make_folder: MakeFolder, tmp_path: Path) -> None:
    source = make_folder()
    counted = FailingOperations(0, errno.ENOSPC)
    with files.using(counted):
        convert(source, tmp_path / "counted")
    assert len(counted.performed) > 10
    for number in range(1, len(counted.performed) + 1, 3):
        with files.using(FailingOperations(number, errno.ENOSPC)), pytest.raises(StorageError, match="cannot"):
            convert(source, tmp_path / f"failing-{number}")


@pytest.mark.parametrize("name", ["nvfp4", "mxfp4"])
def test_compressed_tensors_reads_the_same_values(
    name: Literal["nvfp4", "mxfp4"], make_folder: MakeFolder, tmp_path: Path
) -> None:
    compressors = pytest.importorskip(f"compressed_tensors.compressors.{name}", exc_type=ImportError)
    quantization = pytest.importorskip("compressed_tensors.quantization", exc_type=ImportError)
    torch = pytest.importorskip("torch")
    from safetensors import safe_open

    target = tmp_path / "quantized"
    convert(make_folder(), target, QuantizeConfig(format=name))
    config = json.loads((target / "config.json").read_text())["quantization_config"]
    compressor = getattr(compressors, f"{name.upper()}PackedCompressor")
    reader = Checkpoint(target)
    scheme = quantization.QuantizationConfig.model_validate(config).config_groups["group_0"]
    compared = 0
    with safe_open(target / "model.safetensors", "pt") as opened:
        for key in opened.keys():  # noqa: SIM118 - not a dict
            if key.endswith(".weight_packed"):
                module = key.removesuffix("weight_packed")
                state = {part: opened.get_tensor(module + part) for part in compressor.compression_param_names(scheme)}
                theirs = compressor.decompress(state, scheme)["weight"]
                ours = torch.from_numpy(reader.read(module + "weight")).to(theirs.dtype)
                assert torch.equal(ours, theirs)
                compared += 1
    assert compared == 14


@pytest.mark.parametrize("value", [np.nan, 3.4e38])
def test_values_that_16_bits_cannot_hold_are_refused_by_name(make_folder: MakeFolder, tmp_path: Path, value: float) -> None:
    source = make_folder()
    data = bytearray((source / "model.safetensors").read_bytes())
    start = tensor_files.open_folder(source)["model.embed_tokens.weight"].tensors["model.embed_tokens.weight"].start
    data[start : start + 4] = np.float32(value).tobytes()
    files.write_bytes(source / "model.safetensors", data)
    with pytest.raises(InputError, match=r"model\.safetensors: tensor `model\.embed_tokens\.weight`.*finite"):
        convert(source, tmp_path / "quantized")
