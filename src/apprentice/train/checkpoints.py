"""Where a training run stands, on disk: what the same command needs after `kill -9` to go on as if nothing had been.

    run folder/step-000120/weights.safetensors, optimizer.safetensors, state.json (last)

A checkpoint without `state.json` does not exist. The best held-out point is no copy: it is the checkpoint of that step,
whose optimizer is given up when a later checkpoint takes over. Tensors are streamed to the file one by one, so saving
needs no second copy in memory. Only weights that are trained are written; the rest is the base's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from apprentice.core import files
from apprentice.core.errors import InputError
from apprentice.model import tensor_files

STATE, WEIGHTS, OPTIMIZER = "state.json", "weights.safetensors", "optimizer.safetensors"
_NAME = re.compile(r"step-(\d{6,9})")


def save(folder: Path, step: int, weights: Mapping[str, Tensor], optimizer: Mapping[str, Tensor], state: Any) -> Path:
    """Write the checkpoint of a step; it exists when this returns."""
    path = folder / f"step-{step:06d}"
    if path.exists():
        files.remove_tree(path, first=(STATE,))
    files.make_folder(path)
    write_tensors(path / WEIGHTS, weights)
    write_tensors(path / OPTIMIZER, optimizer)
    files.write_json(path / STATE, state)
    return path


def find(folder: Path) -> list[tuple[int, Path]]:
    """Finished checkpoints that training can go on from, oldest first."""
    found = []
    for path in folder.glob("step-*"):
        match = _NAME.fullmatch(path.name)
        if match and (path / STATE).is_file() and (path / OPTIMIZER).is_file():
            found.append((int(match[1]), path))
    return sorted(found)


def load_state(path: Path) -> Any:
    """What `save` was given as `state`."""
    try:
        return json.loads((path / STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _broken(path / STATE, error) from error


def load_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a file. Raises: InputError where it is damaged."""
    try:
        file = tensor_files.TensorFile(path)
    except InputError as error:
        raise _broken(path, error) from error
    # A copy, for what lies in a mapped file must not be trained.
    return {name: torch.from_numpy(np.array(file.array(name))) for name in file.tensors}


def prune(folder: Path, *, resume_step: int, best_step: int | None) -> None:
    """Keep the checkpoint to go on from, and of the best point its weights."""
    for path in folder.glob("step-*"):
        match = _NAME.fullmatch(path.name)
        step = int(match[1]) if match else -1
        if step == resume_step:
            continue
        if step == best_step:
            files.remove_file(path / OPTIMIZER)
        else:
            files.remove_tree(path, first=(STATE,))


def remove_all(folder: Path) -> None:
    """Once the trained weights are saved elsewhere."""
    for path in sorted(folder.glob("step-*")):
        files.remove_tree(path, first=(STATE,))


def weights_path(folder: Path, step: int) -> Path:
    """The trained weights as they were after a step that has a checkpoint."""
    return folder / f"step-{step:06d}" / WEIGHTS


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """A safetensors file of float32 tensors, written one by one in the order given."""
    infos = {name: ("F32", tuple(tensor.shape)) for name, tensor in tensors.items()}
    tensor_files.write(path, infos, (tensor.detach().numpy() for tensor in tensors.values()))


def _broken(path: Path, error: Exception) -> InputError:
    return InputError(
        f"`{path}` of an interrupted training run cannot be read: {error}",
        hint=f"remove `{path.parent.parent}` to train from the start",
    )
