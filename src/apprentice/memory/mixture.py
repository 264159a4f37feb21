"""The memory's second opinion on the next token of ONE suggestion.

    context --lookup in each source--> Opinions --Gate--> shares --> share x model + sum of share x opinion
       ^                                                                                 |
       └────────────────────────────── advance(token chosen) <───────────────────────────┘

An opinion is a distribution over the tokens that followed the most similar places: each place votes with a weight that
grows with the length of its match, so a single long match outvotes many short ones and still leaves them something.
The context is code (the lines above and the replacement so far), never a prompt with its marks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from apprentice.memory.gate import FEATURES, SOURCES, Gate, Records
from apprentice.memory.index import MAX_MATCH, Matches, View

PLACES = 32
"""Most similar places asked for in each source."""
SHARPNESS = 2.0
"""A match longer by one token weighs exp(SHARPNESS) times as much ..."""
SATURATION = 16
"""... up to this length."""
MIN_DRAFT_MATCH = 2
HIT_DECAY = 0.8
FLOOR = -15.0
"""Log-probabilities below are no further news to the gate."""
REGION = SOURCES.index("region")
_VOTES = [math.exp(SHARPNESS * (min(length, SATURATION) - SATURATION)) for length in range(MAX_MATCH + 1)]


@dataclass(frozen=True, slots=True)
class Source:
    """Where to look, and what not to look at there."""

    view: View
    without_group: int | None = None


@dataclass(frozen=True, slots=True)
class Opinion:
    """What a source says comes next."""

    shares: dict[int, float]
    """Token id -> its share of the votes; they sum to 1."""
    best: int
    """The token with the largest share."""
    length: int
    """Of the longest match."""
    count: int
    """Places that match so long, PLACES at most."""
    matches: Matches


def opinion(matches: Matches) -> Opinion | None:
    """The votes of the places, counted; None where there are none."""
    if not len(matches):
        return None
    lengths = matches.lengths.tolist()
    votes = [_VOTES[length] for length in lengths]
    total = sum(votes)
    shares: dict[int, float] = {}
    for token, vote in zip(matches.tokens.tolist(), votes, strict=True):
        shares[token] = shares.get(token, 0.0) + vote / total
    best = max(shares, key=lambda token: shares[token])
    return Opinion(shares, best, lengths[0], lengths.count(lengths[0]), matches)


class MemoryMixture:
    """Implements `core.protocols.Mixture`. `sources`: one for each of `gate.SOURCES`, None where it has no say."""

    def __init__(self, sources: Sequence[Source | None], context: Sequence[int], gate: Gate) -> None:
        self._sources, self._gate = sources, gate
        self._context = list(context[-MAX_MATCH:])
        self._hits = [0.0] * len(SOURCES)
        self._known: list[Opinion | None] | None = None

    def mix(self, log_probs_V: np.ndarray) -> np.ndarray:
        opinions = self.opinions()
        present_S = np.array([opinion is not None for opinion in opinions])
        if not present_S.any():
            return log_probs_V
        shares = self._gate.shares(self.features(opinions, log_probs_V), present_S)
        mixed_V = log_probs_V + np.float32(math.log(max(shares[0], 1e-30)))
        heard: dict[int, float] = {}
        for known, share in zip(opinions, shares[1:].tolist(), strict=True):
            for token, vote in known.shares.items() if known is not None else ():
                heard[token] = heard.get(token, 1e-30) + share * vote
        tokens = np.fromiter(heard, np.int64, len(heard))
        mixed_V[tokens] = np.logaddexp(mixed_V[tokens], np.log(np.fromiter(heard.values(), float, len(heard))))
        return mixed_V

    def advance(self, token_id: int) -> None:
        for source, known in enumerate(self.opinions()):
            if known is not None:
                hit = 1.0 if known.best == token_id else -1.0
                self._hits[source] = HIT_DECAY * self._hits[source] + (1 - HIT_DECAY) * hit
        self._context = [*self._context[1 - MAX_MATCH :], token_id]
        self._known = None

    def draft(self, max_tokens: int) -> list[int]:
        """How the text went on at the place with the longest match."""
        heard = [(o, s) for o, s in zip(self.opinions(), self._sources, strict=True) if o is not None and s is not None]
        strongest = max(heard, key=lambda pair: (pair[0].length, pair[0].shares[pair[0].best]), default=None)
        if strongest is None or strongest[0].length < MIN_DRAFT_MATCH:
            return []
        matches = strongest[0].matches
        place = int(np.flatnonzero(matches.tokens == strongest[0].best)[0])
        return strongest[1].view.following(int(matches.documents[place]), int(matches.positions[place]), max_tokens)

    def opinions(self) -> list[Opinion | None]:
        """Of each source, on the token that comes next."""
        if self._known is None:
            self._known = [
                None
                if source is None
                else opinion(source.view.nearest(self._context, PLACES, without_group=source.without_group))
                for source in self._sources
            ]
        return self._known

    def features(self, opinions: Sequence[Opinion | None], log_probs_V: np.ndarray) -> np.ndarray:
        """What the gate looks at, a row for each source; zeros where it has no opinion."""
        known_V = np.maximum(log_probs_V, -60.0)
        entropy = -float(np.dot(np.exp(known_V), known_V))
        features_SF = np.zeros((len(SOURCES), len(FEATURES)), np.float32)
        region = opinions[REGION]
        for source, known in enumerate(opinions):
            if known is None:
                continue
            log_prob = float(known_V[known.best])
            repeats = source != REGION and region is not None and region.best == known.best
            features_SF[source] = (
                1.0, math.log1p(known.length), math.log1p(known.count), known.shares[known.best], entropy,
                max(log_prob, FLOOR), math.exp(log_prob), self._hits[source], repeats,
            )  # fmt: skip
        return features_SF


class Recorder(MemoryMixture):
    """Leaves the model's opinion as it is, and notes what the gate would have seen at each token that came."""

    def __init__(self, sources: Sequence[Source | None], context: Sequence[int], gate: Gate) -> None:
        super().__init__(sources, context, gate)
        self._log_probs_V: np.ndarray | None = None
        self._rows: list[tuple[np.ndarray, list[bool], list[float], float]] = []

    def mix(self, log_probs_V: np.ndarray) -> np.ndarray:
        self._log_probs_V = log_probs_V
        return log_probs_V

    def advance(self, token_id: int) -> None:
        """Notes the token if `mix` was asked about it."""
        if self._log_probs_V is not None:
            opinions = self.opinions()
            chances = [0.0 if o is None else o.shares.get(token_id, 0.0) for o in opinions]
            features_SF = self.features(opinions, self._log_probs_V)
            present = [o is not None for o in opinions]
            self._rows.append((features_SF, present, chances, float(self._log_probs_V[token_id])))
            self._log_probs_V = None
        super().advance(token_id)

    @property
    def records(self) -> Records:
        """One for each token that came, in order."""
        shape = (len(self._rows), len(SOURCES))
        return Records(
            np.array([row[0] for row in self._rows], np.float32).reshape(*shape, len(FEATURES)),
            np.array([row[1] for row in self._rows], bool).reshape(shape),
            np.array([row[2] for row in self._rows], np.float32).reshape(shape),
            np.array([row[3] for row in self._rows], np.float32),
        )
