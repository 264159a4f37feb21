"""A word, folder or hub name -> the Hugging Face folder that learning starts from, and its identity."""

from __future__ import annotations

from apprentice.learn.opening import weights_hash
from apprentice.learn.run import Run
from apprentice.model import base


def make(run: Run) -> None:
    """Find the base and tell the run."""
    word = None if run.config.base == "default" else run.config.base
    run.base_folder = base.resolve(word, progress=run.progress)
    run.base_hash = weights_hash(run.base_folder)
