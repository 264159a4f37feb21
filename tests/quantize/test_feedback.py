"""Errors made up for by later columns: less error of the outputs, and the numbers of the slow definition."""

from __future__ import annotations

import numpy as np
import pytest

from apprentice.kernels import formats, nvfp4
from apprentice.quantize.feedback import DAMPING, Feedback


def case(rows: int = 48, columns: int = 192, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Weights and the second moments of correlated inputs of unequal size."""
    random = np.random.default_rng(seed)
    weight = (random.standard_normal((rows, columns)) * 0.05).astype(np.float32)
    inputs = random.standard_normal((600, 24)) @ random.standard_normal((24, columns)) + random.standard_normal((600, columns))
    inputs *= np.exp(random.standard_normal(columns))
    return weight, (inputs.T @ inputs / 600).astype(np.float32)


def slow(weight: np.ndarray, scale: float, moments: np.ndarray) -> np.ndarray:
    """GPTQ as its paper's equation 3 says it: after each column the inverse of the rest is computed anew. Blocks of 16 whose inputs
    weigh most come first."""
    blocks = sorted(range(len(moments) // 16), key=lambda block: -np.trace(moments[16 * block : 16 * block + 16, 16 * block : 16 * block + 16]))
    order = [16 * block + column for block in blocks for column in range(16)]
    if order != list(range(len(order))):
        result = np.empty(weight.shape)
        result[:, order] = slow(weight[:, order], scale, moments[np.ix_(order, order)])
        return result
    weight = weight.astype(np.float64).copy()
    hessian = moments.astype(np.float64) + DAMPING * np.trace(moments) / len(moments) * np.eye(len(moments))
    importance = (np.diag(hessian) / (np.trace(moments) / len(moments))).astype(np.float32)
    quantized = np.zeros_like(weight)
    scales = np.ones(len(weight))
    for column in range(weight.shape[1]):
        if column % 16 == 0:
            block = np.ascontiguousarray(weight[:, column : column + 16].T * scale, dtype=np.float32)
            scales = nvfp4.E4M3[nvfp4.best_scales(block, importance[column : column + 16])].astype(np.float64) / scale
        values = weight[:, column, None] / scales[:, None]
        nearest = np.abs(values - nvfp4.E2M1.astype(np.float64)).argmin(axis=1)
        quantized[:, column] = nvfp4.E2M1[nearest] * scales
        inverse = np.linalg.inv(hessian[column:, column:])
        error = (weight[:, column] - quantized[:, column]) / inverse[0, 0]
        weight[:, column:] -= error[:, None] * inverse[0]
    return quantized


def output_error(weight: np.ndarray, decoded: np.ndarray, moments: np.ndarray) -> float:
    """E|(W - W') x|^2."""
    lost = weight - decoded
    return float(np.vecdot(lost @ moments, lost).sum(dtype=np.float64))


def test_the_result_is_that_of_the_definition() -> None:
    weight, moments = case(rows=12, columns=160)
    scale = nvfp4.global_scale(weight)
    fast, expected = formats.decode(Feedback(moments).encode(weight, scale)), slow(weight, float(scale), moments)
    # Rounding decides a few ties differently, and then the columns behind differ too; the outputs' error does not.
    assert np.mean(np.abs(fast - expected) < 1e-6) > 0.9
    assert output_error(weight, fast, moments) == pytest.approx(output_error(weight, expected, moments), rel=0.05)


def test_outputs_suffer_less_than_without_feedback() -> None:
    weight, moments = case()
    scale = nvfp4.global_scale(weight)

    def error(packed: formats.Packed) -> float:
        return output_error(weight, formats.decode(packed), moments)

    plain = error(nvfp4.encode(weight, scale))
    weighted = error(nvfp4.encode(weight, scale, importance_C=np.diag(moments)))
    assert weighted < plain
    assert error(Feedback(moments).encode(weight, scale)) < 0.5 * weighted


def test_uncorrelated_equal_inputs_give_plain_rounding() -> None:
    weight, _ = case()
    scale = nvfp4.global_scale(weight)
    with_feedback = Feedback(np.eye(192, dtype=np.float32)).encode(weight, scale)
    np.testing.assert_array_equal(formats.decode(with_feedback), formats.decode(nvfp4.encode(weight, scale)))


def test_rows_do_not_influence_each_other() -> None:
    weight, moments = case()
    scale = nvfp4.global_scale(weight)
    changed = weight.copy()
    changed[7] *= 0.5
    before, after = (Feedback(moments).encode(w, scale) for w in (weight, changed))
    others = np.arange(48) != 7
    np.testing.assert_array_equal(before.codes[others], after.codes[others])


def test_inputs_that_calibration_never_saw_are_no_obstacle() -> None:
    weight, moments = case()
    moments[:, 32:64] = moments[32:64] = 0
    for given in (moments, np.zeros_like(moments)):
        decoded = formats.decode(Feedback(given).encode(weight, nvfp4.global_scale(weight)))
        assert np.linalg.norm(decoded - weight) / np.linalg.norm(weight) < 0.2


def test_corrected_weights_do_best_with_what_the_inputs_have_become() -> None:
    random = np.random.default_rng(3)
    weight, _ = case(rows=8, columns=32)
    meant = random.standard_normal((4000, 32)).astype(np.float32)
    given = meant @ (np.eye(32) + 0.2 * random.standard_normal((32, 32))) + 0.1 * random.standard_normal((4000, 32))
    given = given.astype(np.float32)
    feedback = Feedback(given.T @ given / 4000, damping=1e-9)
    best = np.linalg.lstsq(given, meant @ weight.T)[0].T
    np.testing.assert_allclose(weight + feedback.correction(weight, meant.T @ given / 4000), best, atol=1e-4)
    moments = (given.T @ given / 4000).astype(np.float32)
    assert np.abs(Feedback(moments).correction(weight, moments)).max() == 0


def test_moments_that_are_none_are_refused() -> None:
    weight, moments = case()
    for bad in (np.full_like(moments, np.nan), -moments):
        with pytest.raises(ValueError, match="second moments"):
            Feedback(bad).encode(weight, nvfp4.global_scale(weight))
