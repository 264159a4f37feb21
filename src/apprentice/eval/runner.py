"""Lets every arm answer at every place of the test, within a time, and keeps each answer.

    examples of the test split --> items;  works --Replay--> views;  (item, view) --> rows on disk --> comparison

Commits are drawn in one seeded order and taken whole, so that a longer time looks at all that a shorter one looked at and
more. All arms answer at the same moment; a commit at which an arm is missing is in no comparison. The measures take
turns so that each gets its share of the time; what one does not need, the others use. A commit is begun only if it should
end in time, by what its measure has cost so far.

A row is on disk before the next is made: after kill -9 the same call goes on where it was.
"""

from __future__ import annotations

import random
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from apprentice.core.errors import InputError, InternalError
from apprentice.core.protocols import ProgressSink
from apprentice.eval.arms import Answer, Arm, Limits, ModelArm, likelihoods, shared_pass
from apprentice.eval.replay import NO_MEMORIES, OpenMemories, Replay, View
from apprentice.eval.samples import EDIT, LIKELIHOOD, LINE, MEASURES, Row, Samples
from apprentice.examples.checks.edit import score_edit
from apprentice.examples.checks.line import is_exact
from apprentice.examples.example import COMPLETION, NEXT_EDIT, Example
from apprentice.examples.kinds.completion import cursor

_KIND = {LIKELIHOOD: NEXT_EDIT, LINE: COMPLETION, EDIT: NEXT_EDIT}
_DEARER = {LIKELIHOOD: 1.0, LINE: 2.0, EDIT: 8.0}
"""Times that a measure's first place is taken to cost as long as one of the measure before it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationConfig:
    """What is measured and on how much."""

    measures: tuple[str, ...] = MEASURES
    """Some of `likelihood`, `line`, `edit`."""
    shares: tuple[float, float, float] = (0.5, 0.35, 0.15)
    """Of the time, for likelihood, line and edit."""
    max_per_commit: int = 0
    """Examples of one commit that are looked at, drawn by seed; 0: all."""
    max_commits: int = 0
    """Commits that are looked at; 0: all."""
    limits: Limits = field(default_factory=Limits)
    """Where generation is cut off."""
    seed: int = 0
    """Of the order of commits."""

    def __post_init__(self) -> None:
        if unknown := set(self.measures) - set(MEASURES):
            raise ValueError(f"unknown measures: {', '.join(sorted(unknown))}")
        if min(self.shares) < 0 or sum(self.shares) <= 0:
            raise ValueError("shares must be 0 or more, not all 0")
        if self.max_per_commit < 0 or self.max_commits < 0:
            raise ValueError("max_per_commit and max_commits must be 0 or more")


class Evaluation:
    """One test set and the arms that take it."""

    def __init__(
        self,
        samples: Samples,
        arms: Sequence[Arm],
        replay: Replay,
        examples: Iterable[Example],
        config: EvaluationConfig | None = None,
        *,
        open_memories: OpenMemories = lambda repository: NO_MEMORIES,
        progress: ProgressSink | None = None,
        clock: Callable[[], float] = time.monotonic,
        wave_commits: int = 96,
    ) -> None:
        """`wave_commits`: commits whose moments are made in one walk over the test."""
        if len({arm.name for arm in arms}) < len(arms):
            raise InternalError("two arms have the same name")
        self.samples, self.arms, self.config = samples, list(arms), config or EvaluationConfig()
        self._replay, self._open_memories, self._progress, self._clock = replay, open_memories, progress, clock
        self._items = _items(examples, self.config)
        self._order = list(dict.fromkeys(commit for commits in self._items.values() for commit in commits))
        self._kept: dict[str, list[View]] = {}
        self._wave_commits = wave_commits

    def run(self, budget_s: float | None = None) -> list[Row]:
        """All rows of these arms, made now or before, of commits that every arm has finished. Without a budget: all."""
        start = self._clock()
        turns = [_Turn(m, share, self._missing(m)) for m, share in zip(MEASURES, self.config.shares, strict=True)]
        turns = [turn for turn in turns if turn.commits]
        if self._progress:
            places = sum(len(self._items[turn.measure][commit]) for turn in turns for commit in turn.commits)
            self._progress.stage("evaluate", places, "places")
        while turn := self._next(turns, start, budget_s):
            if not self._take(turn, self._views(turn.commits[0], turns), start, budget_s):
                break
        return self.rows()

    def rows(self) -> list[Row]:
        """The rows that are on disk, of commits that every arm has finished."""
        versions = {arm.name: arm.version for arm in self.arms}
        mine = [row for row in self.samples.rows() if versions.get(row.arm) == row.version]
        done: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
        for row in mine:
            done[row.measure, row.arm].add(row.example)
        whole = {
            measure: {
                example
                for commit, wanted in self._items[measure].items()
                if all(wanted <= done[measure, arm.name] for arm in self._arms(measure))
                for example in wanted
            }
            for measure in MEASURES
        }
        return [row for row in mine if row.measure in self.config.measures and row.example in whole[row.measure]]

    def commits(self, measure: str) -> list[str]:
        """The commits of a measure in the order in which they are looked at."""
        return list(self._items[measure])

    def _arms(self, measure: str) -> list[Arm]:
        return [arm for arm in self.arms if measure in arm.measures]

    def _next(self, turns: Sequence[_Turn], start: float, budget_s: float | None) -> _Turn | None:
        """Whose turn it is; None where nothing is left to do or no commit should end in time."""
        waiting = [turn for turn in turns if turn.commits]
        if budget_s is None:
            return min(waiting, key=lambda turn: turn.num_done, default=None)
        left = start + budget_s - self._clock()
        costs = self._costs(waiting, turns)
        possible = [turn for turn in waiting if left > 0 and costs[turn.measure] <= left]
        share = budget_s / (sum(turn.share for turn in turns) or 1.0)
        fair = [turn for turn in possible if turn.spent + costs[turn.measure] <= share * turn.share]
        return min(fair or possible, key=lambda turn: turn.spent / (turn.share or 1e-9), default=None)

    def _costs(self, waiting: Sequence[_Turn], turns: Sequence[_Turn]) -> dict[str, float]:
        """Seconds that each measure's turn should take: its next commit, by what its places cost so far. A measure
        that has not begun tries one place first."""
        costs: dict[str, float] = {}
        a_place = 0.0
        for turn in turns:
            a_place = turn.spent / turn.places if turn.places else a_place * _DEARER[turn.measure]
            if turn in waiting:
                costs[turn.measure] = a_place * (len(self._wanted(turn)) if turn.places else 1)
        return costs

    def _take(self, turn: _Turn, views: Sequence[View], start: float, budget_s: float | None) -> bool:
        """One commit in one measure, or its first place; False where the time ran out in the middle."""
        begun = self._clock()
        wanted, is_trial = self._wanted(turn), budget_s is not None and not turn.places
        if missing := wanted - {view.moment.key for view in views}:
            raise InputError(
                f"the sessions do not have {len(missing)} of the places of commit {turn.commits[0][:12]}, which is held out",
                hint="the examples were made of other sessions, or somebody was forgotten since: make the examples anew",
            )
        for view in views:
            if view.moment.key not in wanted:
                continue
            if budget_s is not None and self._clock() > start + budget_s:
                return False
            self._answer(turn.measure, view)
            turn.places += 1
            if self._progress:
                self._progress.advance(1)
            if is_trial:
                break
        if not self._wanted(turn):
            turn.commits.popleft()
            turn.num_done += 1
        turn.spent += self._clock() - begun
        return True

    def _wanted(self, turn: _Turn) -> set[str]:
        """Places of the measure's next commit at which an arm has yet to answer."""
        arms = self._arms(turn.measure)
        return {example for example in self._items[turn.measure][turn.commits[0]]
                if any(self._find(turn.measure, arm, example) is None for arm in arms)}  # fmt: skip

    def _missing(self, measure: str) -> deque[str]:
        """Commits at which an arm has yet to answer, in the order drawn."""
        if measure not in self.config.measures:
            return deque()
        arms = self._arms(measure)
        return deque(
            commit for commit, examples in self._items[measure].items()
            if any(self._find(measure, arm, example) is None for example in examples for arm in arms)
        )  # fmt: skip

    def _views(self, commit: str, turns: Sequence[_Turn]) -> list[View]:
        """The moments of a commit. Views are made for many commits in one walk and kept until no measure needs them."""
        needed = {other for turn in turns for other in turn.commits}
        self._kept = {other: views for other, views in self._kept.items() if other in needed}
        if commit not in self._kept:
            further = [other for other in self._order if other in needed and other not in self._kept and other != commit]
            wave = [commit, *further[: self._wave_commits - 1]]
            for other in wave:
                self._kept[other] = []
            for view in self._replay.views(self._open_memories, set(wave)):
                self._kept[view.moment.work.commit].append(view)
        return self._kept[commit]

    def _find(self, measure: str, arm: Arm, example: str) -> Row | None:
        return self.samples.find(measure, arm.name, arm.version, example)

    def _answer(self, measure: str, view: View) -> None:
        arms = [arm for arm in self._arms(measure) if self._find(measure, arm, view.moment.key) is None]
        if measure == LIKELIHOOD:
            groups: defaultdict[tuple[int, str], list[ModelArm]] = defaultdict(list)
            for arm in arms:
                if not isinstance(arm, ModelArm):
                    raise InternalError(f"arm `{arm.name}` cannot give likelihoods")
                groups[shared_pass(arm)].append(arm)
            for group in groups.values():
                self._likelihoods(group, view)
        for arm in arms if measure != LIKELIHOOD else ():
            start = self._clock()
            if measure == LINE:
                self._line(arm, view, start)
            else:
                self._edit(arm, view, start)

    def _likelihoods(self, arms: Sequence[ModelArm], view: View) -> None:
        start = self._clock()
        found = likelihoods(arms, view)
        seconds = (self._clock() - start) / len(arms)
        for arm, bits in zip(arms, found, strict=True):
            self._add(arm, LIKELIHOOD, view, seconds=seconds, changed_bits=bits.changed_bits, changed_chars=bits.changed_chars,
                      target_bits=bits.target_bits, target_chars=bits.target_chars)  # fmt: skip

    def _line(self, arm: Arm, view: View, start: float) -> None:
        place = cursor(view.moment.lines, view.moment.edit)
        if place is None:
            raise InternalError(f"example {view.moment.key} has no place for a completion")
        answer = arm.line(view, place, self.config.limits)
        seconds = self._clock() - start
        exact = not answer.error and is_exact(answer.text, place.rest)
        self._add(arm, LINE, view, seconds=seconds, exact=exact, **_generated(answer))

    def _edit(self, arm: Arm, view: View, start: float) -> None:
        answer = arm.edit(view, self.config.limits)
        seconds = self._clock() - start
        score = score_edit(answer.text, view.moment.edit, view.moment.recent)
        self._add(
            arm, EDIT, view, seconds=seconds, exact=score.exact, valid=score.valid, delta_chrf=score.delta_chrf,
            reversed_chars=score.reversed_chars, moved_chars=score.moved_chars, **_generated(answer),
        )  # fmt: skip

    def _add(self, arm: Arm, measure: str, view: View, **values: Any) -> None:
        moment = view.moment
        self.samples.add(
            Row(measure=measure, arm=arm.name, version=arm.version, example=moment.key, commit=moment.work.commit,
                order=moment.order, path=moment.edit.path, **values)
        )  # fmt: skip


@dataclass(slots=True, eq=False)
class _Turn:
    """What a measure has yet to do, and what it has cost."""

    measure: str
    share: float
    commits: deque[str]
    num_done: int = 0
    places: int = 0
    spent: float = 0.0


def _items(examples: Iterable[Example], config: EvaluationConfig) -> dict[str, dict[str, set[str]]]:
    """Measure -> commit -> keys of the moments to look at. Commits stand in the drawn order, the same for every measure."""
    found: dict[str, dict[str, list[str]]] = {NEXT_EDIT: {}, COMPLETION: {}}
    commits: dict[str, None] = {}
    for example in examples:
        commits[example.commit] = None
        found[example.kind].setdefault(example.commit, []).append(example.moment)
    order = sorted(commits)
    random.Random(config.seed).shuffle(order)
    if config.max_commits:
        order = order[: config.max_commits]
    return {
        measure: {commit: _drawn(found[kind][commit], config) for commit in order if commit in found[kind]}
        for measure, kind in _KIND.items()
    }


def _drawn(keys: list[str], config: EvaluationConfig) -> set[str]:
    """Some of a commit's places: the same ones for next edits and completions where both are there."""
    if not config.max_per_commit or len(keys) <= config.max_per_commit:
        return set(keys)
    return set(sorted(keys, key=lambda key: random.Random(f"{config.seed} {key}").random())[: config.max_per_commit])


def _generated(answer: Answer) -> dict[str, Any]:
    return {"text": answer.text, "tokens": answer.tokens, "steps": answer.steps, "confidence": answer.confidence,
            "error": answer.error}  # fmt: skip
