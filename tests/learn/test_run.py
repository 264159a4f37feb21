from __future__ import annotations

import json
from pathlib import Path

import pytest

from apprentice.core.errors import InputError
from apprentice.learn.config import LearnConfig
from apprentice.learn.run import CURRENT, Home, asked


def test_what_an_older_version_served_is_served_still(tmp_path: Path) -> None:
    served = {"run": "runs/0001", "name": "apprentice-1", "base_hash": "b", "quantized_hash": "q", "memory_hash": "m"}
    (tmp_path / CURRENT).write_text(json.dumps({**served, "threshold": -0.5, "replaced": {**served, "threshold": None}}))
    found = Home.create(tmp_path).current()
    assert found is not None
    assert {name: found[name] for name in served} == served


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "project" / "src").mkdir(parents=True)
    with pytest.raises(InputError, match="holds files that Apprentice did not make"):
        Home.create(tmp_path / "project")
    assert [path.name for path in (tmp_path / "project").iterdir()] == ["src"]
    made = Home.create(tmp_path / "made")
    assert made.folder.stat().st_mode & 0o777 == 0o700
    # Interrupted before anything else was written, and later.
    for name in ("", "runs/0001", "runs/0001-good", "runs/notes"):
        (made.folder / name).mkdir(parents=True, exist_ok=True)
        assert Home.create(made.folder) == made
    # A copy of a run is none.
    assert [path.name for path in made.runs()] == ["0001"]
    assert made.new_run().name == "0002"


def test_a_choice_that_was_not_made_is_not_in_what_a_run_was_asked() -> None:
    assert not {"learn_from", "recipe"} & set(asked(LearnConfig()))
    assert asked(LearnConfig(recipe=("silence=0.1",)))["recipe"] == ["silence=0.1"]
    assert asked(LearnConfig())["seed"] == 0
