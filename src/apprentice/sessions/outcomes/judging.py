"""What became of the edits that assistants made: kept, changed, undone, reverted, or not known.

    talks (edits, commands, suggestions) --\
    histories of repositories -------------+--judge()--> an EditOutcome for every edit and suggestion, with its evidence

An edit and a commit are joined by their lines, see `edit_joins`. Time decides only between commits that brought the same lines:
the window of 90 days is as long as a branch may wait to be merged, and ends what somebody else may have written anew. Where of an
edit only the file is known, the next commit of that file within 7 days is named, as `committed`: nothing is said of lines. In the
230 sessions of specstoryai/getspecstory 99.6% of the edits that were followed by a commit of their file were so within 5.4 days, the
others after 12 days and more: another piece of work.

    undone      in the session: rejected, taken back by a later edit or by a git command; or the file was committed without it
    superseded  the assistant itself wrote other lines there before they were committed
    changed     committed with other lines in its place (`changes`); `by` whom, as far as the sessions tell
    reverted    committed as it was, then a later commit brought back what stood there before, within 30 days or in words
    survived    committed as it was, and its lines stand in the newest tree
    kept        committed as it was; later work has replaced its lines
    committed   its file was committed next; of its lines nothing is known
    unknown     `reason` says why

Shares of lines are by weight: rare lines tell more than common ones, and lines that stand everywhere tell nothing. What is left out:
who typed a change between session and commit is not recorded anywhere; and merges, huge commits and rewritten histories are seen
only by the trees that they leave.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

import msgspec

from apprentice.core.protocols import ProgressSink
from apprentice.sessions.events import EditEvent, Session, Suggestion
from apprentice.sessions.outcomes import line_places
from apprentice.sessions.outcomes.edit_files import EditFiles, Meant
from apprentice.sessions.outcomes.edit_joins import ALL, DAY_S, MIN_WEIGHT, Fate, Join, Joiner, Question, Touched
from apprentice.sessions.outcomes.later_edits import Later, LaterEdits, is_whole
from apprentice.sessions.outcomes.line_places import Asked, Histories, Keys, Place
from apprentice.sessions.outcomes.standing_lines import changes
from apprentice.sessions.outcomes.undoing import Doing, doings, undone_by
from apprentice.sessions.store import Sessions
from apprentice.text.edits import Edit

OutcomeName = Literal["survived", "kept", "changed", "reverted", "undone", "superseded", "committed", "unknown"]
By = Literal["", "developer", "assistant", "unknown"]
NO_HISTORY = "no history of a repository"
NO_FILE = "file of no repository that was read"
NOT_YET = "history ends before"
NOT_FOUND = "lines in no commit in time"
COMMON_LINES = "lines too common"
IGNORED = "suggestion left alone"
NOT_COMMITTED = "file not committed in time"


@dataclass(frozen=True, kw_only=True, slots=True)
class OutcomesConfig:
    """How far apart in time things may lie."""

    window_days: float = 90.0
    """From an edit whose lines are known to the commit that brought them; more than 0."""
    path_window_days: float = 7.0
    """From an edit of which only the file is known to the commit of that file; more than 0."""
    revert_window_days: float = 30.0
    """From a commit to one that takes it back without saying so; more than 0."""

    def __post_init__(self) -> None:
        for name in ("window_days", "path_window_days", "revert_window_days"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be more than 0")


class Evidence(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where it can be seen."""

    what: Literal["recorded", "edit", "command", "commit", "tree", "file", "gone", "reverted", "newest", "before"]
    """recorded: the event itself says so; edit, command: an event of the session; commit: brought the lines, or took the old ones;
    tree: has the lines, brought by a merge or a commit that was left out; file: the commit changed the file; gone, reverted: the
    commit took the lines away again; newest: they stand in the newest tree; before: the commit left the old lines there."""
    event: str = ""
    """Id of an event of a session."""
    commit: str = ""
    path: str = ""
    line: int = -1
    """0-based; -1 where it is not known."""
    time: float = 0.0
    """Seconds since 1970, UTC; of a tree, that of the commit that starts from it."""


class EditOutcome(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Of one edit or suggestion."""

    id: str
    """Of the event."""
    session_id: str
    source: str
    agent: str
    kind: Literal["edit", "suggestion"]
    time: float
    path: str
    """As the event has it."""
    outcome: OutcomeName
    confidence: float = 0.0
    """That the outcome is right, 0 to 1."""
    reason: str = ""
    """Why it is not known."""
    recorded: str = ""
    """What a suggestion itself says became of it."""
    repository: str = ""
    """Where its lines, or its file, were found."""
    num_lines: int = 0
    """Lines that could be looked for: those that are not common."""
    committed: float | None = None
    """Share of them that was committed."""
    newest: float | None = None
    """Share of those committed that stands in the newest tree."""
    by: By = ""
    """Who changed it, where that can be told."""
    changes: tuple[Edit, ...] = ()
    """`old`: lines of the edit; `new`: those that were committed instead, at `start_line` of the file."""
    evidence: tuple[Evidence, ...] = ()


class _Item(msgspec.Struct, kw_only=True):
    """An edit or suggestion that is asked about."""

    talk: int
    position: int
    event: EditEvent | Suggestion
    asked: Asked
    meant: Meant = Meant((), False, False)

    @property
    def files(self) -> tuple[int, ...]:
        return self.meant.files

    @property
    def path(self) -> str:
        return _path(self.event)

    @property
    def hunks(self) -> tuple[Edit, ...]:
        return _hunks(self.event)


class _Talk(msgspec.Struct, kw_only=True):
    """What is needed of a session."""

    id: str
    source: str
    repository: str
    items: list[_Item]
    doings: list[Doing]
    repositories: frozenset[str] = frozenset()


def judge(sessions: Sessions, config: OutcomesConfig, progress: ProgressSink) -> list[EditOutcome]:
    """What became of every edit and suggestion of an assistant, in the order of the talks."""
    keys = Keys()
    talks = [_talk(number, session, keys) for number, session in enumerate(sessions.talks())]
    histories = line_places.read(sessions, keys, progress)
    files = EditFiles(histories.paths)
    for talk in talks:
        talk.repositories = frozenset(files.named(talk.repository) or histories.heads)
        found = files.find(talk.repository, [item.path for item in talk.items])
        for item in talk.items:
            item.meant = found[item.path]
    judging = _Judging(sessions, config, keys, histories, talks)
    progress.stage("judge edits", len(talks), "sessions")
    outcomes: list[EditOutcome] = []
    for talk in talks:
        outcomes += judging.of_talk(talk)
        progress.advance()
    return outcomes


def _talk(number: int, session: Session, keys: Keys) -> _Talk:
    items = [
        _Item(talk=number, position=position, event=event, asked=keys.ask(_path(event), _hunks(event)))
        for position, event in enumerate(session.events) if isinstance(event, (EditEvent, Suggestion))
    ]  # fmt: skip
    return _Talk(
        id=session.id, source=session.source, repository=session.repository, items=items,
        doings=doings(session.events) if items else [],
    )  # fmt: skip


def _path(event: EditEvent | Suggestion) -> str:
    return event.path if isinstance(event, EditEvent) else event.edit.path


def _hunks(event: EditEvent | Suggestion) -> tuple[Edit, ...]:
    return event.hunks if isinstance(event, EditEvent) else (event.edit,)


class _Judging:
    """Holds what all edits are compared with."""

    def __init__(self, sessions: Sessions, config: OutcomesConfig, keys: Keys, histories: Histories, talks: Sequence[_Talk]) -> None:
        self._sessions, self._config, self._keys, self._histories = sessions, config, keys, histories
        self._joiner = Joiner(
            histories, sessions, window_s=config.window_days * DAY_S, path_window_s=config.path_window_days * DAY_S,
            revert_window_s=config.revert_window_days * DAY_S,
        )  # fmt: skip
        self._of_file: defaultdict[int, list[_Item]] = defaultdict(list)
        for item in (item for talk in talks for item in talk.items if isinstance(item.event, EditEvent)):
            for file in {histories.file(path) for path in item.files}:
                self._of_file[file].append(item)
        for items in self._of_file.values():
            items.sort(key=_order)

    def of_talk(self, talk: _Talk) -> Iterator[EditOutcome]:
        later = LaterEdits([(item.position, item.event) for item in talk.items if isinstance(item.event, EditEvent)])
        new_files = {item.path for item in talk.items if _creates(item.event)}
        for item in talk.items:
            if item.event.author.kind == "assistant":
                yield self._of_item(talk, item, later.of(item.position, item.event), is_new=item.path in new_files)

    def _of_item(self, talk: _Talk, item: _Item, later: Later | None, *, is_new: bool) -> EditOutcome:
        event = item.event
        first = EditOutcome(
            id=event.id, session_id=event.session_id, source=talk.source, agent=event.author.agent,
            kind="edit" if isinstance(event, EditEvent) else "suggestion", time=event.time, path=item.path, outcome="unknown",
            recorded=event.outcome if isinstance(event, Suggestion) else "",
        )  # fmt: skip
        if isinstance(event, Suggestion) and event.outcome != "kept":
            return _as_recorded(first, event, talk.items)
        if later is not None and later.is_overtaken:
            return _in_session(first, later)
        doing = undone_by(talk.doings, item.position, item.path, is_new=is_new)
        if not self._histories.heads:
            return _by_command(first, doing) if doing else _with(first, reason=NO_HISTORY)
        question = self._question(talk, item)
        if item.hunks:
            outcome = self._by_lines(first, item, question, later.gone if later is not None else frozenset())
            # Lines that stand in a commit say more than a command does.
            return _by_command(first, doing) if doing and (outcome.committed or 0.0) < ALL else outcome
        return _by_command(first, doing) if doing else self._by_file(first, item, question)

    def _question(self, talk: _Talk, item: _Item) -> Question:
        name = item.path.replace("\\", "/").rpartition("/")[2]
        return Question(
            time=item.event.time, repositories=talk.repositories, files=item.files, suffix=name[name.rfind(".") :] if "." in name else name,
            new=item.asked.new, old=item.asked.old, brought=item.asked.brought,
            num_new=sum(1 for hunk in item.hunks for line in hunk.new if line.strip()), creates=_creates(item.event),
            may_be_moved=item.meant.is_inside or item.meant.may_be_inside,
        )  # fmt: skip

    def _by_lines(self, first: EditOutcome, item: _Item, question: Question, gone: frozenset[str]) -> EditOutcome:
        without = frozenset(self._keys.key(line) for line in gone)
        evidence = self._joiner.evidence(question.new if question.brought else question.old)
        wanted = evidence.keys() - without
        if sum(evidence[key] for key in wanted) < MIN_WEIGHT:
            return _with(self._by_file(first, item, question), reason=COMMON_LINES)
        first = _with(first, num_lines=len(wanted))
        join = self._joiner.join(question, without)
        if join is None:
            return self._not_found(first, item, question)
        step = self._joiner.step(join.step)
        path = self._histories.paths[join.path][1]
        fate = self._joiner.fate(question, join)
        seen = [Evidence(
            what="tree" if join.in_tree else "commit", commit=step.parent if join.in_tree else step.revision, path=path,
            line=join.line if join.brought else -1, time=step.time,
        )]  # fmt: skip
        seen += self._later_evidence(fate, step.repository)
        found = _with(first, repository=step.repository, committed=round(join.share, 3), newest=round(fate.newest, 3), evidence=tuple(seen))
        return self._named(found, item, join, fate)

    def _named(self, found: EditOutcome, item: _Item, join: Join, fate: Fate) -> EditOutcome:
        sure = _confidence(join)
        if fate.is_reverted:
            return _with(found, outcome="reverted", confidence=round(0.9 * sure, 2))
        other = self._changes(item, Place(join.step, join.path, 0, join.in_tree)) if join.missing and join.brought else ()
        if join.share < ALL:
            by = self._changed_by(item, join.step, join.path, frozenset(join.missing))
            outcome: OutcomeName = "superseded" if by == "assistant" else "changed"
            return _with(found, outcome=outcome, confidence=round(0.9 * sure, 2), by=by, changes=other)
        outcome = "survived" if fate.newest >= ALL else "kept"
        return _with(found, outcome=outcome, confidence=round(sure, 2), changes=other)

    def _not_found(self, first: EditOutcome, item: _Item, question: Question) -> EditOutcome:
        """No commit in time has its lines: others took the place of the old ones, or the old ones still stand."""
        place = self._joiner.replaced(question) if question.brought else None
        if place is not None:
            step, path = self._joiner.step(place.step), self._histories.paths[place.path][1]
            by = self._changed_by(item, place.step, place.path, frozenset(self._joiner.evidence(question.new)))
            return _with(
                first, outcome="superseded" if by == "assistant" else "changed", confidence=0.5, repository=step.repository, committed=0.0,
                by=by, changes=self._changes(item, place),
                evidence=(Evidence(what="commit", commit=step.revision, path=path, time=step.time),),
            )  # fmt: skip
        # Lines that were taken away here may have been put elsewhere in the file.
        touched = self._joiner.next_change(question) if question.brought else None
        if touched is not None and self._joiner.stands_as_before(question, touched):
            evidence = self._file_evidence(touched, what="before")
            repository = self._histories.paths[touched.path][0]
            return _with(first, outcome="undone", confidence=0.6, by="unknown", repository=repository, committed=0.0, evidence=(evidence,))
        return _with(first, reason=self._why_not(question, item, NOT_FOUND))

    def _by_file(self, first: EditOutcome, item: _Item, question: Question) -> EditOutcome:
        touched = self._joiner.next_change(question)
        if touched is None:
            return _with(first, reason=self._why_not(question, item, NOT_COMMITTED))
        evidence = [self._file_evidence(touched, what="file")]
        if touched.or_commit:
            step = self._joiner.step(touched.touch.step)
            evidence.append(Evidence(what="file", commit=step.revision, path=evidence[0].path, time=step.time))
        confidence = (0.8 if evidence[0].time - question.time <= DAY_S else 0.6) * (1.0 if touched.is_sure else 0.8)
        return _with(
            first, outcome="committed", confidence=round(confidence, 2), repository=self._histories.paths[touched.path][0],
            evidence=tuple(evidence),
        )  # fmt: skip

    def _why_not(self, question: Question, item: _Item, otherwise: str) -> str:
        heads = [head for name, head in self._histories.heads.items() if name in question.repositories]
        if not item.meant.is_inside:
            return NO_FILE
        # What ends soon after the edit may have its commit still to come.
        is_over = all(head.time < question.time + self._config.path_window_days * DAY_S for head in heads)
        return NOT_YET if is_over else otherwise

    def _changes(self, item: _Item, place: Place) -> tuple[Edit, ...]:
        text = self._joiner.text(place)
        return tuple(changes(item.hunks, text, self._histories.paths[place.path][1])) if text else ()

    def _changed_by(self, item: _Item, step: int, path: int, missing: frozenset[int]) -> By:
        """Who may have changed these lines of the file before that step."""
        until = self._joiner.step(step)
        # Of a file that was moved nobody knows which edits came between; and a commit of an assistant may hold its own changes.
        is_known = until.author != "assistant" and self._histories.file(path) in {self._histories.file(one) for one in item.files}
        others = self._of_file[self._histories.file(path)]
        for other in islice(others, bisect_right(others, _order(item), key=_order), None):
            if other.event.time > until.time:
                break
            if not other.hunks:
                is_known = False
            elif isinstance(other.event, EditEvent) and is_whole(other.event) and missing - {unit.line for unit in other.asked.new}:
                return "assistant"
            elif missing & {unit.line for unit in other.asked.old}:
                return "assistant"
        return "developer" if is_known else "unknown"

    def _later_evidence(self, fate: Fate, repository: str) -> list[Evidence]:
        found: list[Evidence] = []
        if fate.gone is not None:
            step = self._joiner.step(fate.gone)
            path = self._histories.paths[fate.gone_path][1]
            found.append(Evidence(what="reverted" if fate.is_reverted else "gone", commit=step.revision, path=path, time=step.time))
        if fate.newest_place is not None:
            number, line = fate.newest_place
            head = self._histories.heads[repository]
            found.append(Evidence(what="newest", commit=head.revision, path=self._histories.paths[number][1], line=line, time=head.time))
        return found

    def _file_evidence(self, touched: Touched, *, what: Literal["file", "before"]) -> Evidence:
        step = self._joiner.step(touched.touch.step)
        commit = step.parent if touched.touch.in_tree else step.revision
        seen = "tree" if what == "file" and touched.touch.in_tree else what
        return Evidence(what=seen, commit=commit, path=self._histories.paths[touched.path][1], time=step.time)


def _order(item: _Item) -> tuple[float, int, int]:
    return item.event.time, item.talk, item.position


def _with(outcome: EditOutcome, /, **fields: Any) -> EditOutcome:
    return msgspec.structs.replace(outcome, **fields)


def _creates(event: EditEvent | Suggestion) -> bool:
    return isinstance(event, EditEvent) and event.before_id is None and event.after_id is not None


def _confidence(join: Join) -> float:
    """That the edit went into this commit."""
    sure = 1.0 - (0.5 if join.agrees else 1.0) / (1.0 + join.weight)
    return sure * (0.95 if join.in_tree else 1.0) * (0.95 if join.num_candidates > 1 else 1.0) * (1.0 if join.brought else 0.9)


def _in_session(first: EditOutcome, later: Later) -> EditOutcome:
    outcome: OutcomeName = "undone" if later.is_undone else "changed" if later.by == "developer" else "superseded"
    return _with(first, outcome=outcome, confidence=0.9, by=later.by, evidence=(Evidence(what="edit", event=later.event, time=later.time),))


def _by_command(first: EditOutcome, doing: Doing) -> EditOutcome:
    evidence = Evidence(what="command", event=doing.event.id, time=doing.event.time)
    kind = doing.event.author.kind
    by: By = "developer" if kind == "developer" else "assistant"
    return _with(first, outcome="undone", confidence=doing.act.confidence, by=by, evidence=(evidence,))


def _as_recorded(first: EditOutcome, event: Suggestion, items: Sequence[_Item]) -> EditOutcome:
    """What the session itself says of a suggestion that was not taken as it was."""
    evidence = (Evidence(what="recorded", event=event.id, time=event.time),)
    if event.outcome == "ignored":
        # It was never put in, and may have been typed by hand.
        return _with(first, reason=IGNORED, evidence=evidence)
    if event.outcome != "changed":
        return _with(first, outcome="undone", confidence=1.0, by="developer", evidence=evidence)
    # What was written instead is the edit that follows it.
    written = [
        hunk for item in items if isinstance(item.event, EditEvent) and item.event.provenance == event.provenance
        for hunk in item.hunks if hunk.path == event.edit.path
    ]  # fmt: skip
    same = next((hunk for hunk in written if hunk.old == event.edit.old), written[0] if len(written) == 1 else None)
    instead = () if same is None else (Edit(same.path, same.start_line, event.edit.new, same.new, same.above, same.below),)
    return _with(first, outcome="changed", confidence=1.0, by="developer", changes=instead, evidence=evidence)
