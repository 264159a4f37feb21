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
    global_scale: np.float32 = np.float32(1)
    """The format has none."""

    @property
    def shape(self) -> tuple[int, int]:
        return self.codes.shape[0], self.codes.shape[1] * 2


def global_scale(*weights: np.ndarray) -> np.float32:  # noqa: ARG001 - of the interface `formats.Format`
    """Always 1."""
    return np.float32(1)


def encode(
    weight_RC: np.ndarray, scale: np.float32 | None = None, *, importance_C: np.ndarray | None = None, search: bool = True
) -> Packed:
    """Quantizes a finite float32 matrix with C a multiple of 32. `search=False` takes the specification's scale; `scale` is 1.

    `importance_C`: mean square of each input; the error of a column counts that much. Raises: ValueError for a wrong
    shape or weights that are not finite."""
    rows, columns = weight_RC.shape
    assert scale is None or scale == 1
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


def plain_scales(weight_RC: np.ndarray, scale: np.float32) -> np.ndarray:
    """The scales of the specification: E8M0 codes [R, G]. `scale` is 1."""
    assert scale == 1
    return _below(np.abs(weight_RC.reshape(weight_RC.shape[0], -1, BLOCK)).max(axis=2)).astype(np.uint8)


def best_scales(values_EN: np.ndarray, importance_E: np.ndarray) -> np.ndarray:
    """The E8M0 codes that suit blocks of 32 values best. See `encode`."""
    if not np.isfinite(values_EN).all():
        raise ValueError("weights are not finite")
    values_NE = np.ascontiguousarray(values_EN.T)
    return _scale_codes(values_NE, np.broadcast_to(importance_E.astype(np.float32), values_NE.shape), search=True)


def decode(packed: Packed, out: np.ndarray | None = None) -> np.ndarray:
    """float32 [R, C], exact but for values below float32's smallest."""
    rows, columns = packed.shape
    if out is None:
        out = np.empty((rows, columns), np.float32)
    values = nvfp4.byte_values(packed.codes).reshape(-1, BLOCK)
    np.multiply(values, scale_values(packed.scales).reshape(-1, 1), out=out.reshape(-1, BLOCK))
    return out


def as_nvfp4(packed: Packed) -> nvfp4.Packed:
    """The same weights in NVFP4: exact for blocks whose scale is within 2 ** 17 of the largest; of smaller ones, whose part in
    any sum is below what 8-bit inputs are rounded by, nothing is left."""
    largest = int(packed.scales.max(initial=0))
    # E4M3 has the powers from 2 ** 8 down to 2 ** -9, and the divisor must be finite.
    top = min(8, largest)
    exponents = top - (largest - packed.scales.astype(np.int16))
    powers = np.where(exponents >= -9, np.ldexp(np.float32(1), exponents), np.float32(0))
    scales = np.repeat(nvfp4.encode_e4m3(powers), BLOCK // nvfp4.BLOCK, axis=1)
    return nvfp4.Packed(packed.codes, scales, np.ldexp(np.float32(1), top + BIAS - largest))


def scale_values(codes: np.ndarray) -> np.ndarray:
    """E8M0 codes to float32 powers of two; 255 to NaN."""
    return _E8M0[codes]


def _scale_codes(values_NE: np.ndarray, weights_NE: np.ndarray, search: bool) -> np.ndarray:
    lower_N = _below(np.abs(values_NE).max(axis=1))
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


def _below(largest: np.ndarray) -> np.ndarray:
    """The code of the power of two below a quarter of these sizes."""
    # frexp: largest = fraction * 2 ** exponent with a fraction from 1/2 to 1.
    return np.clip(np.frexp(largest)[1] - 1 - _LARGEST_EXPONENT + BIAS, 0, NAN_CODE - 1)
