"""How long does a suggestion take at the keystroke, and what does a server give to several clients at once?

    benchmarks/run serving --model FOLDER [--cells 'clients-*']      a quantized folder, such as .apprentice/runs/0001/quantized

`typing`: a developer types lines of a file of 40 kB; after every third character the editor asks for the rest of the line
with the whole file around the cursor, at most 24 tokens, and the clock runs from the request to the whole answer. The
server shows its model about 320 tokens above and 180 below, without latest edits. The first request at a place has little in
common with the one before it: `first` counts those, `typing` the others.
`context`: prompts of 1,000 random tokens, the last four of them new in each request, and 24 tokens that a limit ends.
`half-billion`: the same as `context` with random weights in the shape of Qwen2.5-Coder-0.5B, in NVFP4.
`clients-N`: N clients that each send one chat after another and read all of it; tokens of all replies a second, and the
time to a reply's first piece.

Everything goes through HTTP to a server in a process of its own; only the reading client computes beside it.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import fnmatch
import http.client
import inspect
import json
import random
import statistics
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from apprentice.core import files
from apprentice.model import base, presets, tensor_files
from apprentice.model.config import parameter_shapes, to_hugging_face
from apprentice.model.tensor_files import to_bfloat16
from apprentice.quantize.convert import QuantizeConfig, convert
from apprentice.text.tokenizer import Tokenizer
from benchmarks.harness import Benchmark, Row

CLIENTS = (1, 2, 4, 8, 16)
PLACES, TYPED_EVERY, NEW_TOKENS = 12, 3, 24
CONTEXT, CONTEXT_REQUESTS = 1000, 60
CHATS, CHAT_TOKENS = 4, 64
TOPICS = ("a queue", "a binary heap", "an LRU cache", "a trie", "a rate limiter", "a CSV reader", "a matrix", "a tokenizer")
SERVER = ("apprentice.cli.main", "apprentice.cli.serve", "apprentice.learn.loading", "apprentice.serve.server", "apprentice.serve.app")
"""What a server imports, by itself or when it is asked."""


@contextlib.contextmanager
def running(model: Path) -> Iterator[str]:
    """The URL of a server that has answered once."""
    command = [sys.executable, "-m", "apprentice", "serve", "--model", str(model), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            line = ""
            while "http://" not in line and process.poll() is None:
                line = process.stderr.readline()
            url = line.rsplit(" ", 1)[-1].strip()
            Client(url).ask("GET", "/models")
            yield url
        finally:
            process.terminate()


class Client:
    """One connection that stays open, as an editor's does."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        self._connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=600)
        self._path = parts.path

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        return json.loads(self._send(method, path, body).read())

    def stream(self, path: str, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        for line in self._send("POST", path, {**body, "stream": True}):
            data = line.decode().removeprefix("data: ").strip()
            if data and data != "[DONE]":
                yield json.loads(data)

    def _send(self, method: str, path: str, body: dict[str, Any] | None) -> http.client.HTTPResponse:
        data = None if body is None else json.dumps(body)
        self._connection.request(method, self._path + path, data, {"content-type": "application/json"})
        answer = self._connection.getresponse()
        assert answer.status == 200, answer.read()
        return answer


def typing(client: Client, name: str) -> tuple[list[Row], dict[str, Any]]:
    """Requests while lines are typed at several places of a file of Python's library."""
    lines = inspect.getsource(textwrap).splitlines(keepends=True) + inspect.getsource(argparse).splitlines(keepends=True)
    lines = lines[:1000]
    chosen = [i for i, line in enumerate(lines) if i > 60 and len(line.strip()) > 30 and not line.lstrip().startswith(("#", '"'))]
    places = random.Random(0).sample(chosen, PLACES)
    first: list[float] = []
    later: list[float] = []
    tokens: list[int] = []
    for place in places:
        above, line, below = "".join(lines[:place]), lines[place].rstrip("\n"), "".join(lines[place + 1 :])
        start = len(line) - len(line.lstrip())
        for at in range(start, len(line), TYPED_EVERY):
            body = {
                "model": name, "prompt": above + line[:at], "suffix": "\n" + below, "path": "library/module.py",
                "max_tokens": NEW_TOKENS, "temperature": 0, "stop": ["\n"],
            }  # fmt: skip
            seconds, answer = timed(lambda body=body: client.ask("POST", "/completions", body))
            (first if at == start else later).append(seconds)
            tokens.append(answer["usage"]["completion_tokens"])
    rows = [*spread("first", first), *spread("typing", later), Row("typing", "tokens_per_reply", statistics.mean(tokens))]
    return rows, {"first_s": first, "typing_s": later, "tokens": tokens, "python": sys.version.split()[0]}


def context(client: Client, name: str) -> tuple[list[Row], dict[str, Any]]:
    """Random prompts, of which all but the end is known from the request before."""
    chance = random.Random(0)
    prompt = [chance.randrange(100, 40000) for _ in range(CONTEXT)]
    took: list[float] = []
    tokens: list[int] = []
    for _ in range(CONTEXT_REQUESTS + 1):
        prompt[-4:] = [chance.randrange(100, 40000) for _ in range(4)]
        body = {"model": name, "prompt": prompt, "max_tokens": NEW_TOKENS, "temperature": 0}
        seconds, answer = timed(lambda body=body: client.ask("POST", "/completions", body))
        took.append(seconds)
        tokens.append(answer["usage"]["completion_tokens"])
    rows = [*spread("context", took[1:]), Row("context", "tokens_per_reply", statistics.mean(tokens[1:]))]
    return rows, {"seconds": took, "tokens": tokens}


def half_billion(work: Path) -> tuple[list[Row], dict[str, Any]]:
    """`context` for a model four times as large, whose weights say nothing."""
    folder = work / "half-billion"
    if not (folder / "config.json").is_file():
        shape = presets.known_bases()["Qwen/Qwen2.5-Coder-0.5B"]
        plain, chance = files.make_folder(work / "half-billion-plain"), np.random.default_rng(0)
        shapes = parameter_shapes(shape)
        arrays = (to_bfloat16((0.02 * chance.standard_normal(size)).astype(np.float32)) for size in shapes.values())
        tensor_files.write(plain / "model.safetensors", {name: ("BF16", size) for name, size in shapes.items()}, arrays)
        files.write_json(plain / "config.json", to_hugging_face(shape))
        Tokenizer.load(base.resolve(None)).save(plain)
        convert(plain, folder, QuantizeConfig(search=False))
    with running(folder) as url:
        client = Client(url)
        rows, details = context(client, client.ask("GET", "/models")["data"][0]["id"])
    return [dataclasses.replace(row, arm="half-billion") for row in rows], details


def clients(url: str, name: str, count: int, repeats: int) -> tuple[list[Row], dict[str, Any]]:
    """Replies of `count` clients at a time."""
    rates: list[float] = []
    firsts: list[float] = []
    for repeat in range(repeats + 1):
        waited: list[float] = []
        produced: list[int] = []
        threads = [
            threading.Thread(target=_chats, args=(Client(url), name, repeat * count + i, waited, produced))
            for i in range(count)
        ]
        start = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if repeat:
            rates.append(sum(produced) / (time.perf_counter() - start))
            firsts += waited
    arm = f"clients-{count}"
    rows = [Row(arm, "tokens_per_second", statistics.median(rates), min(rates), max(rates)), *spread(arm, firsts, "first_piece")]
    return rows, {"repeats": repeats, "rates": rates, "first_piece_s": firsts}


def _chats(client: Client, name: str, number: int, waited: list[float], produced: list[int]) -> None:
    for chat in range(CHATS):
        topic = TOPICS[(number + chat) % len(TOPICS)]
        content = f"Task {number}.{chat}: write {topic} in Python with its tests, and say what each part is for."
        body = {
            "model": name, "messages": [{"role": "user", "content": content}], "max_tokens": CHAT_TOKENS, "temperature": 0,
            "stream_options": {"include_usage": True},
        }  # fmt: skip
        start = time.perf_counter()
        first = None
        for event in client.stream("/chat/completions", body):
            if first is None and event["choices"] and event["choices"][0]["delta"].get("content"):
                first = time.perf_counter() - start
            if event.get("usage"):
                produced.append(event["usage"]["completion_tokens"])
        waited.append(first or time.perf_counter() - start)


def timed(work: Callable[[], dict[str, Any]]) -> tuple[float, dict[str, Any]]:
    start = time.perf_counter()
    answer = work()
    return time.perf_counter() - start, answer


def spread(arm: str, seconds: list[float], metric: str = "answer") -> list[Row]:
    """Median and 95th percentile, in milliseconds."""
    ms = sorted(1000 * value for value in seconds)
    return [
        Row(arm, f"{metric}_p50_ms", statistics.median(ms), ms[0], ms[-1]),
        Row(arm, f"{metric}_p95_ms", ms[min(int(0.95 * len(ms)), len(ms) - 1)]),
    ]


def main(arguments: list[str]) -> int:
    """See the top of this file."""
    parser = argparse.ArgumentParser(prog="benchmarks/run serving")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--cells", default="*")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    benchmark = Benchmark("serving")
    with running(options.model) as url:
        client = Client(url)
        name = client.ask("GET", "/models")["data"][0]["id"]
        cells: dict[str, Callable[[], tuple[list[Row], dict[str, Any]]]] = {
            "typing": lambda: typing(client, name),
            "context": lambda: context(client, name),
            "half-billion": lambda: half_billion(benchmark.work),
        }
        for count in CLIENTS:
            cells[f"clients-{count}"] = lambda count=count: clients(url, name, count, options.repeats)
        for cell, work in cells.items():
            if fnmatch.fnmatch(cell, options.cells):
                for row in benchmark.cell(cell, work, runs=SERVER)["rows"]:
                    print(json.dumps({"cell": cell, **row}) if options.json else _line(row))
    return 0


def _line(row: dict[str, Any]) -> str:
    low = "" if row["low"] is None else f" ({row['low']:.0f} to {row['high']:.0f})"
    return f"{row['arm']:12s} {row['metric']:20s} {row['value']:8.1f}{low}"
