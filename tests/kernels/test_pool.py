"""The pool of threads below the native operators: each piece once, whoever else calls, sleeps, comes late or forks."""

import ctypes
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from apprentice.kernels import native

SETTLE_S = 0.002
"""Longer than a worker spins: it sleeps then."""
FORKED = """
import ctypes, os, sys, threading
from apprentice.kernels import native

library = native.load()
pool = native.Pool(library, 3)

def trial(runs):
    counts = (ctypes.c_int32 * 50)()
    return pool.trial(runs=runs, pieces=50, work=10, counts=counts) > 0 and set(counts) == {runs}

def child():
    if not trial(20) or pool.threads != 3:
        return 1
    grandchild = os.fork()
    if grandchild == 0:
        os._exit(0 if trial(20) else 1)
    return os.waitstatus_to_exitcode(os.waitpid(grandchild, 0)[1])

busy = threading.Thread(target=lambda: [trial(20) for _ in range(300)])
if sys.argv[1] == "busy":
    busy.start()
codes = []
for _ in range(10):
    assert trial(20)
    number = os.fork()
    if number == 0:
        os._exit(child())
    codes.append(os.waitstatus_to_exitcode(os.waitpid(number, 0)[1]))
    assert trial(20)
if sys.argv[1] == "busy":
    busy.join()
print(codes)
"""


@pytest.fixture
def library() -> native.Library:
    found = native.load()
    if found is None:
        pytest.skip(native.why_missing())
    return found


def trial(pool: native.Pool, *, runs: int, pieces: int, work: int = 0) -> set[int]:
    """How often pieces were done."""
    counts = (ctypes.c_int32 * pieces)()
    assert pool.trial(runs=runs, pieces=pieces, work=work, counts=counts) >= 0, "workers had wrong numbers"
    return set(counts)


@pytest.fixture(params=range(1, 9))
def pool(request: pytest.FixtureRequest, library: native.Library) -> Iterator[native.Pool]:
    made = native.Pool(library, request.param)
    assert made.threads == request.param
    yield made
    made.close()


@pytest.mark.parametrize("pieces", [1, 2, 3, 8, 61])
def test_each_piece_is_done_once(pool: native.Pool, pieces: int) -> None:
    assert trial(pool, runs=2000, pieces=pieces) == {2000}
    assert trial(pool, runs=200, pieces=pieces, work=300) == {200}


def test_workers_that_went_to_sleep_hear_of_the_next_job(pool: native.Pool) -> None:
    for _ in range(20):
        time.sleep(SETTLE_S)
        assert trial(pool, runs=1, pieces=20, work=2000) == {1}


def test_callers_at_the_same_time_take_turns(pool: native.Pool) -> None:
    results: list[set[int]] = []

    def call(pieces: int) -> None:
        results.append(trial(pool, runs=500, pieces=pieces, work=20))

    callers = [threading.Thread(target=call, args=(pieces,)) for pieces in (1, 5, 17, 40)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert results == [{500}] * 4


def test_pools_come_and_go_with_their_workers_spinning_or_asleep(library: native.Library) -> None:
    before = threads()
    for i in range(60):
        made = native.Pool(library, 4)
        if i % 3:
            assert trial(made, runs=i % 3, pieces=9) == {i % 3}
        if i % 10 == 0:
            time.sleep(SETTLE_S)
        made.close()
    assert no_more_threads_than(before)


def test_no_threads_is_one_and_a_hundred_share_two_pieces(library: native.Library) -> None:
    assert native.Pool(library, 0).threads == native.Pool(library, -5).threads == 1
    many = native.Pool(library, 100)
    assert trial(many, runs=300, pieces=2, work=50) == {300}
    many.close()


def test_the_threads_end_with_the_object(library: native.Library) -> None:
    before = threads()
    native.Pool(library, 3)
    assert no_more_threads_than(before)


@pytest.mark.parametrize("parent", ["idle", "busy"])
def test_a_forked_child_has_threads_of_its_own(library: native.Library, parent: str) -> None:
    """Also where another thread of the parent was in the middle of a job."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKED, parent], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stdout == f"{[0] * 10}\n", done.stderr


def threads() -> int:
    tasks = Path("/proc/self/task")
    if not tasks.exists():
        pytest.skip("threads cannot be counted here")
    return len(list(tasks.iterdir()))


def no_more_threads_than(before: int) -> bool:
    """The system lists a thread for a moment after it was joined."""
    end = time.monotonic() + 5
    while threads() > before and time.monotonic() < end:
        time.sleep(SETTLE_S)
    return threads() <= before
