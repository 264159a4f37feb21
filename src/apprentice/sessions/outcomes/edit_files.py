"""Which files of which repositories the paths of a session's edits mean.

    /srv/code/engine/src/main.py   the folder that holds the repository, and a path in it
    src/main.py, main.py           a path in the repository, or from a folder in it

A tool writes paths as it likes, and the repository may have been read from elsewhere or under another name. Many projects have a
`src/main.py`, so the same path alone says nothing. A folder holds a repository where a name says so: the session's own, or that of
the folder (`engine`, and `engine-fix` for a work tree). Without a name, the session's paths are taken together: at least three of
its files, and half of all below that folder, have to be files of the repository. What fits no such folder means no file.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

_SEPARATORS = re.compile(r"[/\\]+")
_ABSOLUTE = re.compile(r"[/\\~]|[A-Za-z]:[/\\]")
_MIN_FILES = 3
_MIN_PARTS = 3
"""Of a relative path that fits one file of all repositories and stands alone in its session."""
_MAX_SAME_NAME = 2000
"""Files with one name that are compared."""

Parts = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Meant:
    """What a path means."""

    files: tuple[int, ...]
    """Numbers of paths of repositories; several where one name stands for several repositories."""
    is_inside: bool
    """It lies in a repository that was read, whether or not that ever had such a file."""
    may_be_inside: bool
    """It may, for all that is known: no folder of a repository could be told, or the repository has a file that is named so."""


@dataclass(frozen=True, slots=True)
class _Fit:
    """A file whose path ends like the one that is looked for."""

    number: int
    repository: str
    folder: Parts
    """The folder that holds the repository; of a path from within it, an empty part and the folder that it starts from."""
    alike: int
    """Parts that are the same at the end."""

    @property
    def is_within(self) -> bool:
        return self.folder[:1] == ("",)


class EditFiles:
    """Knows the paths that the repositories' files ever had."""

    def __init__(self, paths: Sequence[tuple[str, str]]) -> None:
        """(repository, path) of each number."""
        self._names = {repository: _name(repository) for repository, _ in paths}
        self._by_name: defaultdict[str, list[tuple[int, str, Parts]]] = defaultdict(list)
        for number, (repository, path) in enumerate(paths):
            parts = tuple(path.split("/"))
            if len(self._by_name[parts[-1]]) < _MAX_SAME_NAME:
                self._by_name[parts[-1]].append((number, repository, parts))

    def named(self, name: str) -> list[str]:
        """The repositories that have this name."""
        return [repository for repository, short in self._names.items() if name and short == _name(name)]

    def find(self, name: str, paths: Iterable[str]) -> dict[str, Meant]:
        """Path -> what it means. `name`: of the session's repository, empty where it is not known."""
        among = set(self.named(name) or self._names)
        fitting = {path: list(self._fits(path, among)) for path in dict.fromkeys(paths)}
        folders = self._folders(name, fitting)
        outer = [folder for _, folder in folders if folder[:1] != ("",)]
        found: dict[str, Meant] = {}
        for path, fits in fitting.items():
            known = [fit for fit in fits if (fit.repository, fit.folder) in folders]
            # Of a work tree within another the inner is meant; from a folder within, the one nearest to the root.
            nearest = max if _is_absolute(path) else min
            best = nearest((len(fit.folder) for fit in known), default=0)
            files = tuple(fit.number for fit in known if len(fit.folder) == best)
            own = {self._names[repository] for repository in among}
            parts = _parts(path)
            is_below = any(part.casefold() in own for part in parts[:-1]) or any(parts[: len(folder)] == folder for folder in outer)
            is_inside = bool(files) or is_below if _is_absolute(path) else bool(folders) or bool(self.named(name))
            found[path] = Meant(files, is_inside, bool(fits) or not folders)
        return found

    def _fits(self, path: str, among: set[str]) -> Iterator[_Fit]:
        parts = _parts(path)
        for number, repository, own in self._by_name.get(parts[-1], ()) if parts else ():
            alike = _alike(parts, own)
            if repository in among and alike == len(own) and (_is_absolute(path) or alike < len(parts)):
                yield _Fit(number, repository, parts[:-alike], alike)
            elif repository in among and alike == len(parts) and not _is_absolute(path):
                yield _Fit(number, repository, ("", *own[:-alike]), alike)

    def _folders(self, name: str, fitting: Mapping[str, Sequence[_Fit]]) -> set[tuple[str, Parts]]:
        files: defaultdict[tuple[str, Parts], set[str]] = defaultdict(set)
        holding: set[tuple[str, Parts]] = set()
        is_known = bool(self.named(name))
        for path, fits in fitting.items():
            for fit in fits:
                files[fit.repository, fit.folder].add(path)
                alone = len(fits) == 1 and fit.is_within and (is_known or (not name and fit.alike >= _MIN_PARTS))
                if alone or (is_known and fit.folder == ("",)) or self._is_named(name, fit):
                    holding.add((fit.repository, fit.folder))
        for (repository, folder), below in files.items():
            if len(below) >= _MIN_FILES and (is_known or not name or folder[:1] != ("",)):
                all_below = [path for path in fitting if folder[:1] == ("",) or _parts(path)[: len(folder)] == folder]
                if 2 * len(below) >= len(all_below):
                    holding.add((repository, folder))
        return holding

    def _is_named(self, name: str, fit: _Fit) -> bool:
        """Whether the folder has the repository's name, or is the one in it that the session was held in."""
        last = fit.folder[-1].casefold() if fit.folder else ""
        if fit.is_within:
            return bool(last) and last == _name(name)
        own = self._names[fit.repository]
        return last == own or (len(own) > 2 and re.fullmatch(rf"{re.escape(own)}[-_.].{{1,60}}", last) is not None)


def _is_absolute(path: str) -> bool:
    return _ABSOLUTE.match(path) is not None


def _parts(path: str) -> Parts:
    return tuple(part for part in _SEPARATORS.split(path) if part not in ("", "."))


def _alike(one: Parts, other: Parts) -> int:
    """How many parts are the same at the end."""
    pairs = zip(reversed(one), reversed(other), strict=False)
    return next((count for count, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def _name(repository: str) -> str:
    return repository.rstrip("/").split("/")[-1].removesuffix(".git").casefold()
