"""The numpy decoder against the torch one, and against itself however the work is cut."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from apprentice.core.errors import InputError
from apprentice.engine.cache import Cache, PrefixStore
from apprentice.engine.loader import load_weights
from apprentice.engine.model import CHUNK_TOKENS, EngineConfig, NumpyModel
from apprentice.kernels import nvfp4
from apprentice.model import presets
from apprentice.model.config import ModelConfig, RopeScaling
from apprentice.quantize.calibration import fit
from apprentice.quantize.convert import QuantizeConfig, convert
from apprentice.text.decoding import Feed

MakeFolder = Callable[..., Path]

DEBUG = presets.debug()
VARIANTS = {
    "llama": DEBUG,
    "llama untied with biases": replace(DEBUG, tie_embeddings=False, qkv_bias=True, output_bias=True, mlp_bias=True),
    "llama 3 rope": replace(
        DEBUG,
        rope_scaling=RopeScaling(rope_type="llama3", factor=8.0, original_max_position_embeddings=64),
    ),
    "qwen2": replace(DEBUG, architecture="qwen2", qkv_bias=True),
    "qwen2 yarn": replace(
        DEBUG, architecture="qwen2", qkv_bias=True,
        rope_scaling=RopeScaling(rope_type="yarn", factor=4.0, original_max_position_embeddings=64),
    ),
    "qwen3 wide heads": replace(DEBUG, architecture="qwen3", qk_norm=True, head_size=32, num_kv_heads=1),
}  # fmt: skip


def tokens(count: int, seed: int = 0) -> list[int]:
    return np.random.default_rng(seed).integers(0, DEBUG.vocab_size, count).tolist()


def numpy_model(folder: Path, **settings: Any) -> NumpyModel:
    return NumpyModel(load_weights(folder), EngineConfig(**settings))


def all_log_probs(model: NumpyModel, token_ids: Sequence[int]) -> np.ndarray:
    """At every position, in one pass without a cache."""
    return model.forward([Feed(token_ids, len(token_ids))])[0].log_probs_TV


def fed(model: NumpyModel, token_ids: Sequence[int], parts: Sequence[int]) -> np.ndarray:
    """At every position, fed through a cache in parts of the given sizes."""
    cache = model.new_cache(len(token_ids))
    outputs: list[np.ndarray] = []
    at = 0
    for count in parts:
        outputs.append(model.forward([Feed(token_ids[at : at + count], count, cache)])[0].log_probs_TV)
        at += count
    assert at == len(token_ids) == cache.length
    return np.concatenate(outputs)


@pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS.keys())
def test_log_probabilities_equal_the_torch_model(config: ModelConfig, make_folder: MakeFolder) -> None:
    torch = pytest.importorskip("torch")
    from apprentice.model import weights

    folder = make_folder(config)
    token_ids = tokens(150)
    with torch.inference_mode():
        expected = torch.log_softmax(weights.load(folder)(torch.tensor([token_ids])), -1)[0].numpy()
    np.testing.assert_allclose(all_log_probs(numpy_model(folder), token_ids), expected, atol=1e-4)


@pytest.mark.parametrize("parts", [[300], [1] * 300, [40, 1, 1, 5, 17, 18, 90, 128], [127, 1, 1, 171], [128, 172]])
def test_feeding_in_parts_equals_one_pass(parts: list[int], make_folder: MakeFolder) -> None:
    model = numpy_model(make_folder())
    np.testing.assert_allclose(fed(model, tokens(300), parts), all_log_probs(model, tokens(300)), atol=2e-5)


def test_a_step_with_a_draft_equals_steps_of_one_token_bit_for_bit(make_folder: MakeFolder) -> None:
    model = numpy_model(make_folder())
    token_ids = tokens(60)
    np.testing.assert_array_equal(fed(model, token_ids, [30, *[1] * 30]), fed(model, token_ids, [30, 17, 5, 8]))


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_sequence_does_not_depend_on_its_neighbours_or_the_threads_bit_for_bit(
    threads: int, make_folder: MakeFolder
) -> None:
    folder = make_folder()
    alone_model, batch_model = numpy_model(folder, threads=1), numpy_model(folder, threads=threads)
    sequences = [tokens(20 + 31 * i, seed=i) for i in range(6)]
    caches = [batch_model.new_cache(400) for _ in sequences]
    together = [
        batch_model.forward([Feed(ids[:-8], 1, cache) for ids, cache in zip(sequences, caches, strict=True)]),
        batch_model.forward([Feed(ids[-8:], 8, cache) for ids, cache in zip(sequences, caches, strict=True)]),
    ]
    for number, ids in enumerate(sequences):
        cache = alone_model.new_cache(400)
        for outputs, part, count in ((together[0], ids[:-8], 1), (together[1], ids[-8:], 8)):
            alone = alone_model.forward([Feed(part, count, cache)])[0].log_probs_TV
            np.testing.assert_array_equal(outputs[number].log_probs_TV, alone)


def test_truncated_tokens_are_forgotten_bit_for_bit(make_folder: MakeFolder) -> None:
    model = numpy_model(make_folder())
    straight, detour = model.new_cache(64), model.new_cache(64)
    for cache in (straight, detour):
        model.forward([Feed(tokens(30), 1, cache)])
    model.forward([Feed(tokens(9, seed=5), 9, detour)])
    detour.truncate(30)
    first, second = model.forward([Feed([7, 8, 9], 3, straight)])[0], model.forward([Feed([7, 8, 9], 3, detour)])[0]
    np.testing.assert_array_equal(first.log_probs_TV, second.log_probs_TV)


def test_a_remembered_beginning_gives_the_same_bits_and_less_work(make_folder: MakeFolder) -> None:
    folder = make_folder()
    fresh, used = numpy_model(folder, prefix_cache_mib=0), numpy_model(folder, prefix_cache_mib=16)
    common = tokens(2 * CHUNK_TOKENS + 40)
    used.forward([Feed([*common, 1, 2, 3], 1, used.new_cache(400))])
    rows: list[int] = []
    used.observer = lambda names, x_ND: rows.append(len(x_ND)) if names == ("model.layers.0.mlp.down_proj",) else None
    again = used.forward([Feed([*common, 4, 5], 1, used.new_cache(400))])[0].log_probs_TV
    assert sum(rows) == 42
    np.testing.assert_array_equal(
        again, fresh.forward([Feed([*common, 4, 5], 1, fresh.new_cache(400))])[0].log_probs_TV
    )


def test_a_prompt_that_is_remembered_whole_is_still_answered(make_folder: MakeFolder) -> None:
    model = numpy_model(make_folder(), prefix_cache_mib=16)
    first = model.forward([Feed(tokens(2 * CHUNK_TOKENS), 1, model.new_cache(300))])[0]
    second = model.forward([Feed(tokens(2 * CHUNK_TOKENS), 1, model.new_cache(300))])[0]
    np.testing.assert_array_equal(first.log_probs_TV, second.log_probs_TV)


def test_scoring_several_sequences_at_once_equals_each_alone(make_folder: MakeFolder) -> None:
    model = numpy_model(make_folder())
    sequences = [tokens(count, seed=count) for count in (1, 2, 33, 270)]
    together = model.forward([Feed(ids, min(len(ids), 20)) for ids in sequences])
    for ids, output in zip(sequences, together, strict=True):
        np.testing.assert_allclose(output.log_probs_TV, all_log_probs(model, ids)[-20:], atol=2e-5)


def test_log_probabilities_add_up_to_one(make_folder: MakeFolder) -> None:
    log_probs = all_log_probs(numpy_model(make_folder()), tokens(40))
    assert log_probs.dtype == np.float32
    np.testing.assert_allclose(np.exp(log_probs).sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("token_id", [-1, DEBUG.vocab_size])
def test_token_ids_outside_the_vocabulary_are_refused(token_id: int, make_folder: MakeFolder) -> None:
    model = numpy_model(make_folder())
    with pytest.raises(InputError, match="token id"):
        model.forward([Feed([1, token_id], 1)])


def test_settings_out_of_range_are_refused() -> None:
    settings: list[dict[str, Any]] = [
        {"max_sequences": 0}, {"prefix_cache_mib": -1}, {"threads": -1}, {"cache_mib": -1}, {"backend": "abacus"},
    ]  # fmt: skip
    for bad in settings:
        with pytest.raises(ValueError, match=next(iter(bad))):
            EngineConfig(**bad)


def test_activations_in_four_bits_are_those_that_the_text_was_scaled_by(make_folder: MakeFolder, tmp_path: Path) -> None:
    source = make_folder()
    texts = [tokens(200, seed) for seed in range(4)]
    convert(source, tmp_path / "w4a4", QuantizeConfig(activations=True), fitted=fit(source, texts))
    ids = tokens(90, 9)
    own, rounded = (
        numpy_model(tmp_path / "w4a4", backend="numpy", activations=name) for name in ("own", "nvfp4")
    )  # fmt: skip
    read: list[np.ndarray] = []
    rounded.observer = lambda names, x_ND: read.append(x_ND) if names[0].endswith("down_proj") else None
    expected, found = all_log_probs(own, ids), all_log_probs(rounded, ids)
    off = float((np.exp(expected) * (expected - found)).sum(axis=1).mean())
    # Each input is off by a tenth, and the model is random.
    assert 1e-4 < off < 0.5
    scale = load_weights(tmp_path / "w4a4").input_scales["model.layers.0.mlp.down_proj"]
    near = nvfp4.rounded(read[0], scale)
    assert 0.01 < np.linalg.norm(near - read[0]) / np.linalg.norm(read[0]) < 0.2
    np.testing.assert_allclose(fed(rounded, ids, [1] * 20 + [70]), found, atol=2e-4)


def test_activations_in_four_bits_need_their_scales_and_numpy(make_folder: MakeFolder, tmp_path: Path) -> None:
    convert(make_folder(), tmp_path / "quantized")
    with pytest.raises(InputError, match="no scales of activations"):
        numpy_model(tmp_path / "quantized", backend="numpy", activations="nvfp4")
    with pytest.raises(ValueError, match="backend numpy"):
        EngineConfig(activations="nvfp4")


def test_a_chunk_that_two_threads_remember_is_counted_once() -> None:
    cache = Cache(DEBUG, 64)
    store = PrefixStore(1 << 20, 64)

    class Twin(Cache):
        def copy_out(self, start: int, end: int) -> np.ndarray:
            # Between looking and putting in somebody else remembers the same.
            store.keep(range(64), cache)
            return super().copy_out(start, end)

    store.keep(range(64), Twin(DEBUG, 64))
    assert store._bytes == cache.copy_out(0, 64).nbytes


def test_of_a_prompt_that_does_not_fit_the_beginning_is_remembered() -> None:
    cache, tokens_of = Cache(DEBUG, 512), lambda first: [first, *range(300)]
    size = cache.copy_out(0, 64).nbytes
    cache.reserve(301)
    cache.length = 301
    store = PrefixStore(3 * size, 64)
    for _ in range(2):
        store.keep(tokens_of(1), cache)
        assert (store._bytes, store.restore(tokens_of(1), Cache(DEBUG, 512))) == (3 * size, 3 * 64)
    # Another prompt takes the room from its end on.
    store.keep(tokens_of(2)[:64], cache)
    assert [store.restore(tokens_of(first), Cache(DEBUG, 512)) for first in (1, 2)] == [2 * 64, 64]


def test_activations_in_four_bits_of_matrices_that_are_fused_belong_together(make_folder: MakeFolder, tmp_path: Path) -> None:
    source = make_folder()
    fitted = fit(source, [tokens(200, seed) for seed in range(4)])
    convert(source, tmp_path / "w4a4", QuantizeConfig(activations=True), fitted=fitted, kept=["model.layers.0.self_attn.q_proj"])
    with pytest.raises(InputError, match="different input scales"):
        all_log_probs(numpy_model(tmp_path / "w4a4", backend="numpy", activations="nvfp4"), tokens(9))
