"""sessions/ -> examples/: what becomes an example, in prompts sized by the base's tokenizer."""

from __future__ import annotations

from pathlib import Path

from apprentice.core.artifacts import Manifest
from apprentice.core.protocols import ProgressSink
from apprentice.examples import build, recorded, store
from apprentice.examples.build import ExamplesConfig
from apprentice.examples.history import History
from apprentice.examples.split import Shares
from apprentice.learn.run import Run
from apprentice.sessions.policy import Policy
from apprentice.sessions.store import Sessions
from apprentice.text.tokenizer import Tokenizer

MAX_HELDOUT = 180
"""Commits that are held out, most, where there are recordings and talks: these are new, and what is newer than the first held-out
commit is not learned from. 120 of them are for the test, twice what a run evaluates."""


def make(run: Run, sessions: Sessions) -> Manifest:
    """Build the examples, or find them built."""
    config, learn_from = config_for(sessions), run.config.learn_from
    parents = {"sessions": sessions.hash, "base": run.base_hash}
    if manifest := run.fresh("examples", version=store.VERSION, parents=parents, config=store.described(config, learn_from)):
        return manifest
    return write(
        run.artifact("examples"), sessions, run.tokenizer, run.policy, run.progress, config=config, parents=parents, learn_from=learn_from
    )


def write(
    folder: Path, sessions: Sessions, tokenizer: Tokenizer, policy: Policy, progress: ProgressSink, *, config: ExamplesConfig,
    parents: dict[str, str], learn_from: tuple[str, ...] = (),
) -> Manifest:  # fmt: skip
    """Edits of histories and of recordings."""
    progress.stage("build examples")
    typed = list(recorded.works(sessions.talks(), policy))
    built = build.build(History(sessions, policy=policy), tokenizer, config, typed)
    return store.write(folder, built, config, parents=parents, learn_from=learn_from)


def config_for(sessions: Sessions) -> ExamplesConfig:
    """The default, and fewer commits held out where there is more than histories."""
    has_talks = any(stream.talks for stream in sessions.streams())
    return ExamplesConfig(shares=Shares(max_heldout=MAX_HELDOUT)) if has_talks else ExamplesConfig()
