"""Finds the commit that an edit went into, by its lines, and what became of them there later.

    Question (an edit: when, in which files, its lines) --Joiner.join()--> Join: the commit, lines found and missing
                                                        --Joiner.fate()--> Fate: taken away again? back as it was? in the newest tree?
                                                        --Joiner.next_change()--> the commit that changed the file next

Lines weigh what they tell: 1 where they stand in one place of all histories, 1/sqrt(n) in n places. Of the commits that brought
enough of them, the one nearest in time after the edit is taken. An edit that only takes lines away is found by the commit that took
them. In a file that the edit's path does not mean (it was moved, or the repository could not be told), more lines have to agree.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, islice
from typing import NamedTuple

from apprentice.core.protocols import TextSource
from apprentice.sessions.outcomes.line_places import Histories, Place, Step, Touch, Unit
from apprentice.text.edits import split_lines

SLACK_S = 5.0
"""A commit may bear a time this much before the edit's: whole seconds, and clocks that differ a little."""
ALL = 0.8
"""Share of the lines from which on they count as all."""
MIN_WEIGHT = 0.5
"""Of the lines found in a file that the edit's path means: one that stands in at most four places."""
MIN_WEIGHT_ELSEWHERE = 1.5
MIN_LINES_ELSEWHERE = 2
MIN_SHARE_ELSEWHERE = 0.5
_MOVED = 0.2
"""Share of the lines that is no accident in another file of the newest tree: they were moved there."""
_PAIR = 0.7
"""What a pair of lines tells, compared with a line."""
_EXACT = 1.25
"""A commit that takes the lines away, and so many more of that file at most, takes back the edit and does nothing else."""
_MAX_CACHED = 64
"""Files whose lines are kept: the edits of a session go into few."""
DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Question:
    """An edit, as the histories are asked about it."""

    time: float
    repositories: frozenset[str]
    """Where it may be found."""
    files: tuple[int, ...]
    """Numbers of the paths that its own path means."""
    suffix: str
    """How its path ends: a file that was moved keeps that."""
    new: Sequence[Unit]
    old: Sequence[Unit]
    brought: bool
    """It wrote lines, and did not only take some away or move them."""
    num_new: int
    """Lines that it wrote."""
    creates: bool
    """There was no file."""
    may_be_moved: bool
    """Its lines may stand in a file that its path does not mean."""


class _Change(NamedTuple):
    """A change of one of the paths that a file had."""

    path: int
    touch: Touch


class _At(NamedTuple):
    """A file in the tree that a step starts from, or in its commit."""

    step: int
    is_commit: bool
    file: int

    @property
    def in_tree(self) -> bool:
        return not self.is_commit


@dataclass(kw_only=True, slots=True)
class Join:
    """Where the lines of an edit were committed."""

    step: int
    path: int
    line: int
    in_tree: bool
    found: dict[int, float]
    """Keys and their weights."""
    missing: dict[int, float]
    weight: float
    """Of those that this commit brought: how sure it is that the edit went into it."""
    agrees: bool
    """The file is one that the edit's path means."""
    brought: bool
    """The edit wrote lines; else it only took some away."""
    num_candidates: int
    later: dict[int, int] = field(default_factory=dict)
    """Key -> step, where another commit brought it."""

    @property
    def total(self) -> float:
        """Weight of the lines found."""
        return sum(self.found.values())

    @property
    def share(self) -> float:
        """Of the lines, by weight."""
        return self.total / (self.total + sum(self.missing.values()))


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of committed lines."""

    newest: float
    """Share of them that stands in the newest tree."""
    newest_place: tuple[int, int] | None
    """(path, line) of the first of them."""
    gone: int | None = None
    """The step that took most of them away."""
    gone_path: int = -1
    is_reverted: bool = False
    """That step brought back what stood there before the edit."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Touched:
    """A file that was committed."""

    path: int
    touch: Touch
    is_sure: bool
    """After the edit: a tree may be older than the commit that starts from it."""
    or_commit: bool
    """If the tree is older, it was the commit of the same step."""


class Joiner:
    """Asks the histories about edits."""

    def __init__(self, histories: Histories, texts: TextSource, *, window_s: float, path_window_s: float, revert_window_s: float) -> None:
        self._histories, self._texts = histories, texts
        self._window_s, self._path_window_s, self._revert_window_s = window_s, path_window_s, revert_window_s
        self._paths: defaultdict[int, list[int]] = defaultdict(list)
        self._changes: dict[int, tuple[list[_Change], list[float]]] = {}
        self._keys_at: OrderedDict[tuple[int, int, bool], set[int]] = OrderedDict()
        for number in range(len(histories.paths)):
            self._paths[histories.file(number)].append(number)

    def step(self, number: int) -> Step:
        return self._histories.steps[number]

    def evidence(self, units: Iterable[Unit]) -> dict[int, float]:
        """Keys that tell something, with their weights: lines, or pairs of lines where no line does by itself."""
        units = list(units)
        weight = self._histories.weight
        lines = {unit.line: found for unit in units if unit.line >= 0 and (found := weight(unit.line))}
        if lines:
            return lines
        best = (max(unit.pairs, key=weight) for unit in units if unit.pairs)
        return {pair: _PAIR * found for pair in best if (found := weight(pair))}

    def join(self, question: Question, without: frozenset[int] = frozenset()) -> Join | None:
        """The commit nearest after the edit that brought its lines. `without`: keys that are not looked for."""
        brought = question.brought
        places = self._histories.added if brought else self._histories.removed
        wanted = {key: w for key, w in self.evidence(question.new if brought else question.old).items() if key not in without}
        candidates = self._candidates(question, wanted, places)
        own = {self._histories.file(path) for path in question.files}
        # Of lines that were only taken away nothing else tells that the rest was meant.
        least = MIN_WEIGHT if brought else max(MIN_WEIGHT, ALL * sum(wanted.values()))
        chosen = self._nearest({at: found for at, found in candidates.items() if at.file in own}, wanted, least)
        if chosen is None and question.may_be_moved:
            elsewhere = {
                at: found for at, found in candidates.items()
                if at.file not in own and len(found) >= MIN_LINES_ELSEWHERE and self._keeps_suffix(question, found)
                and _sum(wanted, found) >= MIN_SHARE_ELSEWHERE * sum(wanted.values())
            }  # fmt: skip
            chosen = self._nearest(elsewhere, wanted, MIN_WEIGHT_ELSEWHERE)
        if chosen is None:
            return self._join_next(question, wanted) if brought else None
        at, num_candidates = chosen
        first = min(candidates[at].values(), key=lambda place: place.line)
        # Lines that stood there before are not what the edit is known by, but they stand there.
        found = {*candidates[at], *(self._standing(first) if brought else ())}
        # The rest may have been committed apart.
        later = {
            key: other.step for other, there in sorted(candidates.items()) if other.file == at.file for key in there if key not in found
        }  # fmt: skip
        found = (found | later.keys()) & wanted.keys()
        return Join(
            step=at.step, path=first.path, line=first.line, in_tree=at.in_tree, found={key: wanted[key] for key in found},
            missing={key: w for key, w in wanted.items() if key not in found}, weight=_sum(wanted, candidates[at]), agrees=at.file in own,
            brought=brought, num_candidates=num_candidates, later=later,
        )  # fmt: skip

    def _join_next(self, question: Question, wanted: dict[int, float]) -> Join | None:
        """Nothing brought the lines, for they stood there before: what was written is what the file is when it is committed next."""
        touched = self.next_change(question, merges=True)
        if touched is None:
            return None
        path, touch = touched.path, touched.touch
        place = Place(touch.step, path, 0, touch.in_tree)
        found = self._standing(place) & wanted.keys()
        if not found or _sum(wanted, found) < ALL * sum(wanted.values()):
            return None
        return Join(
            step=touch.step, path=path, line=-1, in_tree=touch.in_tree, found={key: wanted[key] for key in found},
            missing={key: w for key, w in wanted.items() if key not in found}, weight=0.0, agrees=True, brought=True, num_candidates=1,
        )  # fmt: skip

    def fate(self, question: Question, join: Join) -> Fate:
        """What became of the lines after they were committed."""
        histories = self._histories
        forth, back = (histories.added, histories.removed) if join.brought else (histories.removed, histories.added)
        files = {histories.file(join.path)}
        taken, given = (self._by_step(join, places) for places in (back, forth))
        standing = dict(join.found)
        gone: int | None = None
        for step in sorted({*taken, *given}):
            here = given.get(step, {})
            for key, at in taken.get(step, {}).items():
                if join.brought and at & files and (there := here.get(key)):
                    files |= there
                elif at & files:
                    standing.pop(key, None)
            for key, at in here.items():
                if at & files:
                    standing[key] = join.found[key]
            if gone is None and sum(standing.values()) <= join.total / 2:
                gone = step
            elif gone is not None and sum(standing.values()) >= ALL * join.total:
                gone = None
        share, place = self._newest(join, files)
        if gone is None:
            return Fate(share, place)
        path = next((p.path for key in join.found for p in back(key) if p.step == gone), -1)
        return Fate(share, place, gone, path, self._is_reverted(question, join, gone, files))

    def next_change(self, question: Question, *, merges: bool = False) -> Touched | None:
        """The first change after the edit of the file that its path means. `merges`: also one that brought nothing new into it."""
        if len({self._histories.file(path) for path in question.files}) != 1:
            return None
        since, until = question.time - SLACK_S, question.time + self._path_window_s
        changes, latest = self._changes_of(self._histories.file(question.files[0]))
        after = [
            one for one in islice(changes, bisect_left(latest, since), None)
            if since <= self.step(one.touch.step).time <= until and (one.touch.num_new or merges or not one.touch.in_tree)
        ][:2]  # fmt: skip
        if not after:
            return None
        path, touch = after[0]
        is_sure = not touch.in_tree or self.step(touch.step - 1).time >= since
        or_commit = not is_sure and any(other.touch.step == touch.step and not other.touch.in_tree for other in after)
        return Touched(path=path, touch=touch, is_sure=is_sure, or_commit=or_commit)

    def _changes_of(self, file: int) -> tuple[list[_Change], list[float]]:
        """All changes of a file in order, and the latest time up to each."""
        if file not in self._changes:
            all_of_it = (_Change(path, touch) for path in self._paths[file] for touch in self._histories.touches[path])
            later = (one for one in all_of_it if not self.step(one.touch.step).is_start)
            found = sorted(later, key=lambda one: (one.touch.step, not one.touch.in_tree, one.path))
            self._changes[file] = found, list(accumulate((self.step(one.touch.step).time for one in found), max))
        return self._changes[file]

    def replaced(self, question: Question) -> Place | None:
        """Where a commit took the old lines away, but brought none of the new ones."""
        wanted = self.evidence(question.old)
        own = {self._histories.file(path) for path in question.files}
        candidates = self._candidates(question, wanted, self._histories.removed)
        enough = {at: f for at, f in candidates.items() if at.file in own and _sum(wanted, f) >= sum(wanted.values()) / 2}
        chosen = self._nearest(enough, wanted, MIN_WEIGHT)
        return None if chosen is None else min(enough[chosen[0]].values(), key=lambda place: place.line)

    def stands_as_before(self, question: Question, touched: Touched) -> bool:
        """Whether the old lines still stood in the file when it was committed next."""
        touch = touched.touch
        # A tree says what stands in it, and not what was taken away.
        there = self._standing(Place(touch.step, touched.path, 0, touch.in_tree))
        wanted = self.evidence(question.old)
        own = {self._histories.file(path) for path in question.files}
        since = question.time - SLACK_S
        standing = {
            key for key in wanted.keys() & there
            if any(self._histories.file(p.path) in own and (self.step(p.step).time < since or p.in_tree) for p in self._histories.added(key))
            and not any(p.step <= touch.step and self.step(p.step).time >= since for p in self._histories.removed(key))
        }  # fmt: skip
        return bool(standing) and _sum(wanted, standing) >= max(ALL * sum(wanted.values()), MIN_WEIGHT)

    def text(self, place: Place) -> Sequence[str]:
        """The lines of a file as a step left it, or found it; none where they are not known."""
        found = (t.text_id for t in self._histories.touches[place.path] if t.step == place.step and t.in_tree == place.in_tree)
        text_id = next((one for one in found if one is not None), None)
        return split_lines(self._texts.text(text_id)) if text_id is not None and text_id in self._texts else ()

    def _standing(self, place: Place) -> set[int]:
        at = (place.step, place.path, place.in_tree)
        if at not in self._keys_at:
            self._keys_at[at] = {key for key, _ in self._histories.keys.found(self.text(place))}
            if len(self._keys_at) > _MAX_CACHED:
                self._keys_at.popitem(last=False)
        return self._keys_at[at]

    def _candidates(
        self, question: Question, wanted: Iterable[int], places: Callable[[int], Sequence[Place]]
    ) -> dict[_At, dict[int, Place]]:
        found: defaultdict[_At, dict[int, Place]] = defaultdict(dict)
        for key in wanted:
            for place in places(key):
                if self._is_possible(question, place):
                    found[_At(place.step, not place.in_tree, self._histories.file(place.path))].setdefault(key, place)
        return found

    def _is_possible(self, question: Question, place: Place) -> bool:
        step = self.step(place.step)
        in_time = question.time - SLACK_S <= step.time <= question.time + self._window_s
        return in_time and step.repository in question.repositories

    def _keeps_suffix(self, question: Question, found: dict[int, Place]) -> bool:
        path = self._histories.paths[next(iter(found.values())).path][1]
        return path.rpartition("/")[2].endswith(question.suffix)

    def _nearest(
        self, candidates: dict[_At, dict[int, Place]], wanted: dict[int, float], least: float
    ) -> tuple[_At, int] | None:
        """The first of those that brought about as much as the best one, and how many there are."""
        weights = {at: _sum(wanted, found) for at, found in candidates.items()}
        best = max(weights.values(), default=0.0)
        if best < least:
            return None
        good = [at for at, weight in weights.items() if weight >= ALL * best]
        return min(good, key=lambda at: (self.step(at.step).time, at)), len(good)

    def _by_step(self, join: Join, places: Callable[[int], Sequence[Place]]) -> dict[int, dict[int, set[int]]]:
        """Step after the one that brought it -> key -> files."""
        found: defaultdict[int, defaultdict[int, set[int]]] = defaultdict(lambda: defaultdict(set))
        for key in join.found:
            for place in places(key):
                if place.step > join.later.get(key, join.step) and not place.in_tree:
                    found[place.step][key].add(self._histories.file(place.path))
        return {step: dict(keys) for step, keys in found.items()}

    def _newest(self, join: Join, files: set[int]) -> tuple[float, tuple[int, int] | None]:
        weights: defaultdict[int, float] = defaultdict(float)
        places: defaultdict[int, dict[int, tuple[int, int]]] = defaultdict(dict)
        for key, weight in join.found.items():
            for path, line in self._histories.newest(key):
                file = self._histories.file(path)
                if key not in places[file]:
                    weights[file] += weight
                    places[file][key] = (path, line)
        if not join.brought:
            return 1.0 - _sum(join.found, {key for file in files for key in places[file]}) / join.total, None
        there = {file for file, weight in weights.items() if file in files or weight >= _MOVED * join.total}
        standing = {key for file in there for key in places[file]}
        if not standing:
            return 0.0, None
        most = max(there, key=lambda file: (file in files, weights[file]))
        return _sum(join.found, standing) / join.total, min((places[most] or places[max(there, key=weights.__getitem__)]).values())

    def _is_reverted(self, question: Question, join: Join, gone: int, files: set[int]) -> bool:
        step, origin = self.step(gone), self.step(join.step)
        if step.reverts and not join.in_tree and origin.revision.startswith(step.reverts):
            return True
        if step.time - origin.time > self._revert_window_s:
            return False
        if not join.brought:
            return True
        wanted = self.evidence(question.old)
        if wanted:
            back = {
                key for key in wanted
                if any(p.step == gone and not p.in_tree and self._histories.file(p.path) in files for p in self._histories.added(key))
            }  # fmt: skip
            return _sum(wanted, back) >= sum(wanted.values()) / 2
        touches = [touch for file in files for path in self._paths[file] for touch in self._histories.touches[path] if touch.step == gone]
        if question.creates:
            return any(touch.text_id is None for touch in touches)
        return any(t.num_old <= _EXACT * question.num_new and t.num_new <= (_EXACT - 1) * question.num_new for t in touches)


def _sum(weights: dict[int, float], keys: Iterable[int]) -> float:
    return sum(weights[key] for key in keys)
