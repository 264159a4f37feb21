"""A small made-up history."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from apprentice.examples.work import FileWork, Work
from apprentice.text.edits import hunks, split_lines

MakeWork = Callable[..., Work]


@pytest.fixture
def make_work() -> MakeWork:
    """make_work("c1", {"a.py": ("before", "after")}, time=1) -> Work"""

    def make(commit: str, files: dict[str, tuple[str, str]], *, time: float = 0.0, author: str = "developer",
             repository: str = "r", may_learn: bool = True) -> Work:
        changed = [
            FileWork(path, split_lines(before), hunks(path, before, after), removed=after == "")
            for path, (before, after) in files.items()
        ]
        return Work(commit=commit, time=time, author=author, files=changed, session=f"s-{commit}", repository=repository,
                    may_learn=may_learn)

    return make
