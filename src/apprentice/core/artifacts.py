"""What a stage leaves behind: a folder of data files and `manifest.json`, written last.

    create(folder) --> data files (through core.files) --> finish() --> manifest.json --> read(folder)

A folder without a manifest is unfinished: `create` clears it, or with `resume=True` keeps its files where they were made
by the same kind, version, parents and config (noted at the start in `unfinished.json`). The content hash covers the
data files and all of those, and nothing that a clock or a machine decides, so equal inputs give equal hashes on every run:

    sha256(JSON of {kind, version, parents, config, files: sorted [[relative path, sha256], ...]})

Files that hold timings (a log of training, say) are named `volatile` at `finish`: listed in the manifest, left out of
the hash. A stage is stale when its version, parents or config changed: `Manifest.made_from`.
"""

from __future__ import annotations

import contextlib
import fnmatch
import hashlib
import json
import platform
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec

from apprentice.core import files
from apprentice.core.errors import HostileInputError, InputError, InternalError
from apprentice.core.machine import code_version

MANIFEST = "manifest.json"
UNFINISHED = "unfinished.json"
FORMAT = 1
MAX_MANIFEST_BYTES = 64 << 20
MADE_BY = {
    "sessions": "apprentice sessions read PATH --out FOLDER",
    "examples": "apprentice learn",
    "checkpoint": "apprentice train sft",
    "adapter": "apprentice train sft",
    "quantized": "apprentice model quantize CHECKPOINT",
    "evaluation": "apprentice eval",
    "memory": "apprentice learn",
    "report": "apprentice learn",
}
"""Artifact -> the command that makes it, for the hints of errors."""


class FileRecord(msgspec.Struct, frozen=True):
    """A data file of an artifact."""

    sha256: str
    bytes: int
    volatile: bool = False
    """Left out of the content hash, for it holds timings."""


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """The content of `manifest.json`."""

    format: int
    kind: str
    version: int
    """Of the stage that made it: a change means that older artifacts are stale."""
    hash: str
    parents: dict[str, str] = {}
    """Role -> content hash of an artifact that this one was made from."""
    config: dict[str, Any] = {}
    seed: int | None = None
    counts: dict[str, int] = {}
    dropped: dict[str, int] = {}
    """Reason -> how many were left out for it."""
    extra: dict[str, Any] = {}
    code: dict[str, str] = {}
    created: str = ""
    seconds: float = 0.0
    files: dict[str, FileRecord] = {}

    def made_from(self, *, version: int, parents: Mapping[str, str], config: Mapping[str, Any]) -> bool:
        """Whether a stage with these inputs would make the same: it need not run again."""
        return (self.version, _canonical([self.parents, self.config])) == (version, _canonical([parents, config]))


class ArtifactWriter:
    """An artifact in the making. See `create`."""

    def __init__(self, folder: Path, kind: str, version: int, parents: dict[str, str], config: dict[str, Any]) -> None:
        self.folder, self.kind, self.version = folder, kind, version
        self.resumed = False
        """Whether files of an interrupted run were kept."""
        self.manifest: Manifest | None = None
        self._parents, self._config = parents, config
        self._started = time.monotonic()

    def path(self, name: str) -> Path:
        """Where the data file `name` (relative, `/` between folders) belongs; its folder is created."""
        if not _is_inside(name) or name in (MANIFEST, UNFINISHED):
            raise ValueError(f"{name!r} is no name of a data file")
        path = self.folder / name
        files.make_folder(path.parent)
        return path

    def finish(
        self,
        *,
        parents: Mapping[str, str] | None = None,
        config: Mapping[str, Any] | None = None,
        seed: int | None = None,
        counts: Mapping[str, int] | None = None,
        dropped: Mapping[str, int] | None = None,
        extra: Mapping[str, Any] | None = None,
        volatile: Sequence[str] = (),
    ) -> Manifest:
        """Write the manifest: from now on the artifact exists. `volatile`: patterns of files left out of the hash."""
        files.remove_leftovers(self.folder)
        records = {name: _record(path, _matches(name, volatile)) for name, path in _data_files(self.folder)}
        chosen_parents = dict(self._parents if parents is None else parents)
        chosen_config = _plain(self._config if config is None else config)
        self.manifest = Manifest(
            format=FORMAT,
            kind=self.kind,
            version=self.version,
            hash=content_hash(self.kind, self.version, chosen_parents, chosen_config, records),
            parents=chosen_parents,
            config=chosen_config,
            seed=seed,
            counts=dict(counts or {}),
            dropped=dict(dropped or {}),
            extra=_plain(extra or {}),
            code={**code_version(), "python": platform.python_version()},
            created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            seconds=round(time.monotonic() - self._started, 3),
            files=records,
        )
        files.write_json(self.folder / MANIFEST, msgspec.to_builtins(self.manifest))
        files.remove_file(self.folder / UNFINISHED)
        return self.manifest


@contextlib.contextmanager
def create(
    folder: Path,
    *,
    kind: str,
    version: int,
    resume: bool = False,
    parents: Mapping[str, str] | None = None,
    config: Mapping[str, Any] | None = None,
) -> Iterator[ArtifactWriter]:
    """Begin an artifact in `folder`. `parents` and `config`, if given here, need not be given to `finish`; with
    `resume=True` files of an interrupted run are kept only where kind, version, parents and config are the same."""
    writer = ArtifactWriter(folder, kind, version, dict(parents or {}), _plain(config or {}))
    note = {"kind": kind, "version": version, "parents": dict(parents or {}), "config": _plain(config or {})}
    files.make_folder(folder)
    if resume and not is_finished(folder) and _read_note(folder) == note:
        files.remove_leftovers(folder)
        writer.resumed = any(_data_files(folder))
    else:
        files.remove_tree(folder, first=(MANIFEST, UNFINISHED), keep_root=True)
        files.write_json(folder / UNFINISHED, note)
    yield writer
    if writer.manifest is None:
        raise InternalError(f"the artifact `{folder}` was left without `finish`")


def is_finished(folder: Path) -> bool:
    """Whether the folder holds a whole artifact."""
    return (folder / MANIFEST).is_file()


def read(folder: Path, *, kind: str | None = None) -> Manifest:
    """The manifest of a finished artifact. Raises: InputError naming the folder and the command that makes it."""
    wanted = f"`{kind}` artifact" if kind else "artifact"
    hint = f"make it with `{MADE_BY.get(kind or '', 'apprentice learn')}`"
    if not folder.exists():
        raise InputError(f"there is no {wanted} at `{folder}`", hint=hint)
    path = folder / MANIFEST
    if not path.is_file():
        state = "is unfinished" if (folder / UNFINISHED).exists() else f"is no {wanted}: it has no `{MANIFEST}`"
        raise InputError(f"`{folder}` {state}", hint=hint)
    if path.stat().st_size > MAX_MANIFEST_BYTES:
        raise HostileInputError(f"`{path}` is larger than {MAX_MANIFEST_BYTES >> 20} MiB", hint=hint)
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(f"`{path}` cannot be read: {error}", hint=hint) from error
    if manifest.format > FORMAT:
        raise InputError(f"`{path}` was written by a newer Apprentice", hint="update Apprentice")
    if kind is not None and manifest.kind != kind:
        raise InputError(f"`{folder}` is a `{manifest.kind}` artifact, not a `{kind}` artifact", hint=hint)
    return manifest


def verify(folder: Path) -> list[str]:
    """What is wrong with an artifact's files, a line each; empty where every file is what the manifest says."""
    manifest = read(folder)
    present = dict(_data_files(folder))
    problems = [f"`{name}` is not in the manifest" for name in present.keys() - manifest.files.keys()]
    for name, record in manifest.files.items():
        if name not in present:
            problems.append(f"`{name}` is missing")
        elif _record(present[name], record.volatile) != record:
            problems.append(f"`{name}` was changed")
    parts = (manifest.kind, manifest.version, manifest.parents, manifest.config, manifest.files)
    if content_hash(*parts) != manifest.hash:
        problems.append("the content hash does not belong to the manifest")
    return sorted(problems)


def content_hash(
    kind: str, version: int, parents: Mapping[str, str], config: Mapping[str, Any], records: Mapping[str, FileRecord]
) -> str:
    """The hash of an artifact, see the top of this file."""
    listed = sorted([name, record.sha256] for name, record in records.items() if not record.volatile)
    whole = {"kind": kind, "version": version, "parents": parents, "config": config, "files": listed}
    return hashlib.sha256(_canonical(whole)).hexdigest()


def _data_files(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and not files.is_temporary(path) and name not in (MANIFEST, UNFINISHED):
            if not path.name.startswith(".lock"):
                yield name, path


def _record(path: Path, volatile: bool) -> FileRecord:
    with path.open("rb") as stream:
        return FileRecord(hashlib.file_digest(stream, "sha256").hexdigest(), path.stat().st_size, volatile)


def _read_note(folder: Path) -> Any:
    with contextlib.suppress(OSError, ValueError):
        return json.loads((folder / UNFINISHED).read_text(encoding="utf-8"))
    return None


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatch(name, pattern) for pattern in patterns)


def _plain(value: Mapping[str, Any]) -> dict[str, Any]:
    """The value as it reads back from JSON (tuples are lists, paths are text), so that comparisons are fair."""
    return msgspec.json.decode(_canonical(value))


def _canonical(value: Any) -> bytes:
    return msgspec.json.encode(value, order="sorted", enc_hook=str)
