"""What quantization lost: an error for each matrix, sums over all, and the sizes before and after.

The relative error of a matrix is ||w - w'|| / ||w||: about 0.09 for NVFP4 with amax / 6 and bell-shaped weights, less
with the search. What it does to predictions is measured by the evaluation (`quantized_memory` against `tuned_memory`).
No clock is read here: equal inputs give equal reports.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec


class MatrixError(msgspec.Struct, frozen=True, kw_only=True):
    """One matrix."""

    name: str
    rows: int
    columns: int
    squared_error: float
    squared_weights: float
    scales_moved: float
    """Share of blocks whose scale is not the one nearest to amax / 6."""

    @property
    def relative_error(self) -> float:
        return math.sqrt(self.squared_error / self.squared_weights) if self.squared_weights > 0 else 0.0


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """One checkpoint."""

    matrices: tuple[MatrixError, ...]
    kept: tuple[str, ...]
    """Tensors stored as BF16: embeddings, head, norms, biases, and matrices whose width is no multiple of 16."""
    bytes_before: int
    """Of the source's tensors as they are stored there."""
    bytes_after: int

    @property
    def relative_error(self) -> float:
        """Of all quantized weights together."""
        weights = sum(matrix.squared_weights for matrix in self.matrices)
        return math.sqrt(sum(matrix.squared_error for matrix in self.matrices) / weights) if weights > 0 else 0.0

    @property
    def num_quantized(self) -> int:
        """Weights stored in 4 bits."""
        return sum(matrix.rows * matrix.columns for matrix in self.matrices)

    def summary(self) -> dict[str, Any]:
        worst = max(self.matrices, key=lambda matrix: matrix.relative_error, default=None)
        return {
            "relative_error": round(self.relative_error, 5),
            "worst": None if worst is None else {"name": worst.name, "relative_error": round(worst.relative_error, 5)},
            "quantized_weights": self.num_quantized,
            "bytes_before": self.bytes_before,
            "bytes_after": self.bytes_after,
        }

    def rows(self) -> list[tuple[str, float]]:
        """A line for each kind of matrix, such as `mlp.down_proj`: its error over all layers."""
        kinds: dict[str, list[float]] = {}
        for matrix in self.matrices:
            sums = kinds.setdefault(".".join(matrix.name.split(".")[-2:]), [0.0, 0.0])
            sums[0] += matrix.squared_error
            sums[1] += matrix.squared_weights
        return [(kind, math.sqrt(error / weights) if weights > 0 else 0.0) for kind, (error, weights) in kinds.items()]

    def to_dict(self) -> dict[str, Any]:
        """For JSON: the summary and every matrix."""
        return self.summary() | {
            "matrices": [
                {
                    "name": matrix.name,
                    "shape": [matrix.rows, matrix.columns],
                    "relative_error": round(matrix.relative_error, 6),
                    "scales_moved": round(matrix.scales_moved, 4),
                }
                for matrix in self.matrices
            ],
            "kept": list(self.kept),
        }
