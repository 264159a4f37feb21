"""Repositories, session files of tools and exported histories -> sessions/, redacted. A later run reads only what is new.

The artifact grows: a new one is written beside the old, takes its files over, and then stands in its place.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from apprentice.core import artifacts, files, machine
from apprentice.core.artifacts import MANIFEST
from apprentice.core.errors import InputError
from apprentice.core.protocols import ProgressSink
from apprentice.examples.filters import edit_reason, file_reason
from apprentice.examples.history import History
from apprentice.examples.work import Player, moments
from apprentice.learn import sources
from apprentice.learn.config import MIN_COMMITS, MIN_EDITS, LearnConfig
from apprentice.learn.run import RUNS, Run
from apprentice.learn.sources import Source
from apprentice.repository.git import Git
from apprentice.sessions import forget as forgetting
from apprentice.sessions import git_history, git_window, store
from apprentice.sessions.bundle import import_bundle, import_sessions
from apprentice.sessions.forget import Done, Whose
from apprentice.sessions.git_history import GitHistoryConfig
from apprentice.sessions.policy import Policy
from apprentice.sessions.readers import files as readers
from apprentice.sessions.readers.files import READERS, Found
from apprentice.sessions.readers.workers import Workers
from apprentice.sessions.remembered import SecondLook
from apprentice.sessions.store import Sessions, SessionsWriter
from apprentice.text.people import Known
from apprentice.text.redaction import Finding, RedactionPolicy, Redactor, rescan

_NEXT, _OLD, _AGAIN, _TOLD, _LOCK = ".next", ".old", ".again", ".told", ".lock"
_SMALLER = 8
"""What is stored is about so many times smaller than what there is to look through."""
_SHOWN = 5
"""Findings that are named one by one."""


@dataclass(frozen=True, slots=True)
class Usable:
    """What there is to learn from."""

    edits: int
    commits: int

    @property
    def is_enough(self) -> bool:
        """Whether a run can make a claim."""
        return self.edits >= MIN_EDITS and self.commits >= MIN_COMMITS


def make(run: Run, folder: Path) -> Sessions:
    """The sessions of a run that stands in `folder`; says what it reads and what there is to learn from."""
    found = sources.chosen(run.config, folder)
    named = bool(run.config.repositories or run.config.sessions)
    for source in found:
        run.progress.note(f"learning from {source.why}")
    if why := sources.passed_over(run.config, folder):
        run.progress.note(why)
    sessions = read(found, run.home.sessions, run.config, run.policy, run.progress) if found else None
    amount = _usable(run, sessions) if sessions else Usable(0, 0)
    if not named and not amount.is_enough:
        with sources.bundled() as bundle:
            if bundle is not None:
                run.progress.note(f"learning from {bundle.why}" + (" besides" if found else ""))
                sessions = read([*found, bundle], run.home.sessions, run.config, run.policy, run.progress)
                amount = _usable(run, sessions)
    if sessions is None:
        raise InputError(
            f"there is nothing to learn from in `{folder}`: no full git clone, and no history in this package",
            hint="name a repository with `--repo PATH`",
        )
    run.progress.note(f"usable: {amount.edits:,} edits of {amount.commits:,} commits")
    run.may_claim = amount.is_enough
    if not run.may_claim:
        run.progress.note(f"below {MIN_EDITS} edits from {MIN_COMMITS} commits no claim about learning is possible")
    return sessions


def _usable(run: Run, sessions: Sessions) -> Usable:
    run.progress.stage("count usable edits")
    return usable(sessions, run.policy)


def read(
    chosen: Sequence[Source], target: Path, config: LearnConfig, policy: Policy, progress: ProgressSink
) -> Sessions:
    """Read the sources into the artifact at `target`, or only what it does not have yet. Raises: InputError."""
    target = _itself(target)
    with _alone(target):
        return _read(chosen, target, config, policy, progress)


def _read(chosen: Sequence[Source], target: Path, config: LearnConfig, policy: Policy, progress: ProgressSink) -> Sessions:
    _recover(target)
    found = [Git.open(source.path) for source in chosen if source.kind == "git"]
    history = GitHistoryConfig(limit_commits=config.limit_commits)
    known = {identity for git in found for identity in git_history.identities(git, history)}
    redaction = RedactionPolicy(known=Known.here((person.name, person.email) for person in known))
    redactor = Redactor(redaction)
    repositories = _named(found, redactor)
    resolved = _config(chosen, repositories, config)
    previous = _previous(target, resolved, repositories)
    if previous is not None and not _news(previous, repositories):
        return previous
    gone = _forgotten(target, previous, repositories, history, tuple(resolved["exports"]))
    beside = target.with_name(target.name + _NEXT)
    with Workers(redaction, target.with_name(target.name + _TOLD), count=machine.cores()) as workers:
        with (
            artifacts.create(beside, kind=store.KIND, version=store.VERSION) as artifact,
            SessionsWriter(artifact, redactor, previous=previous) as writer,
        ):
            for name, git in repositories.items():
                git_history.read_history(git, writer, history, progress, repository=name)
            for source in chosen:
                if source.kind != "git" and previous is None and sources.is_export(source.path):
                    _import(source.path, writer)
            if previous is None:
                readers.read(_talks(chosen), writer, progress, workers)
            facts = {forgetting.FORGOTTEN: [whose.described() for whose in gone]} if gone else {}
            writer.finish(config=resolved, policy=policy, extra=facts)
        forgetting.again(beside, gone, target.with_name(target.name + _AGAIN))
        _look_again(beside, redaction, target, workers, progress, goes_on=previous is not None)
    if previous is None:
        _say_what_goes(target, beside, progress)
    _swap(beside, target)
    return Sessions.open(target)


def forget(target: Path, whose: Whose) -> Done:
    """Take somebody's sessions out of the artifact at `target`. Raises: InputError, also while a run learns from them: what it makes
    would be in no list."""
    home, target = target.absolute().parent, _itself(target)
    learning = files.lock(home) if (home / RUNS).is_dir() else contextlib.nullcontext()
    with learning, _alone(target):
        _recover(target)
        beside = target.with_name(target.name + _NEXT)
        try:
            before = artifacts.read(target).hash
            done = forgetting.forget(target, whose, beside)
            done = replace(done, made_before=tuple(forgetting.saw(home, whose, before)))
        except BaseException:
            files.remove_tree(beside)
            raise
        _swap(beside, target)
    return done


def _itself(target: Path) -> Path:
    """Where the folder is: of a link the old content would stay."""
    return target.resolve() if target.is_symlink() else target


def _alone(target: Path) -> contextlib.AbstractContextManager[None]:
    return files.lock(target.with_name(target.name + _LOCK))


def _forgotten(
    target: Path, previous: Sessions | None, repositories: dict[str, Git], history: GitHistoryConfig, exports: tuple[str, ...]
) -> list[Whose]:
    """Whose sessions must not come back, under the names that they have in this reading. Raises: InputError where those cannot be
    known."""
    if not artifacts.is_finished(target):
        return []
    before = Sessions.open(target)
    gone: list[Whose] = []
    for whose in forgetting.forgotten(before.manifest):
        if previous is not None or not whose.person:
            gone.append(whose)
            continue
        again = _under_todays_name(whose, before, repositories, history, exports)
        if again is None:
            raise InputError(
                f"{whose.person} of {whose.repository} was forgotten, and may come back under another name: the history was "
                "rewritten, or another part of it is read",
                hint=f"move `{target}` away, run `apprentice sessions read`, and forget them again before you learn",
            )
        gone.append(again)
    return gone


def _under_todays_name(
    whose: Whose, before: Sessions, repositories: dict[str, Git], history: GitHistoryConfig, exports: tuple[str, ...]
) -> Whose | None:
    """In a reading from the beginning people are numbered anew, and a repository is called as its folder is today. None: not known."""
    read = whose.windows or tuple(() if whose.exports else git_window.windows(before, whose.repository))
    if not read:
        config = before.manifest.config
        then = whose if whose.exports else replace(whose, exports=tuple(config.get("exports", ())), beside=tuple(config["repositories"]))
        if not exports:
            return then
        is_same = (exports, tuple(sorted(repositories))) == (then.exports, then.beside)
        return Whose(person=whose.person, repository=whose.repository) if is_same else None
    head = read[-1][0]
    for name, git in repositories.items():
        if git.is_ancestor(head, git.head()):
            person = git_history.renamed(git, read, whose.person, history)
            return None if person is None else Whose(person=person, repository=name)
    # Rewritten, or another branch of it.
    is_here = whose.repository in repositories or any(git.is_ancestor(head, head) for git in repositories.values())
    return None if is_here else replace(whose, windows=read)


def usable(sessions: Sessions, policy: Policy) -> Usable:
    """Edits that may and can be learned from."""
    edits, commits = 0, set()
    for moment in moments(History(sessions, policy=policy), Player(leave_out=file_reason)):
        if edit_reason(moment) is None:
            edits += 1
            commits.add(moment.work.commit)
    return Usable(edits, len(commits))


def _named(found: Sequence[Git], redactor: Redactor) -> dict[str, Git]:
    """Name, as it is stored -> repository; names are made distinct."""
    repositories: dict[str, Git] = {}
    for git in found:
        folder = git.path.parent if git.path.name == ".git" else git.path
        # With what stands around it: the name of a home folder is its owner's.
        plain = Path(redactor.redact(str(folder))[0]).name.removesuffix(".git") or git.name
        name, number = plain, 2
        while name in repositories:
            name, number = f"{plain}-{number}", number + 1
        repositories[name] = git
    return repositories


def _config(chosen: Sequence[Source], repositories: dict[str, Git], config: LearnConfig) -> dict[str, Any]:
    """What decides the artifact besides the histories themselves."""
    # Without their names: folders of tools are named after the home folder.
    digests = {source.path: _digest(source.path) for source in chosen if source.kind != "git"}
    return {
        "repositories": sorted(repositories), "imported": sorted(digests.values()),
        "exports": [digest for path, digest in digests.items() if sources.is_export(path)], "limit_commits": config.limit_commits,
    }  # fmt: skip


def _digest(path: Path) -> str:
    if (path / MANIFEST).is_file():
        return artifacts.read(path, kind=store.KIND).hash
    if path.is_dir():
        found = [file for files_of_tool in readers.find([path]).values() for file in files_of_tool]
        # What nobody may open is counted when it is read.
        found = [file for file in found if os.access(file.path, os.R_OK)]
        digests = sorted((file.path.relative_to(path).as_posix(), _file_digest(file.path)) for file in found)
        return hashlib.sha256(repr(digests).encode()).hexdigest()
    return _file_digest(path)


def _file_digest(path: Path) -> str:
    log = path.with_name(path.name + "-wal")
    try:
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        # What a database's program has written last.
        return digest + _file_digest(log) if path.suffix == ".vscdb" and log.is_file() else digest
    except OSError as error:
        raise InputError(f"`{path}` cannot be read: {error.strerror}", hint="check the path given to `--sessions`") from error


def _previous(target: Path, resolved: dict[str, Any], repositories: dict[str, Git]) -> Sessions | None:
    """The artifact to go on from, if it was made of the same sources and no history was rewritten since."""
    if not artifacts.is_finished(target):
        return None
    sessions = Sessions.open(target)
    if (sessions.manifest.version, sessions.manifest.config) != (store.VERSION, resolved):
        return None
    grown = all(git_window.can_continue(git, sessions, name) for name, git in repositories.items())
    if not grown or any(git_window.comes_late(git, sessions, name) for name, git in repositories.items()):
        return None
    return sessions


def _news(previous: Sessions, repositories: dict[str, Git]) -> bool:
    heads = {name: git_window.git_streams(previous, name)[-1].state["head"] for name in repositories}
    return any(git.head() != heads[name] for name, git in repositories.items())


def _talks(chosen: Sequence[Source]) -> dict[str, list[Found]]:
    """Session files of tools. Raises: InputError for a path without any."""
    paths = [source.path for source in chosen if source.kind != "git" and not sources.is_export(source.path)]
    for path in paths:
        if not any(readers.find([path]).keys() - {""}):
            raise InputError(
                f"`{path}` holds no sessions that can be read: no file of {', '.join(reader().source for reader in READERS)}",
                hint="name a git repository, a folder or file of sessions, or a file of `apprentice sessions export`",
            )
    return readers.find(paths)


def _import(path: Path, writer: SessionsWriter) -> None:
    if path.is_dir():
        import_sessions(Sessions.open(path), writer)
    else:
        import_bundle(path, writer)


def _look_again(
    folder: Path, redaction: RedactionPolicy, target: Path, workers: Workers, progress: ProgressSink, *, goes_on: bool
) -> None:
    """Search what was written for what redaction should have taken, and say what is found: a rule that goes by words
    nearby (`password`, `cookie`) may see in a cut piece what it did not see in the whole, so it is no proof of a leak."""
    known = as_before(target, folder) if goes_on else set()
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and path.relative_to(folder).as_posix() not in known)
    progress.stage("look for secrets once more")
    if workers.are_useful(size * _SMALLER):
        findings = workers.look(folder, sorted(known))
    else:
        # In the order in which several processes would say it.
        findings = sorted(rescan(folder, SecondLook(redaction), known=known), key=lambda finding: (str(finding.path), finding.line, finding.kind))
    for finding in findings[:_SHOWN]:
        progress.note(f"look at {_where(finding, folder, target)}: it may hold a secret ({finding.kind})")
    if len(findings) > _SHOWN:
        progress.note(f"and at {len(findings) - _SHOWN} more places: {dict(Counter(finding.kind for finding in findings))}")


def as_before(before: Path, after: Path) -> set[str]:
    """Files of an artifact that another one has, too, to the byte: a name alone tells nothing, for what was forgotten again is
    written anew, and what could not be read is added to."""
    had = artifacts.read(before).files
    return {name for name, record in artifacts.read(after).files.items() if name in had and had[name].sha256 == record.sha256}


def _where(finding: Finding, folder: Path, target: Path) -> str:
    """How it can be looked at: the command that shows a session, or file and row."""
    name = finding.path.relative_to(folder)
    if name.parts[0] != "events" or name.suffix != ".parquet":
        return f"`{name}`, row {finding.line}"
    import pyarrow.parquet as pq

    session_id = pq.read_table(finding.path, columns=["session_id"])["session_id"][finding.line - 1].as_py()
    return f"`apprentice sessions show {shlex.quote(str(target))} --session {shlex.quote(session_id)} --whole`"


def _say_what_goes(before: Path, after: Path, progress: ProgressSink) -> None:
    """What an earlier reading had and this one, of other sources, has not."""
    if not artifacts.is_finished(before):
        return
    had, has = ({_whose(stream) for stream in Sessions.open(folder).streams() if stream.sessions} for folder in (before, after))
    if gone := sorted(had - has):
        progress.note(f"no longer in `{before}`, as this reading did not name them: {', '.join(gone)}; name all together to have both")


def _whose(stream: store.Stream) -> str:
    return f"sessions of {stream.source}" if stream.talks else f"the history of {stream.repository or stream.source}"


def _swap(new: Path, target: Path) -> None:
    old = target.with_name(target.name + _OLD)
    if target.exists():
        files.rename(target, old)
    files.rename(new, target)
    files.remove_tree(old)


def _recover(target: Path) -> None:
    """Finish a swap that was interrupted, and leave nothing of a reading that was: it was not looked through once more, and may
    hold somebody who is to be forgotten."""
    new, old = (target.with_name(target.name + suffix) for suffix in (_NEXT, _OLD))
    # A swap begins with the old one, where there is one; a new one alone was never ready.
    if not target.exists() and artifacts.is_finished(old):
        files.rename(new if artifacts.is_finished(new) else old, target)
    for suffix in (_NEXT, _OLD, _AGAIN, _TOLD):
        files.remove_tree(target.with_name(target.name + suffix))
