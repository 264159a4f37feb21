"""What packing and balancing made of a checkpoint, kept for the next start, which then packs nothing.

    checkpoint, operators, code --key--> FOLDER/KEY.safetensors --read--> Contents, what `packing.pack` takes
                                                               <--write-- what `packing.contents_of` gives

It lies in the user's cache, not beside the weights: a folder from anybody brings no layout that says something else than its
weights, and may be read-only. A file is for one state of a checkpoint (path, size, times and inode of whatever decides its tensors), one
variant of the operators, one size of the cache (balancing measures a pass through the model) and one version of the code that packs. One whose
header, names or sizes do not fit is passed over: no content decides where anything is read. Its bytes are read into huge pages, which a mapped file
does not have.

Soon after each start those go whose weights are gone or have changed, as seen from the machine that wrote them, that nobody has used for
`DAYS`, or that a killed write left; when one is written, the ones used longest ago, where all take more than `most_bytes`.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import platform
import shutil
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from apprentice.core import files
from apprentice.core.errors import UserError
from apprentice.engine.loader import Checkpoint, folder_state
from apprentice.kernels import formats, mxfp4, nvfp4, tiles
from apprentice.kernels.native import Library
from apprentice.model import base, config, tensor_files

DAYS = 30
ARENA, SUFFIX = "arena", ".safetensors"
LEFT_S = 3600
"""From when on an unfinished file belongs to a write that was killed."""
_PACKERS = (formats, mxfp4, nvfp4, tiles, config, tensor_files)
_SOURCES = sorted([*Path(__file__).parent.glob("[!.]*.py"), *(Path(module.__file__) for module in _PACKERS if module.__file__)])
_CODE = hashlib.sha256(b"".join(path.read_bytes() for path in _SOURCES)).digest()
"""Of the code that packs and balances, as it was imported: it may be another one later."""


@dataclass(frozen=True, slots=True)
class Contents:
    """Of a file."""

    arrays: Mapping[str, np.ndarray]
    """float32, all but the arena."""
    arena_bytes: int
    _path: Path
    _start: int

    def fill(self, arena: np.ndarray) -> None:
        """Raises: ValueError where it is of another size."""
        with self._path.open("rb", buffering=0) as stream:
            stream.seek(self._start)
            at, view = 0, arena.data
            while at < len(view) == self.arena_bytes and (count := stream.readinto(view[at:])):
                at += count
        if at != arena.nbytes:
            raise ValueError(f"{self._path}: {self.arena_bytes} bytes for {arena.nbytes}")


@dataclass(frozen=True, slots=True)
class PackingStore:
    """A folder of them."""

    folder: Path
    least_bytes: int = 16 << 20
    """A smaller model is packed in no time."""
    most_bytes: int = 16 << 30
    free_bytes: int = 4 << 30
    """Of the disk that is left to others."""
    tidy_after_s: float = 10

    @classmethod
    def of_user(cls) -> PackingStore:
        return cls(base.cache_folder() / "packed")

    def read(self, key: str, checkpoint: Checkpoint) -> Contents | None:
        """None where there is none that can be used."""
        path = self._path(key)
        try:
            contents = _read(path, checkpoint)
            with contextlib.suppress(OSError):
                os.utime(path)
        except Exception:  # noqa: BLE001 - whatever is wrong with it, weights can be packed anew
            contents = None
        _tidy_later(self)
        return contents

    def write(self, key: str, checkpoint: Checkpoint, arena: np.ndarray, arrays: Mapping[str, np.ndarray]) -> None:
        """Where there is room, and the checkpoint is still the one that was opened; that it is not is no error."""
        num_bytes = arena.nbytes + sum(array.nbytes for array in arrays.values())
        if not self.least_bytes <= num_bytes <= self.most_bytes:
            return
        with contextlib.suppress(UserError, OSError):
            if folder_state(checkpoint.folder) != checkpoint.state:
                return
            # Weights of a model that others may not be allowed to read.
            files.make_folder(self.folder).chmod(0o700)
            self._make_room(num_bytes)
            if shutil.disk_usage(self.folder).free - num_bytes < self.free_bytes:
                return
            infos = {name: ("F32", array.shape) for name, array in arrays.items()} | {ARENA: ("U8", arena.shape)}
            tensor_files.write(self._path(key), infos, [*arrays.values(), arena], _metadata(checkpoint))

    def forget(self, key: str) -> None:
        """What was read is of another model after all."""
        with contextlib.suppress(UserError, OSError):
            files.remove_file(self._path(key))

    def tidy(self) -> None:
        """Removes what is of no use any more."""
        with contextlib.suppress(OSError):
            for path in self.folder.iterdir():
                with contextlib.suppress(UserError, OSError):
                    if (path.suffix == SUFFIX or files.is_temporary(path)) and not _is_of_use(path):
                        files.remove_file(path)

    def _make_room(self, num_bytes: int) -> None:
        found = sorted(self.folder.glob(f"*{SUFFIX}"), key=lambda path: path.stat().st_mtime_ns)
        num_bytes += sum(path.stat().st_size for path in found)
        for path in found:
            if num_bytes > self.most_bytes:
                num_bytes -= path.stat().st_size
                with contextlib.suppress(UserError):
                    files.remove_file(path)

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}{SUFFIX}"


@functools.cache
def _tidy_later(store: PackingStore) -> None:
    """Once in a process. Whatever the weights of others lie on, no start waits for it."""
    timer = threading.Timer(store.tidy_after_s, store.tidy)
    timer.daemon = True
    # There is no other thread to be had.
    with contextlib.suppress(RuntimeError):
        timer.start()


def _read(path: Path, checkpoint: Checkpoint) -> Contents | None:
    file = tensor_files.TensorFile(path)
    dtypes = {name: info.dtype for name, info in file.tensors.items()}
    if {**file.metadata, "machine": platform.node()} != _metadata(checkpoint):
        return None
    if dtypes.pop(ARENA, "") != "U8" or set(dtypes.values()) != {"F32"}:
        return None
    info = file.tensors[ARENA]
    return Contents({name: np.array(file.array(name)) for name in dtypes}, info.end - info.start, path, info.start)


def _is_of_use(path: Path) -> bool:
    """Raises: OSError where that cannot be seen now."""
    age_s = time.time() - path.stat().st_mtime
    if files.is_temporary(path):
        return age_s < LEFT_S
    if age_s > DAYS * 86400:
        return False
    with path.open("rb"):
        pass
    try:
        metadata = tensor_files.TensorFile(path).metadata
        machine, folder, state = metadata["machine"], Path(metadata["folder"]), metadata["state"]
    except (UserError, KeyError, TypeError, ValueError):
        # Nothing of ours.
        return False
    return machine != platform.node() or state == json.dumps(folder_state(folder))


def _metadata(checkpoint: Checkpoint) -> dict[str, str]:
    state = json.dumps(checkpoint.state)
    return {"format": "pt", "machine": platform.node(), "folder": str(checkpoint.folder.resolve()), "state": state}


def key(checkpoint: Checkpoint, library: Library, variant: str, cache_bits: int) -> str:
    """Of all that decides what packing gives, and of all that stands in the file."""
    parts = (_CODE, _bytes_of(library.path), variant, cache_bits, str(checkpoint.folder.resolve()), checkpoint.state)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


@functools.cache
def _bytes_of(library: Path) -> bytes:
    return hashlib.sha256(library.read_bytes()).digest()
