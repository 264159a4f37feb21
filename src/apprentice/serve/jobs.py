"""The model's threads: requests of all clients in a line, tokens out as they come, cancelled when nobody listens.

    endpoint --submit(work)--> line --as many at a time as the model takes--> pieces --> async iterator --> client

The line has a bound and says 429 beyond it. A client that goes away cancels its job: one in line is not begun, one in work
ends at its next token, or at the next chunk of its prompt (`wanted`).
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, TypeVar

from apprentice.serve.errors import ApiError

T = TypeVar("T")

log = logging.getLogger("apprentice.serve")


class Job(Generic[T]):
    """Work that is waiting or under way."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._items: asyncio.Queue[T | None] = asyncio.Queue()
        self._cancelled = threading.Event()
        self._error: BaseException | None = None
        self.future: Future[None] | None = None

    @property
    def is_wanted(self) -> bool:
        """Asked by the work itself: whether to go on."""
        return not self._cancelled.is_set()

    def cancel(self) -> None:
        self._cancelled.set()
        # One that waits leaves the line: those behind it count as many fewer.
        if self.future is not None and self.future.cancel():
            self.end()

    def give(self, item: T) -> None:
        """Called by the work, in its thread."""
        self._put(item)

    def end(self, error: BaseException | None = None) -> None:
        self._error = error
        self._put(None)

    async def items(self) -> AsyncIterator[T]:
        """What the work gives, until it ends. Raises what the work raised; leaving early cancels it."""
        try:
            while (item := await self._items.get()) is not None:
                yield item
            if self._error is not None:
                raise self._error
        finally:
            self.cancel()

    def _put(self, item: T | None) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._items.put_nowait, item)


class Line:
    """Jobs in their order, each in a thread while it is in work."""

    def __init__(self, max_waiting: int, max_threads: int = 1) -> None:
        """`max_waiting`: jobs in line and in work, 1 or more; `max_threads` of them in work."""
        self._max_waiting = max_waiting
        self._threads = ThreadPoolExecutor(max_threads, thread_name_prefix="apprentice-model")
        self._jobs: set[Job[Any]] = set()

    def submit(self, work: Callable[[Job[T]], None]) -> Job[T]:
        """Puts work at the end of the line; it calls `give` on its job. Raises: ApiError where the line is full."""
        if len(self._jobs) >= self._max_waiting:
            raise ApiError(429, "too many requests are waiting; try again in a moment", code="server_busy")
        job: Job[T] = Job(asyncio.get_running_loop())
        self._jobs.add(job)
        job.future = self._threads.submit(self._run, job, work)
        job.future.add_done_callback(lambda _: self._jobs.discard(job))
        return job

    def close(self) -> None:
        """Cancels everything and waits for those in work to notice."""
        for job in list(self._jobs):
            job.cancel()
        self._threads.shutdown(wait=True, cancel_futures=True)

    @staticmethod
    def _run(job: Job[T], work: Callable[[Job[T]], None]) -> None:
        error: BaseException | None = None
        try:
            if job.is_wanted:
                work(job)
        except Exception as caught:  # noqa: BLE001 - handed to the one who waits
            error = caught
        job.end(error)
