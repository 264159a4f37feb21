"""How far apart are two cores of this machine? A host that moves its guests' processors about changes that while a benchmark runs.

    distance_ns() --> nanoseconds that a written word takes from one core to the other and back, halved

A few tens where the cores share a last-level cache, hundreds where they do not. What is between FAR_NS and the rest decides which
is which; a program of a few lines is compiled once for it, with `CXX` or c++. None where there is one core or no compiler.
"""

from __future__ import annotations

import atexit
import functools
import os
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

FAR_NS = 120.0
_PROGRAM = r"""
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <pthread.h>
#include <sched.h>
#include <thread>
alignas(128) static std::atomic<int> word{0};
static void stay(int core) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(core, &set);
  pthread_setaffinity_np(pthread_self(), sizeof set, &set);
}
int main() {
  cpu_set_t ours;
  sched_getaffinity(0, sizeof ours, &ours);
  int cores[2], found = 0;
  for (int core = 0; core < CPU_SETSIZE && found < 2; ++core)
    if (CPU_ISSET(core, &ours)) cores[found++] = core;
  const int batches = 20, turns = 1000;
  std::thread other([&] {
    stay(cores[1]);
    for (int i = 0; i < batches * turns; ++i) {
      while (word.load(std::memory_order_acquire) != 2 * i + 1) {}
      word.store(2 * i + 2, std::memory_order_release);
    }
  });
  stay(cores[0]);
  double best = 1e9;
  for (int batch = 0; batch < batches; ++batch) {
    auto started = std::chrono::steady_clock::now();
    for (int i = batch * turns; i < (batch + 1) * turns; ++i) {
      word.store(2 * i + 1, std::memory_order_release);
      while (word.load(std::memory_order_acquire) != 2 * i + 2) {}
    }
    best = std::min(best, std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now() - started).count() / turns / 2);
  }
  other.join();
  std::printf("%f", best);
}
"""


def distance_ns() -> float | None:
    """Takes some milliseconds. The quickest of some batches: a thread that still spins on a core does not make it farther."""
    if (program := _program()) is None or len(os.sched_getaffinity(0)) < 2:
        return None
    try:
        return float(subprocess.run([program], check=True, capture_output=True, timeout=60).stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


def place(*distances: float | None) -> str | None:
    """`near` or `far` where all say the same."""
    found = {None if one is None else "far" if one > FAR_NS else "near" for one in distances}
    return found.pop() if len(found) == 1 else None


@functools.cache
def _program() -> Path | None:
    folder = Path(tempfile.mkdtemp(prefix="apprentice-cores-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    source = folder / "cores.cpp"
    source.write_text(_PROGRAM)
    try:
        command = [*shlex.split(os.environ.get("CXX", "c++")), "-O2", "-std=c++17", "-pthread", source, "-o", folder / "cores"]
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return folder / "cores"
