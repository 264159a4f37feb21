import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from apprentice.core.errors import HostileInputError, InputError
from apprentice.model import tensor_files
from apprentice.model.tensor_files import TensorFile, open_folder, to_bfloat16, to_float32

ENTRY = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}


def raw(path: Path, header: Any, data: bytes = bytes(24), length: int | None = None) -> Path:
    encoded = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(encoded) if length is None else length) + encoded + data)
    return path


def test_what_is_written_is_read_by_the_reference_and_by_us(tmp_path: Path) -> None:
    arrays = {
        "b": np.arange(6, dtype=np.float32).reshape(2, 3),
        "a": np.arange(3, dtype=np.int64),
        "empty": np.empty((0, 4), np.float32),
    }
    kinds = {"b": "F32", "a": "I64", "empty": "F32"}
    path = tmp_path / "x.safetensors"
    tensor_files.write(
        path, {name: (kinds[name], arrays[name].shape) for name in arrays}, arrays.values(), {"made": "here"}
    )
    theirs, ours = safetensors.numpy.load_file(path), TensorFile(path)
    for name, array in arrays.items():
        assert np.array_equal(theirs[name], array)
        assert np.array_equal(ours.array(name), array)
    assert ours.metadata == {"format": "pt", "made": "here"}


def test_files_of_the_reference_are_read(tmp_path: Path) -> None:
    safetensors.numpy.save_file({"x": np.array([1.5, -2.0], np.float16)}, tmp_path / "x.safetensors")
    file = TensorFile(tmp_path / "x.safetensors")
    assert to_float32(file.array("x"), file.tensors["x"].dtype).tolist() == [1.5, -2.0]


@pytest.mark.parametrize(
    "entry",
    [
        ENTRY | {"shape": [2, 4]},
        ENTRY | {"data_offsets": [0, 2**40], "shape": [2**38]},
        ENTRY | {"shape": [2**62, 2**62]},
        ENTRY | {"shape": [-2, -3]},
        ENTRY | {"shape": [2.0, 3]},
        ENTRY | {"shape": [True, 6]},
        ENTRY | {"shape": [1] * 20 + [6]},
        ENTRY | {"data_offsets": [24, 0]},
        ENTRY | {"data_offsets": [-24, 0]},
        ENTRY | {"data_offsets": [0]},
        ENTRY | {"shape": 6},
        ENTRY | {"shape": "ab"},
        {"dtype": "F32"},
        ENTRY | {"dtype": ["F32"]},
        ENTRY | {"dtype": {}},
        [],
        None,
    ],
)
def test_a_header_that_contradicts_itself_or_the_file_is_refused(tmp_path: Path, entry: Any) -> None:
    with pytest.raises(HostileInputError, match=r"x\.safetensors.*`w`"):
        TensorFile(raw(tmp_path / "x.safetensors", {"w": entry}))


def test_overlapping_tensors_are_refused(tmp_path: Path) -> None:
    with pytest.raises(HostileInputError, match="overlaps"):
        TensorFile(raw(tmp_path / "x.safetensors", {"a": ENTRY, "b": ENTRY | {"data_offsets": [12, 24], "shape": [3]}}))


def test_an_unknown_type_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Q9"):
        TensorFile(raw(tmp_path / "x.safetensors", {"a": ENTRY | {"dtype": "Q9"}}))


@pytest.mark.parametrize("length", [0, 1, 10**6, 2**63])
def test_a_header_length_beyond_the_file_is_refused(tmp_path: Path, length: int) -> None:
    with pytest.raises(HostileInputError, match="header"):
        TensorFile(raw(tmp_path / "x.safetensors", {"w": ENTRY}, length=length))


@pytest.mark.parametrize("header", [b"{", b"[]", b"\xff\xff", b"[" * 100_000])
def test_a_header_that_is_no_object_is_refused(tmp_path: Path, header: bytes) -> None:
    with pytest.raises(HostileInputError, match="header"):
        TensorFile(raw(tmp_path / "x.safetensors", header))


@pytest.mark.parametrize("content", [b"", b"abc"])
def test_a_file_too_short_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(HostileInputError, match="not a safetensors file"):
        TensorFile(tmp_path / "x.safetensors")


def test_shards_are_found_through_their_index(tmp_path: Path) -> None:
    one, two = {"a": ("F32", (2,))}, {"b": ("F32", (2,))}
    assert list(tensor_files.shards(one | two, 8)) == [one, two]
    assert list(tensor_files.shards(one | two, 100)) == [one | two]
    tensor_files.write(tmp_path / "1.safetensors", one, [np.array([1, 2], np.float32)])
    tensor_files.write(tmp_path / "2.safetensors", two, [np.array([3, 4], np.float32)])
    (tmp_path / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}})
    )
    found = open_folder(tmp_path)
    assert found["b"].array("b").tolist() == [3, 4]


@pytest.mark.parametrize("name", ["../x.safetensors", "/etc/passwd", "model.bin", "a/b.safetensors"])
def test_a_shard_outside_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(HostileInputError, match="beside the index"):
        open_folder(tmp_path)


def test_pickled_weights_are_refused_and_not_read(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(HostileInputError, match="pickled"):
        open_folder(tmp_path)


def test_a_folder_without_weights_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no `model\.safetensors`"):
        open_folder(tmp_path)


def test_bfloat16_rounds_to_nearest_even_and_keeps_nan() -> None:
    values = np.array([1.0, 1.00390625, 1.01171875, -3.3e38, np.inf, np.nan, 1e-40], np.float32)
    back = to_float32(to_bfloat16(values), "BF16")
    assert back[:3].tolist() == [1.0, 1.0, 1.015625]
    assert back[4] == np.inf
    assert np.isnan(back[5])
