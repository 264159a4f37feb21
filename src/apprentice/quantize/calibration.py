"""Four bits fitted to real text, layer by layer: each matrix makes up for its own errors and for those below it.

    sequences --original model, one layer--> inputs x
              --quantized model, the same layer--> inputs x' --fit: W' x' near to W x--> four bits --its outputs--> next layer

Two models read the text side by side. Once a layer of the original is done, the other one's matrices are quantized one group
after the other, in the moment in which each is about to be used: with the inputs x' that the quantized layers below it give.

A matrix W is first moved most of the way to the one that does best with x' what W did with x, in the least-squares sense,

    W + a W (E[x x'^T] - E[x' x'^T]) (E[x' x'^T] + damping)^-1,   a = tokens / (tokens + SHRINKAGE)

and that one is rounded with error feedback under E[x' x'^T] (`feedback`). Without the first step errors of many layers add
up: docs/log.md has what either gains.

Sources: GPTQ, arXiv:2210.17323; the first step is asymmetric calibration, arXiv:2504.02692 (here as a target of its own, in
front of the rounding); going only a part of the way, arXiv:2504.09629.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from apprentice.core import machine
from apprentice.core.errors import InputError
from apprentice.core.protocols import ProgressSink
from apprentice.engine.loader import Layer, load_weights
from apprentice.engine.model import EngineConfig, NumpyModel
from apprentice.kernels.formats import NVFP4, Format, Packed
from apprentice.model.config import ModelConfig, parameter_shapes
from apprentice.quantize.feedback import Feedback

CHUNK_TOKENS = 512
"""Tokens of a sequence that are read together."""
DEFAULT_TOKENS = 24_576
SHRINKAGE = 4096
"""The whole correction fits the text at hand, and other text less: with 8,192 tokens 0.7 of it did best, with 24,576 it was 0.85."""
WIDEST = 12288
"""Inputs of a matrix above which their moments are too much for one machine."""
ERROR_TOKENS = 2048
"""Over which the error of outputs is measured."""

_ROWS = 256
"""Least rows of a matrix that are worth a thread."""
_FIELDS = {"q_proj": "qkv_OD", "o_proj": "output_DQ", "gate_proj": "gate_up_FD", "down_proj": "down_DF"}
"""Where a group that begins with this module lies in a `Layer`, its members below each other."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """A matrix in four bits, and how far its outputs are off on the text."""

    packed: Packed
    squared_output_error: float | None
    """E|W x - W' x'|^2; None where the matrix was changed since."""
    squared_outputs: float | None
    """E|W x|^2."""
    largest_input: float = 0.0
    """Of the sizes of x'."""


def fit(
    folder: Path, sequences: Sequence[Sequence[int]], *, max_tokens: int = DEFAULT_TOKENS, correct: bool = True,
    format: Format = NVFP4, widest: int = WIDEST, kept: Collection[str] = (), progress: ProgressSink | None = None,
) -> dict[str, Fitted]:
    """Module name (`model.layers.0.mlp.up_proj`) -> its matrix, for `convert(fitted=...)`. `sequences`: token ids of text like
    that which the model will see, most telling first. `correct`: for the errors of the layers below. Matrices of more than
    `widest` inputs are only rounded, errors weighed by the mean squares of inputs. `kept`: modules that stay as they are.

    Raises: InputError where there are no tokens or the folder cannot be used."""
    chunks = list(_chunks(sequences, max_tokens))
    if not chunks:
        raise InputError("there is no text to calibrate with", hint="give some thousand tokens of the model's work")
    weights = load_weights(folder)
    original = NumpyModel(weights, EngineConfig(prefix_cache_mib=0))
    layers = [dataclasses.replace(layer) for layer in weights.layers]
    quantized = NumpyModel(dataclasses.replace(weights, layers=layers), EngineConfig(prefix_cache_mib=0))
    inputs: dict[tuple[str, ...], np.ndarray] = {}
    found: dict[str, Fitted] = {}
    if progress is not None:
        progress.stage("calibrate", total=len(layers), unit="layers")
    threads = min(machine.cores(), 8)
    with ThreadPoolExecutor(threads) as pool, np.errstate(over="ignore"):
        fitting = _Fitting(weights.config, format, pool, threads, widest, correct=correct)

        def replace(names: tuple[str, ...], quantized_x_NC: np.ndarray) -> None:
            index, field = int(names[0].split(".")[2]), _FIELDS[names[0].rsplit(".", 1)[1]]
            if names[0] in kept:
                return
            try:
                matrix, parts = fitting.group(names, getattr(weights.layers[index], field), inputs[names], quantized_x_NC)
            except ValueError as error:
                raise InputError(f"{folder}: `{names[0]}`: {error}", hint="the checkpoint is damaged or overflows") from None
            setattr(layers[index], field, matrix)
            found.update(parts)

        original.observer, quantized.observer = inputs.__setitem__, replace
        sides = original.layer_by_layer(chunks), quantized.layer_by_layer(chunks)
        for index, _ in zip(*sides, strict=True):
            inputs.clear()
            # Neither side needs it any more.
            weights.layers[index] = layers[index] = _nothing(layers[index])
            if progress is not None:
                progress.advance()
    return found


def replaced(fitted: Mapping[str, Fitted], packed: Mapping[str, Packed], largest_inputs: Mapping[str, float]) -> dict[str, Fitted]:
    """Matrices that were changed since; `largest_inputs`: of what they read then, on a part of the text."""
    return {
        name: dataclasses.replace(
            one, packed=packed[name], squared_output_error=None, squared_outputs=None,
            largest_input=max(one.largest_input, largest_inputs.get(name, 0.0)),
        )
        for name, one in fitted.items()
    }  # fmt: skip


class _Fitting:
    """The arithmetic of one group of matrices that read the same inputs."""

    def __init__(
        self, config: ModelConfig, format: Format, pool: ThreadPoolExecutor, threads: int, widest: int, *, correct: bool
    ) -> None:
        self._shapes, self._format, self._pool, self._threads = parameter_shapes(config), format, pool, threads
        self._widest, self._correct = widest, correct

    def group(
        self, names: Sequence[str], weight_RC: np.ndarray, x_NC: np.ndarray, quantized_x_NC: np.ndarray
    ) -> tuple[np.ndarray, dict[str, Fitted]]:
        """The matrix as its codes say, and its members. `weight_RC`: all members below each other."""
        columns = weight_RC.shape[1]
        if columns % self._format.block:
            return weight_RC, {}
        result_RC = np.empty_like(weight_RC)
        x_MC, quantized_x_MC = x_NC[:ERROR_TOKENS], quantized_x_NC[:ERROR_TOKENS]
        packed, largest = self._packed(weight_RC, x_NC, quantized_x_NC), float(np.abs(quantized_x_NC).max())
        found: dict[str, Fitted] = {}
        end = 0
        for name in names:
            rows = slice(end, end := end + self._shapes[name + ".weight"][0])
            part = self._format.pack(packed.codes[rows], packed.scales[rows], packed.global_scale)
            self._format.decode(part, result_RC[rows])
            y_MR = x_MC @ weight_RC[rows].T
            error = _mean_square(y_MR - quantized_x_MC @ result_RC[rows].T)
            found[name] = Fitted(part, error, _mean_square(y_MR), largest)
        return result_RC, found

    def _packed(self, weight_RC: np.ndarray, x_NC: np.ndarray, quantized_x_NC: np.ndarray) -> Packed:
        """All members under one divisor."""
        if weight_RC.shape[1] > self._widest:
            squares_C = np.square(quantized_x_NC, dtype=np.float64).mean(axis=0)
            return self._format.encode(weight_RC, importance_C=squares_C)
        feedback = Feedback(self._moments(quantized_x_NC, quantized_x_NC), block=self._format.block)
        # A column costs some calls whatever the number of rows: as few parts as there are threads.
        parts_RC = np.array_split(weight_RC, max(min(self._threads, len(weight_RC) // _ROWS), 1))
        if self._correct:
            cross_CC = self._moments(x_NC, quantized_x_NC)
            corrections_RC = self._pool.map(feedback.correction, parts_RC, itertools.repeat(cross_CC))
            share = np.float32(len(x_NC) / (len(x_NC) + SHRINKAGE))
            parts_RC = [part + share * more for part, more in zip(parts_RC, corrections_RC, strict=True)]
        scale = self._format.global_scale(*parts_RC)
        pieces = self._pool.map(feedback.encode, parts_RC, itertools.repeat(scale), itertools.repeat(self._format))
        codes, scales = zip(*((piece.codes, piece.scales) for piece in pieces), strict=True)
        return self._format.pack(np.concatenate(codes), np.concatenate(scales), scale)

    def _moments(self, x_NC: np.ndarray, y_NC: np.ndarray) -> np.ndarray:
        """E[x y^T], float32 [C, C]."""
        moments_CC = np.empty((x_NC.shape[1], x_NC.shape[1]), np.float32)

        def piece(rows: slice) -> None:
            # What overflows is refused by `Feedback`.
            with np.errstate(over="ignore", invalid="ignore"):
                np.matmul(x_NC[:, rows].T, y_NC, out=moments_CC[rows])

        list(self._pool.map(piece, _slices(len(moments_CC))))
        moments_CC /= np.float32(len(x_NC))
        return moments_CC


def _slices(count: int) -> list[slice]:
    return [slice(start, min(start + _ROWS, count)) for start in range(0, count, _ROWS)]


def _mean_square(values_NR: np.ndarray) -> float:
    """Of the rows' lengths."""
    return float(np.square(values_NR, dtype=np.float64).sum() / len(values_NR))


def _nothing(layer: Layer) -> Layer:
    """The layer without its matrices."""
    return dataclasses.replace(layer, **dict.fromkeys(_FIELDS.values(), np.empty((0, 0), np.float32)))


def _chunks(sequences: Sequence[Sequence[int]], max_tokens: int) -> Iterator[list[int]]:
    left = max_tokens
    for token_ids in sequences:
        for start in range(0, len(token_ids), CHUNK_TOKENS):
            chunk = list(token_ids[start : start + min(CHUNK_TOKENS, left)])
            if left and chunk:
                left -= len(chunk)
                yield chunk
