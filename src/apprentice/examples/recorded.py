"""Edits that were recorded while they were made -> works, as commits are, so that they become examples like these.

    talks (source `editor`, or any other in which a developer edits) --works()--> a Work a place

A commit shows what was left in the end; a recording shows the edits as they were made, one after the other, and that is what
a suggestion must foresee. Of the file no more is known than the lines beside the edit, so each work is a file of its own, with just
these lines. Its latest edits are those of the recordings: what was typed an hour before a commit must not stand in the prompts of
the commit's own edits, for it is the answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from apprentice.examples.work import FileWork, Work
from apprentice.sessions.events import EditEvent, Session
from apprentice.sessions.policy import Policy


def works(talks: Iterable[Session], policy: Policy) -> Iterator[Work]:
    """In order of time; what an assistant edited meanwhile is seen, and learned from only where the policy says so."""
    for session in talks:
        events = [event for event in session.events if isinstance(event, EditEvent)]
        if any(event.author.kind == "developer" for event in events):
            for event in events:
                yield from _of_event(event, session, policy)


def _of_event(event: EditEvent, session: Session, policy: Policy) -> Iterator[Work]:
    for number, edit in enumerate(event.hunks):
        before = (*edit.above, *edit.old, *edit.below)
        yield Work(
            commit=f"{event.id}/{number}", time=event.time, author=event.author.kind, session=session.id, repository=event.repository,
            person=event.author.person, may_learn=policy.may_learn(event.author),
            files=(FileWork(edit.path, before, (replace(edit, start_line=len(edit.above)),)),),
        )  # fmt: skip
