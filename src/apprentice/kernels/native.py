"""The library of native operators, found, checked and loaded when first asked for.

    kernels/native/*.cpp --CMakeLists.txt--> kernels/libapprentice.so --load()--> Library

The interface is plain C through ctypes: one library serves every Python, and nothing is compiled against Python's headers.
A call releases Python's lock. Where there is no library (no compiler at installation) or it does not fit, `load` gives
None and `why_missing` the reason; callers then use numpy. A file beside this one says which functions it calls:

    SIGNATURES: Signatures = {"apprentice_quantize": (c_int, c_char_p, POINTER(c_float), ...)}   # result, then arguments
    functions = library.bind(SIGNATURES)
    functions.apprentice_quantize(...)

`APPRENTICE_NATIVE=off` forces numpy; the name of a variant (`portable`, `avx2`) or a path of a library picks that one, for
tests and comparisons. This module does not need numpy.
"""

from __future__ import annotations

import ctypes
import functools
import logging
import os
import shutil
import sys
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apprentice.core.errors import ConfigError

ABI = 6
"""Of the functions that Python calls. The same number stands in `native/c_api.h`; both are raised together."""
SWITCH = "APPRENTICE_NATIVE"
FILE = Path(__file__).with_name("libapprentice.dylib" if sys.platform == "darwin" else "libapprentice.so")

Signatures = dict[str, tuple[Any, ...]]
"""Function -> ctypes of its result (None: none) and of its arguments."""

SIGNATURES: Signatures = {
    "apprentice_abi": (ctypes.c_int,),
    "apprentice_compiled_variant": (ctypes.c_char_p, ctypes.c_int64),
    "apprentice_usable_variant": (ctypes.c_char_p, ctypes.c_int64),
    "apprentice_pool_new": (ctypes.c_void_p, ctypes.c_int),
    "apprentice_pool_free": (None, ctypes.c_void_p),
    "apprentice_pool_threads": (ctypes.c_int, ctypes.c_void_p),
    "apprentice_pool_trial": (
        ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.POINTER(ctypes.c_int32),
    ),
}  # fmt: skip

log = logging.getLogger("apprentice.kernels")


@dataclass(frozen=True, kw_only=True, slots=True)
class Library:
    """A loaded library that fits."""

    path: Path
    compiled: tuple[str, ...]
    """Variants that it holds, fastest first."""
    usable: tuple[str, ...]
    """Those that this machine runs; never empty."""
    variant: str
    """The one to use: the fastest, unless another was asked for."""
    handle: ctypes.CDLL

    def bind(self, signatures: Signatures) -> Any:
        """The library, with types for these functions: what to call them on."""
        for name, (result, *arguments) in signatures.items():
            function = getattr(self.handle, name)
            function.restype, function.argtypes = result, arguments
        return self.handle


class Pool:
    """Threads of the library that share the work of one call; freed with this object. A forked child may use it: it gets
    threads of its own."""

    def __init__(self, library: Library, threads: int) -> None:
        """`threads`: with the calling one."""
        self._functions = library.bind(SIGNATURES)
        handle = self._functions.apprentice_pool_new(threads)
        if not handle:
            raise MemoryError("no memory for a pool of threads")
        self.handle = ctypes.c_void_p(handle)
        """What functions of the library take. Valid while this object lives."""
        self.close: Callable[[], object] = weakref.finalize(self, self._functions.apprentice_pool_free, self.handle)
        """Frees it now. Nobody may be using it."""

    @property
    def threads(self) -> int:
        """How many work; fewer than were asked for where the system gave no more."""
        return int(self._functions.apprentice_pool_threads(self.handle))

    def trial(self, *, runs: int, pieces: int, work: int, counts: Any) -> int:
        """Nanoseconds that `runs` jobs of `pieces` pieces take, each of `work` turns of an empty loop. Adds 1 to
        `counts[i]` (a ctypes array of c_int32) for every piece i done. For tests and measurements."""
        return int(self._functions.apprentice_pool_trial(self.handle, runs, pieces, work, counts))


def load() -> Library | None:
    """The library, or None where there is none that fits; then `why_missing` says why.

    Raises: ConfigError if `APPRENTICE_NATIVE` names a variant that is not usable here."""
    return _found()[0]


def is_fast() -> bool:
    """Whether there is a library that is faster than numpy: plain C++ alone is slower."""
    library = load()
    return library is not None and library.usable != ("portable",)


def why_missing() -> str:
    """Why `load` gives None, for people; empty where it does not."""
    return _found()[1]


def how_to_mend() -> str:
    """What to do where the library is missing, for people."""
    if os.environ.get(SWITCH, ""):
        return f"`unset {SWITCH}`"
    compiler = any(shutil.which(name) for name in (os.environ.get("CXX") or "c++", "g++", "clang++"))
    first = "" if compiler else "`sudo apt install g++`, then "
    root = Path(__file__).parents[3]
    if (root / "CMakeLists.txt").exists():
        return f"{first}`{sys.executable} -m pip install --no-deps -e {root}`"
    return f"{first}`pip install --force-reinstall --no-deps --no-binary apprentice-coder apprentice-coder`"


@functools.cache
def warn_if_missing() -> None:
    """Say on stderr, once, that generation will be slow. Not where somebody switched the library off."""
    if load() is None and os.environ.get(SWITCH) != "off":
        log.warning("warning: slow: no native operators (%s)\nhint: %s", why_missing(), how_to_mend())


@functools.cache
def _found() -> tuple[Library | None, str]:
    asked = os.environ.get(SWITCH, "")
    if asked == "off":
        return None, f"switched off by `{SWITCH}=off`"
    path = Path(asked) if os.sep in asked else FILE
    if not path.exists():
        return None, f"not compiled: there is no `{path}`"
    try:
        handle = ctypes.CDLL(str(path))
        version = handle.apprentice_abi()
    except (OSError, AttributeError) as error:
        return None, f"`{path}` cannot be loaded: {error}"
    if version != ABI:
        return None, f"`{path}` is of another version: interface {version}, {ABI} is needed"
    library = Library(path=path, compiled=(), usable=(), variant="", handle=handle)
    functions = library.bind(SIGNATURES)
    compiled = tuple(_names(functions.apprentice_compiled_variant))
    usable = tuple(_names(functions.apprentice_usable_variant))
    variant = asked if asked and os.sep not in asked else usable[0]
    if variant not in usable:
        known = ", ".join(f"`{name}`" for name in (*usable, "off"))
        raise ConfigError(
            f"`{SWITCH}={variant}`: no such variant of the operators here", hint=f"one of {known}, or a path"
        )
    return Library(path=path, compiled=compiled, usable=usable, variant=variant, handle=handle), ""


def _names(function: Callable[[int], bytes | None]) -> Iterator[str]:
    index = 0
    while (name := function(index)) is not None:
        yield name.decode()
        index += 1
