"""checkpoint/ + examples/ -> quantized/: NVFP4, the files that are served, calibrated on the newest work trained on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from apprentice.core import artifacts
from apprentice.core.artifacts import Manifest
from apprentice.core.protocols import ProgressSink
from apprentice.examples import store
from apprentice.kernels.formats import FORMATS
from apprentice.learn.run import Run
from apprentice.quantize.calibration import DEFAULT_TOKENS, fit
from apprentice.quantize.convert import QuantizeConfig, convert
from apprentice.text.tokenizer import Tokenizer

KIND = "quantized"
VERSION = 3


def make(run: Run, checkpoint: Path, checkpoint_hash: str, examples_hash: str) -> Manifest:
    """Quantize, or find it done."""
    parents = {"checkpoint": checkpoint_hash, "examples": examples_hash}
    config = QuantizeConfig()
    if manifest := run.fresh("quantized", version=VERSION, parents=parents, config=_described(config, True)):
        return manifest
    return write(
        checkpoint, run.artifact("quantized"), config, parents=parents, progress=run.progress,
        examples=run.artifact("examples"),
    )  # fmt: skip


def write(
    checkpoint: Path, target: Path, config: QuantizeConfig, *, parents: dict[str, str], progress: ProgressSink,
    examples: Path | None = None,
) -> Manifest:  # fmt: skip
    """Quantize a checkpoint into an artifact; with examples each matrix is fitted to such text."""
    # Before what lies in the target is removed.
    config.check(is_fitted=examples is not None)
    described = _described(config, examples is not None)
    with artifacts.create(target, kind=KIND, version=VERSION, parents=parents, config=described) as artifact:
        fitted = None
        if examples is not None:
            sequences = list(_newest(examples, Tokenizer.load(checkpoint)))
            fitted = fit(checkpoint, sequences, format=FORMATS[config.format], progress=progress)
        report = convert(checkpoint, target, config, fitted=fitted, progress=progress)
        return artifact.finish(extra=report.summary())


def _described(config: QuantizeConfig, calibrated: bool) -> dict[str, object]:
    return {**asdict(config), "calibration_tokens": DEFAULT_TOKENS if calibrated else 0}


def _newest(examples: Path, tokenizer: Tokenizer) -> Iterator[list[int]]:
    """Tokens of the newest training examples as the model sees them, newest first, as many as calibration takes."""
    left = DEFAULT_TOKENS
    for example in reversed(list(store.read(examples, "train", kind="next_edit"))):
        token_ids = tokenizer.encode(example.prompt) + tokenizer.encode(example.target)
        yield token_ids
        left -= len(token_ids)
        if left <= 0:
            return
