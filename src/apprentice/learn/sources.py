"""What a run learns from when it is not told: the checkout it stands in, else the history that ships with the package.

The order, each choice named in the output: `--repo` and `--sessions` as given; talks of a tool go with the history of the
checkout, which they are about, unless `--repo` names another; else the history of the checkout alone, if it is a full clone; and
where that has too few usable edits for a claim, the bundled history of Apprentice itself besides.
Sessions in the home folder are for a later, explicit word of the user: nothing is read unasked.
"""

from __future__ import annotations

import contextlib
import importlib.resources
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from apprentice.core.artifacts import MANIFEST
from apprentice.core.errors import InputError
from apprentice.learn.config import LearnConfig
from apprentice.repository.git import Git

BUNDLE = "apprentice-history.jsonl.zst"
"""In `apprentice/data`: our own history, exported and redacted."""


@dataclass(frozen=True, slots=True)
class Source:
    """Something to read."""

    kind: str
    """`git`, `sessions` or `bundle`."""
    path: Path
    why: str
    """For the output."""


def chosen(config: LearnConfig, folder: Path) -> list[Source]:
    """The sources of a run in `folder`; empty where only the bundled history is left.

    Raises: InputError for a repository or sessions that were named and cannot be read."""
    named = [Source("git", path, f"the history of `{path}`, named by `--repo`") for path in config.repositories]
    named += [Source("sessions", path, f"the sessions `{path}`, named by `--sessions`") for path in config.sessions]
    git = _checkout(config, folder)
    if git is None or git.is_shallow():
        return named
    return [Source("git", folder, f"the history of the checkout `{git.name}`"), *named]


def passed_over(config: LearnConfig, folder: Path) -> str:
    """Why the history of the checkout is not read, where somebody would expect it; empty where it is, or was not asked for."""
    git = _checkout(config, folder)
    if git is not None:
        shallow = f"the checkout `{git.name}` is a shallow clone, whose history is not read; `git fetch --unshallow` fetches the rest"
        return shallow if git.is_shallow() else ""
    above = next((one for one in folder.absolute().parents if (one / ".git").exists()), None)
    if above is None or _names_histories(config):
        return ""
    return f"the history of `{above}` is not read from a folder inside it; call `apprentice learn` in `{above}`"


def is_export(path: Path) -> bool:
    """Of ours: a folder of sessions, or one file, with the histories in it; everything else is a tool's."""
    return path.suffix == ".zst" or (path / MANIFEST).is_file() or _begins_as_zstandard(path)


def _begins_as_zstandard(path: Path) -> bool:
    """RFC 8878, 3.1.1: whatever the file is called."""
    if not path.is_file():
        return False
    with contextlib.suppress(OSError), path.open("rb") as stream:
        return stream.read(4) == b"\x28\xb5\x2f\xfd"
    return False


def _names_histories(config: LearnConfig) -> bool:
    return bool(config.repositories) or any(is_export(path) for path in config.sessions)


def _checkout(config: LearnConfig, folder: Path) -> Git | None:
    """The repository in `folder` that has commits, unless others were named. Raises: InputError for one that cannot be read."""
    if _names_histories(config):
        return None
    try:
        git = Git.open(folder)
    except InputError:
        if (folder / ".git").exists():
            raise
        return None
    try:
        git.head()
    except InputError:
        return None
    return git


@contextmanager
def bundled() -> Iterator[Source | None]:
    """The history in the package, or None where this copy of the package has none."""
    resource = importlib.resources.files("apprentice") / "data" / BUNDLE
    if not resource.is_file():
        yield None
        return
    with importlib.resources.as_file(resource) as path:
        yield Source("bundle", path, "the history of Apprentice itself, bundled with the package")
