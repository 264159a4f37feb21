"""How far each source of the memory is trusted at a token: one softmax over {the model, the sources}.

    features of each source at a token --weights--> scores --softmax with the model's score of 0--> shares that sum to 1

A source without a match takes no part. The features say how long and how often the context was seen, how clearly the
source speaks, how sure the model is, what the MODEL thinks of the source's best token (the strongest of all), whether
the source was right at the last tokens, and whether it only repeats the lines that are about to be replaced.

`Gate.fit` looks for the weights under which given tokens are likeliest (gradient known in closed form, L-BFGS), held
near a gate to start from by a quadratic prior, so that few records move it little and many as far as they like.
Records must come from commits that neither weights nor memory have seen, and from the model that will be mixed with: a
tuned model needs its memory less. The shipped defaults were fitted on two public repositories with SmolLM2-135M.

Left out: log-linear mixing of the same sources, which was no better on held-out commits.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files as package_files
from typing import Any

import numpy as np

from apprentice.core.errors import InputError

SOURCES = ("file", "repository", "edits", "region")
"""This file without the region; other files; all earlier edits; the lines of the region itself (what is to be replaced)."""
FEATURES = (
    "bias", "log_length", "log_count", "top_share", "model_entropy", "top_log_prob", "top_prob", "recent_hits",
    "repeats_region",
)  # fmt: skip
MAX_WEIGHT = 1e3


@dataclass(frozen=True, slots=True)
class Records:
    """What the gate saw at some tokens and how well each source guessed: N tokens, S sources, F features."""

    features_NSF: np.ndarray
    """float32"""
    present_NS: np.ndarray
    """Whether the source had a match."""
    chances_NS: np.ndarray
    """What each source gave the token that came, float32."""
    log_probs_N: np.ndarray
    """What the model gave it, float32."""

    def __len__(self) -> int:
        return len(self.log_probs_N)

    @classmethod
    def join(cls, parts: Sequence[Records]) -> Records:
        """All of them as one. `parts` is not empty."""
        columns = ("features_NSF", "present_NS", "chances_NS", "log_probs_N")
        return cls(*(np.concatenate([getattr(part, column) for part in parts]) for column in columns))


class Gate:
    """`weights_SF`: for each of SOURCES a row, for each of FEATURES a column."""

    def __init__(self, weights_SF: np.ndarray) -> None:
        if weights_SF.shape != (len(SOURCES), len(FEATURES)):
            raise ValueError(f"a gate has {len(SOURCES)} x {len(FEATURES)} weights, not {weights_SF.shape}")
        self.weights_SF = np.asarray(weights_SF, np.float64)

    @classmethod
    def default(cls) -> Gate:
        """The gate that ships with the package."""
        return cls.from_dict(_shipped())

    def shares(self, features_SF: np.ndarray, present_S: np.ndarray) -> np.ndarray:
        """The share of the model, then of each source; they sum to 1."""
        return _softmax(self.weights_SF, features_SF[None], present_S[None])[0]

    def log_probs(self, records: Records) -> np.ndarray:
        """What the mixture gives each recorded token."""
        shares = _softmax(self.weights_SF, records.features_NSF, records.present_NS)
        return np.log(_parts(shares, records).sum(axis=1))

    @classmethod
    def fit(
        cls, records: Records, weights_N: np.ndarray | None = None, *, start: Gate | None = None, prior: float = 5.0
    ) -> Gate:
        """The gate under which the records are likeliest. `weights_N`: how much each token counts (advice: changed and
        end 1, copied 0.2); `prior`: how hard it is held to `start` (the default gate), in tokens for a distance of 1."""
        from scipy.optimize import minimize

        start = start or cls.default()
        if not len(records):
            return start
        weights = np.ones(len(records)) if weights_N is None else np.asarray(weights_N, np.float64)
        shape = start.weights_SF.shape
        features = records.features_NSF.astype(np.float64)

        def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
            moved = flat.reshape(shape) - start.weights_SF
            shares = _softmax(flat.reshape(shape), features, records.present_NS)
            parts = _parts(shares, records)
            total = parts.sum(axis=1)
            # d loss / d score of a source = its share before the token was seen - its share after.
            pulls_NS = (shares[:, 1:] - parts[:, 1:] / total[:, None]) * weights[:, None]
            gradient = np.einsum("ns,nsf->sf", pulls_NS, features) + 2 * prior * moved
            return float(-(weights * np.log(total)).sum() + prior * (moved**2).sum()), gradient.ravel()

        found = minimize(loss, start.weights_SF.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": 300})
        return cls(found.x.reshape(shape))

    def to_dict(self) -> dict[str, Any]:
        weights = {
            source: {name: round(float(value), 5) for name, value in zip(FEATURES, row, strict=True)}
            for source, row in zip(SOURCES, self.weights_SF, strict=True)
        }
        return {"version": 1, "weights": weights}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Gate:
        """Raises: InputError where it is no gate of this version's."""
        try:
            rows = [[float(data["weights"][source][name]) for name in FEATURES] for source in SOURCES]
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"not a gate of the memory: {error!r}", hint="fit it again: `apprentice learn`") from None
        weights = np.array(rows)
        if not (np.abs(weights) <= MAX_WEIGHT).all():
            raise InputError("a weight of the memory's gate is out of range", hint="fit it again: `apprentice learn`")
        return cls(weights)


def _softmax(weights_SF: np.ndarray, features_NSF: np.ndarray, present_NS: np.ndarray) -> np.ndarray:
    scores = np.zeros((len(features_NSF), 1 + len(weights_SF)))
    scores[:, 1:] = np.where(present_NS, (features_NSF * weights_SF).sum(axis=2), -np.inf)
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def _parts(shares: np.ndarray, records: Records) -> np.ndarray:
    chances = np.concatenate([np.exp(records.log_probs_N.astype(np.float64))[:, None], records.chances_NS], axis=1)
    return np.maximum(shares * chances, 1e-300)


@cache
def _shipped() -> dict[str, Any]:
    return json.loads(package_files("apprentice.memory").joinpath("default_gate.json").read_text(encoding="utf-8"))
