"""A LoRA beside the weights computes what merged weights compute, comes and goes while requests wait, and is refused where it
does not fit."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from apprentice.core.errors import InputError
from apprentice.core.protocols import Request
from apprentice.engine.engine import Engine
from apprentice.engine.model import EngineConfig
from apprentice.model import adapter_files, presets, tensor_files
from apprentice.model.adapter_files import LowRank
from apprentice.model.config import ModelConfig, parameter_shapes
from apprentice.quantize.convert import convert
from apprentice.text.decoding import Feed

MakeFolder = Callable[..., Path]

DEBUG = presets.debug()
SHAPES = {
    "debug": DEBUG,
    "biases and an odd width": replace(DEBUG, qkv_bias=True, output_bias=True, mlp_bias=True, intermediate_size=200),
    "one key head": replace(DEBUG, architecture="qwen3", qk_norm=True, head_size=32, num_kv_heads=1),
}
IDS = np.random.default_rng(0).integers(0, DEBUG.vocab_size, 90).tolist()


def modules_of(config: ModelConfig, leaves: Sequence[str]) -> list[str]:
    names = [name.removesuffix(".weight") for name in parameter_shapes(config)]
    return [name for name in names if name.rsplit(".", 1)[-1] in leaves]


def write_adapter(
    folder: Path, config: ModelConfig, leaves: Sequence[str] = ("q_proj", "v_proj", "o_proj", "up_proj", "gate_proj", "down_proj"), *,
    rank: int = 5, seed: int = 0, **settings: Any,
) -> Path:  # fmt: skip
    """As PEFT writes it."""
    random, shapes = np.random.default_rng(seed), parameter_shapes(config)
    tensors: dict[str, np.ndarray] = {}
    for module in modules_of(config, leaves):
        outputs, inputs = shapes[module + ".weight"]
        tensors[f"base_model.model.{module}.lora_A.weight"] = random.standard_normal((rank, inputs)).astype(np.float32) / 8
        tensors[f"base_model.model.{module}.lora_B.weight"] = random.standard_normal((outputs, rank)).astype(np.float32) / 8
    folder.mkdir(parents=True)
    infos = {name: ("F32", array.shape) for name, array in tensors.items()}
    tensor_files.write(folder / adapter_files.WEIGHTS_FILE, infos, tensors.values())
    plain = {"peft_type": "LORA", "r": rank, "lora_alpha": 2.0 * rank, "bias": "none", "target_modules": list(leaves)}
    (folder / adapter_files.CONFIG_FILE).write_text(json.dumps({**plain, **settings}))
    return folder


def merged(folder: Path, config: ModelConfig, corrections: dict[str, LowRank]) -> None:
    """Adds the corrections to the weights of a float32 folder."""
    found = tensor_files.open_folder(folder)
    infos = {name: ("F32", file.tensors[name].shape) for name, file in found.items()}
    arrays = {name: np.array(file.array(name)) for name, file in found.items()}
    for module, part in corrections.items():
        arrays[module + ".weight"] += part.product()
    tensor_files.write(folder / "model.safetensors", infos, arrays.values())


def log_probs(engine: Engine, ids: Sequence[int] = IDS) -> np.ndarray:
    return engine.model.forward([Feed(ids, len(ids))])[0].log_probs_TV


def steps(engine: Engine, ids: Sequence[int] = IDS) -> np.ndarray:
    cache = engine.model.new_cache(len(ids))
    engine.model.forward([Feed(ids[:40], 1, cache)])
    return np.concatenate([engine.model.forward([Feed([token], 1, cache)])[0].log_probs_TV for token in ids[40:60]])


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
@pytest.mark.parametrize("leaves", [("q_proj", "v_proj"), ("k_proj", "o_proj", "up_proj"), ("gate_proj", "down_proj")])
def test_beside_the_weights_is_as_if_merged(
    leaves: tuple[str, ...], shape: ModelConfig, backend: Any, make_folder: MakeFolder, tmp_path: Path
) -> None:
    config = EngineConfig(threads=2, backend=backend)
    folder, adapter = make_folder(shape), write_adapter(tmp_path / "adapter", shape, leaves)
    engine = Engine.load(folder, config)
    before, before_steps = log_probs(engine), steps(engine)
    engine.adapt(adapter)
    found, found_steps = log_probs(engine), steps(engine)
    engine.adapt(None)
    np.testing.assert_array_equal(log_probs(engine), before)
    np.testing.assert_array_equal(steps(engine), before_steps)
    merged(folder, shape, adapter_files.read(adapter, shape))
    expected = Engine.load(folder, config)
    assert np.abs(found - before).max() > 0.05
    np.testing.assert_allclose(found, log_probs(expected), atol=2e-3)
    np.testing.assert_allclose(found_steps, steps(expected), atol=2e-3)


def test_four_bits_with_an_adapter_are_as_far_from_numpy_as_without(make_folder: MakeFolder, tmp_path: Path) -> None:
    convert(make_folder(), tmp_path / "quantized")
    adapter = write_adapter(tmp_path / "adapter", DEBUG)
    ours, reference = (
        Engine.load(tmp_path / "quantized", EngineConfig(threads=2, backend=name)) for name in ("auto", "numpy")
    )  # fmt: skip
    for engine in (ours, reference):
        engine.adapt(adapter)
    expected = log_probs(reference)
    assert np.sqrt(np.mean((log_probs(ours) - expected) ** 2)) < 0.05 * expected.std()


def test_rows_do_not_depend_on_each_other_bit_for_bit(make_folder: MakeFolder, tmp_path: Path) -> None:
    engine = Engine.load(make_folder(), EngineConfig(threads=2))
    engine.adapt(write_adapter(tmp_path / "adapter", DEBUG, rank=33))
    caches = [engine.model.new_cache(20) for _ in range(3)]
    for cache, start in zip(caches, (0, 20, 40), strict=True):
        engine.model.forward([Feed(IDS[start : start + 10], 1, cache)])
    together = engine.model.forward([Feed([7, 8, 9], 3, cache) for cache in caches])
    alone = engine.model.new_cache(20)
    engine.model.forward([Feed(IDS[20:30], 1, alone)])
    rows = [engine.model.forward([Feed([token], 1, alone)])[0].log_probs_TV[0] for token in (7, 8, 9)]
    np.testing.assert_array_equal(together[1].log_probs_TV, np.array(rows))


def test_beginnings_of_earlier_prompts_are_forgotten_with_the_weights_that_read_them(
    backend: Any, make_folder: MakeFolder, tmp_path: Path
) -> None:
    engine = Engine.load(make_folder(), EngineConfig(threads=1, backend=backend))
    prompt = IDS * 4
    first = engine.generate([Request(prompt_ids=prompt, max_tokens=3, top_log_probs=5)])[0]
    engine.adapt(write_adapter(tmp_path / "adapter", DEBUG))
    adapted = engine.generate([Request(prompt_ids=prompt, max_tokens=3)])[0]
    assert adapted.log_probs[0] == pytest.approx(float(log_probs(engine, prompt)[-1].max()), abs=2e-3)
    engine.adapt(None)
    assert engine.generate([Request(prompt_ids=prompt, max_tokens=3, top_log_probs=5)])[0].log_probs == first.log_probs


def test_a_change_waits_for_requests_in_work(backend: Any, make_folder: MakeFolder, tmp_path: Path) -> None:
    engine = Engine.load(make_folder(), EngineConfig(threads=1, backend=backend))
    adapter = write_adapter(tmp_path / "adapter", DEBUG)
    request = Request(prompt_ids=IDS, max_tokens=200)
    (expected,) = engine.generate([request])
    begun, threads = threading.Event(), []
    order: list[str] = []

    def change() -> None:
        engine.adapt(adapter)
        order.append("adapted")

    def on_token(index: int, token_id: int, text: str) -> bool:
        if not begun.is_set():
            begun.set()
            threads.append(threading.Thread(target=change))
            threads[0].start()
        return True

    (found,) = engine.generate([request], on_token=on_token)
    threads[0].join(30)
    assert order == ["adapted"]
    assert found.log_probs == expected.log_probs
    assert engine.generate([request])[0].log_probs != expected.log_probs


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"peft_type": "IA3"}, "adapter type 'IA3'"), ({"use_dora": True}, "`use_dora`"), ({"bias": "all"}, "`bias`"),
        ({"r": 0}, "`r` is no whole number"), ({"r": 10**9}, "`r` is no whole number"), ({"r": True}, "`r`"), ({"r": 4}, "lora_A"),
        ({"lora_alpha": "x"}, "lora_alpha"), ({"lora_alpha": float("inf")}, "lora_alpha"), ({"init_lora_weights": "pissa"}, "init_lora"),
        ({"rank_pattern": {"x": 3}}, "rank_pattern"),
    ],
)  # fmt: skip
def test_settings_that_change_more_are_refused_and_nothing_changes(
    settings: dict[str, Any], message: str, make_folder: MakeFolder, tmp_path: Path
) -> None:
    engine = Engine.load(make_folder())
    before = log_probs(engine)
    with pytest.raises(InputError, match=message):
        engine.adapt(write_adapter(tmp_path / "adapter", DEBUG, **settings))
    np.testing.assert_array_equal(log_probs(engine), before)


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    other = write_adapter(tmp_path / "wide", replace(DEBUG, intermediate_size=256))
    with pytest.raises(InputError, match=r"adapter_model\.safetensors: tensor .* of shape"):
        adapter_files.read(other, DEBUG)
    deeper = write_adapter(tmp_path / "deep", replace(DEBUG, num_layers=3))
    with pytest.raises(InputError, match="has no place in this model"):
        adapter_files.read(deeper, DEBUG)
    broken = write_adapter(tmp_path / "broken", DEBUG)
    data = bytearray((broken / adapter_files.WEIGHTS_FILE).read_bytes())
    data[-4:] = np.float32(np.nan).tobytes()
    (broken / adapter_files.WEIGHTS_FILE).write_bytes(data)
    with pytest.raises(InputError, match="not finite"):
        adapter_files.read(broken, DEBUG)
    (broken / adapter_files.WEIGHTS_FILE).rename(broken / "adapter_model.bin")
    with pytest.raises(InputError, match="pickled"):
        adapter_files.read(broken, DEBUG)


def test_rank_stabilized_adapters_are_scaled_by_the_root(tmp_path: Path) -> None:
    plain = adapter_files.read(write_adapter(tmp_path / "plain", DEBUG, rank=4), DEBUG)
    stable = adapter_files.read(write_adapter(tmp_path / "stable", DEBUG, rank=4, use_rslora=True), DEBUG)
    for module, part in plain.items():
        np.testing.assert_allclose(stable[module].product(), 2 * part.product(), rtol=1e-5)


def test_what_our_training_saves_is_read(make_folder: MakeFolder, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from apprentice.model import adapter, weights

    model = weights.load(make_folder())
    config = adapter.LoraConfig(rank=3, alpha=6.0)
    for parameter in adapter.attach(model, config):
        with torch.no_grad():
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) / 8)
    adapter.save(model, config, tmp_path / "adapter")
    engine = Engine.load(tmp_path / "model")
    engine.adapt(tmp_path / "adapter")
    with torch.no_grad():
        # Keys and values are halves in the engine.
        expected = model(torch.tensor([IDS])).log_softmax(-1)[0].numpy()
    np.testing.assert_allclose(log_probs(engine), expected, atol=1e-2)
