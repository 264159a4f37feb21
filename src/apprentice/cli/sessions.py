"""`apprentice sessions`: what developers did, read into an artifact, shown, and exported for others."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from apprentice.cli.common import JsonFlag, check_newest, check_out, print_next, print_result
from apprentice.cli.session_text import one_line, session_text
from apprentice.core.text_safety import terminal_safe

if TYPE_CHECKING:
    from apprentice.sessions.policy import Policy

SHOWN_LINES = 12
"""Of each edit, unless all are asked for."""
OUTCOME_WORDS = {
    "survived": "committed as written, stands in the newest tree",
    "kept": "committed as written, replaced by later work",
    "changed": "committed with other lines in its place",
    "reverted": "committed, then taken back by a later commit",
    "undone": "rejected or taken back before it was committed",
    "superseded": "overtaken by a later edit of the assistant",
    "committed": "its file was committed next; its lines are not known",
}
"""What each outcome means, in the table."""


def read(*paths: Path, out: Path = Path(".apprentice/sessions"), limit_commits: int = 3000, json: JsonFlag = False) -> None:
    """Read repositories, session files of assistants and exported histories; what is secret is taken out before it reaches the disk.

    Parameters
    ----------
    paths
        Git repositories, files or folders of sessions (the editor, Claude Code, Cursor, Aider, SWE-agent, SpecStory), exported histories; the checkout at hand where none
        is named.
    out
        Where the sessions are kept; a second reading of the same adds only what is new, one of others takes their place.
    limit_commits
        Newest commits read of each repository.
    """
    from apprentice.core import files
    from apprentice.core.progress import Progress
    from apprentice.learn.config import LearnConfig
    from apprentice.learn.run import HOME, Home
    from apprentice.learn.sources import Source
    from apprentice.learn.stages import sessions as stage
    from apprentice.sessions.policy import Policy

    named = [path.absolute() for path in paths or (Path.cwd(),)]
    check_out(out, *named)
    sources = [Source("git" if _is_repository(path) else "sessions", path, "") for path in named]
    runs = out.absolute().parent
    if runs.name == HOME:
        # What was read must not be committed by the next `git add .`.
        Home.create(runs)
    files.make_folder(runs)
    with Progress() as progress:
        config = LearnConfig(limit_commits=limit_commits)
        found = stage.read(sources, out, config, Policy(), progress)
    summary = found.summary()
    print_result(summary, json_output=json, text=lambda: _summary(summary))
    if not json:
        print_next(f"apprentice sessions show {shlex.quote(str(out))}")


def discover(*, home: Path = Path("~"), json: JsonFlag = False) -> None:
    """Show which sessions of assistants and editors lie on this machine, and on what terms; none of them is read.

    Parameters
    ----------
    home
        Folder to look in, besides the project at hand.
    """
    from apprentice.learn import discovery

    found = discovery.look(home.expanduser(), Path.cwd())
    print_result({"found": [place.to_dict() for place in found]}, json_output=json, text=lambda: discovery.table(found))
    if not json and (readable := next((place for place in found if place.readable), None)):
        # Whether an assistant's edits were kept is seen in the history of the repository.
        history = ". " if _is_repository(Path.cwd()) else ""
        print_next(terminal_safe(f"apprentice sessions read {history}{shlex.quote(readable.path)}", single_line=True))


def show(
    folder: Path = Path(".apprentice/sessions"), /, *, newest: int = 3, session: str = "", whole: bool = False, json: JsonFlag = False
) -> None:
    """Show the newest sessions as they will be learned from.

    Parameters
    ----------
    folder
        Folder of sessions.
    newest
        How many sessions.
    session
        In place of the newest: those whose id begins so.
    whole
        Show whole edits, outputs and what tools were called with.
    """
    import heapq
    from collections import deque

    import msgspec

    from apprentice.core.errors import InputError
    from apprentice.sessions.store import Sessions

    check_newest(newest)
    sessions = Sessions.open(folder)
    found = heapq.merge(sessions.sessions(), sessions.talks(), key=lambda one: one.time)
    latest = [one for one in found if one.id.startswith(session)] if session else list(deque(found, maxlen=newest))
    if session and not latest:
        raise InputError(f"`{folder}` has no session `{session}`", hint="ids are in front of what `apprentice sessions show` shows")
    value = {"sessions": [msgspec.to_builtins(one) for one in latest]}
    print_result(value, json_output=json, text=lambda: "\n\n".join(session_text(one, whole=whole) for one in latest))


def forget(
    person: str = "", /, *, repository: str = "", source: str = "", folder: Path = Path(".apprentice/sessions"), json: JsonFlag = False
) -> None:
    """Take a developer's sessions, or all that one tool recorded, out of what is learned from.

    Parameters
    ----------
    person
        Name as `sessions show` gives it, such as `person-3`.
    repository
        Where the developer has this name, if there are several repositories.
    source
        In place of a person: all of a source, such as `claude_code`.
    folder
        Folder of sessions.
    """
    from apprentice.core.errors import ConfigError
    from apprentice.learn.stages import sessions as stage
    from apprentice.sessions import forget as forgetting

    if bool(person) == bool(source):
        raise ConfigError("whose sessions shall be forgotten?", hint="give a person such as `person-3`, or `--source NAME`")
    done = stage.forget(folder, forgetting.Whose(person=person, repository=repository, source=source))
    saw = [str(path) for path in done.made_before]
    value: dict[str, object] = {"sessions": done.sessions, "events": done.events, "texts": done.texts, "made_before": saw}
    print_result(value, json_output=json, text=lambda: _forgotten(value))
    if not json:
        print_next("apprentice learn")


def _forgotten(value: dict[str, object]) -> str:
    lines = [f"forgotten: {value['sessions']:,} sessions, {value['events']:,} events, {value['texts']:,} texts"]
    saw = value["made_before"]
    assert isinstance(saw, list)
    lines += [terminal_safe(f"was made before, and may still know them: {path}") for path in saw]
    return "\n".join(lines)


def outcomes(folder: Path = Path(".apprentice/sessions"), /, *, json: JsonFlag = False) -> None:
    """Show what became of the edits that assistants made: kept, changed, undone, reverted.

    Parameters
    ----------
    folder
        Folder of sessions: conversations, and the histories of the repositories that they are about.
    """
    import msgspec

    from apprentice.core.progress import Progress
    from apprentice.sessions.outcomes import counts
    from apprentice.sessions.outcomes.judging import OutcomesConfig, judge
    from apprentice.sessions.store import Sessions

    sessions = Sessions.open(folder)
    with Progress() as progress:
        found = judge(sessions, OutcomesConfig(), progress)
    rows = counts.count(found)
    value = {"summary": msgspec.to_builtins(rows), "outcomes": msgspec.to_builtins(found)} if json else {}
    print_result(value, json_output=json, text=lambda: "\n\n".join(map(_counts, rows)) or "no edits of assistants are in these sessions")
    if not json:
        print_next(f"apprentice sessions outcomes {shlex.quote(str(folder))} --json")


def export(
    folder: Path = Path(".apprentice/sessions"), /, *, to: Path, form: Literal["bundle", "messages", "atif", "traces"] = "bundle",
    learn_from: tuple[str, ...] = (), newest: int | None = None, conversations: bool = True, max_bytes: int | None = None,
    json: JsonFlag = False,
) -> None:  # fmt: skip
    """Write sessions for another machine or another program.

    Parameters
    ----------
    folder
        Folder of sessions.
    to
        The file to write; with `atif` and `traces` a new folder, with a file for each conversation.
    form
        `bundle` has histories and conversations and is read by Apprentice; the others have conversations alone: `messages` is read by
        TRL and Axolotl, `atif` by what reads agent trajectories, `traces` by the viewer of the Hugging Face Hub.
    learn_from
        `assistant:NAME` marks the replies of this assistant for training, where its terms allow it; several times for several. Without
        it: what `policy.toml` beside the folder says, else none.
    newest
        How many sessions of each repository and how many conversations; all where not given.
    conversations
        Put conversations into a bundle.
    max_bytes
        Refuse to write more.
    """
    from apprentice.core.errors import ConfigError
    from apprentice.sessions import policy as policies

    check_newest(newest)
    policy = policies.chosen(learn_from, folder.absolute().parent)
    if form == "bundle" and learn_from:
        raise ConfigError("a bundle carries no marks: who is learned from is said where it is read", hint="leave out `--learn-from`, or choose another form")
    if form != "bundle" and not conversations:
        raise ConfigError(f"the form `{form}` has conversations alone", hint="leave out `--no-conversations`, or choose the form `bundle`")
    if form == "bundle":
        _export_bundle(folder, to, newest, conversations, max_bytes, json)
    else:
        _export_form(folder, to, form, policy, newest, max_bytes, json)


def _export_bundle(folder: Path, to: Path, newest: int | None, conversations: bool, max_bytes: int | None, json: bool) -> None:
    from apprentice.sessions.bundle import export_bundle
    from apprentice.sessions.store import Sessions

    done = export_bundle(Sessions.open(folder), to, newest=newest, max_bytes=max_bytes, conversations=conversations)
    value = {"file": str(to), "bytes": done.bytes, "sessions": done.sessions, "conversations": done.conversations}
    text = f"{to}: {done.bytes:,} bytes, {done.sessions:,} sessions of histories, {done.conversations:,} conversations"
    print_result(value, json_output=json, text=lambda: terminal_safe(text))
    if not json:
        print_next(terminal_safe(f"apprentice learn --sessions {shlex.quote(str(to))}", single_line=True))


def _export_form(folder: Path, to: Path, form: str, policy: Policy, newest: int | None, max_bytes: int | None, json: bool) -> None:
    from apprentice.sessions.store import Sessions
    from apprentice.sessions.writers import files as writers

    sessions = Sessions.open(folder)
    done = writers.export(sessions, form, to, policy, newest=newest, max_bytes=max_bytes)
    described = policy.describe(stream.source for stream in sessions.streams() if stream.talks)
    value = {"path": str(to), "form": form, **asdict(done), **described}
    print_result(value, json_output=json, text=lambda: _exported(value, has_histories=bool(sessions.repositories())))
    if not json and form == "atif":
        print_next(terminal_safe(f"apprentice sessions read {shlex.quote(str(to))} --out FOLDER", single_line=True))


def _is_repository(path: Path) -> bool:
    return (path / ".git").exists() or ((path / "HEAD").is_file() and (path / "objects").is_dir())


def _summary(summary: dict[str, dict[str, dict[str, object]]]) -> str:
    lines: list[str] = []
    for name, source in summary["sources"].items():
        lines.append(f"{name}: {source['sessions']:,} sessions")
        for group in ("events", "dropped", "kept_aside"):
            counts = source[group]
            assert isinstance(counts, dict)
            lines += [f"  {group.replace('_', ' ')}: {terminal_safe(reason, single_line=True)} {count:,}" for reason, count in sorted(counts.items())]
    return "\n".join(lines)


def _exported(value: dict[str, Any], *, has_histories: bool) -> str:
    lines = [f"{value['path']}: {value['conversations']:,} conversations, {value['bytes']:,} bytes"]
    lines.append(f"marked for training: {value['marked']:,} of {value['replies']:,} replies")
    if value["left_out"]:
        counts = ", ".join(f"{count:,} {kind}" for kind, count in sorted(value["left_out"].items()))
        lines.append(f"not in this form, or told by a tool's call already: {counts}")
    if has_histories:
        lines.append("histories are no conversations and are not in it: `--form bundle` has them")
    lines += [f"terms of {terms['source']}: {' '.join(filter(None, (terms['vendor'], terms['link'])))}" for terms in value["terms"]]
    return "\n".join(terminal_safe(line, single_line=True) for line in lines)


def _counts(row: object) -> str:
    """The outcomes of one source and agent as a table."""
    from apprentice.sessions.outcomes.counts import OutcomeCounts

    assert isinstance(row, OutcomeCounts)
    edits, sessions = (f"{n:,} {word}{'' if n == 1 else 's'}" for n, word in ((row.num_edits, row.kind), (row.num_sessions, "session")))
    lines = [f"{one_line(row.source)}, {one_line(row.agent)}: {edits} of {sessions}"]
    for name, number in row.counts.items():
        share = row.shares[name]
        lines.append(f"  {name:<11} {number:>7,}  {share.value:>6.1%} ({share.low:.1%} to {share.high:.1%})  {OUTCOME_WORDS.get(name, '')}".rstrip())
        parts = {"unknown": row.reasons, "changed": {f"by {who}": n for who, n in row.changed_by.items()}}.get(name, {})
        lines += [f"    {part} {n:,}" for part, n in parts.items()]
    return "\n".join(lines)
