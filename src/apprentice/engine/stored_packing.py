"""What packing and balancing made of a checkpoint, kept for the next start, which then takes a fifth of the time.

    checkpoint, operators, code --key--> FOLDER/KEY.safetensors --read--> what `packing.pack` takes
                                                               <--write-- `packing.contents_of`

It lies in the user's cache, not beside the weights: a folder from anybody brings no layout that says something else than its
weights, and may be read-only. A file is for one state of a checkpoint (path, size, time and inode of its config and of each file of weights), one
variant of the operators, one size of the cache (balancing measures a pass through the model) and one version of the code that packs; where it is
damaged, or of another model, it is passed over. When one is written, those go whose weights are gone or have changed, then the ones that were used
longest ago while all take more than `most_bytes`. It is read, not mapped: weights lie on huge pages, which a mapped file does not have.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from apprentice.core import files
from apprentice.core.errors import UserError
from apprentice.engine.loader import Checkpoint, folder_state
from apprentice.kernels import mxfp4, nvfp4, tiles
from apprentice.kernels.native import Library
from apprentice.model import base, tensor_files

FREE_SHARE = 0.1
"""Of the disk that is left to others."""


@dataclass(frozen=True, slots=True)
class PackingStore:
    """A folder of them."""

    folder: Path
    least_bytes: int = 16 << 20
    """A smaller model is packed in no time."""
    most_bytes: int = 16 << 30

    @classmethod
    def of_user(cls) -> PackingStore:
        return cls(base.cache_folder() / "packed")

    def read(self, key: str) -> Mapping[str, np.ndarray] | None:
        """Views of the file; None where there is none that can be used."""
        path = self._path(key)
        try:
            found = tensor_files.TensorFile(path)
            os.utime(path)
        except (UserError, OSError):
            return None
        return {name: found.array(name) for name in found.tensors}

    def write(self, key: str, checkpoint: Checkpoint, contents: Mapping[str, np.ndarray]) -> None:
        """Where there is room, and the checkpoint is still the one that was opened; that it is not is no error."""
        num_bytes = sum(array.nbytes for array in contents.values())
        if not self.least_bytes <= num_bytes <= self.most_bytes or folder_state(checkpoint.folder) != checkpoint.state:
            return
        with contextlib.suppress(UserError, OSError):
            # Weights of a model that others may not be allowed to read.
            files.make_folder(self.folder).chmod(0o700)
            self.forget_gone()
            disk = shutil.disk_usage(self.folder)
            if disk.free - num_bytes < FREE_SHARE * disk.total:
                return
            infos = {name: ("U8" if array.dtype == np.uint8 else "F32", array.shape) for name, array in contents.items()}
            tensor_files.write(self._path(key), infos, contents.values(), _metadata(checkpoint))
            self._make_room(self._path(key))

    def forget(self, key: str) -> None:
        """What was read is of another model after all."""
        with contextlib.suppress(UserError, OSError):
            files.remove_file(self._path(key))

    def forget_gone(self) -> None:
        """Nothing is kept of weights that were deleted, or written anew."""
        for path in self.folder.glob("*.safetensors"):
            try:
                found = tensor_files.TensorFile(path).metadata
                is_current = found["state"] == json.dumps(folder_state(Path(found["folder"])))
            except (UserError, OSError, KeyError):
                is_current = False
            if not is_current:
                files.remove_file(path)

    def _make_room(self, newest: Path) -> None:
        found = sorted(self.folder.glob("*.safetensors"), key=lambda path: path.stat().st_mtime_ns)
        num_bytes = sum(path.stat().st_size for path in found)
        for path in found:
            if num_bytes > self.most_bytes and path != newest:
                num_bytes -= path.stat().st_size
                files.remove_file(path)

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.safetensors"


def _metadata(checkpoint: Checkpoint) -> dict[str, str]:
    return {"folder": str(checkpoint.folder.resolve()), "state": json.dumps(checkpoint.state)}


def key(checkpoint: Checkpoint, library: Library, variant: str, cache_bits: int) -> str:
    """Of all that decides what packing gives."""
    parts = (_code(library.path), variant, cache_bits, checkpoint.state)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


@functools.cache
def _code(library: Path) -> str:
    """A hash of the code that packs and balances."""
    sources = [*Path(__file__).parent.glob("*.py"), *(Path(module.__file__) for module in (mxfp4, nvfp4, tiles) if module.__file__)]
    return hashlib.sha256(b"".join(path.read_bytes() for path in (*sorted(sources), library))).hexdigest()
