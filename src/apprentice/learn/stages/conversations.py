"""sessions/ + examples/ -> conversations/: talks, repairs, refactorings, intents and pairs, split as the examples are."""

from __future__ import annotations

from pathlib import Path

from apprentice.core import artifacts
from apprentice.core.artifacts import Manifest
from apprentice.core.protocols import ProgressSink
from apprentice.examples import conversation_store, store
from apprentice.examples.conversations import ConversationsConfig, HeldOut, build
from apprentice.examples.example import NEXT_EDIT
from apprentice.examples.split import TRAIN
from apprentice.sessions.outcomes.judging import OutcomesConfig, judge
from apprentice.sessions.policy import Policy
from apprentice.sessions.store import Sessions
from apprentice.text.tokenizer import Tokenizer


def write(
    folder: Path, sessions: Sessions, examples: Path, tokenizer: Tokenizer, policy: Policy, progress: ProgressSink, *,
    config: ConversationsConfig, parents: dict[str, str], learn_from: tuple[str, ...] = (),
) -> Manifest:  # fmt: skip
    """Build them, or find them built. `examples`: whose splits are followed, and whose held-out edits are kept out."""
    if artifacts.is_finished(folder):
        manifest = artifacts.read(folder, kind=conversation_store.KIND)
        described = conversation_store.described(config, learn_from)
        if manifest.made_from(version=conversation_store.VERSION, parents=parents, config=described):
            return manifest
    has_talks = any(stream.talks for stream in sessions.streams())
    outcomes = judge(sessions, OutcomesConfig(), progress) if has_talks else []
    progress.stage("build conversations")
    built = build(sessions, tokenizer, policy, held_out(examples), outcomes, config)
    return conversation_store.write(folder, built, config, parents=parents, learn_from=learn_from)


def held_out(examples: Path) -> HeldOut:
    """What the model of these examples is tested on."""
    commits = store.read_commits(examples)
    edits = [
        (split, example.commit, example.edit)
        for split in commits if split != TRAIN for example in store.read(examples, split, kind=NEXT_EDIT)
    ]  # fmt: skip
    return HeldOut(commits, edits)
