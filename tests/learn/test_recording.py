"""Which project a session in the editor is of."""

from __future__ import annotations

from pathlib import Path

import pytest

from apprentice.learn import recording
from apprentice.serve.lsp.history import Stretch
from apprentice.serve.lsp.recording import Recorder


def records(recorder: Recorder, path: Path) -> bool:
    return recorder.may_record(Stretch(path.as_uri(), path.name, 0, (), ("x",)))


@pytest.mark.parametrize("started", ["home", "other", "project", "project/src"])
def test_the_project_whose_folder_is_named_is_recorded_wherever_the_editor_was_started(tmp_path: Path, started: str) -> None:
    for name in ("project", "other"):
        (tmp_path / name / ".git").mkdir(parents=True)
    for name in ("home", "project/src"):
        (tmp_path / name).mkdir()
    recorder = recording.recorder(tmp_path / started, tmp_path / "project" / ".apprentice")
    assert records(recorder, tmp_path / "project" / "src" / "a.py")
    for name in ("home/diary.md", "other/a.py"):
        assert not records(recorder, tmp_path / name)


def test_without_a_repository_it_is_the_folder_at_hand_or_the_one_that_is_named(tmp_path: Path) -> None:
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    here, there = recording.recorder(tmp_path / "here"), recording.recorder(tmp_path / "here", tmp_path / "there" / ".apprentice")
    assert records(here, tmp_path / "here" / "a.py")
    assert not records(here, tmp_path / "there" / "a.py")
    assert records(there, tmp_path / "there" / "a.py")
    assert not records(there, tmp_path / "here" / "a.py")
