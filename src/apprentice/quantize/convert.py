"""A Hugging Face folder to four bits: the layout that our engine, compressed-tensors, transformers and vLLM read alike.

    config.json + *.safetensors --convert()--> the same folder, matrices in NVFP4 or MXFP4, the rest as BF16

Of each linear layer `M` these tensors are written (`kernels.nvfp4`, `kernels.mxfp4` have the arithmetic):

    M.weight_packed        uint8 [out, in / 2]       two codes a byte, even column in the low nibble
    M.weight_scale         float8_e4m3fn [out, in / 16], for MXFP4 uint8 [out, in / 32]
    M.weight_global_scale  float32 [1]               a divisor; NVFP4 only
    M.input_global_scale   float32 [1]               with `activations`: the same for what the layer reads

Runtimes fuse q, k, v and gate, up into one matrix product, which has room for one divisor: the members of such a group
share it. Embeddings, head, norms and biases stay BF16, and so do a matrix whose width is no multiple of 16
or 32 and those that four bits hurt most (`sensitivity`); the config's `ignore` names them. Only weights are quantized (`input_activations: null`, the presets NVFP4A16, MXFP4A16),
unless `activations` asks for NVFP4 through and through (W4A4, the preset NVFP4).

No torch. A few matrices are in memory at a time, one for each core; the result does not depend on how many.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from apprentice.core import files, machine
from apprentice.core.errors import ConfigError, InputError
from apprentice.core.protocols import ProgressSink
from apprentice.kernels.formats import FORMATS, NVFP4, Format, Name, Packed
from apprentice.model import tensor_files
from apprentice.model.config import from_hugging_face, parameter_shapes, read_config, read_json
from apprentice.quantize.calibration import Fitted
from apprentice.quantize.card import write_card
from apprentice.quantize.report import Distillation, MatrixError, Report
from apprentice.quantize.report_page import write_page
from apprentice.quantize.sensitivity import Sensitivity

REPORT_FILE = "quantization_report.json"
SHARD_BYTES = 4 * 2**30
COPIED_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "generation_config.json",
    "chat_template.jinja", "added_tokens.json", "vocab.json", "merges.txt", "LICENSE",
)  # fmt: skip

_FUSED = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))

Infos = dict[str, tuple[str, tuple[int, ...]]]


@dataclass(frozen=True, kw_only=True, slots=True)
class QuantizeConfig:
    """Which four bits, and how scales are chosen."""

    format: Name = "nvfp4"
    """NVFP4 loses half, fitted to text a quarter, of what MXFP4 loses; MXFP4 takes 4.25 bits a weight in place of 4.5."""
    activations: bool = False
    """Write what Blackwell's tensor cores need to read activations in NVFP4 too. Other engines pass it over."""
    search: bool = True
    """Try the neighbours of the usual scale for each block and keep the best; three times as slow. Fitted matrices have done so."""

    precise_share: float = 0.1
    """Of the weights of linear layers, 0 to less than 1: so many stay BF16, those that four bits hurt most, where there is text to see it."""

    def check(self, *, is_fitted: bool) -> None:
        """Raises: ConfigError where these settings contradict each other."""
        if not 0 <= self.precise_share < 1:
            raise ConfigError(f"`precise_share` is {self.precise_share}", hint="it is a share, from 0 to less than 1")
        if self.activations and (self.format != "nvfp4" or not is_fitted):
            raise ConfigError(
                "activations in four bits are NVFP4, with scales taken from text", hint="give `--format nvfp4` and `--calibrate`"
            )


def convert(
    source: Path, target: Path, config: QuantizeConfig = QuantizeConfig(), *,
    fitted: Mapping[str, Fitted] | None = None, kept: Collection[str] = (), measured: Sequence[Sensitivity] = (),
    distillation: Distillation | None = None, progress: ProgressSink | None = None,
) -> Report:
    """Writes the quantized folder. `fitted`: the matrices of the same source in four bits, from `calibration.fit`; with them
    the model loses about a seventh of what it loses without. `kept`: modules that stay BF16. `measured`: for the report, as
    `distillation`, what training the fitted matrices gave.

    Raises: InputError naming file and tensor where the source cannot be used."""
    config.check(is_fitted=fitted is not None)
    hugging_face, shapes, found = opened(source)
    files.make_folder(target)
    work = _Work(shapes, found, config, fitted or {}, kept, progress)
    _write_weights(target, work.infos(), work.arrays())
    files.write_json(target / "config.json", _quantized_config(hugging_face, work.ignored(), config))
    for name in COPIED_FILES:
        if (source / name).is_file():
            files.copy_file(source / name, target / name)
    report = work.report(distillation)
    files.write_json(target / REPORT_FILE, report.to_dict())
    write_page(target, report, measured)
    write_card(source, target, report, FORMATS[config.format], activations=config.activations)
    return report


def opened(source: Path) -> tuple[dict[str, Any], dict[str, tuple[int, ...]], dict[str, tensor_files.TensorFile]]:
    """A checkpoint's config, the shapes that it must have, and its tensors. Raises: InputError where it cannot be quantized."""
    hugging_face = read_json(source / "config.json")
    if hugging_face.get("quantization_config"):
        raise InputError(f"{source}: already quantized", hint="give the folder that it was made from")
    shapes = parameter_shapes(read_config(source))
    found = tensor_files.open_folder(source)
    tensor_files.check_shapes(found, shapes, source)
    return hugging_face, shapes, found


class _Work:
    """The tensors of one checkpoint on their way."""

    def __init__(
        self, shapes: Mapping[str, tuple[int, ...]], found: Mapping[str, tensor_files.TensorFile],
        config: QuantizeConfig, fitted: Mapping[str, Fitted], kept: Collection[str], progress: ProgressSink | None,
    ) -> None:
        self._shapes, self._found, self._config = shapes, found, config
        self._format = FORMATS[config.format]
        self._fitted, self._kept_modules, self._progress = fitted, kept, progress
        self._threads = min(machine.cores(), 8)
        self._divisors: dict[str, np.float32] = {}
        self._errors: list[MatrixError] = []

    def infos(self) -> Infos:
        """Every tensor that will be written, in order."""
        infos: Infos = {}
        for name, shape in self._shapes.items():
            if self._is_quantized(name, shape):
                rows, columns = shape
                infos[name + "_packed"] = ("U8", (rows, columns // 2))
                infos[name + "_scale"] = (self._format.scale_dtype, (rows, columns // self._format.block))
                if self._format.has_global_scale:
                    infos[name + "_global_scale"] = ("F32", (1,))
                if self._config.activations:
                    infos[_input_scale(name)] = ("F32", (1,))
            else:
                infos[name] = ("BF16", shape)
        return infos

    def arrays(self) -> Iterator[np.ndarray]:
        """The arrays that `infos` announces."""
        quantized = [name for name, shape in self._shapes.items() if self._is_quantized(name, shape)]
        if self._progress is not None:
            self._progress.stage("quantize", total=len(quantized), unit="matrices")
        with ThreadPoolExecutor(self._threads) as pool:
            waiting = iter(quantized)
            running = deque(self._begin(pool, name) for name in itertools.islice(waiting, self._threads))
            for name, shape in self._shapes.items():
                if not self._is_quantized(name, shape):
                    yield self._kept(name)
                    continue
                packed, error = running.popleft().result()
                running.extend(self._begin(pool, following) for following in itertools.islice(waiting, 1))
                self._errors.append(error)
                if self._progress is not None:
                    self._progress.advance(detail=name)
                yield packed.codes
                yield packed.scales
                if self._format.has_global_scale:
                    yield np.array([packed.global_scale], np.float32)
                if self._config.activations:
                    largest = np.float32(self._fitted[name.removesuffix(".weight")].largest_input)
                    yield np.array([self._format.global_scale(largest)], np.float32)

    def ignored(self) -> list[str]:
        """Linear layers that stay as they are."""
        kept = [name for name, shape in self._shapes.items() if _is_linear(name) and not self._is_quantized(name, shape)]
        return ["lm_head", *(name.removesuffix(".weight") for name in kept)]

    def report(self, distillation: Distillation | None) -> Report:
        before = sum(info.end - info.start for info in (self._found[name].tensors[name] for name in self._shapes))
        after = sum(tensor_files.DTYPES[dtype].itemsize * int(np.prod(shape)) for dtype, shape in self.infos().values())
        kept = tuple(name for name, shape in self._shapes.items() if not self._is_quantized(name, shape))
        return Report(matrices=tuple(self._errors), kept=kept, bytes_before=before, bytes_after=after, distillation=distillation)

    def _kept(self, name: str) -> np.ndarray:
        file = self._found[name]
        array = file.array(name)
        kept = array if file.tensors[name].dtype == "BF16" else tensor_files.to_bfloat16(self._weight(name))
        if ((kept & 0x7F80) == 0x7F80).any():
            hint = "fetch the checkpoint again or train it again"
            raise InputError(f"{file.path}: tensor `{name}` has values that are no finite numbers in BF16", hint=hint)
        return kept

    def _weight(self, name: str) -> np.ndarray:
        file = self._found[name]
        try:
            return tensor_files.to_float32(file.array(name), file.tensors[name].dtype)
        except InputError as error:
            raise InputError(f"{file.path}: tensor `{name}`: {error.message}", hint=error.hint) from None

    def _quantize(self, name: str, divisor: np.float32 | None) -> tuple[Packed, MatrixError]:
        module = name.removesuffix(".weight")
        weight_RC = self._weight(name)
        fitted = self._fitted.get(module)
        try:
            packed = fitted.packed if fitted else self._format.encode(weight_RC, divisor, search=self._config.search)
        except ValueError as error:
            raise InputError(f"{self._found[name].path}: tensor `{name}`: {error}") from None
        decoded_RC = self._format.decode(packed)
        moved = np.count_nonzero(packed.scales != self._format.plain_scales(weight_RC, packed.global_scale))
        return packed, MatrixError(
            name=module,
            rows=weight_RC.shape[0],
            columns=weight_RC.shape[1],
            squared_error=_squares(decoded_RC - weight_RC),
            squared_weights=_squares(weight_RC),
            scales_moved=int(moved) / packed.scales.size,
            squared_output_error=fitted.squared_output_error if fitted else None,
            squared_outputs=fitted.squared_outputs if fitted else None,
        )

    def _begin(self, pool: ThreadPoolExecutor, name: str) -> Future[tuple[Packed, MatrixError]]:
        is_fitted = name.removesuffix(".weight") in self._fitted
        return pool.submit(self._quantize, name, None if is_fitted else self._divisor(name))

    def _divisor(self, name: str) -> np.float32:
        group = _fused_with(name)
        if group[0] not in self._divisors:
            self._divisors[group[0]] = self._format.global_scale(*(self._weight(member) for member in group))
        return self._divisors[group[0]]

    def _is_quantized(self, name: str, shape: tuple[int, ...]) -> bool:
        return _is_linear(name) and shape[1] % self._format.block == 0 and name.removesuffix(".weight") not in self._kept_modules


def quantization_config(ignored: list[str], format: Format = NVFP4, *, activations: bool = False) -> dict[str, Any]:
    """The entry of config.json: keys that every reader knows, and no more."""
    weights: dict[str, Any] = {
        "num_bits": 4, "type": "float", "symmetric": True, "group_size": format.block,
        "strategy": "tensor_group" if format.has_global_scale else "group", "dynamic": False,
    }  # fmt: skip
    if not format.has_global_scale:
        weights |= {"scale_dtype": "torch.uint8", "zp_dtype": "torch.uint8"}
    inputs = weights | {"dynamic": "local"} if activations else None
    group = {"targets": ["Linear"], "weights": weights, "input_activations": inputs, "output_activations": None}
    return {
        "quant_method": "compressed-tensors",
        "format": format.layout,
        "quantization_status": "compressed",
        "ignore": ignored,
        "config_groups": {"group_0": group},
    }


def _quantized_config(hugging_face: dict[str, Any], ignored: list[str], config: QuantizeConfig) -> dict[str, Any]:
    data = hugging_face | {"dtype": "bfloat16", "torch_dtype": "bfloat16"}
    data["quantization_config"] = quantization_config(
        ignored, FORMATS[config.format], activations=config.activations
    )
    from_hugging_face(data)
    return data


def _write_weights(target: Path, infos: Infos, arrays: Iterator[np.ndarray]) -> None:
    cut = list(tensor_files.shards(infos, SHARD_BYTES))
    if len(cut) == 1:
        tensor_files.write(target / "model.safetensors", cut[0], arrays)
        return
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(cut, 1):
        name = f"model-{number:05}-of-{len(cut):05}.safetensors"
        tensor_files.write(target / name, shard, itertools.islice(arrays, len(shard)))
        weight_map |= dict.fromkeys(shard, name)
    files.write_json(target / "model.safetensors.index.json", {"metadata": {}, "weight_map": weight_map})


def _input_scale(name: str) -> str:
    return name.removesuffix("weight") + "input_global_scale"


def _is_linear(name: str) -> bool:
    return name.endswith("_proj.weight")


def _fused_with(name: str) -> list[str]:
    """The matrices that share the divisor of this one, itself included, always in the same order."""
    parent, module, _ = name.rsplit(".", 2)
    group = next((group for group in _FUSED if module in group), (module,))
    return [f"{parent}.{member}.weight" for member in group]


def _squares(values: np.ndarray) -> float:
    return float(np.square(values, dtype=np.float64).sum())
