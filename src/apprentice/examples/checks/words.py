"""How near an answer in words comes to the one that a person, or the recorded assistant, gave.

*chrF* (character n-grams, n = 1..6, beta 2, white space left out; Popovic 2015, W15-3049), 0 to 100. A call of a tool counts as
right where its name and its arguments, as JSON, are the recorded ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec

from apprentice.examples.conversation import Call

MAX_ORDER = 6
BETA = 2.0


def chrf(expected: str, generated: str) -> float:
    """0 to 100."""
    wanted, got = "".join(expected.split()), "".join(generated.split())
    precisions: list[float] = []
    recalls: list[float] = []
    for order in range(1, MAX_ORDER + 1):
        a, b = (Counter(text[i : i + order] for i in range(len(text) - order + 1)) for text in (wanted, got))
        if a or b:
            common = (a & b).total()
            precisions.append(common / b.total() if b else 0.0)
            recalls.append(common / a.total() if a else 0.0)
    if not precisions:
        return 100.0
    precision, recall = sum(precisions) / len(precisions), sum(recalls) / len(recalls)
    return 0.0 if precision + recall == 0 else 100 * (1 + BETA**2) * precision * recall / (BETA**2 * precision + recall)


def same_calls(expected: Sequence[Call], generated: Sequence[Call]) -> bool:
    """Whether the same tools are called with the same arguments, in order."""
    return [_call(call) for call in expected] == [_call(call) for call in generated]


def _call(call: Call) -> tuple[str, Any]:
    try:
        return call.function.name, msgspec.json.decode(call.function.arguments)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return call.function.name, call.function.arguments
