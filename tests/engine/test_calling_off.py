"""A request that nobody wants any more ends before its next chunk: its pages are free, others go on, what was read is kept."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from apprentice.core.protocols import Request
from apprentice.engine.engine import Engine
from apprentice.engine.model import CHUNK_TOKENS, EngineConfig
from apprentice.engine.native import PAGE_TOKENS, NativeModel
from apprentice.model import presets

MakeFolder = Callable[..., Path]

WAIT_S = 20
PROMPT = np.random.default_rng(0).integers(0, presets.debug().vocab_size, 8 * CHUNK_TOKENS + 9).tolist()


class Wanted:
    """Wanted `times` times, and then no more."""

    def __init__(self, times: int) -> None:
        self.asked, self._times = 0, times

    def __call__(self) -> bool:
        self.asked += 1
        return self.asked <= self._times


def load(folder: Path, backend: Any, **settings: Any) -> Engine:
    return Engine.load(folder, EngineConfig(threads=1, backend=backend, **settings))


def free_pages(engine: Engine) -> int:
    return engine.model.available_pages if isinstance(engine.model, NativeModel) else 0


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.mark.parametrize("times", [0, 1, 5, 8])
def test_a_prompt_is_read_no_further_and_its_pages_are_free_at_once(times: int, backend: str, make_folder: MakeFolder) -> None:
    engine = load(make_folder(), backend)
    free, told = free_pages(engine), []
    wanted = Wanted(times)
    (sample,) = engine.generate_while(
        [Request(prompt_ids=PROMPT, max_tokens=9)], wanted, on_token=lambda *token: bool(told.append(token))
    )
    assert (sample.finish_reason, sample.token_ids, sample.text, told) == ("cancelled", [], "", [])
    assert wanted.asked == times + 1
    # Without a look at the garbage: nothing holds the sequence.
    assert free_pages(engine) == free
    if isinstance(engine.model, NativeModel):
        assert engine.model.kept_pages == times * CHUNK_TOKENS // PAGE_TOKENS


def test_the_next_one_goes_on_where_it_was_called_off_with_the_same_bits(backend: str, make_folder: MakeFolder) -> None:
    folder = make_folder()
    engine, fresh = load(folder, backend), load(folder, backend, prefix_cache_mib=0)
    request = Request(prompt_ids=PROMPT, max_tokens=9, temperature=1.0, seed=1)
    engine.generate_while([request], Wanted(5))
    wanted = Wanted(99)
    assert engine.generate_while([request], wanted) == fresh.generate([request])
    assert wanted.asked == 9 - 5


def test_without_memory_for_beginnings_nothing_is_kept(backend: str, make_folder: MakeFolder) -> None:
    engine = load(make_folder(), backend, prefix_cache_mib=0)
    for _ in range(2):
        wanted = Wanted(3)
        engine.generate_while([Request(prompt_ids=PROMPT, max_tokens=1)], wanted)
        assert wanted.asked == 4


def test_all_samples_of_a_call_end(backend: str, make_folder: MakeFolder) -> None:
    engine = load(make_folder(), backend, prefix_cache_mib=0)
    free, wanted = free_pages(engine), Wanted(12)
    requests = [Request(prompt_ids=[number, *PROMPT], max_tokens=9) for number in range(3)]
    samples = engine.generate_while(requests, wanted)
    assert [sample.finish_reason for sample in samples] == ["cancelled"] * 3
    assert wanted.asked == 13
    assert free_pages(engine) == free


def test_who_is_wanted_to_the_end_gets_the_sample_of_generate(backend: str, make_folder: MakeFolder) -> None:
    engine = load(make_folder(), backend)
    requests = [Request(prompt_ids=PROMPT[:count], max_tokens=12, seed=count, temperature=0.8) for count in (3, 400)]
    assert engine.generate_while(requests, lambda: True) == engine.generate(requests)


def test_a_neighbour_gets_the_sample_that_it_would_get_alone(make_folder: MakeFolder, library: object) -> None:
    engine = load(make_folder(), "native", prefix_cache_mib=0)
    request = Request(prompt_ids=PROMPT[:100], max_tokens=60, temperature=1.0, seed=2, stop_ids=())
    (expected,) = engine.generate([request])
    free, half_way, called_off, found = free_pages(engine), threading.Event(), threading.Event(), []

    def still_wanted() -> bool:
        # The neighbour begins while this prompt is read, and goes on behind it.
        assert half_way.wait(WAIT_S)
        return not called_off.is_set()

    def on_token(index: int, token_id: int, text: str) -> bool:
        half_way.set()
        called_off.set()
        return True

    neighbour = threading.Thread(target=lambda: found.extend(engine.generate([request], on_token=on_token)))
    neighbour.start()
    (sample,) = engine.generate_while([Request(prompt_ids=PROMPT, max_tokens=9)], still_wanted)
    neighbour.join(WAIT_S)
    assert sample.finish_reason == "cancelled"
    assert found == [expected]
    assert free_pages(engine) == free


def test_who_waits_for_room_lets_those_pass_who_need_less_and_can_be_called_off(make_folder: MakeFolder, library: object) -> None:
    # 64 pages of 16 KiB.
    engine = load(make_folder(), "native", prefix_cache_mib=0, cache_mib=1)
    assert isinstance(engine.model, NativeModel)
    line = engine.model._room._line
    free, release, wanted, order = free_pages(engine), threading.Event(), threading.Event(), []
    wanted.set()

    def ask(name: str, num_prompt: int, **how: Any) -> None:
        request = Request(prompt_ids=PROMPT[:1] * num_prompt, max_tokens=2)
        sample = engine.generate_while([request], how.get("is_wanted", lambda: True), on_token=how.get("on_token"))[0]
        order.append((name, sample.finish_reason))

    threads = [
        threading.Thread(target=ask, args=("long", 40 * PAGE_TOKENS), kwargs={"on_token": lambda *_: release.wait(WAIT_S)}),
        threading.Thread(target=ask, args=("called off", 50 * PAGE_TOKENS), kwargs={"is_wanted": wanted.is_set}),
        threading.Thread(target=ask, args=("behind it", 2 * PAGE_TOKENS)),
    ]
    threads[0].start()
    until(lambda: free_pages(engine) < free)
    threads[1].start()
    until(lambda: len(line) == 1)
    threads[2].start()
    threads[2].join(WAIT_S)
    assert order == [("behind it", "length")]
    wanted.clear()
    threads[1].join(WAIT_S)
    assert order[1:] == [("called off", "cancelled")]
    assert not line
    release.set()
    threads[0].join(WAIT_S)
    assert len(order) == 3
    assert free_pages(engine) == free
