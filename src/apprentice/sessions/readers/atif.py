"""Agent trajectories (ATIF), a JSON document each: Harbor's agents write them, and `sessions export --form atif` does.

    {"schema_version": "ATIF-v1.7", "session_id", "agent": {"name"}, "steps": [{"source": "user" | "agent" | "system", ...}],
     "subagent_trajectories": [...]}

A step of the user is a prompt, one of the agent a reply with its calls and their results. Steps of the system are prompts of the
system, which nobody in a conversation said: they are counted; a summary after a compaction is kept, and so is what our own export
put there. A sub-agent's trajectory is a session of its own (`ID/TRAJECTORY`), asked by the assistant. Steps that were copied from
an earlier trajectory are counted and not read again.

What a tool did stays in its call: the form does not say whether a command was allowed or an edit kept, so nothing is made of it.
Documents that break the specification are kept aside whole. Source: see `writers/atif.py`.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict, deque
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import msgspec

from apprentice.core.errors import InputError
from apprentice.sessions.conversation import Conversation, Sink, Use
from apprentice.sessions.events import Provenance, Session
from apprentice.sessions.writers.atif import OURS

SOURCE = "atif"
SUFFIX = ".json"
MAX_FILE_BYTES = 256 << 20
_NOTES = ("plan", "debugging", "commit_message", "review", "summary")
_MAX_ID = 300


class _Part(msgspec.Struct):
    type: str
    text: str | None = None


class _ToolCall(msgspec.Struct):
    tool_call_id: str
    function_name: str
    arguments: msgspec.Raw
    extra: dict[str, Any] | None = None


class _Result(msgspec.Struct):
    source_call_id: str | None = None
    content: str | list[_Part] | None = None


class _Observation(msgspec.Struct):
    results: list[_Result]


class _Step(msgspec.Struct):
    source: Literal["user", "agent", "system"]
    message: str | list[_Part]
    timestamp: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[_ToolCall] | None = None
    observation: _Observation | None = None
    extra: dict[str, Any] | None = None
    is_copied_context: bool | None = None

    @property
    def results(self) -> list[_Result]:
        return self.observation.results if self.observation else []

    @property
    def ours(self) -> dict[str, Any]:
        """What our own export said of it."""
        return _ours(self.extra)


class _Agent(msgspec.Struct):
    name: str


class _Trajectory(msgspec.Struct):
    schema_version: str
    agent: _Agent
    steps: list[_Step]
    session_id: str | None = None
    trajectory_id: str | None = None
    extra: dict[str, Any] | None = None
    subagent_trajectories: list[_Trajectory] | None = None


class Atif:
    """Reads files one after the other; knows what it has read."""

    source = SOURCE

    def __init__(self) -> None:
        self._seen: dict[str, list[bytes]] = {}

    def recognizes(self, path: Path, beginning: bytes) -> bool:
        """Whether a file that begins so is one of these."""
        return path.suffix == SUFFIX and beginning.lstrip()[:1] == b"{" and b'"ATIF-v' in beginning

    def identity(self, beginning: bytes) -> str:
        """A trajectory lies in one file."""
        return ""

    def started(self, path: Path, beginning: bytes) -> float:
        """When the session began, as far as the beginning of its file says; 0 where it does not."""
        found = beginning.partition(b'"timestamp"')[2].split(b'"')
        return _seconds(found[1].decode("ascii", "replace")) if len(found) > 1 else 0.0

    def read(self, path: Path, sink: Sink) -> Iterator[Session]:
        """The session of a file, then those of its sub-agents."""
        if path.stat().st_size > MAX_FILE_BYTES:
            raise InputError(f"`{path}` is larger than {MAX_FILE_BYTES:,} bytes", hint="leave it out")
        data = path.read_bytes()
        trajectory = msgspec.json.decode(data, type=_Trajectory)
        digest = hashlib.sha256(data).digest()
        name = (trajectory.trajectory_id or trajectory.session_id or digest.hex()[:16])[:_MAX_ID]
        # One session may go on in further documents under the same name.
        parts = self._seen.setdefault(name, [])
        if digest in parts:
            sink.drop("sessions that another file has")
            return
        parts.append(digest)
        yield from _sessions(trajectory, name if len(parts) == 1 else f"{name}/part-{len(parts)}", path, sink, by_assistant=False)


def _sessions(trajectory: _Trajectory, name: str, path: Path, sink: Sink, *, by_assistant: bool) -> Iterator[Session]:
    if not trajectory.schema_version.startswith("ATIF-v1."):
        sink.keep_aside("another version", Provenance(source=SOURCE, file=path.name), trajectory.schema_version[:100])
        return
    repository = _ours(trajectory.extra).get("repository", "")
    conversation = Conversation(
        sink, source=SOURCE, file=path.name, session_id=name, agent=trajectory.agent.name[:_MAX_ID],
        repository=repository[:_MAX_ID] if isinstance(repository, str) else "", by_assistant=by_assistant,
    )  # fmt: skip
    is_ours = bool(_ours(trajectory.extra))
    for number, step in enumerate(trajectory.steps, 1):
        if step.is_copied_context:
            sink.drop("steps copied from an earlier trajectory")
        else:
            _tell(conversation, step, number, sink, is_ours=is_ours)
    session = conversation.session()
    if session is not None:
        yield session
    for number, part in enumerate(trajectory.subagent_trajectories or [], 1):
        yield from _sessions(part, f"{name}/{part.trajectory_id or number}"[:_MAX_ID], path, sink, by_assistant=True)


def _tell(conversation: Conversation, step: _Step, number: int, sink: Sink, *, is_ours: bool) -> None:
    time, text = _seconds(step.timestamp), _text(step.message, sink)
    if step.source == "agent":
        conversation.replied(text, time, number, reasoning=step.reasoning_content or "", uses=_uses(step, sink))
    elif step.source == "user" and is_ours:
        conversation.asked(text, time, number, by_assistant=step.ours.get("author") == "assistant")
    elif step.source == "user":
        conversation.said(text, time, number)
    else:
        _tell_of_system(conversation, step, text, time, number, sink)


def _tell_of_system(conversation: Conversation, step: _Step, text: str, time: float, number: int, sink: Sink) -> None:
    output = "\n".join(_text(result.content, sink) for result in step.results)
    context = (step.extra or {}).get("context_management")
    match step.ours:
        case {"type": "note", "kind": str(kind)} if kind in _NOTES:
            conversation.noted(kind, text, time, number)
        case {"type": "feedback", "vote": "up" | "down" | None as vote}:
            conversation.voted(vote, text, time, number)
        case {"type": "command", "exit_code": int() | None as exit_code} if not isinstance(exit_code, bool):
            conversation.typed(text, output, time, number, exit_code=exit_code)
        case {"type": "test_run", "passed": int(passed), "failed": int(failed)} if not (isinstance(passed, bool) or isinstance(failed, bool)):
            conversation.typed(text, output, time, number, tests=(passed, failed))
        case _ if isinstance(context, dict) and context.get("type") == "compaction":
            conversation.noted("summary", output or text, time, number)
        case _:
            sink.drop("prompts of the system")


def _uses(step: _Step, sink: Sink) -> list[Use]:
    """The calls with their results: by their ids, and where there are none in their order."""
    named: defaultdict[str, list[_Result]] = defaultdict(list)
    for result in step.results:
        if result.source_call_id is not None:
            named[result.source_call_id].append(result)
    nameless = deque(result for result in step.results if result.source_call_id is None)
    uses: list[Use] = []
    for call in step.tool_calls or []:
        results = named.pop(call.tool_call_id, None) or ([nameless.popleft()] if nameless else [])
        recorded = _ours(call.extra).get("arguments")
        arguments = recorded if isinstance(recorded, str) else bytes(call.arguments).decode()
        uses.append(Use(name=call.function_name, arguments=arguments, result="\n".join(_text(result.content, sink) for result in results)))
    if left := sum(map(len, named.values())) + len(nameless):
        sink.drop("results of no call", left)
    return uses


def _text(content: str | list[_Part] | None, sink: Sink) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    others = sum(part.text is None for part in content)
    if others:
        sink.drop("images and sounds", others)
    return "\n".join(part.text for part in content if part.text is not None)


def _ours(extra: dict[str, Any] | None) -> dict[str, Any]:
    found = (extra or {}).get(OURS)
    return found if isinstance(found, dict) else {}


def _seconds(text: str | None) -> float:
    """ISO 8601 to seconds since 1970, UTC where no zone is said; 0 where it is none."""
    try:
        moment = datetime.fromisoformat(text or "")
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return 0.0
