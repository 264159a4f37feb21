"""Which matrices four bits hurt most, measured: those stay as they are.

    sequences --original model, one group of matrices rounded at a time--> divergence of its predictions --> the worst per weight

A group is what reads the same inputs (q, k, v; gate, up): runtimes fuse its members, so they have one precision. Each is
rounded to the format by itself, all else is the original, and the layers from there on read the text again. What a group
costs alone is a good guide to what it costs beside the others, even though those are fitted later: docs/log.md.

The work is that of reading half as many times the text as there are groups, so the text is short.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from apprentice.core.errors import InputError
from apprentice.core.protocols import ProgressSink
from apprentice.engine.loader import Layer, load_weights
from apprentice.engine.model import EngineConfig, NumpyModel
from apprentice.kernels.formats import NVFP4, Format

DEFAULT_TOKENS = 384
PIECE_TOKENS = 128
"""Of a sequence: enough to see what comes before, and more places are seen by more pieces."""
ROWS = 64
"""Predictions that are looked at together, for a vocabulary is wide."""

_GROUPS = {
    "qkv_OD": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"), "output_DQ": ("self_attn.o_proj",),
    "gate_up_FD": ("mlp.gate_proj", "mlp.up_proj"), "down_DF": ("mlp.down_proj",),
}  # fmt: skip
"""Field of a `Layer` -> its members."""


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """Of one group of matrices."""

    modules: tuple[str, ...]
    """As in `model.layers.0.mlp.up_proj`."""
    num_weights: int
    divergence: float
    """KL, bits a token, from the original to the model in which these matrices alone are in four bits."""


def measure(
    folder: Path, sequences: Iterable[Sequence[int]], *, max_tokens: int = DEFAULT_TOKENS, format: Format = NVFP4,
    progress: ProgressSink | None = None,
) -> list[Sensitivity]:
    """Every group that the format can hold. `sequences`: token ids of text like that which the model will see.

    Raises: InputError where there are no tokens or the folder cannot be used."""
    pieces = _pieces(sequences, max_tokens)
    if not pieces:
        raise InputError("there is no text to measure sensitivity with", hint="give some hundred tokens of the model's work")
    model = NumpyModel(load_weights(folder), EngineConfig(prefix_cache_mib=0))
    layers, lengths = model.weights.layers, [len(piece) for piece in pieces]
    if progress is not None:
        progress.stage("find what four bits hurt", total=len(layers), unit="layers")
    with np.errstate(over="ignore"):
        x_ND = model.embed([token_id for piece in pieces for token_id in piece])
        entering: list[np.ndarray] = [x_ND.copy()]
        entering += [x_ND.copy() for _ in model.go_on(x_ND, lengths)]
        expected_NV = model.predict(x_ND)
        found: list[Sensitivity] = []
        for index, layer in enumerate(list(layers)):
            for field, members in _GROUPS.items():
                weight_OD = getattr(layer, field)
                if weight_OD.shape[1] % format.block:
                    continue
                layers[index] = _rounded(layer, field, format)
                x_ND = entering[index].copy()
                for _ in model.go_on(x_ND, lengths, first=index):
                    pass
                names = tuple(f"model.layers.{index}.{member}" for member in members)
                found.append(Sensitivity(names, weight_OD.size, _divergence(model, expected_NV, x_ND)))
            layers[index] = layer
            if progress is not None:
                progress.advance()
    return found


def most_sensitive(found: Iterable[Sensitivity], share: float) -> frozenset[str]:
    """The modules that gain most per weight by staying as they are, `share` of all weights at the most."""
    groups = list(found)
    left = share * sum(group.num_weights for group in groups)
    chosen: set[str] = set()
    for group in sorted(groups, key=lambda group: group.divergence / group.num_weights, reverse=True):
        if group.num_weights <= left:
            left -= group.num_weights
            chosen.update(group.modules)
    return frozenset(chosen)


def _pieces(sequences: Iterable[Sequence[int]], left: int) -> list[list[int]]:
    pieces: list[list[int]] = []
    for token_ids in sequences:
        # The end of an example is what the model is asked for.
        piece = list(token_ids[-min(PIECE_TOKENS, left) :]) if left else []
        if piece:
            pieces.append(piece)
            left -= len(piece)
    return pieces


def _rounded(layer: Layer, field: str, format: Format) -> Layer:
    weight_OD = getattr(layer, field)
    rounded_OD = format.decode(format.encode(weight_OD, search=False))
    return dataclasses.replace(layer, **{field: rounded_OD})


def _divergence(model: NumpyModel, expected_NV: np.ndarray, x_ND: np.ndarray) -> float:
    """KL, bits a row, to what the model says of the last layer's outputs."""
    total = 0.0
    for start in range(0, len(x_ND), ROWS):
        expected_RV, found_RV = expected_NV[start : start + ROWS], model.predict(x_ND[start : start + ROWS])
        total += float((np.exp(expected_RV) * (expected_RV - found_RV)).sum(dtype=np.float64))
    return total / len(x_ND) / np.log(2)
