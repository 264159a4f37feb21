"""The native decoder against the numpy one, and against itself however the work is cut, bit for bit."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from apprentice.core.errors import HostileInputError, InputError
from apprentice.engine.cache import Cache
from apprentice.engine.loader import Checkpoint, load_weights
from apprentice.engine.model import CHUNK_TOKENS, EngineConfig, NumpyModel
from apprentice.engine.native import NativeModel
from apprentice.kernels.native import Library
from apprentice.model import presets, tensor_files
from apprentice.model.config import ModelConfig, RopeScaling
from apprentice.quantize.convert import QuantizeConfig, convert
from apprentice.text.decoding import Feed

MakeFolder = Callable[..., Path]

DEBUG = presets.debug()
SHAPES = {
    "llama": DEBUG,
    "llama untied with biases": replace(DEBUG, tie_embeddings=False, qkv_bias=True, output_bias=True, mlp_bias=True),
    "llama 3 rope": replace(
        DEBUG, rope_scaling=RopeScaling(rope_type="llama3", factor=8.0, original_max_position_embeddings=64)
    ),
    "qwen2": replace(DEBUG, architecture="qwen2", qkv_bias=True),
    "qwen2 yarn": replace(
        DEBUG, architecture="qwen2", qkv_bias=True,
        rope_scaling=RopeScaling(rope_type="yarn", factor=4.0, original_max_position_embeddings=64),
    ),
    "qwen3 wide heads": replace(DEBUG, architecture="qwen3", qk_norm=True, head_size=32, num_kv_heads=1),
    "odd sizes": replace(DEBUG, hidden_size=80, intermediate_size=208, num_heads=5, num_kv_heads=5, head_size=6),
}  # fmt: skip

KEPT = [
    *(f"model.layers.0.self_attn.{name}_proj" for name in "qkv"), "model.layers.0.mlp.down_proj", "model.layers.1.self_attn.o_proj",
    *(f"model.layers.1.mlp.{name}_proj" for name in ("gate", "up")),
]  # fmt: skip
"""Of each kind one."""


def tokens(count: int, seed: int = 0) -> list[int]:
    return np.random.default_rng(seed).integers(0, DEBUG.vocab_size, count).tolist()


class HalfCache(Cache):
    """Keys and values rounded as the native cache rounds them."""

    def _allocate(self, room: int) -> np.ndarray:
        return np.zeros_like(super()._allocate(room), np.float16)


def numpy_log_probs(folder: Path, token_ids: Sequence[int]) -> np.ndarray:
    """At every position, by the numpy model with keys and values as halves."""
    model = NumpyModel(load_weights(folder), EngineConfig(prefix_cache_mib=0))
    return model.forward([Feed(token_ids, len(token_ids), HalfCache(model.config, len(token_ids)))])[0].log_probs_TV


def fed(model: NativeModel, token_ids: Sequence[int], parts: Sequence[int]) -> np.ndarray:
    """At every position, fed through a cache in parts of the given sizes."""
    cache = model.new_cache(len(token_ids))
    outputs: list[np.ndarray] = []
    at = 0
    for count in parts:
        outputs.append(model.forward([Feed(token_ids[at : at + count], count, cache)])[0].log_probs_TV)
        at += count
    assert at == len(token_ids) == cache.length
    return np.concatenate(outputs)


@pytest.fixture
def quantized(make_folder: MakeFolder, tmp_path: Path) -> Path:
    convert(make_folder(), tmp_path / "quantized")
    return tmp_path / "quantized"


def test_a_cache_in_8_bits_is_half_as_large_and_changes_little(quantized: Path, library: Library) -> None:
    ids = tokens(200)
    halves = NativeModel.load(quantized, library, EngineConfig(threads=2, cache_mib=8, prefix_cache_mib=0))
    eighths = NativeModel.load(quantized, library, EngineConfig(threads=2, cache_mib=8, prefix_cache_mib=0, cache_bits=8))
    # Heads of 16 values: a scale of 4 bytes beside each 16.
    assert eighths.available_pages == 1.6 * halves.available_pages // 1
    expected = halves.forward([Feed(ids, 200)])[0].log_probs_TV
    found = eighths.forward([Feed(ids, 200)])[0].log_probs_TV
    assert 0 < np.sqrt(np.mean((found - expected) ** 2)) < 0.04 * expected.std()
    # However it is cut, bit for bit.
    np.testing.assert_array_equal(fed(eighths, ids, [100, 100]), fed(eighths, ids, [70, 60, 70]))
    whole = eighths.new_cache(200)
    eighths.forward([Feed(ids[:100], 1, whole)])
    steps = [eighths.forward([Feed([token], 1, whole)])[0].log_probs_TV[0] for token in ids[100:110]]
    other = eighths.new_cache(200)
    eighths.forward([Feed(ids[:100], 1, other)])
    np.testing.assert_array_equal(eighths.forward([Feed(ids[100:110], 10, other)])[0].log_probs_TV, np.array(steps))


@pytest.fixture
def folder(request: pytest.FixtureRequest, make_folder: MakeFolder, tmp_path: Path) -> Path:
    """float32, NVFP4 or NVFP4 with some matrices left in 16 bits, by the parameter."""
    plain = make_folder()
    if request.param == "float32":
        return plain
    convert(plain, tmp_path / "quantized", kept=KEPT if request.param == "mixed" else ())
    return tmp_path / "quantized"


both = pytest.mark.parametrize("folder", ["float32", "nvfp4", "mixed"], indirect=True)


@pytest.mark.parametrize("variant", ["portable", "avx2", "avx512", "neon"])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_with_float_matrices_log_probabilities_are_those_of_numpy(
    shape: ModelConfig, variant: str, make_folder: MakeFolder, library: Library
) -> None:
    if variant not in library.usable:
        pytest.skip(f"this machine lacks the variant {variant}")
    folder = make_folder(shape)
    ids = tokens(150)
    model = NativeModel.load(folder, library, EngineConfig(threads=2), variant=variant)
    expected = numpy_log_probs(folder, ids)
    # Where a key or value lies between two halves the two models may round to either.
    for found in (model.forward([Feed(ids, 150)])[0].log_probs_TV, fed(model, ids, [20, 1, 17, 112])):
        np.testing.assert_allclose(found, expected, atol=3e-4)
        assert np.sqrt(np.mean((found - expected) ** 2)) < 3e-5


@pytest.mark.parametrize("kept", [[], KEPT], ids=["all", "some kept"])
@pytest.mark.parametrize("format", ["nvfp4", "mxfp4"])
@pytest.mark.parametrize("shape", list(SHAPES.values())[:6], ids=list(SHAPES)[:6])
def test_with_four_bits_log_probabilities_differ_by_what_8_bit_activations_cost(
    shape: ModelConfig, format: Literal["nvfp4", "mxfp4"], kept: list[str], make_folder: MakeFolder, tmp_path: Path, library: Library
) -> None:
    convert(make_folder(shape), tmp_path / "quantized", QuantizeConfig(format=format), kept=kept)
    ids = tokens(150)
    model = NativeModel.load(tmp_path / "quantized", library, EngineConfig(threads=2))
    expected = numpy_log_probs(tmp_path / "quantized", ids)
    spread = expected.std()
    for found in (model.forward([Feed(ids, 150)])[0].log_probs_TV, fed(model, ids, [17] * 8 + [14])):
        # A product is off by 1 % from the rounding of its inputs, and nine stand in a row, some behind a softmax.
        assert np.sqrt(np.mean((found - expected) ** 2)) < 0.05 * spread
        assert np.abs(found - expected).max() < 0.3 * spread


def test_bfloat16_folders_are_read_as_they_are(make_folder: MakeFolder, library: Library) -> None:
    for shape in (DEBUG, SHAPES["llama untied with biases"]):
        folder = make_folder(shape, dtype="bfloat16")
        ids = tokens(100)
        found = NativeModel.load(folder, library).forward([Feed(ids, 100)])[0].log_probs_TV
        expected = numpy_log_probs(folder, ids)
        # Weights are exact; activations may be rounded to 8 bits of mantissa.
        assert np.sqrt(np.mean((found - expected) ** 2)) < 0.02 * expected.std()


@both
def test_a_step_with_a_draft_equals_steps_of_one_token_bit_for_bit(folder: Path, library: Library) -> None:
    model = NativeModel.load(folder, library)
    ids = tokens(620)
    # Across the borders of a page and of a part of the past, 64 and 512.
    one = fed(model, ids, [30, *[1] * 50, 425, *[1] * 115])
    np.testing.assert_array_equal(one, fed(model, ids, [30, 17, 5, 8, 17, 3, 425, 2, 13, *[17] * 5, 15]))


@both
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_sequence_does_not_depend_on_its_neighbours_or_the_threads_bit_for_bit(
    threads: int, folder: Path, library: Library
) -> None:
    alone_model = NativeModel.load(folder, library, EngineConfig(threads=1))
    batch_model = NativeModel.load(folder, library, EngineConfig(threads=threads))
    sequences = [tokens(20 + 31 * i, seed=i) for i in range(20)]
    caches = [batch_model.new_cache(700) for _ in sequences]
    together = [
        batch_model.forward([Feed(ids[:-8], 1, cache) for ids, cache in zip(sequences, caches, strict=True)]),
        # More rows than go through the layers at a time.
        batch_model.forward([Feed(tokens(17, seed=7), 17, cache) for cache in caches]),
        batch_model.forward([Feed(ids[-8:], 8, cache) for ids, cache in zip(sequences, caches, strict=True)]),
    ]
    for number, ids in enumerate(sequences):
        cache = alone_model.new_cache(700)
        for outputs, part, count in zip(together, (ids[:-8], tokens(17, seed=7), ids[-8:]), (1, 17, 8), strict=True):
            alone = alone_model.forward([Feed(part, count, cache)])[0].log_probs_TV
            np.testing.assert_array_equal(outputs[number].log_probs_TV, alone)


@both
def test_prompts_do_not_depend_on_where_they_are_cut_bit_for_bit(folder: Path, library: Library) -> None:
    model = NativeModel.load(folder, library, EngineConfig(prefix_cache_mib=0))
    whole = fed(model, tokens(400), [400])
    np.testing.assert_array_equal(fed(model, tokens(400), [18, 130, 63, 189]), whole)
    # Scoring goes the way of prompts.
    np.testing.assert_array_equal(model.forward([Feed(tokens(400), 400)])[0].log_probs_TV, whole)


@both
def test_scoring_several_sequences_at_once_equals_each_alone_bit_for_bit(folder: Path, library: Library) -> None:
    model = NativeModel.load(folder, library)
    sequences = [tokens(count, seed=count) for count in (1, 2, 33, 270, 1, 64)]
    together = model.forward([Feed(ids, min(len(ids), 20)) for ids in sequences])
    for ids, output in zip(sequences, together, strict=True):
        alone = model.forward([Feed(ids, len(ids))])[0].log_probs_TV
        np.testing.assert_array_equal(output.log_probs_TV, alone[-20:])


@both
def test_truncated_tokens_are_forgotten_bit_for_bit(folder: Path, library: Library) -> None:
    model = NativeModel.load(folder, library)
    straight, detour = model.new_cache(200), model.new_cache(200)
    for cache in (straight, detour):
        model.forward([Feed(tokens(60), 1, cache)])
    model.forward([Feed(tokens(9, seed=5), 9, detour)])
    model.forward([Feed(tokens(100, seed=6), 1, detour)])
    detour.truncate(60)
    first, second = model.forward([Feed([7, 8, 9], 3, straight)])[0], model.forward([Feed([7, 8, 9], 3, detour)])[0]
    np.testing.assert_array_equal(first.log_probs_TV, second.log_probs_TV)


@both
def test_a_remembered_beginning_gives_the_same_bits(folder: Path, library: Library) -> None:
    fresh = NativeModel.load(folder, library, EngineConfig(prefix_cache_mib=0))
    used = NativeModel.load(folder, library, EngineConfig(prefix_cache_mib=16))
    common = tokens(2 * CHUNK_TOKENS + 70)
    first = used.new_cache(400)
    used.forward([Feed([*common, 1, 2, 3], 1, first)])
    assert (used.kept_pages, fresh.kept_pages) == (5, 0)
    before = used.available_pages
    second = used.new_cache(400)
    again = used.forward([Feed([*common, 4, 5], 1, second)])[0].log_probs_TV
    # Five shared pages and one of its own; the two sequences' pages cannot be given to others.
    assert used.available_pages == before - 1
    expected = fresh.forward([Feed([*common, 4, 5], 1, fresh.new_cache(400))])[0].log_probs_TV
    np.testing.assert_array_equal(again, expected)
    # Going back into a shared page leaves the other's alone.
    second.truncate(300)
    used.forward([Feed([9] * 17, 1, second)])
    rest = [Feed([4, 5], 2, first)]
    known = fresh.new_cache(400)
    fresh.forward([Feed([*common, 1, 2, 3], 1, known)])
    np.testing.assert_array_equal(
        used.forward(rest)[0].log_probs_TV, fresh.forward([Feed([4, 5], 2, known)])[0].log_probs_TV
    )


def test_a_prompt_that_is_remembered_whole_is_still_answered(quantized: Path, library: Library) -> None:
    model = NativeModel.load(quantized, library, EngineConfig(prefix_cache_mib=16))
    first = model.forward([Feed(tokens(2 * CHUNK_TOKENS), 30, model.new_cache(300))])[0]
    second = model.forward([Feed(tokens(2 * CHUNK_TOKENS), 30, model.new_cache(300))])[0]
    np.testing.assert_array_equal(first.log_probs_TV, second.log_probs_TV)


def test_sequences_give_their_pages_back_with_their_cache(quantized: Path, library: Library) -> None:
    model = NativeModel.load(quantized, library, EngineConfig(prefix_cache_mib=0))
    before = model.available_pages
    caches = [model.new_cache(400) for _ in range(3)]
    model.forward([Feed(tokens(200), 1, cache) for cache in caches])
    model.forward([Feed(tokens(300), 1)])
    assert model.available_pages == before - 3 * 4
    caches.clear()
    gc.collect()
    assert model.available_pages == before


def test_a_full_cache_is_reported_and_nothing_is_lost(quantized: Path, library: Library) -> None:
    # A page of this shape takes 16 KiB.
    model = NativeModel.load(quantized, library, EngineConfig(prefix_cache_mib=0, cache_mib=1))
    assert model.available_pages == 64
    first, second = model.new_cache(4000), model.new_cache(4000)
    model.forward([Feed(tokens(60 * 64), 1, first)])
    with pytest.raises(InputError, match="the cache of 4096 tokens is full"):
        model.forward([Feed(tokens(6 * 64), 1, second)])
    assert (first.length, second.length, model.available_pages) == (60 * 64, 0, 4)
    model.forward([Feed(tokens(4 * 64), 1, second)])
    with pytest.raises(InputError, match="is full"):
        model.forward([Feed([1], 1, first), Feed([2], 1, second)])
    assert (first.length, second.length) == (60 * 64, 4 * 64)
    with pytest.raises(InputError, match="is full"):
        model.forward([Feed([1], 1)])
    first.truncate(59 * 64)
    model.forward([Feed([2], 1, second)])


def test_scoring_more_than_fits_together_goes_one_by_one(quantized: Path, library: Library) -> None:
    model = NativeModel.load(quantized, library, EngineConfig(prefix_cache_mib=0, cache_mib=1))
    sequences = [tokens(40 * 64, seed) for seed in range(3)]
    together = model.forward([Feed(ids, 5) for ids in sequences])
    for ids, output in zip(sequences, together, strict=True):
        np.testing.assert_array_equal(output.log_probs_TV, model.forward([Feed(ids, 5)])[0].log_probs_TV)


def test_more_than_a_cache_may_hold_is_refused(quantized: Path, library: Library) -> None:
    model = NativeModel.load(quantized, library)
    cache = model.new_cache(50)
    for count in (51, 60):
        with pytest.raises(ValueError, match="a cache of 50 tokens cannot hold"):
            model.forward([Feed(tokens(count), 1, cache)])
    model.forward([Feed(tokens(40), 1, cache)])
    with pytest.raises(ValueError, match="cannot hold 51"):
        model.forward([Feed(tokens(11), 1, cache)])
    assert cache.length == 40


@pytest.mark.parametrize("token_id", [-1, DEBUG.vocab_size, 2**32 + 5])
def test_token_ids_outside_the_vocabulary_are_refused(token_id: int, quantized: Path, library: Library) -> None:
    model = NativeModel.load(quantized, library)
    cache = model.new_cache(50)
    for feed in (Feed([1, token_id], 1), Feed([1, token_id], 1, cache), Feed([1] * 20 + [token_id], 1, cache)):
        with pytest.raises(InputError, match="token id"):
            model.forward([feed])
    assert cache.length == 0


def test_several_threads_get_the_answers_they_would_get_alone(quantized: Path, library: Library) -> None:
    model = NativeModel.load(quantized, library, EngineConfig(threads=2))
    prompts = [tokens(150 + seed, seed) for seed in range(4)]
    expected = [model.forward([Feed(ids, 3, model.new_cache(400))])[0].log_probs_TV for ids in prompts]
    wrong: list[int] = []

    def ask(number: int) -> None:
        for _ in range(5):
            cache = model.new_cache(400)
            found = model.forward([Feed(prompts[number], 3, cache)])[0].log_probs_TV
            model.forward([Feed([1, 2], 1, cache)])
            if not np.array_equal(found, expected[number]):
                wrong.append(number)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def rewrite(folder: Path, changes: dict[str, np.ndarray]) -> None:
    """Other values for some tensors, of the same shapes and types."""
    path = folder / "model.safetensors"
    found = tensor_files.open_folder(folder)
    infos = {name: (file.tensors[name].dtype, file.tensors[name].shape) for name, file in found.items()}
    arrays = [changes.get(name, file.array(name)).copy() for name, file in found.items()]
    tensor_files.write(path, infos, arrays)


def test_parts_with_their_own_global_scale_and_negative_scales_are_read_as_numpy_reads_them(
    quantized: Path, library: Library
) -> None:
    found = tensor_files.open_folder(quantized)
    changes: dict[str, np.ndarray] = {}
    for module, factor in (("self_attn.k_proj", 1.7), ("mlp.up_proj", 0.6), ("mlp.gate_proj", 1.1)):
        name = f"model.layers.1.{module}.weight_global_scale"
        changes[name] = found[name].array(name) * np.float32(factor)
    signed = "model.layers.0.mlp.down_proj.weight_scale"
    changes[signed] = found[signed].array(signed) | np.where(np.arange(12) % 3 == 1, np.uint8(128), np.uint8(0))
    rewrite(quantized, changes)
    ids = tokens(100)
    result = NativeModel.load(quantized, library).forward([Feed(ids, 100)])[0].log_probs_TV
    expected = numpy_log_probs(quantized, ids)
    assert np.sqrt(np.mean((result - expected) ** 2)) < 0.05 * expected.std()


def test_kept_matrices_in_float16_and_at_the_end_of_bfloat16_are_read_too(make_folder: MakeFolder, tmp_path: Path, library: Library) -> None:
    """As others write folders, and as nobody should."""
    target = tmp_path / "quantized"
    convert(make_folder(), target, kept=KEPT)
    ids, expected = tokens(100), numpy_log_probs(target, tokens(100))
    plain = NativeModel.load(target, library)
    found = tensor_files.open_folder(target)
    infos = {name: (file.tensors[name].dtype, file.tensors[name].shape) for name, file in found.items()}
    arrays = {name: file.array(name).copy() for name, file in found.items()}
    for module in KEPT:
        name = module + ".weight"
        infos[name] = ("F16", infos[name][1])
        arrays[name] = tensor_files.to_float32(arrays[name], "BF16").astype(np.float16)
    tensor_files.write(target / "model.safetensors", infos, arrays.values())
    halves = NativeModel.load(target, library)
    assert halves.num_bytes == plain.num_bytes
    result = halves.forward([Feed(ids, 100)])[0].log_probs_TV
    assert np.sqrt(np.mean((result - expected) ** 2)) < 0.05 * expected.std()

    name = KEPT[-1] + ".weight"
    infos[name], arrays[name] = ("BF16", infos[name][1]), np.full(infos[name][1], 0x7F7F, np.uint16)
    tensor_files.write(target / "model.safetensors", infos, arrays.values())
    NativeModel.load(target, library).forward([Feed(ids, 1)])


def test_damaged_numbers_are_refused_by_tensor(quantized: Path, library: Library) -> None:
    name = "model.layers.1.mlp.up_proj.weight_scale"
    scales = tensor_files.open_folder(quantized)[name].array(name).copy()
    scales[5, 1] = 0x7F
    rewrite(quantized, {name: scales})
    with pytest.raises(HostileInputError, match=r"up_proj\.weight_scale` has scales that are NaN"):
        NativeModel.load(quantized, library)


def test_a_model_that_does_not_fit_is_refused_with_its_need(quantized: Path, library: Library) -> None:
    with pytest.raises(InputError, match=r"needs 0\.3 GiB of memory packed, 0\.1 GiB are free"):
        NativeModel(Checkpoint(quantized), library, memory_bytes=100 * 2**20)


def test_the_packed_model_is_hardly_larger_than_the_file(make_folder: MakeFolder, tmp_path: Path, library: Library) -> None:
    shape = replace(DEBUG, vocab_size=2000, hidden_size=256, intermediate_size=768, num_heads=4, head_size=64)
    convert(make_folder(shape), tmp_path / "quantized")
    model = NativeModel.load(tmp_path / "quantized", library)
    assert model.num_bytes < (tmp_path / "quantized" / "model.safetensors").stat().st_size


def test_large_numbers_do_not_become_infinite_halfway(make_folder: MakeFolder, library: Library) -> None:
    """A value beyond what a half holds is an infinity that shows, not a wrong number."""
    folder = make_folder()
    name = "model.layers.1.self_attn.v_proj.weight"
    rewrite(folder, {name: np.full((32, 64), 1e5, np.float32)})
    found = NativeModel.load(folder, library).forward([Feed(tokens(5), 5)])[0].log_probs_TV
    assert not np.isfinite(found).all()


def test_no_more_is_promised_than_is_in_work_at_a_time(quantized: Path, library: Library) -> None:
    model = NativeModel.load(quantized, library, EngineConfig(prefix_cache_mib=0, cache_mib=1, max_sequences=2))
    with model.admitted([100] * 50) as count:
        assert count == 2
        # Somebody else is let in meanwhile.
        with model.admitted([1000]) as others:
            assert others == 1


def test_a_reply_is_as_long_as_the_cache_can_hold(make_folder: MakeFolder, library: Library) -> None:
    folder = make_folder()
    longest = NativeModel.load(folder, library).max_positions
    model = NativeModel.load(folder, library, EngineConfig(prefix_cache_mib=0, cache_mib=1))
    assert longest == DEBUG.max_positions > model.max_positions
    cache = model.new_cache(model.max_positions)
    model.forward([Feed(tokens(model.max_positions), 1, cache)])
