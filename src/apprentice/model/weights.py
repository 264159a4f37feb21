"""Hugging Face folders in and out: `load(folder) -> Transformer`, `save(model, folder)`.

    config.json + model.safetensors (one file or shards) --> Transformer --> config.json + model.safetensors + README.md

Only safetensors and JSON are read (`tensor_files` checks them). Every tensor that the config asks for must be there in
its shape; tensors that older exports carry besides (rotary tables, a copy of a tied head) are passed over, any other
surplus is an error, since it means that the model would not compute what its authors meant.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from apprentice.core import files, machine
from apprentice.core.errors import InputError
from apprentice.model import tensor_files
from apprentice.model.config import ModelConfig, parameter_shapes, read_config, to_hugging_face
from apprentice.model.transformer import Transformer

SHARD_BYTES = 4 * 2**30
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "generation_config.json",
    "chat_template.jinja",
)
Dtype = Literal["float32", "bfloat16"]

_PASSED_OVER = re.compile(r"(rotary_emb\.inv_freq|attn\.(masked_bias|bias))$")


def load(folder: Path, *, dtype: torch.dtype = torch.float32) -> Transformer:
    """The model of a Hugging Face folder, ready to train or to generate.

    Raises: InputError (HostileInputError where reading on would be unsafe) naming the file."""
    config = read_config(folder)
    shapes = parameter_shapes(config)
    found = tensor_files.open_folder(folder)
    tensor_files.check_shapes(found, shapes, folder)
    surplus = [name for name in found if name not in shapes and not _is_passed_over(name, config.tie_embeddings)]
    if surplus:
        raise InputError(
            f"{folder}: tensor `{surplus[0]:.80}` ({len(surplus)} such) is unknown to this decoder",
            hint="merge adapters and dequantize first; other architectures are not supported",
        )
    _check_memory(config, dtype, folder)
    with torch.device("meta"):
        model = Transformer(config)
    model.to_empty(device="cpu")
    if config.tie_embeddings:
        model.lm_head.weight = model.embed_tokens.weight
    model.to(dtype)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            full = folder_name(name)
            parameter.copy_(_tensor(found[full], full))
    return model


def save(
    model: Transformer,
    folder: Path,
    *,
    dtype: Dtype = "float32",
    tokenizer_folder: Path | None = None,
    card: str | None = None,
) -> None:
    """Writes a Hugging Face folder: config, weights, the tokenizer's files of `tokenizer_folder`, and a model card."""
    files.make_folder(folder)
    state: dict[str, torch.Tensor] = {folder_name(name): parameter for name, parameter in model.named_parameters()}
    shapes = parameter_shapes(model.config)
    if state.keys() != shapes.keys():
        raise ValueError(f"leaves were swapped and not merged back: {sorted(state.keys() ^ shapes.keys())[:3]}")
    kind = "F32" if dtype == "float32" else "BF16"
    _write_shards(folder, {name: (kind, tuple(shapes[name])) for name in shapes}, state)
    files.write_json(folder / "config.json", to_hugging_face(model.config, dtype=dtype))
    if tokenizer_folder is not None:
        copy_tokenizer(tokenizer_folder, folder)
    if card is not None:
        files.write_text(folder / "README.md", card)


def copy_tokenizer(source: Path, target: Path) -> None:
    """The tokenizer's files as they are, chat template and end tokens included."""
    for name in TOKENIZER_FILES:
        if (source / name).is_file() and source.resolve() != target.resolve():
            files.write_bytes(target / name, (source / name).read_bytes())


def folder_name(name: str) -> str:
    """A parameter's name in the model -> in a Hugging Face folder."""
    return name if name.startswith("lm_head.") else f"model.{name}"


def _check_memory(config: ModelConfig, dtype: torch.dtype, folder: Path) -> None:
    needed = config.num_parameters * dtype.itemsize / 2**30
    available = machine.look().memory_available_gib
    if available and needed > available:
        raise InputError(
            f"{folder}: the weights need {needed:.1f} GiB of memory, {available:.1f} GiB are free",
            hint="end other programs, or take a smaller base",
        )


def _is_passed_over(name: str, tied: bool) -> bool:
    return bool(_PASSED_OVER.search(name)) or (tied and name == "lm_head.weight")


def _tensor(file: tensor_files.TensorFile, name: str) -> torch.Tensor:
    dtype, array = file.tensors[name].dtype, file.array(name)
    # A plain copy: torch warns about views of read-only memory.
    if dtype == "BF16":
        return torch.from_numpy(array.copy()).view(torch.bfloat16)
    return torch.from_numpy(np.array(tensor_files.to_float32(array, dtype)))


def _array(tensor: torch.Tensor, kind: str) -> np.ndarray:
    tensor = tensor.detach().cpu()
    if kind == "BF16":
        return tensor.to(torch.bfloat16).contiguous().view(torch.uint16).numpy()
    return tensor.float().contiguous().numpy()


def _write_shards(folder: Path, infos: dict[str, tuple[str, tuple[int, ...]]], state: dict[str, torch.Tensor]) -> None:
    def arrays(shard: dict[str, tuple[str, tuple[int, ...]]]) -> Iterator[np.ndarray]:
        return (_array(state[name], kind) for name, (kind, _) in shard.items())

    cut = list(tensor_files.shards(infos, SHARD_BYTES))
    if len(cut) == 1:
        tensor_files.write(folder / "model.safetensors", cut[0], arrays(cut[0]))
        return
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(cut, 1):
        name = f"model-{number:05}-of-{len(cut):05}.safetensors"
        tensor_files.write(folder / name, shard, arrays(shard))
        weight_map |= dict.fromkeys(shard, name)
    files.write_json(folder / "model.safetensors.index.json", {"metadata": {}, "weight_map": weight_map})
