from __future__ import annotations

import pytest

from apprentice.examples.example import NEXT_EDIT, Example
from apprentice.learn.stages import memory, silence
from apprentice.text.edits import Edit


def example(commit: str, order: int) -> Example:
    return Example(
        id=f"{commit}-{order}-{NEXT_EDIT}", kind=NEXT_EDIT, prompt="", target="", spans=(), check={}, edit=Edit("a.py", 0, (), ("x",)),
        text_id="", repository="r", commit=commit, session="", time=0.0, author="", order=order,
    )  # fmt: skip


ROWS = [example(commit, order) for order, commit in enumerate("aaabbbbbbbccd")]


@pytest.mark.parametrize(("limit", "commits"), [(1, "d"), (2, "ccd"), (3, "ccd"), (4, "bbbbbbbccd"), (11, "aaabbbbbbbccd"), (99, "aaabbbbbbbccd")])
def test_the_gate_is_fitted_on_whole_commits_the_newest_first(limit: int, commits: str) -> None:
    assert "".join(row.commit for row in memory.newest(ROWS, limit)) == commits


@pytest.mark.parametrize(("limit", "count"), [(1, 1), (2, 3), (4, 7), (99, 10)])
def test_the_decision_is_fitted_on_some_edits_of_each_of_the_newest_commits(limit: int, count: int) -> None:
    chosen = silence.choose(ROWS, limit)
    assert len(chosen) == count
    assert [row.order for row in chosen] == sorted(row.order for row in chosen)
    assert chosen == silence.choose(ROWS, limit)
