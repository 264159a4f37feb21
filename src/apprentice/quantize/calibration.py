"""What the inputs of each matrix look like on real text: mean squares, which weigh the error of its columns.

    engine model + token sequences --second_moments()--> module -> mean square of each input

For a layer y = W x the expected squared error of y is the sum over columns of (error of W)^2 times E[x^2], as far as
inputs are uncorrelated; so `kernels.nvfp4.encode` chooses block scales under these weights.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from apprentice.engine.model import NumpyModel
from apprentice.text.decoding import Feed


def second_moments(model: NumpyModel, sequences: Sequence[Sequence[int]]) -> dict[str, np.ndarray]:
    """For `convert(importance=...)`. Some thousand tokens of the kind that the model will see are enough."""
    sums: dict[str, np.ndarray] = {}
    rows = 0

    def observe(name: str, x_ND: np.ndarray) -> None:
        sums[name] = sums.get(name, 0) + np.square(x_ND, dtype=np.float64).sum(axis=0)

    before, model.observer = model.observer, observe
    try:
        for token_ids in sequences:
            if token_ids:
                model.forward([Feed(token_ids, 1)])
                rows += len(token_ids)
    finally:
        model.observer = before
    return {name: (total / rows).astype(np.float32) for name, total in sums.items()}
