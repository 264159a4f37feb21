"""Where a session in the editor is written down, whose names are taken out of it, and what earlier ones say.

    folder at hand --> its repository, the folder of its runs, the authors of its history --> Recorder
    recordings --rejected()--> suggestions that are not wanted again
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from pathlib import Path

import msgspec

from apprentice.core import files
from apprentice.core.errors import InputError
from apprentice.learn.loading import find_home
from apprentice.learn.run import Home
from apprentice.repository.git import Git
from apprentice.serve.lsp.documents import repository_of
from apprentice.serve.lsp.recording import FOLDER, Recorder
from apprentice.sessions.authors import trailers
from apprentice.sessions.commits import parse_commit
from apprentice.sessions.events import Suggestion
from apprentice.sessions.readers.editor import SUFFIX
from apprentice.text.edits import Edit
from apprentice.text.people import Known
from apprentice.text.redaction import RedactionPolicy, Redactor

MAX_RECORDINGS, MAX_RECORDING_BYTES = 200, 64 << 20
MAX_COMMITS = 3000
"""Newest ones whose authors are known by name."""
_MAX_COMMIT_BYTES = 1 << 20


def recorder(folder: Path, out: Path | None = None) -> Recorder:
    """For a session in `folder`. `out`: the folder of the runs, in place of `.apprentice` there or above; the repository that it lies
    in is the one that is recorded, wherever the editor was started."""
    home = Home.create(find_home(folder, out).folder)
    place = folder if out is None else home.folder.resolve()
    root = repository_of(place / "any") or repository_of(folder / "any") or (folder if out is None else place.parent)
    scanner = Redactor(RedactionPolicy(known=Known.here(_people(root))))
    return Recorder(home.folder / FOLDER, root, scanner, repository=Path(scanner.redact(str(root))[0]).name)


def rejected(folder: Path, out: Path | None = None) -> list[list[Edit]]:
    """The edits of each suggestion that the developer rejected or took back in the newest recorded sessions, oldest first. A recording
    that cannot be read has none."""
    found: list[list[Edit]] = []
    for path in sorted((find_home(folder, out).folder / FOLDER).glob(f"*{SUFFIX}"))[-MAX_RECORDINGS:]:
        with contextlib.suppress(OSError, UnicodeDecodeError, RecursionError):
            if path.stat().st_size <= MAX_RECORDING_BYTES:
                found += _rejected(path)
    return found


def _rejected(path: Path) -> Iterator[list[Edit]]:
    """One that changes several places is written as one event for each, all of one time."""
    suggestions = (suggestion for suggestion in _suggestions(path) if suggestion.outcome in ("rejected", "undone"))
    for _, places in itertools.groupby(suggestions, key=lambda suggestion: (suggestion.time, suggestion.edit.path)):
        yield [place.edit for place in places]


def _suggestions(path: Path) -> Iterator[Suggestion]:
    decoder = msgspec.json.Decoder(Suggestion)
    for line in files.read_lines(path):
        # Edits are in it too, and what a crash left.
        with contextlib.suppress(msgspec.DecodeError):
            yield decoder.decode(line)


def _people(root: Path) -> set[tuple[str, str]]:
    """Names and addresses in the history; none where there is no history."""
    found: set[tuple[str, str]] = set()
    with contextlib.suppress(InputError):
        git = Git.open(root)
        with git.objects() as objects:
            for link in itertools.islice(git.commits(git.head()), MAX_COMMITS):
                data = objects.read(link.commit, kind="commit", max_bytes=_MAX_COMMIT_BYTES).data
                if data is not None:
                    facts = parse_commit(data)
                    found |= {(person.name, person.email) for person in (facts.author, facts.committer, *trailers(facts.message))}
    return found
