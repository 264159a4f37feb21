"""What the native decoder is made of, and what it refuses: errors are answers, never crashes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ctypes import byref, c_void_p
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from apprentice.engine import packing
from apprentice.engine.loader import Checkpoint
from apprentice.engine.native import SIGNATURES
from apprentice.kernels import formats
from apprentice.kernels.native import Library
from apprentice.quantize.convert import convert

MakeFolder = Callable[..., Path]

OK, WRONG, FULL, TOKEN = 0, -1, -2, -3


@pytest.fixture
def packed(make_folder: MakeFolder, tmp_path: Path, library: Library) -> packing.PackedModel:
    convert(make_folder(), tmp_path / "quantized")
    return packing.pack(library, Checkpoint(tmp_path / "quantized"))


@pytest.fixture
def functions(library: Library) -> Any:
    return library.bind(SIGNATURES)


class Decoder:
    """A decoder called as a careless program would."""

    def __init__(self, functions: Any, library: Library, packed: packing.PackedModel, pages: int = 4) -> None:
        self._functions = functions
        handle = functions.apprentice_decoder_new(byref(packed.model), library.variant.encode(), 1, pages, 0)
        assert handle
        self.handle = c_void_p(handle)

    def forward(
        self, sequences: Sequence[int], counts: Sequence[int], outputs: Sequence[int], tokens: Sequence[int] = (1,) * 400
    ) -> int:
        arrays = [np.array(a, np.int64) for a in (sequences, counts, outputs)]
        token_ids, room = np.array(tokens, np.int32), np.empty((300, 273), np.float32)
        return self._functions.apprentice_decoder_forward(
            self.handle, len(sequences), *(a.ctypes.data for a in arrays), token_ids.ctypes.data, False, room.ctypes.data
        )


def test_feeds_that_make_no_sense_are_refused_and_change_nothing(
    functions: Any, library: Library, packed: packing.PackedModel
) -> None:
    decoder = Decoder(functions, library, packed)
    first, second = (functions.apprentice_decoder_open(decoder.handle) for _ in range(2))
    for sequences, counts, outputs in (
        ([5], [1], [1]), ([-2], [1], [1]), ([2**62], [1], [1]), ([first], [0], [0]), ([first], [-1], [0]),
        ([first], [1], [2]), ([first], [1], [-1]), ([first, first], [1, 1], [1, 1]), ([first], [4097], [1]),
    ):  # fmt: skip
        assert decoder.forward(sequences, counts, outputs) == WRONG
    assert decoder.forward([first, second], [3, 3], [1, 1], [1, 2, 3, 4, 5, 273]) == TOKEN
    assert decoder.forward([first, second], [3, 3], [1, 1], [1, 2, 3, 4, 5, -1]) == TOKEN
    assert decoder.forward([first, second], [200, 100], [1, 1]) == FULL
    assert functions.apprentice_decoder_available_pages(decoder.handle) == 4
    assert decoder.forward([], [], []) == OK
    assert decoder.forward([first, second, -1], [100, 64, 30], [0, 1, 30]) == OK
    assert functions.apprentice_decoder_available_pages(decoder.handle) == 1
    functions.apprentice_decoder_free(decoder.handle)


def test_sequences_that_are_not_there_are_refused(functions: Any, library: Library, packed: packing.PackedModel) -> None:
    decoder = Decoder(functions, library, packed)
    sequence = functions.apprentice_decoder_open(decoder.handle)
    assert decoder.forward([sequence], [70], [1]) == OK
    for length in (-1, 71):
        assert functions.apprentice_decoder_truncate(decoder.handle, sequence, length) == WRONG
    assert functions.apprentice_decoder_truncate(decoder.handle, sequence, 65) == OK
    assert functions.apprentice_decoder_close(decoder.handle, sequence) == OK
    for missing in (sequence, -1, 1000):
        assert functions.apprentice_decoder_close(decoder.handle, missing) == WRONG
        assert functions.apprentice_decoder_truncate(decoder.handle, missing, 0) == WRONG
    functions.apprentice_decoder_free(decoder.handle)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("hidden", 63), ("hidden", 0), ("hidden", -64), ("hidden", 2**40), ("heads", 3), ("heads", 5), ("kv_heads", 0),
        ("kv_heads", 3), ("head_size", 15), ("head_size", 2048), ("inner", 191), ("inner", 209), ("vocab", 272), ("max_positions", 0),
        ("num_layers", 0), ("num_layers", 2**30), ("frequencies", None), ("norm", None),
    ],
)  # fmt: skip
def test_models_whose_sizes_contradict_each_other_are_refused(
    name: str, value: int | None, functions: Any, library: Library, packed: packing.PackedModel
) -> None:
    setattr(packed.model, name, value)
    assert functions.apprentice_decoder_page_bytes(byref(packed.model)) < 0
    assert not functions.apprentice_decoder_new(byref(packed.model), library.variant.encode(), 1, 4, 0)


def test_other_things_that_make_no_decoder_are_refused(
    functions: Any, library: Library, packed: packing.PackedModel
) -> None:
    right = byref(packed.model), library.variant.encode(), 1, 4, 0
    for place, wrong in ((0, None), (1, b"abacus"), (1, None), (3, 0), (4, -1)):
        arguments: list[Any] = list(right)
        arguments[place] = wrong
        assert not functions.apprentice_decoder_new(*arguments)
    packed.model.head.data += 4
    assert not functions.apprentice_decoder_new(*right)


def test_matrices_are_not_filled_beyond_their_end(library: Library) -> None:
    functions = library.bind(packing.SIGNATURES)
    weights, room = np.ones((40, 64), np.float32), np.zeros(1 << 16, np.uint8)
    for kind in (packing.INT8, packing.FLOAT):
        fill = functions.apprentice_decoder_matrix_fill
        at, to = weights.ctypes.data, room.ctypes.data
        assert fill(kind, 64, 64, at, None, 40, 24, False, to) == OK
        assert fill(kind, 64, 64, at, None, 40, 25, False, to) == WRONG
        assert fill(kind, 64, 64, at, None, 40, -1, False, to) == WRONG
        assert fill(kind, 96, 64, at, None, 40, 16, True, to) == OK
        assert fill(kind, 80, 64, at, None, 40, 16, True, to) == WRONG
    assert functions.apprentice_decoder_matrix_bytes(packing.NVFP4, 16, 24) < 0
    assert functions.apprentice_decoder_matrix_bytes(1, 16, 64) < 0
    assert functions.apprentice_decoder_matrix_bytes(packing.INT8, 2**40, 64) < 0


def test_unpacked_weights_are_those_of_the_file(make_folder: MakeFolder, tmp_path: Path) -> None:
    convert(make_folder(), tmp_path / "quantized")
    checkpoint, name = Checkpoint(tmp_path / "quantized"), "model.layers.0.mlp.up_proj.weight"
    assert checkpoint.is_packed(name)
    np.testing.assert_array_equal(formats.decode(checkpoint.packed(name)), checkpoint.read(name))
    np.testing.assert_array_equal(checkpoint.read(name, rows=slice(32, 70)), checkpoint.read(name)[32:70])
    rows = checkpoint.read("model.embed_tokens.weight", rows=slice(100, 400))
    np.testing.assert_array_equal(rows, checkpoint.read("model.embed_tokens.weight")[100:400])
