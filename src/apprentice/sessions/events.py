"""What a developer did, as typed events: the public schema, version 1.

A `Session` is an ordered list of events of one piece of work: a conversation with an assistant, an hour in an editor, or
a commit (its message as a `Note`, then an `EditEvent` a file in path order, then the `Commit`). Every event says who did
it, when, in which repository at which revision, and where it was read (`Provenance`). Texts of whole files are not in
events: `before_id` and `after_id` name them in the store. All strings are redacted before they become an event's.

`EditEvent` is one file's change; the value type of a single place is `text.edits.Edit`, of which it holds a list.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from apprentice.text.edits import Edit

SCHEMA_VERSION = 1

AuthorKind = Literal["developer", "assistant", "tool"]


class Author(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who did it."""

    kind: AuthorKind
    person: str = ""
    """Pseudonym of the developer, stable within an artifact and repository: `person-1`, `person-2`, ...; in what a tool recorded
    `local-user`, whoever that was."""
    agent: str = ""
    """Which assistant or tool: `claude`, `copilot`, `dependabot`, ..."""


class Provenance(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where an event was read."""

    source: str
    """The reader: `git`, ..."""
    file: str
    """The file, or the commit of a git history."""
    offset: int = 0
    """Position in it: bytes of a file, number of the change in a commit."""


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type"):
    """What all events have."""

    id: str
    session_id: str
    time: float
    """Seconds since 1970, UTC."""
    author: Author
    provenance: Provenance
    repository: str = ""
    revision: str = ""
    """The commit that the repository stood at, where known; of a commit's own events: that commit."""


class Prompt(Event, frozen=True, kw_only=True, tag="prompt"):
    """What a developer asked an assistant."""

    text: str


class ToolCall(msgspec.Struct, frozen=True):
    """A tool that an assistant used: arguments as JSON text."""

    name: str
    arguments: str
    result: str = ""


class Reply(Event, frozen=True, kw_only=True, tag="reply"):
    """What an assistant answered."""

    text: str
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()


class Suggestion(Event, frozen=True, kw_only=True, tag="suggestion"):
    """What was offered in an editor and what became of it."""

    edit: Edit
    outcome: Literal["kept", "changed", "rejected", "ignored", "undone"]


class EditEvent(Event, frozen=True, kw_only=True, tag="edit"):
    """One file's change."""

    path: str
    before_id: str | None
    """Text of the file before; None where there was no file, or where only the lines of the hunks are known."""
    after_id: str | None
    """Text of the file after; None where it was deleted, or where only the lines of the hunks are known."""
    renamed_from: str | None = None
    """The path that the file had before, where it had another."""
    hunks: tuple[Edit, ...] = ()
    """Applied in order to the lines of the text before they give the lines of the text after. `start_line` is -1 where the
    place is not known."""


class Diagnostic(Event, frozen=True, kw_only=True, tag="diagnostic"):
    """What a compiler, linter or type checker said about a place."""

    path: str
    line: int
    """0-based."""
    severity: Literal["error", "warning", "information", "hint"]
    message: str


class Command(Event, frozen=True, kw_only=True, tag="command"):
    """A command typed or run."""

    command: str
    exit_code: int | None = None
    output: str = ""


class TestRun(Event, frozen=True, kw_only=True, tag="test_run"):
    """Tests that ran."""

    command: str
    passed: int
    failed: int
    output: str = ""


class Navigation(Event, frozen=True, kw_only=True, tag="navigation"):
    """A place that was looked at."""

    path: str
    line: int
    """0-based."""


class Note(Event, frozen=True, kw_only=True, tag="note"):
    """Words that go with work."""

    kind: Literal["plan", "debugging", "commit_message", "review", "summary"]
    text: str


class Feedback(Event, frozen=True, kw_only=True, tag="feedback"):
    """A verdict on an earlier event."""

    about: str
    """Id of that event."""
    vote: Literal["up", "down"] | None = None
    text: str = ""


class Move(msgspec.Struct, frozen=True):
    """A file that stands differently when a session begins than when the session before it in the store ended:
    work on other branches, merges, and commits that were left out. Nobody learns from it; it keeps the tree true."""

    path: str
    text_id: str | None
    """None where the file is gone."""


class Commit(Event, frozen=True, kw_only=True, tag="commit"):
    """The work was committed."""

    parents: tuple[str, ...] = ()
    authored: float = 0.0
    """Seconds since 1970, UTC; `time` is when it was committed."""
    changed_lines: int = 0
    """Old and new lines of the edits that were read."""
    left_out: tuple[str, ...] = ()
    """Reasons for which changes of this commit were left out, one each."""
    moves: tuple[Move, ...] = ()
    """How the tree that the work started from differs from the tree that the session before it ended in."""


AnyEvent = (
    Prompt | Reply | Suggestion | EditEvent | Diagnostic | Command | TestRun | Navigation | Note | Feedback | Commit
)


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """One piece of work: its events in the order in which they happened."""

    id: str
    source: str
    repository: str
    time: float
    """Of its first event."""
    events: Sequence[AnyEvent]

    @property
    def edits(self) -> list[EditEvent]:
        """The files changed, in order."""
        return [event for event in self.events if isinstance(event, EditEvent)]

    @property
    def commit(self) -> Commit | None:
        """The commit that the work ended in."""
        return next((event for event in reversed(self.events) if isinstance(event, Commit)), None)

    @property
    def intent(self) -> str:
        """The commit's message or the plan: known to its author, shown in no prompt of a suggestion."""
        notes = (e for e in self.events if isinstance(e, Note) and e.kind in ("commit_message", "plan"))
        return next((note.text for note in notes), "")

    @property
    def moves(self) -> tuple[Move, ...]:
        """Files to be set before the first edit, so that the tree is the one that the work started from."""
        return self.commit.moves if self.commit else ()

    @property
    def author(self) -> Author:
        """Who did the work: the author of its last event."""
        return self.events[-1].author
