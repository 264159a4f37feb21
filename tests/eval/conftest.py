"""A made-up history of one repository, its examples, and a memory that writes down what it is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from apprentice.core.fakes import ByteTokenizer
from apprentice.examples.build import Built, ExamplesConfig, build
from apprentice.examples.work import FileWork, Work
from apprentice.text.edits import Edit, hunks, split_lines

REPOSITORY = "r"


@pytest.fixture
def works() -> list[Work]:
    """20 commits, each changing two places of one file: the first in part, the second by adding lines."""
    made: list[Work] = []
    text = "".join(f"line_{i} = alpha_{i} + beta_{i * i}\n\n\n\n" for i in range(20))
    for i in range(20):
        now = text.replace(f"alpha_{i} +", f"gamma_{i} * delta_{i * 7} -") + f"\ndef f_{i}(a_{i * 3}):\n    pass\n"
        changed = [FileWork("m.py", split_lines(text), hunks("m.py", text, now))]
        made.append(Work(commit=f"c{i:02}", time=float(i), author="developer", files=changed, repository=REPOSITORY))
        text = now
    return made


@pytest.fixture
def built(works: list[Work]) -> Built:
    found = build(works, ByteTokenizer(), ExamplesConfig(near_duplicate=1.0))
    assert len(found.commits["test"]) == 4
    return found


class RecordingMemory:
    """Its mixture gives every token `log_prob`. `told` is what it was told, `asked` with what it knew when asked."""

    def __init__(self, log_prob: float = -0.5) -> None:
        self.told: list[tuple[str, Any]] = []
        self.asked: list[tuple[dict[str, Any], int]] = []
        self._log_prob = log_prob

    def set_files(self, texts: Mapping[str, str]) -> None:
        self.told += [("set", (path, text)) for path, text in texts.items()]

    def remove_file(self, path: str) -> None:
        self.told.append(("remove", path))

    def add_edit(self, edit: Edit, provenance: dict[str, Any]) -> None:
        self.told.append(("edit", (edit, provenance)))

    def mixture(self, **asked: Any) -> _Flat:
        self.asked.append((asked, len(self.told)))
        return _Flat(self._log_prob)

    def copy(self) -> RecordingMemory:
        """What is asked of a copy is written down in the original, what is told to the original not in the copy."""
        twin = RecordingMemory(self._log_prob)
        twin.told, twin.asked = list(self.told), self.asked
        return twin


class _Flat:
    def __init__(self, log_prob: float) -> None:
        self._log_prob = log_prob
        self.advanced: list[int] = []

    def mix(self, log_probs_V: np.ndarray) -> np.ndarray:
        return np.full_like(log_probs_V, self._log_prob)

    def advance(self, token_id: int) -> None:
        self.advanced.append(token_id)

    def draft(self, max_tokens: int) -> Sequence[int]:
        return []


@pytest.fixture
def memory() -> RecordingMemory:
    return RecordingMemory()
