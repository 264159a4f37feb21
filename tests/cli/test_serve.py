from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from apprentice.learn import loading
from apprentice.serve.served import Slot

WITHOUT_LEARNING = """
import sys
for name in ("torch", "pyarrow", "scipy", "transformers", "rensa", "vl_convert"):
    sys.modules[name] = None  # whoever imports it gets a ModuleNotFoundError
from apprentice.cli.main import run
sys.exit(run(sys.argv[1:]))
"""


@contextlib.contextmanager
def serving(out: Path, said: str = "") -> Iterator[str]:
    """Its address; `said`: what else it says until it is stopped."""
    command = [sys.executable, "-c", WITHOUT_LEARNING, "serve", "--out", str(out), "--port", "0"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        try:
            yield line.split()[-1]
        finally:
            process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        assert process.stderr.read() == said


@pytest.fixture
def served(learned: Any) -> Iterator[tuple[str, float]]:
    """(address, seconds until it answered)."""
    started = time.monotonic()
    with serving(learned.out) as url:
        yield url, time.monotonic() - started


def test_the_openai_client_streams_from_a_server_that_is_up_in_seconds(served: tuple[str, float]) -> None:
    url, seconds = served
    # The goal is 3 s; a busy machine needs longer, a server that loads torch longer still.
    assert seconds < 15
    with openai.OpenAI(base_url=url, api_key="none") as client:
        _, model = client.models.list().data
        assert model.id.startswith("apprentice-")
        stream = client.chat.completions.create(
            model=model.id, messages=[{"role": "user", "content": "Hello"}], max_tokens=8, stream=True
        )
        chunks = list(stream)
        assert len(chunks) > 1
        assert chunks[-1].choices[0].finish_reason in ("stop", "length")
        completion = client.completions.create(
            model=model.id, prompt="def name_1(value):\n    total", suffix="\n    return total\n", max_tokens=4
        )
        assert completion.usage is not None
        assert 1 <= completion.usage.completion_tokens <= 4


@pytest.mark.parametrize("words", [("chat", "Hello", "--max-tokens", "2"), ("complete", "one.py:2:8", "--why")])
def test_what_was_learned_is_used_without_the_libraries_of_learning(learned: Any, words: tuple[str, ...]) -> None:
    command = [sys.executable, "-c", WITHOUT_LEARNING, *words, "--out", str(learned.out), "--json"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=learned.repository, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_what_learn_puts_in_its_place_is_served_without_a_restart(learned: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(learned.out, out)
    current = json.loads((out / "current.json").read_text())
    shutil.copytree(out / current["run"], out / "runs" / "9999")
    newer = {**current, "run": "runs/9999", "name": "apprentice-newer", "quantized_hash": "f" * 64}
    with serving(out, "serving apprentice-newer from now on\n") as url, openai.OpenAI(base_url=url, api_key="none") as client:
        stays, before = client.models.list().data
        assert stays.id == "apprentice"
        (out / "new.json").write_text(json.dumps(newer))
        (out / "new.json").rename(out / "current.json")
        deadline = time.monotonic() + 30
        while client.models.list().data[1].id == before.id and time.monotonic() < deadline:
            time.sleep(0.2)
        for name in (before.id, "apprentice", "apprentice-newer"):
            assert client.completions.create(model=name, prompt="x", max_tokens=2).model == "apprentice-newer"


def test_a_model_that_cannot_be_loaded_does_not_take_the_place(learned: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(learned.out, out)
    current = json.loads((out / "current.json").read_text())
    slot = Slot(loading.load(None, out).served())
    said: list[str] = []
    loading.follow(slot, out, say=said.append, every_s=0.05)
    for content in ("{", json.dumps({**current, "run": "runs/7777", "quantized_hash": "f" * 64})):
        before = len(said)
        (out / "current.json").write_text(content)
        deadline = time.monotonic() + 20
        while len(said) == before and time.monotonic() < deadline:
            time.sleep(0.02)
        assert "cannot be loaded yet" in said[-1]
    assert slot.model.fingerprint == f"{current['quantized_hash']}-{current['memory_hash'][:16]}"


def test_an_editor_gets_suggestions_of_what_was_learned_with_its_memory(learned: Any) -> None:
    command = [sys.executable, "-c", WITHOUT_LEARNING, "serve", "--lsp", "--out", str(learned.out)]
    text = (learned.repository / "one.py").read_text()
    uri = (learned.repository / "one.py").as_uri()
    messages = [
        {"id": 1, "method": "initialize", "params": {"processId": None, "rootUri": learned.repository.as_uri(), "capabilities": {}}},
        {"method": "initialized", "params": {}},
        {"method": "textDocument/didOpen", "params": {"textDocument": {"uri": uri, "languageId": "python", "version": 1, "text": text}}},
        {"id": 2, "method": "textDocument/inlineCompletion", "params": {
            "textDocument": {"uri": uri}, "position": {"line": 1, "character": 9}, "context": {"triggerKind": 1}}},
        {"id": 3, "method": "textDocument/copilotInlineEdit", "params": {
            "textDocument": {"uri": uri, "version": 1}, "position": {"line": 1, "character": 9}}},
    ]  # fmt: skip
    with subprocess.Popen(
        command, cwd=learned.repository, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None

        def send(message: dict[str, Any]) -> None:
            body = json.dumps({"jsonrpc": "2.0", **message}).encode()
            process.stdin.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)
            process.stdin.flush()

        def answer() -> dict[str, Any]:
            length = int(process.stdout.readline().split(b":")[1])
            while process.stdout.readline().strip():
                pass
            return json.loads(process.stdout.read(length))

        for message in messages:
            send(message)
        answers = {message["id"]: message["result"] for message in (answer() for _ in range(3))}
        assert answers[1]["serverInfo"]["name"] == "apprentice"
        assert isinstance(answers[2]["items"], list)
        assert isinstance(answers[3]["edits"], list)
        send({"id": 4, "method": "shutdown"})
        assert answer()["result"] is None
        send({"method": "exit"})
        assert process.wait(20) == 0
        assert process.stderr is not None
        assert process.stderr.read() == b""
