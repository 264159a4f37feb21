"""The row of a data set of conversations: what was asked, shown and said, and the one message that is learned from.

On disk a row is a line of JSON whose `prompt` and `completion` are lists of messages, which TRL reads unchanged: its loss
falls on the completion alone, and so does ours. Kinds:

    turn         a talk with an assistant so far          --> its next message, calls of tools included
    debugging    a run that failed, the code around       --> the change after which it passed
    refactoring  what was wanted, the code around         --> the edits, of one file or of many
    intent       a change                                 --> why it was made, in its author's words
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

TURN, DEBUGGING, REFACTORING, INTENT = CONVERSATIONS = ("turn", "debugging", "refactoring", "intent")


class Function(msgspec.Struct, frozen=True):
    """Of a call."""

    name: str
    arguments: str
    """A JSON object."""


class Call(msgspec.Struct, frozen=True):
    """A tool that is called, as OpenAI writes it."""

    id: str
    function: Function
    type: str = "function"


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One of `messages`."""

    role: str
    content: str
    tool_calls: tuple[Call, ...] = ()
    tool_call_id: str = ""
    name: str = ""


class Excerpt(msgspec.Struct, frozen=True):
    """Lines of a file as the prompt shows them."""

    path: str
    start_line: int
    """0-based; -1 where it is not known."""
    lines: tuple[str, ...]


class Conversation(msgspec.Struct, frozen=True, kw_only=True):
    """See the top of this file."""

    id: str
    kind: str
    prompt: tuple[Message, ...]
    target: tuple[Message] = msgspec.field(name="completion")
    check: dict[str, str]
    """`type` (`blocks`, `message` or `reply`) names the scorer in `examples/checks`."""
    shown: tuple[Excerpt, ...] = ()
    """Of files to be edited."""
    source: str
    repository: str
    commit: str = ""
    session: str
    time: float
    author: str
    """Who wrote what is learned from: `developer`, `assistant` or `tool`."""
    agent: str = ""
    person: str = ""

    @property
    def messages(self) -> list[dict[str, Any]]:
        """All of them, as chat templates take them; the last is learned from."""
        return [_plain(message) for message in (*self.prompt, *self.target)]


def user(content: str) -> Message:
    """What somebody asks."""
    return Message(role="user", content=content)


def assistant(content: str, calls: Sequence[Call] = ()) -> Message:
    """What is answered."""
    return Message(role="assistant", content=content, tool_calls=tuple(calls))


def _plain(message: Message) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.to_builtins(message)
    return found
