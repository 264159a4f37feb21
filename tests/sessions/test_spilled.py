"""A long session's events, in a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from apprentice.core.errors import StorageError
from apprentice.sessions.events import Author, Prompt, Provenance
from apprentice.sessions.spilled import Events


def _prompt(number: int) -> Prompt:
    return Prompt(
        id=f"s/{number}", session_id="s", time=float(number), author=Author(kind="developer"), provenance=Provenance(source="git", file="f"),
        text="é" * 100,
    )  # fmt: skip


def test_few_events_stay_a_tuple() -> None:
    events = Events()
    events.append(_prompt(0))
    assert events.settled() == (_prompt(0),)


def test_many_events_come_back_from_the_file_as_they_were_and_as_often_as_they_are_read() -> None:
    events = Events(in_memory_bytes=1000)
    given = [_prompt(number) for number in range(50)]
    for event in given:
        events.append(event)
    settled = events.settled()
    assert settled is events
    assert list(settled) == given
    assert list(settled) == given
    assert (len(settled), settled[0], settled[-1], settled[20], list(settled[3:5])) == (50, given[0], given[49], given[20], given[3:5])
    with pytest.raises(IndexError):
        settled[50]


def test_a_folder_that_cannot_hold_them_is_named(tmp_path: Path) -> None:
    events = Events(in_memory_bytes=10, folder=tmp_path / "nowhere")
    with pytest.raises(StorageError, match="nowhere"):
        events.append(_prompt(0))
