"""Conversations in the Agent Trajectory Interchange Format (ATIF), a document each. `readers/atif.py` reads them back.

    Prompt                       a step of source `user`
    Reply with its calls         a step of source `agent`: tool_calls, and their results as its observation
    Note, Feedback, the          a step of source `system` with what it is under `extra.apprentice`
    developer's own Command,
    TestRun

The form has no mark of the loss: each agent's step says `extra.train`, and the root's `extra.policy` who may be learned from and on
what terms. What only we write is under `extra.apprentice`; everything else is the specification's.

Source: https://github.com/harbor-framework/harbor/blob/main/rfcs/0001-trajectory-format.md, version 1.7.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from apprentice.sessions.events import Command, Feedback, Note, Prompt, Reply, Session, TestRun
from apprentice.sessions.policy import Policy
from apprentice.sessions.writers.turns import Call, Turn, assistant, iso_time

TOLD = (Prompt, Reply, Note, Feedback, Command, TestRun)
SUFFIX = ".json"
IS_FOLDER = True
SCHEMA_VERSION = "ATIF-v1.7"
OURS = "apprentice"
"""The field of `extra` that is ours."""


def document(session: Session, turns: Sequence[Turn], policy: Policy) -> bytes:
    """The trajectory of a conversation."""
    root = {
        "schema_version": SCHEMA_VERSION,
        "session_id": session.id,
        "trajectory_id": session.id,
        # Which version answered is not recorded, and the specification wants one.
        "agent": {"name": assistant(session), "version": "unknown"},
        "steps": [_step(number, turn) for number, turn in enumerate(turns, 1)],
        "extra": {"policy": policy.describe([session.source]), OURS: {"source": session.source, "repository": session.repository}},
    }
    return msgspec.json.encode(root) + b"\n"


def _step(number: int, turn: Turn) -> dict[str, Any]:
    event = turn.event
    step: dict[str, Any] = {"step_id": number}
    if (when := iso_time(event.time)) is not None:
        step["timestamp"] = when
    match event:
        case Prompt():
            step |= {"source": "user", "message": event.text}
            if event.author.kind != "developer":
                step["extra"] = {OURS: {"author": event.author.kind}}
        case Reply():
            step |= {"source": "agent", "message": event.text}
            if event.reasoning:
                step["reasoning_content"] = event.reasoning
            if turn.calls:
                step["tool_calls"] = [_call(call) for call in turn.calls]
                step["observation"] = {"results": [{"source_call_id": call.id, "content": call.result} for call in turn.calls]}
            step["extra"] = {"train": turn.train}
        case Note():
            step |= {"source": "system", "message": event.text, "extra": {OURS: {"type": "note", "kind": event.kind}}}
        case Feedback():
            step |= {"source": "system", "message": event.text, "extra": {OURS: {"type": "feedback", "vote": event.vote}}}
        case Command():
            step |= {"source": "system", "message": event.command, "observation": {"results": [{"content": event.output}]}}
            step["extra"] = {OURS: {"type": "command", "exit_code": event.exit_code}}
        case TestRun():
            step |= {"source": "system", "message": event.command, "observation": {"results": [{"content": event.output}]}}
            step["extra"] = {OURS: {"type": "test_run", "passed": event.passed, "failed": event.failed}}
    return step


def _call(call: Call) -> dict[str, Any]:
    written: dict[str, Any] = {
        "tool_call_id": call.id, "function_name": call.name, "arguments": msgspec.Raw(call.arguments.encode()),
    }  # fmt: skip
    return written if call.recorded is None else {**written, "extra": {OURS: {"arguments": call.recorded}}}
