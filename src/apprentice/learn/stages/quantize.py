"""checkpoint/ + examples/ -> quantized/: NVFP4, the files that are served, calibrated on the newest work trained on.

Where training has come to its end before its time, as it does once everything was shown, what is left goes into this: the fitted
matrices are trained together to say what the checkpoint says (`train.distillation`). A minute of training is worth more."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from apprentice.core import artifacts, machine
from apprentice.core.artifacts import Manifest
from apprentice.core.config import to_dict
from apprentice.core.errors import ConfigError
from apprentice.core.protocols import ProgressSink
from apprentice.examples import store
from apprentice.kernels.formats import FORMATS
from apprentice.learn.config import EVALUATION_SHARE, GATE_SHARE, RESERVE_SHARE, SILENCE_SHARE
from apprentice.learn.run import Run
from apprentice.model.config import ModelConfig, read_config
from apprentice.quantize.calibration import DEFAULT_TOKENS, Fitted, fit, replaced
from apprentice.quantize.convert import QuantizeConfig, convert, opened
from apprentice.quantize.report import Distillation
from apprentice.quantize.sensitivity import Sensitivity, measure, most_sensitive
from apprentice.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from apprentice.train.distillation import DistillConfig

KIND = "quantized"
VERSION = 5
SHORT_TOKENS, LONG_BUDGET_S = 8192, 1800.0
"""A short run fits to less text: with a third of the tokens four bits lose about a third more, in a third of the time."""
TOKENS_FITTED_TO_ONE_MEASURED, MOST_MEASURED = 32, 384
"""Finding what four bits hurt reads a text sixty times, fitting twice."""
MOST_DISTILLED, LEAST_DISTILLED = 400_000, 20
"""Tokens of examples that distillation may choose from; examples below which a run leaves it out."""
LEAST_SPARE_S, MOST_SPARE_S = 480.0, 1800.0
"""Of spare time that are worth distilling in, and that are given to it."""
MOST_DISTILLED_PARAMETERS = 600_000_000
"""Where a run distils by itself: it takes memory as training all weights does."""
QUANTIZE_PARAMETERS_PER_S = 2_000_000


def make(run: Run, checkpoint: Path, checkpoint_hash: str, examples_hash: str) -> Manifest:
    """Quantize, or find it done."""
    parents = {"checkpoint": checkpoint_hash, "examples": examples_hash}
    config, tokens = QuantizeConfig(), calibration_tokens(run)
    distilling = in_spare_time(run, checkpoint)
    if manifest := run.fresh("quantized", version=VERSION, parents=parents, config=_described(config, tokens, distilling)):
        return manifest
    return write(
        checkpoint, run.artifact("quantized"), config, parents=parents, progress=run.progress,
        examples=run.artifact("examples"), tokens=tokens, distilling=distilling,
    )  # fmt: skip


def quantize_s(model: ModelConfig, tokens: int) -> float:
    """A rough time for quantizing, fitted to so much text, and loading what was quantized."""
    return 4 + model.num_parameters / QUANTIZE_PARAMETERS_PER_S * tokens / SHORT_TOKENS


def after_training_s(run: Run, model: ModelConfig) -> float:
    """What comes behind training, and must have its time."""
    shares = EVALUATION_SHARE + 2 * GATE_SHARE + SILENCE_SHARE + RESERVE_SHARE
    return run.config.budget_s * shares + quantize_s(model, calibration_tokens(run))


def in_spare_time(run: Run, checkpoint: Path) -> DistillConfig | None:
    """How the fitted matrices are distilled; None where there is too little time, text or memory for it."""
    if not run.config.by_clock:
        return None
    model = read_config(checkpoint)
    spare = run.stored("spare_s", lambda: round(run.clock.left_s - after_training_s(run, model)))
    if spare < LEAST_SPARE_S or model.num_parameters > MOST_DISTILLED_PARAMETERS:
        return None
    from apprentice.train import distillation
    from apprentice.train.distillation import DistillConfig

    if distillation.needed_gib(model) > machine.look().memory_available_gib:
        return None
    if artifacts.read(run.artifact("examples")).counts.get("train_next_edit", 0) < LEAST_DISTILLED:
        return None

    return DistillConfig(seconds=min(float(spare), MOST_SPARE_S), seed=run.config.seed)


def calibration_tokens(run: Run) -> int:
    """As many as the time of the run allows."""
    return DEFAULT_TOKENS if run.config.budget_s >= LONG_BUDGET_S else SHORT_TOKENS


def write(
    checkpoint: Path, target: Path, config: QuantizeConfig, *, parents: dict[str, str], progress: ProgressSink,
    examples: Path | None = None, tokens: int = DEFAULT_TOKENS, distilling: DistillConfig | None = None,
) -> Manifest:  # fmt: skip
    """Quantize a checkpoint into an artifact; with examples each matrix is fitted to such text, so many tokens of it, and with
    `distilling` all of them are then trained on more of it.

    Raises: ConfigError, InputError."""
    # Before what lies in the target is removed.
    config.check(is_fitted=examples is not None)
    opened(checkpoint)
    if examples is None:
        if distilling is not None:
            raise ConfigError("distilling needs text like the model's work", hint="give `--calibrate`")
        config = replace(config, precise_share=0.0)
    sequences: list[list[int]] = []
    if examples is not None:
        sequences = list(_newest(examples, Tokenizer.load(checkpoint), MOST_DISTILLED if distilling else tokens))
    if distilling is not None:
        # Imported late: without distillation no torch is needed.
        from apprentice.train import distillation as training

        training.check(checkpoint, sequences, distilling)
    described = _described(config, tokens if examples is not None else 0, distilling)
    with artifacts.create(target, kind=KIND, version=VERSION, parents=parents, config=described) as artifact:
        fitted, kept, measured, distillation = None, frozenset[str](), list[Sensitivity](), None
        if examples is not None:
            format = FORMATS[config.format]
            if config.precise_share:
                measured = measure(checkpoint, sequences, max_tokens=_measured_tokens(tokens), format=format, progress=progress)
                kept = most_sensitive(measured, config.precise_share)
            fitted = fit(checkpoint, sequences, max_tokens=tokens, format=format, kept=kept, progress=progress)
            if distilling is not None and fitted:
                fitted, distillation = distill(checkpoint, fitted, sequences, config, distilling, progress)
        report = convert(
            checkpoint, target, config, fitted=fitted, kept=kept, measured=measured, distillation=distillation, progress=progress
        )
        return artifact.finish(extra=report.summary())


def distill(
    checkpoint: Path, fitted: Mapping[str, Fitted], sequences: Sequence[Sequence[int]], config: QuantizeConfig,
    distilling: DistillConfig, progress: ProgressSink | None = None,
) -> tuple[dict[str, Fitted], Distillation]:
    """The matrices after training, and what it gave."""
    from apprentice.train.distillation import distill as train

    packed = {name: one.packed for name, one in fitted.items()}
    done = train(checkpoint, packed, FORMATS[config.format], sequences, config=distilling, progress=progress)
    found = replaced(fitted, done.packed, done.largest_inputs) if done.steps else dict(fitted)
    return found, Distillation(steps=done.steps, kl_before=done.kl_before, kl_after=done.kl_after, too_short=done.too_short)


def _measured_tokens(tokens: int) -> int:
    return min(max(tokens // TOKENS_FITTED_TO_ONE_MEASURED, 1), MOST_MEASURED)


def _described(config: QuantizeConfig, tokens: int, distilling: DistillConfig | None = None) -> dict[str, object]:
    described: dict[str, object] = {**asdict(config), "calibration_tokens": tokens}
    return described if distilling is None else described | {"distilling": to_dict(distilling)}


def _newest(examples: Path, tokenizer: Tokenizer, left: int) -> Iterator[list[int]]:
    """Tokens of the newest training examples as the model sees them, newest first, as many as calibration takes."""
    for example in reversed(list(store.read(examples, "train", kind="next_edit"))):
        token_ids = tokenizer.encode(example.prompt) + tokenizer.encode(example.target)
        yield token_ids
        left -= len(token_ids)
        if left <= 0:
            return
