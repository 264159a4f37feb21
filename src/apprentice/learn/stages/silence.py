"""gate split, the model that is served, its memory -> silence/: the decision what to show, and how far its chances can be believed.

    newest commits that the weights have not seen --asked_at()--> requests at edits, and as many where nothing was to be done
    --Suggester--> suggestions, right or wrong --Decision.fit, from the shipped one--> decision.json
    the same with every fifth of the commits left out in turn --> reliability.json: what each chance was worth

They are gone through in order of time: where the clock ends it, the newest of them were not looked at. The memory's gate was fitted on
the same commits; how much better that makes it there than elsewhere was not measured, it is a few dozen numbers.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec

from apprentice.core import artifacts, files
from apprentice.core.protocols import Generator, Tokenizer
from apprentice.eval.replay import Memories, Replay, View
from apprentice.eval.statistics import Commits, Resampling
from apprentice.examples import store as examples_store
from apprentice.examples.example import NEXT_EDIT, Example
from apprentice.examples.history import History
from apprentice.examples.kinds.asked import Asked, asked_at
from apprentice.learn.compare import Contestant
from apprentice.learn.config import SILENCE_SHARE
from apprentice.learn.run import Run
from apprentice.learn.stages.memory import opener, starts_of
from apprentice.memory.memory import Memory
from apprentice.serve.silence import FILE, FOLDER, KIND, SHOW_FROM, VERSION, Decision, Outcome, load
from apprentice.serve.suggestions import Suggester, Suggestion

RELIABILITY = "reliability.json"
MAX_EDITS = 160
MAX_PER_COMMIT = 4
"""Few of each commit, so that many commits are looked at."""
STEPS_EDITS = 8
"""Looked at where steps are given, so that no clock decides."""
FOLDS = 5
COVERAGES = tuple(share / 20 for share in range(1, 21))
"""Shares of the suggestions, the surest first, at which precision is drawn."""


@dataclass(frozen=True, slots=True)
class Told:
    """A request and what came of it. Where nothing new was said there is no outcome."""

    commit: str
    is_silent: bool
    outcome: Outcome | None = None


@dataclass(frozen=True, slots=True)
class Reliability:
    """Of decisions that have not seen the commit that they decide on."""

    requests: int
    silent: int
    offered: int
    """Suggestions that say something new."""
    right: int
    brier: list[float | None]
    """Mean squared distance between chance and outcome, [value, low, high]; commits are drawn whole."""
    even: list[float | None]
    """The same of one chance for all: the share that is right."""
    shown: list[float | None]
    """Of the requests, at SHOW_FROM."""
    precision: list[float | None]
    """Right ones of those shown."""
    noise: list[float | None]
    """Shown, of the requests where nothing was to be done."""
    noise_before: list[float | None]
    """The same with everything shown."""
    curve: list[tuple[float, float, float]]
    """(share of the suggestions shown, surest first; precision; the lowest chance among them)."""


@dataclass(frozen=True, slots=True)
class Silence:
    """What the stage leaves."""

    decision: Decision
    reliability: Reliability
    hash: str


def make(run: Run, history: History, model: Contestant, parents: dict[str, str]) -> Silence:
    """Fit the decision, or find it fitted."""
    folder = run.artifact(FOLDER)
    if manifest := run.fresh(FOLDER, version=VERSION, parents=parents, config={}):
        return Silence(load(folder), _read(folder), manifest.hash)
    budget = SILENCE_SHARE * run.config.budget_s if run.config.by_clock else None
    limit = MAX_EDITS if run.config.by_clock else STEPS_EDITS
    rows = choose(examples_store.read(run.artifact("examples"), "gate", kind=NEXT_EDIT), limit)
    run.progress.stage("learn when to be silent", len(rows), "edits")
    told = ask(history, rows, model, run.tokenizer, budget_s=budget, advance=run.progress.advance)
    decision = Decision.fit(outcomes(told))
    reliability = judge(told, seed=run.config.seed)
    with artifacts.create(folder, kind=KIND, version=VERSION, parents=parents, config={}) as writer:
        files.write_json(writer.path(FILE), decision.to_dict())
        files.write_json(writer.path(RELIABILITY), asdict(reliability))
        manifest = writer.finish(counts={"requests": len(told), "outcomes": len(outcomes(told))})
    # As it is loaded: numbers are rounded when they are written.
    return Silence(load(folder), _read(folder), manifest.hash)


def choose(examples: Iterable[Example], limit: int) -> list[Example]:
    """Some edits of each of the newest commits, until there are about `limit`, in order of time."""
    newest: dict[str, list[Example]] = {}
    for example in reversed(list(examples)):
        newest.setdefault(example.commit, []).append(example)
    chosen: list[Example] = []
    for commit, found in newest.items():
        if len(chosen) < limit:
            chosen += random.Random(commit).sample(found, min(len(found), MAX_PER_COMMIT))
    return sorted(chosen, key=lambda example: example.order)


def ask(
    history: History, chosen: list[Example], model: Contestant, tokenizer: Tokenizer, *, budget_s: float | None,
    advance: Callable[[], None] = lambda: None,
) -> list[Told]:  # fmt: skip
    """The model with its memory, asked at these edits and near them. `advance`: called after each edit."""
    wanted, commits, starts = {example.moment for example in chosen}, {example.commit for example in chosen}, starts_of(chosen)
    open_memory = opener(history, starts, tokenizer)  # pyrefly: ignore[bad-argument-type]
    replay = Replay(history, starts, texts=history)
    deadline = None if budget_s is None else time.monotonic() + budget_s

    def open_memories(repository: str) -> Memories:
        memory = open_memory(repository)
        return Memories({"memory": memory.with_gate(model.gate)}, [memory])

    told: list[Told] = []
    for view in replay.views(open_memories, commits):
        if view.moment.key not in wanted:
            continue
        if deadline is not None and time.monotonic() > deadline:
            break
        told += _ask(view, model.generator, tokenizer)
        advance()
    return told


def _ask(view: View, generator: Generator, tokenizer: Tokenizer) -> list[Told]:
    memory = view.memories["memory"]
    assert isinstance(memory, Memory)
    suggester = Suggester(generator, tokenizer, memory, decision=Decision.default())
    commit, recent = view.moment.work.commit, view.moment.recent
    told: list[Told] = []
    for asked in asked_at(view.moment):
        if asked.form == "edit":
            found = suggester.edit(asked.place, recent)
        else:
            found = suggester.line(asked.place, asked.line_start, "", recent)
        told.append(Told(commit, asked.is_silent, outcome(asked, found)))
    return told


def outcome(asked: Asked, found: Suggestion | None) -> Outcome | None:
    """None where nothing new was said."""
    if found is None or [line.rstrip() for line in found.new] == [line.rstrip() for line in asked.old]:
        return None
    return Outcome(found.kind, found.facts, asked.is_exact(found.new))


def outcomes(told: Sequence[Told]) -> list[Outcome]:
    return [one.outcome for one in told if one.outcome is not None]


def judge(told: Sequence[Told], *, start: Decision | None = None, seed: int = 0) -> Reliability:
    """Every fifth of the commits is decided on by what was fitted on the others."""
    commits = list(dict.fromkeys(one.commit for one in told))
    fold = {commit: number % FOLDS for number, commit in enumerate(commits)}
    decisions = [
        Decision.fit(outcomes([one for one in told if fold[one.commit] != number]), start=start) for number in range(FOLDS)
    ]  # fmt: skip
    made = [(one, one.outcome) for one in told if one.outcome is not None]
    chances = [decisions[fold[one.commit]].chance(found.kind, found.facts) for one, found in made]
    right = [float(found.is_right) for _, found in made]
    shown = {id(one): chance >= SHOW_FROM for (one, _), chance in zip(made, chances, strict=True)}
    base = sum(right) / max(len(right), 1)
    offered = Commits([one.commit for one, _ in made], Resampling(seed=seed))
    asked = Commits([one.commit for one in told], Resampling(seed=seed))
    is_shown = [float(shown.get(id(one), False)) for one in told]
    is_silent = [float(one.is_silent) for one in told]
    order = sorted(range(len(made)), key=lambda i: -chances[i])
    sizes = [round(share * len(order)) for share in COVERAGES]
    curve = [(size / len(order), sum(right[i] for i in order[:size]) / size, chances[order[size - 1]]) for size in sizes if size]
    return Reliability(
        requests=len(told), silent=int(sum(is_silent)), offered=len(made), right=int(sum(right)),
        brier=offered.ratio([(p - y) ** 2 for p, y in zip(chances, right, strict=True)], [1.0] * len(made)).as_list(),
        even=offered.ratio([(base - y) ** 2 for y in right], [1.0] * len(made)).as_list(),
        shown=asked.ratio(is_shown, [1.0] * len(told)).as_list(),
        precision=offered.ratio(
            [y * shown[id(one)] for (one, _), y in zip(made, right, strict=True)], [float(shown[id(one)]) for one, _ in made]
        ).as_list(),
        noise=asked.ratio([a * b for a, b in zip(is_shown, is_silent, strict=True)], is_silent).as_list(),
        noise_before=asked.ratio([b * (one.outcome is not None) for one, b in zip(told, is_silent, strict=True)], is_silent).as_list(),
        curve=curve,
    )  # fmt: skip


def described(silence: Silence) -> dict[str, Any]:
    """For `learn --json`."""
    values = asdict(silence.reliability)
    return {"show_from": SHOW_FROM, **{name: value for name, value in values.items() if name != "curve"}}


def _read(folder: Path) -> Reliability:
    return msgspec.json.decode((folder / RELIABILITY).read_bytes(), type=Reliability)
