"""Pieces of work with a purpose: what was wanted, what failed before, and the changes that were made.

    a commit and its message                                      --of_commit()--> one deed
    a talk: a prompt and the edits behind it                      --of_talk()----> a deed a prompt
            a run that failed, the edits after which it passed                     and one for each of those

Left out, each with its reason: work that removes or renames files, edits that did not stay (`sessions.outcomes`), edits of which
not even the lines are known, and files that nobody writes by hand.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from apprentice.core.protocols import TextSource
from apprentice.examples.change import FileChange, Place, places_of
from apprentice.examples.filters import file_reason
from apprentice.examples.work import Work
from apprentice.sessions.differences import hunks_between
from apprentice.sessions.events import AnyEvent, Author, Command, EditEvent, Note, Prompt, Reply, Session, TestRun
from apprentice.sessions.unusable import Unusable
from apprentice.text.edits import Edit, split_lines

MAX_FILES, MAX_PLACES = 8, 24
"""Of a deed: more is no piece of work that an answer can hold."""
MAX_RUNS = 50
"""Commands between a failing run and the next one of the same."""
GONE = frozenset(("undone", "reverted", "superseded"))
"""Outcomes of edits that nobody should learn to make."""

Run = Command | TestRun
_FAILURE = re.compile(
    r"^(?:Traceback \(most recent call last\):|(?:[\w.]{1,80}\.)?\w{0,60}(?:Error|Exception)\b|(?:fatal )?error(?:\[\w{1,20}\])?:|panic: |FAILED\b)"
    r"|: (?:fatal )?error: |: command not found$|: No such file or directory$",
    re.M,
)
"""What a command prints that has failed, in the forms of the most used languages and of shells."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Deed:
    """One of them."""

    id: str
    """Of the event that began it."""
    words: str
    """What was wanted, as a person said it; empty where nobody did."""
    words_author: Author | None
    failed: Run | None = None
    """After which it was done."""
    said: str = ""
    """What its author said of it last, before doing it."""
    changes: tuple[FileChange, ...]
    edits: tuple[Edit, ...]
    author: Author
    """Of the edits."""
    source: str
    repository: str
    session: str
    time: float
    commit: str = ""


def of_commit(session: Session, work: Work) -> Deed | str:
    """A commit's, or why there is none."""
    if any(file.removed or file.renamed_from for file in work.files):
        return "work that removes or renames files"
    files = [file for file in work.files if file.edits and file_reason(file.path, file.before or file.edits[0].new) is None]
    if not files:
        return "work on files that teach nothing"
    changes = tuple(FileChange.of_work(file) for file in files)
    if _is_large(changes):
        return "work on too many places"
    note = next((event for event in session.events if isinstance(event, Note) and event.kind == "commit_message"), None)
    return Deed(
        id=f"{work.repository}/{work.commit}", words=note.text if note else "", words_author=note.author if note else None,
        changes=changes, edits=tuple(edit for file in files for edit in file.edits), author=session.author, source=session.source,
        repository=work.repository, session=session.id, commit=work.commit, time=work.time,
    )  # fmt: skip


def of_talk(session: Session, texts: TextSource, outcomes: Mapping[str, str], drop: Callable[[str], None]) -> Iterator[Deed]:
    """A talk's, in order. `outcomes`: id of an edit -> what became of it; `drop` is told the reason for each that is left out."""
    events = session.events
    for start, end in _asked(events):
        prompt = events[start]
        assert isinstance(prompt, Prompt)
        found = _deed(session, texts, outcomes, events[start + 1 : end], prompt, failed=None)
        if isinstance(found, Deed):
            yield found
        elif found:
            drop(found)
    for start, end in _mended(events):
        failed = events[start]
        assert isinstance(failed, Run)
        # What was said once something had been edited may tell what was wrong.
        before = itertools.takewhile(lambda event: not isinstance(event, EditEvent), events[start + 1 : end])
        asked = next((event for event in before if isinstance(event, Prompt)), None)
        found = _deed(session, texts, outcomes, events[start + 1 : end], asked, failed=failed)
        if isinstance(found, Deed):
            yield found
        elif found:
            drop(found)


def _deed(
    session: Session, texts: TextSource, outcomes: Mapping[str, str], events: Sequence[AnyEvent], prompt: Prompt | None, *,
    failed: Run | None,
) -> Deed | str:  # fmt: skip
    """Empty where no file was edited."""
    edits = [event for event in events if isinstance(event, EditEvent)]
    if not edits:
        return ""
    if any(outcomes.get(event.id) in GONE for event in edits):
        return "edits that did not stay"
    authors = {event.author for event in edits}
    if len(authors) > 1:
        return "edits of several authors"
    changes = _changes(edits, texts, session.repository)
    if isinstance(changes, str):
        return changes
    author = authors.pop()
    before = itertools.takewhile(lambda event: event is not edits[0], events)
    said = [event.text for event in before if isinstance(event, Reply | Note) and event.author == author and event.text.strip()]
    began = failed or prompt
    assert began is not None
    return Deed(
        id=began.id + ("/passed" if failed else ""), words=prompt.text if prompt else "", words_author=prompt.author if prompt else None,
        failed=failed, said=said[-1] if said else "", changes=changes,
        edits=tuple(edit for event in edits for edit in event.hunks), author=author, source=session.source,
        repository=session.repository, session=session.id, time=began.time,
    )  # fmt: skip


def _asked(events: Sequence[AnyEvent]) -> Iterator[tuple[int, int]]:
    """[start, end) of each prompt and what was done until the next one."""
    starts = [number for number, event in enumerate(events) if isinstance(event, Prompt)]
    yield from itertools.pairwise([*starts, len(events)])


def _mended(events: Sequence[AnyEvent]) -> Iterator[tuple[int, int]]:
    """(a run that failed, the next run of the same, which passed)."""
    runs = [(number, event, tuple(event.command.split())) for number, event in enumerate(events) if isinstance(event, Run)]
    for place, (start, run, words) in enumerate(runs):
        if has_failed(run):
            later = ((end, one) for end, one, said in runs[place + 1 : place + 1 + MAX_RUNS] if said == words or _covers(one, run))
            end, again = next(later, (0, None))
            if again is not None and has_passed(again):
                yield start, end


def has_failed(run: Run) -> bool:
    """Whether its tests say so, its exit code, or where that is not known its output."""
    if isinstance(run, TestRun):
        return run.failed > 0
    return bool(_FAILURE.search(run.output)) if run.exit_code is None else run.exit_code != 0


def has_passed(run: Run) -> bool:
    """The same of success."""
    if isinstance(run, TestRun):
        return run.failed == 0 and run.passed > 0
    return not _FAILURE.search(run.output) if run.exit_code is None else run.exit_code == 0


def _covers(later: Run, run: Run) -> bool:
    """Tests of which the later run has no fewer than ran before."""
    return isinstance(run, TestRun) and isinstance(later, TestRun) and later.passed + later.failed >= run.passed + run.failed


def _changes(edits: Sequence[EditEvent], texts: TextSource, repository: str) -> tuple[FileChange, ...] | str:
    by_path: dict[str, list[EditEvent]] = {}
    for event in edits:
        if event.renamed_from is not None or (event.before_id is not None and event.after_id is None):
            return "work that removes or renames files"
        if not event.hunks:
            return "edits of which the lines are not known"
        by_path.setdefault(event.path, []).append(event)
    changes: list[FileChange] = []
    for path, events in by_path.items():
        found = _whole(path, events, texts) or _parts(events)
        if found is None:
            return "edits of one place, one after the other"
        name = _in_repository(path, repository)
        if not name:
            return "edits of files outside of the repository"
        changed = [replace(change, path=name) for change in found if any(_is_change(change, place) for place in change.places)]
        changes += [change for change in changed if file_reason(name, change.lines or change.after) is None]
    if not changes:
        return "work that changes nothing, or on files that teach nothing"
    return "work on too many places" if _is_large(changes) else tuple(changes)


def _is_change(change: FileChange, place: Place) -> bool:
    return tuple(change.lines[place.start : place.end]) != place.new


def _in_repository(path: str, repository: str) -> str:
    """Tools give whole paths, on a machine that nobody else has. Empty for a file that is elsewhere."""
    path = path.replace("\\", "/")
    if not path.startswith("/") and path[1:3] != ":/":
        return path
    _, found, inside = path.partition(f"/{repository}/")
    return inside if found or repository else path.lstrip("/")


def _whole(path: str, events: Sequence[EditEvent], texts: TextSource) -> list[FileChange] | None:
    """The file's change from first to last, where its texts are known."""
    first, last = events[0], events[-1]
    if last.after_id is None or last.after_id not in texts or (first.before_id is not None and first.before_id not in texts):
        return None
    before = "" if first.before_id is None else texts.text(first.before_id)
    after = texts.text(last.after_id)
    if not before:
        return [FileChange(path, (), [Place(0, 0, tuple(split_lines(after)))])]
    try:
        return [FileChange(path, split_lines(before), places_of(hunks_between(path, before, after)))]
    except Unusable:
        return None


def _parts(events: Sequence[EditEvent]) -> list[FileChange] | None:
    """The hunks, each for itself; None where one shows what an earlier one wrote."""
    written: set[str] = set()
    changes = []
    for edit in (hunk for event in events for hunk in event.hunks):
        if written.intersection(line.strip() for line in (*edit.above, *edit.old, *edit.below)):
            return None
        written |= {line.strip() for line in edit.new if len(line.strip()) > 3} - {line.strip() for line in edit.old}
        changes.append(FileChange.of_edit(edit))
    return changes


def _is_large(changes: Sequence[FileChange]) -> bool:
    return len({change.path for change in changes}) > MAX_FILES or sum(len(change.places) for change in changes) > MAX_PLACES
