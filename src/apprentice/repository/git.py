"""The one way that Apprentice calls git: read only, and nothing that a repository configures is run.

    Git.open(path) --> head(), resolve(name), commits(...), diffs(...), tree(commit), objects().read(id)

A repository is somebody else's input. Its `.git/config`, attributes, hooks, replace refs, grafts and partial-clone
settings can name programs and hosts, and git would use them. So its own git folder is consulted for one thing only, to
look up what a name such as `HEAD` stands for (a call that starts no program). Everything else runs with an empty git
folder of ours (`neutral/`) over the repository's object store: its configuration is not even read. A missing object is
then an error and never a download. Commands are plumbing, so no alias, pager, colour or user preference applies.

Left out: writing, fetching, the index, the work tree.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from apprentice.core.errors import InputError
from apprentice.core.text_safety import shorten
from apprentice.repository.process import GitProcess

_NEUTRAL = Path(__file__).with_name("neutral")
_OBJECT_ID = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_REVISION = re.compile(r"[A-Za-z0-9@._][^\x00-\x20\x7f:?*\[\\]*")
_LOOKUP_SILENCE_S = 30.0
MAX_PATH_BYTES = 4096


@dataclass(frozen=True, slots=True)
class CommitLink:
    """A commit and its parents."""

    commit: str
    parents: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """One entry of the difference of two trees. Modes as git writes them ("100644"; "000000" where there is nothing)."""

    status: str
    """A added, D deleted, M changed, R renamed, T another type of file."""
    path: bytes
    """Where the file stands after the change (before it, where it was deleted)."""
    old_path: bytes
    old_mode: str
    new_mode: str
    old_id: str
    new_id: str


@dataclass(frozen=True, slots=True)
class TreeEntry:
    """A file of a tree."""

    path: bytes
    mode: str
    id: str


@dataclass(frozen=True, slots=True)
class Blob:
    """What `Objects.read` found: `data` is None where the object is missing or larger than was asked for."""

    size: int
    data: bytes | None
    missing: bool = False


class Git:
    """One repository, read only. Made by `Git.open`."""

    def __init__(self, path: Path, git_folder: Path, object_folder: Path, object_format: str) -> None:
        self.path, self.git_folder, self.object_format = path, git_folder, object_format
        self._environment = {
            "GIT_DIR": str(_NEUTRAL / object_format),
            "GIT_OBJECT_DIRECTORY": str(object_folder),
        }

    @classmethod
    def open(cls, path: Path) -> Git:
        """The repository at `path`: a work tree's top folder or a bare repository.

        Raises: InputError naming the path and what to do: nothing there, a file, no permission, no repository."""
        path = path.absolute()
        git_folder = _git_folder(path)
        objects = Path(_lookup(git_folder, path, "--path-format=absolute", "--git-path", "objects"))
        object_format = _lookup(git_folder, path, "--show-object-format")
        if object_format not in ("sha1", "sha256"):
            shown = f"`{_shown(str(path))}` has an unknown object format: `{_shown(object_format)}`"
            raise InputError(shown, hint="clone it anew in the format sha1 or sha256")
        if not objects.is_dir():
            raise _no_repository(path)
        return cls(path, git_folder, objects, object_format)

    @property
    def name(self) -> str:
        """The repository's folder name: what its sessions are called by unless the user says otherwise."""
        folder = self.path.parent if self.path.name == ".git" else self.path
        return folder.name.removesuffix(".git") or "repository"

    def is_shallow(self) -> bool:
        """Whether history was cut off when the repository was cloned."""
        return _lookup(self.git_folder, self.path, "--is-shallow-repository") == "true"

    def head(self) -> str:
        """Id of the commit that is checked out. Raises: InputError where there is none yet."""
        try:
            return self.resolve("HEAD")
        except InputError as error:
            raise InputError(
                f"the repository `{_shown(str(self.path))}` has no commits yet", hint="commit something first"
            ) from error

    def resolve(self, revision: str) -> str:
        """Id of the commit that a name stands for. Raises: InputError."""
        if not _REVISION.fullmatch(revision) or ".." in revision:
            raise InputError(f"`{_shown(revision)}` is no name of a commit", hint="give a branch, a tag or a commit id")
        object_id = _lookup(
            self.git_folder, self.path, "--verify", "--quiet", "--end-of-options", revision, check=False
        )
        if _OBJECT_ID.fullmatch(object_id):
            commit = self._one_line("rev-parse", "--verify", "--quiet", "--end-of-options", object_id + "^{commit}")
            if _OBJECT_ID.fullmatch(commit):
                return commit
        raise InputError(
            f"`{_shown(str(self.path))}` has no commit `{_shown(revision)}`",
            hint="give a branch, a tag or a commit id; see `git log`",
        )

    def is_ancestor(self, older: str, newer: str) -> bool:
        """Whether `older` is part of the history of `newer`; False where it is not there at all."""
        with self._run("merge-base", "--is-ancestor", _id(older), _id(newer)) as process:
            return process.finish() == 0

    def commits(self, newest: str, *, without: str | None = None) -> Iterator[CommitLink]:
        """Commits newest first, no commit before one of its children; without those that `without` leads to."""
        excluded = [] if without is None else ["^" + _id(without)]
        with self._run("rev-list", "--date-order", "--parents", _id(newest), *excluded) as process:
            while (line := process.read_until(b"\n")) is not None:
                commit, *parents = line.decode("ascii").split()
                yield CommitLink(commit, tuple(parents))
            if process.finish() != 0:
                raise process.failure("the history cannot be read")

    def diffs(self, pairs: Iterable[tuple[str, str | None]], *, renames: bool) -> Generator[list[Change]]:
        """For each (commit, the commit to compare it with or None for nothing): what is different in the first."""
        pairs = list(pairs)
        flags = ["-M"] if renames else ["--no-renames"]
        with self._run("diff-tree", "--stdin", "-r", "-z", "--raw", "--root", "--always", "--no-ext-diff",
                       "--no-textconv", "--full-index", *flags) as process:  # fmt: skip
            process.feed(_diff_request(commit, other) for commit, other in pairs)
            header = process.read_until(b"\0")
            for commit, _ in pairs:
                if header is None or header.decode("ascii", "replace") != commit:
                    raise process.failure(f"commit {commit} cannot be compared")
                changes = []
                while (header := process.read_until(b"\0")) is not None and header.startswith(b":"):
                    changes.append(_read_change(header, process))
                yield changes

    def tree(self, commit: str) -> Iterator[TreeEntry]:
        """All files of a commit, in path order."""
        with self._run("ls-tree", "-r", "-z", "--full-tree", _id(commit)) as process:
            while (record := process.read_until(b"\0")) is not None:
                facts, path = record.split(b"\t", 1)
                mode, _, object_id = facts.decode("ascii").split()
                yield TreeEntry(path, mode, object_id)
            if process.finish() != 0:
                raise process.failure("the tree cannot be read")

    def objects(self) -> Objects:
        """A reader of single objects: a context manager."""
        return Objects(self._run("cat-file", "--batch"))

    def _run(self, *arguments: str) -> GitProcess:
        return GitProcess(arguments, self._environment)

    def _one_line(self, *arguments: str) -> str:
        with self._run(*arguments) as process:
            process.end_input()
            return process.read_rest(1 << 16).decode("utf-8", "replace").removesuffix("\n")


class Objects:
    """Reads objects one at a time through one git process."""

    def __init__(self, process: GitProcess) -> None:
        self._process = process

    def __enter__(self) -> Objects:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.close()

    def read(self, object_id: str, *, kind: str = "blob", max_bytes: int) -> Blob:
        """The object's content; larger ones are passed over without being held."""
        self._process.send(_id(object_id).encode() + b"\n")
        header = self._process.read_until(b"\n")
        if header is None:
            raise self._process.failure(f"object {object_id} cannot be read")
        fields = header.decode("ascii", "replace").split()
        if len(fields) != 3 or not fields[2].isdigit():
            return Blob(0, None, missing=True)
        size = int(fields[2])
        if size > max_bytes or fields[1] != kind:
            self._process.skip(size + 1)
            return Blob(size, None, missing=fields[1] != kind)
        data = self._process.read_exactly(size)
        self._process.skip(1)
        return Blob(size, data)


def _diff_request(commit: str, other: str | None) -> bytes:
    return f"{_id(commit)} {_id(other)}\n".encode() if other else f"{_id(commit)}\n".encode()


def _read_change(header: bytes, process: GitProcess) -> Change:
    old_mode, new_mode, old_id, new_id, status = header[1:].decode("ascii").split()
    old_path = path = process.read_until(b"\0") or b""
    if status[0] in "RC":
        path = process.read_until(b"\0") or b""
    return Change(status[0], path, old_path, old_mode, new_mode, old_id, new_id)


def _git_folder(path: Path) -> Path:
    try:
        mode = path.stat().st_mode
        if not stat.S_ISDIR(mode):
            raise InputError(f"`{_shown(str(path))}` is a file, not a repository", hint="name the repository's folder")
        names = {entry.name for entry in os.scandir(path)}
        if ".git" in names:
            (path / ".git").stat()
            return path / ".git"
    except FileNotFoundError as error:
        raise InputError(f"there is nothing at `{_shown(str(path))}`", hint="check the path") from error
    except PermissionError as error:
        raise _no_permission(path) from error
    except OSError as error:
        hint = "check the path and the disk"
        raise InputError(f"`{_shown(str(path))}` cannot be read: {error.strerror}", hint=hint) from error
    if {"HEAD", "objects"} <= names:
        return path
    raise _no_repository(path)


def _lookup(git_folder: Path, path: Path, *arguments: str, check: bool = True) -> str:
    """Ask the repository's own git folder: `rev-parse` starts no program, whatever is configured."""
    extra = {"GIT_DIR": str(git_folder)}
    with GitProcess(["rev-parse", *arguments], extra, silence_s=_LOOKUP_SILENCE_S) as process:
        process.end_input()
        answer = process.read_rest(1 << 16)
        if process.finish() != 0 and check:
            complaint = process.complaint()
            if "permission denied" in complaint.lower():
                raise _no_permission(path)
            if "not a git repository" in complaint:
                raise _no_repository(path)
            raise InputError(f"git cannot read `{_shown(str(path))}`: {complaint}", hint="check it with `git fsck`")
        return os.fsdecode(answer.removesuffix(b"\n"))


def is_ignored(root: Path, path: Path) -> bool:
    """Whether the repository with its work tree at `root` leaves a file out: by `.gitignore` and `.git/info/exclude`, not by what the
    user has set for all repositories. Raises: InputError where there is no repository, or git cannot tell."""
    # The command takes paths, and refuses to be told that they are literal.
    extra = {"GIT_DIR": str(_git_folder(root)), "GIT_WORK_TREE": str(root), "GIT_LITERAL_PATHSPECS": "0"}
    with GitProcess(["check-ignore", "--quiet", "--", str(path)], extra, silence_s=_LOOKUP_SILENCE_S) as process:
        process.end_input()
        process.read_rest(1 << 16)
        if (code := process.finish()) not in (0, 1):
            raise InputError(f"git cannot say whether `{_shown(str(path))}` is ignored: {process.complaint()}")
        return code == 0


def _no_repository(path: Path) -> InputError:
    return InputError(
        f"`{_shown(str(path))}` is not a git repository",
        hint="name the top folder of a clone, or `git init` and commit first",
    )


def _no_permission(path: Path) -> InputError:
    return InputError(
        f"no permission to read `{_shown(str(path))}`", hint="make it readable for you, or run as its owner"
    )


def _id(object_id: str) -> str:
    if not _OBJECT_ID.fullmatch(object_id):
        raise ValueError(f"{object_id!r} is no object id")
    return object_id


def _shown(text: str) -> str:
    return shorten(text, 300)
