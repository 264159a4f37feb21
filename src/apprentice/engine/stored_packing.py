"""What packing and balancing made of a checkpoint, kept for the next start, which then takes a fifth of the time.

    folder --which one, in which state--> key --> FOLDER/KEY.safetensors --read--> what `packing.pack` takes
                                                                        <--write-- `packing.contents_of`

It lies in the user's cache, not beside the weights: a folder from anybody brings no layout that says something else than its
weights, and may be read-only. A file is for one state of a checkpoint (path, size, time and inode of its config and of each file of weights), one
variant of the operators and one VERSION of the layout; where it is damaged, or of another model, it is passed over. The ones that were used
longest ago go when all take more than `most_bytes`. It is read, not mapped: weights lie on huge pages, which a mapped file does not have.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from apprentice.core import files
from apprentice.core.errors import UserError
from apprentice.engine.loader import Checkpoint
from apprentice.model import base, tensor_files

VERSION = 1
"""To be raised where packing or balancing gives other bytes."""
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

    def read(self, checkpoint: Checkpoint, variant: str) -> Mapping[str, np.ndarray] | None:
        """Views of the file; None where there is none that can be used."""
        path = self._path(checkpoint, variant)
        try:
            found = tensor_files.TensorFile(path)
            os.utime(path)
        except (UserError, OSError):
            return None
        return {name: found.array(name) for name in found.tensors}

    def write(self, checkpoint: Checkpoint, variant: str, contents: Mapping[str, np.ndarray]) -> None:
        """Where there is room; that there is none is no error."""
        num_bytes = sum(array.nbytes for array in contents.values())
        if not self.least_bytes <= num_bytes <= self.most_bytes:
            return
        with contextlib.suppress(UserError, OSError):
            files.make_folder(self.folder)
            disk = shutil.disk_usage(self.folder)
            if disk.free - num_bytes < FREE_SHARE * disk.total:
                return
            path = self._path(checkpoint, variant)
            infos = {name: ("U8" if array.dtype == np.uint8 else "F32", array.shape) for name, array in contents.items()}
            tensor_files.write(path, infos, contents.values())
            self._make_room(path)

    def forget(self, checkpoint: Checkpoint, variant: str) -> None:
        """What was read is of another model after all."""
        with contextlib.suppress(UserError, OSError):
            files.remove_file(self._path(checkpoint, variant))

    def _make_room(self, newest: Path) -> None:
        found = sorted(self.folder.glob("*.safetensors"), key=lambda path: path.stat().st_mtime_ns)
        num_bytes = sum(path.stat().st_size for path in found)
        for path in found:
            if num_bytes > self.most_bytes and path != newest:
                num_bytes -= path.stat().st_size
                files.remove_file(path)

    def _path(self, checkpoint: Checkpoint, variant: str) -> Path:
        key = hashlib.sha256(repr((VERSION, variant, checkpoint.state())).encode()).hexdigest()
        return self.folder / f"{key[:32]}.safetensors"
