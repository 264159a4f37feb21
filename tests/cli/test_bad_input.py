"""What a user can mend ends with exit code 2, `error:` and `hint:`, nothing on stdout and nothing half-made."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def refused(done: Any, *words: str) -> None:
    assert (done.code, done.out) == (2, ""), done.err
    # Progress may stand in front.
    message = done.err[done.err.index("error: ") :]
    assert "\n\nhint: " in message, message
    for word in words:
        assert word in message, message


@pytest.fixture
def learn(apprentice: Any, debug_base: Path, tmp_path: Path) -> Callable[..., Any]:
    """Tries to learn from a path."""

    def try_it(path: Path, *words: object) -> Any:
        return apprentice("learn", "--repo", path, "--base", debug_base, "--steps", 2, "--out", tmp_path / "runs", *words)

    return try_it


def test_an_empty_repository(learn: Any, new_repository: Any) -> None:
    refused(learn(new_repository("empty").path), "empty", "no commits")


def test_a_shallow_clone(learn: Any, repository: Path, tmp_path: Path) -> None:
    clone = tmp_path / "shallow"
    subprocess.run(
        ["git", "-c", "protocol.file.allow=always", "clone", "-q", "--depth", "2", f"file://{repository}", clone],
        check=True, capture_output=True,
    )  # fmt: skip
    refused(learn(clone), "shallow clone", "fetch --unshallow`")


def test_a_file_instead_of_a_folder(learn: Any, tmp_path: Path) -> None:
    file = tmp_path / "file.txt"
    file.write_text("text")
    refused(learn(file), str(file))


def test_a_folder_that_is_not_there_with_an_escape_in_its_name(learn: Any, tmp_path: Path, harmless: Any) -> None:
    done = learn(tmp_path / "gone\x1b[31m")
    refused(done, "gone")
    harmless(done.err)


def test_a_repository_that_may_not_be_read(learn: Any, new_repository: Any) -> None:
    made = new_repository("locked")
    made.commit("Begin", a_py="x = 1\n")
    made.path.chmod(0)
    if os.access(made.path, os.R_OK):
        pytest.skip("this user may read everything")
    try:
        refused(learn(made.path), "locked")
    finally:
        made.path.chmod(0o755)


def test_a_folder_that_may_not_be_written(apprentice: Any, repository: Path, debug_base: Path, tmp_path: Path) -> None:
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o555)
    if os.access(folder, os.W_OK):
        pytest.skip("this user may write everywhere")
    refused(apprentice("learn", "--repo", repository, "--base", debug_base, "--out", folder / "runs"), "locked")


def test_a_file_where_the_runs_should_be(apprentice: Any, repository: Path, debug_base: Path, tmp_path: Path) -> None:
    file = tmp_path / "runs"
    file.write_text("text")
    refused(apprentice("learn", "--repo", repository, "--base", debug_base, "--out", file), str(file))
    assert file.read_text() == "text"


def test_too_little_history_to_learn_from(learn: Any, new_repository: Any) -> None:
    made = new_repository("young")
    made.commit("Begin", a_py="x = 1\n")
    refused(learn(made.path), "too few")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--budjet", "10m"), "did you mean `--budget`?"),
        (("--budget", "soon"), "`soon` is no budget of time"),
        (("--budget", "3s"), "too short"),
        (("--weights", "all"), "`all`"),
        (("--steps", "0"), "`--steps` must be 1 or more"),
        (("--steps", "many"), "`many`"),
        (("--seed", "-1"), "below 0"),
        (("--base", "no such base"), "`no such base`"),
    ],
)
def test_options_that_cannot_be_meant(apprentice: Any, repository: Path, tmp_path: Path, words: Any, said: str) -> None:
    refused(apprentice("learn", "--repo", repository, "--out", tmp_path / "runs", *words), said)
    assert not list(tmp_path.rglob("result.json"))


@pytest.mark.parametrize("command", [("chat", "Hello"), ("serve", "--port", "0"), ("complete", f"{__file__}:1")])
def test_nothing_was_learned_yet(apprentice: Any, tmp_path: Path, command: Any) -> None:
    refused(apprentice(*command, "--out", tmp_path), "nothing was learned yet", "`apprentice learn`")


@pytest.mark.parametrize("command", [("show",), ("sessions", "show"), ("examples", "show"), ("sessions", "export", "--to", "x")])
def test_an_artifact_that_is_not_there(apprentice: Any, tmp_path: Path, command: Any) -> None:
    refused(apprentice(*command, tmp_path / "nowhere"), "nowhere")


def test_the_model_of_a_run_that_is_gone(apprentice: Any, learned: Any, tmp_path: Path) -> None:
    shutil.copy(learned.out / "current.json", tmp_path / "current.json")
    refused(apprentice("chat", "Hello", "--out", tmp_path), "0001")


@pytest.mark.parametrize("broken", ['{"run": ', "[]", "{}", '{"run": "../../etc"}'])
def test_a_file_of_the_current_model_that_is_none(apprentice: Any, tmp_path: Path, broken: str) -> None:
    (tmp_path / "current.json").write_text(broken)
    refused(apprentice("chat", "Hello", "--out", tmp_path), "current.json")


def cut_short(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


def too_large_a_header(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes((1 << 62).to_bytes(8, "little") + path.read_bytes()[8:])


def unknown_architecture(folder: Path) -> None:
    change(folder, architectures=["MambaForCausalLM"], model_type="mamba")


def too_large_for_any_machine(folder: Path) -> None:
    change(folder, hidden_size=1 << 30, num_hidden_layers=1 << 20)


def no_json(folder: Path) -> None:
    (folder / "config.json").write_bytes(b"\xff\xfe{")


def change(folder: Path, **values: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


DAMAGES = [cut_short, too_large_a_header, unknown_architecture, too_large_for_any_machine, no_json]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("what", ["checkpoint", "quantized"])
def test_a_model_that_cannot_be_loaded(apprentice: Any, learned: Any, tmp_path: Path, what: str, damage: Any) -> None:
    folder = shutil.copytree(learned.run / what, tmp_path / "model")
    damage(folder)
    refused(apprentice("chat", "Hello", "--model", folder), str(folder))
    if what == "checkpoint":
        refused(apprentice("model", "quantize", folder, "--out", tmp_path / "out"), str(folder))
        assert not (tmp_path / "out" / "manifest.json").exists()


@pytest.mark.parametrize("damage", [cut_short, unknown_architecture], ids=lambda damage: damage.__name__)
def test_a_base_that_cannot_be_loaded(
    apprentice: Any, repository: Path, debug_base: Path, tmp_path: Path, damage: Any
) -> None:
    base = shutil.copytree(debug_base, tmp_path / "base")
    damage(base)
    refused(apprentice("learn", "--repo", repository, "--base", base, "--steps", 1, "--out", tmp_path / "runs"), str(base))


def test_sessions_that_are_none(apprentice: Any, debug_base: Path, tmp_path: Path) -> None:
    file = tmp_path / "sessions.jsonl.zst"
    file.write_bytes(b"no sessions")
    refused(apprentice("learn", "--sessions", file, "--base", debug_base, "--out", tmp_path / "runs"), str(file))
