"""examples/, conversations/, silent_places/, base -> checkpoint/: fine-tuning on what developers did, in the time that is left for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from apprentice.core import config
from apprentice.core.artifacts import Manifest
from apprentice.examples import store
from apprentice.examples.split import TRAIN
from apprentice.learn.config import LearnConfig
from apprentice.learn.run import Run
from apprentice.learn.stages import conversations, silent_places
from apprentice.learn.stages.answers import Answers
from apprentice.learn.stages.quantize import after_training_s
from apprentice.model.config import read_config

if TYPE_CHECKING:
    from apprentice.train.sft import SftConfig

FULL_PARAMETERS = 600_000_000
"""Above this `auto` trains adapters: all weights with their moments need 16 bytes a parameter."""


def make(
    run: Run, examples_hash: str, said: Answers, *, talks: Manifest | None = None, silent: Manifest | None = None
) -> Manifest:
    """Train, go on with training, or find it done. `talks`: the conversations, where there are any; `silent`: the silent places."""
    from apprentice.train import sft

    folder = run.artifact("examples")
    parents = {"base": run.base_hash, "examples": examples_hash, "answers": said.hash}
    if talks is not None:
        parents[conversations.NAME] = talks.hash
    if silent is not None:
        parents[silent_places.NAME] = silent.hash
    budget = run.stored("train_budget_s", lambda: round(budget_s(run), 1)) if run.config.by_clock else None
    return sft.train(
        run.base_folder,
        list(store.read(folder, "train")),
        list(store.read(folder, "valid")),
        run.tokenizer,
        run.artifact("checkpoint"),
        sft=recipe(run),
        parents=parents,
        progress=run.progress,
        answers=said.conversations,
        conversations=conversations.to_learn(run.artifact(conversations.NAME), run.tokenizer, run.progress) if talks else (),
        silent=list(store.read(run.artifact(silent_places.NAME), TRAIN)) if silent else (),
        steps=run.config.steps,
        budget_s=budget,
    )


def recipe(run: Run) -> SftConfig:
    """The default, for this base, with the keys that were set."""
    from apprentice.train.sft import SftConfig

    return config.load(SftConfig, None, run.config.recipe, defaults=SftConfig(weights=weights_for(run.config, read_config(run.base_folder).num_parameters), seed=run.config.seed))


def weights_for(config: LearnConfig, num_parameters: int) -> Literal["full", "upper", "lora"]:
    """`auto`: all weights where they fit comfortably, else adapters."""
    if config.weights != "auto":
        return config.weights
    return "full" if num_parameters <= FULL_PARAMETERS else "lora"


def budget_s(run: Run) -> float:
    """Seconds for training: the whole less what is used and what comes after it."""
    return max(run.clock.left_s - after_training_s(run, read_config(run.base_folder)), 0.1 * run.config.budget_s)

