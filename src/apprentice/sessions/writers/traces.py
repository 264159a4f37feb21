"""Conversations in the Session Trace Simple Format, which the Hugging Face Hub shows in its viewer of traces: a file each.

    {"type": "session", "harness", "id", "name"}
    {"type": "message", "message": {"role", "content", "reasoningContent", "toolCalls": [{"id", "function": {"name", "arguments"}}],
     "toolCallId", "timestamp": milliseconds}}

The form has no place for a mark of the loss; who may be learned from stands in the header (`learn_from`), where further fields are
allowed and passed over. Source: https://huggingface.co/docs/hub/session-traces-format.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from apprentice.core.text_safety import shorten
from apprentice.sessions.events import Prompt, Reply, Session
from apprentice.sessions.policy import Policy
from apprentice.sessions.writers.turns import Turn, assistant, iso_time

TOLD = (Prompt, Reply)
SUFFIX = ".jsonl"
IS_FOLDER = True
_NAME_LENGTH = 80


def document(session: Session, turns: Sequence[Turn], policy: Policy) -> bytes:
    """The file of a conversation."""
    name = next((turn.event.text for turn in turns if isinstance(turn.event, Prompt)), session.id)
    header = {
        "type": "session", "harness": session.source, "id": session.id, "name": shorten(name, _NAME_LENGTH),
        "agent": assistant(session), "learn_from": policy.learn_from,
    }  # fmt: skip
    lines = [header, *({"type": "message", "message": message} for turn in turns for message in _messages(turn))]
    return b"".join(msgspec.json.encode(line) + b"\n" for line in lines)


def _messages(turn: Turn) -> Iterator[dict[str, Any]]:
    when = {"timestamp": round(turn.event.time * 1000)} if iso_time(turn.event.time) is not None else {}
    match turn.event:
        case Prompt(text=text):
            yield {"role": "user", "content": text, **when}
        case Reply(text=text, reasoning=reasoning):
            message: dict[str, Any] = {"role": "assistant", "content": text, **when}
            if reasoning:
                message["reasoningContent"] = reasoning
            if turn.calls:
                message["toolCalls"] = [{"id": call.id, "function": {"name": call.name, "arguments": call.arguments}} for call in turn.calls]
            yield message
            for call in turn.calls:
                yield {"role": "tool", "toolCallId": call.id, "content": call.result, **when}
        case _:
            pass
