"""A session as it is shown in a terminal: who did what and when, in order.

    claude_code/ab12, claude_code, 2026-11-28 14:03 UTC
      14:03:22 local-user: why does the test fail?
      14:03:41 claude: The cache is never emptied.
        [Edit {"file_path": "cache.py"}]
      14:03:41 claude edits
        cache.py, line 12
          - old
          + new
      14:03:50 claude $ pytest -q
          3 passed in 0.1s
          3 passed, 0 failed
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from apprentice.core.text_safety import shorten, terminal_safe

if TYPE_CHECKING:
    from apprentice.sessions.events import AnyEvent, EditEvent, Session
    from apprentice.text.edits import Edit

SHOWN_LINES = 12
"""Of each text, unless all are asked for: the first of what was said, the last of what was printed."""
SHOWN_CALL = 120
"""Characters of what a tool was called with."""


def session_text(session: Session, *, whole: bool = False) -> str:
    """All of its events; `whole`: with all of their lines."""
    author = session.author
    moment = _moment(session.time)
    when = "" if moment is None else f", {moment:%Y-%m-%d %H:%M} UTC"
    if session.commit is None:
        lines = [f"{session.id}, {session.source}{when}", *(line for event in session.events for line in _event(event, whole=whole))]
    else:
        lines = [f"{session.id}, {author.kind} {author.person or author.agent}{when}", f"  {session.intent.strip()}"]
        for event in session.edits:
            lines += _edited(event, whole=whole)
    return "\n".join(terminal_safe(line) for line in lines)


def one_line(text: str) -> str:
    """On one line: what a tool calls itself must not look like somebody's words."""
    return shorten(text, 200)


def _event(event: AnyEvent, *, whole: bool) -> Iterator[str]:
    """The event with its time in front."""
    moment = _moment(event.time)
    when = "" if moment is None else f"{moment:%H:%M:%S} "
    for number, line in enumerate(_told(event, whole=whole)):
        yield f"  {when}{line}" if number == 0 else f"    {line}"


def _told(event: AnyEvent, *, whole: bool) -> list[str]:
    from apprentice.sessions import events

    who = one_line(event.author.person or event.author.agent or event.author.kind)
    match event:
        case events.Prompt() | events.Note():
            return _first(f"{who}: {event.text}", whole=whole)
        case events.Reply():
            said = _first(f"{who}: {event.text}", whole=whole) if event.text.strip() else [f"{who} calls"]
            for call in event.tool_calls:
                told = f"{call.name} {call.arguments}"
                said.append(f"[{told if whole else shorten(told, SHOWN_CALL)}]")
                said += [f"  {line}" for line in call.result.split("\n")] if whole and call.result else []
            return said
        case events.Command():
            code = "" if event.exit_code is None else f" (exit code {event.exit_code})"
            return [*_first(f"{who} $ {event.command}", whole=whole), *_last(event.output, whole=whole), *([code.strip()] if code else [])]
        case events.TestRun():
            return [*_first(f"{who} $ {event.command}", whole=whole), f"{event.passed} passed, {event.failed} failed"]
        case events.EditEvent():
            return [f"{who} edits", *_edited(event, whole=whole)]
        case events.Suggestion():
            return [f"{who} suggests: {event.outcome}", *_hunk(event.edit, whole=whole)]
        case events.Feedback():
            return _first(f"{who} says of it: " + f"{event.vote or ''} {event.text}".strip(), whole=whole)
        case events.Navigation():
            return [f"{who} looks at {one_line(event.path)}:{event.line + 1}"]
        case _:
            return []


def _edited(event: EditEvent, *, whole: bool) -> list[str]:
    lines = [line for edit in event.hunks for line in _hunk(edit, whole=whole)]
    return lines or [f"  {one_line(event.path)} was changed"]


def _hunk(edit: Edit, *, whole: bool) -> list[str]:
    place = f", line {edit.start_line + 1}" if edit.start_line >= 0 else ""
    changed = [f"    - {line}" for line in edit.old] + [f"    + {line}" for line in edit.new]
    return [f"  {one_line(edit.path)}{place}", *_cut(changed, whole=whole)]


def _first(text: str, *, whole: bool) -> list[str]:
    return _cut(text.split("\n"), whole=whole)


def _last(text: str, *, whole: bool) -> list[str]:
    lines = text.rstrip("\n").split("\n") if text.strip() else []
    if whole or len(lines) <= SHOWN_LINES:
        return [f"  {line}" for line in lines]
    return [f"  ({len(lines) - SHOWN_LINES} lines)", *(f"  {line}" for line in lines[-SHOWN_LINES:])]


def _cut(lines: Sequence[str], *, whole: bool) -> list[str]:
    return list(lines) if whole or len(lines) <= SHOWN_LINES else [*lines[:SHOWN_LINES], f"({len(lines) - SHOWN_LINES} more lines)"]


def _moment(seconds: float) -> datetime | None:
    try:
        return datetime.fromtimestamp(seconds, UTC) if seconds else None
    except (OverflowError, ValueError, OSError):
        return None
