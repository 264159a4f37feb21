"""The native library as Python finds it, or does not: each reason, what mends it, the variants that this machine has."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from apprentice.core import machine
from apprentice.kernels import native

SOURCES = Path(native.__file__).with_name("native")
LOOK = """
from apprentice.kernels import native
library = native.load()
print(library.variant if library else native.why_missing())
native.warn_if_missing()
"""
# What `machine` tells of a CPU that runs a variant; it knows fewer flags than the library asks for.
NEEDED_FLAGS = {
    "portable": set[str](),
    "avx2": {"avx2", "fma", "f16c"},
    "avx512": {"avx2", "fma", "f16c", "avx512f", "avx512_vnni", "avx512_bf16"},
    "neon": {"asimd"},
}


@pytest.fixture
def library() -> native.Library:
    found = native.load()
    if found is None:
        pytest.skip(native.why_missing())
    return found


def look(asked: str, code: str = LOOK) -> subprocess.CompletedProcess[str]:
    """What a new process says of the library."""
    path = str(SOURCES.parents[2])
    return subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": path, native.SWITCH: asked},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


def test_python_and_the_sources_agree_on_the_interface() -> None:
    header = (SOURCES / "c_api.h").read_text()
    assert re.findall(r"^#define APPRENTICE_ABI (\d+)$", header, re.MULTILINE) == [str(native.ABI)]


def test_variants_are_those_that_this_cpu_runs_fastest_first(library: native.Library) -> None:
    flags = set(machine.look().flags)
    runs = [name for name in library.compiled if NEEDED_FLAGS[name] <= flags]
    assert set(library.usable) <= set(runs), "a variant that the CPU lacks would end the process"
    order = [name for name in ("avx512", "avx2", "neon", "portable") if name in library.usable]
    assert list(library.usable) == order
    assert library.usable[-1] == "portable"


@pytest.mark.parametrize("variant", ["portable", "avx2", "avx512", "neon"])
def test_a_variant_can_be_asked_for(library: native.Library, variant: str) -> None:
    done = look(variant)
    if variant in library.usable:
        assert done.stdout == f"{variant}\n", done.stderr
    else:
        assert f"`{native.SWITCH}={variant}`: no such variant" in done.stderr
        pytest.skip(f"this machine or this build lacks {variant}")


def test_a_misspelt_variant_is_an_error_that_names_the_known_ones(library: native.Library) -> None:
    done = look("avx52")
    assert done.returncode == 1
    assert "ConfigError: `APPRENTICE_NATIVE=avx52`: no such variant of the operators here" in done.stderr


def test_nothing_is_loaded_by_importing() -> None:
    code = "import sys, apprentice.kernels.native as native; print('numpy' in sys.modules, native._found.cache_info().misses)"
    assert look("", code).stdout == "False 0\n"


def test_switched_off_means_numpy_without_a_warning() -> None:
    done = look("off")
    assert (done.stdout, done.stderr) == ("switched off by `APPRENTICE_NATIVE=off`\n", "")


def test_a_missing_library_is_said_once_with_what_mends_it(tmp_path: Path) -> None:
    path = tmp_path / "libapprentice.so"
    done = look(str(path), LOOK + "native.warn_if_missing()")
    assert done.stdout == f"not compiled: there is no `{path}`\n"
    assert done.stderr == (
        f"warning: slow: no native operators (not compiled: there is no `{path}`)\nhint: `unset APPRENTICE_NATIVE`\n"
    )


def test_a_damaged_library_is_no_library(tmp_path: Path) -> None:
    path = tmp_path / "libapprentice.so"
    path.write_bytes(b"\x7fELF" + bytes(200))
    done = look(str(path))
    assert done.stdout.startswith(f"`{path}` cannot be loaded: ")
    assert done.returncode == 0


def test_a_library_of_something_else_is_no_library() -> None:
    import _ctypes

    assert "cannot be loaded: " in look(str(_ctypes.__file__)).stdout


def test_a_library_of_another_interface_is_refused(library: native.Library) -> None:
    code = "from apprentice.kernels import native; native.ABI += 1; print(native.load(), native.why_missing())"
    done = look("", code)
    assert done.stdout.startswith("None ")
    assert done.stdout.endswith(f"is of another version: interface {native.ABI}, {native.ABI + 1} is needed\n")


def test_no_file_of_a_variant_defines_what_the_linker_may_take_for_all() -> None:
    """A function that stands in several files (inline, a template) is kept once: the copy with AVX-512 would run anywhere."""
    root = SOURCES.parents[3]
    found = [
        path
        for folder in ("tools/editable", "build/native")
        for variant in ("avx2", "avx512", "neon")
        for path in (root / folder).rglob(f"*_{variant}.cpp.o")
    ]
    if not found or not shutil.which("nm"):
        pytest.skip("no compiled files at hand" if not found else "no `nm` here")
    for path in found:
        said = subprocess.run(["nm", "--defined-only", path], capture_output=True, text=True, check=True).stdout
        assert [line for line in said.splitlines() if line.split()[-2] in "WVu"] == [], path


def test_only_functions_of_the_interface_are_exported(library: native.Library) -> None:
    if library.path != native.FILE:
        pytest.skip("a library of its own is in use, as one for sanitizers, which exports more")
    try:
        said = subprocess.run(["nm", "-D", "--defined-only", library.path], capture_output=True, text=True, check=True)
    except FileNotFoundError:
        pytest.skip("no `nm` here")
    names = {line.split()[-1].removeprefix("_") for line in said.stdout.splitlines()}
    assert {name for name in names if not name.startswith("apprentice_")} == set()
    assert set(native.SIGNATURES) <= names
