"""A LoRA folder in PEFT's layout, read without torch: which modules it corrects, and by what.

    adapter_config.json, adapter_model.safetensors --read--> {module: LowRank}      W' = W + scale B A

Everything is checked against the shapes of the model before it is read. What changes more than a plain LoRA does is refused.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from apprentice.core.errors import DAMAGED_HINT, HostileInputError, InputError
from apprentice.model import tensor_files
from apprentice.model.config import ModelConfig, parameter_shapes, read_json

CONFIG_FILE, WEIGHTS_FILE = "adapter_config.json", "adapter_model.safetensors"
MAX_RANK = 1024

_PREFIX = "base_model.model."
_CHANGES = (
    "use_dora", "modules_to_save", "rank_pattern", "alpha_pattern", "fan_in_fan_out", "layer_replication",
    "trainable_token_indices", "target_parameters", "alora_invocation_tokens", "use_qalora",
)  # fmt: skip
"""Settings that would change what is computed, if they were set."""
_STARTS = (None, True, False, "gaussian", "eva", "orthogonal")
"""Values of `init_lora_weights` that leave the base as it is."""


@dataclass(frozen=True, slots=True)
class LowRank:
    """R rank, I inputs, O outputs."""

    a_RI: np.ndarray
    b_OR: np.ndarray
    scale: float

    def product(self) -> np.ndarray:
        """What is added to the weights, float32 [O, I]."""
        return np.float32(self.scale) * (self.b_OR @ self.a_RI)


def read(folder: Path, config: ModelConfig) -> dict[str, LowRank]:
    """By module, such as `model.layers.0.self_attn.q_proj`. Raises: InputError naming file and tensor."""
    rank, scale = _settings(folder / CONFIG_FILE)
    path = folder / WEIGHTS_FILE
    if not path.is_file() and list(folder.glob("*.bin")):
        raise HostileInputError(
            f"{folder}: only a pickled adapter; unpickling can run any code, so it is not read", hint=f"save it as `{WEIGHTS_FILE}`"
        )
    file = tensor_files.TensorFile(path)
    shapes = parameter_shapes(config)
    found: dict[str, LowRank] = {}
    for name in sorted({name.rsplit(".lora_", 1)[0] for name in file.tensors}):
        module = name.removeprefix(_PREFIX)
        shape = shapes.get(module + ".weight", ())
        if not name.startswith(_PREFIX) or not module.endswith("_proj") or len(shape) != 2:
            raise InputError(f"{path}: `{name:.120}` has no place in this model", hint="is it made for another base?")
        a_RI = _matrix(file, f"{name}.lora_A.weight", (rank, shape[1]))
        found[module] = LowRank(a_RI, _matrix(file, f"{name}.lora_B.weight", (shape[0], rank)), scale)
    known = {f"{_PREFIX}{module}.lora_{letter}.weight" for module in found for letter in "AB"}
    if surplus := sorted(file.tensors.keys() - known):
        raise InputError(f"{path}: tensor `{surplus[0]:.120}` is no part of a plain LoRA", hint="merge it with PEFT")
    if not found:
        raise InputError(f"{path}: corrects nothing", hint=DAMAGED_HINT)
    return found


def _settings(path: Path) -> tuple[int, float]:
    """Rank and scale."""
    settings = read_json(path)
    if settings.get("peft_type") != "LORA":
        raise InputError(f"{path}: adapter type {settings.get('peft_type')!r:.40} is not supported, only LORA", hint="merge it first")
    changed = [name for name in _CHANGES if settings.get(name)]
    if settings.get("bias", "none") != "none":
        changed.append("bias")
    if settings.get("init_lora_weights", True) not in _STARTS:
        changed.append("init_lora_weights")
    if changed:
        value = str(settings[changed[0]])
        raise InputError(f"{path}: `{changed[0]}` {value:.40} is not supported", hint="merge the adapter with PEFT")
    rank, alpha = settings.get("r"), settings.get("lora_alpha")
    if isinstance(rank, bool) or not isinstance(rank, int) or not 1 <= rank <= MAX_RANK:
        raise InputError(f"{path}: the rank `r` is no whole number from 1 to {MAX_RANK}", hint=DAMAGED_HINT)
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not 0 < alpha < 1e9:
        raise InputError(f"{path}: `lora_alpha` is no positive number", hint=DAMAGED_HINT)
    return rank, float(alpha) / (math.sqrt(rank) if settings.get("use_rslora") else rank)


def _matrix(file: tensor_files.TensorFile, name: str, shape: tuple[int, int]) -> np.ndarray:
    info = file.tensors.get(name)
    if info is None or info.shape != shape:
        found = "missing" if info is None else f"of shape {info.shape}"
        raise HostileInputError(f"{file.path}: tensor `{name:.120}` is {found}, {shape} is needed", hint=DAMAGED_HINT)
    values = tensor_files.to_float32(file.array(name), info.dtype)
    if not np.isfinite(values).all():
        raise HostileInputError(f"{file.path}: tensor `{name:.120}` has values that are not finite", hint=DAMAGED_HINT)
    return values
