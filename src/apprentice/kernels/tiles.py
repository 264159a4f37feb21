"""Quantized matrices as the native products read them, and the products themselves, from Python.

    Packed (as it lies in the file) --pack--> Tiles --product(x_MK)--> y_MO

The engine calls the products from native code; this is for tests, measurements and whoever needs one matrix. Layouts are
described in `native/tiles.h`. Letters: M rows of activations, O outputs, K inputs, G = K / 64 groups, rounded up.
"""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import Structure, c_char_p, c_float, c_int, c_int32, c_int64, c_void_p
from dataclasses import dataclass
from typing import Any

import numpy as np

from apprentice.kernels import mxfp4, nvfp4
from apprentice.kernels.native import Library, Pool, Signatures

SIGNATURES: Signatures = {
    "apprentice_tiles_bytes": (c_int64, c_int, c_int64, c_int64),
    "apprentice_tiles_clear": (None, c_int, c_int64, c_int64, c_void_p),
    "apprentice_tiles_pack_nvfp4": (None, c_void_p, c_void_p, c_int64, c_int64, c_int64, c_void_p),
    "apprentice_tiles_pack_int8": (None, c_void_p, c_int64, c_int64, c_int64, c_void_p),
    "apprentice_quantize": (c_int, c_char_p, c_void_p, c_int64, c_int64, c_void_p),
    "apprentice_products": (c_int64, c_void_p, c_char_p, c_void_p, c_int64),
}

LANES, GROUP, TILE_BYTES = 16, 64, 576
RECORD_BYTES = 88
"""64 values, 4 offsets of blocks, the offset of the group, its scale."""
_STEP, _PROMPT, _INT8 = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Tiles:
    """A matrix [O, K] in tiles."""

    data: np.ndarray
    """uint8, from a multiple of 64."""
    outputs: int
    inputs: int
    factor: float
    """What sums are multiplied by: 1 / global scale."""
    is_int8: bool


def pack(library: Library, packed: nvfp4.Packed | mxfp4.Packed, *, out: np.ndarray | None = None) -> Tiles:
    """Four bits a weight, bit for bit what lies in the file, but for MXFP4 blocks far smaller than the largest (`as_nvfp4`).
    `out`: `size` bytes from a multiple of 64."""
    if isinstance(packed, mxfp4.Packed):
        packed = mxfp4.as_nvfp4(packed)
    functions, (outputs, inputs) = library.bind(SIGNATURES), packed.shape
    data = _empty(functions, _STEP, outputs, inputs, out)
    codes, scales = np.ascontiguousarray(packed.codes), np.ascontiguousarray(packed.scales)
    functions.apprentice_tiles_pack_nvfp4(_at(codes), _at(scales), outputs, inputs, 0, _at(data))
    return Tiles(data, outputs, inputs, float(1 / packed.global_scale), False)


def size(library: Library, outputs: int, inputs: int, *, is_int8: bool = False) -> int:
    """Bytes of a matrix in tiles."""
    return int(library.bind(SIGNATURES).apprentice_tiles_bytes(_INT8 if is_int8 else _STEP, outputs, inputs))


def pack_int8(library: Library, weight_OK: np.ndarray, *, out: np.ndarray | None = None) -> Tiles:
    """Eight bits a weight: rounded, with a scale for each output and 64 inputs."""
    functions, (outputs, inputs) = library.bind(SIGNATURES), weight_OK.shape
    data = _empty(functions, _INT8, outputs, inputs, out)
    weight = np.ascontiguousarray(weight_OK, np.float32)
    functions.apprentice_tiles_pack_int8(_at(weight), outputs, inputs, 0, _at(data))
    return Tiles(data, outputs, inputs, 1.0, True)


class _Product(Structure):
    """`ApprenticeProduct` of c_products.h."""

    _fields_ = [
        ("tiles", c_void_p), ("outputs", c_int64), ("inputs", c_int64), ("x", c_void_p), ("rows", c_int64), ("y", c_void_p),
        ("factor", c_float), ("kind", c_int32),
    ]  # fmt: skip


class Products:
    """Products that follow one another, as in a step of a decoder."""

    def __init__(
        self, library: Library, pool: Pool, steps: Sequence[tuple[Tiles, np.ndarray]], *, variant: str = "",
        as_prompt: bool = False, keep: bool = True,
    ) -> None:
        """`steps`: matrices and their x [M, K], float32 and contiguous. `as_prompt`: by the way that long prompts go.
        `keep=False`: results of one size are written over each other, as in a decoder."""
        self._functions, self._pool = library.bind(SIGNATURES), pool
        self._variant = (variant or library.variant).encode()
        self._kept = list(steps)
        """Memory that native code reads."""
        self._y = [np.empty((len(x), -(-tiles.outputs // LANES) * LANES), np.float32) for tiles, x in steps]
        if not keep:
            shared = {y.shape: y for y in self._y}
            self._y = [shared[y.shape] for y in self._y]
        self._list = (_Product * len(steps))()
        for step, (tiles, x), y in zip(self._list, steps, self._y, strict=True):
            assert x.shape[1] == tiles.inputs
            assert x.dtype == np.float32
            assert x.flags.c_contiguous
            step.tiles, step.outputs, step.inputs = _at(tiles.data), tiles.outputs, tiles.inputs
            step.x, step.rows, step.y = _at(x), len(x), _at(y)
            step.factor, step.kind = tiles.factor, _INT8 if tiles.is_int8 else _PROMPT if as_prompt else _STEP

    def run(self) -> int:
        """Nanoseconds that all took."""
        took = self._functions.apprentice_products(self._pool.handle, self._variant, self._list, len(self._list))
        assert took >= 0, f"no variant {self._variant}"
        return int(took)

    def results(self) -> list[np.ndarray]:
        """y [M, O] of each."""
        return [y[:, : tiles.outputs] for y, (tiles, _) in zip(self._y, self._kept, strict=True)]


def product(
    library: Library, pool: Pool, tiles: Tiles, x_MK: np.ndarray, *, variant: str = "", as_prompt: bool = False
) -> np.ndarray:
    """x W^T, float32 [M, O], with x rounded to 8 bits."""
    steps = [(tiles, np.ascontiguousarray(x_MK, np.float32))]
    products = Products(library, pool, steps, variant=variant, as_prompt=as_prompt)
    products.run()
    return products.results()[0]


def quantize(library: Library, x_MK: np.ndarray, *, variant: str = "") -> tuple[np.ndarray, np.ndarray]:
    """Activations in 8 bits: values int8 [M, 64 G] and scales float32 [M, G]."""
    x = np.ascontiguousarray(x_MK, np.float32)
    rows, inputs = x.shape
    groups = -(-inputs // GROUP)
    records = np.empty((groups, rows, RECORD_BYTES), np.uint8)
    name = (variant or library.variant).encode()
    failed = library.bind(SIGNATURES).apprentice_quantize(name, _at(x), rows, inputs, _at(records))
    assert not failed, f"no variant {variant}"
    values = records[:, :, :GROUP].view(np.int8).transpose(1, 0, 2).reshape(rows, -1)
    scales = np.ascontiguousarray(records[:, :, 84:]).view(np.float32)[:, :, 0].T
    return values, scales


def aligned(size: int) -> np.ndarray:
    """uint8 [size] from an address that is a multiple of 64."""
    buffer = np.empty(size + 64, np.uint8)
    start = -buffer.ctypes.data % 64
    return buffer[start : start + size]


def _empty(functions: Any, kind: int, outputs: int, inputs: int, out: np.ndarray | None) -> np.ndarray:
    data = aligned(functions.apprentice_tiles_bytes(kind, outputs, inputs)) if out is None else out
    assert data.ctypes.data % 64 == 0
    assert data.nbytes == functions.apprentice_tiles_bytes(kind, outputs, inputs)
    functions.apprentice_tiles_clear(kind, outputs, inputs, _at(data))
    return data


def _at(array: np.ndarray) -> c_void_p:
    return array.ctypes.data_as(c_void_p)
