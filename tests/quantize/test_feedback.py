"""Errors made up for by later columns: less error of the outputs, and the numbers of the slow definition."""

from __future__ import annotations

import numpy as np
import pytest

from apprentice.kernels import nvfp4
from apprentice.quantize.feedback import DAMPING, encode_with_feedback, output_error


def case(rows: int = 48, columns: int = 192, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Weights and the second moments of correlated inputs of unequal size."""
    random = np.random.default_rng(seed)
    weight = (random.standard_normal((rows, columns)) * 0.05).astype(np.float32)
    inputs = random.standard_normal((600, 24)) @ random.standard_normal((24, columns)) + random.standard_normal((600, columns))
    inputs *= np.exp(random.standard_normal(columns))
    return weight, (inputs.T @ inputs / 600).astype(np.float32)


def slow(weight: np.ndarray, scale: float, moments: np.ndarray) -> np.ndarray:
    """GPTQ as its paper's equation 3 says it: after each column the inverse of the rest is computed anew."""
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


def test_the_result_is_that_of_the_definition() -> None:
    weight, moments = case(rows=12, columns=160)
    scale = nvfp4.global_scale(weight)
    fast, expected = nvfp4.decode(encode_with_feedback(weight, scale, moments)), slow(weight, float(scale), moments)
    # Rounding decides a few ties differently, and then the columns behind differ too; the outputs' error does not.
    assert np.mean(np.abs(fast - expected) < 1e-6) > 0.9
    assert output_error(weight, fast, moments)[0] == pytest.approx(output_error(weight, expected, moments)[0], rel=0.05)


def test_outputs_suffer_less_than_without_feedback() -> None:
    weight, moments = case()
    scale = nvfp4.global_scale(weight)

    def error(packed: nvfp4.Packed) -> float:
        return output_error(weight, nvfp4.decode(packed), moments)[0]

    plain = error(nvfp4.encode(weight, scale))
    weighted = error(nvfp4.encode(weight, scale, importance_C=np.diag(moments)))
    assert weighted < plain
    assert error(encode_with_feedback(weight, scale, moments)) < 0.5 * weighted


def test_uncorrelated_equal_inputs_give_plain_rounding() -> None:
    weight, _ = case()
    scale = nvfp4.global_scale(weight)
    with_feedback = encode_with_feedback(weight, scale, np.eye(192, dtype=np.float32))
    np.testing.assert_array_equal(nvfp4.decode(with_feedback), nvfp4.decode(nvfp4.encode(weight, scale)))


def test_rows_do_not_influence_each_other() -> None:
    weight, moments = case()
    scale = nvfp4.global_scale(weight)
    changed = weight.copy()
    changed[7] *= 0.5
    before, after = (encode_with_feedback(w, scale, moments) for w in (weight, changed))
    others = np.arange(48) != 7
    np.testing.assert_array_equal(before.codes[others], after.codes[others])


def test_inputs_that_calibration_never_saw_are_no_obstacle() -> None:
    weight, moments = case()
    moments[:, 32:64] = moments[32:64] = 0
    for given in (moments, np.zeros_like(moments)):
        decoded = nvfp4.decode(encode_with_feedback(weight, nvfp4.global_scale(weight), given))
        assert np.linalg.norm(decoded - weight) / np.linalg.norm(weight) < 0.2


def test_output_error_is_the_mean_over_inputs() -> None:
    weight, _ = case()
    decoded = nvfp4.decode(nvfp4.encode(weight))
    inputs = np.random.default_rng(1).standard_normal((500, 192)).astype(np.float32)
    moments = inputs.T @ inputs / 500
    error, size = output_error(weight, decoded, moments)
    assert error == pytest.approx(float(np.square(inputs @ (weight - decoded).T).sum() / 500), rel=1e-3)
    assert size == pytest.approx(float(np.square(inputs @ weight.T).sum() / 500), rel=1e-3)


def test_moments_that_are_none_are_refused() -> None:
    weight, moments = case()
    for bad in (np.full_like(moments, np.nan), -moments):
        with pytest.raises(ValueError, match="second moments"):
            encode_with_feedback(weight, nvfp4.global_scale(weight), bad)
