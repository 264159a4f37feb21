"""LoRA: a small trainable correction beside each linear layer, in and out in PEFT's layout, merged and checked.

    attach(model, LoraConfig) --train--> save(model, folder) --load(model, folder)--> merge(model) --> plain weights

    y = W x + b + (alpha / rank) B A x        A [rank, in] random, B [out, rank] zero at the start

`attach` swaps each targeted Linear for a `LoraLinear` and freezes all else; the decoder does not know. `merge` swaps
plain Linears back in with W + (alpha / rank) B A, and compares the logits of a probe before and after.
Left out: DoRA, other initializations, different ranks for different layers; a folder that asks for them is refused.
Source: LoRA (arXiv:2106.09685); file layout: PEFT 0.21.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from apprentice.core import files
from apprentice.core.errors import InternalError
from apprentice.model import adapter_files, tensor_files
from apprentice.model.adapter_files import CONFIG_FILE, MAX_RANK, WEIGHTS_FILE
from apprentice.model.transformer import Transformer
from apprentice.model.weights import folder_name

ALL_LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")

_PREFIX = "base_model.model."
_PLAIN: dict[str, Any] = {
    "use_dora": False,
    "bias": "none",
    "modules_to_save": None,
    "rank_pattern": {},
    "alpha_pattern": {},
    "fan_in_fan_out": False,
    "layer_replication": None,
    "trainable_token_indices": None,
    "target_parameters": None,
}
"""Settings of PEFT that change what is computed, at the only values that are computed here."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LoraConfig:
    """Where corrections stand and how large they are."""

    rank: int = 16
    """Rows of A, 1 to 1024."""
    alpha: float = 32.0
    """The correction is scaled by alpha / rank."""
    dropout: float = 0.0
    """Share of inputs dropped in training, 0 to below 1."""
    targets: tuple[str, ...] = ALL_LINEAR
    """Names of linear layers."""

    def __post_init__(self) -> None:
        if not 1 <= self.rank <= MAX_RANK:
            raise ValueError(f"rank must be from 1 to {MAX_RANK}")
        if not (self.alpha > 0 and math.isfinite(self.alpha)):
            raise ValueError("alpha must be above 0")
        if not 0 <= self.dropout < 1:
            raise ValueError("dropout must be from 0 to below 1")
        if not self.targets or set(self.targets) - set(ALL_LINEAR):
            raise ValueError(f"targets must be some of {', '.join(ALL_LINEAR)}")


class LoraLinear(nn.Module):
    """A frozen Linear and its correction."""

    def __init__(self, base: nn.Linear, rank: int, scale: float, dropout: float) -> None:
        super().__init__()
        self.base, self.scale, self.dropout = base, scale, dropout
        self.lora_A = nn.Parameter(torch.zeros(rank, base.in_features, dtype=base.weight.dtype))
        self.lora_B = nn.Parameter(torch.zeros(base.out_features, rank, dtype=base.weight.dtype))

    def forward(self, x: Tensor) -> Tensor:
        dropped = functional.dropout(x, self.dropout, self.training) if self.dropout else x
        # Scaled in the narrow middle: `rank` numbers a token instead of `out`.
        return self.base(x) + functional.linear(functional.linear(dropped, self.lora_A) * self.scale, self.lora_B)

    def merged(self) -> nn.Linear:
        """The plain Linear that computes the same without dropout."""
        with torch.no_grad():
            self.base.weight += self.scale * (self.lora_B.double() @ self.lora_A.double()).to(self.base.weight.dtype)
        return self.base


def attach(model: Transformer, config: LoraConfig, *, seed: int = 0) -> list[nn.Parameter]:
    """Adds corrections that start at zero, freezes all else, and gives what is to be trained."""
    random = torch.Generator().manual_seed(seed)
    model.requires_grad_(False)
    for parent, name, linear in list(_linears(model)):
        if name in config.targets:
            lora = LoraLinear(linear, config.rank, config.alpha / config.rank, config.dropout)
            bound = 1 / math.sqrt(linear.in_features)
            with torch.no_grad():
                lora.lora_A.uniform_(-bound, bound, generator=random)
            setattr(parent, name, lora)
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def save(model: Transformer, config: LoraConfig, folder: Path, *, base: str = "", card: str | None = None) -> None:
    """Writes the corrections as PEFT does. `base`: name or folder of the weights that they belong to."""
    tensors = {
        f"{_PREFIX}{folder_name(name)}.{matrix}.weight": parameter.detach().float().contiguous().numpy()
        for name, lora in _loras(model)
        for matrix, parameter in (("lora_A", lora.lora_A), ("lora_B", lora.lora_B))
    }
    files.make_folder(folder)
    infos = {name: ("F32", array.shape) for name, array in tensors.items()}
    tensor_files.write(folder / WEIGHTS_FILE, infos, tensors.values())
    settings = _PLAIN | {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "inference_mode": True,
        "r": config.rank,
        "lora_alpha": config.alpha,
        "lora_dropout": config.dropout,
        "use_rslora": False,
        "init_lora_weights": True,
        "target_modules": sorted(config.targets),
    }
    files.write_json(folder / CONFIG_FILE, settings)
    if card is not None:
        files.write_text(folder / "README.md", card)


def load(model: Transformer, folder: Path) -> LoraConfig:
    """Attaches the corrections of a folder in PEFT's layout. Raises: InputError naming what does not fit."""
    found = adapter_files.read(folder, model.config)
    places = {folder_name(name): (parent, leaf, linear) for name, parent, leaf, linear in _named_linears(model)}
    model.requires_grad_(False)
    for module, part in found.items():
        parent, leaf, linear = places[module]
        lora = LoraLinear(linear, len(part.a_RI), part.scale, 0.0)
        with torch.no_grad():
            lora.lora_A.copy_(torch.tensor(part.a_RI))
            lora.lora_B.copy_(torch.tensor(part.b_OR))
        setattr(parent, leaf, lora)
    leaves = {module.rsplit(".", 1)[-1] for module in found}
    part = next(iter(found.values()))
    rank = len(part.a_RI)
    return LoraConfig(rank=rank, alpha=part.scale * rank, targets=tuple(leaf for leaf in ALL_LINEAR if leaf in leaves))


@torch.no_grad()
def scale(model: Transformer, factor: float) -> bool:
    """Multiplies the corrections, in place. False where there are none."""
    loras = [lora for _, lora in _loras(model)]
    for lora in loras:
        lora.lora_B.mul_(factor)
    return bool(loras)


@torch.no_grad()
def merge(model: Transformer, *, tolerance: float = 1e-3) -> None:
    """Makes the corrections part of the weights, in place.

    Raises: InternalError where the logits of a probe then differ by more than `tolerance` of their size."""
    was_training = model.training
    model.eval()
    probe = (torch.arange(48) * 7919 % model.config.vocab_size)[None]
    before = model(probe)
    for parent, name, lora in [
        (p, n, m) for p in model.modules() for n, m in p.named_children() if isinstance(m, LoraLinear)
    ]:
        setattr(parent, name, lora.merged())
    difference = float((model(probe) - before).abs().max())
    model.requires_grad_(True)
    model.train(was_training)
    if not difference <= tolerance * max(1.0, float(before.abs().max())):
        raise InternalError(f"the merged adapter's logits differ by {difference:.2g}")


def _linears(model: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Linear]]:
    for parent in model.modules():
        for name, child in parent.named_children():
            if isinstance(child, nn.Linear) and name in ALL_LINEAR:
                yield parent, name, child


def _named_linears(model: Transformer) -> Iterator[tuple[str, nn.Module, str, nn.Linear]]:
    names = {id(module): name for name, module in model.named_modules()}
    for parent, leaf, linear in _linears(model):
        yield names[id(linear)], parent, leaf, linear


def _loras(model: Transformer) -> Iterator[tuple[str, LoraLinear]]:
    return ((name, module) for name, module in model.named_modules() if isinstance(module, LoraLinear))
