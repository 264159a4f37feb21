"""The two formats of four bits under one interface: what quantizing and loading ask of either.

Both have E2M1 codes, two a byte, and a scale for each block of a row: NVFP4 E4M3 for 16 weights and a divisor for the
matrix, MXFP4 a power of two for 32 and a divisor that is always 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from apprentice.kernels import mxfp4, nvfp4

Packed = nvfp4.Packed | mxfp4.Packed
Name = Literal["nvfp4", "mxfp4"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Format:
    """The functions are those of the module."""

    layout: str
    """Its name in compressed-tensors."""
    block: int
    """Weights that share a scale."""
    scale_dtype: str
    """As safetensors names it."""
    has_global_scale: bool
    nan_scales: tuple[int, ...]
    """Codes of scales that are no numbers."""
    pack: Callable[[np.ndarray, np.ndarray, np.float32], Packed]
    """Codes, scales, divisor."""
    global_scale: Callable[..., np.float32]
    encode: Callable[..., Packed]
    decode: Callable[..., np.ndarray]
    plain_scales: Callable[[np.ndarray, np.float32], np.ndarray]
    best_scales: Callable[[np.ndarray, np.ndarray], np.ndarray]
    scale_values: Callable[[np.ndarray], np.ndarray]


def _of(module: Any, **facts: Any) -> Format:
    names = ("global_scale", "encode", "decode", "plain_scales", "best_scales", "scale_values")
    return Format(block=module.BLOCK, pack=module.Packed, **{name: getattr(module, name) for name in names}, **facts)


NVFP4 = _of(nvfp4, layout="nvfp4-pack-quantized", scale_dtype="F8_E4M3", has_global_scale=True, nan_scales=(0x7F, 0xFF))
MXFP4 = _of(mxfp4, layout="mxfp4-pack-quantized", scale_dtype="U8", has_global_scale=False, nan_scales=(mxfp4.NAN_CODE,))
FORMATS: dict[str, Format] = {"nvfp4": NVFP4, "mxfp4": MXFP4}


def decode(packed: Packed) -> np.ndarray:
    """float32 [R, C] of either."""
    return mxfp4.decode(packed) if isinstance(packed, mxfp4.Packed) else nvfp4.decode(packed)
