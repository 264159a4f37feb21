"""checkpoint/ -> quantized/: NVFP4, the files that are served."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from apprentice.core import artifacts
from apprentice.core.artifacts import Manifest
from apprentice.core.protocols import ProgressSink
from apprentice.learn.run import Run
from apprentice.quantize.convert import QuantizeConfig, convert

KIND = "quantized"
VERSION = 1


def make(run: Run, checkpoint: Path, checkpoint_hash: str) -> Manifest:
    """Quantize, or find it done."""
    config = QuantizeConfig()
    parents = {"checkpoint": checkpoint_hash}
    if manifest := run.fresh("quantized", version=VERSION, parents=parents, config=asdict(config)):
        return manifest
    return write(checkpoint, run.artifact("quantized"), config, parents=parents, progress=run.progress)


def write(
    checkpoint: Path, target: Path, config: QuantizeConfig, *, parents: dict[str, str], progress: ProgressSink | None = None
) -> Manifest:
    """Quantize a checkpoint into an artifact."""
    with artifacts.create(target, kind=KIND, version=VERSION, parents=parents, config=asdict(config)) as artifact:
        report = convert(checkpoint, target, config, progress=progress)
        return artifact.finish(extra=report.summary())
