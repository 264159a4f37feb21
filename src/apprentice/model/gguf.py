"""GGUF files, read with numpy and without trusting them: metadata and tensors as float32.

    file --GgufFile--> metadata (strings, numbers, lists), tensor places --array()--> float32

The parser holds every length against what is left of the file before it reads on or allocates, so that a file of a few
bytes cannot ask for gigabytes. Types read: F32, F16, BF16 and the simple block types (32 weights share a scale), which
is what small published models use; the K and IQ types are refused by name.
Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md; block layouts: ggml-common.h.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from apprentice.core.errors import DAMAGED_HINT, HostileInputError, InputError

MAX_ENTRIES = 2**17
"""Metadata keys, and tensors, of one file."""
MAX_STRING_BYTES = 2**24
MAX_ARRAY_LENGTH = 2**24
BLOCK = 32
"""Weights that share a scale in the simple block types."""

_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9


@dataclass(frozen=True, slots=True)
class TensorPlace:
    """Where a tensor lies; shape in numpy's order (rows first)."""

    shape: tuple[int, ...]
    type_id: int
    start: int
    num_bytes: int


class GgufFile:
    """A GGUF file, checked and mapped into memory."""

    def __init__(self, path: Path) -> None:
        """Raises: InputError (HostileInputError where the file contradicts itself) naming the file."""
        self.path = path
        try:
            with path.open("rb") as stream:
                self._map = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as error:
            raise InputError(f"{path}: {error.strerror}", hint="check the path") from None
        except ValueError:
            raise InputError(f"{path}: the file is empty", hint=DAMAGED_HINT) from None
        cursor = _Cursor(path, self._map)
        num_tensors, num_keys = _read_counts(cursor)
        self.metadata: dict[str, Any] = {}
        for _ in range(num_keys):
            key = cursor.string()
            self.metadata[key] = cursor.value(cursor.number("I"))
        self.tensors = _read_tensors(cursor, num_tensors, self.metadata.get("general.alignment", 32))

    def array(self, name: str) -> np.ndarray:
        """The tensor's values, float32."""
        place = self.tensors[name]
        decode = _TYPES[place.type_id].decode
        raw = np.frombuffer(self._map, np.uint8, place.num_bytes, place.start)
        return decode(raw).reshape(place.shape)


@dataclass(frozen=True, slots=True)
class _Type:
    name: str
    weights: int
    num_bytes: int
    decode: Callable[[np.ndarray], np.ndarray]
    """Bytes of whole blocks -> float32 values in order."""


class _Cursor:
    """Reads on through a buffer and never past its end."""

    def __init__(self, path: Path, data: mmap.mmap) -> None:
        self.path, self.data, self.at, self.size = path, data, 0, len(data)

    def fail(self, what: str) -> HostileInputError:
        return HostileInputError(f"{self.path}: {what} at byte {self.at}", hint="the file is damaged; fetch it again")

    def need(self, count: int) -> None:
        if count > self.size - self.at:
            raise self.fail(f"{count} bytes are announced, {self.size - self.at} are left,")

    def number(self, code: str) -> Any:
        size = struct.calcsize("<" + code)
        self.need(size)
        (value,) = struct.unpack_from("<" + code, self.data, self.at)
        self.at += size
        return value

    def string(self) -> str:
        length = self.number("Q")
        if length > MAX_STRING_BYTES:
            raise self.fail(f"a string of {length} bytes")
        self.need(length)
        text = self.data[self.at : self.at + length].decode("utf-8", errors="replace")
        self.at += length
        return text

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.string()
        if kind == _ARRAY:
            return self._array()
        if kind not in _NUMBERS:
            raise self.fail(f"metadata of the unknown type {kind}")
        return self.number(_NUMBERS[kind])

    def _array(self) -> list[Any]:
        kind, length = self.number("I"), self.number("Q")
        if length > MAX_ARRAY_LENGTH:
            raise self.fail(f"a list of {length} values")
        if kind == _STRING:
            self.need(8 * length)
            return [self.string() for _ in range(length)]
        if kind not in _NUMBERS:
            raise self.fail(f"a list of values of the unsupported type {kind}")
        code = _NUMBERS[kind]
        size = length * struct.calcsize("<" + code)
        self.need(size)
        values = list(struct.unpack_from(f"<{length}{code}", self.data, self.at))
        self.at += size
        return values


def _read_counts(cursor: _Cursor) -> tuple[int, int]:
    if cursor.size < 24 or cursor.data[:4] != b"GGUF":
        raise InputError(f"{cursor.path}: not a GGUF file", hint=DAMAGED_HINT)
    cursor.at = 4
    version = cursor.number("I")
    if version not in (2, 3):
        raise InputError(
            f"{cursor.path}: GGUF version {version} is not supported, only 2 and 3 (little-endian)", hint=DAMAGED_HINT
        )
    num_tensors, num_keys = cursor.number("Q"), cursor.number("Q")
    if num_tensors > MAX_ENTRIES or num_keys > MAX_ENTRIES:
        raise cursor.fail(f"{num_tensors} tensors and {num_keys} keys are announced")
    return num_tensors, num_keys


def _read_tensors(cursor: _Cursor, count: int, alignment: Any) -> dict[str, TensorPlace]:
    if not isinstance(alignment, int) or not 1 <= alignment <= 2**20 or alignment & (alignment - 1):
        raise cursor.fail(f"an alignment of {alignment!r:.40}")
    announced = []
    for _ in range(count):
        name = cursor.string()
        num_dimensions = cursor.number("I")
        if not 1 <= num_dimensions <= 4:
            raise cursor.fail(f"tensor `{name:.80}` has {num_dimensions} dimensions")
        shape = tuple(cursor.number("Q") for _ in range(num_dimensions))[::-1]
        announced.append((name, shape, cursor.number("I"), cursor.number("Q")))
    data_start = -(-cursor.at // alignment) * alignment
    places = {}
    for name, shape, type_id, offset in announced:
        if type_id not in _TYPES:
            known = ", ".join(kind.name for kind in _TYPES.values())
            raise InputError(
                f"{cursor.path}: tensor `{name:.80}` has the unsupported type number {type_id}",
                hint=f"supported are {known}; take another quantization or the original safetensors",
            )
        kind, total = _TYPES[type_id], math.prod(shape)
        if shape[-1] % kind.weights or name in places or offset % alignment:
            raise cursor.fail(f"tensor `{name:.80}` is named twice, misaligned or no whole number of blocks")
        num_bytes = total // kind.weights * kind.num_bytes
        if data_start + offset + num_bytes > cursor.size:
            raise cursor.fail(f"tensor `{name:.80}` of shape {shape} reaches behind the end of the file,")
        places[name] = TensorPlace(shape, type_id, data_start + offset, num_bytes)
    return places


def _halves(blocks: np.ndarray, first: int) -> np.ndarray:
    """The F16 number in bytes [first, first + 2) of each block, as a column."""
    return blocks[:, first : first + 2].copy().view("<f2").astype(np.float32)


def _nibbles(packed: np.ndarray) -> np.ndarray:
    """16 bytes -> 32 codes: the low halves are the first 16 weights."""
    return np.concatenate([packed & 0x0F, packed >> 4], axis=1)


def _fifth_bits(packed: np.ndarray) -> np.ndarray:
    """4 bytes -> the fifth bit of each of 32 codes, in its place."""
    return np.unpackbits(packed, axis=1, bitorder="little") << 4


def _q4_0(raw: np.ndarray) -> np.ndarray:
    blocks = raw.reshape(-1, 18)
    return _halves(blocks, 0) * (_nibbles(blocks[:, 2:]).astype(np.float32) - 8)


def _q4_1(raw: np.ndarray) -> np.ndarray:
    blocks = raw.reshape(-1, 20)
    return _halves(blocks, 0) * _nibbles(blocks[:, 4:]).astype(np.float32) + _halves(blocks, 2)


def _q5_0(raw: np.ndarray) -> np.ndarray:
    blocks = raw.reshape(-1, 22)
    codes = _nibbles(blocks[:, 6:]) | _fifth_bits(blocks[:, 2:6])
    return _halves(blocks, 0) * (codes.astype(np.float32) - 16)


def _q5_1(raw: np.ndarray) -> np.ndarray:
    blocks = raw.reshape(-1, 24)
    codes = _nibbles(blocks[:, 8:]) | _fifth_bits(blocks[:, 4:8])
    return _halves(blocks, 0) * codes.astype(np.float32) + _halves(blocks, 2)


def _q8_0(raw: np.ndarray) -> np.ndarray:
    blocks = raw.reshape(-1, 34)
    return _halves(blocks, 0) * blocks[:, 2:].view(np.int8).astype(np.float32)


def _bf16(raw: np.ndarray) -> np.ndarray:
    return (raw.view("<u2").astype(np.uint32) << 16).view(np.float32)


_TYPES: dict[int, _Type] = {
    0: _Type("F32", 1, 4, lambda raw: raw.view("<f4").astype(np.float32)),
    1: _Type("F16", 1, 2, lambda raw: raw.view("<f2").astype(np.float32)),
    2: _Type("Q4_0", BLOCK, 18, _q4_0),
    3: _Type("Q4_1", BLOCK, 20, _q4_1),
    6: _Type("Q5_0", BLOCK, 22, _q5_0),
    7: _Type("Q5_1", BLOCK, 24, _q5_1),
    8: _Type("Q8_0", BLOCK, 34, _q8_0),
    30: _Type("BF16", 1, 2, _bf16),
}
