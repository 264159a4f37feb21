"""NVFP4, the reference: float32 weights <-> 4-bit codes, a scale for each block of 16, one scale for the tensor.

    w[r, c] = E2M1[code[r, c]] * E4M3[scale[r, c // 16]] / global_scale          4.5 bits a weight

A code has a sign and one of eight sizes (0, .5, 1, 1.5, 2, 3, 4, 6). The global scale is a DIVISOR, 448 * 6 / amax, so
that the block with the largest weight has the largest scale. Layout and convention are those of compressed-tensors'
`nvfp4-pack-quantized`: the low nibble holds the even column, scales lie row-major.

Which scale a block gets decides how much is lost. Taking amax / 6 wastes the gap between 4 and 6, where the steps are
coarsest; mapping the largest weight to 4 instead is often better ("four over six", arXiv:2512.02010). `encode` goes
further: for every block it tries all E4M3 codes from 3 below to 7 above amax / 6 and keeps the one with the least
squared error, which covers both choices and everything between. The error may be weighted by the second moments of
the inputs (what a column is multiplied with when the model runs), where a calibration knows them.

Layout of the arithmetic: blocks are transposed so that the 16 elements are the first axis and numpy's inner loops run
over thousands of blocks; work is cut into pieces that fit the second-level cache.

E4M3 has 4 exponent bits (bias 7), 3 mantissa bits, no infinities, NaN at 0x7F and 0xFF, and a largest value of 448.

Left out: rotations; error feedback between columns is in `quantize.feedback`. Letters: R rows, C columns, G = C / 16 groups of a row,
N blocks of any rows, E the 16 elements of a block.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

BLOCK = 16
E2M1_MAX = 6.0
E4M3_MAX = 448.0
E4M3_MAX_CODE = 0x7E
GLOBAL_RANGE = E4M3_MAX * E2M1_MAX
BITS_PER_WEIGHT = 4 + 8 / BLOCK

E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32)
"""The 16 values, by code."""

_E4M3_SMALLEST_NORMAL = 2.0**-6
_E4M3_STEP = 2.0**-9
"""Distance of E4M3's subnormal numbers."""


def _e4m3_table() -> np.ndarray:
    codes = np.arange(256)
    exponent, mantissa = (codes >> 3) & 15, codes & 7
    size = np.where(exponent == 0, mantissa * _E4M3_STEP, (8 + mantissa) * 2.0 ** (exponent - 10.0))
    size[(codes & 0x7F) == 0x7F] = np.nan
    table = np.where(codes < 128, size, -size).astype(np.float32)
    table.setflags(write=False)
    return table


E4M3 = _e4m3_table()
"""The 256 values, by code."""

SEARCH_BELOW, SEARCH_ABOVE = 3, 7
"""E4M3 codes tried around amax / 6. Eight codes are a factor of two: 4 instead of 6 is 4 to 5 codes up."""

_PIECE = 2048
"""Blocks worked on at once: 128 KiB of float32."""

_PAIRS = np.stack([np.tile(E2M1, 16), np.repeat(E2M1, 16)], axis=1)
"""Byte -> its two values, low nibble first."""


@dataclass(frozen=True, slots=True)
class Packed:
    """A quantized matrix, as it lies in the file."""

    codes: np.ndarray
    """uint8 [R, C / 2], two codes a byte."""
    scales: np.ndarray
    """uint8 [R, G], E4M3 codes, never negative, never NaN."""
    global_scale: np.float32
    """Divisor, positive and finite."""

    @property
    def shape(self) -> tuple[int, int]:
        return self.codes.shape[0], self.codes.shape[1] * 2


def global_scale(*weights: np.ndarray) -> np.float32:
    """One divisor for all of them: matrices that a runtime fuses (q, k, v; gate, up) must share it."""
    largest = max(float(np.max(np.abs(weight), initial=0.0)) for weight in weights)
    # A tensor of zeros, or of denormals whose quotient overflows, is exact or lost with any divisor.
    return np.float32(min(GLOBAL_RANGE / largest, 1e30)) if largest > 0 else np.float32(1)


def encode(
    weight_RC: np.ndarray, scale: np.float32 | None = None, *, importance_C: np.ndarray | None = None, search: bool = True
) -> Packed:
    """Quantizes a finite float32 matrix with C a multiple of 16. `scale`: the divisor, where it is shared.

    `importance_C`: mean square of each input; the error of a column counts that much. `search=False` takes amax / 6.
    Raises: ValueError for a wrong shape or weights that are not finite."""
    rows, columns = weight_RC.shape
    if columns % BLOCK:
        raise ValueError(f"{columns} columns are not a multiple of {BLOCK}")
    scale = global_scale(weight_RC) if scale is None else np.float32(scale)
    if not np.isfinite(scale) or scale <= 0:
        raise ValueError("weights are not finite" if weight_RC.size else "global scale must be positive")
    groups = columns // BLOCK
    blocks = np.ascontiguousarray(weight_RC, np.float32).reshape(-1, BLOCK)
    importance_EG = None
    if importance_C is not None:
        importance_EG = _checked_importance(importance_C, columns).reshape(groups, BLOCK).T
    codes = np.empty((len(blocks), BLOCK // 2), np.uint8)
    scales = np.empty(len(blocks), np.uint8)
    for start in range(0, len(blocks), _PIECE):
        piece = slice(start, min(start + _PIECE, len(blocks)))
        values_EN = np.ascontiguousarray(blocks[piece].T) * scale
        weights_EN = None
        if importance_EG is not None:
            weights_EN = importance_EG[:, np.arange(piece.start, piece.stop) % groups]
        scales[piece] = _scale_codes(values_EN, weights_EN, search)
        nibbles_EN = _nibbles(values_EN, E4M3[scales[piece]])
        codes[piece] = (nibbles_EN[0::2] | (nibbles_EN[1::2] << 4)).T
    return Packed(codes.reshape(rows, columns // 2), scales.reshape(rows, groups), scale)


def plain_scales(weight_RC: np.ndarray, scale: np.float32) -> np.ndarray:
    """The scales without a search: E4M3 codes [R, G] nearest to amax / 6."""
    largest_RG = np.max(np.abs(weight_RC.reshape(weight_RC.shape[0], -1, BLOCK)), axis=2) * scale
    return _plain_codes(largest_RG).astype(np.uint8)


def best_scales(values_EN: np.ndarray, importance_E: np.ndarray) -> np.ndarray:
    """The E4M3 codes that suit blocks of 16 values best, in units of 1 / global scale. See `encode`."""
    weights_EN = np.repeat(importance_E[:, None], values_EN.shape[1], axis=1)
    return _scale_codes(values_EN, weights_EN, search=True)


def scale_values(codes: np.ndarray) -> np.ndarray:
    """E4M3 codes to float32; 127 and 255 to NaN."""
    return E4M3[codes]


def nearest(values: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Codes 0 to 15 of the nearest values under these scales, and those values."""
    codes = _nibbles(values, scale)
    return codes, E2M1[codes] * scale


def decode(packed: Packed, out: np.ndarray | None = None) -> np.ndarray:
    """float32 [R, C]: code * (scale / global_scale), each step rounded to float32 (as compressed-tensors does)."""
    rows, columns = packed.shape
    if out is None:
        out = np.empty((rows, columns), np.float32)
    step = max(1, 65536 // max(columns, 1))
    for start in range(0, rows, step):
        part = slice(start, start + step)
        part_scales = E4M3[packed.scales[part]] / packed.global_scale
        values = byte_values(packed.codes[part]).reshape(-1, BLOCK)
        np.multiply(values, part_scales.reshape(-1, 1), out=out[part].reshape(-1, BLOCK))
    return out


def rounded(x_RC: np.ndarray, scale: np.float32) -> np.ndarray:
    """What is left of activations that are read in NVFP4: scales are amax / 6 without a search, as the kernels that do it on a
    GPU take them, and a block too small for the smallest scale is zero. `scale`: the divisor."""
    values_NE = np.ascontiguousarray(x_RC, np.float32).reshape(-1, BLOCK) * scale
    scales_N = E4M3[encode_e4m3(np.abs(values_NE).max(axis=1) / np.float32(E2M1_MAX))]
    _, near_NE = nearest(values_NE, scales_N[:, None])
    return (near_NE / scale).reshape(x_RC.shape)


def byte_values(codes: np.ndarray) -> np.ndarray:
    """float32 [..., 2]: what the two codes of each byte stand for."""
    return np.take(_PAIRS, codes, axis=0)


def encode_e4m3(values: np.ndarray) -> np.ndarray:
    """float32 -> uint8 codes, nearest, ties to even, saturating at 448; NaN -> 0x7F with the sign."""
    values = np.asarray(values, np.float32)
    size = np.minimum(np.abs(values), np.float32(E4M3_MAX))
    bits = np.ascontiguousarray(size).view(np.uint32)
    # Normal numbers: round the mantissa from 23 bits to 3, then move the exponent's bias from 127 to 7.
    normal = ((bits + np.uint32(0x7FFFF) + ((bits >> np.uint32(20)) & np.uint32(1))) >> np.uint32(20)) - np.uint32(120 << 3)
    with np.errstate(invalid="ignore"):
        subnormal = np.rint(size / np.float32(_E4M3_STEP)).astype(np.uint32)
    codes = np.where(size < _E4M3_SMALLEST_NORMAL, subnormal, normal).astype(np.uint8)
    codes = np.where(np.isnan(values), np.uint8(0x7F), codes)
    return codes | (np.signbit(values).astype(np.uint8) << 7)


def _checked_importance(importance_C: np.ndarray, columns: int) -> np.ndarray:
    importance = np.asarray(importance_C, np.float32)
    if importance.shape != (columns,) or not np.isfinite(importance).all() or (importance < 0).any():
        raise ValueError(f"importance must be {columns} finite numbers, 0 or more")
    mean = importance.mean()
    # A column that calibration never saw used still counts a little: its block must get some scale.
    return importance / mean + np.float32(1e-3) if mean > 0 else np.ones(columns, np.float32)


def _scale_codes(values_EN: np.ndarray, weights_EN: np.ndarray | None, search: bool) -> np.ndarray:
    """The E4M3 code of each block's scale."""
    largest_N = np.max(np.abs(values_EN), axis=0)
    if not np.isfinite(largest_N).all():
        raise ValueError("weights are not finite")
    nearest_N = _plain_codes(largest_N)
    if not search:
        return nearest_N.astype(np.uint8)
    best_N, best_error_N = nearest_N.copy(), np.full(len(largest_N), np.inf, np.float32)
    scratch = np.empty_like(values_EN)
    for offset in range(-SEARCH_BELOW, SEARCH_ABOVE + 1):
        candidate_N = np.clip(nearest_N + offset, 1, E4M3_MAX_CODE)
        error_N = _squared_error(values_EN, E4M3[candidate_N], weights_EN, scratch)
        better_N = error_N < best_error_N
        best_N = np.where(better_N, candidate_N, best_N)
        best_error_N = np.where(better_N, error_N, best_error_N)
    best_N[largest_N == 0] = 0
    return best_N.astype(np.uint8)


def _plain_codes(largest: np.ndarray) -> np.ndarray:
    # A block of tiny weights beside a huge one gets the smallest scale, so that the larger of them survive.
    codes = np.maximum(encode_e4m3(largest / np.float32(E2M1_MAX)), 1).astype(np.int16)
    codes[largest == 0] = 0
    return codes


def _squared_error(
    values_EN: np.ndarray, scale_N: np.ndarray, weights_EN: np.ndarray | None, scratch: np.ndarray
) -> np.ndarray:
    scaled_EN = np.divide(values_EN, scale_N)
    rounded_EN = _round_e2m1(scaled_EN, scratch)
    np.subtract(scaled_EN, rounded_EN, out=scaled_EN)
    np.multiply(scaled_EN, scaled_EN, out=scaled_EN)
    if weights_EN is not None:
        np.multiply(scaled_EN, weights_EN, out=scaled_EN)
    return np.add.reduce(scaled_EN, axis=0) * np.square(scale_N)


def _round_e2m1(x: np.ndarray, out: np.ndarray) -> np.ndarray:
    """The nearest E2M1 value, ties to even, with its sign.

    The step between values is 1/2 below 2, then half the power of two below: clearing the mantissa gives that power.
    Adding and taking away 1.5 * 2^23 steps makes the float unit round at the step."""
    np.clip(x, -E2M1_MAX, E2M1_MAX, out=out)
    magic = (out.view(np.uint32) & np.uint32(0x7F800000)).view(np.float32)
    np.maximum(magic, np.float32(1), out=magic)
    np.multiply(magic, np.float32(0.5 * 1.5 * 2**23), out=magic)
    np.add(out, magic, out=out)
    np.subtract(out, magic, out=out)
    return out


def _nibbles(values_EN: np.ndarray, scale_N: np.ndarray) -> np.ndarray:
    """Codes 0..15, uint8, of values in units of 1 / global_scale."""
    scaled = np.divide(values_EN, scale_N, out=np.zeros_like(values_EN), where=scale_N > 0)
    rounded = np.abs(_round_e2m1(scaled, np.empty_like(scaled)))
    # Twice the size is 0 1 2 3 4 6 8 12: a table turns it into the index.
    index = _INDEX[(rounded * np.float32(2)).astype(np.uint8)]
    return index | (np.signbit(values_EN).astype(np.uint8) << 3)


_INDEX = np.zeros(13, np.uint8)
_INDEX[[0, 1, 2, 3, 4, 6, 8, 12]] = np.arange(8)
