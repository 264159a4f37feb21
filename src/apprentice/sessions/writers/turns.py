"""A conversation as its words: what was asked, what was answered, and what tools returned, in order. Each form of export is
made of these.

    Session --turns()--> Turn(Prompt), Turn(Reply, calls), Turn(what the developer did besides), ...

Events that repeat what a tool was called with (its command, its edits, the place it looked at) are no turns; neither are
suggestions of an editor. What of a session is in no turn, a form counts by type (`untold`).

Whether a turn is marked for training is the policy's word on its author, and only replies are ever marked: who trains on
prompts teaches a model to ask. A reply that says a developer gave it, as a file from elsewhere may, is marked under no policy.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from apprentice.sessions.events import AnyEvent, Command, Feedback, Note, Prompt, Reply, Session, TestRun
from apprentice.sessions.policy import Policy

Own = Prompt | Reply | Note | Feedback | Command | TestRun
_OBJECT = msgspec.json.Decoder(dict[str, Any])


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """A tool that a reply called. Recordings keep no ids of calls; these are numbers within the conversation, in the nine
    letters and digits that the strictest templates ask for."""

    id: str
    name: str
    arguments: str
    """A JSON object."""
    recorded: str | None
    """What was recorded, where it is no JSON object: it is then the object's `input`."""
    result: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Turn:
    """A message of the conversation, or something that the developer did in it."""

    event: Own
    calls: tuple[Call, ...] = ()
    train: bool = False
    """Whether loss may fall on it."""


def turns(session: Session, policy: Policy) -> Iterator[Turn]:
    """The turns of a conversation, in order."""
    number = 0
    for event in session.events:
        match event:
            case Reply():
                calls = tuple(_call(number + i, call.name, call.arguments, call.result) for i, call in enumerate(event.tool_calls))
                number += len(calls)
                yield Turn(event=event, calls=calls, train=event.author.kind == "assistant" and policy.may_learn(event.author))
            case Prompt() | Note() | Feedback():
                yield Turn(event=event)
            case Command() | TestRun() if event.author.kind == "developer":
                yield Turn(event=event)
            case _:
                pass


def untold(session: Session, told: Iterable[Turn]) -> Counter[str]:
    """Type of event -> how many of the session are in none of these turns, repetitions of calls included."""
    left = Counter(_type(event) for event in session.events)
    left.subtract(_type(turn.event) for turn in told)
    return +left


def iso_time(seconds: float) -> str | None:
    """ISO 8601 in UTC, to the microsecond; None where the time is not known."""
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z") if seconds else None
    except (OverflowError, ValueError, OSError):
        return None


def assistant(session: Session) -> str:
    """Who answered."""
    return next((event.author.agent for event in session.events if isinstance(event, Reply)), "") or "assistant"


def _type(event: AnyEvent) -> str:
    return str(event.__struct_config__.tag)


def _call(number: int, name: str, arguments: str, result: str) -> Call:
    try:
        _OBJECT.decode(arguments)
        recorded = None
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        recorded, arguments = arguments, msgspec.json.encode({"input": arguments}).decode()
    return Call(id=f"call{number:05d}", name=name, arguments=arguments, recorded=recorded, result=result)
