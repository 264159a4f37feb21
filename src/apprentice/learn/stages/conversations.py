"""sessions/ + examples/ -> conversations/: talks, repairs, refactorings, intents and pairs, split as the examples are."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from apprentice.core import artifacts
from apprentice.core.artifacts import Manifest
from apprentice.core.errors import InputError
from apprentice.core.protocols import ProgressSink
from apprentice.examples import conversation_store, store
from apprentice.examples.conversation import Conversation
from apprentice.examples.conversations import ConversationsConfig, HeldOut, build
from apprentice.examples.example import NEXT_EDIT
from apprentice.examples.split import TRAIN
from apprentice.learn.run import Run
from apprentice.sessions.outcomes.judging import OutcomesConfig, judge
from apprentice.sessions.policy import Policy
from apprentice.sessions.store import Sessions
from apprentice.text import tools
from apprentice.text.chat import UNDATED, Rendered, render
from apprentice.text.tokenizer import Tokenizer

NAME = "conversations"


def make(run: Run, sessions: Sessions, examples_hash: str) -> Manifest | None:
    """To be learned from besides the edits: those of talks, those of commits only where that is asked for; None where there are
    none."""
    of_commits = run.config.commit_conversations
    if not of_commits and not any(stream.talks for stream in sessions.streams()):
        return None
    parents = {"sessions": sessions.hash, "base": run.base_hash, "examples": examples_hash}
    made = write(
        run.artifact(NAME), sessions, run.artifact("examples"), run.tokenizer, run.policy, run.progress,
        config=ConversationsConfig(commits=of_commits), parents=parents, learn_from=run.config.learn_from,
    )  # fmt: skip
    counts = {key.removeprefix("train_"): count for key, count in made.counts.items() if key.startswith("train_")}
    run.progress.note("conversations to learn from: " + (", ".join(f"{count:,} {kind}" for kind, count in counts.items()) or "none"))
    return made if counts else None


def to_learn(folder: Path, tokenizer: Tokenizer, progress: ProgressSink) -> list[tuple[Conversation, Rendered]]:
    """The conversations for training, as the checkpoint's template tells them. One that the template refuses is counted. Those of
    talks come last: where there are more than their share, the last are taken, and commits are many."""
    if tokenizer.chat_template is None:
        progress.note("conversations are not learned from: the base has no chat template")
        return []
    found: list[tuple[Conversation, Rendered]] = []
    refused: Counter[str] = Counter()
    for row in sorted(conversation_store.read(folder, TRAIN), key=lambda row: not row.commit):
        try:
            found.append((row, rendered(row, tokenizer)))
        except InputError as error:
            refused[error.message] += 1
    for reason, count in refused.items():
        progress.note(f"{count:,} conversations are left out: {reason}")
    return found


def rendered(row: Conversation, tokenizer: Tokenizer) -> Rendered:
    """As the checkpoint's template tells it. Raises: InputError where the template refuses it."""
    return render(tokenizer, None, tools.for_template(row.messages, tokenizer.chat_template), variables=UNDATED)


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
