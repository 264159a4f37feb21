"""NVFP4 against slow loops, over every code."""

import numpy as np
import pytest

from apprentice.kernels import nvfp4


def value_of_e4m3(code: int) -> float:
    """The definition, bit by bit (OCP 8-bit floating point specification)."""
    sign = -1.0 if code & 0x80 else 1.0
    exponent, mantissa = (code >> 3) & 15, code & 7
    if exponent == 15 and mantissa == 7:
        return float("nan")
    if exponent == 0:
        return sign * mantissa / 8 * 2.0**-6
    return sign * (1 + mantissa / 8) * 2.0 ** (exponent - 7)


def nearest(value: float, table: list[float]) -> set[int]:
    """Indices of the table's values that are nearest: two at a tie."""
    distance = min(abs(value - x) for x in table)
    return {i for i, x in enumerate(table) if abs(value - x) == distance}


def weights(rows: int = 24, columns: int = 96, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_t(4, (rows, columns)) * 0.02).astype(np.float32)


def test_activations_are_rounded_block_by_block_under_amax_over_6() -> None:
    x = np.random.default_rng(7).standard_normal((5, 64)).astype(np.float32)
    x[0, :16] *= 1e-6
    x[1, 16:32] *= 3
    scale = np.float32(448 * 6 / 4)
    sizes = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6])
    for row, group in np.ndindex(5, 4):
        block = x[row, 16 * group : 16 * group + 16].astype(np.float64) * float(scale)
        step = min(float(nvfp4.E4M3[nvfp4.encode_e4m3(np.array([np.abs(block).max() / 6], np.float32))][0]), 448)
        near = [0.0 if step == 0 else np.sign(v) * sizes[np.abs(sizes - min(abs(v) / step, 6)).argmin()] * step for v in block]
        found = nvfp4.rounded(x, scale)[row, 16 * group : 16 * group + 16]
        np.testing.assert_allclose(found, np.array(near) / float(scale), rtol=1e-6)
    assert not nvfp4.rounded(x, scale)[0, :16].any()


def test_every_e4m3_code_decodes_to_its_definition() -> None:
    expected = np.array([value_of_e4m3(code) for code in range(256)], np.float32)
    np.testing.assert_array_equal(nvfp4.E4M3, expected)


def test_every_e4m3_value_encodes_to_its_own_code() -> None:
    codes = np.array([code for code in range(256) if code & 0x7F != 0x7F], np.uint8)
    np.testing.assert_array_equal(nvfp4.encode_e4m3(nvfp4.E4M3[codes]), codes)


def test_e4m3_rounds_to_nearest_with_ties_to_even_and_saturates() -> None:
    table = [value_of_e4m3(code) for code in range(127)]
    middles = [(a + b) / 2 for a, b in zip(table, table[1:], strict=False)]
    random = np.random.default_rng(1)
    values = np.array([*middles, *random.uniform(0, 460, 400), *(2.0 ** random.uniform(-12, 9, 400))], np.float32)
    for value, code in zip(values.tolist(), nvfp4.encode_e4m3(values).tolist(), strict=True):
        best = nearest(min(value, 448.0), table)
        assert code in best
        assert len(best) == 1 or code % 2 == 0
    assert nvfp4.encode_e4m3(np.array([449, 1e30, np.inf, -np.inf], np.float32)).tolist() == [0x7E, 0x7E, 0x7E, 0xFE]
    assert nvfp4.encode_e4m3(np.array([np.nan], np.float32))[0] & 0x7F == 0x7F


@pytest.mark.parametrize("search", [False, True])
def test_every_scale_code_and_every_weight_code_survives_a_round_trip(search: bool) -> None:
    """A row for each scale, holding all 15 values in units of it: nothing may be lost, whatever scale is chosen."""
    scales = nvfp4.E4M3[1:127]
    block = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.5, -1, -1.5, -2, -3, -4, -6, 0.5], np.float32)
    exact = scales[:, None] * block
    packed = nvfp4.encode(exact, np.float32(1), search=search)
    np.testing.assert_array_equal(nvfp4.decode(packed), exact)
    np.testing.assert_array_equal(packed.scales[:, 0], np.arange(1, 127))


def test_decode_equals_a_loop_over_all_codes_and_scales() -> None:
    codes = np.arange(256, dtype=np.uint8).repeat(127).reshape(256, 127).T.reshape(-1, 8).copy()
    scales = (np.arange(len(codes)) % 127).astype(np.uint8)[:, None]
    divisor = np.float32(37.5)
    got = nvfp4.decode(nvfp4.Packed(codes, scales, divisor))
    e2m1 = [0, 0.5, 1, 1.5, 2, 3, 4, 6]
    for row in range(0, len(codes), 7):
        scale = np.float32(value_of_e4m3(int(scales[row, 0]))) / divisor
        for column in range(16):
            nibble = (int(codes[row, column // 2]) >> (4 * (column % 2))) & 15
            value = np.float32(-e2m1[nibble & 7] if nibble & 8 else e2m1[nibble])
            assert got[row, column] == value * scale


def test_each_weight_gets_the_nearest_value_of_its_block() -> None:
    weight = weights(4, 32)
    packed = nvfp4.encode(weight)
    for row in range(4):
        for column in range(32):
            scale = float(nvfp4.E4M3[packed.scales[row, column // 16]]) / float(packed.global_scale)
            nibble = (int(packed.codes[row, column // 2]) >> (4 * (column % 2))) & 15
            distances = np.abs(float(weight[row, column]) - nvfp4.E2M1.astype(np.float64) * scale)
            assert distances[nibble] <= distances.min() * (1 + 1e-4)


def test_search_finds_the_best_of_all_scale_codes_for_nearly_every_block() -> None:
    """An exhaustive loop over the 126 scales is never better by much: the searched range is wide enough."""
    weight = weights(8, 64, seed=3)
    found = (nvfp4.decode(nvfp4.encode(weight)) - weight).reshape(-1, 16)
    divisor = float(nvfp4.global_scale(weight))
    blocks = weight.reshape(-1, 16).astype(np.float64)
    for block, errors in zip(blocks, found, strict=True):
        best = min(
            sum(min((abs(x) - v * s) ** 2 for v in (0, 0.5, 1, 1.5, 2, 3, 4, 6)) for x in block)
            for s in (float(nvfp4.E4M3[code]) / divisor for code in range(1, 127))
        )
        assert float(np.square(errors.astype(np.float64)).sum()) <= best * (1 + 1e-4)


def test_search_loses_less_than_amax_over_six() -> None:
    weight = weights(64, 512)

    def error(packed: nvfp4.Packed) -> float:
        return float(np.square(nvfp4.decode(packed) - weight).sum())

    assert error(nvfp4.encode(weight)) < 0.85 * error(nvfp4.encode(weight, search=False))


def test_importance_moves_the_error_to_columns_that_count_less() -> None:
    weight = weights(64, 256)
    importance = np.where(np.arange(256) % 4 == 0, 100.0, 0.1).astype(np.float32)

    def weighted(packed: nvfp4.Packed) -> float:
        return float((np.square(nvfp4.decode(packed) - weight) * importance).sum())

    assert weighted(nvfp4.encode(weight, importance_C=importance)) < 0.9 * weighted(nvfp4.encode(weight))


def test_blocks_of_zeros_and_of_tiny_weights_beside_huge_ones() -> None:
    weight = np.zeros((3, 32), np.float32)
    weight[1, :16] = 1000.0
    weight[1, 16:] = 1e-7
    decoded = nvfp4.decode(nvfp4.encode(weight))
    np.testing.assert_array_equal(decoded[[0, 2]], 0)
    np.testing.assert_allclose(decoded[1, :16], 1000.0, rtol=1e-6)
    assert np.isfinite(decoded).all()


def test_a_shared_divisor_serves_matrices_of_different_size() -> None:
    small, large = weights(8, 32) / 100, weights(8, 32)
    divisor = nvfp4.global_scale(small, large)
    assert divisor == nvfp4.global_scale(large)
    relative = np.linalg.norm(nvfp4.decode(nvfp4.encode(small, divisor)) - small) / np.linalg.norm(small)
    assert relative < 0.11


def test_encode_is_the_same_however_the_rows_are_cut() -> None:
    weight = weights(300, 256)
    whole = nvfp4.encode(weight)
    parts = [nvfp4.encode(weight[i : i + 100], whole.global_scale) for i in (0, 100, 200)]
    np.testing.assert_array_equal(whole.codes, np.concatenate([part.codes for part in parts]))
    np.testing.assert_array_equal(whole.scales, np.concatenate([part.scales for part in parts]))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_refused(bad: float) -> None:
    weight = weights(4, 32)
    weight[2, 5] = bad
    with pytest.raises(ValueError, match="not finite"):
        nvfp4.encode(weight)


def test_widths_and_importance_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="multiple of 16"):
        nvfp4.encode(weights(2, 24))
    with pytest.raises(ValueError, match="importance"):
        nvfp4.encode(weights(2, 32), importance_C=np.full(32, np.nan, np.float32))
