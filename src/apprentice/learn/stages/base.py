"""A word, folder or hub name -> the Hugging Face folder that learning starts from, and its identity."""

from __future__ import annotations

import hashlib
from pathlib import Path

from apprentice.core import artifacts
from apprentice.learn.run import Run
from apprentice.model import base


def make(run: Run) -> None:
    """Find the base and tell the run."""
    word = None if run.config.base == "default" else run.config.base
    run.base_folder = base.resolve(word, progress=run.progress)
    run.base_hash = _identity(run.base_folder)


def _identity(folder: Path) -> str:
    """Content hash of an artifact; of any other folder what its weights are called, how large and how old."""
    if artifacts.is_finished(folder):
        return artifacts.read(folder).hash
    facts = sorted((path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in folder.glob("*.safetensors"))
    return hashlib.sha256(f"{facts} {(folder / 'config.json').read_text(encoding='utf-8')}".encode()).hexdigest()
