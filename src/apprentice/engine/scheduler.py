"""Who computes next: the steps of all threads joined into one pass, prompts between them, room in the cache in line.

    thread: generate --step--+
    thread: generate --step--+--> one pass over the weights --> to each its rows
    thread: generate --part of a prompt--> a pass of its own, in turn with the steps

That is continuous batching without a loop of its own: every sequence is decoded by the thread that asked for it, and where
several threads are about to read all weights for a token, they are read once for all of them. It is exact, because a
sequence's numbers do not depend on its neighbours (`engine.native`).

There is no thread here. Of those that wait, one leads: it chooses a turn, computes it for everybody in it, wakes them, and
once its own work is done wakes the next one to lead. Alone, a caller just computes.

A turn of steps waits a moment for sequences that were in the last one and are choosing their token: at most a part of what
a step takes, so a slow one is left behind and joins a later turn. Parts of prompts take turns with each other and with the
steps: a long prompt delays the others by one part at a time and starves nobody.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np

from apprentice.engine import calling_off
from apprentice.engine.calling_off import IsWanted

PATIENCE = 0.5
"""Of the time of the last step: how long a step waits for those that were in it."""
MAX_ROWS = 256
"""Of a turn of steps, but for the first one's: native code reads the weights once for as many, and each row is as wide as the vocabulary."""

T = TypeVar("T")


@dataclass(eq=False, slots=True)
class _Work(Generic[T]):
    """What one thread wants computed, and its answer."""

    items: Sequence[T]
    ids: frozenset[int]
    is_prompt: bool
    rows: np.ndarray | None = None
    error: BaseException | None = None
    wake: threading.Event = field(default_factory=threading.Event)
    """The answer is there, or this thread leads now."""

    @property
    def is_done(self) -> bool:
        return self.rows is not None or self.error is not None

    def answer(self) -> np.ndarray:
        if self.error is not None:
            # Nothing holds it any longer than its handler: its traceback leads back here, and to the caches of whoever asked.
            error, self.error = self.error, None
            try:
                raise error
            finally:
                del error
        assert self.rows is not None
        return self.rows


class Scheduler(Generic[T]):
    """Turns at `compute`, which gets items and whether they are prompts and gives rows, `num_rows(item)` for each."""

    def __init__(self, compute: Callable[[Sequence[T], bool], np.ndarray], num_rows: Callable[[T], int]) -> None:
        self._compute, self._num_rows = compute, num_rows
        # Re-entrant: collecting garbage under the lock may end a sequence.
        self._changed = threading.Condition(threading.RLock())
        self._steps: deque[_Work[T]] = deque()
        self._prompts: deque[_Work[T]] = deque()
        self._has_leader = False
        self._stepped_last = False
        self._expected: set[int] = set()
        self._patience = 0.0

    def step(self, items: Sequence[T], ids: Sequence[int]) -> np.ndarray:
        """Rows of these items, computed with what other threads have waiting. `ids`: the sequences that go on."""
        return self._submit(_Work(items, frozenset(ids), is_prompt=False))

    def prompt(self, items: Sequence[T]) -> np.ndarray:
        """Rows of these items, computed in a pass of their own."""
        return self._submit(_Work(items, frozenset(), is_prompt=True))

    def ended(self, sequence_id: int) -> None:
        """Nobody needs to wait for this sequence."""
        with self._changed:
            self._expected.discard(sequence_id)
            self._changed.notify_all()

    def _submit(self, work: _Work[T]) -> np.ndarray:
        with self._changed:
            (self._prompts if work.is_prompt else self._steps).append(work)
            self._expected -= work.ids
            leads, self._has_leader = not self._has_leader, True
            self._changed.notify_all()
        if not leads:
            try:
                work.wake.wait()
            except BaseException:
                self._withdraw(work)
                raise
        if not work.is_done:
            self._lead(work)
        return work.answer()

    def _lead(self, work: _Work[T]) -> None:
        try:
            while not work.is_done:
                self._run(self._next_turn())
        except BaseException:
            with self._changed:
                self._forget(work)
            raise
        finally:
            self._hand_on()

    def _hand_on(self) -> None:
        """Wakes one of those that wait: it leads."""
        with self._changed:
            waiting = self._steps or self._prompts
            self._has_leader = bool(waiting)
            if waiting:
                waiting[0].wake.set()

    def _withdraw(self, work: _Work[T]) -> None:
        """The thread was interrupted while it waited."""
        with self._changed:
            is_waiting = self._forget(work)
            leads = is_waiting and work.wake.is_set()
        if leads:
            self._hand_on()
        elif not is_waiting:
            # Somebody computes it right now, in memory that is the caller's.
            work.wake.wait()

    def _forget(self, work: _Work[T]) -> bool:
        """Whether it was still waiting for its turn."""
        for line in (self._steps, self._prompts):
            with contextlib.suppress(ValueError):
                line.remove(work)
                return True
        return False

    def _next_turn(self) -> list[_Work[T]]:
        deadline = time.perf_counter() + self._patience
        with self._changed:
            while True:
                if self._prompts and (self._stepped_last or not self._steps):
                    self._stepped_last = False
                    return [self._prompts.popleft()]
                left = deadline - time.perf_counter()
                if not self._expected or left <= 0:
                    turn = self._first_steps()
                    self._expected = {one for work in turn for one in work.ids}
                    self._stepped_last = True
                    return turn
                self._changed.wait(left)

    def _first_steps(self) -> list[_Work[T]]:
        """Those that fit into a turn; the others stay in line, in front."""
        turn: list[_Work[T]] = []
        rows = 0
        while self._steps:
            rows += sum(map(self._num_rows, self._steps[0].items))
            if turn and rows > MAX_ROWS:
                break
            turn.append(self._steps.popleft())
        return turn

    def _run(self, turn: list[_Work[T]]) -> None:
        one_by_one = False
        try:
            started = time.perf_counter()
            rows = self._compute([item for work in turn for item in work.items], turn[0].is_prompt)
            if not turn[0].is_prompt:
                self._patience = PATIENCE * (time.perf_counter() - started)
            ends = np.cumsum([sum(map(self._num_rows, work.items)) for work in turn])
            for work, end in zip(turn, ends.tolist(), strict=True):
                work.rows = rows[end - sum(map(self._num_rows, work.items)) : end]
        except Exception as error:  # noqa: BLE001 - of the one whose work it is
            one_by_one = len(turn) > 1
            if not one_by_one:
                turn[0].error = error
        except BaseException:
            self._interrupt(turn)
            raise
        finally:
            for work in turn:
                if work.is_done:
                    work.wake.set()
        # Not in the handler: errors that come now would hold the first one, and with it everybody's caches.
        for number, work in enumerate(turn if one_by_one else ()):
            try:
                self._run([work])
            except BaseException:
                self._interrupt(turn[number + 1 :])
                raise

    def _interrupt(self, turn: list[_Work[T]]) -> None:
        for work in turn:
            work.error = InterruptedError("the thread that computed for all was interrupted")
            work.wake.set()


class Passage:
    """Many may pass at a time; who wants it alone waits for them, and they wait for him. A thread that passes must not ask
    again: somebody who waits to be alone would stand between."""

    def __init__(self) -> None:
        self._passing, self._waiting = 0, 0
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def shared(self) -> Iterator[None]:
        """With others."""
        with self._changed:
            self._changed.wait_for(lambda: not self._waiting)
            self._passing += 1
        try:
            yield
        finally:
            with self._changed:
                self._passing -= 1
                self._changed.notify_all()

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """With nobody."""
        with self._changed:
            self._waiting += 1
            try:
                self._changed.wait_for(lambda: not self._passing)
                yield
            finally:
                self._waiting -= 1
                self._changed.notify_all()


MOST_PASSED = 32
"""Who waits for room lets so many by who need less: a suggestion shall not wait for a long chat, nor the chat for ever."""


@dataclass(slots=True, eq=False)
class _Ticket:
    count: int
    passed: int = 0


class Room:
    """A stock that is promised in parts; who does not fit waits in line, and is overtaken a few times at most."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._free = size
        self._line: list[_Ticket] = []
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def promised(self, count: int, is_wanted: IsWanted | None = None) -> Iterator[None]:
        """`count` of it, at most all, for the time of a `with` block. A thread that holds some must not ask for more: two
        could wait for each other. Raises: CalledOff where it is no longer wanted; then those behind it move up."""
        assert 0 <= count <= self.size
        ticket = _Ticket(count)
        with self._changed:
            self._line.append(ticket)
            try:
                while not self._may_enter(ticket):
                    calling_off.check(is_wanted)
                    self._changed.wait(None if is_wanted is None else calling_off.LOOK_S)
                self._free -= count
                for earlier in self._line[: self._line.index(ticket)]:
                    earlier.passed += 1
            finally:
                self._line.remove(ticket)
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._free += count
                self._changed.notify_all()

    def _may_enter(self, ticket: _Ticket) -> bool:
        """It fits, and nobody in front of it would, or has waited for enough others."""
        before = self._line[: self._line.index(ticket)]
        return self._free >= ticket.count and all(self._free < one.count and one.passed < MOST_PASSED for one in before)
