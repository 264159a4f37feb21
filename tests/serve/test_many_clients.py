"""Clients of every kind at once over HTTP, some of whom go away: the others get what they would get alone, and nothing is left
behind. APPRENTICE_REQUESTS=all: 2,000 of them, the last fifth of the 10,000 of `tests/engine/test_many_requests.py`."""

from __future__ import annotations

import http.client
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import numpy as np
import pytest

from apprentice.engine.engine import Engine
from apprentice.engine.model import EngineConfig
from apprentice.engine.native import NativeModel
from apprentice.quantize.convert import convert
from apprentice.serve.requests import CompletionRequest, parse
from apprentice.serve.served import ServedModel, completion_requests

ALL = os.environ.get("APPRENTICE_REQUESTS") == "all"
NUM_REQUESTS = 2000 if ALL else 100
NUM_CLIENTS = 16
WAIT_S = 60
CODE = Path(__file__).read_text(encoding="utf-8")

End = Literal["whole", "stream", "left in a stream", "left at once"]


def random_body(random: np.random.Generator, number: int) -> dict[str, Any]:
    end = int(random.integers(20, len(CODE)))
    text = CODE[max(end - int(random.integers(1, 1500)), 0) : end]
    return {
        "model": "debug",
        "prompt": text if random.random() < 0.8 else [text, text[::-1]],
        "max_tokens": int(random.integers(1, 24)),
        "n": int(random.choice([1, 1, 2])),
        "temperature": float(random.choice([0.0, 0.7, 1.5])),
        "top_p": float(random.choice([0.3, 0.9, 1.0])),
        "seed": number,
        "stop": ["e"] if random.random() < 0.2 else None,
    }


class Client:
    """Asks once, on a connection of its own."""

    def __init__(self, url: str, body: dict[str, Any]) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=WAIT_S)
        self._connection.request("POST", "/v1/completions", json.dumps(body), {"content-type": "application/json"})

    def whole(self) -> list[str]:
        answer = json.load(self._answer())
        self._connection.close()
        return [choice["text"] for choice in answer["choices"]]

    def streamed(self, num_choices: int) -> list[str]:
        texts = [""] * num_choices
        for line in self._answer():
            if line.startswith(b"data: {"):
                for choice in json.loads(line[6:])["choices"]:
                    texts[choice["index"]] += choice["text"]
        self._connection.close()
        return texts

    def leave(self, *, after_lines: int | None) -> None:
        if after_lines is not None:
            answer = self._answer()
            for _ in range(after_lines):
                answer.readline()
            answer.close()
        self._connection.close()

    def _answer(self) -> http.client.HTTPResponse:
        answer = self._connection.getresponse()
        assert answer.status == 200, answer.read()
        return answer


def ask(url: str, body: dict[str, Any], end: End, num_lines: int) -> list[str] | None:
    is_stream = end in ("stream", "left in a stream")
    client = Client(url, {**body, "stream": is_stream})
    if end == "whole":
        return client.whole()
    if end == "stream":
        return client.streamed(body["n"] * (1 if isinstance(body["prompt"], str) else 2))
    client.leave(after_lines=num_lines if is_stream else None)
    return None


@pytest.mark.timeout(0 if ALL else 120)
@pytest.mark.usefixtures("library")
def test_each_gets_what_it_would_get_alone_whoever_goes_away(
    make_folder: Callable[..., Path], start: Callable[..., Any], tmp_path: Path
) -> None:
    convert(make_folder(name="plain"), tmp_path / "quantized")
    # Room for a few of them: the others stand in line.
    engine = Engine.load(tmp_path / "quantized", EngineConfig(cache_mib=1, prefix_cache_mib=1, cache_bits=8))
    assert isinstance(engine.model, NativeModel)
    free, running = engine.model.available_pages, start(generator=engine, max_threads=NUM_CLIENTS, max_waiting=NUM_REQUESTS)
    random = np.random.default_rng(0)
    bodies = [random_body(random, number) for number in range(NUM_REQUESTS)]
    kinds: list[End] = random.choice(["whole", "stream", "left in a stream", "left at once"], NUM_REQUESTS).tolist()
    lines = random.integers(0, 12, NUM_REQUESTS).tolist()
    found: dict[int, list[str] | None] = {}

    def work(first: int) -> None:
        for number in range(first, NUM_REQUESTS, NUM_CLIENTS):
            found[number] = ask(running.url, bodies[number], kinds[number], lines[number])

    threads = [threading.Thread(target=work, args=(first,)) for first in range(NUM_CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == list(range(NUM_REQUESTS))
    # Whoever went away last has just been noticed.
    deadline = time.monotonic() + WAIT_S
    while engine.model.available_pages != free or engine.model._room._free != engine.model._room.size:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    alone = Engine.load(tmp_path / "quantized", EngineConfig(prefix_cache_mib=0, cache_bits=8))
    model = ServedModel(name="debug", generator=alone, tokenizer=alone.tokenizer, max_positions=alone.model.max_positions)
    for number, texts in found.items():
        if texts is not None:
            requests, _ = completion_requests(model, parse(json.dumps(bodies[number]).encode(), CompletionRequest))
            assert texts == [alone.generate([request])[0].text for request in requests], bodies[number]
