"""The command itself, in a process of its own with the debug model, as an editor starts it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.serve.lsp.conftest import Buffer, Client, command, greet

WITHOUT_LEARNING = """
import sys
for name in ("torch", "pyarrow", "scipy", "transformers", "rensa", "vl_convert"):
    sys.modules[name] = None  # whoever imports it gets a ModuleNotFoundError
from apprentice.cli.main import run
sys.exit(run(sys.argv[1:]))
"""
TEXT = "def add(a, b):\n    return a\n" + "\n" * 20 + "print(add(1, 2))\n"


def words(folder: Path, *options: str) -> Sequence[str]:
    return [sys.executable, "-c", WITHOUT_LEARNING, "serve", "--lsp", "--model", str(folder), *options]


@pytest.fixture
def project(new_repository: Callable[..., Any]) -> Path:
    made = new_repository("project")
    made.commit("Begin by Ada", a_py=TEXT)
    return made.path


def end(client: Client, process: subprocess.Popen[bytes]) -> str:
    """Ends the session as editors do; what was said on stderr."""
    client.request("shutdown")
    client.notify("exit")
    assert process.wait(20) == 0
    assert process.stderr is not None
    return process.stderr.read().decode()


def test_an_editor_is_served_without_the_libraries_of_learning(make_folder: Callable[..., Path], project: Path) -> None:
    started = time.monotonic()
    with command(words(make_folder()), project) as (client, process):
        result = greet(client, project)
        # The goal is 3 s; a busy machine needs longer.
        assert time.monotonic() - started < 15
        assert result["capabilities"]["positionEncoding"] == "utf-16"
        buffer = Buffer(client, (project / "a.py").as_uri(), TEXT).open()
        for at in (TEXT.index("return a") + 8, len(TEXT)):
            answer = client.answer(buffer.ask_completion(at, kind=1))
            assert set(answer) == {"items"}
            assert isinstance(client.answer(buffer.ask_edit(at))["edits"], list)
        assert end(client, process) == ""
    assert not (project / ".apprentice").exists()


def test_a_crash_loses_the_edit_that_was_being_made_and_no_more(make_folder: Callable[..., Path], project: Path, tmp_path: Path) -> None:
    with command(words(make_folder(), "--record"), project) as (client, process):
        greet(client, project)
        buffer = Buffer(client, (project / "a.py").as_uri(), TEXT).open()
        for number in range(4):
            at = buffer.text.index("def" if number % 2 else "print")
            buffer.type(at, f"# Ada Lovelace {number}\n")
        client.wait()
        process.kill()
        process.wait()
        assert process.stderr is not None
        said = process.stderr.read().decode()
    assert said.startswith("recording edits and the outcomes of suggestions into ")
    assert [notice["params"]["type"] for notice in client.notifications] == [3]
    folder = project / ".apprentice" / "recorded"
    (file,) = folder.iterdir()
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [line["type"] for line in lines[1:]] == ["edit"] * 3
    # The author of the history is a person, whatever is typed.
    assert "Lovelace" not in file.read_text()
    assert "<person>" in file.read_text()
    assert (project / ".apprentice" / ".gitignore").read_text() == "*\n"
    # A last line that was torn does no harm.
    with file.open("ab") as stream:
        stream.write(b'{"type":"edit","id":"x')
    done = subprocess.run(
        [sys.executable, "-m", "apprentice", "sessions", "read", str(folder), "--out", str(tmp_path / "out"), "--json"],
        cwd=project, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["sources"]["editor"] == {
        "files": 1, "sessions": 1, "events": {"edit": 3}, "kept_aside": {"no event": 1}, "dropped": {},
    }  # fmt: skip


def test_recording_goes_with_the_language_server_alone() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_LEARNING, "serve", "--record"], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "`--record` goes with `--lsp`" in done.stderr


def test_an_editor_that_goes_away_ends_the_server(make_folder: Callable[..., Path], project: Path) -> None:
    with command(words(make_folder(), "--record"), project) as (client, process):
        greet(client, project)
        buffer = Buffer(client, (project / "a.py").as_uri(), TEXT).open()
        buffer.type(0, "# one")
        client.wait()
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(20) == 0
        assert process.stderr is not None
        assert process.stderr.read().decode().endswith("recorded 1 events\n")
    # What was being done is judged as it stands.
    (file,) = (project / ".apprentice" / "recorded").iterdir()
    assert json.loads(file.read_text().splitlines()[1])["hunks"][0]["new"] == ["# onedef add(a, b):"]
