"""Whether a completed line is what the developer typed."""

from __future__ import annotations

import math
from collections.abc import Sequence


def first_line(text: str) -> str:
    """Generated text up to its line break."""
    return text.split("\n", 1)[0]


def is_exact(generated: str, rest: str) -> bool:
    """`generated` and `rest` both go on at the cursor; blanks at the end of the line do not count."""
    return first_line(generated).rstrip() == rest.rstrip()


def confidence(model_log_probs: Sequence[float]) -> float:
    """Log of the product of the model's own token probabilities: higher is surer. A suggestion without a token is none
    at all: minus infinity."""
    return math.fsum(model_log_probs) if model_log_probs else -math.inf
