"""sessions/ -> examples/: what becomes an example, in prompts sized by the base's tokenizer."""

from __future__ import annotations

from pathlib import Path

from apprentice.core.artifacts import Manifest
from apprentice.examples import build, store
from apprentice.examples.build import ExamplesConfig
from apprentice.examples.history import History
from apprentice.learn.run import Run
from apprentice.sessions.store import Sessions


def make(run: Run, sessions: Sessions) -> Manifest:
    """Build the examples, or find them built."""
    config, learn_from = ExamplesConfig(), run.config.learn_from
    parents = {"sessions": sessions.hash, "base": run.base_hash}
    folder: Path = run.artifact("examples")
    if manifest := run.fresh("examples", version=store.VERSION, parents=parents, config=store.described(config, learn_from)):
        return manifest
    run.progress.stage("build examples")
    built = build.build(History(sessions, policy=run.policy), run.tokenizer, config)
    return store.write(folder, built, config, parents=parents, learn_from=learn_from)
