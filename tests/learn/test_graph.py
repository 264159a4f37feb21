"""The story: a repository's history in, a private 4-bit model out, which completes and is measured."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from apprentice.core import artifacts
from apprentice.core.errors import InputError
from apprentice.core.progress import Silent
from apprentice.examples import conversation_store
from apprentice.examples import store as examples_store
from apprentice.learn import graph, loading
from apprentice.learn.config import LearnConfig
from apprentice.learn.current import Current
from apprentice.learn.run import Home, Run
from apprentice.learn.stages import conversations, quantize
from apprentice.model import weights
from apprentice.repository.prompt import Place
from apprentice.serve import silence as decision
from apprentice.text.tokenizer import Tokenizer


class Notes(Silent):
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, message: str) -> None:
        self.notes.append(message)


class Counts(Silent):
    """Remembers how far each stage came of what it announced."""

    def __init__(self) -> None:
        self.stages: dict[str, list[int | None]] = {}

    def stage(self, name: str, total: int | None = None, unit: str = "") -> None:
        self._now = self.stages[name] = [0, total]

    def advance(self, amount: int = 1, detail: str = "") -> None:
        self._now[0] = (self._now[0] or 0) + amount


ARTIFACTS = ("examples", "checkpoint", "quantized", "memory", "silence", "evaluation")


@pytest.fixture
def config(history: Path, debug_base: Path) -> LearnConfig:
    """A run in which no clock decides anything."""
    return LearnConfig(repositories=(history,), base=str(debug_base), steps=24, eval_commits=2)


def test_the_loop_runs_resumes_and_serves(config: LearnConfig, history: Path, tmp_path: Path) -> None:
    out = tmp_path / "runs"
    counts = Counts()
    learned = graph.learn(config, tmp_path, out, counts)
    result = learned.result
    run = Home(out).runs()[0]
    assert [(name, count, total) for name, (count, total) in counts.stages.items() if total is not None and count != total] == []
    assert not any(artifacts.verify(run / name) for name in ARTIFACTS)
    assert set(result["changed_bits_per_char"]) >= {"window", "base", "base_memory", "tuned", "tuned_memory", "quantized_memory"}
    assert {"base-window", "base_memory-base", "tuned-base", "tuned_memory-base_memory", "tuned_memory-base"} <= set(result["differences"])
    assert result["learned_tokens"]["developer"] > 0
    assert result["learned_tokens"]["assistant"] == 0
    assert not (run / "conversations").exists()
    assert set(artifacts.read(run / "checkpoint").parents) == {"base", "examples", "answers"}
    assert result["silence"]["requests"] > result["silence"]["silent"] > 0
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    page = learned.report.read_text(encoding="utf-8")
    assert "<script" not in page
    assert "tuned_memory" in page

    again = graph.learn(config, tmp_path, out, Silent())
    assert again.nothing_new
    assert again.result == result
    assert len(Home(out).runs()) == 1

    loaded = loading.load(None, out)
    lines = (history / "module_0.py").read_text().split("\n")
    suggestion = loaded.suggester().line(Place("module_0.py", lines, 3, 4), "    total", why=True)
    assert suggestion.new[0].startswith("    total")
    assert 0 <= suggestion.confidence <= 1


def test_a_finished_run_says_by_what_each_of_its_artifacts_was_made() -> None:
    """Else it would be found finished when one of them is made otherwise; the weights go stale with what they are served as."""
    assert set(ARTIFACTS) - {"checkpoint"} <= set(graph.VERSIONS)
    assert graph.VERSIONS["silence"] == decision.VERSION


def test_new_commits_make_a_new_run_that_competes_with_the_served_model(
    config: LearnConfig, history: Path, tmp_path: Path
) -> None:
    out = tmp_path / "runs"
    graph.learn(config, tmp_path, out, Silent())
    for number in range(6):
        path = history / "module_1.py"
        path.write_text(path.read_text() + f"\n\ndef later_{number}(value):\n    return value - {number}\n")
        _commit(history, f"Later {number}")
    second = graph.learn(config, tmp_path, out, Silent())
    assert not second.nothing_new
    assert "current_memory" in second.result["changed_bits_per_char"]
    assert [path.name for path in Home(out).runs()] == ["0001", "0002"]
    served = Home(out).current()
    assert served is not None
    assert served["run"] in ("runs/0001", "runs/0002")
    # Whichever won: it is served with what is known now.
    current = Current.load(Home(out))
    assert current.memory == out / "runs" / "0002" / "memory"
    assert current.memory_hash == artifacts.read(current.memory).hash
    assert loading.load(None, out).fingerprint == current.fingerprint


def test_a_model_of_another_base_is_compared_too(config: LearnConfig, history: Path, tmp_path: Path) -> None:
    out, other = tmp_path / "runs", tmp_path / "other"
    graph.learn(config, tmp_path, out, Silent())
    base = Path(config.base)
    model = weights.load(base)
    with torch.no_grad():
        model.norm.weight.mul_(1.01)
    weights.save(model, other, tokenizer_folder=base)
    second = graph.learn(replace(config, base=str(other)), tmp_path, out, Silent())
    assert "current_memory" in second.result["changed_bits_per_char"]


def test_a_served_run_that_is_gone_is_replaced(config: LearnConfig, history: Path, tmp_path: Path) -> None:
    out, notes = tmp_path / "runs", Notes()
    graph.learn(config, tmp_path, out, Silent())
    shutil.rmtree(out / "runs" / "0001" / "quantized")
    second = graph.learn(replace(config, seed=1), tmp_path, out, notes)
    assert "current_memory" not in second.result["changed_bits_per_char"]
    assert any("cannot be compared" in note for note in notes.notes)
    assert Current.load(Home(out)).run.name == "0002"


def test_what_is_new_since_an_interruption_has_all_the_time(config: LearnConfig, history: Path, tmp_path: Path) -> None:
    out = tmp_path / "runs"
    graph.learn(config, tmp_path, out, Silent())
    run = out / "runs" / "0001"
    (run / "result.json").unlink()
    (out / "current.json").unlink()
    (run / "clock.jsonl").write_text('{"stage": "train", "seconds": 590}\n')
    graph.learn(config, tmp_path, out, Silent())
    assert "590" in (run / "clock.jsonl").read_text()
    (run / "result.json").unlink()
    (out / "current.json").unlink()
    _commit(history, "Empty", "--allow-empty")
    (history / "module_1.py").write_text((history / "module_1.py").read_text() + "\n\ndef new(value):\n    return value\n")
    _commit(history, "New")
    graph.learn(config, tmp_path, out, Silent())
    assert [path.name for path in Home(out).runs()] == ["0001"]
    assert "590" not in (run / "clock.jsonl").read_text()


def test_the_memory_that_is_served_is_of_the_repository_named_first(
    config: LearnConfig, history: Path, new_repository: Callable[..., Any], tmp_path: Path
) -> None:
    mine = new_repository("mine")
    mine.commit("one", mine_py="mine = 1\n")
    mine.commit("two", mine_py="mine = 2\n")
    graph.learn(replace(config, repositories=(mine.path, history)), tmp_path, tmp_path / "runs", Silent())
    memory = loading.load(None, tmp_path / "runs").memory
    assert memory is not None
    assert set(memory.paths) == {"mine.py"}


def test_time_that_training_leaves_goes_into_four_bits(config: LearnConfig, history: Path, tmp_path: Path) -> None:
    out = tmp_path / "runs"
    graph.learn(config, tmp_path, out, Silent())
    folder = Home(out).runs()[0]
    for budget_s, seconds in ((600.0, None), (3600.0, 1800.0), (1500.0, 600.0)):
        (folder / "decisions.json").unlink(missing_ok=True)
        (folder / "clock.jsonl").write_text("")
        run = Run(Home(out), folder, replace(config, steps=None, eval_commits=None, budget_s=budget_s), Silent())
        found = quantize.in_spare_time(run, folder / "checkpoint")
        # Half of the budget is for what comes behind.
        assert (found and found.seconds) == (seconds and pytest.approx(seconds, rel=0.3))
    # Where steps are given no clock decides.
    assert quantize.in_spare_time(Run(Home(out), folder, config, Silent()), folder / "checkpoint") is None


@pytest.mark.parametrize(
    ("all_of_it", "of_weights", "said"),
    [
        ([-0.2, -0.3, -0.1], [-0.05, -0.08, -0.01], "It learned: memory and weights"),
        ([-0.2, -0.3, -0.1], [-0.01, -0.03, 0.02], "The memory predicts newer edits better than the base alone"),
        ([-0.2, -0.3, -0.1], [-0.01, -0.03, 0.02], "what training adds to it is no clear difference, -0.010"),
        ([-0.2, -0.3, -0.1], [0.03, 0.01, 0.05], "what training adds to it is a loss, +0.030"),
        ([-0.2, -0.3, -0.1], None, "what training adds to it cannot be seen"),
        ([0.2, 0.1, 0.3], [0.1, 0.05, 0.2], "It got worse"),
        ([-0.2, -0.5, 0.1], [-0.1, -0.2, -0.01], "No clear difference"),
        (None, None, "Too little was evaluated"),
    ],
)
def test_a_run_has_learned_where_its_weights_have(all_of_it: Any, of_weights: Any, said: str) -> None:
    differences = {"tuned_memory-base": all_of_it, "tuned_memory-base_memory": of_weights}
    summary = {"differences": {name: value for name, value in differences.items() if value}, "heldout": {"commits": 90}}
    verdict = graph.Verdict(replaces=True, why="It replaces the model served so far.")
    claim = graph._claim(summary, verdict, may_claim=True)
    assert said in claim
    # Where the run said at its start that it can claim nothing, it claims nothing.
    assert said not in graph._claim(summary, verdict, may_claim=False) or all_of_it is None
    assert claim.endswith("It replaces the model served so far.") == (all_of_it is not None)


def test_two_runs_with_steps_leave_equal_artifacts(config: LearnConfig, history: Path, tmp_path: Path) -> None:
    hashes = []
    for name in ("one", "two"):
        graph.learn(config, tmp_path, tmp_path / name, Silent())
        run = Home(tmp_path / name).runs()[0]
        hashes.append({artifact: artifacts.read(run / artifact).hash for artifact in ARTIFACTS})
    assert hashes[0] == hashes[1]


def test_a_killed_run_goes_on_and_ends_in_the_same_artifacts(config: LearnConfig, history: Path, tmp_path: Path) -> None:
    graph.learn(config, tmp_path, tmp_path / "whole", Silent())
    whole = Home(tmp_path / "whole").runs()[0]
    out = tmp_path / "killed"
    command = [sys.executable, "-m", "apprentice", "learn", "--repo", str(history), "--base", config.base, "--steps", "24",
               "--eval-commits", "2", "--out", str(out)]  # fmt: skip
    for marker in ("examples/manifest.json", "checkpoint/unfinished.json", "evaluation/working.jsonl"):
        process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and not list(out.glob(f"runs/*/{marker}")):
            time.sleep(0.002)
        process.kill()
        process.wait()
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    assert len(Home(out).runs()) == 1
    killed = Home(out).runs()[0]
    for name in ARTIFACTS:
        assert artifacts.read(killed / name).hash == artifacts.read(whole / name).hash, name


def test_no_secret_of_the_history_is_anywhere_in_the_run(
    config: LearnConfig, history: Path, tmp_path: Path, secret: str
) -> None:
    out = tmp_path / "runs"
    graph.learn(config, tmp_path, out, Silent())
    assert secret in subprocess.run(["git", "-C", history, "log", "-p"], capture_output=True, text=True, check=True).stdout
    found = [path for path in out.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]
    assert found == []
    memory = loading.load(None, out).memory
    assert memory is not None
    texts = [memory.tokenizer.decode(document.tokens.tolist()) for index in (memory.edits, memory.repository)
             for document in index.documents.values()]  # fmt: skip
    assert texts
    assert not any(secret in text for text in texts)


def test_an_empty_folder_without_a_bundled_history_is_an_error_with_a_fix(tmp_path: Path, debug_base: Path) -> None:
    wrong = LearnConfig(repositories=(tmp_path / "nothing",), base=str(debug_base))
    with pytest.raises(InputError) as caught:
        graph.learn(wrong, tmp_path, tmp_path / "runs", Silent())
    assert str(tmp_path / "nothing") in caught.value.message
    assert caught.value.hint


def _commit(repository: Path, message: str, *more: str) -> None:
    options = ["-c", "user.name=Ada Lovelace", "-c", "user.email=ada@analytical.example"]
    subprocess.run(["git", *options, "-C", repository, "commit", "-q", "-a", *more, "-m", message], check=True, capture_output=True)


def _talk(path: Path, repository: Path) -> Path:
    """A session of Claude Code, older than every commit: an edit that a run of the tests made right, and words around it."""
    said: list[dict[str, object]] = [
        {"role": "user", "content": "Count the characters of the value in module 0"},
        {"role": "assistant", "id": "m1", "model": "claude-1", "content": [
            {"type": "text", "text": "I will change it."},
            {"type": "tool_use", "id": "t1", "name": "Edit", "input": {
                "file_path": f"{repository}/other.py", "old_string": "    total = size(value)", "new_string": "    total = len(value)"}},
        ]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "done"}]},
        {"role": "assistant", "id": "m2", "model": "claude-1", "content": [{"type": "text", "text": "It counts them now."}]},
    ]  # fmt: skip
    lines = [
        {"type": message["role"], "uuid": f"u{n}", "parentUuid": f"u{n - 1}" if n else None, "sessionId": "s1", "cwd": str(repository),
         "timestamp": f"2020-01-01T00:00:0{n}Z", "version": "2.0.0", "message": message}
        for n, message in enumerate(said)
    ]  # fmt: skip
    path.mkdir()
    (path / "s1.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_talks_are_learned_from_as_the_policy_says_and_silent_places_as_the_recipe_does(config: LearnConfig, history: Path, tmp_path: Path) -> None:
    talks = _talk(tmp_path / "talks", history)
    learned = {}
    for name, allowed, recipe in (("people", (), ()), ("claude", ("developer", "assistant:claude"), ("silence=0.2",))):
        out = tmp_path / name
        asked = replace(config, sessions=(talks,), learn_from=allowed, recipe=recipe)
        learned[name] = graph.learn(asked, tmp_path, out, Silent()).result["learned_tokens"]
        run = Home(out).runs()[0]
        checkpoint, besides = artifacts.read(run / "checkpoint"), {"silent_places"} if recipe else set()
        assert set(checkpoint.parents) == {"base", "examples", "answers", "conversations"} | besides
        assert checkpoint.config["sft"].get("silence") == (0.2 if recipe else None)
        rows = list(conversation_store.read(run / "conversations", "train"))
        assert {row.source for row in rows} == {"claude_code"}
        assert {row.kind for row in rows} == ({"intent", "refactoring", "turn"} if allowed else {"intent"})
        held_out = {commit for split, of in examples_store.read_commits(run / "examples").items() if split != "train" for commit in of}
        silent = list(examples_store.read(run / "silent_places", "train")) if recipe else []
        assert len(silent) >= 20 * len(recipe)
        assert not held_out & {row.commit for row in silent}
    assert learned["people"]["assistant"] == 0
    assert learned["claude"]["assistant"] > 0
    assert learned["people"]["developer"] > 0


def test_conversations_of_commits_are_learned_from_where_that_is_asked_for(config: LearnConfig, history: Path, tmp_path: Path) -> None:
    out, talks = tmp_path / "runs", _talk(tmp_path / "talks", history)
    learned = graph.learn(replace(config, sessions=(talks,), commit_conversations=True), tmp_path, out, Silent())
    run = Home(out).runs()[0]
    rows = list(conversation_store.read(run / "conversations", "train"))
    assert {"git", "claude_code"} == {row.source for row in rows}
    assert learned.result["learned_tokens"]["developer"] > 0
    # Where there is no room for all, it is those of commits that are left out.
    tokenizer = Tokenizer.load(run / "checkpoint")
    assert [bool(row.commit) for row, _ in conversations.to_learn(run / "conversations", tokenizer, Silent())] == sorted(
        (bool(row.commit) for row in rows), reverse=True
    )
