"""A checkpoint folder, checked, to arrays: the quantized layout and plain safetensors, without torch.

    config.json, *.safetensors --check everything--> Checkpoint --read, packed--> float32 or codes and scales, tensor by tensor
                                                     load_weights --------------> Weights, all of it in float32

Files are mapped, so a tensor is read when it is asked for and never lies in memory twice. Nothing is allocated before
every tensor has been found with the shape that config.json asks for and the sizes have been held against the files;
then the whole against the memory that is free.

`load_weights` is for numpy: q, k, v stand in one matrix and gate, up in another (fewer, larger products), NVFP4 is
widened by table (`kernels.nvfp4`), about half a second for 100 million weights on one core. The native engine takes
codes and scales as they are (`engine.packing`).
"""

from __future__ import annotations

import functools
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from apprentice.core import machine
from apprentice.core.errors import DAMAGED_HINT, HostileInputError, InputError
from apprentice.kernels import nvfp4
from apprentice.kernels.formats import FORMATS, NVFP4, Format, Packed
from apprentice.model import rope
from apprentice.model.config import ModelConfig, from_hugging_face, parameter_shapes, read_json
from apprentice.model.tensor_files import check_shapes, open_folder

_FORMATS: dict[str, Format] = {format.layout: format for format in FORMATS.values()}
ROOM_BESIDE_WEIGHTS_BYTES = 256 * 2**20
"""For caches, activations and the interpreter."""

_PLAIN = ("F32", "BF16", "F16", "F64")
INPUT_SCALE = ".input_global_scale"
_PASSED_OVER = re.compile(r"(rotary_emb\.inv_freq|attn\.(masked_bias|bias)|\.input_global_scale)$")


@dataclass(slots=True)
class Layer:
    """Weights of one layer. O = all outputs of q, k, v; D residual width; Q = all query heads; F width of the MLP."""

    input_norm_D: np.ndarray
    qkv_OD: np.ndarray
    qkv_bias_O: np.ndarray | None
    q_norm_E: np.ndarray | None
    k_norm_E: np.ndarray | None
    output_DQ: np.ndarray
    output_bias_D: np.ndarray | None
    mlp_norm_D: np.ndarray
    gate_up_FD: np.ndarray
    """Gate above up: 2 F rows."""
    gate_up_bias_F: np.ndarray | None
    down_DF: np.ndarray
    down_bias_D: np.ndarray | None


@dataclass(slots=True)
class Weights:
    """A whole model in float32."""

    config: ModelConfig
    embedding_VD: np.ndarray
    layers: list[Layer]
    norm_D: np.ndarray
    head_VD: np.ndarray
    """The embedding itself where they are tied."""
    input_scales: dict[str, np.float32] = field(default_factory=dict)
    """By module, the divisor of what it reads, where the file has it: NVFP4 for activations too."""


def load_weights(folder: Path, *, memory_bytes: int | None = None) -> Weights:
    """`memory_bytes`: what may be used; None = what is free. Raises: InputError naming file and tensor."""
    checkpoint = Checkpoint(folder)
    config = checkpoint.config
    checkpoint.check_memory(needed_bytes(config), memory_bytes, "in float32")
    with ThreadPoolExecutor(min(machine.cores(), 8)) as pool:
        layers = list(pool.map(functools.partial(_layer, checkpoint), range(config.num_layers)))
    embedding_VD = checkpoint.read("model.embed_tokens.weight")
    head_VD = embedding_VD if config.tie_embeddings else checkpoint.read("lm_head.weight")
    return Weights(config, embedding_VD, layers, checkpoint.read("model.norm.weight"), head_VD, checkpoint.input_scales())


def needed_bytes(config: ModelConfig) -> int:
    """Memory for a model in float32 with room to run."""
    return 4 * config.num_parameters + ROOM_BESIDE_WEIGHTS_BYTES


def folder_state(folder: Path) -> list[list[str | int]]:
    """Resolved path, size, times and inode of each file that can decide what the tensors are."""
    paths = [folder / "config.json", folder / "model.safetensors.index.json", *folder.glob("*.safetensors")]
    found = [(path.resolve(), path.stat()) for path in sorted(paths) if path.is_file()]
    return [[str(path), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino] for path, stat in found]


class Checkpoint:
    """Tensors of a folder by their plain names, quantized or not. All are there, in the right shapes and types."""

    def __init__(self, folder: Path) -> None:
        """Raises: InputError naming file and tensor."""
        self.folder = folder
        self.state = folder_state(folder)
        """Before anything was opened."""
        self.config, self._format = _config(folder)
        self._found, self._shapes = open_folder(folder), parameter_shapes(self.config)
        self._check(self.config.tie_embeddings)

    def _check(self, tied: bool) -> None:
        """Every tensor is there in its shape and type, and no other. Raises: InputError."""
        wanted: dict[str, tuple[int, ...]] = {}
        for name, shape in self._shapes.items():
            if name + "_packed" in self._found and len(shape) == 2:
                block = self._format.block
                wanted |= {name + "_packed": (shape[0], shape[1] // 2), name + "_scale": (shape[0], shape[1] // block)}
                wanted |= {name + "_global_scale": (1,)} if self._format.has_global_scale else {}
                if shape[1] % block:
                    raise HostileInputError(
                        f"{self._path(name + '_packed')}: `{name}` has {shape[1]} columns, no multiple of {block}",
                        hint=DAMAGED_HINT,
                    )
            else:
                wanted[name] = shape
        check_shapes(self._found, wanted, self.folder)
        for name in wanted:
            self._check_type(name)
        surplus = [n for n in self._found if n not in wanted and not _PASSED_OVER.search(n)]
        surplus = [name for name in surplus if not (tied and name == "lm_head.weight")]
        if surplus:
            raise InputError(
                f"{self._path(surplus[0])}: tensor `{surplus[0]:.80}` ({len(surplus)} such) is unknown to this engine",
                hint="merge adapters first; other architectures and quantizations are not supported",
            )

    def check_memory(self, needed: int, memory_bytes: int | None, how: str) -> None:
        """Raises: InputError if that many bytes are more than may be used (None: than are free)."""
        free = int(machine.look().memory_available_gib * 2**30) if memory_bytes is None else memory_bytes
        if needed > free:
            raise InputError(
                f"{self.folder}: needs {needed / 2**30:.1f} GiB of memory {how}, {free / 2**30:.1f} GiB are free",
                hint="choose a smaller base, or end other programs",
            )

    def shape(self, name: str) -> tuple[int, ...]:
        return self._shapes[name]

    def __contains__(self, name: str) -> bool:
        """Whether the model has such a tensor."""
        return name in self._shapes

    def is_packed(self, name: str) -> bool:
        return name + "_packed" in self._found

    def is_bfloat16(self, name: str) -> bool:
        return name in self._found and self._found[name].tensors[name].dtype == "BF16"

    def bfloat16(self, name: str) -> np.ndarray:
        """A tensor that is stored so, as uint16, a view of the file. Raises: HostileInputError if not finite."""
        array = self._found[name].array(name)
        if ((array & 0x7F80) == 0x7F80).any():
            raise self._not_finite(name)
        return array

    def read(self, name: str, out: np.ndarray | None = None, rows: slice = slice(None)) -> np.ndarray:
        """The tensor or rows of it as float32, into `out` where given (C-contiguous). Raises:
        HostileInputError if not finite."""
        if out is None:
            out = np.empty((len(range(*rows.indices(self._shapes[name][0]))), *self._shapes[name][1:]), np.float32)
        if self.is_packed(name):
            packed = self.packed(name)
            self._format.decode(replace(packed, codes=packed.codes[rows], scales=packed.scales[rows]), out)
            return out
        file = self._found[name]
        array = file.array(name)[rows]
        if file.tensors[name].dtype == "BF16":
            bits = out.view(np.uint32)
            bits[...] = array
            np.left_shift(bits, np.uint32(16), out=bits)
        else:
            with np.errstate(over="ignore"):
                out[...] = array
        with np.errstate(over="ignore", invalid="ignore"):
            if not np.isfinite(np.add.reduce(out, axis=None)) and not np.isfinite(out).all():
                raise self._not_finite(name)
        return out

    def read_optional(self, name: str) -> np.ndarray | None:
        return self.read(name) if name in self._shapes else None

    def stacked(self, names: list[str]) -> np.ndarray | None:
        """Matrices (or biases) one above the other; None where the model has none of them."""
        if names[0] not in self._shapes:
            return None
        rows = [self._shapes[name][0] for name in names]
        out = np.empty((sum(rows), *self._shapes[names[0]][1:]), np.float32)
        at = 0
        for name, count in zip(names, rows, strict=True):
            self.read(name, out[at : at + count])
            at += count
        return out

    def packed(self, name: str) -> Packed:
        """A quantized matrix as views of the file. Raises: HostileInputError for scales that are no numbers."""
        scale_name, divisor_name = name + "_scale", name + "_global_scale"
        codes, scales = self._found[name + "_packed"].array(name + "_packed"), self._found[scale_name].array(scale_name)
        if any((scales == code).any() for code in self._format.nan_scales):
            raise HostileInputError(
                f"{self._path(scale_name)}: tensor `{scale_name}` has scales that are NaN", hint=DAMAGED_HINT
            )
        if not self._format.has_global_scale:
            return self._format.pack(codes, scales, np.float32(1))
        divisor = np.float32(self._found[divisor_name].array(divisor_name)[0])
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            largest = np.float32(nvfp4.GLOBAL_RANGE) / divisor
        if not divisor > 0 or not np.isfinite(divisor) or not np.isfinite(largest):
            raise HostileInputError(
                f"{self._path(divisor_name)}: tensor `{divisor_name}` is {divisor}, no usable divisor", hint=DAMAGED_HINT
            )
        return self._format.pack(codes, scales, divisor)

    def input_scales(self) -> dict[str, np.float32]:
        """Divisors of activations by module, where the file has them. Raises: HostileInputError for one that is unusable."""
        scales: dict[str, np.float32] = {}
        for name in self._shapes:
            module = name.removesuffix(".weight")
            key = module + INPUT_SCALE
            if self.is_packed(name) and key in self._found:
                info = self._found[key].tensors[key]
                if info.shape != (1,) or info.dtype != "F32":
                    raise InputError(f"{self._path(key)}: tensor `{key}` is no single float32", hint=DAMAGED_HINT)
                scales[module] = np.float32(self._found[key].array(key)[0])
                if not np.isfinite(scales[module]) or scales[module] <= 0:
                    raise HostileInputError(
                        f"{self._path(key)}: tensor `{key}` is {scales[module]}, no usable divisor", hint=DAMAGED_HINT
                    )
        return scales

    def _not_finite(self, name: str) -> HostileInputError:
        return HostileInputError(
            f"{self._path(name)}: tensor `{name}` has values that are not finite", hint=DAMAGED_HINT
        )

    def _check_type(self, name: str) -> None:
        dtype = self._found[name].tensors[name].dtype
        allowed: tuple[str, ...] = _PLAIN
        if name.endswith("_packed"):
            allowed = ("U8",)
        elif name.endswith("_scale"):
            allowed = ("F32",) if name.endswith("_global_scale") else (self._format.scale_dtype,)
        if dtype not in allowed:
            raise InputError(
                f"{self._path(name)}: tensor `{name}` has type {dtype}, not {' or '.join(allowed)}", hint=DAMAGED_HINT
            )

    def _path(self, name: str) -> Path:
        return self._found[name].path


def _config(folder: Path) -> tuple[ModelConfig, Format]:
    """And in which format those matrices are that are quantized."""
    path = folder / "config.json"
    data = read_json(path)
    try:
        config, format = from_hugging_face(data), _format(data.get("quantization_config"))
        with np.errstate(all="ignore"):
            radians, factor = rope.frequencies(config)
    except InputError as error:
        raise type(error)(f"{path}: {error.message}", hint=error.hint or DAMAGED_HINT) from None
    except (ArithmeticError, ValueError) as error:
        raise HostileInputError(f"{path}: a number has no meaning: {error}", hint=DAMAGED_HINT) from None
    if not (np.isfinite(radians).all() and np.isfinite(factor)):
        raise HostileInputError(f"{path}: the frequencies of its rotary positions are not finite", hint=DAMAGED_HINT)
    return config, format


def _format(config: Any) -> Format:
    if config is None:
        return NVFP4
    name = config.get("format") if isinstance(config, dict) else None
    if not isinstance(name, str) or name not in _FORMATS:
        kind = name or config.get("quant_method") if isinstance(config, dict) else config
        raise InputError(
            f"quantization {kind!r:.80} is not supported, only {' and '.join(map(repr, _FORMATS))}",
            hint="give the unquantized folder, or quantize it with `apprentice model quantize FOLDER`",
        )
    return _FORMATS[name]


def _layer(reader: Checkpoint, index: int) -> Layer:
    at = f"model.layers.{index}."
    qkv = [f"{at}self_attn.{name}_proj" for name in "qkv"]
    gate_up = [f"{at}mlp.{name}_proj" for name in ("gate", "up")]
    qkv_OD = reader.stacked([name + ".weight" for name in qkv])
    gate_up_FD = reader.stacked([name + ".weight" for name in gate_up])
    assert qkv_OD is not None
    assert gate_up_FD is not None
    return Layer(
        input_norm_D=reader.read(at + "input_layernorm.weight"),
        qkv_OD=qkv_OD,
        qkv_bias_O=reader.stacked([name + ".bias" for name in qkv]),
        q_norm_E=reader.read_optional(at + "self_attn.q_norm.weight"),
        k_norm_E=reader.read_optional(at + "self_attn.k_norm.weight"),
        output_DQ=reader.read(at + "self_attn.o_proj.weight"),
        output_bias_D=reader.read_optional(at + "self_attn.o_proj.bias"),
        mlp_norm_D=reader.read(at + "post_attention_layernorm.weight"),
        gate_up_FD=gate_up_FD,
        gate_up_bias_F=reader.stacked([name + ".bias" for name in gate_up]),
        down_DF=reader.read(at + "mlp.down_proj.weight"),
        down_bias_D=reader.read_optional(at + "mlp.down_proj.bias"),
    )
