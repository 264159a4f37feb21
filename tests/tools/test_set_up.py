import fcntl
import importlib.metadata
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests" / "data" / "tools"
STUB = r"""#!/usr/bin/env bash
echo "$*" >>"$LOG"
case "$*" in
    *"sys.version_info < "*) exit "${OLD:-0}" ;;
    *"import ensurepip"*) exit "${NO_VENV:-0}" ;;
    *"get_requires"*) echo "${NEEDS:-}" ;;
    *"print("*) echo 3.11 ;;
    *"-m venv"*) rm -rf .venv; mkdir -p .venv/bin; cp "$0" .venv/bin/python ;;
    *"torch_choice.py installed"*) exit 1 ;;
    *"torch_choice.py cuda"*) exit "${CUDA:-1}" ;;
    *"install --quiet -c requirements/constraints.txt pip"*) exit "${OFFLINE:-0}" ;;
    *"-e ."*) exit "${BREAKS:-0}" ;;
esac
"""
COPIED = ("tools/set_up", "tools/torch_choice.py", "tools/editable/CMakeLists.txt", "requirements/constraints.txt",
          "pyproject.toml", "CMakeLists.txt")  # fmt: skip
SOURCE = "src/apprentice/kernels/native/pool.cpp"
SetUp = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with stand-ins for every Python, which write down how they were called."""
    for name in (*COPIED, SOURCE):
        (tmp_path / "it" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / "it" / name)
    for name in ("python3", "python3.11", "python3.12", "python3.13", "python3.14"):
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(STUB)
        path.chmod(0o755)
    return tmp_path / "it"


def set_up(checkout: Path, mode: str = "run", *options: str, **environment: str) -> tuple[int, str, list[str]]:
    """Exit code, what was said, and the calls of Python."""
    log = checkout.parent / "log"
    log.write_text("")
    path = f"{checkout.parent / 'bin'}:/usr/bin:/bin"
    done = subprocess.run(
        [checkout / "tools" / "set_up", mode, *options],
        env={"PATH": path, "LOG": str(log), **environment},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.stdout == ""
    return done.returncode, done.stderr, log.read_text().splitlines()


def test_size_and_time_are_said_first_and_the_second_call_ends_at_once(checkout: Path) -> None:
    code, said, calls = set_up(checkout)
    assert code == 0
    assert said.splitlines()[0].startswith("set-up, once: 420 MB to download")
    assert any("-e .[learn] " in call for call in calls)
    assert any("fetch_base.py" in call for call in calls)
    assert set_up(checkout) == (0, "", [])


def test_tests_get_their_tools_and_a_named_base_is_not_fetched_twice(checkout: Path) -> None:
    _, _, calls = set_up(checkout, "test", "--no-base")
    assert any("-e .[learn,test] " in call for call in calls)
    assert not any("fetch_base.py" in call for call in calls)


def test_a_changed_requirement_is_installed_into_the_same_environment(checkout: Path) -> None:
    set_up(checkout)
    with (checkout / "requirements" / "constraints.txt").open("a") as stream:
        stream.write("new==1\n")
    code, _, calls = set_up(checkout)
    assert code == 0
    assert any("-e .[learn] " in call for call in calls)
    assert not any("-m venv" in call for call in calls)


def test_what_was_there_goes_on_where_nothing_can_be_fetched(checkout: Path) -> None:
    set_up(checkout)
    pins = checkout / "requirements" / "constraints.txt"
    before = pins.read_text()
    pins.write_text(before + "new==1\n")
    assert set_up(checkout, OFFLINE="1")[0] == 1
    assert (checkout / ".venv" / "bin" / "python").exists()
    pins.write_text(before)
    code, said, calls = set_up(checkout)
    assert (code, said) == (0, "set-up: what is needed has changed\nlooking up which build of torch "
                               f"{before.partition('torch==')[2].partition(chr(10))[0]} pip would take\nset-up is done\n")  # fmt: skip
    assert not any("-m venv" in call for call in calls)


def test_the_second_of_two_waits_and_has_nothing_to_do(checkout: Path) -> None:
    lock = checkout / ".set-up.lock"
    with lock.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        path = f"{checkout.parent / 'bin'}:/usr/bin:/bin"
        second = subprocess.Popen([checkout / "tools" / "set_up", "run"], env={"PATH": path, "LOG": str(checkout.parent / "log")}, stderr=subprocess.PIPE)
        assert second.stderr is not None
        with pytest.raises(subprocess.TimeoutExpired):
            second.wait(0.5)
        assert not (checkout / ".venv").exists()
    with second.stderr:
        assert second.wait(60) == 0
    assert set_up(checkout) == (0, "", [])


def test_a_changed_native_source_is_compiled_and_nothing_else_is_done(checkout: Path) -> None:
    set_up(checkout)
    with (checkout / SOURCE).open("a") as stream:
        stream.write("// changed\n")
    code, said, calls = set_up(checkout)
    assert (code, said) == (0, "the native operators have changed: compiling them\n")
    (pip,) = [call for call in calls if call.startswith("-m pip")]
    assert "--no-build-isolation --quiet --no-deps -e . " in pip
    assert set_up(checkout) == (0, "", [])


def test_the_build_tool_s_finder_does_not_win_over_the_python_path(checkout: Path) -> None:
    set_up(checkout)
    hook = checkout / ".venv" / "lib" / "python3.11" / "site-packages" / "_editable_skbc_apprentice_coder.pth"
    hook.parent.mkdir(parents=True)
    hook.write_text("import _editable_skbc_apprentice_coder\n/somewhere/src\n")
    with (checkout / SOURCE).open("a") as stream:
        stream.write("// changed\n")
    assert set_up(checkout)[0] == 0
    assert hook.read_text() == "/somewhere/src\n"


def test_an_operator_that_does_not_compile_stops_each_time(checkout: Path) -> None:
    set_up(checkout)
    (checkout / SOURCE).write_text("broken")
    assert set_up(checkout, BREAKS="1")[0] == 1
    assert set_up(checkout, BREAKS="1")[0] == 1
    assert set_up(checkout)[0] == 0


def test_cmake_and_ninja_are_installed_where_the_system_has_none(checkout: Path) -> None:
    calls = set_up(checkout, NEEDS="cmake>=3.18 ninja>=1.5")[2]
    assert any("install -c requirements/constraints.txt cmake>=3.18 ninja>=1.5 " in call for call in calls)
    assert not any("cmake" in call for call in set_up(checkout.parent / "it", "test", NEEDS="")[2] if "pip" in call)


def test_an_interrupted_set_up_begins_anew(checkout: Path) -> None:
    assert set_up(checkout, BREAKS="1")[0] == 1
    code, said, calls = set_up(checkout)
    assert code == 0
    assert "making it anew" in said
    assert any("-m venv --clear" in call for call in calls)
    assert set_up(checkout) == (0, "", [])


def test_a_moved_checkout_begins_anew(checkout: Path) -> None:
    set_up(checkout)
    moved = checkout.rename(checkout.parent / "moved")
    assert any("-m venv --clear" in call for call in set_up(moved)[2])


def test_torch_comes_through_uv_only_where_pip_would_bring_cuda(checkout: Path) -> None:
    calls = set_up(checkout, CUDA="0")[2]
    uv = next(i for i, call in enumerate(calls) if "-m uv pip install" in call)
    assert "--torch-backend cpu" in calls[uv]
    assert "-m pip install -c requirements/constraints.txt uv" in calls[uv - 1]
    assert uv < next(i for i, call in enumerate(calls) if "-e ." in call)


def test_no_uv_where_pip_finds_a_cpu_build(checkout: Path) -> None:
    assert not any("uv" in call.split() for call in set_up(checkout, CUDA="1")[2])


def test_a_missing_venv_is_named_with_the_command_that_installs_it(checkout: Path) -> None:
    code, said, _ = set_up(checkout, NO_VENV="1")
    assert code == 2
    assert "hint: `sudo apt install python3.11-venv`" in said


def test_an_old_python_is_named_with_the_command_that_installs_a_newer(checkout: Path) -> None:
    code, said, _ = set_up(checkout, OLD="1")
    assert code == 2
    assert "error: Python 3.11 or newer is needed" in said
    assert "hint: `sudo apt install python3.11 python3.11-venv`" in said


def choose(*words: str) -> int:
    return subprocess.run(
        [sys.executable, ROOT / "tools" / "torch_choice.py", *words], check=False, timeout=60
    ).returncode


def test_what_pip_would_install_tells_whether_cuda_comes_with_it() -> None:
    assert choose("cuda", str(DATA / "torch-cuda.json")) == 0
    assert choose("cuda", str(DATA / "torch-cpu.json")) == 1


def test_another_version_of_torch_is_not_taken_for_the_wanted_one() -> None:
    assert choose("installed", "0.0.1") == 1


@pytest.mark.parametrize("script", ["run", "test", "tools/set_up", ".ci/run"])
def test_the_scripts_are_executable_and_parse(script: str) -> None:
    assert os.access(ROOT / script, os.X_OK)
    subprocess.run(["bash", "-n", ROOT / script], check=True, timeout=60)


def test_no_pin_names_a_host_or_a_cuda_package() -> None:
    text = (ROOT / "requirements" / "constraints.txt").read_text()
    pins = [line for line in text.splitlines() if not line.startswith("#")]
    assert all("==" in pin and "/" not in pin and "nvidia" not in pin and "+c" not in pin for pin in pins)


def required(package: str, extras: frozenset[str]) -> Iterator[tuple[str, frozenset[str]]]:
    for text in importlib.metadata.requires(package) or ():
        requirement = Requirement(text)
        wanted = [{"extra": extra} for extra in extras or {""}]
        if requirement.marker is None or any(requirement.marker.evaluate(environment) for environment in wanted):
            yield canonicalize_name(requirement.name), frozenset(requirement.extras)


def test_everything_that_is_installed_is_pinned() -> None:
    """Else two clones set up on two days differ. The closure of what ./test installs against the pins."""
    lines = (ROOT / "requirements" / "constraints.txt").read_text().splitlines()
    given = dict(line.split("==") for line in lines if not line.startswith("#"))
    pins: dict[str, str] = {canonicalize_name(name): version for name, version in given.items()}
    open_names, closure = [("apprentice-coder", frozenset({"learn", "test"}))], set[str]()
    while open_names:
        package, extras = open_names.pop()
        news = [(name, more) for name, more in required(package, extras) if name not in closure]
        closure |= {name for name, _ in news}
        open_names += news
    installed = {name: importlib.metadata.version(name).partition("+")[0] for name in closure}
    assert {name: version for name, version in installed.items() if pins.get(name) != version} == {}
