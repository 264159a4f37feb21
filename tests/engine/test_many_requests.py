"""Requests of every kind from a dozen threads at once: each gets what it would get alone, and nothing is left behind.

Of every length and parameter of sampling, with drafts, several in a call; taken to the end, cancelled at a token, called off while
the prompt is read or before. On caches of 16 and 8 bits, with room for all and with room for few, which then stand in line; while
adapters come and go; and on the default model. A sample of them by default, APPRENTICE_REQUESTS=all: 10,000 (with those of
`tests/serve/test_many_clients.py`), and 200 on the default model, which takes two minutes."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from apprentice.core.protocols import Request, Sample
from apprentice.engine.engine import Engine
from apprentice.engine.model import EngineConfig
from apprentice.engine.native import NativeModel
from apprentice.model import adapter_files, base, presets, tensor_files
from apprentice.model.config import ModelConfig, parameter_shapes
from apprentice.quantize.convert import convert
from apprentice.text.lookup import PromptLookup

ALL = os.environ.get("APPRENTICE_REQUESTS") == "all"
NUM_REQUESTS, NUM_ON_DEFAULT = (2000, 140) if ALL else (100, 0)
"""Calls in an arm, of one request to three."""
NUM_THREADS = 12
WAIT_S = 20
pytestmark = [pytest.mark.usefixtures("library"), pytest.mark.timeout(0 if ALL else 120)]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is asked in one call, and how long it is wanted."""

    asked: list[tuple[Request, bool]]
    """And whether with drafts."""
    end: Literal["to the end", "at a token", "before a chunk"]
    at: int
    """The token or chunk."""

    def requests(self) -> list[Request]:
        """What drafts follows one text, so it is new each time."""
        return [replace(one, mixture=PromptLookup(one.prompt_ids)) if drafts else one for one, drafts in self.asked]


def random_request(
    random: np.random.Generator, common: Sequence[int], num_prompt: int, max_tokens: int
) -> tuple[Request, bool]:
    vocab_size = presets.debug().vocab_size
    own = random.integers(0, vocab_size, num_prompt)
    if random.random() < 0.3:
        own = np.resize(own[:20], num_prompt)
    request = Request(
        # Some begin alike, up to within a page, to its end, or behind it.
        prompt_ids=[*common[: int(random.choice([0, 0, 50, 64, 100, 128, 300]))], *own.tolist()],
        max_tokens=max_tokens,
        temperature=float(random.choice([0.0, 0.0, 0.7, 1.5])),
        top_p=float(random.choice([0.3, 0.9, 1.0])),
        min_p=float(random.choice([0.0, 0.0, 0.05])),
        presence_penalty=float(random.choice([0.0, 0.0, 1.0])),
        frequency_penalty=float(random.choice([0.0, 0.0, -0.5])),
        seed=int(random.integers(2**40)),
        stop_texts=("e", "\n\n") if random.random() < 0.2 else (),
        stop_ids=(5, 70) if random.random() < 0.1 else (),
        must_start_with=str(random.choice(["", "", "", "ret", "é"])),
        top_log_probs=int(random.choice([0, 0, 3])),
    )
    return request, bool(random.random() < 0.4)


def random_plans(count: int, longest: int, *, seed: int) -> list[Plan]:
    random = np.random.default_rng(seed)
    common = random.integers(0, presets.debug().vocab_size, 300).tolist()
    plans = []
    for _ in range(count):
        several = int(random.choice([1, 1, 1, 1, 2, 3]))
        limit = longest if several == 1 and random.random() < 0.2 else longest // 8
        asked = [random_request(random, common, int(random.integers(1, limit)), int(random.integers(0, 24))) for _ in range(several)]
        end = random.choice(["to the end", "to the end", "to the end", "at a token", "before a chunk"])
        plans.append(Plan(asked=asked, end=end, at=int(random.integers(6))))
    return plans


def long_plans(num_prompt: int) -> list[Plan]:
    """One for each thread."""
    random = np.random.default_rng(0)
    return [Plan(asked=[random_request(random, [], num_prompt, 20)], end="to the end", at=0) for _ in range(NUM_THREADS)]


@dataclass(kw_only=True)
class Outcome:
    """What came of a plan."""

    samples: list[Sample]
    adapters: range
    """Numbers of those that may have been in force."""


class Adapters:
    """Changes them one after the other, and knows which may be in force."""

    def __init__(self, engine: Engine, folders: Sequence[Path | None]) -> None:
        self._engine, self._folders = engine, folders
        self._changing = threading.Lock()
        self.num_begun = self.num_done = 0

    def change(self) -> None:
        with self._changing:
            self.num_begun += 1
            self._engine.adapt(self.folder(self.num_begun))
            self.num_done += 1

    def folder(self, number: int) -> Path | None:
        return self._folders[number % len(self._folders)]


def run(engine: Engine, plans: Sequence[Plan], adapters: Adapters, *, change_every: int, is_crowded: bool) -> list[Outcome]:
    """All plans, by NUM_THREADS threads."""
    found: dict[int, Outcome] = {}
    left = iter(range(len(plans)))
    taking, has_said_something = threading.Lock(), threading.Event()
    assert isinstance(engine.model, NativeModel)
    line = engine.model._room._line

    def until_others_stand_in_line() -> None:
        deadline = time.monotonic() + WAIT_S
        while is_crowded and not has_said_something.is_set() and not line:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        has_said_something.set()

    def perform(plan: Plan) -> Outcome:
        said, looks, done = Counter[int](), [0], adapters.num_done

        def on_token(index: int, token_id: int, text: str) -> bool:
            until_others_stand_in_line()
            said[index] += 1
            # The last request of a call is cancelled, the others go on.
            return plan.end != "at a token" or index < len(plan.asked) - 1 or said[index] < plan.at

        def is_wanted() -> bool:
            looks[0] += 1
            return plan.end != "before a chunk" or looks[0] <= plan.at

        samples = engine.generate_while(plan.requests(), is_wanted, on_token=on_token)
        return Outcome(samples=samples, adapters=range(done, adapters.num_begun + 1))

    def work() -> None:
        while True:
            with taking:
                number = next(left, None)
            if number is None:
                return
            if change_every and number % change_every == change_every - 1:
                adapters.change()
            found[number] = perform(plans[number])

    threads = [threading.Thread(target=work) for _ in range(NUM_THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == list(range(len(plans)))
    return [found[number] for number in range(len(plans))]


class Alone:
    """What each request gives with nobody beside it, and nothing remembered of others."""

    def __init__(self, engine: Engine, plans: Sequence[Plan]) -> None:
        self._engine, self._plans = engine, plans

    def samples(self, outcomes: Sequence[Outcome], adapters: Adapters) -> list[list[list[Sample]]]:
        """For each plan, for each adapter that may have been in force, the samples."""
        expected: list[list[list[Sample]]] = [[] for _ in outcomes]
        for folder in dict.fromkeys(adapters.folder(number) for number in range(len(adapters._folders))):
            self._engine.adapt(folder)
            for number, outcome in enumerate(outcomes):
                if folder in {adapters.folder(one) for one in outcome.adapters}:
                    expected[number].append([self._engine.generate([request])[0] for request in self._plans[number].requests()])
        return expected


def is_as_expected(plan: Plan, samples: Sequence[Sample], whole: Sequence[Sample]) -> bool:
    if plan.end == "before a chunk" and all(sample.finish_reason == "cancelled" for sample in samples):
        return all(not sample.token_ids and not sample.text for sample in samples)
    *others, last = samples
    if others != list(whole[:-1]):
        return False
    if plan.end == "at a token" and last.finish_reason == "cancelled":
        count = len(last.token_ids)
        return (
            0 < count <= len(whole[-1].token_ids)
            and last.token_ids == whole[-1].token_ids[:count]
            and last.log_probs == whole[-1].log_probs[:count]
            and whole[-1].text.startswith(last.text)
        )
    return last == whole[-1]


def assert_as_alone(
    plans: Sequence[Plan], crowd: Engine, alone: Engine, *, adapters: Sequence[Path | None] = (None,), change_every: int = 0,
    is_crowded: bool = False,
) -> None:
    assert isinstance(crowd.model, NativeModel)
    free, changes = crowd.model.available_pages, Adapters(crowd, adapters)
    outcomes = run(crowd, plans, changes, change_every=change_every, is_crowded=is_crowded)
    # Nobody looked at the garbage: whoever is answered has given back what it had.
    assert crowd.model.available_pages == free
    assert crowd.model._room._free == crowd.model._room.size
    expected = Alone(alone, plans).samples(outcomes, changes)
    for plan, outcome, possible in zip(plans, outcomes, expected, strict=True):
        assert any(is_as_expected(plan, outcome.samples, whole) for whole in possible), (plan, outcome, possible)
    ends = Counter(sample.finish_reason for outcome in outcomes for sample in outcome.samples)
    assert set(ends) == {"stop", "length", "cancelled"}
    assert any(not sample.token_ids for outcome in outcomes for sample in outcome.samples if sample.finish_reason == "cancelled")
    assert changes.num_done == (len(plans) // change_every if change_every else 0)


@pytest.fixture
def quantized(make_folder: Callable[..., Path], tmp_path: Path) -> Path:
    convert(make_folder(), tmp_path / "quantized")
    return tmp_path / "quantized"


@pytest.mark.parametrize(("cache_bits", "cache_mib"), [(16, 0), (16, 1), (8, 1)])
def test_each_gets_what_it_would_get_alone_and_leaves_nothing_behind(
    cache_bits: Literal[16, 8], cache_mib: int, quantized: Path
) -> None:
    # A mebibyte is a few sequences: the others stand in line.
    crowd = Engine.load(quantized, EngineConfig(prefix_cache_mib=1, cache_mib=cache_mib, cache_bits=cache_bits))
    alone = Engine.load(quantized, EngineConfig(prefix_cache_mib=0, cache_bits=cache_bits))
    plans = [*(long_plans(2000) if cache_mib else []), *random_plans(NUM_REQUESTS, 1200, seed=cache_bits + cache_mib)]
    assert_as_alone(plans, crowd, alone, is_crowded=bool(cache_mib))


def test_adapters_come_and_go_between_requests(quantized: Path, tmp_path: Path) -> None:
    crowd = Engine.load(quantized, EngineConfig(prefix_cache_mib=1, cache_mib=1, cache_bits=8))
    alone = Engine.load(quantized, EngineConfig(prefix_cache_mib=0, cache_bits=8))
    adapters = [None, *(write_adapter(tmp_path / f"adapter-{seed}", presets.debug(), seed) for seed in range(2))]
    assert_as_alone(random_plans(NUM_REQUESTS, 1200, seed=7), crowd, alone, adapters=adapters, change_every=9)


def write_adapter(folder: Path, config: ModelConfig, seed: int) -> Path:
    """For queries and for what leads out of the MLP, as PEFT writes it."""
    random, tensors = np.random.default_rng(seed), {}
    leaves = ["q_proj", "down_proj"]
    for name, shape in parameter_shapes(config).items():
        module = name.removesuffix(".weight")
        if module.rpartition(".")[2] in leaves:
            for part, size in (("lora_A", (4, shape[1])), ("lora_B", (shape[0], 4))):
                tensors[f"base_model.model.{module}.{part}.weight"] = random.standard_normal(size).astype(np.float32) / 8
    folder.mkdir()
    infos = {name: ("F32", array.shape) for name, array in tensors.items()}
    tensor_files.write(folder / adapter_files.WEIGHTS_FILE, infos, tensors.values())
    settings = '{"peft_type": "LORA", "r": 4, "lora_alpha": 8, "bias": "none", "target_modules": ["q_proj", "down_proj"]}'
    (folder / adapter_files.CONFIG_FILE).write_text(settings)
    return folder


@pytest.fixture
def default_model(tmp_path: Path) -> Path:
    """Quantized, where an earlier run has put it into the cache."""
    if not ALL:
        pytest.skip("seconds for each request: APPRENTICE_REQUESTS=all")
    folder = base.cache_folder() / "bases" / base.DEFAULT
    if not (folder / "manifest.json").is_file():
        pytest.skip("the default base is not in the cache; `apprentice learn` puts it there")
    convert(folder, tmp_path / "default")
    return tmp_path / "default"


def test_on_the_default_model_too(default_model: Path) -> None:
    # A page takes 0.8 MiB: eight of the longest prompts fit.
    crowd = Engine.load(default_model, EngineConfig(prefix_cache_mib=16, cache_mib=16, cache_bits=8))
    alone = Engine.load(default_model, EngineConfig(prefix_cache_mib=0, cache_bits=8))
    plans = [*long_plans(260), *random_plans(NUM_ON_DEFAULT - NUM_THREADS, 200, seed=1)]
    assert_as_alone(plans, crowd, alone, is_crowded=True)
