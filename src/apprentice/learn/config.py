"""What a run of `apprentice learn` is asked to do, and how its time is shared out."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from apprentice.core.errors import ConfigError

Weights = Literal["auto", "full", "upper", "lora"]

EVALUATION_SHARE = 0.36
"""Of the whole budget, for evaluating."""
GATE_SHARE = 0.03
"""Of the whole budget, for fitting each of the memory's two gates."""
SILENCE_SHARE = 0.03
"""Of the whole budget, for learning when to be silent."""
RESERVE_SHARE = 0.05
"""Of the whole budget, kept for writing models and the report."""
EVAL_COMMITS = 24
"""Held-out commits that are evaluated where steps are given and no number of commits."""
MIN_EDITS, MIN_COMMITS = 300, 60
"""Usable edits and commits below which a run makes no claim about learning."""

_BUDGET = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")


@dataclass(frozen=True, kw_only=True, slots=True)
class LearnConfig:
    """One run."""

    repositories: tuple[Path, ...] = ()
    """Git repositories whose history is read; naming one is the permission to learn from it."""
    sessions: tuple[Path, ...] = ()
    """Exported histories or folders of sessions."""
    base: str = "default"
    """Where the weights come from: `default`, `debug`, a folder or a hub name."""
    weights: Weights = "auto"
    """Which weights are trained: all, the upper half of the layers, or adapters."""
    budget_s: float = 600
    """Seconds of the whole run, summed over resumes, without set-up."""
    steps: int | None = None
    """Steps of training, where the clock shall not decide: a resumed run is then the same bit for bit."""
    seed: int = 0
    """Of the order of training data, samples and intervals."""
    limit_commits: int = 3000
    """Newest commits read of each repository."""
    eval_commits: int | None = None
    """Held-out commits to evaluate, where the clock shall not decide; with `steps` it does not."""
    learn_from: tuple[str, ...] = ()
    """Whose words carry loss (`sessions.policy`); empty: what the file `policy.toml` of the runs says, or developers."""
    recipe: tuple[str, ...] = ()
    """Keys of the recipe of training (`train.sft.SftConfig`) in place of the default's, as `silence=0.1`."""
    commit_conversations: bool = False
    """Whether commits are learned from as conversations too: their messages, and changes of files for a message."""

    def __post_init__(self) -> None:
        if self.budget_s < 10:
            raise ConfigError(f"a budget of {self.budget_s:g} s is too short", hint="use `--budget 1m` or more")
        check_seed(self.seed)
        if self.steps is not None and self.steps < 1:
            raise ConfigError("`--steps` must be 1 or more", hint="leave it out, and the clock decides")
        if self.eval_commits is not None and self.eval_commits < 1:
            raise ConfigError("`--eval-commits` must be 1 or more", hint="leave it out, and the clock decides")
        if self.limit_commits < 1:
            raise ConfigError("`--limit-commits` must be 1 or more", hint="leave it out to read 3,000")
        if self.weights not in ("auto", "full", "upper", "lora"):
            raise ConfigError(f"`{self.weights}` is no choice of weights", hint="use `auto`, `full`, `upper` or `lora`")

    @property
    def by_clock(self) -> bool:
        """Whether the clock decides how much is trained and evaluated."""
        return self.steps is None


def check_seed(seed: int) -> None:
    """Raises: ConfigError."""
    if seed < 0:
        raise ConfigError(f"`--seed {seed}` is below 0", hint="give 0 or more")


def parse_budget(text: str) -> float:
    """Seconds of `10m`, `1h30m`, `90s`. Raises: ConfigError."""
    match = _BUDGET.fullmatch(text.strip())
    if not match or not any(match.groups()):
        raise ConfigError(f"`{text}` is no budget of time", hint="write it as `10m`, `1h30m` or `90s`")
    hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return 3600 * hours + 60 * minutes + seconds
