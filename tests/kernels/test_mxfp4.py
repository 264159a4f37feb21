"""MXFP4 against its definition, written out, and against compressed-tensors' layout."""

from __future__ import annotations

import numpy as np
import pytest

from apprentice.kernels import mxfp4, nvfp4


def written_out(packed: mxfp4.Packed) -> np.ndarray:
    """The definition, weight by weight."""
    rows, columns = packed.shape
    out = np.empty((rows, columns))
    for r in range(rows):
        for c in range(columns):
            byte = int(packed.codes[r, c // 2])
            out[r, c] = float(nvfp4.E2M1[byte >> 4 if c % 2 else byte & 15]) * 2.0 ** (int(packed.scales[r, c // 32]) - 127)
    return out


@pytest.mark.parametrize("search", [False, True])
def test_what_is_decoded_is_the_definition(search: bool) -> None:
    rng = np.random.default_rng(0)
    weight = (rng.standard_normal((7, 96)) * np.exp(3 * rng.standard_normal((7, 1)))).astype(np.float32)
    packed = mxfp4.encode(weight, search=search)
    np.testing.assert_array_equal(mxfp4.decode(packed), written_out(packed).astype(np.float32))


def test_values_of_the_format_come_back_unchanged() -> None:
    rng = np.random.default_rng(1)
    codes = rng.integers(0, 16, (5, 64)).astype(np.uint8)
    codes[:, ::32] = 7  # the largest value pins the scale
    weight = nvfp4.E2M1[codes] * np.repeat(np.ldexp(np.float32(1), rng.integers(-20, 20, (5, 2))), 32, axis=1)
    np.testing.assert_array_equal(mxfp4.decode(mxfp4.encode(weight)), weight)


def test_the_scale_of_the_specification_is_the_power_of_two_below_a_quarter_of_the_largest() -> None:
    for largest, exponent in ((4.0, 0), (6.0, 0), (7.99, 0), (8.0, 1), (0.25, -4), (3.99, -1)):
        weight = np.full((1, 32), 0.01, np.float32)
        weight[0, 5] = largest
        assert mxfp4.encode(weight, search=False).scales[0, 0] == 127 + exponent


def test_a_search_never_loses_more_than_the_specification() -> None:
    weight = np.random.default_rng(2).standard_normal((50, 320)).astype(np.float32)
    plain, searched = (mxfp4.decode(mxfp4.encode(weight, search=search)) for search in (False, True))
    error = [np.square(found - weight).reshape(-1, 32).sum(axis=1) for found in (plain, searched)]
    assert (error[1] <= error[0] * 1.000001).all()
    assert error[1].sum() < error[0].sum()


def test_columns_that_matter_more_are_rounded_better() -> None:
    weight = np.random.default_rng(3).standard_normal((40, 64)).astype(np.float32)
    importance = np.where(np.arange(64) % 2 == 0, 100.0, 0.01).astype(np.float32)
    even, informed = mxfp4.decode(mxfp4.encode(weight)), mxfp4.decode(mxfp4.encode(weight, importance_C=importance))
    assert np.square(informed - weight)[:, ::2].sum() < np.square(even - weight)[:, ::2].sum()


def test_nvfp4_says_the_same_where_scales_are_not_too_far_apart() -> None:
    rng = np.random.default_rng(5)
    weight = rng.standard_normal((9, 160)).astype(np.float32)
    for exponents, largest in ((rng.integers(-5, 6, (9, 5)), 0), (rng.integers(-5, 6, (9, 5)), -118), (rng.integers(-5, 6, (9, 5)), 118)):
        packed = mxfp4.encode(weight * np.repeat(np.ldexp(np.float32(1), exponents + largest), 32, axis=1))
        np.testing.assert_array_equal(nvfp4.decode(mxfp4.as_nvfp4(packed)), mxfp4.decode(packed))
    scales = np.array([[100, 82, 83, 0]], np.uint8)
    found = nvfp4.decode(mxfp4.as_nvfp4(mxfp4.Packed(np.full((1, 64), 0x22, np.uint8), scales)))
    assert found[0, ::32].tolist() == [2.0**-27, 0.0, 2.0**-44, 0.0]


def test_zeros_and_the_ends_of_the_range_survive() -> None:
    weight = np.zeros((3, 32), np.float32)
    weight[1, 0] = np.finfo(np.float32).max
    weight[2, 0] = np.finfo(np.float32).smallest_subnormal
    decoded = mxfp4.decode(mxfp4.encode(weight))
    assert np.isfinite(decoded).all()
    assert (decoded[0] == 0).all()
    assert decoded[1, 0] == pytest.approx(np.finfo(np.float32).max, rel=0.26)


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="multiple of 32"):
        mxfp4.encode(np.zeros((1, 48), np.float32))
    with pytest.raises(ValueError, match="not finite"):
        mxfp4.encode(np.full((1, 32), np.nan, np.float32))


def test_the_code_255_is_no_number() -> None:
    assert np.isnan(mxfp4.scale_values(np.array([255], np.uint8))[0])
    assert mxfp4.scale_values(np.array([0, 127, 254], np.uint8)).tolist() == [2.0**-127, 1.0, 2.0**127]
