"""Quantizing column by column, each error made up for by the columns that follow (GPTQ) - with scales for blocks of columns.

    W [R, C], E[x x^T] [C, C] --columns left to right--> codes; what column c loses is spread over columns > c

With H = E[x x^T] + damping and U the upper triangular matrix of H^-1 = U^T U, quantizing column c with error e = (w_c - q_c)
/ U[c, c] is best answered by w_j -= e U[c, j] for every j > c: that leaves the least squared error of the outputs. At the
first column of a block its columns, as they stand then, get the scale that the format finds best for them under the weights
diag(H). Rows do not influence each other.

Blocks are taken in the order of how much their inputs weigh, the heaviest first: their errors have the most columns to be made up
in, and where little is left, little is lost. Updates far behind are saved up for SPAN columns, so that they are large matrix products.

Source: GPTQ, arXiv:2210.17323 (equations 2 and 3, algorithm 1); the order of columns by their weight is its implementation's
`act_order`, here by blocks, whose columns share a scale.
"""

from __future__ import annotations

import numpy as np

from apprentice.kernels import nvfp4
from apprentice.kernels.formats import NVFP4, Format, Packed

DAMPING = 0.01
"""Share of the mean second moment added to each: keeps H invertible and trusts the calibration a little less."""
SPAN = 128
"""A multiple of the blocks of all formats."""


class Feedback:
    """What is known of the inputs of a matrix, or of several that read the same."""

    def __init__(self, moments_CC: np.ndarray, *, damping: float = DAMPING, block: int = NVFP4.block) -> None:
        """`moments_CC`: E[x x^T]; `block`: columns that stay together. Raises: ValueError where it cannot be that of finite inputs."""
        weight_G = np.diag(moments_CC).reshape(-1, block).sum(axis=1)
        self._blocks_G = np.argsort(-weight_G, kind="stable")
        self._columns_C = (self._blocks_G[:, None] * block + np.arange(block)).ravel()
        self._moments_CC = moments_CC[np.ix_(self._columns_C, self._columns_C)]
        self._inverse_CC, self._importance_C = _inverse_factor(self._moments_CC, damping)
        self._factor_CC = self._inverse_CC.astype(np.float32)

    def correction(self, weight_RC: np.ndarray, cross_CC: np.ndarray) -> np.ndarray:
        """What to add so that the weights do best with x what they did with other inputs z, damped; `cross_CC`: E[z x^T]."""
        columns_C = self._columns_C
        change_RC = weight_RC[:, columns_C] @ (cross_CC[np.ix_(columns_C, columns_C)].astype(np.float64) - self._moments_CC)
        found_RC = np.empty(weight_RC.shape, np.float32)
        found_RC[:, columns_C] = change_RC @ self._inverse_CC.T @ self._inverse_CC
        return found_RC

    def encode(self, weight_RC: np.ndarray, scale: np.float32, format: Format = NVFP4) -> Packed:
        """Like the format's `encode`."""
        block = format.block
        num_rows, num_columns = weight_RC.shape
        factor_CC, importance_C = self._factor_CC, self._importance_C
        # Columns are worked on one by one: as rows of the transpose they lie together. In units of 1 / global scale.
        weight_CR = np.ascontiguousarray(weight_RC.T[self._columns_C], np.float32) * scale
        scales_GR = np.empty((num_columns // block, num_rows), np.uint8)
        codes_CR = np.empty((num_columns, num_rows), np.uint8)
        for start in range(0, num_columns, SPAN):
            end = min(start + SPAN, num_columns)
            errors_SR = np.empty((end - start, num_rows), np.float32)
            for at in range(start, end, block):
                rows = slice(at, at + block)
                block_ER = weight_CR[rows]
                scales_GR[at // block] = format.best_scales(block_ER, importance_C[rows])
                codes_CR[rows], errors_ER = _quantize_block(
                    block_ER, format.scale_values(scales_GR[at // block]), factor_CC[rows, rows]
                )
                errors_SR[at - start : at - start + block] = errors_ER
                weight_CR[at + block : end] -= factor_CC[rows, at + block : end].T @ errors_ER
            weight_CR[end:] -= factor_CC[start:end, end:].T @ errors_SR
        codes_RC = np.empty((num_rows, num_columns), np.uint8)
        codes_RC[:, self._columns_C] = codes_CR.T
        scales_RG = np.empty((num_rows, num_columns // block), np.uint8)
        scales_RG[:, self._blocks_G] = scales_GR.T
        packed = np.ascontiguousarray(codes_RC[:, 0::2] | (codes_RC[:, 1::2] << 4))
        return format.pack(packed, scales_RG, scale)


def _quantize_block(
    block_ER: np.ndarray, scale_R: np.ndarray, factor_EE: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Codes and scaled errors of a block of columns; `block_ER` is changed."""
    codes_ER = np.empty(block_ER.shape, np.uint8)
    errors_ER = np.empty_like(block_ER)
    for column, values_R in enumerate(block_ER):
        codes_ER[column], quantized_R = nvfp4.nearest(values_R, scale_R)
        errors_ER[column] = (values_R - quantized_R) / factor_EE[column, column]
        block_ER[column + 1 :] -= factor_EE[column, column + 1 :, None] * errors_ER[column]
    return codes_ER, errors_ER


def _inverse_factor(moments_CC: np.ndarray, damping: float) -> tuple[np.ndarray, np.ndarray]:
    """U of H^-1 = U^T U (float64), and the diagonal of H relative to its mean."""
    hessian_CC = moments_CC.astype(np.float64)
    mean = float(np.trace(hessian_CC)) / len(hessian_CC)
    if not np.isfinite(hessian_CC).all() or mean < 0:
        raise ValueError("second moments are not finite")
    # Inputs that calibration never saw at all: every direction counts the same.
    mean = mean or 1.0
    hessian_CC[np.diag_indices(len(hessian_CC))] += damping * mean
    importance_C = (np.diag(hessian_CC) / mean).astype(np.float32)
    # H = R R^T with R upper triangular, from the lower triangular factor of H turned around; then U = R^-1.
    try:
        upper_CC = np.linalg.cholesky(hessian_CC[::-1, ::-1])[::-1, ::-1]
    except np.linalg.LinAlgError:
        raise ValueError("second moments are no moments: not positive") from None
    return _inverse_upper(upper_CC), importance_C


def _inverse_upper(matrix: np.ndarray) -> np.ndarray:
    """Of an upper triangular matrix, by halves: a sixth of the work of a general inverse, nearly all of it products."""
    size = len(matrix)
    if size <= 64:
        return np.triu(np.linalg.inv(matrix))
    half = size // 2
    inverse = np.zeros((size, size))
    inverse[:half, :half] = _inverse_upper(matrix[:half, :half])
    inverse[half:, half:] = _inverse_upper(matrix[half:, half:])
    inverse[:half, half:] = -inverse[:half, :half] @ matrix[:half, half:] @ inverse[half:, half:]
    return inverse
