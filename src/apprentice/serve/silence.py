"""Show it or be silent? What is known of a suggestion when it is made -> the chance that it is right -> shown from `show_from` on.

    Suggestion's lines, log-probabilities and place, latest edits --facts()--> x_F --Decision, a row of weights a kind--> chance

A model that was trained on edits alone always has one to offer, also where nothing is to be done, and its confidence cannot tell: that
a line goes takes two tokens and is always sure. So there is a logistic model for each kind of suggestion (the rest of a line, lines for
a line, a line that goes), fitted on commits that the weights have not seen, at the places of edits and at as many near them where nothing
was to be done. Its answer is a chance, so the border is a matter of costs and not of taste: with 0.75 for a right one and 0.25 for
one in the way, showing pays from a chance of 0.25 on (Cursor's reward: cursor.com/blog/tab-rl).

`Decision.fit` looks for the weights under which given outcomes are likeliest, held near a decision to start from by a quadratic prior, as
the memory's gate is. The shipped one was fitted on two public repositories, so that the first hour is not the noisiest. Stored are
numbers alone.

Left out: how often this developer took what was shown; a second pass that asks how likely the line as it stands is.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any

from apprentice.core import artifacts
from apprentice.core.errors import InputError
from apprentice.core.protocols import Sample
from apprentice.examples.checks.edit import reversal
from apprentice.text.edits import Edit

KIND = FOLDER = "silence"
"""The artifact, and what it is called in a run."""
VERSION = 1
FILE = "decision.json"
SHOW_FROM = 0.25
"""Chance of being right from which on a suggestion is shown: 0.75 p > 0.25 (1 - p)."""
KINDS = ("line", "lines", "deletion")
"""The rest of a line; lines in the place of a line; nothing in its place."""
FACTS = (
    "bias", "model", "model_first", "mixture", "mixture_mean", "mixture_lowest", "grown", "new_words", "new_words_recent",
    "gone_words_recent", "follows", "undoes", "distance",
)  # fmt: skip
"""What a decision looks at, each about from -6 to 6: see `facts`."""
MAX_WEIGHT = 1e3
RECENT_EDITS = 8
"""Latest ones that are looked at."""
MAX_DISTANCE = 200
"""Lines from the latest edit of the file; farther ones, and other files, are as far."""
MAX_LINE_CHARS = 4_000
"""Of a line that are looked at."""

_WORD = re.compile(r"\w+")
_HINT = f"remove the folder `{FOLDER}` of the run, and the decision that ships is taken"


@dataclass(frozen=True, slots=True)
class Shown:
    """A suggestion at its place."""

    path: str
    lines: Sequence[str]
    start_line: int
    end_line: int
    new: Sequence[str]
    """What would stand there."""
    is_line: bool
    """The rest of a line was asked for."""

    @property
    def kind(self) -> str:
        return "line" if self.is_line else "lines" if self.new else "deletion"


def facts(shown: Shown, sample: Sample, recent: Sequence[Edit]) -> tuple[float, ...]:
    """In the order of FACTS. Log-probabilities are the model's own, and those of the distribution that was sampled from: with a
    memory, the two say how far it agrees. Words are new or gone in the suggestion, and `recent` where a latest edit brought or took
    them too; where both are, it follows what the developer has just begun."""
    by_model, by_mixture = sample.model_log_probs or [-math.inf], sample.log_probs or [-math.inf]
    old, latest = shown.lines[shown.start_line : shown.end_line], recent[-RECENT_EDITS:]
    new_words, gone_words = _turned(old, shown.new)
    turned = [_turned(edit.old, edit.new) for edit in latest]
    new_recent = _share(new_words, {word for brought, _ in turned for word in brought})
    gone_recent = _share(gone_words, {word for _, taken in turned for word in taken})
    undone, moved = reversal(shown.path, old, shown.new, latest)
    here = [edit.start_line for edit in latest if edit.path == shown.path]
    distance = abs(here[-1] - shown.start_line) if here else MAX_DISTANCE
    grown = sum(map(len, shown.new)) - sum(map(len, old))
    said = max(math.fsum(by_mixture), -30)
    return (
        1.0,
        max(math.fsum(by_model), -30) / 5,
        max(by_model[0], -8) / 2,
        said / 5,
        said / len(by_mixture),
        max(min(by_mixture), -8) / 2,
        math.copysign(math.log1p(abs(grown)), grown) / 3,
        math.log1p(new_words.total()),
        new_recent,
        gone_recent,
        new_recent * gone_recent,
        undone / max(moved, 1),
        math.log1p(min(distance, MAX_DISTANCE)) / 3,
    )


class Decision:
    """`weights`: for each of KINDS a row, for each of FACTS a number."""

    def __init__(self, weights: Mapping[str, Sequence[float]]) -> None:
        if set(weights) != set(KINDS) or any(len(row) != len(FACTS) for row in weights.values()):
            raise ValueError(f"a decision has {len(KINDS)} x {len(FACTS)} weights")
        self.weights = {kind: tuple(map(float, weights[kind])) for kind in KINDS}

    @classmethod
    def default(cls) -> Decision:
        """The one that ships with the package."""
        return cls.from_dict(_shipped())

    def chance(self, kind: str, found: Sequence[float]) -> float:
        """That a suggestion of which this is known is right, 0 to 1."""
        score = math.fsum(weight * fact for weight, fact in zip(self.weights[kind], found, strict=True))
        return 1 / (1 + math.exp(-max(min(score, 60.0), -60.0)))

    @classmethod
    def fit(cls, outcomes: Sequence[Outcome], *, start: Decision | None = None, prior: float = 16.0) -> Decision:
        """The decision under which the outcomes are likeliest. `prior`: how hard each weight is held to `start` (the default), in
        outcomes for a distance of 1."""
        start = start or cls.default()
        return cls({
            kind: _fit([outcome for outcome in outcomes if outcome.kind == kind], start.weights[kind], prior) for kind in KINDS
        })  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        weights = {
            kind: {name: round(value, 5) for name, value in zip(FACTS, row, strict=True)} for kind, row in self.weights.items()
        }
        return {"version": 1, "weights": weights}

    @classmethod
    def from_dict(cls, data: Any) -> Decision:
        """Raises: InputError where it is no decision of this version's."""
        try:
            rows = {kind: [float(data["weights"][kind][name]) for name in FACTS] for kind in KINDS}
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"not a decision to show: {error!r}", hint=_HINT) from None
        if not all(abs(value) <= MAX_WEIGHT for row in rows.values() for value in row):
            raise InputError("a weight of the decision to show is out of range", hint=_HINT)
        return cls(rows)


@dataclass(frozen=True, slots=True)
class Outcome:
    """A suggestion that was made where it is known what was right."""

    kind: str
    facts: tuple[float, ...]
    is_right: bool


def load(folder: Path) -> Decision:
    """A run's; the shipped one where it has none, or one that looked at other things."""
    if not artifacts.is_finished(folder) or artifacts.read(folder, kind=KIND).version != VERSION:
        return Decision.default()
    try:
        return Decision.from_dict(json.loads((folder / FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"`{folder / FILE}` cannot be read: {error}", hint=_HINT) from error


def _fit(outcomes: Sequence[Outcome], start: Sequence[float], prior: float) -> Sequence[float]:
    import numpy as np
    from scipy.optimize import minimize

    if not outcomes:
        return start
    facts_NF, start_F = np.array([outcome.facts for outcome in outcomes]), np.array(start)
    right_N = np.array([outcome.is_right for outcome in outcomes], float)

    def loss(weights_F: np.ndarray) -> tuple[float, np.ndarray]:
        scores_N, moved_F = facts_NF @ weights_F, weights_F - start_F
        value = (np.logaddexp(0, scores_N) - right_N * scores_N).sum() + prior * (moved_F**2).sum()
        chances_N = 1 / (1 + np.exp(-np.clip(scores_N, -60, 60)))
        return float(value), facts_NF.T @ (chances_N - right_N) + 2 * prior * moved_F

    # Taking back what was just done never speaks for a suggestion, however few cases seem to say so.
    bounds = [(None, 0.0) if name == "undoes" else (None, None) for name in FACTS]
    return minimize(loss, start_F, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 300}).x.tolist()


def _turned(old: Sequence[str], new: Sequence[str]) -> tuple[Counter[str], Counter[str]]:
    """Words that come and words that go."""
    before, after = _words(old), _words(new)
    return after - before, before - after


def _words(lines: Sequence[str]) -> Counter[str]:
    return Counter(word for line in lines for word in _WORD.findall(line[:MAX_LINE_CHARS]))


def _share(counted: Counter[str], known: set[str]) -> float:
    """Of what is counted, how much is known."""
    return sum(count for what, count in counted.items() if what in known) / max(counted.total(), 1)


@cache
def _shipped() -> dict[str, Any]:
    return json.loads(package_files("apprentice.serve").joinpath("default_silence.json").read_text(encoding="utf-8"))
