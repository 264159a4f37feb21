"""Moves `World`s through sessions: the tree that each edit was made in.

worlds = start(sessions)
for session in sessions.sessions():
    world = worlds[session.repository]
    begin(world, session)
    for event in session.edits:
        begin_edit(world, event)
        for hunk in event.hunks:
            world.lines(hunk.path)      # as it stood just before this very edit
            world.apply(hunk)
        settle(world, event)
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Protocol

from apprentice.core.protocols import TextSource
from apprentice.repository.world import World
from apprentice.sessions.events import EditEvent, Session


class SessionSource(TextSource, Protocol):
    """`sessions.store.Sessions`, or what stands in for it."""

    def trees(self) -> dict[str, dict[str, str]]: ...
    def sessions(self) -> Iterator[Session]: ...


def start(source: SessionSource) -> defaultdict[str, World]:
    """Repository -> the tree at the start of its history's window; empty for repositories without one."""
    worlds: defaultdict[str, World] = defaultdict(lambda: World({}, source))
    for repository, tree in source.trees().items():
        worlds[repository] = World(tree, source)
    return worlds


def begin(world: World, session: Session) -> None:
    """Bring the tree to where the session's work started."""
    for move in session.moves:
        world.set_file(move.path, move.text_id)


def begin_edit(world: World, event: EditEvent) -> None:
    """Bring a renamed file to its new path."""
    if event.renamed_from is not None:
        world.begin_rename(event.renamed_from, event.path)


def settle(world: World, event: EditEvent) -> None:
    """All hunks of a file are applied: it now has its stored text again."""
    world.set_file(event.path, event.after_id, renamed_from=event.renamed_from)


def advance(world: World, session: Session) -> None:
    """The whole session at once."""
    begin(world, session)
    for event in session.edits:
        settle(world, event)
