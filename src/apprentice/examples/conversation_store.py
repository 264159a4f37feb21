"""The `conversations` artifact: a JSONL file a split, and the pairs, compressed, in the columns that TRL reads.

    conversations/  train.jsonl.zst  valid.jsonl.zst  gate.jsonl.zst  test.jsonl.zst  pairs.jsonl.zst  manifest.json
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from apprentice.core import artifacts
from apprentice.examples.conversation import Conversation
from apprentice.examples.conversations import Conversations, ConversationsConfig
from apprentice.examples.pair import Pair
from apprentice.examples.split import SPLITS
from apprentice.examples.store import read_rows, write_rows

KIND = "conversations"
VERSION = 2
PAIRS = "pairs.jsonl.zst"


def write(
    folder: Path, built: Conversations, config: ConversationsConfig, *, parents: Mapping[str, str], learn_from: tuple[str, ...] = ()
) -> artifacts.Manifest:
    """Store them. `parents`: content hashes of sessions, examples and base; `learn_from`: the policy, where it is not the default."""
    with artifacts.create(folder, kind=KIND, version=VERSION, parents=parents, config=described(config, learn_from)) as writer:
        for split in SPLITS:
            write_rows(writer.path(f"{split}.jsonl.zst"), built.rows[split])
        write_rows(writer.path(PAIRS), built.pairs)
        return writer.finish(counts=built.counts(), dropped=built.dropped)


def described(config: ConversationsConfig, learn_from: tuple[str, ...]) -> dict[str, Any]:
    """For the manifest: what decides the rows besides the sessions."""
    found: dict[str, Any] = asdict(config) | ({"learn_from": list(learn_from)} if learn_from else {})
    if config.commits:
        # Conversations of before there was the choice stay what they are.
        del found["commits"]
    return found


def read(folder: Path, split: str, *, kind: str | None = None) -> Iterator[Conversation]:
    """The conversations of a split in order of time. Raises: InputError for a folder or a row that is not ours."""
    artifacts.read(folder, kind=KIND)
    return (row for row in read_rows(folder / f"{split}.jsonl.zst", Conversation) if kind in (None, row.kind))


def read_pairs(folder: Path) -> Iterator[Pair]:
    """The pairs of all splits. Raises: InputError."""
    artifacts.read(folder, kind=KIND)
    return read_rows(folder / PAIRS, Pair)
