"""Variants for processors that this machine is not: compiled for them and run under an emulator, where both are installed."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NATIVE = ROOT / "src" / "apprentice" / "kernels" / "native"
SOURCES = ("tiles.cpp", "baseline.cpp", "cpu.cpp")
FLAGS = ("-std=c++17", "-O2", "-fno-math-errno", "-fno-trapping-math", "-DAPPRENTICE_WITH_NEON", "-DAPPRENTICE_WITH_PORTABLE")


def compiler() -> list[str]:
    """One that compiles for aarch64 and links statically."""
    if found := shutil.which("aarch64-linux-gnu-g++"):
        return [found, "-static", "-march=armv8.2-a+dotprod"]
    if importlib.util.find_spec("ziglang"):
        return [sys.executable, "-m", "ziglang", "c++", "-target", "aarch64-linux-musl", "-march=generic+v8_2a+dotprod"]
    pytest.skip("no compiler for aarch64: `sudo apt install g++-aarch64-linux-gnu`, or `pip install ziglang`")


@pytest.mark.timeout(600)
def test_neon_computes_what_plain_code_does(tmp_path: Path) -> None:
    emulator = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")
    if emulator is None:
        pytest.skip("no emulator of aarch64: `sudo apt install qemu-user-static`")
    command = compiler()
    parts = [NATIVE / name for name in SOURCES] + sorted(NATIVE.glob("*_portable.cpp")) + sorted(NATIVE.glob("*_neon.cpp"))
    program = tmp_path / "variants"
    sources = [str(part) for part in (Path(__file__).with_name("variants.cpp"), *parts)]
    subprocess.run([*command, *FLAGS, "-iquote", str(NATIVE), *sources, "-o", str(program)], check=True)
    done = subprocess.run([emulator, str(program)], capture_output=True, text=True, check=False)
    assert "variant neon" in done.stdout
    assert done.returncode == 0, done.stdout
