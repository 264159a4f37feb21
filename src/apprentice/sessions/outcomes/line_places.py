"""Where lines that are asked about stand in the histories of repositories, and which commits brought and took them.

    edits --Keys.ask()--> units: lines that an edit brought or took, and pairs of neighbouring lines
    histories --read()--> of each: commits that brought it, commits that took it, places in the newest tree

The question comes first: what is kept grows with what was asked, not with the histories, and each history is gone through once.
A line is compared without blanks at its end. A line that stands in more than COMMON places is no evidence, and its places are
forgotten. A line that says nothing by itself (a brace, `return`) may still say something together with the line above or below it.

Merges and huge commits are not in a history; what they brought is seen in the tree that the next commit starts from (its moves).
Branches interleave there, so a tree counts only for lines that its file never had before, and never for lines that are gone.
Files in which tools record talks are left out: they hold the lines of every edit.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from apprentice.core.protocols import ProgressSink
from apprentice.repository.world import World
from apprentice.sessions import replay
from apprentice.sessions.events import AuthorKind, EditEvent, Session
from apprentice.sessions.store import Sessions
from apprentice.text.edits import Edit, split_lines

COMMON = 20
"""Places at once, in all histories, above which a line is no evidence."""
MAX_UNITS = 400
"""Of one edit and side; of longer ones so many are looked for, evenly spread."""
_MAX_PLACES = 64
"""Commits that brought a line, or took it; of a line that comes and goes more often the first ones are kept."""
_PLAIN_CHARACTERS = 2
"""A line with no more letters and digits says nothing by itself."""
_PLAIN_WORDS = frozenset(
    "begin break case const continue def default do done else elif end endif esac except false fi finally for func if import in"
    " let new nil none not null ok or pass private public return self static switch then this throw true try var void while".split()
)
_TALKS = (".specstory/history/", ".aider.chat.history.md")
_WORDS = re.compile(r"[^\W_]+")
_REVERTS = re.compile(r"This reverts commit ([0-9a-f]{7,40})\b")


@dataclass(frozen=True, slots=True)
class Unit:
    """A line that an edit brought or took."""

    line: int
    """Key of the line; -1 where it says nothing by itself."""
    pairs: tuple[int, ...]
    """Keys of the line with the one above it and with the one below it."""


class Asked(NamedTuple):
    """What is looked for of an edit."""

    brought: bool
    """It wrote lines that were not there."""
    new: list[Unit]
    old: list[Unit]


class Place(NamedTuple):
    """Where a line came or went."""

    step: int
    path: int
    line: int
    """0-based, in the file afterwards."""
    in_tree: bool
    """It stands in the tree that the step started from; which commit brought it there is not known."""


class Touch(NamedTuple):
    """A file that a step changed."""

    step: int
    text_id: str | None
    """None where the file was deleted."""
    in_tree: bool
    """As in `Place`."""
    num_old: int
    """Lines that the commit took out of it; 0 in a tree."""
    num_new: int
    """Lines that the commit put into it; in a tree: that the file never had before. A merge of what is known has none."""


class Step(NamedTuple):
    """A commit of a history; the first step of each is the tree that it starts from."""

    repository: str
    revision: str
    parent: str
    time: float
    author: AuthorKind
    reverts: str
    """The commit that it says it reverts."""
    is_start: bool = False


def is_plain(line: str) -> bool:
    """Whether the line would say nothing even if it stood nowhere else."""
    words = _WORDS.findall(line[:2000].lower())
    return sum(map(len, words)) <= _PLAIN_CHARACTERS or all(word in _PLAIN_WORDS for word in words)


class Keys:
    """Numbers of the lines and pairs of lines that are asked about."""

    def __init__(self) -> None:
        self._lines: dict[str, int] = {}
        self._pairs: dict[tuple[int, int], int] = {}
        self.names: set[str] = set()
        """Of files that are asked about: how their paths end."""

    def ask(self, path: str, hunks: Sequence[Edit]) -> Asked:
        """What these edits of a file brought and what they took. Lines that they only moved are neither."""
        self.names.add(_last_part(path))
        new, old = Counter[str](), Counter[str]()
        for hunk in hunks:
            new.update(_told(hunk.new))
            old.update(_told(hunk.old))
        brought, took = new - old, old - new
        has_new = bool(brought)
        return Asked(
            has_new,
            _spread([unit for hunk in hunks for unit in self._units(hunk, hunk.new, brought)]),
            _spread([unit for hunk in hunks for unit in self._units(hunk, hunk.old, took)]),
        )

    def key(self, line: str) -> int:
        """-1 where nobody asks about it."""
        return self._lines.get(line.rstrip(), -1)

    def found(self, lines: Iterable[str]) -> Iterator[tuple[int, int]]:
        """(key, number of the line) of everything that is asked about; a pair has the number of its second line."""
        above = -1
        for number, line in enumerate(lines):
            text = line.rstrip()
            if not text:
                continue
            key = self._lines.get(text, -1)
            if key >= 0:
                yield key, number
                if above >= 0 and (pair := self._pairs.get((above, key), -1)) >= 0:
                    yield pair, number
            above = key

    def changed(self, hunks: Sequence[Edit]) -> tuple[dict[int, tuple[int, int]], Counter[int]]:
        """Of what is asked about: what these edits brought, (how often, number of the line), and how often they took what."""
        new, old = Counter[int](), Counter[int]()
        first: dict[int, int] = {}
        for hunk in hunks:
            around = len(hunk.above)
            for key, number in self.found([*hunk.above, *hunk.new, *hunk.below]):
                new[key] += 1
                if number >= around:
                    first.setdefault(key, max(hunk.start_line, 0) + number - around)
            old.update(key for key, _ in self.found([*hunk.above, *hunk.old, *hunk.below]))
        return {key: (count, first.get(key, 0)) for key, count in (new - old).items()}, old - new

    def _units(self, hunk: Edit, lines: Sequence[str], wanted: Counter[str]) -> Iterator[Unit]:
        """`wanted` is counted down."""
        inner = list(_told(lines))
        above, below = next(_told(hunk.above[::-1]), None), next(_told(hunk.below), None)
        if not inner:
            # That nothing stands between the two is all there is to look for. Next to a brace another one comes soon.
            if above is not None and below is not None and not is_plain(above) and not is_plain(below):
                yield Unit(-1, self._pair(above, below))
            return
        around = [above, *inner, below]
        for number, line in enumerate(inner):
            if wanted[line] > 0:
                wanted[line] -= 1
                pairs = self._pair(around[number], line) + self._pair(line, around[number + 2])
                yield Unit(-1 if is_plain(line) else self._line(line), pairs)

    def _line(self, line: str) -> int:
        return self._lines.setdefault(line, len(self._lines) + len(self._pairs))

    def _pair(self, above: str | None, below: str | None) -> tuple[int, ...]:
        if above is None or below is None or (is_plain(above) and is_plain(below)):
            return ()
        both = self._line(above), self._line(below)
        return (self._pairs.setdefault(both, len(self._lines) + len(self._pairs)),)


def _last_part(path: str) -> str:
    return path.replace("\\", "/").rpartition("/")[2]


def _told(lines: Iterable[str]) -> Iterator[str]:
    return (text for line in lines if (text := line.rstrip()))


def _spread(units: list[Unit]) -> list[Unit]:
    return units if len(units) <= MAX_UNITS else [units[i * len(units) // MAX_UNITS] for i in range(MAX_UNITS)]


@dataclass(slots=True)
class _Found:
    """What is known of a key."""

    added: list[Place] = field(default_factory=list)
    removed: list[Place] = field(default_factory=list)
    newest: list[tuple[int, int]] = field(default_factory=list)
    paths: set[int] = field(default_factory=set)
    now: int = 0
    most: int = 0


class Histories:
    """What was found; see the module's docstring."""

    def __init__(self, keys: Keys) -> None:
        self.keys = keys
        self._found: dict[int, _Found | None] = {}
        self._numbers: dict[tuple[str, str], int] = {}
        self._union: list[int] = []
        self._read: set[tuple[int, str]] = set()
        self._had: defaultdict[int, set[int]] = defaultdict(set)
        """Path -> hashes of all lines that the file ever had, of files that are asked about."""
        self.steps: list[Step] = []
        self.paths: list[tuple[str, str]] = []
        """(repository, path) of each number."""
        self.touches: list[list[Touch]] = []
        """Of each path, in order."""
        self.heads: dict[str, Step] = {}
        """The newest step of each repository."""

    def weight(self, key: int) -> float:
        """1 for what stands in one place or none, less for what stands in more, 0 for what is no evidence."""
        found = self._found.get(key, _NOTHING)
        return 0.0 if found is None else max(1, found.most, len(found.paths)) ** -0.5

    def added(self, key: int) -> list[Place]:
        """Steps that brought it, in order."""
        found = self._found.get(key)
        return found.added if found else []

    def removed(self, key: int) -> list[Place]:
        """Steps that took it, in order."""
        found = self._found.get(key)
        return found.removed if found else []

    def newest(self, key: int) -> list[tuple[int, int]]:
        """(path, line) in the newest tree."""
        found = self._found.get(key)
        return found.newest if found else []

    def file(self, path: int) -> int:
        """One number for all the paths that a file had."""
        while self._union[path] != path:
            self._union[path] = self._union[self._union[path]]
            path = self._union[path]
        return path

    def read_repository(self, sessions: Sessions, world: World, repository: str, progress: ProgressSink) -> None:
        """Go through one history. `world` stands at its start and is moved on."""
        for session in sessions.sessions(repository):
            step = _step(session)
            if repository not in self.heads:
                self.steps.append(step._replace(revision=step.parent, is_start=True))
                for path, text_id in world.files().items():
                    self._read_text(sessions, repository, path, text_id)
            self.steps.append(step)
            self.heads[repository] = step
            for move in session.moves:
                if move.text_id is not None:
                    self._read_text(sessions, repository, move.path, move.text_id)
            for event in session.edits:
                self._read_edit(repository, event)
            replay.advance(world, session)
            progress.advance()
        for path, text_id in world.files().items():
            if not _is_talk(path):
                number = self._number(repository, path)
                for key, line in self.keys.found(split_lines(sessions.text(text_id))):
                    if found := self._found.get(key):
                        found.newest.append((number, line))
        self._read.clear()
        self._had.clear()

    def _read_text(self, sessions: Sessions, repository: str, path: str, text_id: str) -> None:
        """A file of the tree that the newest step starts from."""
        if _is_talk(path):
            return
        number = self._number(repository, path)
        if (number, text_id) in self._read:
            return
        self._read.add((number, text_id))
        here = len(self.steps) - 1
        lines = split_lines(sessions.text(text_id))
        self.touches[number].append(Touch(here, text_id, True, 0, self._note(number, path, lines)))
        counts = Counter[int]()
        first: dict[int, int] = {}
        for key, line in self.keys.found(lines):
            counts[key] += 1
            first.setdefault(key, line)
        for key, count in counts.items():
            found = self._found.setdefault(key, _Found())
            if found is not None and number not in found.paths:
                self._add(key, found, count, Place(here, number, first[key], True))

    def _read_edit(self, repository: str, event: EditEvent) -> None:
        if _is_talk(event.path):
            return
        number = self._number(repository, event.path)
        if event.renamed_from is not None:
            old_number = self._number(repository, event.renamed_from)
            self._union[self.file(old_number)] = self.file(number)
            self._had[number] |= self._had.get(old_number, set())
        if event.after_id is not None:
            self._read.add((number, event.after_id))
        here = len(self.steps) - 1
        num_old, num_new = (sum(len(side) for side in sides) for sides in ([h.old for h in event.hunks], [h.new for h in event.hunks]))
        self.touches[number].append(Touch(here, event.after_id, False, num_old, num_new))
        for hunk in event.hunks:
            self._note(number, event.path, hunk.new)
        added, removed = self.keys.changed(event.hunks)
        for key, (count, line) in added.items():
            found = self._found.setdefault(key, _Found())
            if found is not None:
                self._add(key, found, count, Place(here, number, line, False))
        for key, count in removed.items():
            if found := self._found.get(key):
                found.now = max(found.now - count, 0)
                if len(found.removed) < _MAX_PLACES:
                    found.removed.append(Place(here, number, 0, False))

    def _note(self, number: int, path: str, lines: Sequence[str]) -> int:
        """Remember lines of a file that is asked about; how many of them it never had before."""
        if _last_part(path) not in self.keys.names:
            return 0
        new = {hash(line.rstrip()) for line in lines} - self._had[number]
        self._had[number] |= new
        return len(new)

    def _add(self, key: int, found: _Found, count: int, place: Place) -> None:
        found.now += count
        found.most = max(found.most, found.now)
        found.paths.add(place.path)
        if found.most > COMMON or len(found.paths) > COMMON:
            self._found[key] = None
        elif len(found.added) < _MAX_PLACES:
            found.added.append(place)

    def _number(self, repository: str, path: str) -> int:
        number = self._numbers.setdefault((repository, path), len(self.paths))
        if number == len(self.paths):
            self.paths.append((repository, path))
            self._union.append(number)
            self.touches.append([])
        return number


_NOTHING = _Found()


def read(sessions: Sessions, keys: Keys, progress: ProgressSink) -> Histories:
    """Go through the histories of all repositories."""
    histories = Histories(keys)
    worlds = replay.start(sessions)
    streams = [stream for stream in sessions.streams() if not stream.talks]
    progress.stage("look through histories", sum(stream.sessions for stream in streams), "commits")
    for repository in sessions.repositories():
        histories.read_repository(sessions, worlds[repository], repository, progress)
    return histories


def _step(session: Session) -> Step:
    commit = session.commit
    parents = commit.parents if commit else ()
    reverts = _REVERTS.search(session.intent[:20_000])
    return Step(
        session.repository, commit.revision if commit else "", parents[0] if parents else "", session.time, session.author.kind,
        reverts[1] if reverts else "",
    )  # fmt: skip


def _is_talk(path: str) -> bool:
    return any(name in path for name in _TALKS)
