"""Turns between threads: who is computed together, in which order, and what a failure or an interruption costs others."""

from __future__ import annotations

import gc
import threading
import time
import traceback
import weakref
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from apprentice.core.errors import InputError
from apprentice.engine.scheduler import MOST_PASSED, Room, Scheduler

WAIT_S = 20
PASS_S = 5e-5


class Passes:
    """Computes 10 times each number, and keeps what was computed together. A pass can be held up."""

    def __init__(self) -> None:
        self.seen: list[tuple[list[int], bool]] = []
        self.begun = threading.Semaphore(0)
        self.may_go_on = threading.Semaphore(0)
        self.is_held = True

    def compute(self, items: Sequence[int], is_prompt: bool) -> np.ndarray:
        self.seen.append((list(items), is_prompt))
        if self.is_held:
            self.begun.release()
            assert self.may_go_on.acquire(timeout=WAIT_S)
        if -1 in items:
            raise InputError("a negative number", hint="take another")
        if -2 in items:
            raise KeyboardInterrupt
        return np.array([[10 * item] for item in items], np.float32)


class Threads:
    """Runs calls at the same time and keeps what they gave or raised."""

    def __init__(self) -> None:
        self.results: dict[str, float | BaseException] = {}
        self._threads: list[threading.Thread] = []

    def start(self, name: str, call: Callable[[], np.ndarray]) -> None:
        def run() -> None:
            try:
                self.results[name] = call()[:, 0].tolist()
            except BaseException as error:
                self.results[name] = error

        self._threads.append(threading.Thread(target=run))
        self._threads[-1].start()

    def join(self) -> None:
        for thread in self._threads:
            thread.join(WAIT_S)
            assert not thread.is_alive()


@pytest.fixture
def passes() -> Passes:
    return Passes()


@pytest.fixture
def scheduler(passes: Passes) -> Scheduler[int]:
    return Scheduler(passes.compute, lambda _: 1)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def until_waiting(scheduler: Scheduler[int], steps: int, prompts: int) -> None:
    """Returns once so many calls stand in line."""
    until(lambda: (len(scheduler._steps), len(scheduler._prompts)) == (steps, prompts))


def one_waits_for_the_other(passes: Passes, scheduler: Scheduler[int]) -> Threads:
    """Sequences 1 and 2 made a step together, and 1 has come back."""
    passes.is_held = False
    scheduler.step([1, 2], [1, 2])
    scheduler._patience = WAIT_S
    threads = Threads()
    threads.start("one", lambda: scheduler.step([1], [1]))
    until_waiting(scheduler, 1, 0)
    return threads


def test_steps_that_wait_are_computed_together(passes: Passes, scheduler: Scheduler[int]) -> None:
    threads = Threads()
    threads.start("first", lambda: scheduler.step([1], [1]))
    passes.begun.acquire(timeout=WAIT_S)
    threads.start("second", lambda: scheduler.step([2, 3], [2, 3]))
    until_waiting(scheduler, 1, 0)
    threads.start("third", lambda: scheduler.step([4], [4]))
    until_waiting(scheduler, 2, 0)
    scheduler.ended(1)
    passes.is_held = False
    passes.may_go_on.release()
    threads.join()
    assert passes.seen == [([1], False), ([2, 3, 4], False)]
    assert threads.results == {"first": [10], "second": [20, 30], "third": [40]}


def test_a_turn_has_as_many_rows_as_the_weights_are_read_once_for(passes: Passes) -> None:
    scheduler: Scheduler[int] = Scheduler(lambda items, is_prompt: np.repeat(passes.compute(items, is_prompt), 100, axis=0), lambda _: 100)
    threads = Threads()
    threads.start("held", lambda: scheduler.prompt([0]))
    passes.begun.acquire(timeout=WAIT_S)
    for number in range(1, 6):
        threads.start(str(number), lambda number=number: scheduler.step([number], [number]))
        until_waiting(scheduler, number, 0)
    # What one thread asks for is never cut.
    threads.start("many", lambda: scheduler.step([6, 7, 8], [6, 7, 8]))
    until_waiting(scheduler, 6, 0)
    passes.is_held = False
    passes.may_go_on.release()
    threads.join()
    assert [items for items, _ in passes.seen] == [[0], [1, 2], [3, 4], [5], [6, 7, 8]]
    assert threads.results["many"] == [60] * 100 + [70] * 100 + [80] * 100


def test_prompts_and_steps_take_turns_and_no_prompt_waits_for_another_to_end(
    passes: Passes, scheduler: Scheduler[int]
) -> None:
    threads = Threads()
    threads.start("held", lambda: scheduler.prompt([0]))
    passes.begun.acquire(timeout=WAIT_S)
    threads.start("steps", lambda: np.concatenate([scheduler.step([number], [1]) for number in range(1, 5)]))
    until_waiting(scheduler, 1, 0)
    for at, first in enumerate((100, 200)):
        parts = range(first, first + 4)
        threads.start(str(first), lambda parts=parts: np.concatenate([scheduler.prompt([part]) for part in parts]))
        until_waiting(scheduler, 1, at + 1)
    for turn in range(6):
        passes.may_go_on.release()
        passes.begun.acquire(timeout=WAIT_S)
        until_waiting(scheduler, *((0, 2) if turn % 2 == 0 else (1, 1)))
    passes.is_held = False
    passes.may_go_on.release()
    threads.join()
    assert [items[0] for items, _ in passes.seen[1:7]] == [1, 100, 2, 200, 3, 101]


def test_a_step_waits_a_moment_for_those_that_were_in_the_last_one(passes: Passes, scheduler: Scheduler[int]) -> None:
    threads = one_waits_for_the_other(passes, scheduler)
    threads.start("other", lambda: scheduler.step([2], [2]))
    threads.join()
    assert passes.seen[1:] in ([([1, 2], False)], [([2, 1], False)])
    assert scheduler._patience < WAIT_S / 2


def test_a_step_does_not_wait_for_a_sequence_that_ended_or_stays_away(
    passes: Passes, scheduler: Scheduler[int]
) -> None:
    threads = one_waits_for_the_other(passes, scheduler)
    scheduler.ended(2)
    threads.join()
    scheduler.step([1, 2], [1, 2])
    scheduler._patience = 0.01
    scheduler.step([1], [1])
    assert [items for items, _ in passes.seen] == [[1, 2], [1], [1, 2], [1]]


def test_a_failure_is_of_the_one_whose_work_it_is(passes: Passes, scheduler: Scheduler[int]) -> None:
    threads = Threads()
    threads.start("held", lambda: scheduler.step([0], [0]))
    passes.begun.acquire(timeout=WAIT_S)
    for at, number in enumerate((1, -1, 2)):
        threads.start(str(number), lambda number=number: scheduler.step([number], [number]))
        until_waiting(scheduler, at + 1, 0)
    scheduler.ended(0)
    passes.is_held = False
    passes.may_go_on.release()
    threads.join()
    assert isinstance(threads.results.pop("-1"), InputError)
    assert threads.results == {"held": [0], "1": [10], "2": [20]}


def test_who_leads_and_is_interrupted_leaves_the_others_going(passes: Passes, scheduler: Scheduler[int]) -> None:
    threads = Threads()
    threads.start("interrupted", lambda: scheduler.step([-2], [1]))
    passes.begun.acquire(timeout=WAIT_S)
    threads.start("step", lambda: scheduler.step([1], [2]))
    until_waiting(scheduler, 1, 0)
    threads.start("prompt", lambda: scheduler.prompt([2]))
    until_waiting(scheduler, 1, 1)
    passes.is_held = False
    passes.may_go_on.release()
    threads.join()
    assert isinstance(threads.results.pop("interrupted"), KeyboardInterrupt)
    assert threads.results == {"step": [10], "prompt": [20]}
    assert scheduler.step([3], [3])[0, 0] == 30


def test_many_threads_each_get_their_own(passes: Passes, scheduler: Scheduler[int]) -> None:
    passes.is_held = False
    threads = Threads()

    def ask(number: int) -> np.ndarray:
        random = np.random.default_rng(number)
        rows = []
        for at in range(200):
            item = 1000 * number + at
            rows.append(scheduler.prompt([item]) if random.random() < 0.1 else scheduler.step([item], [number]))
        scheduler.ended(number)
        return np.concatenate(rows)

    for number in range(8):
        threads.start(str(number), lambda number=number: ask(number))
    threads.join()
    assert threads.results == {str(n): [10 * (1000 * n + at) for at in range(200)] for n in range(8)}


class Ages:
    """Computes, and counts how many passes each call has seen go by while it stood in line."""

    def __init__(self) -> None:
        self.scheduler: Scheduler[int] = Scheduler(self.compute, lambda _: 1)
        self.oldest: Counter[bool] = Counter()
        self._ages: Counter[int] = Counter()

    def compute(self, items: Sequence[int], is_prompt: bool) -> np.ndarray:
        time.sleep(PASS_S)  # The others get in line meanwhile, as they do while a model computes.
        with self.scheduler._changed:
            for line in (self.scheduler._steps, self.scheduler._prompts):
                for work in line:
                    self._ages[id(work)] += 1
                    self.oldest[work.is_prompt] = max(self.oldest[work.is_prompt], self._ages[id(work)])
            # An object's number is given again once it is gone.
            waiting = {id(work) for line in (self.scheduler._steps, self.scheduler._prompts) for work in line}
            self._ages = Counter({number: age for number, age in self._ages.items() if number in waiting})
        return np.array([[10 * item] for item in items], np.float32)


def test_nobody_is_passed_over_however_many_others_there_are() -> None:
    ages, threads, num_threads, num_each = Ages(), Threads(), 12, 800
    start = threading.Barrier(num_threads)

    def ask(number: int) -> np.ndarray:
        random, rows = np.random.default_rng(number), []
        start.wait(WAIT_S)
        for at in range(num_each):
            # Some read prompts of many parts and hardly say anything, others the other way round.
            is_prompt = random.random() < (0.95 if number % 3 == 0 else 0.2)
            rows.append(ages.scheduler.prompt([at]) if is_prompt else ages.scheduler.step([at], [number]))
        ages.scheduler.ended(number)
        return np.concatenate(rows)

    for number in range(num_threads):
        threads.start(str(number), lambda number=number: ask(number))
    threads.join()
    assert threads.results == {str(number): [10 * at for at in range(num_each)] for number in range(num_threads)}
    # A step is in the next pass of steps, and between two of those is one part of a prompt. A part of a prompt waits for those in
    # front of it, and for a pass of steps in front of each.
    assert 0 < ages.oldest[False] <= 2
    assert 0 < ages.oldest[True] <= 2 * num_threads


def test_room_is_given_in_the_order_it_was_asked_for_but_for_who_needs_less() -> None:
    room = Room(10)
    order: list[str] = []
    release = {name: threading.Event() for name in "abc"}

    def ask(name: str, count: int) -> None:
        with room.promised(count):
            order.append(name)
            assert release[name].wait(WAIT_S)

    threads = []
    for name, count, entered, waiting in (("a", 6, 1, 0), ("b", 10, 1, 1), ("c", 1, 2, 1)):
        threads.append(threading.Thread(target=ask, args=(name, count)))
        threads[-1].start()
        until(lambda entered=entered, waiting=waiting: len(order) == entered and len(room._line) == waiting)
    # There is room for c, which need not wait until there is for b.
    assert order == ["a", "c"]
    for name in "abc":
        release[name].set()
    for thread in threads:
        thread.join(WAIT_S)
    assert order == ["a", "c", "b"]


def test_who_needs_much_room_is_overtaken_a_few_times_and_then_not() -> None:
    room, entered = Room(10), threading.Event()

    def ask_for_all() -> None:
        with room.promised(10):
            entered.set()

    with room.promised(5):
        large = threading.Thread(target=ask_for_all)
        large.start()
        until(lambda: len(room._line) == 1)
        for _ in range(MOST_PASSED):
            with room.promised(1):
                assert not entered.is_set()
        small = threading.Thread(target=lambda: room.promised(1).__enter__())
        small.start()
        until(lambda: len(room._line) == 2)
    assert entered.wait(WAIT_S)
    large.join(WAIT_S)
    small.join(WAIT_S)


def test_room_comes_back_after_a_failure() -> None:
    room = Room(3)
    with pytest.raises(InputError), room.promised(3):
        raise InputError("broken", hint="mend it")
    with room.promised(3):
        pass


def test_a_failure_holds_nothing_once_it_was_handled(passes: Passes, scheduler: Scheduler[int]) -> None:
    class Cache:
        """What a caller has while it waits."""

    def ask() -> weakref.ref[Cache]:
        cache = Cache()
        held = weakref.ref(cache)
        try:
            scheduler.step([-1], [1])
        except InputError as error:
            traceback.clear_frames(error.__traceback__)
        return held

    passes.is_held = False
    gc.disable()
    try:
        assert ask()() is None
    finally:
        gc.enable()


def test_who_tries_one_by_one_and_is_interrupted_leaves_nobody_waiting(passes: Passes, scheduler: Scheduler[int]) -> None:
    threads = Threads()
    threads.start("first", lambda: scheduler.step([1], [1]))
    passes.begun.acquire(timeout=WAIT_S)
    for number, item in enumerate((-1, -2, 3)):
        threads.start(str(item), lambda item=item: scheduler.step([item], [item]))
        until_waiting(scheduler, number + 1, 0)
    passes.is_held = False
    passes.may_go_on.release()
    threads.join()
    # Who led is the one that was interrupted.
    assert isinstance(threads.results["-1"], KeyboardInterrupt)
    assert isinstance(threads.results["-2"], InterruptedError)
    assert isinstance(threads.results["3"], InterruptedError)
