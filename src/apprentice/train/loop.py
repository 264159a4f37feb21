"""The one training loop: a model, sequences and a plan in; trained weights and a held-out curve out.

    decide (clock or log) -> sequences -> loss, gradients of several batches -> step -> log -> held-out, checkpoint

The state of a run is small and complete: weights, optimizer, `Course`, the curve. It goes to disk at held-out points
that are the best so far, at the end, and else so seldom that writing takes a twentieth of the time. A killed run takes
up the last checkpoint and repeats the steps behind it as the log says they were decided. Nothing else is random: no
dropout, the order lies in the plan.

Held-out points lie at even parts of the PROGRESS, so a run that the clock shortens has as many. The best one
(`heldout`) is what the caller gets (`Outcome.best_step`); after `patience` points in a row that are clearly worse, the
run stops.

Alarms instead of silence: a loss or gradient that is no number, a step in which no token carries loss, a run without
steps.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from apprentice.core import machine
from apprentice.core.errors import InputError, UserError
from apprentice.core.protocols import ProgressSink
from apprentice.model.transformer import Transformer
from apprentice.train import checkpoints, losses, numerics
from apprentice.train.heldout import Curve, HeldOut, measure
from apprentice.train.metrics import Log, Metrics
from apprentice.train.optimizer import Optimizer, OptimizerConfig, learning_rate
from apprentice.train.packing import PackedSequence, collate
from apprentice.train.plan import Course, Decision, Plan, decide

CHECKPOINT_SHARE = 0.05
"""Of the time, at most, for checkpoints between held-out points."""
TRIM_EVERY = 16
"""Steps after which free memory is given back, which takes about 0.3 s: without it a process grew by 50 MB a step."""
RECENT_STEPS = 8
"""Whose median says what a step takes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LoopConfig:
    """The rhythm of a run. What changes the result is in the plan or here; where a checkpoint falls does not."""

    batch_sequences: int = 1
    """Sequences in one forward pass, 1 or more."""
    accumulate: int = 1
    """Forward passes in one step, 1 or more."""
    heldout_points: int = 4
    """Measurements behind the one before the first step, 1 or more."""
    heldout_tokens: int = 12000
    """Most tokens of a measurement, 1 or more."""
    heldout_share: float = 0.12
    """Most of the budget for measurements, 0 to 0.5."""
    patience: int = 2
    """Points in a row that are clearly worse than the best, after which the run stops, 1 or more."""
    max_rounds: int = 1
    """Most times a budget goes over the data, 1 or more."""
    checkpoint_every_s: float = 60.0
    """Least seconds between checkpoints, 0 or more."""

    def __post_init__(self) -> None:
        for name in ("batch_sequences", "accumulate", "heldout_points", "heldout_tokens", "patience", "max_rounds"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more")
        if not 0 <= self.heldout_share <= 0.5:
            raise ValueError("heldout_share must be from 0 to 0.5")
        if self.checkpoint_every_s < 0:
            raise ValueError("checkpoint_every_s must be 0 or more")


@dataclass(slots=True)
class Outcome:
    """What came out."""

    num_steps: int
    best_step: int | None
    """The held-out point to keep, 0 for the base itself; None where nothing was held out."""
    curve: list[HeldOut]
    elapsed_s: float
    stopped_early: bool
    tokens: int
    """Trained on, repeats counted."""


@dataclass(slots=True)
class _State:
    course: Course
    curve: Curve = field(default_factory=Curve)
    tokens: int = 0
    stopped_early: bool = False


class Trainer:
    """One run in a folder of its own."""

    def __init__(
        self, model: Transformer, sequences: Sequence[PackedSequence], heldout: Sequence[PackedSequence], plan: Plan,
        weights_table: np.ndarray, folder: Path, *, config: LoopConfig, optimizer_config: OptimizerConfig,
        progress: ProgressSink, clock: Callable[[], float] = time.monotonic, already_s: float = 0.0,
        flops_per_token: float | None = None, teacher: losses.Teacher | None = None,
    ) -> None:
        """`already_s`: seconds of the budget that this process has spent before, on calibration. `flops_per_token`: of
        forward and backward, for MFU; by default all weights are trained."""
        self._model, self._sequences, self._plan, self._table = model, sequences, plan, weights_table
        self._heldout, self._teacher = [heldout[i] for i in plan.heldout], teacher
        self._folder, self._config, self._optimizer_config = folder, config, optimizer_config
        if not any(parameter.requires_grad for parameter in model.parameters()):
            raise InputError("no weight of the model is left to train", hint="choose other `weights`")
        self._optimizer = Optimizer(model.named_parameters(), optimizer_config)
        self._progress, self._clock = progress, clock
        self._log = Log(folder, progress, clock=clock)
        self._state = _State(Course(plan.num_steps))
        self._started, self._already_s = clock(), already_s
        self._flops_per_token = flops_per_token or 6.0 * model.config.num_parameters
        self._recent_s: list[float] = [plan.step_s] if plan.step_s else []
        self._replay: dict[int, Decision] = {}
        self._written_at, self._writing_s, self._aside_s = clock(), 0.0, 0.0
        self._saved_step = -1

    def run(self) -> Outcome:
        """Train to the end of the plan. Raises: UserError where that would not be training."""
        self._resume()
        self._progress.stage("train", self._plan.num_steps, "steps")
        self._progress.advance(self._state.course.step)
        with numerics.applied(self._plan.numerics):
            if not self._state.curve.points:
                self._measure()
            while not self._state.stopped_early and (decision := self._decide()) is not None:
                started, aside_s = self._clock(), self._aside_s
                self._step(decision)
                self._after_step(last=decision.remaining == 1)
                self._recent_s.append(self._clock() - started - (self._aside_s - aside_s))
            if self._state.course.step and not self._is_settled():
                # The clock ran out sooner than the steps before had let expect: what was learned since the last point counts.
                self._after_step(last=True)
        return self._outcome()

    def _is_settled(self) -> bool:
        """Whether the last step is measured and on disk."""
        step, points = self._state.course.step, self._state.curve.points
        return self._saved_step == step and (not self._heldout or (bool(points) and points[-1].step == step))

    def load_best(self, outcome: Outcome) -> bool:
        """Put the weights of the best point into the model. False where that is the base itself, untouched."""
        step = outcome.num_steps if outcome.best_step is None else outcome.best_step
        if step == 0:
            return False
        self._put(checkpoints.load_tensors(checkpoints.weights_path(self._folder, step)))
        return True

    def _decide(self) -> Decision | None:
        course = self._state.course
        if course.step in self._replay:
            return self._replay[course.step]
        step_s = statistics.median(self._recent_s[-RECENT_STEPS:]) if self._recent_s else 0.0
        return decide(self._plan, course, left_s=self._left_s(), step_s=step_s)

    def _left_s(self) -> float:
        """Seconds left for steps: what measurements and the last checkpoint will take is kept back."""
        if self._plan.budget_s is None:
            return math.inf
        points = self._state.curve.points
        to_come = self._config.heldout_points + 1 - len(points)
        point_s = points[-1].seconds if points else 0.0
        return self._plan.budget_s - self._elapsed_s() - max(to_come, 0) * point_s - self._writing_s

    def _elapsed_s(self) -> float:
        return self._already_s + self._clock() - self._started

    def _step(self, decision: Decision) -> None:
        state, started = self._state, self._clock()
        lr = learning_rate(self._optimizer_config, decision.midpoint(state.course))
        size = self._config.batch_sequences
        chosen = [self._sequences[self._plan.order[place]] for place in decision.places]
        batches = [collate(chosen[i : i + size]) for i in range(0, len(chosen), size)]
        total = losses.total_weight(batches, self._table)
        if total <= 0:
            raise InputError(
                f"step {state.course.step + 1}: no token carries loss",
                hint="raise the loss weights, or check the examples",
            )
        loss = 0.0
        for batch in batches:
            matmul = self._plan.numerics.matmul
            part = losses.batch_loss(self._model, batch, self._table, total, matmul=matmul, teacher=self._teacher)
            part.backward()
            loss += float(part.detach())
        grad_norm = self._optimizer.step(lr)
        if not math.isfinite(loss) or not math.isfinite(grad_norm):
            raise UserError(
                f"step {state.course.step + 1}: the loss is {loss}, the norm of its gradient {grad_norm}",
                hint="lower `optimizer.lr`, or train with `arithmetic = \"fp32\"`",
            )
        if state.course.step % TRIM_EVERY == 0:
            numerics.trim_memory()
        decision.follow(state.course)
        tokens = sum(batch.num_tokens for batch in batches)
        state.tokens += tokens
        took = self._clock() - started
        self._write_step(decision, loss=loss, grad_norm=grad_norm, lr=lr, tokens=tokens, took=took)

    def _write_step(
        self, decision: Decision, *, loss: float, grad_norm: float, lr: float, tokens: int, took: float
    ) -> None:
        peak = self._plan.numerics.peak_gflops * 1e9
        flops = self._flops_per_token * tokens
        entry = Metrics(
            step=self._state.course.step,
            loss=loss,
            grad_norm=grad_norm,
            lr=lr,
            tokens_per_s=tokens / max(took, 1e-9),
            mfu=flops / max(took, 1e-9) / peak if peak else 0.0,
            memory_gib=machine.peak_memory_gib(),
            eta_s=(decision.remaining - 1) * statistics.median(self._recent_s[-RECENT_STEPS:] or [took]),
            tokens=tokens,
            elapsed_s=self._elapsed_s(),
            places=decision.places,
            remaining=decision.remaining,
        )
        self._log.step(entry, self._state.course.step + decision.remaining - 1)

    def _after_step(self, *, last: bool) -> None:
        state, points = self._state, self._config.heldout_points
        due = self._heldout and (last or state.course.progress >= len(state.curve.points) / points - 1e-9)
        new_best = due and self._measure()
        if due and not last and state.curve.stale() >= self._config.patience:
            state.stopped_early = last = True
            self._progress.note(f"stopping early: {state.curve.stale()} held-out points in a row were worse")
        waited = self._clock() - self._written_at
        if last or new_best or waited >= max(self._config.checkpoint_every_s, self._writing_s / CHECKPOINT_SHARE):
            self._save()

    def _measure(self) -> bool:
        """A point of the held-out curve; whether it is the one to keep so far."""
        if not self._heldout:
            return False
        curve, before = self._state.curve, self._state.curve.best()
        point = measure(
            self._model, self._heldout, matmul=self._plan.numerics.matmul, step=self._state.course.step,
            elapsed_s=self._elapsed_s(),
        )
        if point is None:
            self._heldout = []
            self._progress.note("the held-out edits have no changed token: no early stop and no roll-back")
            return False
        self._log.heldout(point, before)
        self._aside_s += point.seconds
        curve.points.append(point)
        return curve.best() is point

    def _save(self) -> None:
        started, course, best = self._clock(), self._state.course, self._state.curve.best()
        state: dict[str, Any] = {
            "course": {**asdict(course), "used": sorted(course.used)},
            "tokens": self._state.tokens,
            "stopped_early": self._state.stopped_early,
            "curve": msgspec.to_builtins(self._state.curve.points),
        }
        checkpoints.save(self._folder, course.step, self._optimizer.parameters, self._optimizer.state(), state)
        checkpoints.prune(self._folder, resume_step=course.step, best_step=best.step if best else None)
        self._saved_step = course.step
        self._written_at = self._clock()
        self._writing_s = self._written_at - started
        self._aside_s += self._writing_s

    def _resume(self) -> None:
        past = list(Log.read(self._folder))
        found = checkpoints.find(self._folder)
        if found:
            step, path = found[-1]
            state = checkpoints.load_state(path)
            self._state.course = msgspec.convert(state["course"], Course)
            self._state.tokens, self._state.stopped_early = state["tokens"], state["stopped_early"]
            self._state.curve = Curve(msgspec.convert(state["curve"], list[HeldOut]))
            self._put(checkpoints.load_tensors(path / checkpoints.WEIGHTS))
            self._optimizer.load(checkpoints.load_tensors(path / checkpoints.OPTIMIZER))
            self._saved_step = self._state.course.step
            self._progress.note(f"going on from step {step} of an interrupted run")
        if past:
            self._already_s += max(entry.elapsed_s for entry in past)
        for entry in past:
            if isinstance(entry, Metrics) and entry.step > self._state.course.step:
                self._replay[entry.step - 1] = Decision(entry.places, entry.remaining)

    def _put(self, tensors: dict[str, Any]) -> None:
        for name, parameter in self._optimizer.parameters.items():
            if name not in tensors or tensors[name].shape != parameter.shape:
                raise InputError(
                    f"`{self._folder}`: its checkpoint has no fitting weight `{name}`",
                    hint=f"remove `{self._folder}` to train from the start",
                )
            parameter.data.copy_(tensors[name])

    def _outcome(self) -> Outcome:
        state = self._state
        if state.course.step == 0:
            raise UserError(
                f"nothing was trained: a step takes about {self._plan.step_s:.1f} s and the budget has no room for one",
                hint="give a larger `--budget`, or `--weights lora`, or a smaller `--base`",
            )
        best = state.curve.best()
        return Outcome(
            num_steps=state.course.step,
            best_step=best.step if best else None,
            curve=state.curve.points,
            elapsed_s=self._elapsed_s(),
            stopped_early=state.stopped_early,
            tokens=state.tokens,
        )
