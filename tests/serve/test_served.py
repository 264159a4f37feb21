"""What the repository calls a file that a client names in its own way."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from apprentice.core.fakes import ScriptedGenerator
from apprentice.engine.engine import Engine
from apprentice.serve.served import ServedModel

PATHS = frozenset(["conftest.py", "tests/serve/conftest.py", "tests/learn/conftest.py", "src/serve/app.py", "src/deep/only.py", "a/twice/same.py", "b/twice/same.py"])


@pytest.mark.parametrize(
    ("said", "recognized", "expected"),
    [
        ("conftest.py", "", "conftest.py"),
        ("/home/me/project/conftest.py", "", "conftest.py"),
        # Continue says the last two parts: not the file of that name at the root.
        ("serve/conftest.py", "", "tests/serve/conftest.py"),
        ("serve/conftest.py", "conftest.py", "conftest.py"),
        ("deep/only.py", "", "src/deep/only.py"),
        # A new file at the root.
        ("only.py", "", "only.py"),
        ("only.py", "src/deep/only.py", "src/deep/only.py"),
        ("twice/same.py", "", "twice/same.py"),
        ("twice/same.py", "b/twice/same.py", "b/twice/same.py"),
        ("project/src/serve/app.py", "", "src/serve/app.py"),
        # One of several is told by its lines.
        ("conftest.py", "tests/learn/conftest.py", "tests/learn/conftest.py"),
        ("conftest.py", "src/serve/app.py", "conftest.py"),
        ("other/conftest.py", "src/serve/app.py", "src/serve/app.py"),
        ("new.py", "", "new.py"),
        ("", "", "untitled"),
    ],
)
def test_a_file_is_found_by_what_is_said_of_it(engine: Engine, said: str, recognized: str, expected: str) -> None:
    def find_path(lines: Sequence[str]) -> str:
        return recognized

    generator = ScriptedGenerator(engine.tokenizer, lambda request: "")
    model = ServedModel(name="m", generator=generator, tokenizer=engine.tokenizer, max_positions=64, paths=PATHS, find_path=find_path)
    assert model.path_of(said, ["x = 1"]) == expected
    assert model.path_of(said.replace("/", "\\"), ["x = 1"]) == expected
