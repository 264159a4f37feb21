"""What quantization lost: an error for each matrix, sums over all, and the sizes before and after.

The relative error of a matrix is ||W - W'|| / ||W||: about 0.09 for NVFP4 with amax / 6 and bell-shaped weights, less
with the search, and more again where errors were placed so that outputs suffer less; then the output error on the
calibration text is what counts. What it does to predictions is measured by the evaluation (`quantized_memory` against `tuned_memory`).
No clock is read here: equal inputs give equal reports.
"""

from __future__ import annotations

import math
import statistics
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
    """Share of blocks whose scale is not the usual one (for NVFP4 the nearest to amax / 6)."""

    squared_output_error: float | None = None
    """E|W x - W' x'|^2 on the calibration text, where there was one; x' comes out of the quantized layers below."""
    squared_outputs: float | None = None

    @property
    def relative_error(self) -> float:
        return _relative(self.squared_error, self.squared_weights)

    @property
    def output_error(self) -> float | None:
        """How far outputs are off, relative to their size."""
        if self.squared_output_error is None or self.squared_outputs is None:
            return None
        return _relative(self.squared_output_error, self.squared_outputs)


class Distillation(msgspec.Struct, frozen=True, kw_only=True):
    """Training of all quantized matrices together, see `train.distillation`."""

    steps: int
    """0 where it was tried and gave nothing: the matrices are then as they were fitted."""
    kl_before: float
    """To the unquantized model, bits a token of text held out."""
    kl_after: float
    too_short: bool = False
    """Whether there was no time for enough steps."""

    def sentence(self) -> str:
        before, after = f"{self.kl_before:.4f}", f"{self.kl_after:.4f}"
        if self.too_short:
            return "The time for distillation was too short to change anything: it was left out; give it more."
        if not self.steps:
            return f"Distillation from the unquantized model brought it no nearer (KL divergence {before} bits a token) and was left out."
        return (
            f"Distilled from the unquantized model in {self.steps:,} steps: KL divergence {before} bits a token before, {after} after,"
            " on text held out."
        )


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """One checkpoint."""

    matrices: tuple[MatrixError, ...]
    kept: tuple[str, ...]
    """Tensors stored as BF16: embeddings, head, norms, biases, matrices that four bits hurt most or whose width is no multiple of a block."""
    bytes_before: int
    """Of the source's tensors as they are stored there."""
    bytes_after: int
    distillation: Distillation | None = None

    @property
    def relative_error(self) -> float:
        """Of all quantized weights together."""
        errors = sum(matrix.squared_error for matrix in self.matrices)
        return _relative(errors, sum(matrix.squared_weights for matrix in self.matrices))

    @property
    def output_error(self) -> float | None:
        """Median over the matrices: how far their outputs are off; None without calibration."""
        errors = [matrix.output_error for matrix in self.matrices if matrix.output_error is not None]
        return statistics.median(errors) if errors else None

    @property
    def num_quantized(self) -> int:
        """Weights stored in 4 bits."""
        return sum(matrix.rows * matrix.columns for matrix in self.matrices)

    def summary(self) -> dict[str, Any]:
        worst = max(self.matrices, key=lambda matrix: matrix.relative_error, default=None)
        found: dict[str, Any] = {
            "relative_error": round(self.relative_error, 5),
            "output_error": _rounded(self.output_error),
            "worst": None if worst is None else {"name": worst.name, "relative_error": round(worst.relative_error, 5)},
            "quantized_weights": self.num_quantized,
            "bytes_before": self.bytes_before,
            "bytes_after": self.bytes_after,
        }
        return found if self.distillation is None else found | {"distillation": msgspec.structs.asdict(self.distillation)}

    def by_kind(self) -> dict[str, Report]:
        """For each kind of matrix, such as `mlp.down_proj`: the report of those in all layers."""
        kinds: dict[str, list[MatrixError]] = {}
        for matrix in self.matrices:
            kinds.setdefault(".".join(matrix.name.split(".")[-2:]), []).append(matrix)
        return {kind: msgspec.structs.replace(self, matrices=tuple(members)) for kind, members in kinds.items()}

    def to_dict(self) -> dict[str, Any]:
        """For JSON: the summary and every matrix."""
        return self.summary() | {
            "matrices": [
                {
                    "name": matrix.name,
                    "shape": [matrix.rows, matrix.columns],
                    "relative_error": round(matrix.relative_error, 6),
                    "output_error": _rounded(matrix.output_error),
                    "scales_moved": round(matrix.scales_moved, 4),
                }
                for matrix in self.matrices
            ],
            "kept": list(self.kept),
        }


def _relative(squared_error: float, squared_size: float) -> float:
    return math.sqrt(squared_error / squared_size) if squared_size > 0 else 0.0


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 5)
