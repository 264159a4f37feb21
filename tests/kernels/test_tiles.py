"""The native products against float64, with the very activations that they rounded."""

from __future__ import annotations

import numpy as np
import pytest

from apprentice.kernels import mxfp4, nvfp4, tiles
from apprentice.kernels.native import Library, Pool

SHAPES = [(16, 64), (1, 16), (40, 80), (100, 576), (33, 1552), (17, 1088)]
ROWS = (1, 2, 3, 7, 8, 13, 33)
SUMMING = 2e-6
"""Relative to the sum of absolute products: a few dozen roundings of float32, whose unit is 6e-8."""


def weights(outputs: int, inputs: int, seed: int = 0) -> np.ndarray:
    """Outputs of very different sizes, with a block of zeros and outliers."""
    rng = np.random.default_rng(seed)
    weight = rng.standard_normal((outputs, inputs)) * np.exp(2 * rng.standard_normal((outputs, 1)))
    weight[:, : min(16, inputs - 1)] = 0
    weight[rng.integers(outputs), rng.integers(inputs)] = 50
    return weight.astype(np.float32)


def rounded(library: Library, x_MK: np.ndarray, variant: str) -> np.ndarray:
    values, scales = tiles.quantize(library, x_MK, variant=variant)
    return (values.astype(np.float64) * np.repeat(scales.astype(np.float64), 64, axis=1))[:, : x_MK.shape[1]]


def assert_close(found: np.ndarray, x_MK: np.ndarray, weight_OK: np.ndarray, tolerance: float) -> None:
    exact = x_MK @ weight_OK.T.astype(np.float64)
    size = np.abs(x_MK) @ np.abs(weight_OK.T.astype(np.float64))
    assert (np.abs(found - exact) <= tolerance * size + 1e-30).all()


def activations(rows: int, inputs: int, seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((rows, inputs)) * np.exp(rng.standard_normal((rows, 1)))).astype(np.float32)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_step_computes_what_the_file_says(library: Library, pool: Pool, variant: str, shape: tuple[int, int]) -> None:
    packed = nvfp4.encode(weights(*shape))
    matrix = tiles.pack(library, packed)
    for rows in ROWS:
        x = activations(rows, shape[1])
        found = tiles.product(library, pool, matrix, x, variant=variant)
        assert_close(found, rounded(library, x, variant), nvfp4.decode(packed), SUMMING)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_prompt_differs_by_less_than_the_weights_are_rounded(
    library: Library, pool: Pool, variant: str, shape: tuple[int, int]
) -> None:
    packed = nvfp4.encode(weights(*shape))
    matrix = tiles.pack(library, packed)
    for rows in ROWS:
        x = activations(rows, shape[1])
        found = tiles.product(library, pool, matrix, x, variant=variant, as_prompt=True)
        known = rounded(library, x, variant)
        exact = known @ nvfp4.decode(packed).T.astype(np.float64)
        # 4 blocks on one scale of 8 bits: half a step, and 12 times half of 1/256 for the rounded multiplier, a step being 1/120
        # of what the largest scale of the 64 can hold.
        bound = np.abs(known) @ (0.53 / 120 * reach(packed)[:, : shape[1]]).T
        assert (np.abs(found - exact) <= bound + SUMMING * np.abs(exact)).all()


def reach(packed: nvfp4.Packed) -> np.ndarray:
    """The largest size that a weight could have under the largest scale of its 64 inputs."""
    scales = nvfp4.E4M3[packed.scales] * 6 / packed.global_scale
    scales = np.pad(scales, ((0, 0), (0, -scales.shape[1] % 4)))
    return np.repeat(scales.reshape(len(scales), -1, 4).max(axis=2), 64, axis=1)


@pytest.mark.parametrize("shape", [(16, 64), (40, 96), (33, 1568)])
def test_mxfp4_runs_on_the_same_kernels(library: Library, pool: Pool, variant: str, shape: tuple[int, int]) -> None:
    packed = mxfp4.encode(weights(*shape))
    x = activations(5, shape[1])
    found = tiles.product(library, pool, tiles.pack(library, packed), x, variant=variant)
    assert_close(found, rounded(library, x, variant), mxfp4.decode(packed), SUMMING)


@pytest.mark.parametrize("shape", SHAPES)
def test_eight_bits_round_to_a_127th_of_the_largest_of_64(
    library: Library, pool: Pool, variant: str, shape: tuple[int, int]
) -> None:
    weight = weights(*shape)
    matrix = tiles.pack_int8(library, weight)
    padded = np.zeros((shape[0], -(-shape[1] // 64) * 64), np.float32)
    padded[:, : shape[1]] = weight
    scale = (np.abs(padded).reshape(shape[0], -1, 64).max(axis=2) / np.float32(127)).repeat(64, axis=1)[:, : shape[1]]
    as_stored = np.rint(np.divide(weight, scale, out=np.zeros_like(weight), where=scale > 0)) * scale
    for rows in ROWS:
        x = activations(rows, shape[1])
        found = tiles.product(library, pool, matrix, x, variant=variant)
        # A weight half way between two steps may go either way.
        close = np.abs(found - rounded(library, x, variant) @ as_stored.T.astype(np.float64))
        assert (close <= 1e-2 * np.abs(x).max() * np.abs(weight).max() + SUMMING * np.abs(found)).all()


@pytest.mark.parametrize("size", [1e-45, 1e-38, 3e-37, 3e38])
def test_weights_at_the_ends_of_float32_are_rounded_to_8_bits_too(library: Library, pool: Pool, size: float) -> None:
    weight = np.random.default_rng(0).uniform(-size, size, (16, 64)).astype(np.float32)
    weight[:, 1::2] = 0
    matrix = tiles.pack_int8(library, weight)
    found = tiles.product(library, pool, matrix, np.eye(64, dtype=np.float32), variant=library.variant)
    # What is too small for a scale is nothing.
    np.testing.assert_allclose(found.T, weight if size > 1e-36 else 0, atol=size / 100)


def test_every_scale_is_read_as_it_was_written(library: Library, pool: Pool, variant: str) -> None:
    """All 127 codes of E4M3 from 0 on, subnormal ones too, with every one of the 16 weights."""
    codes = np.arange(127, dtype=np.uint8).reshape(-1, 1)
    nibbles = np.arange(16, dtype=np.uint8)
    packed = nvfp4.Packed(np.tile(nibbles[0::2] | nibbles[1::2] << 4, (127, 1)), codes, np.float32(1))
    matrix = tiles.pack(library, packed)
    for column in range(16):
        x = np.zeros((1, 16), np.float32)
        x[0, column] = 127  # a power of two times 127 / 127: nothing is rounded
        found = tiles.product(library, pool, matrix, x, variant=variant)[0]
        np.testing.assert_array_equal(found, nvfp4.decode(packed)[:, column] * np.float32(127))


def test_every_exponent_of_mxfp4_within_2_to_17_of_the_largest_is_exact(library: Library, pool: Pool, variant: str) -> None:
    scales = np.arange(100, 140, dtype=np.uint8).reshape(-1, 1)
    packed = mxfp4.Packed(np.full((40, 16), 0x27, np.uint8), scales)
    x = np.zeros((1, 32), np.float32)
    x[0, 0] = 127
    found = tiles.product(library, pool, tiles.pack(library, packed), x, variant=variant)[0]
    expected = mxfp4.decode(packed)[:, 0] * np.float32(127)
    expected[scales[:, 0] < 139 - 17] = 0
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("as_prompt", [False, True])
def test_a_row_does_not_depend_on_its_neighbours_bit_for_bit(
    library: Library, pool: Pool, variant: str, as_prompt: bool
) -> None:
    weight = weights(48, 1100 // 16 * 16)
    x = activations(37, weight.shape[1])
    for matrix in (tiles.pack(library, nvfp4.encode(weight)), tiles.pack_int8(library, weight)):
        alone = [tiles.product(library, pool, matrix, x[i : i + 1], variant=variant, as_prompt=as_prompt) for i in range(37)]
        for rows in (2, 3, 5, 8, 16, 37):
            together = tiles.product(library, pool, matrix, x[:rows], variant=variant, as_prompt=as_prompt)
            np.testing.assert_array_equal(together, np.concatenate(alone[:rows]))


def test_activations_are_rounded_to_a_127th_of_the_largest_of_64(library: Library, variant: str) -> None:
    x = activations(5, 200)
    values, scales = tiles.quantize(library, x, variant=variant)
    assert values.shape == (5, 256)
    assert (values[:, 200:] == 0).all()
    largest = np.abs(np.pad(x, ((0, 0), (0, 56)))).reshape(5, 4, 64).max(axis=2)
    np.testing.assert_allclose(scales, largest / 127, rtol=1e-6)
    error = np.abs(values * np.repeat(scales, 64, axis=1) - np.pad(x, ((0, 0), (0, 56))))
    assert (error <= 0.5001 * np.repeat(scales, 64, axis=1)).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_a_number_stays_visible(library: Library, pool: Pool, variant: str, bad: float) -> None:
    weight = weights(16, 128)
    x = activations(3, 128)
    x[1, 70] = bad
    for matrix in (tiles.pack(library, nvfp4.encode(weight)), tiles.pack_int8(library, weight)):
        for as_prompt in (False, True):
            found = tiles.product(library, pool, matrix, x, variant=variant, as_prompt=as_prompt)
            assert np.isnan(found[1]).all()
            assert np.isfinite(found[[0, 2]]).all()


def test_the_smallest_and_largest_numbers_do_not_overflow(library: Library, pool: Pool, variant: str) -> None:
    matrix = tiles.pack(library, nvfp4.encode(weights(16, 64)))
    for size in (1e-44, 1e-38, 1e30):
        x = np.full((1, 64), size, np.float32)
        found = tiles.product(library, pool, matrix, x, variant=variant)
        assert np.isfinite(found).all()
    assert (tiles.product(library, pool, matrix, np.zeros((1, 64), np.float32), variant=variant) == 0).all()
