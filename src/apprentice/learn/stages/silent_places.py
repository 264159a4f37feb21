"""sessions/ + examples/ -> silent_places/: where nothing was to be done, near the edits that are learned from, to be learned too.

In the form of examples, all in the split for training; how many are shown is the recipe's to say (`silence`).
"""

from __future__ import annotations

from pathlib import Path

from apprentice.core import artifacts
from apprentice.core.artifacts import Manifest
from apprentice.core.protocols import ProgressSink
from apprentice.examples import silent, store
from apprentice.examples.build import ExamplesConfig
from apprentice.examples.history import History
from apprentice.examples.kinds.silence import SILENCE
from apprentice.examples.split import TRAIN
from apprentice.learn.run import Run
from apprentice.sessions.policy import Policy
from apprentice.sessions.store import Sessions
from apprentice.text.tokenizer import Tokenizer

NAME = "silent_places"


def make(run: Run, sessions: Sessions, examples_hash: str, *, share: float) -> Manifest | None:
    """Of a run whose recipe shows some; None for any other."""
    if share <= 0:
        return None
    parents = {"sessions": sessions.hash, "base": run.base_hash, "examples": examples_hash}
    made = write(
        run.artifact(NAME), sessions, run.artifact("examples"), run.tokenizer, run.policy, run.progress, parents=parents,
        learn_from=run.config.learn_from,
    )  # fmt: skip
    return made if made.counts.get(f"{TRAIN}_{SILENCE}") else None


def write(
    folder: Path, sessions: Sessions, examples: Path, tokenizer: Tokenizer, policy: Policy, progress: ProgressSink, *,
    parents: dict[str, str], learn_from: tuple[str, ...] = (),
) -> Manifest:  # fmt: skip
    """Build them, or find them built. `examples`: those that are learned from, and whose held-out commits are kept out."""
    config = ExamplesConfig()
    if artifacts.is_finished(folder):
        manifest = artifacts.read(folder, kind=store.KIND)
        if manifest.made_from(version=store.VERSION, parents=parents, config=store.described(config, learn_from)):
            return manifest
    progress.stage("find silent places")
    held_out = {commit for split, commits in store.read_commits(examples).items() if split != TRAIN for commit in commits}
    learned = {example.moment for example in store.read(examples, TRAIN)}
    built = silent.build(
        History(sessions, policy=policy), sessions.talks(), tokenizer, policy, learned=learned, held_out=held_out, config=config.prompt
    )
    return store.write(folder, built, config, parents=parents, learn_from=learn_from)
