"""base -> its own answers, which training repeats between the edits: asked once on a machine, kept with the bases.

    ~/.cache/apprentice/answers/HASH/        all questions
    ~/.cache/apprentice/answers/HASH-30s/    those that were answered in that time: another budget asks again
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from apprentice.core import artifacts, files
from apprentice.core.protocols import ProgressSink
from apprentice.learn.run import Run
from apprentice.learn.stages import answers
from apprentice.model import base as bases
from apprentice.text.chat import Rendered
from apprentice.text.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Answers:
    """What a base said."""

    hash: str
    conversations: list[Rendered]


def make(run: Run) -> Answers:
    """Of the run's base, within its share of the budget."""
    limit_s = answers.SHARE * run.config.budget_s if run.config.by_clock else None
    return of(run.base_folder, run.base_hash, run.tokenizer, progress=run.progress, limit_s=limit_s)


def of(base: Path, base_hash: str, tokenizer: Tokenizer, *, progress: ProgressSink, limit_s: float | None = None) -> Answers:
    """Asked now, or found: all of them, where they were ever asked without a limit."""
    kept = bases.cache_folder() / "answers"
    folder = kept / base_hash[:16]
    if limit_s is not None and not artifacts.is_finished(folder):
        folder = kept / f"{base_hash[:16]}-{limit_s:.0f}s"
    files.make_folder(kept)
    with files.lock(folder):
        manifest = answers.write(folder, base, base_hash, tokenizer, progress=progress, limit_s=limit_s)
        return Answers(manifest.hash, answers.read(folder, tokenizer))
