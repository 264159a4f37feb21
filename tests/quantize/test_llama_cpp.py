"""What we and llama.cpp make of the same bits, by its own Python package: `pip install gguf`, else skipped.

Its converter keeps the codes and scales of our folder as they are and puts them into blocks of its own; what is tested is that they
mean the same there. What its programs then compute is in docs/log.md."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from apprentice.engine.loader import Checkpoint
from apprentice.kernels import nvfp4
from apprentice.model.config import parameter_shapes
from apprentice.model.gguf import GgufFile
from apprentice.model.gguf_folder import gguf_name
from apprentice.quantize.convert import convert

gguf: Any = pytest.importorskip("gguf", reason="no llama.cpp: `pip install gguf`")
quants: Any = pytest.importorskip("gguf.quants")


def blocks_of_64(packed: nvfp4.Packed) -> np.ndarray:
    """As ggml's NVFP4 has it: four scales, then the codes of each 16, the first eight in the low halves of eight bytes."""
    rows, columns = packed.shape
    codes = np.stack([packed.codes & 15, packed.codes >> 4], axis=-1).reshape(rows, columns // 64, 4, 2, 8)
    halves = (codes[..., 0, :] | codes[..., 1, :] << 4).reshape(rows, columns // 64, 32)
    scales = packed.scales.reshape(rows, columns // 64, 4)
    return np.concatenate([scales, halves], axis=-1).reshape(rows, -1)


def write(path: Path, tensors: dict[str, tuple[np.ndarray, Any]], **metadata: Any) -> Path:
    writer = gguf.GGUFWriter(path, "llama")
    for key, value in metadata.items():
        add = {str: writer.add_string, int: writer.add_uint32, float: writer.add_float32, list: writer.add_array}[type(value)]
        add(key, value)
    for name, (data, kind) in tensors.items():
        writer.add_tensor(name, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_our_four_bits_are_the_same_numbers_in_a_file_of_llama_cpp(make_folder: Callable[..., Path], tmp_path: Path) -> None:
    convert(make_folder(), tmp_path / "quantized")
    checkpoint = Checkpoint(tmp_path / "quantized")
    names = [name for name in parameter_shapes(checkpoint.config) if checkpoint.is_packed(name)]
    packed: dict[str, nvfp4.Packed] = {}
    for name in names:
        one = checkpoint.packed(name)
        assert isinstance(one, nvfp4.Packed)
        packed[name] = one
    kind = gguf.GGMLQuantizationType.NVFP4
    file = write(tmp_path / "x.gguf", {gguf_name(name): (blocks_of_64(one), kind) for name, one in packed.items()})
    found = {tensor.name: tensor for tensor in gguf.GGUFReader(file).tensors}
    assert len(found) == len(names) == 14
    for name, one in packed.items():
        tensor = found[gguf_name(name)]
        assert tensor.shape.tolist()[::-1] == list(one.shape)
        # The divisor of a matrix is a tensor of its own there.
        values = quants.dequantize(tensor.data, tensor.tensor_type) / one.global_scale
        np.testing.assert_allclose(values, checkpoint.read(name), rtol=1e-6)
        assert len(np.unique(one.codes)) > 100


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"])
def test_a_file_that_llama_cpp_writes_is_read_as_it_reads_it(kind: str, tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(6, 96)).astype(np.float32)
    type_id = gguf.GGMLQuantizationType[kind]
    data = quants.quantize(values, type_id)
    ours = GgufFile(write(tmp_path / "x.gguf", {"blk.0.ffn_up.weight": (data, type_id)}, a="é", b=7, c=0.5, d=["x", "y"]))
    np.testing.assert_array_equal(ours.array("blk.0.ffn_up.weight"), quants.dequantize(data, type_id))
    assert {key: ours.metadata[key] for key in "abcd"} == {"a": "é", "b": 7, "c": 0.5, "d": ["x", "y"]}
    assert ours.metadata["general.architecture"] == "llama"
