"""Which commits of a history are read, and where an earlier reading of it ended."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from apprentice.core.errors import InputError
from apprentice.repository.git import CommitLink, Git
from apprentice.repository.world import World
from apprentice.sessions import replay
from apprentice.sessions.commits import parse_commit
from apprentice.sessions.store import Sessions, Stream

SOURCE = "git"
_MAX_COMMIT_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Window:
    """The newest commits of a history."""

    head: str
    without: str | None
    """Commits that this one leads to are not in the window."""
    links: list[CommitLink]
    """No merges, oldest first: parents before children, otherwise by time."""
    merges: int

    @classmethod
    def read(cls, git: Git, head: str, limit: int, without: str | None = None) -> Window:
        """The newest `limit` commits that are no merges."""
        links: list[CommitLink] = []
        merges = 0
        for link in git.commits(head, without=without):
            if len(links) == limit:
                break
            if len(link.parents) > 1:
                merges += 1
            else:
                links.append(link)
        return cls(head, without, links[::-1], merges)

    def start(self) -> str | None:
        """The commit whose tree the oldest one starts from; None for nothing."""
        return first_parent(self.links[0]) if self.links else None

    def state(self, last: str | None) -> dict[str, str | int | None]:
        """For the manifest: enough to walk the same commits again. `last`: the one whose tree the sessions end in."""
        return {"head": self.head, "without": self.without, "commits": len(self.links), "last": last}


@dataclass(frozen=True, slots=True)
class Earlier:
    """What earlier readings of the same repository left."""

    windows: list[tuple[str, str | None, int]]
    """(head, without, commits) of each, oldest first."""
    last: str | None
    world: dict[str, str]
    """Path -> text id at the end of the last session."""

    @property
    def head(self) -> str:
        """The newest commit that was read."""
        return self.windows[-1][0]

    @classmethod
    def find(cls, sessions: Sessions, repository: str) -> Earlier | None:
        """None where the repository was not read before."""
        streams = git_streams(sessions, repository)
        if not streams:
            return None
        world = World(sessions.tree(repository), sessions)
        for session in sessions.sessions(repository):
            replay.advance(world, session)
        return cls(windows(sessions, repository), streams[-1].state["last"], world.files())


def git_streams(sessions: Sessions, repository: str) -> list[Stream]:
    """The readings of a repository's history, oldest first."""
    return [stream for stream in sessions.streams() if (stream.source, stream.repository) == (SOURCE, repository)]


def windows(sessions: Sessions, repository: str) -> list[tuple[str, str | None, int]]:
    """(head, without, commits) of each reading, oldest first; none of a history that came in a bundle."""
    states = [stream.state for stream in git_streams(sessions, repository)]
    return [(state["head"], state["without"], state["commits"]) for state in states if "head" in state]


def can_continue(git: Git, sessions: Sessions, repository: str, revision: str = "HEAD") -> bool:
    """Whether the repository was read before and its history only grew since; else it has to be read anew."""
    streams = git_streams(sessions, repository)
    # Of one that came in a bundle nobody knows where it ended.
    return bool(streams) and "head" in streams[-1].state and git.is_ancestor(streams[-1].state["head"], git.resolve(revision))


def comes_late(git: Git, sessions: Sessions, repository: str) -> bool:
    """Whether something new is older than what was read: a branch that was merged late. Read behind the rest it would count as newer than
    all of it, and be tested on in place of learned from."""
    head = git_streams(sessions, repository)[-1].state["head"]
    with git.objects() as objects:

        def committed(commit: str) -> float:
            data = objects.read(commit, kind="commit", max_bytes=_MAX_COMMIT_BYTES).data
            return math.inf if data is None else parse_commit(data).committed

        newest = committed(head)
        return any(len(link.parents) < 2 and committed(link.commit) < newest for link in git.commits(git.head(), without=head))


def next_window(git: Git, head: str, limit: int, earlier: Earlier | None) -> Window:
    """The commits to read now. Raises: InputError where the history was rewritten since the earlier reading."""
    if earlier is None:
        return Window.read(git, head, limit)
    if not git.is_ancestor(earlier.head, head):
        raise InputError(
            f"the history of `{git.path}` was rewritten since it was read", hint="read it again into a new folder"
        )
    return Window.read(git, head, limit, without=earlier.head)


def switches(links: list[CommitLink], at: str | None) -> Iterator[tuple[str, str]]:
    """(parent, commit before it in the list) wherever a commit does not start from the one before it."""
    for link in links:
        parent = first_parent(link)
        if parent is not None and at is not None and parent != at:
            yield parent, at
        at = link.commit


def first_parent(link: CommitLink) -> str | None:
    return link.parents[0] if link.parents else None
