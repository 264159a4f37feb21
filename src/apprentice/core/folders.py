"""A folder that is there as a whole or not at all, for what is no artifact: files that other programs or people read."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from apprentice.core import files
from apprentice.core.errors import InputError

_UNFINISHED = ".unfinished"


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """An empty folder to write into, which takes the place of `path` when the block ends well, and vanishes otherwise.

    Raises: InputError where something is there already, other than an empty folder."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise InputError(f"`{path}` is there already", hint="name a new folder with `--to`")
    beside = path.with_name(path.name + _UNFINISHED)
    files.remove_tree(beside)
    files.make_folder(beside)
    try:
        yield beside
    except BaseException:
        files.remove_tree(beside)
        raise
    files.rename(beside, path)
