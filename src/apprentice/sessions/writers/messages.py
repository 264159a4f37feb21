"""Conversations as Hugging Face `messages`, a conversation a line: what TRL and Axolotl read.

    {"messages": [{"role": "user", "content"},
                  {"role": "assistant", "content", "reasoning_content", "tool_calls": [{"id", "type": "function",
                   "function": {"name", "arguments": JSON text}}], "train": true or false},
                  {"role": "tool", "tool_call_id", "name", "content"}, ...],
     "id", "source", "agent", "repository", "time", "learn_from"}

`train` is the mark of the loss, of replies alone: with `roles_to_train: []` Axolotl takes what has none for not to be trained on, and rows whose
messages differ in their fields from the first on are no columns to `datasets`, which would refuse fields that come later. Axolotl reads the mark
with `message_field_training: train`. TRL has no mark of one message: its
`assistant_only_loss` takes every reply unless the chat template puts `{% generation %}` only around those that are marked, as the
one in the guide does. Arguments are JSON text, as OpenAI has them: objects of different tools would be given each other's
fields by readers of columns.

There is no column `tools`: recordings say which tools were called, not which there were. Sources: TRL's "Dataset formats", Axolotl's
`docs/dataset-formats/conversation.qmd`, OpenAI's chat completions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from apprentice.sessions.events import Prompt, Reply, Session
from apprentice.sessions.policy import Policy
from apprentice.sessions.writers.turns import Turn, assistant, iso_time

TOLD = (Prompt, Reply)
SUFFIX = ".jsonl"
IS_FOLDER = False


def document(session: Session, turns: Sequence[Turn], policy: Policy) -> bytes:
    """The line of a conversation."""
    row = {
        "messages": [message for turn in turns for message in _messages(turn)],
        "id": session.id, "source": session.source, "agent": assistant(session), "repository": session.repository,
        "time": iso_time(session.time) or "", "learn_from": policy.learn_from,
    }  # fmt: skip
    return msgspec.json.encode(row) + b"\n"


def _messages(turn: Turn) -> Iterator[dict[str, Any]]:
    match turn.event:
        case Prompt(text=text):
            yield {"role": "user", "content": text}
        case Reply(text=text, reasoning=reasoning):
            message: dict[str, Any] = {"role": "assistant", "content": text}
            if reasoning:
                message["reasoning_content"] = reasoning
            if turn.calls:
                message["tool_calls"] = [
                    {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}} for call in turn.calls
                ]
            yield {**message, "train": turn.train}
            for call in turn.calls:
                yield {"role": "tool", "tool_call_id": call.id, "name": call.name, "content": call.result}
        case _:
            pass
