"""MXFP4, the reference: float32 weights <-> 4-bit codes and a power of two for each block of 32.

    w[r, c] = E2M1[code[r, c]] * 2 ** (scale[r, c // 32] - 127)          4.25 bits a weight

The codes are NVFP4's (`kernels.nvfp4`, which owns E2M1); the scale is E8M0, eight bits of exponent and nothing else, with
NaN at 255. There is no scale of the tensor. Layout as in compressed-tensors' `mxfp4-pack-quantized`.

The specification takes the power of two below amax / 4, under which the largest weights of a block saturate at 6. The
power above it never saturates but has steps twice as coarse. `encode` takes whichever loses less.

Source: OCP Microscaling Formats (MX) Specification 1.0, sections 5.3.3 and 6.3. Letters: R rows, C columns, G = C / 32
groups of a row, N blocks of any rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from apprentice.kernels import nvfp4

BLOCK = 32
BITS_PER_WEIGHT = 4 + 8 / BLOCK
BIAS = 127
NAN_CODE = 255
_LARGEST_EXPONENT = 2
"""Of E2M1: 6 is 1.5 * 2 ** 2."""
_E8M0 = np.append(np.ldexp(1.0, np.arange(NAN_CODE) - BIAS), np.nan).astype(np.float32)
"""The 256 values, by code."""
_PIECE = 1024
"""Blocks worked on at once: 128 KiB of float32."""


@dataclass(frozen=True, slots=True)
class Packed:
    """A quantized matrix, as it lies in the file."""

    codes: np.ndarray
    """uint8 [R, C / 2], two codes a byte, the even column in the low nibble."""
    scales: np.ndarray
    """uint8 [R, G], E8M0 codes, never NaN."""

    @property
    def shape(self) -> tuple[int, int]:
        return self.codes.shape[0], self.codes.shape[1] * 2


def encode(weight_RC: np.ndarray, *, importance_C: np.ndarray | None = None, search: bool = True) -> Packed:
    """Quantizes a finite float32 matrix with C a multiple of 32. `search=False` takes the specification's scale.

    `importance_C`: mean square of each input; the error of a column counts that much. Raises: ValueError for a wrong
    shape or weights that are not finite."""
    rows, columns = weight_RC.shape
    if columns % BLOCK:
        raise ValueError(f"{columns} columns are not a multiple of {BLOCK}")
    if not np.isfinite(weight_RC).all():
        raise ValueError("weights are not finite")
    groups = columns // BLOCK
    importance_GE = np.ones((groups, BLOCK), np.float32)
    if importance_C is not None:
        importance_GE = np.asarray(importance_C, np.float32).reshape(groups, BLOCK)
    blocks_NE = np.ascontiguousarray(weight_RC, np.float32).reshape(-1, BLOCK)
    codes = np.empty((len(blocks_NE), BLOCK // 2), np.uint8)
    scales = np.empty(len(blocks_NE), np.uint8)
    for start in range(0, len(blocks_NE), _PIECE):
        piece = slice(start, min(start + _PIECE, len(blocks_NE)))
        values_NE = blocks_NE[piece]
        weights_NE = importance_GE[np.arange(piece.start, piece.stop) % groups]
        scales[piece] = _scale_codes(values_NE, weights_NE, search)
        nibbles_NE, _ = nvfp4.nearest(values_NE, scale_values(scales[piece])[:, None])
        codes[piece] = nibbles_NE[:, 0::2] | (nibbles_NE[:, 1::2] << 4)
    return Packed(codes.reshape(rows, columns // 2), scales.reshape(rows, groups))


def decode(packed: Packed) -> np.ndarray:
    """float32 [R, C], exact but for values below float32's smallest."""
    rows, columns = packed.shape
    codes_RC = np.empty((rows, columns), np.uint8)
    codes_RC[:, 0::2], codes_RC[:, 1::2] = packed.codes & 15, packed.codes >> 4
    return nvfp4.E2M1[codes_RC] * np.repeat(scale_values(packed.scales), BLOCK, axis=1)


def scale_values(codes: np.ndarray) -> np.ndarray:
    """E8M0 codes to float32 powers of two; 255 to NaN."""
    return _E8M0[codes]


def _scale_codes(values_NE: np.ndarray, weights_NE: np.ndarray, search: bool) -> np.ndarray:
    largest_N = np.abs(values_NE).max(axis=1)
    # frexp: largest = fraction * 2 ** exponent with a fraction from 1/2 to 1.
    below_N = np.frexp(largest_N)[1] - 1 - _LARGEST_EXPONENT + BIAS
    lower_N = np.clip(below_N, 0, NAN_CODE - 1)
    if not search:
        return lower_N.astype(np.uint8)
    upper_N = np.minimum(lower_N + 1, NAN_CODE - 1)
    errors = []
    # In units of the scale, whose own square may not be a number.
    unit_N1 = scale_values(lower_N)[:, None]
    for codes_N in (lower_N, upper_N):
        # What rounds up beyond float32 has an infinite error and is not taken.
        with np.errstate(over="ignore"):
            _, rounded_NE = nvfp4.nearest(values_NE, scale_values(codes_N)[:, None])
        errors.append((np.square((values_NE - rounded_NE) / unit_N1) * weights_NE).sum(axis=1))
    return np.where(errors[1] < errors[0], upper_N, lower_N).astype(np.uint8)
