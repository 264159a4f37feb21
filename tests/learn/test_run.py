from __future__ import annotations

import json
from pathlib import Path

from apprentice.learn.config import LearnConfig
from apprentice.learn.run import CURRENT, Home, asked


def test_what_an_older_version_served_is_served_still(tmp_path: Path) -> None:
    served = {"run": "runs/0001", "name": "apprentice-1", "base_hash": "b", "quantized_hash": "q", "memory_hash": "m"}
    (tmp_path / CURRENT).write_text(json.dumps({**served, "threshold": -0.5, "replaced": {**served, "threshold": None}}))
    found = Home.create(tmp_path).current()
    assert found is not None
    assert {name: found[name] for name in served} == served


def test_a_choice_that_was_not_made_is_not_in_what_a_run_was_asked() -> None:
    assert not {"learn_from", "recipe"} & set(asked(LearnConfig()))
    assert asked(LearnConfig(recipe=("silence=0.1",)))["recipe"] == ["silence=0.1"]
    assert asked(LearnConfig())["seed"] == 0
