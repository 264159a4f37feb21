"""A server on a free port, over a random debug model: what clients see and nothing else."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from apprentice.core.protocols import Generator
from apprentice.engine.engine import Engine
from apprentice.serve.served import MakeMixture, ServedModel, Slot
from apprentice.serve.server import ServeConfig, Server, listening
from apprentice.serve.silence import Decision


@dataclass(frozen=True)
class Running:
    """A server and what it serves."""

    url: str
    engine: Engine
    slot: Slot


@pytest.fixture
def engine(make_folder: Callable[..., Path]) -> Engine:
    return Engine.load(make_folder())


@pytest.fixture
def start(engine: Engine) -> Iterator[Callable[..., Running]]:
    """Starts servers; they end with the test."""
    running: list[tuple[Server, threading.Thread]] = []

    def begin(
        config: ServeConfig | None = None, *, generator: Generator | None = None, make_mixture: MakeMixture | None = None,
        max_waiting: int = 64, paths: Sequence[str] = (), find_path: Callable[[Sequence[str]], str] | None = None,
        decision: Decision | None = None, show_from: float = 0.25, max_threads: int = 1,
    ) -> Running:
        model = ServedModel(
            name="debug", generator=generator or engine, tokenizer=engine.tokenizer,
            max_positions=engine.model.max_positions, make_mixture=make_mixture,
            paths=frozenset(paths), find_path=find_path, max_threads=engine.max_threads if generator is None else max_threads,
            decision=decision, show_from=show_from,
        )  # fmt: skip
        ready = threading.Event()
        urls: list[str] = []

        def on_ready(url: str) -> None:
            urls.append(url)
            ready.set()

        config = config or ServeConfig(port=0)
        taken = stack.enter_context(listening(config))
        slot = Slot(model)
        server = Server(slot, config, taken, on_ready, max_waiting=max_waiting)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [taken]}, daemon=True)
        thread.start()
        running.append((server, thread))
        assert ready.wait(30)
        return Running(urls[0], engine, slot)

    with contextlib.ExitStack() as stack:
        yield begin
        for server, _ in running:
            server.should_exit = True
        for _, thread in running:
            thread.join(20)
