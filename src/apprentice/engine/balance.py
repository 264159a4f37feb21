"""Powers of two between what a matrix reads and its weights, so that 8 bits round both well.

    PackedModel --64 tokens through the decoder--> how large each input is --balance--> the same products, rounded less

Activations are rounded to 8 bits with one scale for 64 of them (`native/tiles.h`), the largest being 127. A few channels of a
trained model are ten or forty times as large as the others, always the same ones, whatever is read: their 63 neighbours are left
with three or four bits. So each block of 16 inputs b is divided by 2^e_b and its weights are multiplied by it, which a scale of
NVFP4 has room for, exactly. e_b is about half of the block's size in powers of two: all of it would put into the weights, where
a prompt brings four blocks to one scale, what it takes from the inputs. A matrix in 8 bits, as the head, is made anew from its floats, so
there each input has a power of its own; an embedding that shares its tiles with the head divides it out again.

Nothing is divided at run time: a norm's weights are smaller, and the rows of `up` whose products `down` reads. Inputs that nothing
can be folded into (the output projection's) stay, they are even anyway.

Which tokens are read hardly matters, so they are the same 64 for every model with this vocabulary: a folder from anybody is
balanced, calibrated or not, and always alike. docs/log.md has what it gains.

Source: SmoothQuant, arXiv:2211.10438, there with scales of each channel that go into the weights before those are quantized.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from apprentice.kernels import nvfp4, tiles

TOKENS = 64
"""Read to see how large inputs are: a page of the cache."""
BLOCK_SHARE, CHANNEL_SHARE = 0.5, 0.375
"""Of a size, in powers of two, that goes over to the weights: of a block in four bits, of a channel in eight."""
MOST = 3
"""Powers of two that a block's inputs may give away, and as many an output: the scales have room for six."""
MOST_CHANNEL = 6


@dataclass(slots=True)
class Layer:
    """What of a packed layer is changed in place. A matrix that is not in four bits is None."""

    input_norm_D: np.ndarray
    mlp_norm_D: np.ndarray
    qkv: np.ndarray | None
    """uint8, tiles [P, G, 576]."""
    gate_up: np.ndarray | None
    down: np.ndarray | None
    gate_up_bias_O: np.ndarray | None


@dataclass(frozen=True, slots=True)
class Factors:
    """What inputs are divided by, float32: powers of two. A correction beside the weights has to know."""

    qkv_D: np.ndarray
    gate_up_D: np.ndarray
    down_F: np.ndarray
    """`down` reads less because `up` gives less."""


def balance_layer(layer: Layer, qkv_D: np.ndarray, gate_up_D: np.ndarray, down_F: np.ndarray) -> Factors:
    """Changes the layer. The sizes of inputs are in any unit."""
    none_D, none_F = np.zeros(len(qkv_D) // nvfp4.BLOCK, np.int8), np.zeros(len(down_F) // nvfp4.BLOCK, np.int8)
    qkv = none_D if layer.qkv is None else block_powers(qkv_D)
    gate_up = none_D if layer.gate_up is None else block_powers(gate_up_D)
    down = none_F if layer.gate_up is None or layer.down is None else block_powers(down_F)
    factors = Factors(
        *(_spread(powers, len(sizes)) for powers, sizes in ((qkv, qkv_D), (gate_up, gate_up_D), (down, down_F)))
    )
    if layer.qkv is not None:
        move(layer.qkv, qkv)
        layer.input_norm_D /= factors.qkv_D
    if layer.gate_up is not None:
        # Panels of gate and of up take turns.
        panels = np.zeros(len(layer.gate_up), np.int8)
        panels[1::2][: len(down)] = -down
        move(layer.gate_up, gate_up, panels)
        layer.mlp_norm_D /= factors.gate_up_D
        if layer.gate_up_bias_O is not None:
            layer.gate_up_bias_O /= outputs_of_up(factors.down_F, len(layer.gate_up_bias_O))
    if layer.down is not None:
        move(layer.down, down)
    return factors


def block_powers(sizes_K: np.ndarray) -> np.ndarray:
    """int8 [K / 16]: which power of two each block's inputs give away."""
    return _powers(np.sqrt(np.square(sizes_K.reshape(-1, nvfp4.BLOCK)).mean(axis=1)), BLOCK_SHARE, MOST)


def channel_powers(sizes_K: np.ndarray) -> np.ndarray:
    """int8 [K]: of each input of a matrix in eight bits."""
    return _powers(sizes_K, CHANNEL_SHARE, MOST_CHANNEL)


def move(tiles_PGB: np.ndarray, powers: np.ndarray, panels: np.ndarray | None = None) -> None:
    """Multiplies the weights of tiles [P, G, 576] by 2^powers [K / 16] and 2^panels [P], exactly."""
    num_panels, groups, _ = tiles_PGB.shape
    codes = tiles_PGB[:, :, tiles.LANES * tiles.GROUP // 2 :].reshape(num_panels, groups, -1, tiles.LANES)
    moved = np.zeros(groups * codes.shape[2], np.int8)
    moved[: len(powers)] = powers
    steps = moved.reshape(1, groups, -1, 1) + (np.int8(0) if panels is None else panels[:, None, None, None])
    # An exponent is one higher eight codes further. A block of zeros has code 0, and keeps it.
    codes += (steps * np.int8(8)).view(np.uint8) * (codes > 0)


def outputs_of_up(factors_F: np.ndarray, num_outputs: int) -> np.ndarray:
    """Factors as they meet the outputs of gate and up, 16 of each in turn: those of gate are 1."""
    factors = np.ones(num_outputs, np.float32)
    rows = np.arange(len(factors_F))
    factors[rows // tiles.LANES * 2 * tiles.LANES + tiles.LANES + rows % tiles.LANES] = factors_F
    return factors


def _powers(sizes: np.ndarray, share: float, most: int) -> np.ndarray:
    """Zeros where sizes tell nothing."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        powers = np.rint(share * np.log2(sizes.astype(np.float64) / np.median(sizes)))
    if np.isnan(powers).any():
        return np.zeros(len(sizes), np.int8)
    return np.clip(powers, -most, most).astype(np.int8)


def _spread(powers: np.ndarray, num_inputs: int) -> np.ndarray:
    factors = np.ones(num_inputs, np.float32)
    factors[: len(powers) * nvfp4.BLOCK] = np.repeat(np.exp2(powers, dtype=np.float32), nvfp4.BLOCK)
    return factors
