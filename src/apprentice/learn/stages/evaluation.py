"""Held-out newer work, all arms -> evaluation/: what each layer gave, with every sample kept."""

from __future__ import annotations

from dataclasses import dataclass

from apprentice.eval import store as evaluation_store
from apprentice.eval.arms import Arm
from apprentice.eval.comparison import Comparison
from apprentice.eval.copying import CopyArm
from apprentice.eval.runner import EvaluationConfig
from apprentice.eval.samples import EDIT, LIKELIHOOD, LINE, Row, Samples
from apprentice.eval.statistics import Resampling
from apprentice.examples.history import History
from apprentice.learn.compare import Contestant, TestBench
from apprentice.learn.config import EVAL_COMMITS, EVALUATION_SHARE
from apprentice.learn.run import Run

MAX_PER_COMMIT = 2
"""Few of each commit, so that a short run looks at many commits: they are what the intervals resample."""
SHARES = (0.55, 0.35, 0.10)
"""Of the time, for likelihood, lines and whole edits."""


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What an evaluation says."""

    comparison: Comparison
    rows: list[Row]


def arms(bench: TestBench, models: dict[str, Contestant]) -> list[Arm]:
    """`models`: `base`, `tuned`, `quantized` and, where there is one, `current`, which is served now."""
    # Generation is dear: each arm takes part in what the report says of it, and no more.
    found: list[Arm] = [
        bench.arm(models["base"], bare=True, name="window", measures=(LIKELIHOOD,)),
        bench.arm(models["base"], measures=(LIKELIHOOD, LINE, EDIT)),
        bench.arm(models["base"], memory=True, measures=(LIKELIHOOD, LINE)),
        bench.arm(models["tuned"], measures=(LIKELIHOOD,)),
        bench.arm(models["tuned"], memory=True, measures=(LIKELIHOOD, LINE)),
        bench.arm(models["quantized"], memory=True, measures=(LIKELIHOOD, LINE, EDIT)),
        CopyArm(),
    ]
    if "current" in models:
        found.append(bench.arm(models["current"], memory=True, measures=(LIKELIHOOD, LINE)))
    return found


def make(run: Run, history: History, models: dict[str, Contestant], parents: dict[str, str]) -> Evaluated:
    """Evaluate, go on evaluating, or find it done."""
    folder = run.artifact("evaluation")
    config = EvaluationConfig(
        shares=SHARES,
        max_per_commit=MAX_PER_COMMIT,
        max_commits=run.config.eval_commits or (0 if run.config.by_clock else EVAL_COMMITS),
        seed=run.config.seed,
    )
    described = {"max_per_commit": config.max_per_commit, "max_commits": config.max_commits, "seed": config.seed}
    bench = TestBench(run.artifact("examples"), history, run.tokenizer, run.progress)
    chosen = arms(bench, models)
    if run.fresh("evaluation", version=evaluation_store.VERSION, parents=parents, config=described):
        rows = Samples(folder).rows()
        return Evaluated(Comparison(rows, [arm.name for arm in chosen], Resampling(seed=config.seed)), rows)
    with evaluation_store.evaluation(folder, parents=parents, config=described) as work:
        budget = budget_s(run) if run.config.by_clock else None
        comparison, rows = bench.run(work.samples, list(models.values()), chosen, config, budget_s=budget)
        work.finish(comparison, rows, seed=run.config.seed)
    return Evaluated(comparison, rows)


def budget_s(run: Run) -> float:
    """What is left of the share for evaluating, resumes counted, and never what the report needs."""
    whole = run.config.budget_s
    return max(min(EVALUATION_SHARE * whole - run.clock.stages["evaluate"], run.clock.left_s - 0.02 * whole), 0.05 * whole)

