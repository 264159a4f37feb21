"""Held-out newer work, all arms -> evaluation/: what each layer gave, with every sample kept."""

from __future__ import annotations

from dataclasses import dataclass

from apprentice.core.protocols import Generator
from apprentice.eval import store as evaluation_store
from apprentice.eval.arms import Arm, ModelArm
from apprentice.eval.comparison import Comparison
from apprentice.eval.copying import CopyArm
from apprentice.eval.replay import Memories, Replay
from apprentice.eval.runner import Evaluation, EvaluationConfig
from apprentice.eval.samples import EDIT, LIKELIHOOD, LINE, Row, Samples
from apprentice.eval.statistics import Resampling
from apprentice.examples import store as examples_store
from apprentice.examples.history import History
from apprentice.learn.config import EVAL_COMMITS, EVALUATION_SHARE
from apprentice.learn.run import Run
from apprentice.learn.stages.memory import opener, starts_of
from apprentice.memory.gate import Gate

MAX_PER_COMMIT = 2
"""Few of each commit, so that a short run looks at many commits: they are what the intervals resample."""
SHARES = (0.55, 0.35, 0.10)
"""Of the time, for likelihood, lines and whole edits."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Model:
    """A model to compare, with its memory's gate."""

    generator: Generator
    source: str
    """Content hash of its weights."""
    gate: Gate
    gate_hash: str


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What an evaluation says."""

    comparison: Comparison
    rows: list[Row]


def arms(run: Run, models: dict[str, Model]) -> list[Arm]:
    """`models`: `base`, `tuned`, `quantized` and, where there is one, `current`, which is served now."""
    def arm(name: str, model: str, *measures: str, memory: bool = False, bare: bool = False) -> ModelArm:
        used = models[model]
        return ModelArm(
            name=name, generator=used.generator, tokenizer=run.tokenizer, source=used.source, bare=bare,
            memory=model if memory else None, memory_source=used.gate_hash if memory else "", measures=measures,
        )  # fmt: skip

    # Generation is dear: each arm takes part in what the report says of it, and no more.
    found: list[Arm] = [
        arm("window", "base", LIKELIHOOD, bare=True),
        arm("base", "base", LIKELIHOOD, LINE, EDIT),
        arm("base_memory", "base", LIKELIHOOD, LINE, memory=True),
        arm("tuned", "tuned", LIKELIHOOD),
        arm("tuned_memory", "tuned", LIKELIHOOD, LINE, memory=True),
        arm("quantized_memory", "quantized", LIKELIHOOD, LINE, EDIT, memory=True),
        CopyArm(),
    ]
    if "current" in models:
        found.append(arm("current_memory", "current", LIKELIHOOD, LINE, memory=True))
    return found


def make(run: Run, history: History, models: dict[str, Model], parents: dict[str, str]) -> Evaluated:
    """Evaluate, go on evaluating, or find it done."""
    folder = run.artifact("evaluation")
    test = list(examples_store.read(run.artifact("examples"), "test"))
    config = EvaluationConfig(
        shares=SHARES,
        max_per_commit=MAX_PER_COMMIT,
        max_commits=run.config.eval_commits or (0 if run.config.by_clock else EVAL_COMMITS),
        seed=run.config.seed,
    )
    described = {"max_per_commit": config.max_per_commit, "max_commits": config.max_commits, "seed": config.seed}
    chosen = arms(run, models)
    names, resampling = [arm.name for arm in chosen], Resampling(seed=run.config.seed)
    if run.fresh("evaluation", version=evaluation_store.VERSION, parents=parents, config=described):
        rows = Samples(folder).rows()
        return Evaluated(Comparison(rows, names, resampling), rows)
    starts = starts_of(test)
    open_memory = opener(history, starts, run.tokenizer)

    def open_memories(repository: str) -> Memories:
        memory = open_memory(repository)
        return Memories({name: memory.with_gate(model.gate) for name, model in models.items()}, [memory])

    with evaluation_store.evaluation(folder, parents=parents, config=described) as work:
        evaluation = Evaluation(
            work.samples, chosen, Replay(history, starts, texts=history), test, config,
            open_memories=open_memories, progress=run.progress,
        )  # fmt: skip
        rows = evaluation.run(budget_s(run) if run.config.by_clock else None)
        comparison = Comparison(rows, names, resampling)
        work.finish(comparison, rows, seed=run.config.seed)
    return Evaluated(comparison, rows)


def budget_s(run: Run) -> float:
    """What is left of the share for evaluating, resumes counted, and never what the report needs."""
    whole = run.config.budget_s
    return max(min(EVALUATION_SHARE * whole - run.clock.stages["evaluate"], run.clock.left_s - 0.02 * whole), 0.05 * whole)

