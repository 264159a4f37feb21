"""The benchmark of suggestions: which model it asks, and what that had learned from."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from benchmarks import suggestions
from benchmarks.harness import Benchmark

from apprentice.core import artifacts
from apprentice.core.errors import InputError
from apprentice.core.progress import Progress


def made(folder: Path, kind: str, text: str, **parents: str) -> str:
    """An artifact of one file. Returns its hash."""
    with artifacts.create(folder, kind=kind, version=1, parents=parents) as writer:
        writer.path("data").write_text(text)
        return writer.finish().hash


def study(tmp_path: Path) -> suggestions.Study:
    benchmark = Benchmark("suggestions", results=tmp_path / "results", work=tmp_path / "work")
    with Progress() as progress:
        return suggestions.Study(benchmark, tmp_path, "httpx", progress, checkpoint="tuned", variant="")


def test_the_newest_model_is_asked_with_the_examples_that_it_learned_from(tmp_path: Path) -> None:
    for number in range(3):
        examples = made(tmp_path / "httpx" / f"read-{number}" / "examples", "examples", str(number))
        model = tmp_path / "httpx" / f"code-{number}" / "models" / "tuned"
        made(model, "checkpoint", "", examples=examples)
        os.utime(model, (0, (100, 300, 200)[number]))
    # One whose training was killed.
    (tmp_path / "httpx" / "code-3" / "models" / "tuned").mkdir(parents=True)
    found = study(tmp_path)
    assert found.checkpoint == tmp_path / "httpx" / "code-1" / "models" / "tuned"
    assert found.examples == tmp_path / "httpx" / "read-1" / "examples"


def test_a_result_names_the_weights_that_it_is_of(tmp_path: Path) -> None:
    made(tmp_path / "httpx" / "code-0" / "models" / "tuned", "checkpoint", "old")
    older = suggestions.weights_of([study(tmp_path)])
    newer = made(tmp_path / "httpx" / "code-1" / "models" / "tuned", "checkpoint", "new")
    os.utime(tmp_path / "httpx" / "code-0" / "models" / "tuned", (0, 0))
    assert suggestions.weights_of([study(tmp_path)]) == {"httpx": newer} != older


def test_a_model_that_is_not_there_or_whose_examples_are_gone_is_told(tmp_path: Path) -> None:
    found = study(tmp_path)
    with pytest.raises(InputError, match="there is no model `tuned`"):
        found.checkpoint  # noqa: B018
    made(tmp_path / "httpx" / "code-0" / "models" / "tuned", "checkpoint", "", examples="another hash")
    made(tmp_path / "httpx" / "read-0" / "examples", "examples", "")
    with pytest.raises(InputError, match="is what .* learned from"):
        found.examples  # noqa: B018
