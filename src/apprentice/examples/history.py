"""Sessions -> works: which files a commit changed, each with its lines just before.

A `History` can be gone through again and again, holding one work's files at a time. A `Snapshot` is what the memory
starts from: the tree at a commit, and all edits made before it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from apprentice.core.protocols import TextSource
from apprentice.examples.filters import file_reason
from apprentice.examples.work import FileWork, Player, Work, is_showable
from apprentice.repository.world import World
from apprentice.sessions import replay
from apprentice.sessions.events import Session
from apprentice.sessions.policy import Policy
from apprentice.text.edits import Edit, split_lines


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A repository at one moment."""

    files: dict[str, str]
    """Path -> text id."""
    edits: list[tuple[Edit, dict[str, str]]]
    """Edits made so far, oldest first, with where they come from. Those of files that teach nothing are not in it."""
    source: TextSource

    def texts(self) -> Iterator[tuple[str, str]]:
        """(path, text) of the files that teach something."""
        for path, text_id in self.files.items():
            text = self.source.text(text_id)
            if file_reason(path, split_lines(text)) is None:
                yield path, text


class History:
    """The works of a sessions artifact, oldest first; also a `core.protocols.TextSource` of its texts."""

    def __init__(self, sessions: replay.SessionSource, *, policy: Policy | None = None) -> None:
        self._sessions, self._policy = sessions, policy or Policy()

    def __iter__(self) -> Iterator[Work]:
        worlds = replay.start(self._sessions)
        for session in self._sessions.sessions():
            yield self._work(session, worlds[session.repository])

    def text(self, text_id: str) -> str:
        """A text of the store."""
        return self._sessions.text(text_id)

    def __contains__(self, text_id: object) -> bool:
        return text_id in self._sessions

    def snapshot(self, repository: str, *, before: str | None = None) -> Snapshot:
        """The repository just before work on the commit `before` began; without it, at the end."""
        world = replay.start(self._sessions)[repository]
        edits: list[tuple[Edit, dict[str, str]]] = []
        player = Player(leave_out=file_reason)
        for session in self._sessions.sessions():
            if session.repository != repository:
                continue
            if before is not None and commit_of(session) == before:
                replay.begin(world, session)
                break
            for file in self._work(session, world).files:
                if player.reason(file):
                    continue
                where = {"commit": commit_of(session), "session": session.id, "path": file.path}
                edits += [(edit, where) for edit in file.edits if is_showable(edit)]
        return Snapshot(world.files(), edits, self._sessions)

    def _work(self, session: Session, world: World) -> Work:
        """The session's work; the world moves on over it."""
        replay.begin(world, session)
        files = []
        for event in session.edits:
            replay.begin_edit(world, event)
            lines = world.lines(event.path)
            files.append(FileWork(event.path, lines, event.hunks, event.after_id is None, event.renamed_from))
            replay.settle(world, event)
        return Work(
            commit=commit_of(session),
            time=session.time,
            author=session.author.kind,
            files=files,
            session=session.id,
            repository=session.repository,
            person=session.author.person,
            may_learn=self._policy.may_learn(session.author),
            moves=[(move.path, move.text_id) for move in session.moves],
        )


def commit_of(session: Session) -> str:
    """The commit that the session ended in, or the session itself: what is drawn whole in splits and intervals."""
    commit = session.commit
    return (commit.revision or commit.provenance.file or session.id) if commit else session.id
