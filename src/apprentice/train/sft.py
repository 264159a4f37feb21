"""Supervised fine-tuning: a base and examples in, a checkpoint that has learned them out.

    rows, answers --pack--> sequences --+
    base --load--> model ---------------+--> calibrate --> plan.json --> Trainer --> best held-out point
                   +------------------------------------------------------------------> drawn back to the base --> checkpoint artifact

The artifact is a Hugging Face folder (for `lora` with the adapter in PEFT's layout beside the merged weights) whose
manifest says what it was made from: hashes of base and examples, tokens learned by author, commits and people seen, the
held-out curve and which point of it this is. `training/` keeps the plan and the log of every step; both hold timings and
lie outside the content hash.

Killed at any moment, the same command goes on: before the plan is written from the start, then from the last checkpoint,
then from the saved weights. With `steps` the resulting artifact is the same bit for bit.
"""

from __future__ import annotations

import math
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import msgspec
import numpy as np
import torch

from apprentice.core import artifacts, config, files
from apprentice.core.errors import InputError
from apprentice.core.protocols import ProgressSink, Tokenizer
from apprentice.model import adapter, weights
from apprentice.model.transformer import Transformer
from apprentice.text.chat import Rendered
from apprentice.train import card, checkpoints, losses, numerics, rehearsal, silence, talks
from apprentice.train import plan as plans
from apprentice.train.interpolation import draw_back
from apprentice.train.loop import LoopConfig, Outcome, Trainer
from apprentice.train.metrics import Log, Metrics
from apprentice.train.numerics import Arithmetic, Numerics
from apprentice.train.optimizer import OptimizerConfig
from apprentice.train.packing import KINDS, LossWeights, PackedSequence, PackingConfig, collate, pack
from apprentice.train.packing import Row as PackingRow

KIND = "checkpoint"
VERSION = 1
"""Of this stage: another number makes older checkpoints stale."""
TRAINING = "training"
OUTCOME = "outcome.json"
CALIBRATION_TOKENS = 256
CALIBRATION_SHARE = 0.05
"""Of the budget, after which no further numerics are tried."""
COMPLETION = "completion"
LEARNED_KINDS = ("changed", "copied", "end", "said", "unchanged")


class Origin(Protocol):
    """Where an example comes from."""

    @property
    def author(self) -> str: ...
    @property
    def person(self) -> str: ...
    @property
    def commit(self) -> str: ...
    @property
    def repository(self) -> str: ...
    @property
    def time(self) -> float: ...


class Row(PackingRow, Origin, Protocol):
    """An edit: what packing reads, and where it comes from."""

    @property
    def moment(self) -> str: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class SftConfig:
    """Every knob of fine-tuning. The defaults are the measured recipe."""

    weights: Literal["full", "upper", "lora"] = "full"
    """What is trained: all weights, the upper part of the layers with frozen embedding, or low-rank adapters."""
    upper_part: float = 0.5
    """`upper`: part of the layers that is trained, above 0, at most 1."""
    lora_rank: int = 16
    """`lora`: rank of the adapters, 1 to 512."""
    lora_alpha: float = 32.0
    """`lora`: adapters are scaled by alpha / rank, above 0."""
    lora_lr: float = 5e-4
    """`lora`: highest learning rate, in place of `optimizer.lr`, above 0."""
    kinds: tuple[str, ...] = ("next_edit", "completion")
    """Kinds of examples that are read. An edit that has several is shown as one of them: after the first, another kind
    would give it away."""
    completions: float = 0.5
    """Share of such edits that are shown as `completion`, 0 to 1: a model that never sees a cursor in a line forgets how to
    go on there."""
    rehearsal: float = 0.06
    """Share of the sequences that are the base's own answers, 0 to 0.5; see `train.rehearsal`."""
    conversations: float = 0.15
    """Share of the edits and conversations together that conversations may have, 0 to 0.5; see `train.talks`."""
    silence: float = 0.0
    """Share of the edits and silent places together that places where nothing was to be done may have, 0 to 0.5; see
    `train.silence`. 0, for it makes edits dearer."""
    kept: float = 0.7
    """Share of the change of the weights that the checkpoint keeps, above 0, at most 1; see `train.interpolation`."""
    order: Literal["time", "shuffled"] = "time"
    """Order of the sequences; the edits inside one are always in the order of time."""
    seed: int = 0
    """Moves the cuts of the stream, shuffles, and initialises adapters."""
    arithmetic: Literal["auto", "fp32", "fp32-onednn", "bf16"] = "auto"
    """`auto`: measured at the start; with given steps it follows from what the CPU says of itself."""
    threads: int = 0
    """0: measured at the start; with given steps all cores."""
    packing: PackingConfig = field(default_factory=PackingConfig)
    loss: LossWeights = field(default_factory=LossWeights)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)

    def __post_init__(self) -> None:
        if self.weights not in ("full", "upper", "lora"):
            raise ValueError("weights must be `full`, `upper` or `lora`")
        if not 0 < self.upper_part <= 1:
            raise ValueError("upper_part must be above 0 and at most 1")
        if not 1 <= self.lora_rank <= 512 or not 0 < self.lora_alpha < float("inf"):
            raise ValueError("lora_rank must be from 1 to 512, lora_alpha above 0")
        if not 0 < self.lora_lr <= 1:
            raise ValueError("lora_lr must be above 0 and at most 1")
        if self.threads < 0 or not self.kinds:
            raise ValueError("threads must be 0 or more, kinds must name at least one")
        if not 0 <= self.completions <= 1:
            raise ValueError("completions must be from 0 to 1")
        if not 0 <= self.rehearsal <= 0.5:
            raise ValueError("rehearsal must be from 0 to 0.5")
        if not 0 <= self.conversations <= 0.5:
            raise ValueError("conversations must be from 0 to 0.5")
        if not 0 <= self.silence <= 0.5:
            raise ValueError("silence must be from 0 to 0.5")
        if not 0 < self.kept <= 1:
            raise ValueError("kept must be above 0 and at most 1")

    def lora(self) -> adapter.LoraConfig:
        """Rank and scale of the adapters."""
        return adapter.LoraConfig(rank=self.lora_rank, alpha=self.lora_alpha)

    def rates(self) -> OptimizerConfig:
        """The optimizer's settings for the weights that are trained."""
        return replace(self.optimizer, lr=self.lora_lr) if self.weights == "lora" else self.optimizer


@dataclass(frozen=True, slots=True)
class Data:
    """Packed sequences and what they were packed from."""

    rows: Sequence[Origin]
    sequences: list[PackedSequence]
    heldout: list[PackedSequence]
    dropped: dict[str, int]
    """Reason -> sequences or examples left out."""


def train(
    base: Path, train_rows: Sequence[Row], heldout_rows: Sequence[Row], tokenizer: Tokenizer, out: Path, *,
    sft: SftConfig, parents: Mapping[str, str], progress: ProgressSink, answers: Sequence[Rendered] = (),
    conversations: Sequence[tuple[Origin, Rendered]] = (), silent: Sequence[Row] = (), steps: int | None = None,
    budget_s: float | None = None, clock: Callable[[], float] = time.monotonic,
) -> artifacts.Manifest:
    """Train and write the artifact, or go on where an interrupted run stopped. Rows come in the order of time; `answers`
    are what the base says of itself, to be rehearsed; of each conversation the last reply is learned from; `silent`: places
    where nothing was to be done, of which as many are shown as the config says.

    `steps` wins over `budget_s`; with neither, `loop.max_rounds` over all rows. Raises: InputError where there is nothing
    to learn, UserError where nothing was trained."""
    started = clock()
    described = _described(sft, has_talks=bool(conversations), has_silence=bool(silent))
    whole = {"sft": described, "steps": steps, "budget_s": None if steps is not None else budget_s}
    if artifacts.is_finished(out) and artifacts.read(out, kind=KIND).made_from(
        version=VERSION, parents=parents, config=whole
    ):
        return artifacts.read(out, kind=KIND)
    files.make_folder(out.parent)
    with files.lock(out), artifacts.create(
        out, kind=KIND, version=VERSION, resume=True, parents=parents, config=whole
    ) as writer:
        folder = writer.path(f"{TRAINING}/{plans.PLAN}").parent
        data = prepare(train_rows, heldout_rows, tokenizer, sft, answers, conversations, silent)
        outcome = _read_outcome(folder)
        if outcome is None:
            numerics.tune_process()
            model = _load(base, sft)
            plan = plans.read(folder) or _make_plan(model, data, sft, steps, budget_s, folder, progress)
            if plan.fingerprint != plans.fingerprint([*data.sequences, *data.heldout]):
                raise InputError(
                    f"`{folder}` belongs to a run on other examples", hint=f"remove `{out}` to train from the start"
                )
            with numerics.applied(plan.numerics):
                teacher = rehearsal.Teacher(model, data.sequences, matmul=plan.numerics.matmul)
            trainer = Trainer(
                model, data.sequences, data.heldout, plan, sft.loss.table(), folder, config=sft.loop,
                optimizer_config=sft.rates(), progress=progress, clock=clock, already_s=clock() - started,
                flops_per_token=_flops_per_token(model, sft), teacher=teacher,
            )
            outcome = trainer.run()
            if trainer.load_best(outcome):
                draw_back(model, base, sft.kept)
            else:
                progress.note("no held-out point was better than the base: the checkpoint is the base, unchanged")
                model = _load(base, sft)
            _save(model, out, base, sft, outcome, parents)
            Log.tidy(folder)
            files.write_json(folder / OUTCOME, msgspec.to_builtins(outcome))
        checkpoints.remove_all(folder)
        plan = plans.read(folder)
        assert plan is not None
        return writer.finish(
            seed=sft.seed,
            counts=_counts(plan, data, outcome),
            dropped=data.dropped,
            extra=_facts(plan, data, outcome, sft, folder),
            volatile=(f"{TRAINING}/*",),
        )


def prepare(
    train_rows: Sequence[Row], heldout_rows: Sequence[Row], tokenizer: Tokenizer, sft: SftConfig,
    answers: Sequence[Rendered] = (), conversations: Sequence[tuple[Origin, Rendered]] = (), silent: Sequence[Row] = (),
) -> Data:
    """Pack the rows. Raises: InputError where no token would carry loss."""
    rows = one_kind_each([row for row in train_rows if row.kind in sft.kinds], sft)
    if not rows:
        raise InputError(
            f"no examples of kind {' or '.join(sft.kinds)} to train on",
            hint="give a repository with more history, or other `kinds`",
        )
    as_another_kind = len(train_rows) - len(rows)
    if sft.silence > 0:
        # Places beside edits that are not shown are none of theirs.
        others = {row.moment for row in train_rows} - {row.moment for row in rows}
        silent = [row for row in silent if row.moment not in others]
        rows = silence.interleave(rows, silent, share=sft.silence, seed=sft.seed)
    packed = pack(rows, tokenizer, sft.packing, seed=sft.seed)
    sequences = [sequence for sequence in packed if (sft.loss.table()[sequence.kinds_T[1:]] > 0).any()]
    if not any(np.isin(sequence.kinds_T, _learned_kinds(sft)).any() for sequence in sequences):
        raise InputError(
            f"none of the {len(rows):,} examples has a target token that carries loss: training would teach nothing",
            hint="raise `loss.changed` above 0; if it is, the examples have no spans over their targets",
        )
    # What changes no character is no part of the measure.
    measured = [row for row in heldout_rows if row.kind in sft.kinds and any(span[2] == "changed" for span in row.spans)]
    heldout = pack(one_kind_each(measured, sft), tokenizer, sft.packing)
    reasons = {"sequence without loss": len(packed) - len(sequences), "shown as another kind": as_another_kind}
    said = [talks.Talk(len(rows) + number, rendered) for number, (_, rendered) in enumerate(conversations)]
    if said and sft.conversations > 0 and sft.loss.said > 0:
        sequences, left_out = talks.interleave(sequences, said, share=sft.conversations, tokens=sft.packing.sequence_tokens)
        reasons |= left_out
    share = sft.rehearsal if sft.loss.reply > 0 else 0.0
    sequences = rehearsal.interleave(sequences, answers, share=share, tokens=sft.packing.sequence_tokens)
    return Data([*rows, *(row for row, _ in conversations)], sequences, heldout, {reason: count for reason, count in reasons.items() if count})


def one_kind_each(rows: Sequence[Row], sft: SftConfig) -> list[Row]:
    """Of the rows of one edit the one whose kind it is shown as, drawn by seed."""
    kinds: dict[str, set[str]] = {}
    for row in rows:
        kinds.setdefault(row.moment, set()).add(row.kind)
    chosen: dict[str, str] = {}
    for moment, found in kinds.items():
        as_completion = random.Random(f"{sft.seed} {moment}").random() < sft.completions
        others = sorted(found - {COMPLETION})
        chosen[moment] = COMPLETION if COMPLETION in found and (as_completion or not others) else others[0]
    return [row for row in rows if row.kind == chosen[row.moment]]


def _described(sft: SftConfig, *, has_talks: bool, has_silence: bool) -> dict[str, Any]:
    """For the manifest. What has no effect is left out: checkpoints of before there was the choice stay what they are."""
    found = config.to_dict(sft)
    if has_talks:
        found["order_of_conversations"] = talks.ORDER
    else:
        del found["conversations"], found["loss"]["said"]
    if not has_silence:
        del found["silence"], found["loss"]["unchanged"]
    return found


def select_weights(model: Transformer, sft: SftConfig) -> None:
    """Freeze what is not trained."""
    if sft.weights == "lora":
        adapter.attach(model, sft.lora(), seed=sft.seed)
    elif sft.weights == "upper":
        model.embed_tokens.weight.requires_grad_(False)
        model.lm_head.weight.requires_grad_(False)
        num_frozen = round(len(model.layers) * (1 - sft.upper_part))
        for layer in model.layers[:num_frozen]:
            layer.requires_grad_(False)


def _load(base: Path, sft: SftConfig) -> Transformer:
    model = weights.load(base)
    select_weights(model, sft)
    return model


def _make_plan(
    model: Transformer, data: Data, sft: SftConfig, steps: int | None, budget_s: float | None, folder: Path,
    progress: ProgressSink,
) -> plans.Plan:
    """Calibrate, plan and write the plan."""
    arithmetic: Arithmetic | None = None if sft.arithmetic == "auto" else sft.arithmetic
    per_step = sft.loop.batch_sequences * sft.loop.accumulate
    if steps is not None:
        chosen, step_s = numerics.fixed(arithmetic, sft.threads or None), 0.0
    else:
        progress.stage("measure the machine")
        limit_s = math.inf if budget_s is None else CALIBRATION_SHARE * budget_s
        chosen, token_s = _calibrate(model, data, sft, arithmetic, limit_s)
        step_s = _time_step(model, data, sft, chosen, per_step, token_s=token_s, limit_s=limit_s)
    plan = plans.make(
        data.sequences, data.heldout, numerics=chosen, per_step=per_step, steps=steps, budget_s=budget_s, step_s=step_s,
        heldout_share=sft.loop.heldout_share, heldout_tokens=sft.loop.heldout_tokens,
        heldout_points=sft.loop.heldout_points + 1, max_rounds=sft.loop.max_rounds, order=sft.order, seed=sft.seed,
    )
    plans.write(folder, plan)
    progress.note(
        f"plan: {plan.num_steps:,} steps, {plan.num_tokens:,} tokens of {sum(map(len, data.sequences)):,}, "
        f"{chosen.arithmetic} on {chosen.threads} threads, about {step_s:.2f} s a step"
    )
    return plan


def _calibrate(
    model: Transformer, data: Data, sft: SftConfig, arithmetic: Arithmetic | None, limit_s: float
) -> tuple[Numerics, float]:
    """The fastest numerics on a short real sequence, and what a token takes with them."""
    batch = collate([_cut(max(data.sequences, key=len), CALIBRATION_TOKENS)])
    table = np.ones(len(KINDS), np.float32)

    def loss_of(matmul: torch.dtype) -> torch.Tensor:
        return losses.batch_loss(model, batch, table, float(batch.num_tokens), matmul=matmul)

    chosen = numerics.measure(model, loss_of, arithmetic=arithmetic, threads=sft.threads or None, limit_s=limit_s)
    return chosen, chosen.seconds[numerics.label(chosen)] / batch.num_tokens


def _time_step(
    model: Transformer, data: Data, sft: SftConfig, chosen: Numerics, per_step: int, *, token_s: float, limit_s: float
) -> float:
    """Seconds of a mean step: one real forward and backward without an update, or on a machine where that alone would
    take too long, what `token_s` of the short sequence lets expect."""
    table, size = sft.loss.table(), sft.loop.batch_sequences
    batch = collate(sorted(data.sequences, key=len)[-size:])
    if batch.num_tokens * token_s < limit_s:
        with numerics.applied(chosen):
            start = time.perf_counter()
            losses.batch_loss(model, batch, table, losses.total_weight([batch], table), matmul=chosen.matmul).backward()
            token_s = (time.perf_counter() - start) / batch.num_tokens
            model.zero_grad(set_to_none=True)
    mean_tokens = sum(map(len, data.sequences)) / len(data.sequences)
    # The optimizer adds a few percent.
    return 1.04 * token_s * per_step * mean_tokens


def _cut(sequence: PackedSequence, length: int) -> PackedSequence:
    arrays = (sequence.token_ids_T, sequence.kinds_T, sequence.segments_T, sequence.rows_T)
    return PackedSequence(*(array[:length] for array in arrays))


def _flops_per_token(model: Transformer, sft: SftConfig) -> float:
    """Forward, backward through what lies above the lowest trained weight, and gradients of trained weights."""
    whole = model.config.num_parameters
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    through = whole if sft.weights != "upper" else trained + model.embed_tokens.weight.numel()
    return 2.0 * (whole + through + trained)


def _save(
    model: Transformer, out: Path, base: Path, sft: SftConfig, outcome: Outcome, parents: Mapping[str, str]
) -> None:
    if sft.weights == "lora":
        adapter.save(model, sft.lora(), out / "adapter", base=base.name)
        adapter.merge(model)
    weights.save(model, out, tokenizer_folder=base, card=card.written(base, sft.weights, sft.kept, outcome, parents))


def _learned_kinds(sft: SftConfig) -> list[int]:
    """Kinds of target tokens that carry loss, as places in KINDS."""
    table = sft.loss.table()
    return [KINDS.index(kind) for kind in LEARNED_KINDS if table[KINDS.index(kind)] > 0]


def _trained_on(plan: plans.Plan, folder: Path, last_step: int) -> list[int]:
    """Numbers of the sequences that the weights have seen."""
    steps = [entry for entry in Log.read(folder) if isinstance(entry, Metrics) and entry.step <= last_step]
    return [plan.order[place] for step in steps for place in step.places]


def _counts(plan: plans.Plan, data: Data, outcome: Outcome) -> dict[str, int]:
    return {
        "examples": len({int(row) for sequence in data.sequences for row in np.unique(sequence.rows_T)} - {rehearsal.NO_ROW}),
        "sequences": len(data.sequences),
        "steps": outcome.num_steps,
        "tokens": outcome.tokens,
        "heldout_sequences": len(plan.heldout),
    }


def _facts(plan: plans.Plan, data: Data, outcome: Outcome, sft: SftConfig, folder: Path) -> dict[str, Any]:
    """What the report shows and lineage needs."""
    learned: Counter[str] = Counter()
    only_read = 0
    seen: set[int] = set()
    places, has_loss = _learned_kinds(sft), sft.loss.table() > 0
    last_step = outcome.num_steps if outcome.best_step is None else outcome.best_step
    for number in _trained_on(plan, folder, last_step):
        sequence = data.sequences[number]
        only_read += int((~has_loss[sequence.kinds_T]).sum())
        seen.update(set(np.unique(sequence.rows_T).tolist()) - {rehearsal.NO_ROW})
        for row, count in Counter(sequence.rows_T[np.isin(sequence.kinds_T, places)].tolist()).items():
            learned[data.rows[row].author] += count
    rows = [data.rows[i] for i in sorted(seen)]
    return {
        "weights": sft.weights,
        "best_step": outcome.best_step,
        "stopped_early": outcome.stopped_early,
        "heldout_bits_per_changed_token": [[point.step, point.bits] for point in outcome.curve],
        "learned_tokens": dict(sorted(learned.items())),
        "context_tokens": only_read,
        "repositories": sorted({row.repository for row in rows}),
        "commits": len({row.commit for row in rows if row.commit}),
        "people": sorted({row.person for row in rows if row.person}),
        "first_edit": min((row.time for row in rows), default=None),
        "last_edit": max((row.time for row in rows), default=None),
        "arithmetic": plan.numerics.arithmetic,
        "threads": plan.numerics.threads,
        "peak_gflops": plan.numerics.peak_gflops,
    }


def _read_outcome(folder: Path) -> Outcome | None:
    path = folder / OUTCOME
    if not path.exists():
        return None
    try:
        return msgspec.json.decode(path.read_bytes(), type=Outcome)
    except msgspec.DecodeError as error:
        hint = f"remove `{folder.parent}` to train again"
        raise InputError(f"`{path}` cannot be read: {error}", hint=hint) from error
