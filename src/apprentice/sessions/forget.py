"""Taking a developer, or all that one tool recorded, out of a sessions artifact.

    folder/ --forget()--> target/: the same streams without these sessions, and without texts that nothing names any more

A commit that is gone leaves its changes behind: the sessions after it started from a tree that has them. They come as `moves` of
the next session, as the work of other branches does, so every later edit still stands in its file; nobody learns from moves. What
was learned before is in checkpoints and memories until they are made anew: `saw` says which.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from apprentice.core import artifacts, files
from apprentice.core.artifacts import Manifest
from apprentice.core.errors import InputError
from apprentice.sessions import store
from apprentice.sessions.conversation import DEVELOPER
from apprentice.sessions.events import Author, Commit, EditEvent, Move, Provenance, Session
from apprentice.sessions.policy import Policy
from apprentice.sessions.store import ASIDE, Sessions, SessionsWriter, Stream

FORGOTTEN = "forgotten"
"""In the manifest: whose sessions are gone."""
_RECORDED = "recorded"


@dataclass(frozen=True, kw_only=True, slots=True)
class Whose:
    """Sessions of a person in one repository, or all of a source."""

    person: str = ""
    repository: str = ""
    source: str = ""
    windows: tuple[tuple[str, str | None, int], ...] = field(default=(), compare=False)
    """Of a history that a later reading left out: (head, without, commits) of the readings that numbered its people."""
    exports: tuple[str, ...] = field(default=(), compare=False)
    """Of a bundle that a later reading left out: hashes of all that were read with it, in order, ..."""
    beside: tuple[str, ...] = field(default=(), compare=False)
    """... and the names of histories that were. With the same ones, repositories and people are called the same."""

    def __post_init__(self) -> None:
        if bool(self.person) == bool(self.source):
            raise ValueError("either a person or a source")

    def is_of(self, stream: Stream, session: Session) -> bool:
        if self.source:
            return stream.source == self.source
        here = not stream.talks and self.repository in ("", stream.repository)
        return here and any(event.author.person == self.person for event in session.events)

    def is_aside(self, line: bytes) -> bool:
        """Whether a line of what could not be read is of this source."""
        return bool(self.source) and msgspec.json.decode(line).get("source") == self.source

    @property
    def is_elsewhere(self) -> bool:
        """Whether nothing of theirs was read: what has the repository's name now is another one."""
        return bool(self.windows or self.exports)

    def described(self) -> dict[str, Any]:
        """For the manifest."""
        return {name: value for name, value in asdict(self).items() if value}



@dataclass(frozen=True, slots=True)
class Done:
    """What is gone."""

    manifest: Manifest
    sessions: int
    events: int
    texts: int
    made_before: tuple[Path, ...] = ()
    """What was made of these sessions and may still know them."""


def forget(folder: Path, whose: Whose, target: Path) -> Done:
    """Write the artifact anew at `target`. Raises: InputError where there is nothing to forget."""
    sessions = Sessions.open(folder)
    known = [stream for stream in sessions.streams() if whose.source in ("", stream.source) and whose.repository in ("", stream.repository)]
    if not known:
        raise InputError(f"`{folder}` has nothing of that source or repository", hint=f"it has {_names(sessions)}")
    where = sorted({stream.repository for stream in known for session in sessions.of_stream(stream) if whose.is_of(stream, session)})
    if whose.person and len(where) > 1:
        raise InputError(f"{whose.person} is somebody else in each of {', '.join(where)}", hint="say which with `--repository NAME`")
    if whose.person and where:
        whose = Whose(person=whose.person, repository=where[0])
    manifest = sessions.manifest
    gone_sessions = gone_events = 0
    with artifacts.create(target, kind=store.KIND, version=store.VERSION, parents=manifest.parents, config=manifest.config) as artifact:
        with SessionsWriter(artifact, _Clean()) as writer:
            copied: set[tuple[str, str]] = set()
            for stream in sessions.streams():
                if whose.source == stream.source:
                    count = sum(1 for _ in sessions.of_stream(stream))
                    gone_sessions, gone_events = gone_sessions + count, gone_events + sum(stream.events.values())
                    continue
                _copy_stream(writer, stream)
                if not stream.talks and (stream.source, stream.repository) not in copied:
                    copied.add((stream.source, stream.repository))
                    for path, text_id in sessions.tree(stream.repository).items():
                        writer.add_tree(path, writer.add_text(sessions.text(text_id), near=path))
                for session, gone in _without(sessions, stream, whose):
                    if gone is not None:
                        gone_sessions, gone_events = gone_sessions + 1, gone_events + len(gone.events)
                    if session is not None:
                        _keep_texts(writer, sessions, session)
                        writer.add_session(session)
            if not gone_sessions and whose.person == DEVELOPER.person:
                hint = "what a tool recorded goes with `--source NAME`, what somebody committed by the name that `sessions show` gives them"
                raise InputError(f"`{whose.person}` is whoever used a tool, in no history", hint=hint)
            if not gone_sessions and not whose.source:
                raise InputError(f"`{folder}` has no sessions of {whose.person}", hint="names are those that `sessions show` gives")
            aside = folder / ASIDE
            if aside.is_file():
                lines = [line for line in aside.read_bytes().splitlines(keepends=True) if not whose.is_aside(line)]
                files.write_bytes(artifact.path(ASIDE), b"".join(lines))
            before = [known.described() for known in forgotten(manifest) if known != whose]
            written = writer.finish(
                config=manifest.config, policy=Policy(learn_from=tuple(manifest.extra["policy"]["learn_from"])),
                parents=manifest.parents, extra={"redacted": manifest.extra.get("redacted", {}), FORGOTTEN: [*before, whose.described()]},
            )  # fmt: skip
    texts = sum(1 for _ in sessions.text_ids()) - sum(1 for _ in Sessions.open(target).text_ids())
    return Done(written, gone_sessions, gone_events, texts)


def again(folder: Path, known: Sequence[Whose], beside: Path) -> None:
    """Forget in an artifact that goes on from one where they were forgotten. `beside` must be free; it is gone afterwards."""
    for whose in known:
        if whose.is_elsewhere:
            continue
        try:
            forget(folder, whose, beside)
        except InputError:
            # Nothing of them is new.
            files.remove_tree(beside)
            continue
        files.remove_tree(folder)
        files.rename(beside, folder)


def forgotten(manifest: Manifest) -> list[Whose]:
    """Whose sessions were taken out of an artifact."""
    found: dict[Whose, None] = {}
    for said in manifest.extra.get(FORGOTTEN, []):
        found[msgspec.convert(said, Whose)] = None
    return list(found)


def saw(home: Path, whose: Whose, sessions_hash: str) -> list[Path]:
    """What was made of the sessions in a folder, by its runs or for one who asked: examples, memories, checkpoints, codes, reports, also
    those that an interrupted run began; and what was recorded in the editor, where that is forgotten. Of a person's, checkpoints made of the
    very sessions with this hash only where their manifest names the person: of others nobody knows what they called whom."""
    marks = (artifacts.MANIFEST, artifacts.UNFINISHED, "index.html")
    folders = {path.parent for where in ("runs/*/*", "*/*") for mark in marks for path in home.glob(f"{where}/{mark}")}
    found = {folder for folder in folders if _may_know(folder, whose.person, sessions_hash)}
    if whose.source == "editor" and (home / _RECORDED).is_dir():
        found.add(home / _RECORDED)
    return sorted(found)


def _may_know(folder: Path, person: str, sessions_hash: str) -> bool:
    manifest = _manifest(folder)
    if manifest is None:
        # Unfinished, a report, or somebody else's.
        return (folder / artifacts.UNFINISHED).is_file() or folder.parent.parent.name == "runs"
    people = manifest.extra.get("people")
    if not person or people is None or person in people:
        return True
    examples = _manifest(folder.parent / "examples")
    return examples is None or examples.parents.get("sessions") != sessions_hash


def _manifest(folder: Path) -> Manifest | None:
    try:
        return artifacts.read(folder)
    except (InputError, OSError):
        return None


class _Clean:
    """What is in an artifact is redacted."""

    def redact(self, text: str) -> tuple[str, dict[str, int]]:
        return text, {}


def _copy_stream(writer: SessionsWriter, stream: Stream) -> None:
    copy = writer.start_stream(stream.source, stream.repository, talks=stream.talks)
    copy.state, copy.files = stream.state, stream.files
    copy.kept_aside, copy.dropped = dict(stream.kept_aside), dict(stream.dropped)


def _without(sessions: Sessions, stream: Stream, whose: Whose) -> Iterator[tuple[Session | None, Session | None]]:
    """(session to be kept, session that is gone) in order; changes of those that are gone go along."""
    pending: dict[str, str | None] = {}
    last: Session | None = None
    for session in sessions.of_stream(stream):
        if whose.is_of(stream, session):
            pending |= _changes(session)
            last = session
            yield None, session
        else:
            yield _with_moves(session, pending), None
            pending = {}
    if pending and last is not None:
        # A later reading goes on from the tree that has them.
        yield _placeholder(last, pending), None


def _changes(session: Session) -> dict[str, str | None]:
    """Path -> text of every file that stands differently after it than before."""
    found: dict[str, str | None] = {move.path: move.text_id for move in session.moves}
    for event in session.edits:
        if event.renamed_from is not None:
            found[event.renamed_from] = None
        found[event.path] = event.after_id
    return found


def _with_moves(session: Session, pending: dict[str, str | None]) -> Session:
    if not pending or session.commit is None:
        return session
    moves = pending | {move.path: move.text_id for move in session.moves}
    commit = msgspec.structs.replace(session.commit, moves=tuple(Move(path, text_id) for path, text_id in moves.items()))
    events = tuple(commit if event is session.commit else event for event in session.events)
    return msgspec.structs.replace(session, events=events)


def _placeholder(gone: Session, pending: dict[str, str | None]) -> Session:
    """A session that only moves the tree, by nobody."""
    commit = Commit(
        id=f"{FORGOTTEN}/{gone.time:.0f}/0", session_id=f"{FORGOTTEN}/{gone.time:.0f}", time=gone.time,
        author=Author(kind="tool", agent=FORGOTTEN), provenance=Provenance(source=gone.source, file=FORGOTTEN),
        repository=gone.repository, moves=tuple(Move(path, text_id) for path, text_id in pending.items()),
    )  # fmt: skip
    return Session(id=commit.session_id, source=gone.source, repository=gone.repository, time=gone.time, events=(commit,))


def _keep_texts(writer: SessionsWriter, sessions: Sessions, session: Session) -> None:
    for move in session.moves:
        if move.text_id is not None:
            writer.add_text(sessions.text(move.text_id), near=move.path)
    for event in session.events:
        if isinstance(event, EditEvent):
            for text_id in (event.before_id, event.after_id):
                if text_id is not None:
                    writer.add_text(sessions.text(text_id), near=event.path)


def _names(sessions: Sessions) -> str:
    return ", ".join(dict.fromkeys(f"{stream.source} {stream.repository}".strip() for stream in sessions.streams()))
