"""A client that goes away while its long prompt is read: the engine stops at the next chunk and answers the others."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from apprentice.core.protocols import Mixture, Request, Sample, Score
from apprentice.engine.engine import Engine
from apprentice.engine.native import NativeModel
from apprentice.repository.prompt import Place
from apprentice.serve.suggestions import Suggester

WAIT_S = 20
LONG = "x = 1\n" * 300
BODIES: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/v1/chat/completions", {"messages": [{"role": "user", "content": LONG}]}),
    "streamed chat": ("/v1/chat/completions", {"messages": [{"role": "user", "content": LONG}], "stream": True}),
    "several": ("/v1/completions", {"prompt": [LONG, LONG], "n": 2}),
    "streamed": ("/v1/completions", {"prompt": LONG, "stream": True, "logprobs": 1}),
    "editor": ("/v1/completions", {"prompt": LONG, "suffix": LONG}),
    "infill": ("/infill", {"input_prefix": LONG, "input_suffix": LONG}),
}


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


class HeldUp:
    """The engine, which is held up behind its first chunk until somebody calls it off."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.asked = 0
        self.begun = threading.Event()
        self.ended = threading.Event()
        self.samples: list[Sample] = []

    def generate(self, requests: Sequence[Request], *, on_token: Any = None) -> list[Sample]:
        raise NotImplementedError

    def generate_while(
        self, requests: Sequence[Request], is_wanted: Callable[[], bool], *, on_token: Any = None
    ) -> list[Sample]:
        def still_wanted() -> bool:
            self.asked += 1
            if self.asked == 2:
                self.begun.set()
                until(lambda: not is_wanted())
            return is_wanted()

        self.samples = self._engine.generate_while(requests, still_wanted, on_token=on_token)
        self.ended.set()
        return self.samples

    def score(
        self, prompts: Sequence[Sequence[int]], targets: Sequence[Sequence[int]], *,
        mixtures: Sequence[Mixture | None] | None = None,
    ) -> list[Score]:
        raise NotImplementedError


@pytest.mark.parametrize("kind", BODIES)
def test_a_client_that_goes_away_stops_its_prompt_at_the_next_chunk(kind: str, engine: Engine, start: Callable[..., Any]) -> None:
    held = HeldUp(engine)
    running = start(generator=held)
    free = engine.model.available_pages if isinstance(engine.model, NativeModel) else 0
    path, body = BODIES[kind]
    client = http.client.HTTPConnection(urlsplit(running.url).netloc, timeout=WAIT_S)
    client.request("POST", path, json.dumps({"model": "debug", "max_tokens": 50, **body}), {"content-type": "application/json"})
    assert held.begun.wait(WAIT_S)
    client.close()
    assert held.ended.wait(WAIT_S)
    assert held.asked == 2
    assert [(sample.finish_reason, sample.token_ids) for sample in held.samples] == [("cancelled", [])] * len(held.samples)
    if isinstance(engine.model, NativeModel):
        assert engine.model.available_pages == free
        assert engine.model.kept_pages == 2


def test_others_are_answered_meanwhile_and_behind_it(engine: Engine, start: Callable[..., Any]) -> None:
    held, running = HeldUp(engine), start()
    away = start(generator=held)
    body = {"model": "debug", "prompt": "def f(", "max_tokens": 20, "temperature": 0}

    def ask() -> str:
        return httpx.post(running.url + "/completions", json=body, timeout=WAIT_S).json()["choices"][0]["text"]

    before = ask()
    client = http.client.HTTPConnection(urlsplit(away.url).netloc, timeout=WAIT_S)
    client.request("POST", "/v1/completions", json.dumps({**body, "prompt": LONG}), {"content-type": "application/json"})
    assert held.begun.wait(WAIT_S)
    # One engine behind both servers: its other request is held up in the middle of its prompt.
    assert ask() == before
    client.close()
    assert held.ended.wait(WAIT_S)
    assert ask() == before


@pytest.mark.parametrize("kind", ["edit", "line"])
def test_a_suggestion_that_an_editor_no_longer_wants_stops_its_prompt(kind: str, engine: Engine) -> None:
    asked: list[int] = []

    def is_wanted() -> bool:
        asked.append(len(asked))
        return len(asked) < 3

    suggester, place = Suggester(engine, engine.tokenizer), Place("a.py", LONG.splitlines(), 200, 201)
    if kind == "edit":
        suggester.edit(place, is_wanted=is_wanted)
    else:
        suggester.line(place, "x", is_wanted=is_wanted)
    assert len(asked) == 3
    if isinstance(engine.model, NativeModel):
        assert engine.model.kept_pages == 4
