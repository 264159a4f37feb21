"""What all commands share: results on stdout, errors on stderr with a hint and an exit code.

    exit 0   done
    exit 2   the user can mend it: a misspelt option, a missing file or package, a full disk
    exit 1   our mistake; `--verbose` shows where
    exit 130 interrupted

Both streams take any text: what the terminal cannot show is written as an escape.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import cyclopts

from apprentice.core.errors import ApprenticeError, ConfigError, InputError, InternalError, MissingPieceError
from apprentice.core.text_safety import terminal_safe

INTERRUPTED = 130
BUG_HINT = "this is a mistake in Apprentice; run it again with `--verbose` and report what it prints"
LEARN_PACKAGES = frozenset({"torch", "pyarrow", "rensa", "vl_convert", "scipy", "rapidfuzz"})
"""Modules that come with the extra `[learn]`."""
JsonFlag = Annotated[bool, cyclopts.Parameter(name="--json", negative="", help="Print one JSON object on stdout")]
"""The type of every command's `json` option."""


def version() -> str:
    """Of Apprentice, as installed."""
    import importlib.metadata

    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version("apprentice-coder")
    return "unknown"


def print_result(value: Any, *, json_output: bool, text: Callable[[], str]) -> None:
    """The result of a command on stdout: one JSON object, or text for people (made only then). Text from outside must have
    gone through `terminal_safe`; JSON needs nothing, its strings are escaped."""
    print(json.dumps(value, allow_nan=False) if json_output else text(), flush=True)


def check_out(out: Path, *reads: Path) -> None:
    """Before a folder is written anew, with nothing left of what is in it. Raises: InputError where that is nothing of ours, or what
    the command `reads`."""
    from apprentice.core import artifacts

    for path in reads:
        if path.resolve().is_relative_to(out.resolve()):
            raise InputError(f"`{out}` would be written anew, and `{path}` is read", hint="name another folder with `--out`")
    if out.is_dir() and any(out.iterdir()) and not any((out / name).is_file() for name in (artifacts.MANIFEST, artifacts.UNFINISHED)):
        raise InputError(f"`{out}` holds files that Apprentice did not make", hint="name a new folder with `--out`")


def check_newest(newest: int | None) -> None:
    """Raises: ConfigError for an option `--newest` that asks for nothing."""
    if newest is not None and newest < 1:
        raise ConfigError(f"`--newest {newest}` asks for nothing", hint="give 1 or more")


def print_next(command: str) -> None:
    """The last line of a command: what is worth typing next. On stderr, so that results can be piped."""
    print(f"\nnext: {command}", file=sys.stderr)


def warn(message: str) -> None:
    """Something that the user asked for was skipped or changed."""
    print(f"warning: {terminal_safe(message)}", file=sys.stderr)


def take_flag(words: Sequence[str], flag: str) -> tuple[list[str], bool]:
    """The words without a flag that may stand anywhere in front of `--`, and whether it was there."""
    end = words.index("--") if "--" in words else len(words)
    kept = [word for word in words[:end] if word != flag]
    return [*kept, *words[end:]], len(kept) < end


def prepare_streams() -> None:
    """Let stdout and stderr take any text."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def report(error: BaseException, *, verbose: bool) -> int:
    """Print an error in our form. Returns the exit code."""
    if isinstance(error, BrokenPipeError):
        # The reader (`| head`) has gone. Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    if verbose:
        traceback.print_exception(error)
    if isinstance(error, KeyboardInterrupt):
        print("\ninterrupted; the same command goes on where this one stopped", file=sys.stderr)
        return INTERRUPTED
    known = classify(error)
    print(f"error: {terminal_safe(known.message)}", file=sys.stderr)
    if known.hint:
        print(f"\nhint: {terminal_safe(known.hint)}", file=sys.stderr)
    return known.exit_code


def classify(error: BaseException) -> ApprenticeError:
    """Any error as one of ours."""
    if isinstance(error, ApprenticeError):
        return error
    if isinstance(error, ModuleNotFoundError) and error.name:
        return _missing_module(error.name)
    if isinstance(error, OSError) and error.filename is not None and error.errno in _FIXES:
        return InputError(f"cannot read `{error.filename}`: {error.strerror}", hint=_FIXES[error.errno])
    if isinstance(error, MemoryError):
        return InputError("there is not enough memory", hint="end other programs, or choose a smaller model with `--base`")
    return InternalError(f"{type(error).__name__}: {error}", hint=BUG_HINT)


_FIXES = {
    errno.ENOENT: "check the path",
    errno.ENOTDIR: "check the path",
    errno.EISDIR: "name a file in that folder",
    errno.EACCES: "make it readable for you, or name another",
    errno.EPERM: "make it readable for you, or name another",
}


def _missing_module(name: str) -> ApprenticeError:
    package = name.partition(".")[0]
    if package == "apprentice":
        return InternalError(f"the module `{name}` is missing", hint=BUG_HINT)
    extra = "[learn]" if package in LEARN_PACKAGES else ""
    return MissingPieceError(f"`{package}` is not installed", hint=f"`pip install 'apprentice-coder{extra}'`")
