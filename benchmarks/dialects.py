"""How long does a suggestion take in each dialect that editors speak, and is it answered alike?

    benchmarks/run dialects --model FOLDER      a quantized folder, such as .apprentice/runs/0001/quantized; how long an
                                                answer is, and so how long it takes, is the model's doing

Lines of a file of Python's library are typed letter by letter at four places, and each dialect asks at every letter: fill-in-the-middle
prompts as Zed and others build them, Zed's zeta2 (a region of ten lines, rewritten), Continue's with the name of the file in a comment,
llama.vim's `/infill`, `suffix`, and the two requests of the language server. The first request at a place has the whole file to
read; `warm` counts the others. The server shows everything, has no memory, and runs in a process of its own. What a cursor is answered
in a dialect that names no file must be what `suffix` is answered: `said_as_suffix` counts it.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import inspect
import json
import random
import statistics
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from apprentice.core import artifacts
from apprentice.examples.kinds.asked import Asked
from apprentice.repository.prompt import Place
from apprentice.serve.dialects import CURSOR
from benchmarks.harness import Benchmark, Row
from benchmarks.serving import SERVER
from benchmarks.suggestions import Client, text_of

FIM = {"zed, qwen": "<|fim_prefix|>{0}<|fim_suffix|>{1}<|fim_middle|>", "codellama": "<PRE> {0} <SUF>{1} <MID>", "codestral": "[SUFFIX]{1}[PREFIX]{0}"}
SEED = (
    "<[fim-suffix]>\n{below}<[fim-prefix]><filename>edit_history\n--- a/library/module.py\n+++ b/library/module.py\n@@ -1,1 +1,1 @@\n"
    "-import re\n+import regex\n<filename>library/module.py\n{above}<<<<<<< CURRENT\n{region}=======\n<[fim-middle]>"
)
PLACES, LETTERS, REGION_LINES = 4, 11, 5
COMMAND = (sys.executable, "-m", "apprentice", "serve", "--show-from", "0")


def requests(lines: Sequence[str], place: int, at: int) -> dict[str, tuple[str, dict[str, Any]]]:
    """Dialect -> path and body, for a line of which `at` characters are typed."""
    before, after = text_of(lines[:place]) + lines[place][:at], "\n" + text_of(lines[place + 1 :])
    head, _, middle = before.rpartition("\n")
    region = [*lines[place - REGION_LINES : place], lines[place][:at] + CURSOR, *lines[place + 1 : place + REGION_LINES]]
    zeta = SEED.format(above=text_of(lines[: place - REGION_LINES]), region=text_of(region), below=text_of(lines[place + REGION_LINES :]))
    bodies: dict[str, dict[str, Any]] = {
        **{dialect: {"prompt": form.format(before, after), "stop": ["<|endoftext|>"]} for dialect, form in FIM.items()},
        "continue": {"prompt": FIM["zed, qwen"].format("# Path: library/module.py\n" + before, after), "max_tokens": 4096},
        "suffix": {"prompt": before, "suffix": after, "stop": ["\n"]},
        "zed, zeta2": {"prompt": zeta, "stop": ["<[end"]},
    }
    shared = {"model": "apprentice", "max_tokens": 64, "temperature": 0}
    found = {dialect: ("/v1/completions", {**shared, **body}) for dialect, body in bodies.items()}
    infill = {"input_prefix": head + "\n", "prompt": middle, "input_suffix": after, "n_predict": 64}
    return {**found, "llama.vim": ("/infill", infill)}


def dialects(model: Path) -> tuple[list[Row], dict[str, Any]]:
    """Letter by letter, in each dialect; everything is shown, so that all have as much to say."""
    lines = [line.rstrip("\n") for line in inspect.getsource(textwrap).splitlines()]
    usable = [i for i, line in enumerate(lines) if i > 60 and len(line.strip()) > 30 and not line.lstrip().startswith(("#", '"'))]
    places = random.Random(0).sample(usable, PLACES)
    took: dict[str, list[float]] = {}
    said: dict[str, list[str]] = {}
    with running(model) as ask:
        for place, at in _letters(lines, places):
            for dialect, (path, body) in requests(lines, place, at).items():
                start = time.perf_counter()
                answer = ask(path, body)
                took.setdefault(dialect, []).append(time.perf_counter() - start)
                said.setdefault(dialect, []).append(answer["content"] if "content" in answer else answer["choices"][0]["text"])
    with editor(model) as client:
        client.open("module.py", lines)
        for place, at in _letters(lines, places):
            now = [*lines[:place], lines[place][:at], *lines[place + 1 :]]
            client.write(now)
            here = Place("module.py", now, place, place + 1)
            for dialect, asked in (
                ("lsp, inlineCompletion", Asked("line", here, now[place], (), False)), ("lsp, copilotInlineEdit", Asked("edit", here, "", (), False)),
            ):  # fmt: skip
                start = time.perf_counter()
                client.ask(asked)
                took.setdefault(dialect, []).append(time.perf_counter() - start)
    rows: list[Row] = []
    for dialect, seconds in took.items():
        warm = sorted(1000 * one for number, one in enumerate(seconds) if number % LETTERS)
        rows.append(Row(dialect, "warm_p50_ms", statistics.median(warm), warm[0], warm[-1]))
        rows.append(Row(dialect, "warm_p95_ms", warm[min(int(0.95 * len(warm)), len(warm) - 1)]))
    alike = {dialect: sum(a == b for a, b in zip(said[dialect], said["suffix"], strict=True)) for dialect in (*FIM, "llama.vim")}
    whole = sum(text.endswith("\n") or not text for text in said["zed, zeta2"])
    made = artifacts.read(model)
    return rows, {
        "requests": PLACES * LETTERS, "said_as_suffix": alike, "whole_regions": whole, "model": {"hash": made.hash, "parents": made.parents},
    }


@contextlib.contextmanager
def editor(model: Path) -> Iterator[Client]:
    """A client of the language server in a process of its own."""
    with tempfile.TemporaryDirectory() as folder, subprocess.Popen(
        [*COMMAND, "--lsp", "--model", str(model)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=folder
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        client = Client(process.stdout, process.stdin, Path(folder))  # pyrefly: ignore[bad-argument-type]
        yield client
        client.end()


def _letters(lines: Sequence[str], places: Sequence[int]) -> Iterator[tuple[int, int]]:
    """(line, characters of it that stand there), a letter further each time."""
    for place in places:
        start = len(lines[place]) - len(lines[place].lstrip()) + 8
        for at in range(start, start + LETTERS):
            yield place, at


@contextlib.contextmanager
def running(model: Path) -> Iterator[Callable[[str, dict[str, Any]], dict[str, Any]]]:
    """(path, body) -> answer, of a server, over a connection that stays open."""
    command = [*COMMAND, "--model", str(model), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        line = ""
        while "http://" not in line and process.poll() is None:
            line = process.stderr.readline()
        parts = urlsplit(line.rsplit(" ", 1)[-1].strip())
        assert parts.hostname is not None
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=600)

        def ask(path: str, body: dict[str, Any]) -> dict[str, Any]:
            connection.request("POST", path, json.dumps(body), {"content-type": "application/json"})
            answer = connection.getresponse()
            text = answer.read()
            assert answer.status == 200, text
            return json.loads(text)

        try:
            yield ask
        finally:
            process.terminate()


def main(arguments: list[str]) -> int:
    """See the top of this file."""
    parser = argparse.ArgumentParser(prog="benchmarks/run dialects")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    for row in Benchmark("dialects").cell("typing", lambda: dialects(options.model), runs=SERVER)["rows"]:
        print(json.dumps(row) if options.json else f"{row['arm']:24s} {row['metric']:12s} {row['value']:8.1f}")
    return 0
