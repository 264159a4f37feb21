"""Older work to learn from, newer work to be judged by: commits, cut by time, never rows.

    commits of one repository, oldest first --> train 70 % | valid 5 % (early stop) | gate 5 % (memory) | test 20 %

Each repository is cut for itself, so that each is learned and tested. Percent of commits that gave examples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

TRAIN, VALID, GATE, TEST = SPLITS = ("train", "valid", "gate", "test")


@dataclass(frozen=True, kw_only=True, slots=True)
class Shares:
    """Shares of the commits, in order of time; the rest is for training."""

    valid: float = 0.05
    """For early stop, 0 to 0.5."""
    gate: float = 0.05
    """For the gates of the memory, 0 to 0.5."""
    test: float = 0.20
    """Held out, the newest, 0 to 0.5."""
    max_heldout: int = 0
    """Commits of these three together, most; 0: as many as their shares are. Where the newest work matters most, as with recorded
    sessions, a long history should not hold all of it out."""

    def __post_init__(self) -> None:
        for name in ("valid", "gate", "test"):
            if not 0 <= getattr(self, name) <= 0.5:
                raise ValueError(f"{name} must be from 0 to 0.5")
        if self.valid + self.gate + self.test >= 1:
            raise ValueError("valid, gate and test together must leave something to train on")
        if self.max_heldout < 0:
            raise ValueError("max_heldout must be 0 or more")

    @property
    def heldout(self) -> float:
        """Share of all commits."""
        return self.valid + self.gate + self.test


def split_commits(commits: Sequence[str], shares: Shares = Shares()) -> dict[str, str]:
    """Commit -> split. `commits`: distinct, oldest first. With few commits the newest part comes first: test, then gate,
    then valid get one each before anything is left over for them to miss."""
    left = len(commits)
    whole = min(left, shares.max_heldout / shares.heldout) if shares.max_heldout and shares.heldout else left
    sizes = {}
    for name in (TEST, GATE, VALID):
        share = getattr(shares, name)
        sizes[name] = min(max(round(share * whole), 1 if share > 0 else 0), max(left - 1, 0))
        left -= sizes[name]
    names = [TRAIN] * left + [VALID] * sizes[VALID] + [GATE] * sizes[GATE] + [TEST] * sizes[TEST]
    return dict(zip(commits, names, strict=True))
