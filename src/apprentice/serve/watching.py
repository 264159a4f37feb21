"""Log-probabilities of each token at the moment it is chosen, for streams and for given tokens.

A `Watcher` stands where the memory's mixture stands and passes everything on: it sees the full distribution of each
step and the token that was taken, which neither the stream's callback nor a `Score` says.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from apprentice.core.protocols import Mixture


@dataclass(frozen=True, slots=True)
class Watched:
    """One token."""

    token_id: int
    log_prob: float
    top: dict[int, float]
    """The likeliest tokens in order."""


class Watcher:
    """A Mixture around another one, or around none."""

    def __init__(self, num_top: int, inner: Mixture | None = None) -> None:
        self.tokens: list[Watched] = []
        self._num_top, self._inner = num_top, inner
        self._log_probs_V: np.ndarray | None = None

    def mix(self, log_probs_V: np.ndarray) -> np.ndarray:
        self._log_probs_V = log_probs_V if self._inner is None else self._inner.mix(log_probs_V)
        return self._log_probs_V

    def advance(self, token_id: int) -> None:
        if self._inner is not None:
            self._inner.advance(token_id)
        assert self._log_probs_V is not None
        self.tokens.append(Watched(token_id, float(self._log_probs_V[token_id]), _top(self._log_probs_V, self._num_top)))

    def draft(self, max_tokens: int) -> list[int]:
        return [] if self._inner is None else self._inner.draft(max_tokens)


def _top(log_probs_V: np.ndarray, count: int) -> dict[int, float]:
    if count == 0:
        return {}
    ids = np.argpartition(-log_probs_V, min(count, len(log_probs_V) - 1))[:count]
    return {int(i): float(log_probs_V[i]) for i in ids[np.argsort(-log_probs_V[ids], kind="stable")]}
