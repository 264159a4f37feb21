"""The FP32 and BF16 products against float64, and the limits that they are measured by."""

from __future__ import annotations

import numpy as np
import pytest

from apprentice.kernels import baseline
from apprentice.kernels.native import Library, Pool
from apprentice.kernels.tiles import aligned

SHAPES = [(1, 1), (16, 32), (17, 31), (33, 100), (48, 577), (100, 64), (250, 1536), (40, 5000)]
"""Outputs that fill no pair of panels, inputs that fill no line, and more inputs than are staged at once."""
ROWS = (*range(1, 14), 16, 17, 24, 25, 31, 33, 128)
FORMATS = ("float", "bf16")


def weights(outputs: int, inputs: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((outputs, inputs)) * np.exp(2 * rng.standard_normal((outputs, 1)))).astype(np.float32)


def stored(weight: np.ndarray, form: str) -> tuple[np.ndarray, np.ndarray]:
    """What is packed, and its exact values."""
    if form == "float":
        return weight, weight
    halves = baseline.to_bf16(weight)
    return halves, baseline.from_bf16(halves)


def multiplied(x: np.ndarray, form: str, variant: str) -> np.ndarray:
    """The activations that a variant multiplies with."""
    return baseline.from_bf16(baseline.to_bf16(x)) if form == "bf16" and variant == "avx512" else x


def tolerance(inputs: int, x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """A sum of K products along one chain is off by at most K roundings of 6e-8 of what it has reached; roundings go
    both ways, so their root is what is seen: four times that, relative to the sum of sizes. Each product may be
    rounded too. Below that lies what BF16 instructions take for zero: below 1.2e-38."""
    size = np.abs(x.astype(np.float64)) @ np.abs(weight.astype(np.float64)).T
    return 4 * 6e-8 * (2 + np.sqrt(inputs)) * size + 1e-36


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_product_is_that_of_float64(library: Library, pool: Pool, variant: str, shape: tuple[int, int], form: str) -> None:
    packed, weight = stored(weights(*shape), form)
    matrix = baseline.pack(library, packed)
    rng = np.random.default_rng(1)
    for rows in ROWS:
        x = rng.standard_normal((rows, shape[1])).astype(np.float32)
        used = multiplied(x, form, variant)
        exact = used.astype(np.float64) @ weight.astype(np.float64).T
        found = baseline.product(library, pool, matrix, x, variant=variant)
        assert (np.abs(found - exact) <= tolerance(shape[1], used, weight)).all(), rows


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("shape", [(33, 100), (112, 1536), (40, 5000)])
def test_a_row_is_the_same_bits_in_every_batch(
    library: Library, pool: Pool, variant: str, shape: tuple[int, int], form: str
) -> None:
    matrix = baseline.pack(library, stored(weights(*shape), form)[0])
    x = np.random.default_rng(2).standard_normal((300, shape[1])).astype(np.float32)
    together = baseline.product(library, pool, matrix, x, variant=variant)
    for rows in ROWS:
        part = baseline.product(library, pool, matrix, x[:rows], variant=variant)
        np.testing.assert_array_equal(part.view(np.uint32), together[:rows].view(np.uint32))


@pytest.mark.parametrize("form", FORMATS)
def test_matrices_are_stacked_at_any_output(library: Library, pool: Pool, variant: str, form: str) -> None:
    parts = [stored(weights(outputs, 70, seed=outputs), form)[0] for outputs in (5, 32, 27, 16, 3)]
    x = np.random.default_rng(3).standard_normal((4, 70)).astype(np.float32)
    found = baseline.product(library, pool, baseline.pack(library, *parts), x, variant=variant)
    single = [baseline.product(library, pool, baseline.pack(library, part), x, variant=variant) for part in parts]
    np.testing.assert_array_equal(found, np.concatenate(single, axis=1))


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("special", [np.inf, -np.inf, np.nan])
def test_what_is_not_finite_stays_so_and_stays_in_its_row(
    library: Library, pool: Pool, variant: str, form: str, special: float
) -> None:
    matrix = baseline.pack(library, stored(np.abs(weights(40, 77)) + np.float32(0.1), form)[0])
    x = np.ones((9, 77), np.float32)
    x[4, 76] = special
    found = baseline.product(library, pool, matrix, x, variant=variant)
    np.testing.assert_array_equal(found[4], np.full(40, special, np.float32))
    assert np.isfinite(np.delete(found, 4, axis=0)).all()


@pytest.mark.parametrize("form", FORMATS)
def test_weights_that_are_not_finite_stay_in_their_output(library: Library, pool: Pool, variant: str, form: str) -> None:
    weight = np.ones((40, 77), np.float32)
    weight[7, 3], weight[8, 76], weight[39, 0] = np.inf, -np.inf, np.nan
    x = np.ones((3, 77), np.float32)
    found = baseline.product(library, pool, baseline.pack(library, stored(weight, form)[0]), x, variant=variant)
    expected = np.full((3, 40), 77, np.float32)
    expected[:, 7], expected[:, 8], expected[:, 39] = np.inf, -np.inf, np.nan
    np.testing.assert_array_equal(found, expected)


def test_products_of_a_list_are_those_of_single_calls(library: Library, pool: Pool) -> None:
    rng = np.random.default_rng(4)
    steps = []
    for outputs, inputs in ((96, 64), (64, 96), (500, 64)):
        matrix = baseline.pack(library, weights(outputs, inputs))
        steps.append((matrix, rng.standard_normal((2, inputs)).astype(np.float32)))
    together = baseline.Products(library, pool, steps)
    assert together.run() > 0
    for (matrix, x), found in zip(steps, together.results(), strict=True):
        np.testing.assert_array_equal(found, baseline.product(library, pool, matrix, x))


def test_bf16_is_rounded_to_the_nearest_even() -> None:
    values = np.array([1, 1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-20, 3.4e38, np.inf, -np.inf], np.float32)
    expected = np.array([1, 1, 1 + 2**-6, 1 + 2**-7, np.inf, np.inf, -np.inf], np.float32)
    np.testing.assert_array_equal(baseline.from_bf16(baseline.to_bf16(values)), expected)
    assert np.isnan(baseline.from_bf16(baseline.to_bf16(np.array([np.nan], np.float32)))).all()


def test_limits_are_measured(library: Library, pool: Pool, variant: str) -> None:
    assert baseline.read_ns(library, pool, aligned(1 << 20), piece=1 << 16, variant=variant) > 0
    speeds = [
        baseline.operations_per_ns(library, pool, kind, pieces=4, turns=1000, variant=variant) for kind in baseline.OPERATIONS
    ]
    has = {"portable": (True, False, False), "avx2": (True, False, True), "avx512": (True, True, True), "neon": (True, False, False)}
    assert tuple(speed is not None for speed in speeds) == has[variant]
