"""Reads a repository's history: a commit becomes a session of its message, an edit a file, and the commit itself.

    Git --> newest commits, oldest first --> (redacted) texts, tree, sessions --> SessionsWriter

The newest `limit_commits` that are no merges are read, parents before children and otherwise by time, each compared
with its own first parent. Branches interleave in that order, so a commit also carries `moves`: how the tree that it
started from differs from the tree that the session before it ended in (other branches, merges, commits left out).
Following moves and edits gives exactly the text files of each commit's parent, see `sessions.replay`.

Edits are computed on the REDACTED texts before and after, so applying them reproduces what is stored. What is left out
is counted by reason: merges, huge commits, renames without a change, binary files, symbolic links, submodules, large
files, changes that redaction hides; what cannot be read is kept aside: other encodings, odd paths, missing objects.

A later reading of the same repository takes only the commits that the earlier one did not have. Nothing is held but
the list of commits, ids, and a bounded number of texts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from apprentice.core.errors import InputError
from apprentice.core.protocols import ProgressSink
from apprentice.repository.git import Change, CommitLink, Git, Objects
from apprentice.sessions.authors import Identity, Pseudonyms, classify, trailers
from apprentice.sessions.blob_texts import BlobTexts
from apprentice.sessions.commits import CommitFacts, parse_commit
from apprentice.sessions.differences import hunks_between
from apprentice.sessions.events import Author, Commit, EditEvent, Move, Note, Provenance, Session
from apprentice.sessions.git_window import SOURCE, Earlier, Window, first_parent, next_window, switches
from apprentice.sessions.store import SessionsWriter, Stream
from apprentice.sessions.unusable import Unusable

_MAX_COMMIT_BYTES = 1 << 20
_MAX_MESSAGE = 20_000
_NOTHING = "000000"


@dataclass(frozen=True, kw_only=True, slots=True)
class GitHistoryConfig:
    """What is read of a history."""

    limit_commits: int = 3000
    """Newest commits that are read, without merges; 1 or more."""
    max_files: int = 40
    """A commit that changes more files is left out as huge."""
    max_lines: int = 1000
    """A commit whose edits have more old and new lines is left out as huge."""
    max_file_bytes: int = 512 << 10
    """Larger files are left out."""
    max_tree_bytes: int = 64 << 20
    """Of the tree at the start of the window, files are stored up to this sum."""

    def __post_init__(self) -> None:
        for name in ("limit_commits", "max_files", "max_lines", "max_file_bytes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more")


def read_history(
    git: Git,
    writer: SessionsWriter,
    config: GitHistoryConfig,
    progress: ProgressSink,
    *,
    revision: str = "HEAD",
    repository: str | None = None,
) -> Stream | None:
    """Read what the writer's earlier streams do not have; None where there is nothing new.

    Raises: InputError where the repository is empty, shallow, or has none of its history's files."""
    _refuse_shallow(git)
    head = git.head() if revision == "HEAD" else git.resolve(revision)
    name = writer.redact(repository or git.name)
    earlier = Earlier.find(writer.previous, name) if writer.previous else None
    window = next_window(git, head, config.limit_commits, earlier)
    if earlier is not None and head == earlier.head:
        return None
    with git.objects() as objects:
        return _Reading(git, objects, writer, config, name).run(window, earlier, progress)


def identities(git: Git, config: GitHistoryConfig, revision: str = "HEAD") -> set[Identity]:
    """All names and addresses of a history's authors, committers and trailers: for the redaction to know."""
    _refuse_shallow(git)
    head = git.head() if revision == "HEAD" else git.resolve(revision)
    found: set[Identity] = set()
    with git.objects() as objects:
        for link in Window.read(git, head, config.limit_commits).links:
            facts = _read_commit(objects, link.commit)
            if facts is not None:
                found |= {facts.author, facts.committer, *trailers(facts.message)}
    return found


def renamed(git: Git, windows: Sequence[tuple[str, str | None, int]], person: str, config: GitHistoryConfig) -> str | None:
    """What somebody of earlier readings (`git_window.windows`) is called in one from the beginning; None where nothing of theirs would be
    read."""
    old, new = Pseudonyms(), Pseudonyms()
    with git.objects() as objects:
        for head, without, commits in windows:
            _name(old, Window.read(git, head, commits, without), objects)
        _name(new, Window.read(git, git.head(), config.limit_commits), objects)
    key = old.key(person)
    return None if key is None else new.known(key)


def _refuse_shallow(git: Git) -> None:
    if git.is_shallow():
        raise InputError(
            f"`{git.path}` is a shallow clone: most of its history is missing",
            hint=f"fetch the rest with `git -C {git.path} fetch --unshallow`",
        )


class _Reading:
    """One pass over the commits of a window."""

    def __init__(self, git: Git, objects: Objects, writer: SessionsWriter, config: GitHistoryConfig, name: str) -> None:
        self._git, self._objects, self._writer, self._config, self._name = git, objects, writer, config, name
        self._texts = BlobTexts(objects, writer, config.max_file_bytes)
        self._pseudonyms = Pseudonyms()
        self._world: dict[str, str] = {}
        self._pending: dict[bytes, tuple[str, str]] = {}
        self._missing = 0

    def run(self, window: Window, earlier: Earlier | None, progress: ProgressSink) -> Stream:
        progress.stage("read history", len(window.links), "commits")
        if earlier is not None:
            self._world = dict(earlier.world)
            self._name_persons(earlier)
        stream = self._writer.start_stream(SOURCE, self._name)
        if window.merges:
            self._writer.drop("merge", window.merges)
        last = window.start() if earlier is None else earlier.last
        if earlier is None and last is not None:
            self._read_tree(last)
        stream.state = window.state(self._read_sessions(window, last, progress))
        if not stream.sessions and self._missing and earlier is None:
            raise InputError(
                f"`{self._git.path}` is a partial clone or damaged: objects of its history are missing",
                hint="clone it again without `--filter`, or check it with `git fsck`",
            )
        return stream

    def _read_sessions(self, window: Window, last: str | None, progress: ProgressSink) -> str | None:
        """The commit whose tree the stored sessions end in."""
        kept = at = last
        pairs = [(link.commit, first_parent(link)) for link in window.links]
        with (
            closing(self._git.diffs(pairs, renames=True)) as diffs,
            closing(self._git.diffs(switches(window.links, last), renames=False)) as moves,
        ):
            for link, changes in zip(window.links, diffs, strict=True):
                parent = first_parent(link)
                if parent != at:
                    self._note_pending(next(moves) if parent and at else self._whole_tree(parent, at))
                if self._read_session(link, changes):
                    kept = link.commit
                at = link.commit
                progress.advance()
        return kept

    def _whole_tree(self, parent: str | None, at: str | None) -> Iterable[Change]:
        """The difference of a tree to nothing: a history may have several first commits."""
        if parent is not None:
            for entry in self._git.tree(parent):
                yield Change("A", entry.path, entry.path, _NOTHING, entry.mode, "", entry.id)
        elif at is not None:
            for entry in self._git.tree(at):
                yield Change("D", entry.path, entry.path, entry.mode, _NOTHING, entry.id, "")

    def _read_tree(self, commit: str) -> None:
        total = 0
        for entry in self._git.tree(commit):
            try:
                if total > self._config.max_tree_bytes:
                    raise Unusable("tree_over_limit")
                path = self._path(entry.path)
                text_id = self._texts.id_of(entry.id, entry.mode, path)
            except Unusable as unusable:
                self._writer.drop(f"tree: {unusable.reason}")
                continue
            total += len(self._texts.text(entry.id))
            self._world[path] = text_id
            self._writer.add_tree(path, text_id)

    def _read_session(self, link: CommitLink, changes: list[Change]) -> bool:
        """Store the commit as a session, or count why not and remember what it changed."""
        facts = _read_commit(self._objects, link.commit)
        where = Provenance(source=SOURCE, file=link.commit)
        if facts is None:
            self._missing += 1
            self._writer.keep_aside("commit_unreadable", where)
            self._note_pending(changes)
            return False
        person = self._pseudonyms.of(facts.author)
        author = classify(facts.author, facts.message, person=person)
        try:
            events, left_out = self._read_edits(link, facts, author, changes)
        except Unusable as unusable:
            self._writer.drop(unusable.reason)
            self._note_pending(changes)
            return False
        moves = self._take_moves(events)
        for event in events:
            self._settle(event)
        self._note_pending(changes[number] for number in left_out)
        self._writer.add_session(self._session(link, facts, author, events, moves, left_out))
        return True

    def _read_edits(
        self, link: CommitLink, facts: CommitFacts, author: Author, changes: list[Change]
    ) -> tuple[list[EditEvent], dict[int, str]]:
        """The edits in path order, and for each change that is none: its number and why. Raises: Unusable."""
        if len(changes) > self._config.max_files:
            raise Unusable("huge_commit")
        events: list[EditEvent] = []
        left_out: dict[int, str] = {}
        lines = 0
        for number, change in enumerate(changes):
            try:
                event = self._edit_event(link, facts, author, number, change)
            except Unusable as unusable:
                left_out[number] = unusable.reason
                self._missing += unusable.reason == "object_missing"
                if unusable.aside:
                    where = Provenance(source=SOURCE, file=link.commit, offset=number)
                    self._writer.keep_aside(unusable.reason, where, unusable.detail)
                else:
                    self._writer.drop(unusable.reason)
                continue
            lines += sum(len(hunk.old) + len(hunk.new) for hunk in event.hunks)
            if lines > self._config.max_lines:
                raise Unusable("huge_commit")
            events.append(event)
        if not any(event.hunks for event in events):
            raise Unusable("no_text_changed")
        return events, left_out

    def _edit_event(
        self, link: CommitLink, facts: CommitFacts, author: Author, number: int, change: Change
    ) -> EditEvent:
        if change.old_id == change.new_id and change.status == "M":
            raise Unusable("mode_only")
        path, old_path = self._path(change.path), self._path(change.old_path)
        before_id = self._side(change.old_id, change.old_mode, old_path)
        after_id = self._side(change.new_id, change.new_mode, path)
        before = "" if before_id is None else self._texts.text(change.old_id)
        after = "" if after_id is None else self._texts.text(change.new_id)
        renamed = change.status == "R"
        found = hunks_between(path, before, after)
        if not found and not renamed:
            raise Unusable("no_line_changed")
        return EditEvent(
            **self._common(link, facts, author, number + 1),
            path=path,
            before_id=before_id,
            after_id=after_id,
            renamed_from=old_path if renamed else None,
            hunks=tuple(found),
        )

    def _side(self, object_id: str, mode: str, path: str) -> str | None:
        return None if mode == _NOTHING else self._texts.id_of(object_id, mode, path)

    def _path(self, raw: bytes) -> str:
        """Raises: Unusable for a path that cannot be shown or written safely."""
        try:
            path = raw.decode("utf-8")
        except UnicodeDecodeError:
            raise Unusable("path_not_utf8", aside=True, detail=repr(raw[:200])) from None
        if not path.isprintable():
            raise Unusable("odd_path", aside=True, detail=repr(path[:200]))
        return self._writer.redact(path)

    def _note_pending(self, changes: Iterable[Change]) -> None:
        """These changes have no edits of ours: the next session brings them as moves."""
        for change in changes:
            if change.status == "R":
                self._pending[change.old_path] = ("", _NOTHING)
            self._pending[change.path] = (change.new_id, change.new_mode)

    def _take_moves(self, events: list[EditEvent]) -> list[Move]:
        """What stands differently from the tree that the last session left, and from what these edits start from."""
        moves: dict[str, str | None] = {}
        for raw, (object_id, mode) in sorted(self._pending.items()):
            try:
                path = self._path(raw)
            except Unusable:
                continue
            try:
                moves[path] = None if mode == _NOTHING else self._texts.id_of(object_id, mode, path)
            except Unusable:
                moves[path] = None
        self._pending = {}
        for event in events:
            moves.setdefault(event.renamed_from or event.path, event.before_id)
        changed = {path: text_id for path, text_id in moves.items() if self._world.get(path) != text_id}
        for path, text_id in changed.items():
            self._set(path, text_id)
        return [Move(path, text_id) for path, text_id in changed.items()]

    def _settle(self, event: EditEvent) -> None:
        if event.renamed_from is not None:
            self._set(event.renamed_from, None)
        self._set(event.path, event.after_id)

    def _set(self, path: str, text_id: str | None) -> None:
        if text_id is None:
            self._world.pop(path, None)
        else:
            self._world[path] = text_id

    def _session(
        self,
        link: CommitLink,
        facts: CommitFacts,
        author: Author,
        events: list[EditEvent],
        moves: list[Move],
        left_out: dict[int, str],
    ) -> Session:
        message = self._writer.redact(facts.message[:_MAX_MESSAGE])
        note = Note(**self._common(link, facts, author, 0), kind="commit_message", text=message)
        lines = sum(len(hunk.old) + len(hunk.new) for event in events for hunk in event.hunks)
        commit = Commit(
            **self._common(link, facts, author, len(events) + len(left_out) + 1),
            parents=link.parents,
            authored=facts.authored,
            changed_lines=lines,
            left_out=tuple(left_out[number] for number in sorted(left_out)),
            moves=tuple(moves),
        )
        everything = (note, *events, commit)
        return Session(
            id=note.session_id, source=SOURCE, repository=self._name, time=facts.committed, events=everything
        )

    def _common(self, link: CommitLink, facts: CommitFacts, author: Author, number: int) -> dict[str, Any]:
        session_id = f"{SOURCE}:{self._name}:{link.commit[:16]}"
        return {
            "id": f"{session_id}/{number}",
            "session_id": session_id,
            "time": facts.committed,
            "author": author,
            "repository": self._name,
            "revision": link.commit,
            "provenance": Provenance(source=SOURCE, file=link.commit, offset=number),
        }

    def _name_persons(self, earlier: Earlier) -> None:
        """Give the developers of earlier readings the pseudonyms that they had."""
        for head, without, commits in earlier.windows:
            _name(self._pseudonyms, Window.read(self._git, head, commits, without), self._objects)


def _name(pseudonyms: Pseudonyms, window: Window, objects: Objects) -> None:
    for link in window.links:
        facts = _read_commit(objects, link.commit)
        if facts is not None:
            pseudonyms.of(facts.author)


def _read_commit(objects: Objects, commit: str) -> CommitFacts | None:
    data = objects.read(commit, kind="commit", max_bytes=_MAX_COMMIT_BYTES).data
    return None if data is None else parse_commit(data)
