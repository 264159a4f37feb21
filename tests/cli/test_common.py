import errno
import os

import pytest

from apprentice.cli import common
from apprentice.core.errors import ConfigError, StorageError


@pytest.mark.parametrize(
    ("words", "kept", "found"),
    [
        (["a", "--verbose", "b"], ["a", "b"], True),
        (["a", "--", "--verbose"], ["a", "--", "--verbose"], False),
        (["a"], ["a"], False),
    ],
)
def test_a_flag_is_taken_from_anywhere_in_front_of_the_double_dash(words: list[str], kept: list[str], found: bool) -> None:
    assert common.take_flag(words, "--verbose") == (kept, found)


def missing(name: str) -> ModuleNotFoundError:
    return ModuleNotFoundError(f"No module named {name!r}", name=name)


@pytest.mark.parametrize(
    ("error", "code", "message", "hint"),
    [
        (ConfigError("bad", hint="mend"), 2, "bad", "mend"),
        (StorageError("full"), 2, "full", None),
        (missing("torch.nn"), 2, "`torch` is not installed", "`pip install 'apprentice-coder[learn]'`"),
        (missing("starlette"), 2, "`starlette` is not installed", "`pip install 'apprentice-coder'`"),
        (missing("apprentice.nothing"), 1, "the module `apprentice.nothing` is missing", common.BUG_HINT),
        (OSError(errno.EACCES, os.strerror(errno.EACCES), "/x"), 2, "cannot read `/x`: Permission denied", None),
        (OSError(errno.EIO, "disk"), 1, "OSError: [Errno 5] disk", common.BUG_HINT),
        (ValueError("odd"), 1, "ValueError: odd", common.BUG_HINT),
        (MemoryError(), 2, "there is not enough memory", None),
    ],
)
def test_every_error_has_its_class_and_exit_code(error: Exception, code: int, message: str, hint: str | None) -> None:
    known = common.classify(error)
    assert (known.exit_code, known.message) == (code, message)
    assert hint in (None, known.hint)


def test_an_interruption_says_that_the_work_is_not_lost(capsys: pytest.CaptureFixture[str]) -> None:
    assert common.report(KeyboardInterrupt(), verbose=False) == 130
    assert "goes on where this one stopped" in capsys.readouterr().err


def test_results_go_to_stdout_as_json_or_text(capsys: pytest.CaptureFixture[str]) -> None:
    common.print_result({"a": "\x1b"}, json_output=True, text=lambda: "text")
    common.print_result({"a": 1}, json_output=False, text=lambda: "text")
    common.print_next("apprentice chat")
    printed = capsys.readouterr()
    assert printed.out == '{"a": "\\u001b"}\ntext\n'
    assert printed.err == "\nnext: apprentice chat\n"
