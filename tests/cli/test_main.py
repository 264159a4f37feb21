import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from apprentice.cli.main import COMMANDS, GROUPS, Command, run

Start = Callable[..., subprocess.CompletedProcess[str]]
HEAVY = ("torch", "numpy", "pyarrow", "tokenizers", "starlette", "pygls")


def start(*words: str, code: str = "from apprentice.cli.main import main; main()") -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("words", [["--help"], ["docto"], ["--version"]])
def test_help_and_typing_errors_load_nothing_heavy(words: list[str]) -> None:
    code = f"""
import sys
from apprentice.cli.main import run
code = run({words!r})
print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)
"""
    assert start(code=code).stderr.splitlines()[-1] == "[]"


def test_help_names_every_command() -> None:
    done = start("--help")
    assert done.returncode == 0
    for command in COMMANDS:
        assert command.words.split()[0] in done.stdout
    assert "--verbose" in done.stdout


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.words)
def test_every_line_of_the_table_leads_to_a_function_with_a_docstring(command: Command) -> None:
    module_name, _, function_name = command.path.partition(":")
    assert importlib.util.find_spec(module_name), command.path
    function = getattr(importlib.import_module(module_name), function_name)
    assert function.__doc__
    assert not command.help.endswith(".")
    assert len(command.words.split()) == 1 or command.words.split()[0] in GROUPS


def test_a_misspelt_command_or_option_is_told_the_nearest() -> None:
    for words, message, hint in [
        (["docter"], "error: there is no command `docter`", "hint: did you mean `doctor`?"),
        (["doctor", "--jsn"], "error: there is no option `--jsn`", "hint: did you mean `--json`?"),
        (["doctor", "--jsn=1"], "error: there is no option `--jsn`", "hint: did you mean `--json`?"),
        (["doctor", "x"], "error: unexpected argument `x`", "hint: see `apprentice doctor --help`"),
        (["zzz"], "error: there is no command `zzz`", "hint: see `apprentice --help`"),
        (["discover"], "error: there is no command `discover`", "hint: did you mean `apprentice sessions discover`?"),
    ]:
        done = start(*words)
        assert done.returncode == 2
        assert done.stdout == ""
        assert done.stderr == f"{message}\n\n{hint}\n"


TABLE = (
    Command("sessions read", "tests_cli_commands:read", "Read"),
    Command("sessions show", "tests_cli_commands:show", "Show"),
    Command("answer", "tests_cli_commands:answer", "Answer"),
    Command("broken", "tests_cli_commands:not_there", "Broken"),
)
MODULE = """
from pathlib import Path
from apprentice.core.errors import InputError
def read(path: Path, *, limit: int = 3):
    "Read."
    print("read", path, limit)
def show():
    "Show."
    raise InputError("no such \\x1b[31msession", hint="look again")
def answer():
    "Answer."
    return 7
"""


@pytest.fixture
def start_table(tmp_path_factory: pytest.TempPathFactory) -> Start:
    folder = tmp_path_factory.mktemp("commands")
    (folder / "tests_cli_commands.py").write_text(MODULE)

    def start_with(*words: str) -> subprocess.CompletedProcess[str]:
        code = f"""
import sys
sys.path.insert(0, {str(folder)!r})
from apprentice.cli.main import Command, run
sys.exit(run(sys.argv[1:], [Command(*line) for line in {[tuple(line) for line in TABLE]!r}]))
"""
        return start(*words, code=code)

    return start_with


def test_two_word_commands_and_their_options(start_table: Start) -> None:
    assert start_table("sessions", "read", "a", "--limit", "4").stdout == "read a 4\n"
    assert "Read" in start_table("sessions", "--help").stdout
    assert "hint: did you mean `read`?" in start_table("sessions", "raed").stderr
    wrong = start_table("sessions", "read", "a", "--limit", "x").stderr
    assert wrong.startswith("error: invalid value for --limit: unable to convert `x`")
    assert start_table("sessions", "read", "a", "--limit").stderr.startswith("error: `--limit` needs a value")
    assert start_table("sessions", "read").stderr.startswith("error: `PATH` is missing")


def test_a_result_that_is_a_number_is_the_exit_code(start_table: Start) -> None:
    assert start_table("answer").returncode == 7


def test_an_error_has_message_hint_and_exit_code_and_no_escape_reaches_the_terminal(start_table: Start) -> None:
    done = start_table("sessions", "show")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: no such session\n\nhint: look again\n"


@pytest.mark.parametrize("words", [("--verbose", "sessions", "show"), ("sessions", "show", "--verbose")])
def test_verbose_shows_the_traceback(start_table: Start, words: tuple[str, ...]) -> None:
    done = start_table(*words)
    assert "Traceback (most recent call last)" in done.stderr
    assert "error: no such session" in done.stderr


def test_a_command_that_cannot_be_loaded_is_our_error_and_others_still_run(start_table: Start) -> None:
    done = start_table("broken")
    assert done.returncode == 1
    assert done.stderr.startswith("error: AttributeError")
    assert start_table("answer").returncode == 7
    assert start_table("--help").returncode == 0


def test_doctor_prints_one_json_object() -> None:
    done = start("doctor", "--json")
    assert done.returncode in (0, 2)
    value = json.loads(done.stdout)
    assert {"checks", "works", "machine", "versions", "code"} <= set(value)
    assert {"python", "git", "cpu", "memory", "disk", "base model"} <= {check["name"] for check in value["checks"]}


def test_a_closed_pipe_ends_quietly() -> None:
    code = "import sys; from apprentice.cli.main import run; sys.exit(run(['doctor', '--json']))"
    reader, writer = os.pipe()
    os.close(reader)
    with subprocess.Popen([sys.executable, "-c", code], stdout=writer, stderr=subprocess.PIPE, text=True) as process:
        os.close(writer)
        assert process.stderr is not None
        assert process.stderr.read() == ""
    assert process.returncode == 0


def test_run_in_process_returns_the_code() -> None:
    assert run(["nothing-like-it"]) == 2
