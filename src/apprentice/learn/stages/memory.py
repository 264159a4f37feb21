"""sessions/ -> the memory at any commit, its gates (fitted on commits that the weights have not seen), and memory/ to serve.

    gate split, each model --recorder--> records --fit--> gates/base.json, gates/tuned.json
    all sessions, tuned gate --> memory/
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from apprentice.core import artifacts, files
from apprentice.core.artifacts import Manifest
from apprentice.core.protocols import Generator
from apprentice.eval.arms import ModelArm
from apprentice.eval.replay import Memories, Replay, View
from apprentice.examples import store as examples_store
from apprentice.examples.checks.likelihood import marked_tokens
from apprentice.examples.example import NEXT_EDIT, Example
from apprentice.examples.history import History, Snapshot
from apprentice.examples.kinds.next_edit import region
from apprentice.learn.config import GATE_SHARE
from apprentice.learn.run import Run
from apprentice.memory import store
from apprentice.memory.gate import Gate, Records
from apprentice.memory.memory import Memory
from apprentice.sessions.store import Sessions
from apprentice.text.edits import END_MARK, join, render_target
from apprentice.text.tokenizer import Tokenizer

GATES = "gates"
VERSION = 1
MAX_EXAMPLES = 160
STEPS_EXAMPLES = 32
"""Looked at where steps are given, so that no clock decides."""
COPIED_WEIGHT = 0.2
MIN_TOKENS = 200
"""Recorded tokens below which the shipped gate stays."""


def remember(snapshot: Snapshot, tokenizer: Tokenizer, gate: Gate | None = None) -> Memory:
    """The memory of a repository at one moment."""
    memory = Memory(tokenizer, gate)
    memory.set_files(dict(snapshot.texts()))
    memory.add_edits(snapshot.edits)
    return memory


def opener(history: History, starts: dict[str, str], tokenizer: Tokenizer) -> Callable[[str], Memory]:
    """Repository -> a fresh memory as it stood before the commit in `starts`. Each is built once and copied."""
    built: dict[str, Memory] = {}

    def open_memory(repository: str) -> Memory:
        if repository not in built:
            built[repository] = remember(history.snapshot(repository, before=starts[repository]), tokenizer)
        return built[repository].copy()

    return open_memory


def starts_of(examples: list[Example]) -> dict[str, str]:
    """Repository -> the first commit of these examples, which are in order of time."""
    starts: dict[str, str] = {}
    for example in examples:
        starts.setdefault(example.repository, example.commit)
    return starts


def newest(examples: list[Example], limit: int) -> list[Example]:
    """Those of the newest commits, which are nearest to the work that comes next: whole commits, until there are `limit`."""
    sizes = Counter(example.commit for example in examples)
    chosen: set[str] = set()
    for commit in reversed(sizes):
        if sum(sizes[one] for one in chosen) >= limit:
            break
        chosen.add(commit)
    return [example for example in examples if example.commit in chosen]


def fit(
    history: History, examples: list[Example], generator: Generator, tokenizer: Tokenizer, *,
    budget_s: float | None, advance: Callable[[], None] = lambda: None,
) -> tuple[Gate, int]:
    """A gate for this model, and how many tokens it was fitted on. `advance`: called after each example."""
    starts = starts_of(examples)
    if not starts:
        return Gate.default(), 0
    open_memory = opener(history, starts, tokenizer)
    arm = ModelArm(name="gate", generator=generator, tokenizer=tokenizer, source="")
    replay = Replay(history, starts, texts=history)
    deadline = None if budget_s is None else time.monotonic() + budget_s
    records: list[Records] = []
    weights: list[np.ndarray] = []

    def open_memories(repository: str) -> Memories:
        memory = open_memory(repository)
        return Memories({"memory": memory}, [memory])

    wanted, commits = {example.moment for example in examples}, {example.commit for example in examples}
    for view in replay.views(open_memories, commits):
        if view.moment.key not in wanted:
            continue
        if deadline is not None and time.monotonic() > deadline:
            break
        recorded, weight = _record(view, arm)
        records.append(recorded)
        weights.append(weight)
        advance()
    tokens = sum(map(len, records))
    if tokens < MIN_TOKENS:
        return Gate.default(), tokens
    return Gate.fit(Records.join(records), np.concatenate(weights)), tokens


def make_gate(run: Run, name: str, history: History, generator: Generator, parents: dict[str, str]) -> tuple[Gate, str]:
    """The gate `name` (`base` or `tuned`) and its content hash; fitted once."""
    folder = run.artifact(f"{GATES}-{name}")
    if manifest := run.fresh(f"{GATES}-{name}", version=VERSION, parents=parents, config={}):
        return load_gate(folder), manifest.hash
    budget = GATE_SHARE * run.config.budget_s if run.config.by_clock else None
    limit = MAX_EXAMPLES if run.config.by_clock else STEPS_EXAMPLES
    rows = newest(list(examples_store.read(run.artifact("examples"), "gate", kind=NEXT_EDIT)), limit)
    run.progress.stage(f"fit the memory's gate for the {name} model", len(rows), "edits")
    gate, tokens = fit(history, rows, generator, run.tokenizer, budget_s=budget, advance=run.progress.advance)
    with artifacts.create(folder, kind="gate", version=VERSION, parents=parents, config={}) as writer:
        files.write_json(writer.path("gate.json"), gate.to_dict())
        manifest = writer.finish(counts={"tokens": tokens})
    return gate, manifest.hash


def load_gate(folder: Path) -> Gate:
    """Written by `make_gate`."""
    return Gate.from_dict(json.loads((folder / "gate.json").read_text(encoding="utf-8")))


def make(run: Run, sessions: Sessions, history: History, gate: Gate, gate_hash: str) -> Manifest:
    """The memory to serve: of the newest moment of the repository that was named first, or stood in, and that has anything: others,
    and our own history where there was little, are for learning from."""
    parents = {"sessions": sessions.hash, "gate": gate_hash, "base": run.base_hash}
    if manifest := run.fresh("memory", version=store.VERSION, parents=parents, config={}):
        return manifest
    run.progress.stage("write the memory")
    snapshots = (history.snapshot(repository) for repository in sessions.repositories())
    built = (remember(snapshot, run.tokenizer, gate) for snapshot in snapshots)
    found = next((memory for memory in built if memory.paths), None)
    return store.save(found or Memory(run.tokenizer, gate), run.artifact("memory"), parents=parents, config={})


def _record(view: View, arm: ModelArm) -> tuple[Records, np.ndarray]:
    """What the gate would have seen at each token of the edit, and how much each counts."""
    memory = view.memories["memory"]
    assert isinstance(memory, Memory)
    place = region(view.moment.lines, view.moment.edit)
    prompt_ids = arm.edit_prompt_ids(view)
    target, spans = join(render_target(view.moment.edit.old, view.moment.edit.new))
    target_ids, offsets = arm.tokenizer.encode_with_offsets(target)
    recorder = memory.recorder(
        path=place.path, lines=place.lines, start_line=place.start_line, end_line=place.end_line, prompt_ids=prompt_ids
    )
    arm.generator.score([prompt_ids], [target_ids], mixtures=[recorder])
    end = len(target) - len(END_MARK)
    counts = [
        1.0 if marked or stop > end else COPIED_WEIGHT
        for marked, (_, stop) in zip(marked_tokens(spans, offsets), offsets, strict=True)
    ]
    return recorder.records, np.array(counts)
