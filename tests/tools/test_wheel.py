"""What is installed elsewhere: the wheel carries its data and its native operators, or none where nothing compiles them, and
serves and quantizes without the libraries of learning."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(300)  # compiling
ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "apprentice"
LEARNING = ("torch", "pyarrow", "scipy", "transformers", "rensa", "vl_convert", "rapidfuzz", "safetensors")
ENTRIES = ("apprentice.engine.engine", "apprentice.serve.server", "apprentice.cli.main")
WITHOUT_LEARNING = f"""
import sys
for name in {LEARNING!r}:
    sys.modules[name] = None  # whoever imports it gets a ModuleNotFoundError
from apprentice.cli.main import run
sys.exit(run(sys.argv[1:]))
"""


SOURCES = {".cpp", ".h", ".inl"}


def data_files() -> set[str]:
    """All of the package that is neither module nor source nor compiled."""
    found = (path for path in SOURCE.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    data = (
        path for path in found if path.suffix not in {".py", *SOURCES} and not path.name.startswith("libapprentice.")
    )
    return {path.relative_to(SOURCE.parent).as_posix() for path in data}


def built(folder: Path, **settings: str) -> Path:
    """A wheel built into `folder`, without network."""
    pytest.importorskip("scikit_build_core", reason="the build backend is not installed")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_CONFIG_FILE": os.devnull, **settings}
    done = subprocess.run(
        [*command, "--wheel-dir", str(folder), str(ROOT)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (found,) = folder.glob("apprentice_coder-*.whl")
    return found


def unpack(wheel: Path) -> Path:
    folder = wheel.parent / "unpacked"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def libraries(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in folder.rglob("libapprentice.*")]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def unpacked(wheel: Path) -> Path:
    """What an installation puts on the path."""
    return unpack(wheel)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small checkpoint."""
    from apprentice.model import base as bases

    return bases.resolve("debug", tmp_path_factory.mktemp("cache"))


def start(*words: object, code: str, path: Path = SOURCE.parent) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(path)}
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, words)], env=environment, capture_output=True, text=True, check=False
    )


def test_the_package_has_data_that_a_wheel_must_carry() -> None:
    known = {"memory/default_gate.json", "text/vendor_keys.toml", "repository/neutral/sha1/HEAD", "py.typed"}
    assert {f"apprentice/{name}" for name in known} <= data_files()


def test_the_wheel_carries_every_module_and_every_data_file(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    modules = {path.relative_to(SOURCE.parent).as_posix() for path in SOURCE.rglob("*.py")}
    assert data_files() | modules <= names
    assert not any(name.startswith(("tests/", "benchmarks/")) for name in names)
    assert not any(Path(name).suffix in SOURCES for name in names)
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    assert wheel.stat().st_size < 5_000_000


def test_the_wheel_serves_every_python_of_its_platform(wheel: Path) -> None:
    assert re.search(r"-py3-none-(?!any)\w+\.whl$", wheel.name)


def test_the_wheel_carries_the_native_operators(unpacked: Path) -> None:
    if not any(shutil.which(name) for name in (os.environ.get("CXX") or "c++", "g++", "clang++")):
        pytest.skip("no C++ compiler here")
    (library,) = libraries(unpacked)
    assert library.startswith("apprentice/kernels/")
    done = start(code="from apprentice.kernels import native; print(native.load().path)", path=unpacked)
    assert done.stdout == f"{unpacked / library}\n", done.stderr


def test_without_a_compiler_the_wheel_is_built_and_says_what_it_lacks(tmp_path: Path) -> None:
    """Also where a compiled library of other sources lies in the checkout."""
    folder = unpack(built(tmp_path, CXX=str(tmp_path / "no-compiler")))
    assert libraries(folder) == []
    code = "from apprentice.kernels import native; print(native.load()); native.warn_if_missing(); native.warn_if_missing()"
    done = start(code=code, path=folder)
    assert done.stdout == "None\n"
    assert done.stderr.startswith("warning: slow: no native operators (not compiled: ")
    assert done.stderr.splitlines()[1].startswith("hint: ")
    assert len(done.stderr.splitlines()) == 2


@pytest.mark.parametrize("entry", ENTRIES)
def test_the_serving_side_imports_nothing_of_the_learning_side(entry: str) -> None:
    done = start(code=f"import sys, {entry}\nprint([name for name in {LEARNING!r} if name in sys.modules])")
    assert done.stdout == "[]\n", done.stderr


def test_quantizing_and_chatting_need_no_learning_library(base: Path, tmp_path: Path) -> None:
    made = start("model", "quantize", base, "--out", tmp_path / "small", "--json", code=WITHOUT_LEARNING)
    assert made.returncode == 0, made.stderr
    said = start("chat", "Hello", "--model", tmp_path / "small", "--max-tokens", 2, "--json", code=WITHOUT_LEARNING)
    assert said.returncode == 0, said.stderr


def test_what_was_unpacked_runs_by_itself(unpacked: Path, base: Path, tmp_path: Path) -> None:
    where = start(code="import apprentice.cli; print(apprentice.cli.__file__)", path=unpacked)
    assert where.stdout.startswith(str(unpacked)), where.stderr
    words = ("model", "quantize", base, "--out", tmp_path / "small", "--json")
    assert start(*words, code=WITHOUT_LEARNING, path=unpacked).returncode == 0
    gate = start(code="from apprentice.memory.gate import Gate; Gate.default()", path=unpacked)
    assert gate.returncode == 0, gate.stderr


def test_learning_without_its_libraries_names_the_command_that_installs_them(tmp_path: Path) -> None:
    done = start("learn", "--base", "debug", "--out", tmp_path / "runs", code=WITHOUT_LEARNING)
    assert done.returncode == 2
    assert done.stderr.endswith("hint: `pip install 'apprentice-coder[learn]'`\n"), done.stderr
