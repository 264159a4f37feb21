"""Facts about the machine and the code that a result should name, and that `apprentice doctor` judges.

Everything is read when asked for, never at import. What cannot be found out is left empty rather than guessed. No host or
user name is among the facts: results are published.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import math
import os
import platform
import re
import resource
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

PACKAGES = ("apprentice-coder", "numpy", "pyarrow", "tokenizers", "torch", "safetensors", "msgspec")
"""Whose versions change results."""
NOBODY_ELSE = 0.3
"""Cores that others may keep busy on a machine that counts as free."""
CGROUP = Path("/sys/fs/cgroup")
"""Where the kernel says what a container may use."""
TELLING_FLAGS = ("avx", "avx2", "fma", "f16c", "avx512f", "avx512_bf16", "avx512_vnni", "avx_vnni", "amx_bf16", "amx_int8",
                 "asimd", "bf16", "i8mm", "sve")  # fmt: skip
"""Kinds of CPU instructions that decide which arithmetic is fast (x86, then ARM)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """Hardware and its present load."""

    cpu: str
    flags: tuple[str, ...]
    """Those of TELLING_FLAGS that the CPU has."""
    cores: int
    """That this process may use."""
    memory_gib: float
    """Of the machine, or of the container's limit where that is lower."""
    memory_available_gib: float
    load: float
    """Processes running or waiting, mean over a minute."""
    system: str

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def look() -> Machine:
    """The machine as it is now."""
    cpu, flags = _cpu()
    total, available = _memory()
    return Machine(
        cpu=cpu,
        flags=tuple(flag for flag in TELLING_FLAGS if flag in flags),
        cores=cores(),
        memory_gib=round(total / 2**30, 1),
        memory_available_gib=round(available / 2**30, 1),
        load=round(os.getloadavg()[0], 2),
        system=f"{platform.system()} {platform.machine()}",
    )


def share_cores() -> None:
    """Let threads of the arithmetic libraries sleep while they wait, for this process. Must be called before torch is
    loaded. Threads that spin take the core from whoever else runs: one training step went from 9 to 43 s."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    busy = busy_cores(Path("/proc/stat"))
    if busy is not None and busy < NOBODY_ELSE:
        # For some microseconds first: a fifth less for a training step, alone. Beside a process that keeps a core busy it would be a fifth more.
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")


def busy_cores(stat: Path, *, over_s: float = 0.1) -> float | None:
    """Cores' worth of time that all programs take at this moment; None where nobody says. Source: proc_stat(5)."""
    found: list[tuple[int, int]] = []
    with contextlib.suppress(OSError, ValueError, IndexError):
        for wait_s in (over_s, 0.0):
            ticks = [int(word) for word in stat.read_text(encoding="utf-8").split("\n", 1)[0].split()[1:9]]
            found.append((sum(ticks), ticks[3] + ticks[4]))
            time.sleep(wait_s)
        total, idle = (after - before for before, after in zip(*found, strict=True))
        return (os.cpu_count() or 1) * (total - idle) / total if total > 0 else None
    return None


def cores() -> int:
    """CPU cores that this process may use: by its affinity, a container's share of time, and `OMP_NUM_THREADS` where that is set."""
    found = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if (quota := cpu_quota(CGROUP)) is not None:
        # More threads than that would spend each other's time in waiting.
        found = min(found, max(1, math.ceil(quota)))
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return min(int(asked), found) if asked.isdecimal() and int(asked) > 0 else found


def cpu_quota(cgroup: Path) -> float | None:
    """Cores' worth of time that a container may use; None where it has no limit. Source: the kernel's "Control Group v2", `cpu.max`."""
    with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
        quota, period = (cgroup / "cpu.max").read_text(encoding="utf-8").split()
        return int(quota) / int(period)
    return None


def versions() -> dict[str, str]:
    """Python and those of PACKAGES that are installed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


@functools.cache
def code_version() -> dict[str, str]:
    """`version` of Apprentice and, where it runs from a git checkout of its own, `commit` (with `+changes`)."""
    facts = {}
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        facts["version"] = importlib.metadata.version("apprentice-coder")
    root = Path(__file__).resolve().parents[3]
    if (root / ".git").exists() and (root / "src" / "apprentice").is_dir():
        commit = _git(root, "rev-parse", "HEAD")
        if commit:
            changed = _git(root, "status", "--porcelain", "--untracked-files=no", "--", "src")
            facts["commit"] = commit + ("+changes" if changed else "")
    return facts


def peak_memory_gib() -> float:
    """The most memory that this process or one of its finished children has held."""
    unit = 1 if sys.platform == "darwin" else 1024
    return max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) * unit / 2**30


def free_disk_gib(folder: Path) -> float:
    """Free space where `folder` lies, or would lie."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free / 2**30


def facts() -> dict[str, Any]:
    """All of it, as written beside results."""
    return {"machine": look().to_dict(), "versions": versions(), "code": code_version()}


def _cpu() -> tuple[str, set[str]]:
    name, flags = platform.processor() or platform.machine(), set[str]()
    with contextlib.suppress(OSError):
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
        if model := re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE):
            name = model[1].strip()
        if listed := re.search(r"^(?:flags|Features)\s*:\s*(.+)$", text, re.MULTILINE):
            flags = set(listed[1].split())
    return name, flags


def _memory() -> tuple[int, int]:
    """Total and available bytes."""
    total = available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with contextlib.suppress(OSError):
        if found := re.search(r"^MemAvailable:\s*(\d+)", Path("/proc/meminfo").read_text(encoding="utf-8"), re.MULTILINE):
            available = int(found[1]) * 1024
    if (limits := memory_limits(CGROUP)) is not None:
        total, available = min(total, limits[0]), min(available, limits[1])
    return total, available


def memory_limits(cgroup: Path) -> tuple[int, int] | None:
    """Total and available bytes of a container; None where it has no limit. Files that the kernel keeps in memory are counted to it and
    given up when somebody needs the room. Source: the kernel's "Control Group v2", `memory.stat`."""
    with contextlib.suppress(OSError, ValueError):
        limit = int((cgroup / "memory.max").read_text(encoding="utf-8"))
        used = int((cgroup / "memory.current").read_text(encoding="utf-8"))
        with contextlib.suppress(OSError, ValueError):
            counts = dict(line.split() for line in (cgroup / "memory.stat").read_text(encoding="utf-8").splitlines())
            used -= sum(int(counts.get(name, 0)) for name in ("inactive_file", "active_file", "slab_reclaimable"))
        return limit, max(0, limit - max(0, used))
    return None


def _git(root: Path, *words: str) -> str:
    """Output of a git command in OUR OWN checkout; anything else goes through `repository.git`."""
    try:
        done = subprocess.run(
            ["git", "-c", "core.fsmonitor=false", "-C", str(root), *words], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
