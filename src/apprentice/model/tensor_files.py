"""safetensors files, read and written without torch and without trusting them.

    file --TensorFile--> names, shapes --array()--> numpy view of the mapped file
    (name, array) one by one --write()--> file

A header is data from outside. Before anything is allocated its length is held against the file's size, and each
tensor's shape times the size of its type against the bytes it claims, and those against the file and each other. A
tensor is then a view of the memory-mapped file: nothing is copied until it is used.

BF16 has no numpy type: such tensors come as uint16 with `dtype` saying so; `to_float32` widens them.
Format: https://github.com/huggingface/safetensors (8 bytes length, JSON header, data).
"""

from __future__ import annotations

import json
import mmap
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from apprentice.core import files
from apprentice.core.errors import DAMAGED_HINT, HostileInputError, InputError
from apprentice.model.config import read_json

MAX_HEADER_BYTES = 100 * 2**20
"""The bound of the reference implementation."""
MAX_DIMENSIONS = 8

DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "U8": np.dtype(np.uint8),
    "I8": np.dtype(np.int8),
    "F8_E4M3": np.dtype(np.uint8),
    "F8_E5M2": np.dtype(np.uint8),
    "I16": np.dtype("<i2"),
    "U16": np.dtype("<u2"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
    "I32": np.dtype("<i4"),
    "U32": np.dtype("<u4"),
    "F32": np.dtype("<f4"),
    "I64": np.dtype("<i8"),
    "U64": np.dtype("<u8"),
    "F64": np.dtype("<f8"),
}
"""numpy's carrier of each type; types without a numpy equivalent are carried by unsigned integers of their size."""


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Where a tensor lies in its file."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    """Byte in the file."""
    end: int


class TensorFile:
    """One safetensors file, checked and mapped into memory."""

    def __init__(self, path: Path) -> None:
        """Raises: InputError where the file cannot be read, HostileInputError where it contradicts itself."""
        self.path = path
        try:
            with path.open("rb") as stream:
                size = path.stat().st_size
                self.tensors, self.metadata = _read_header(path, stream.read(8), size, stream.read)
                self._map = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as error:
            raise InputError(f"{path}: {error.strerror}", hint="is this a Hugging Face model folder?") from None

    def array(self, name: str) -> np.ndarray:
        """A read-only view of the tensor, in numpy's carrier of its type."""
        info = self.tensors[name]
        count = (info.end - info.start) // DTYPES[info.dtype].itemsize
        if count == 0:
            return np.empty(info.shape, DTYPES[info.dtype])
        return np.frombuffer(self._map, DTYPES[info.dtype], count, info.start).reshape(info.shape)


def open_folder(folder: Path) -> dict[str, TensorFile]:
    """For each tensor of a Hugging Face folder, the file that holds it.

    Raises: InputError where there are no weights, HostileInputError where they could only be unpickled."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        return _open_shards(folder, index)
    if (folder / "model.safetensors").is_file():
        whole = TensorFile(folder / "model.safetensors")
        return dict.fromkeys(whole.tensors, whole)
    pickles = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth") for path in folder.glob(pattern))
    if pickles:
        raise HostileInputError(
            f"{folder}: only pickled weights ({pickles[0]}); unpickling can run any code, so they are not read",
            hint="take a checkpoint with `model.safetensors`, or let its publisher convert it",
        )
    raise InputError(
        f"{folder}: no `model.safetensors`", hint="give a Hugging Face model folder with safetensors weights"
    )


def check_shapes(found: Mapping[str, TensorFile], wanted: Mapping[str, tuple[int, ...]], where: Path) -> None:
    """All wanted tensors are there in their shapes. Raises: InputError naming the first that is not."""
    for name, shape in wanted.items():
        if name not in found:
            raise InputError(
                f"{where}: tensor `{name}` is missing", hint="the checkpoint is incomplete; fetch it again"
            )
        actual = found[name].tensors[name].shape
        if actual != shape:
            raise HostileInputError(
                f"{where}: tensor `{name}` has shape {actual}, config.json asks for {shape}", hint=DAMAGED_HINT
            )


def to_float32(array: np.ndarray, dtype: str) -> np.ndarray:
    """Values of a floating-point tensor as float32. Raises: InputError for other types."""
    if dtype == "F32":
        return array
    if dtype == "BF16":
        return (array.astype(np.uint32) << 16).view(np.float32)
    if dtype in ("F16", "F64"):
        return array.astype(np.float32)
    raise InputError(f"weights of type {dtype} are not supported here", hint="F32, BF16 and F16 are")


def to_bfloat16(array: np.ndarray) -> np.ndarray:
    """float32 -> the uint16 carrier of BF16, rounded to nearest even; NaN stays NaN."""
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return np.where(np.isnan(array), np.uint16(0x7FC0), rounded)


def write(
    path: Path,
    infos: Mapping[str, tuple[str, tuple[int, ...]]],
    arrays: Iterable[np.ndarray],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Writes tensors in the given order, one in memory at a time. infos: name -> (dtype, shape)."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt", **(metadata or {})}}
    at = 0
    for name, (dtype, shape) in infos.items():
        end = at + _num_bytes(dtype, shape)
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, end]}
        at = end
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    with files.open_write(path) as stream:
        stream.write(struct.pack("<Q", len(encoded)) + encoded)
        for (name, (dtype, shape)), array in zip(infos.items(), arrays, strict=True):
            if array.shape != shape or array.dtype != DTYPES[dtype]:
                raise ValueError(f"{name}: {array.dtype} {array.shape} was announced as {dtype} {shape}")
            stream.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)


def shards(
    infos: Mapping[str, tuple[str, tuple[int, ...]]], max_bytes: int
) -> Iterator[dict[str, tuple[str, tuple[int, ...]]]]:
    """Cuts tensors, in order, into files of at most `max_bytes` (or one tensor)."""
    shard: dict[str, tuple[str, tuple[int, ...]]] = {}
    filled = 0
    for name, (dtype, shape) in infos.items():
        size = _num_bytes(dtype, shape)
        if shard and filled + size > max_bytes:
            yield shard
            shard = {}
            filled = 0
        shard[name] = (dtype, shape)
        filled += size
    yield shard


def _read_header(path: Path, first: bytes, size: int, read: Any) -> tuple[dict[str, TensorInfo], dict[str, str]]:
    length = struct.unpack("<Q", first)[0] if len(first) == 8 else 0
    if not 2 <= length <= min(size - 8, MAX_HEADER_BYTES):
        raise HostileInputError(
            f"{path}: not a safetensors file (header of {length} bytes in a file of {size})", hint=DAMAGED_HINT
        )
    try:
        header = json.loads(read(length))
    except (ValueError, RecursionError):
        raise HostileInputError(f"{path}: the header is not valid JSON", hint=DAMAGED_HINT) from None
    if not isinstance(header, dict):
        raise HostileInputError(f"{path}: the header is not a JSON object", hint=DAMAGED_HINT)
    metadata = header.pop("__metadata__", {})
    tensors = {name: _info(path, name, entry, 8 + length, size) for name, entry in header.items()}
    at = 8 + length
    for name, info in sorted(tensors.items(), key=lambda item: (item[1].start, item[1].end)):
        if info.start < at:
            raise HostileInputError(f"{path}: tensor `{name}` overlaps another", hint=DAMAGED_HINT)
        at = info.end
    return tensors, metadata if isinstance(metadata, dict) else {}


def _info(path: Path, name: str, entry: Any, data_start: int, size: int) -> TensorInfo:
    try:
        dtype, shape, (start, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        numbers, is_known = [*shape, start, end], dtype in DTYPES
    except (KeyError, TypeError, ValueError):
        raise HostileInputError(f"{path}: the entry of tensor `{name:.80}` is malformed", hint=DAMAGED_HINT) from None
    if not is_known:
        raise InputError(f"{path}: tensor `{name:.80}` has the unknown type {dtype!r:.40}", hint=DAMAGED_HINT)
    if any(isinstance(x, bool) or not isinstance(x, int) or x < 0 for x in numbers) or len(shape) > MAX_DIMENSIONS:
        raise HostileInputError(
            f"{path}: tensor `{name:.80}` has a shape or place that is no list of whole numbers", hint=DAMAGED_HINT
        )
    if data_start + end > size or end - start != _num_bytes(dtype, tuple(shape)):
        raise HostileInputError(
            f"{path}: tensor `{name:.80}` of shape {tuple(shape)!s:.80} does not fit its place in the file", hint=DAMAGED_HINT
        )
    return TensorInfo(dtype, tuple(shape), data_start + start, data_start + end)


def _open_shards(folder: Path, index: Path) -> dict[str, TensorFile]:
    names = read_json(index).get("weight_map")
    if not isinstance(names, dict) or not all(isinstance(x, str) for x in names.values()):
        raise HostileInputError(f"{index}: `weight_map` is not a table of file names", hint=DAMAGED_HINT)
    for name in set(names.values()):
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise HostileInputError(
                f"{index}: shard {name!r:.80} is not a safetensors file beside the index", hint=DAMAGED_HINT
            )
    opened = {name: TensorFile(folder / name) for name in sorted(set(names.values()))}
    for tensor, name in names.items():
        if tensor not in opened[name].tensors:
            raise InputError(f"{folder / name}: tensor `{tensor:.80}` is missing", hint="fetch the checkpoint again")
    return {tensor: opened[name] for tensor, name in names.items()}


def _num_bytes(dtype: str, shape: tuple[int, ...]) -> int:
    total = DTYPES[dtype].itemsize
    for size in shape:
        total *= size
    return total
