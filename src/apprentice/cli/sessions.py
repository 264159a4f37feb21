"""`apprentice sessions`: what developers did, read into an artifact, shown, and exported as one file."""

from __future__ import annotations

from pathlib import Path

from apprentice.cli.common import JsonFlag, print_next, print_result

SHOWN_LINES = 12
"""Of each edit, unless all are asked for."""


def read(*paths: Path, out: Path = Path(".apprentice/sessions"), limit_commits: int = 3000, json: JsonFlag = False) -> None:
    """Read repositories and exported histories; what is secret is taken out before it reaches the disk.

    Parameters
    ----------
    paths
        Git repositories and exported histories; the checkout at hand where none is named.
    out
        Where the sessions are kept; a second reading adds only what is new.
    limit_commits
        Newest commits read of each repository.
    """
    from apprentice.core import files
    from apprentice.core.progress import Progress
    from apprentice.learn.config import LearnConfig
    from apprentice.learn.sources import Source
    from apprentice.learn.stages import sessions as stage
    from apprentice.sessions.policy import Policy

    named = [path.absolute() for path in paths or (Path.cwd(),)]
    sources = [Source("git" if _is_repository(path) else "sessions", path, "") for path in named]
    files.make_folder(out.absolute().parent)
    with Progress() as progress:
        config = LearnConfig(limit_commits=limit_commits)
        found = stage.read(sources, out, config, Policy(), progress)
    summary = found.summary()
    print_result(summary, json_output=json, text=lambda: _summary(summary))
    if not json:
        print_next(f"apprentice sessions show {out}")


def show(folder: Path = Path(".apprentice/sessions"), /, *, newest: int = 3, whole: bool = False, json: JsonFlag = False) -> None:
    """Show the newest sessions as they will be learned from.

    Parameters
    ----------
    folder
        Folder of sessions.
    newest
        How many sessions.
    whole
        Show whole edits.
    """
    from collections import deque

    import msgspec

    from apprentice.sessions.store import Sessions

    latest = list(deque(Sessions.open(folder).sessions(), maxlen=newest))
    value = {"sessions": [msgspec.to_builtins(session) for session in latest]}
    print_result(value, json_output=json, text=lambda: "\n\n".join(_session(session, whole) for session in latest))


def export(
    folder: Path = Path(".apprentice/sessions"), /, *, to: Path, newest: int | None = None, max_bytes: int | None = None,
    json: JsonFlag = False,
) -> None:  # fmt: skip
    """Write sessions as one file that another machine can learn from.

    Parameters
    ----------
    folder
        Folder of sessions.
    to
        The file to write.
    newest
        How many sessions of each repository; all where not given.
    max_bytes
        Refuse to write a larger file.
    """
    from apprentice.sessions.bundle import export_bundle
    from apprentice.sessions.store import Sessions

    size = export_bundle(Sessions.open(folder), to, newest=newest, max_bytes=max_bytes)
    print_result({"file": str(to), "bytes": size}, json_output=json, text=lambda: f"{to}: {size:,} bytes")
    if not json:
        print_next(f"apprentice learn --sessions {to}")


def _is_repository(path: Path) -> bool:
    return path.is_dir() and not (path / "manifest.json").is_file()


def _summary(summary: dict[str, dict[str, dict[str, object]]]) -> str:
    lines: list[str] = []
    for name, source in summary["sources"].items():
        lines.append(f"{name}: {source['sessions']:,} sessions")
        for group in ("events", "dropped", "kept_aside"):
            counts = source[group]
            assert isinstance(counts, dict)
            lines += [f"  {group.replace('_', ' ')}: {reason} {count:,}" for reason, count in sorted(counts.items())]
    return "\n".join(lines)


def _session(session: object, whole: bool) -> str:
    from apprentice.core.text_safety import terminal_safe
    from apprentice.sessions.events import Session

    assert isinstance(session, Session)
    author = session.author
    lines = [f"{session.id}, {author.kind} {author.person or author.agent}", f"  {session.intent.strip()}"]
    for event in session.edits:
        for edit in event.hunks:
            lines.append(f"  {edit.path}, line {edit.start_line + 1}")
            body = [f"    - {line}" for line in edit.old] + [f"    + {line}" for line in edit.new]
            lines += body if whole or len(body) <= SHOWN_LINES else [*body[:SHOWN_LINES], f"    ({len(body) - SHOWN_LINES} more lines)"]
    return "\n".join(terminal_safe(line) for line in lines)
