"""Matrix products with numpy on all cores, in pieces whose results do not depend on how many cores there are.

    x_ND, W_OD --product()--> x W^T [N, O]          pieces: fixed ranges of W's rows, handed out one by one

OpenBLAS can use several threads itself, but its threads wait for each other in a busy loop: with one other program
running, decoding falls to a quarter of its speed. And its results change in the last bits with the number of threads.
So numpy's OpenBLAS is told to use one thread (`use_one_blas_thread`), and `Workers` hand out pieces: a worker that the
system has put aside takes none, and the others do its share.

`each_row=True` sends every row of x through alone, as matrix times vector, while a piece of W is in the cache: a row's
result then does not depend on the other rows, bit for bit. Up to some ten rows this is also faster than a matrix
product, which copies W first.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import queue
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np

VECTOR_PIECE_BYTES = 1 << 20
"""Of a matrix, worked on with all rows while it lies in the second-level cache."""
MATRIX_PIECE_ROWS = 512


class Workers:
    """Threads that run numbered pieces of work. One job at a time from each calling thread."""

    def __init__(self, num_threads: int) -> None:
        """`num_threads`: with the calling one."""
        self._queues: list[queue.SimpleQueue[_Job | None]] = [queue.SimpleQueue() for _ in range(num_threads - 1)]
        for one in self._queues:
            threading.Thread(target=_work, args=(one,), name="apprentice-product", daemon=True).start()

    def run(self, piece: Callable[[int], None], count: int) -> None:
        """Calls piece(0) ... piece(count - 1), each once, in any order; returns when all are done."""
        if count < 2 or not self._queues:
            for number in range(count):
                piece(number)
            return
        job = _Job(piece, count)
        for one in self._queues[: count - 1]:
            one.put(job)
        job.take_part()
        job.wait()

    def close(self) -> None:
        for one in self._queues:
            one.put(None)


class _Job:
    """Pieces of work that threads take until none is left."""

    def __init__(self, piece: Callable[[int], None], count: int) -> None:
        self._piece, self._count = piece, count
        self._next, self._done = itertools.count(), itertools.count(1)
        self._error: BaseException | None = None
        self._all_done = threading.Lock()
        self._all_done.acquire()

    def take_part(self) -> None:
        # next() of a count is one step of the interpreter: no two threads get the same number.
        for number in self._next:
            if number >= self._count:
                return
            try:
                self._piece(number)
            except BaseException as error:
                self._error = error
            if next(self._done) == self._count:
                self._all_done.release()

    def wait(self) -> None:
        self._all_done.acquire()
        if self._error is not None:
            raise self._error


def _work(jobs: queue.SimpleQueue[_Job | None]) -> None:
    while (job := jobs.get()) is not None:
        job.take_part()


def product(
    workers: Workers, x_ND: np.ndarray, weight_OD: np.ndarray, out: np.ndarray, *, each_row: bool
) -> None:
    """x W^T into `out` [N, O], float32, all C-contiguous in their last axis."""
    num_rows = len(weight_OD)
    step = max(32, VECTOR_PIECE_BYTES // (4 * weight_OD.shape[1])) if each_row else MATRIX_PIECE_ROWS
    if num_rows <= 2 * step:
        step = max(-(-num_rows // 2), 1)

    def vectors(number: int) -> None:
        rows = slice(number * step, (number + 1) * step)
        for x_D, out_O in zip(x_ND, out, strict=True):
            np.dot(weight_OD[rows], x_D, out=out_O[rows])

    def matrices(number: int) -> None:
        rows = slice(number * step, (number + 1) * step)
        np.matmul(x_ND, weight_OD[rows].T, out=out[:, rows])

    workers.run(vectors if each_row else matrices, -(-num_rows // step))


def use_one_blas_thread() -> bool:
    """Tells the OpenBLAS inside numpy's wheel, and no other, to compute in the calling thread. False where numpy uses
    another library: that one goes on as it likes."""
    folders = [Path(np.__file__).parents[1] / "numpy.libs", Path(np.__file__).parent / ".dylibs"]
    for path in (path for folder in folders if folder.is_dir() for path in folder.glob("*openblas*")):
        with contextlib.suppress(OSError):
            library = ctypes.CDLL(os.fspath(path))
            for name in ("scipy_openblas_set_num_threads64_", "openblas_set_num_threads64_"):
                if hasattr(library, name):
                    getattr(library, name)(ctypes.c_int(1))
                    return True
    return False
