"""FP32 and BF16 products as fast as we can make them, and the limits of the machine: what NVFP4 is measured against.

    weight_OK --pack--> Matrix --Products(matrices, x_MK).run()--> y_MO, nanoseconds

For tests and measurements; the engine calls the products from native code. How the kernels work stands in
`native/baseline.h` and `native/baseline.inl`. Letters: M rows of activations, O outputs, K inputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import POINTER, Structure, byref, c_char_p, c_float, c_int, c_int64, c_void_p
from dataclasses import dataclass
from typing import Any

import numpy as np

from apprentice.kernels.native import Library, Pool, Signatures
from apprentice.kernels.tiles import LANES, aligned

FLOAT, BF16 = 0, 1
OPERATIONS = ("float", "bf16", "int8")
"""Kinds of arithmetic whose limit can be measured."""


class _Product(Structure):
    _fields_ = (
        ("packed", c_void_p), ("outputs", c_int64), ("inputs", c_int64), ("x", POINTER(c_float)), ("rows", c_int64),
        ("y", POINTER(c_float)),
    )  # fmt: skip


SIGNATURES: Signatures = {
    "apprentice_baseline_size": (c_int64, c_int64, c_int64),
    "apprentice_baseline_pack": (None, c_int, c_void_p, c_int64, c_int64, c_int64, c_void_p),
    "apprentice_baseline_products": (c_int64, c_void_p, c_char_p, c_int, POINTER(_Product), c_int64),
    "apprentice_limit_read": (c_int64, c_void_p, c_char_p, c_void_p, c_int64, c_int64),
    "apprentice_limit_operations": (
        c_int64, c_void_p, c_char_p, c_int, c_int64, c_int64, POINTER(c_int64),
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Matrix:
    """A packed matrix [O, K]."""

    data: np.ndarray
    """float32 or uint16, from a multiple of 64."""
    outputs: int
    inputs: int

    @property
    def kind(self) -> int:
        return FLOAT if self.data.dtype == np.float32 else BF16


def size(library: Library, outputs: int, inputs: int) -> int:
    """Elements of a packed matrix."""
    return int(library.bind(SIGNATURES).apprentice_baseline_size(outputs, inputs))


def pack(library: Library, *parts: np.ndarray, out: np.ndarray | None = None) -> Matrix:
    """Matrices [O, K], one above the other: float32, or BF16 as uint16.

    `out`: `size` elements from a multiple of 64. Many matrices in one large array are read faster: it gets huge pages."""
    functions, outputs, inputs = library.bind(SIGNATURES), sum(len(part) for part in parts), parts[0].shape[1]
    dtype = parts[0].dtype
    assert dtype in (np.float32, np.uint16)
    data = aligned(size(library, outputs, inputs) * dtype.itemsize).view(dtype) if out is None else out
    assert data.dtype == dtype
    assert data.ctypes.data % 64 == 0
    assert data.size == size(library, outputs, inputs)
    data[:] = 0
    matrix, first = Matrix(data, outputs, inputs), 0
    for part in parts:
        assert part.dtype == dtype
        rows = np.ascontiguousarray(part)
        functions.apprentice_baseline_pack(matrix.kind, _at(rows), len(part), inputs, first, _at(data))
        first += len(part)
    return matrix


def to_bf16(values: np.ndarray) -> np.ndarray:
    """float32 -> BF16 as uint16, nearest, ties to even. NaN stays NaN."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    rounded = ((bits + np.uint32(0x7FFF) + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return np.where(np.isnan(values), np.uint16(0x7FC0), rounded)


def from_bf16(values: np.ndarray) -> np.ndarray:
    """BF16 as uint16 -> float32, exact."""
    return (values.astype(np.uint32) << 16).view(np.float32)


class Products:
    """Products of one kind that follow one another, as in a step of a decoder."""

    def __init__(
        self, library: Library, pool: Pool, steps: Sequence[tuple[Matrix, np.ndarray]], *, variant: str = "", keep: bool = True
    ) -> None:
        """`steps`: matrices and their x [M, K], float32 and contiguous. `keep=False`: as in a decoder, results of one size
        are written over each other, so that they stay in the cache."""
        self._functions, self._pool = library.bind(SIGNATURES), pool
        self._variant = (variant or library.variant).encode()
        self._kind = steps[0][0].kind
        self._kept = list(steps)
        """Memory that native code reads."""
        self._y = [_results(len(x), matrix.outputs) for matrix, x in steps]
        if not keep:
            shared = {y.shape: y for y in self._y}
            self._y = [shared[y.shape] for y in self._y]
        self._list = (_Product * len(steps))()
        for step, (matrix, x), y in zip(self._list, steps, self._y, strict=True):
            assert matrix.kind == self._kind
            assert x.shape[1] == matrix.inputs
            assert x.dtype == np.float32
            assert x.flags.c_contiguous
            step.packed, step.outputs, step.inputs = _at(matrix.data), matrix.outputs, matrix.inputs
            step.x, step.rows, step.y = x.ctypes.data_as(POINTER(c_float)), len(x), y.ctypes.data_as(POINTER(c_float))

    def run(self) -> int:
        """Nanoseconds that all took."""
        multiply, pool = self._functions.apprentice_baseline_products, self._pool.handle
        took = multiply(pool, self._variant, self._kind, self._list, len(self._list))
        assert took >= 0, f"no variant {self._variant}"
        return int(took)

    def results(self) -> list[np.ndarray]:
        """y [M, O] of each."""
        return [y[:, : matrix.outputs] for y, (matrix, _) in zip(self._y, self._kept, strict=True)]


def _results(rows: int, outputs: int) -> np.ndarray:
    """Whole panels, from a multiple of 64: written in whole cache lines."""
    width = -(-outputs // LANES) * LANES
    return aligned(4 * rows * width).view(np.float32).reshape(rows, width)


def product(library: Library, pool: Pool, matrix: Matrix, x_MK: np.ndarray, *, variant: str = "") -> np.ndarray:
    """x W^T, float32 [M, O]."""
    products = Products(library, pool, [(matrix, np.ascontiguousarray(x_MK, np.float32))], variant=variant)
    products.run()
    return products.results()[0]


def read_ns(library: Library, pool: Pool, buffer: np.ndarray, *, piece: int, variant: str = "") -> int:
    """Nanoseconds to read `buffer` (uint8, from a multiple of 64, size a multiple of 256), in pieces handed to threads."""
    name = (variant or library.variant).encode()
    took = library.bind(SIGNATURES).apprentice_limit_read(pool.handle, name, _at(buffer), buffer.nbytes // 256 * 256, piece)
    assert took >= 0, f"no variant {name}"
    return int(took)


def operations_per_ns(library: Library, pool: Pool, kind: str, *, pieces: int, turns: int, variant: str = "") -> float | None:
    """Arithmetic in registers alone, in G operations a second; None where the variant has no such instruction."""
    done, name = c_int64(), (variant or library.variant).encode()
    functions: Any = library.bind(SIGNATURES)
    took = functions.apprentice_limit_operations(pool.handle, name, OPERATIONS.index(kind), pieces, turns, byref(done))
    return done.value / took if took >= 0 else None


def _at(array: np.ndarray) -> c_void_p:
    return array.ctypes.data_as(c_void_p)
