"""Powers of two move between inputs and weights: exactly, where inputs are uneven, and so that 8 bits round less."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ctypes import byref, c_void_p
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.engine.test_adapters import IDS, log_probs, write_adapter

from apprentice.engine import balance, packing
from apprentice.engine.engine import Engine
from apprentice.engine.loader import Checkpoint, load_weights
from apprentice.engine.model import EngineConfig, NumpyModel
from apprentice.engine.native import SIGNATURES
from apprentice.kernels import nvfp4, tiles
from apprentice.kernels.native import Library, Pool
from apprentice.model import presets, tensor_files
from apprentice.model.config import ModelConfig
from apprentice.quantize.convert import convert
from apprentice.text.decoding import Feed

MakeFolder = Callable[..., Path]


@pytest.fixture(scope="module")
def pool(library: Library) -> Pool:
    return Pool(library, 2)


DEBUG = presets.debug()
SHAPES = {
    "tied": DEBUG,
    "untied with biases": replace(DEBUG, tie_embeddings=False, qkv_bias=True, output_bias=True, mlp_bias=True),
    "nothing in four bits": replace(DEBUG, hidden_size=72, intermediate_size=200, head_size=12),
    "an inner width of no blocks": replace(DEBUG, intermediate_size=200),
}
KEPT = [f"model.layers.0.self_attn.{name}_proj" for name in "qkv"] + [f"model.layers.1.mlp.{name}_proj" for name in ("gate", "up")]
OUTLIERS, LARGER = (3, 40), np.float32(8)


def with_outliers(folder: Path, config: ModelConfig) -> Path:
    """The same model in float32, but two channels of what its matrices read are 8 times as large, and their weights smaller."""
    found = tensor_files.open_folder(folder)
    infos = {name: ("F32", file.tensors[name].shape) for name, file in found.items()}
    arrays = {name: np.array(file.array(name), np.float32) for name, file in found.items()}
    columns = list(OUTLIERS)
    for index in range(config.num_layers):
        at = f"model.layers.{index}."
        for norm, names in (("input", "self_attn.q self_attn.k self_attn.v"), ("post_attention", "mlp.gate mlp.up")):
            arrays[f"{at}{norm}_layernorm.weight"][columns] *= LARGER
            for name in names.split():
                arrays[f"{at}{name}_proj.weight"][:, columns] /= LARGER
        arrays[at + "mlp.up_proj.weight"][columns] *= LARGER
        if config.mlp_bias:
            arrays[at + "mlp.up_proj.bias"][columns] *= LARGER
        arrays[at + "mlp.down_proj.weight"][:, columns] /= LARGER
    tensor_files.write(folder / "model.safetensors", infos, arrays.values())
    return folder


def test_a_block_gives_half_of_its_size_away() -> None:
    sizes = np.repeat(np.array([1, 1, 4, 1, 0.25, 300, 0, 1, 1], np.float32), 16)
    np.testing.assert_array_equal(balance.block_powers(sizes), [0, 0, 1, 0, -1, 3, -3, 0, 0])
    np.testing.assert_array_equal(balance.channel_powers(np.array([1, 1, 1, 1, 8, 1e-3, 1e9], np.float32)), [0, 0, 0, 0, 1, -4, 6])


@pytest.mark.parametrize("sizes", [np.zeros(64), np.full(64, np.nan), np.full(64, np.inf), np.r_[np.ones(63), np.nan]])
def test_sizes_that_tell_nothing_move_nothing(sizes: np.ndarray) -> None:
    assert not balance.block_powers(sizes.astype(np.float32)).any()
    assert not balance.channel_powers(sizes.astype(np.float32)).any()


def test_every_scale_of_a_tile_moves_by_powers_of_two_exactly(library: Library, pool: Pool) -> None:
    """All 127 codes of E4M3 from 0 on, moved as far as an input and an output together may."""
    codes = np.tile(np.arange(127, dtype=np.uint8).reshape(-1, 1), (1, 6))
    nibbles = np.random.default_rng(0).integers(0, 256, (127, 48), dtype=np.uint8)
    packed = nvfp4.Packed(nibbles, codes, np.float32(1))
    powers = np.array([0, 3, -3, 1, -2, 2], np.int8)
    panels = np.array([3, -3, 0, 1, 3, -3, 2, -1], np.int8)
    by = np.exp2(powers.repeat(16)) * np.exp2(panels.repeat(16).astype(float))[:127, None]
    for variant in library.usable:
        matrix = tiles.pack(library, packed)
        balance.move(matrix.data.reshape(8, 2, tiles.TILE_BYTES), powers, panels)
        for column in range(0, 96, 5):
            x = np.zeros((1, 96), np.float32)
            x[0, column] = 127  # a power of two times 127 / 127: nothing is rounded
            found = tiles.product(library, pool, matrix, x, variant=variant)[0]
            np.testing.assert_array_equal(found, nvfp4.decode(packed)[:, column] * by[:, column] * np.float32(127))


@pytest.mark.parametrize("as_prompt", [False, True])
def test_inputs_with_outliers_are_rounded_less(library: Library, pool: Pool, as_prompt: bool) -> None:
    random = np.random.default_rng(0)
    weight, x = random.standard_normal((64, 256)), random.standard_normal((30, 256)).astype(np.float32)
    x[:, [5, 100, 130, 250]] *= 40
    packed = nvfp4.encode(weight.astype(np.float32))
    exact = x @ nvfp4.decode(packed).T.astype(np.float64)
    powers = balance.block_powers(np.abs(x).mean(axis=0))
    for variant in library.usable:
        matrix = tiles.pack(library, packed)
        before = tiles.product(library, pool, matrix, x, variant=variant, as_prompt=as_prompt)
        balance.move(matrix.data.reshape(4, 4, tiles.TILE_BYTES), powers)
        divided = x / np.exp2(powers, dtype=np.float32).repeat(16)
        after = tiles.product(library, pool, matrix, divided, variant=variant, as_prompt=as_prompt)
        # Three blocks of four have no outlier. They are about twice as fine, so their squares a quarter.
        assert np.mean((after - exact) ** 2) < 0.7 * np.mean((before - exact) ** 2)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_the_decoder_sees_how_large_inputs_are(shape: ModelConfig, make_folder: MakeFolder, library: Library) -> None:
    """In float32, as the numpy model sees them."""
    folder, functions = with_outliers(make_folder(shape), shape), library.bind(SIGNATURES)
    packed = packing.pack(library, Checkpoint(folder))
    handle = functions.apprentice_decoder_new(byref(packed.model), library.variant.encode(), 2, 4, 0)
    decoder, tokens = c_void_p(handle), np.array(IDS[:50], np.int32)
    found = np.zeros(shape.num_layers * (2 * shape.hidden_size + shape.intermediate_size) + shape.hidden_size, np.float32)
    assert functions.apprentice_decoder_observe(decoder, tokens.ctypes.data, 50, found.ctypes.data) == 0
    expected: list[np.ndarray] = []
    model = NumpyModel(load_weights(folder), EngineConfig(prefix_cache_mib=0))
    seen = ("self_attn.q_proj", "mlp.gate_proj", "mlp.down_proj")
    model.observer = lambda names, x: expected.append(np.abs(x).sum(axis=0)) if names[0].endswith(seen) else None
    model.forward([Feed(IDS[:50], 1)])
    # Keys and values are halves.
    np.testing.assert_allclose(found[: -shape.hidden_size], np.concatenate(expected), rtol=2e-3, atol=1e-3)
    assert (found[-shape.hidden_size :] > 0).all()
    assert functions.apprentice_decoder_available_pages(decoder) == 4
    for count in (0, -1, 65):
        assert functions.apprentice_decoder_observe(decoder, tokens.ctypes.data, count, found.ctypes.data) < 0
    functions.apprentice_decoder_free(decoder)


@pytest.mark.parametrize("kept", [(), KEPT], ids=["all", "some kept"])
@pytest.mark.parametrize("has_adapter", [False, True])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_a_model_with_outliers_is_as_near_to_numpy_as_one_without(
    shape: ModelConfig, has_adapter: bool, kept: Sequence[str], make_folder: MakeFolder, tmp_path: Path
) -> None:
    """What is divided by a power of two anywhere is multiplied by it elsewhere, or this is far off."""
    errors: list[Any] = []
    for name in ("even", "outliers"):
        plain = make_folder(shape, name=name)
        convert(with_outliers(plain, shape) if name == "outliers" else plain, tmp_path / f"{name}-quantized", kept=kept)
        ours, reference = (
            Engine.load(tmp_path / f"{name}-quantized", EngineConfig(threads=2, backend=backend)) for backend in ("auto", "numpy")
        )  # fmt: skip
        if has_adapter:
            adapter = write_adapter(tmp_path / f"{name}-adapter", shape)
            for engine in (ours, reference):
                engine.adapt(adapter)
        expected = log_probs(reference)
        errors.append(np.sqrt(np.mean((log_probs(ours) - expected) ** 2)) / expected.std())
    # With outliers left in the inputs of those that are kept it is 0.071.
    assert max(errors) < 0.07
