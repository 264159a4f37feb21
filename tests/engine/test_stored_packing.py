"""A start that finds what an earlier one packed computes the same, bit for bit, and never trusts what does not fit."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from apprentice.engine import stored_packing
from apprentice.engine.loader import Checkpoint
from apprentice.engine.model import EngineConfig
from apprentice.engine.native import NativeModel
from apprentice.engine.stored_packing import PackingStore
from apprentice.kernels.native import Library
from apprentice.model import presets
from apprentice.model.adapter_files import LowRank
from apprentice.model.config import ModelConfig
from apprentice.quantize.convert import convert
from apprentice.text.decoding import Feed

MakeFolder = Callable[..., Path]

DEBUG = presets.debug()
SHAPES = {
    "debug": DEBUG,
    "biases and an odd width": replace(DEBUG, qkv_bias=True, output_bias=True, mlp_bias=True, intermediate_size=200),
    "a head of its own": replace(DEBUG, tie_embeddings=False),
    "norms of queries and keys": replace(DEBUG, architecture="qwen3", qk_norm=True, head_size=32, num_kv_heads=1),
}
IDS = list(range(3, 120))


@pytest.fixture
def store(tmp_path: Path) -> PackingStore:
    return PackingStore(tmp_path / "packed", least_bytes=0)


def said(model: NativeModel) -> np.ndarray:
    return model.forward([Feed(IDS, len(IDS), model.new_cache(len(IDS) + 1))])[0].log_probs_TV


def stored(store: PackingStore) -> list[Path]:
    return sorted(store.folder.glob("*"))


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_later_start_computes_the_same_bit_for_bit(
    shape: ModelConfig, make_folder: MakeFolder, tmp_path: Path, library: Library, store: PackingStore
) -> None:
    convert(make_folder(shape), tmp_path / "quantized")
    checkpoint = Checkpoint(tmp_path / "quantized")
    new = NativeModel(checkpoint, library, store=store)
    (path,) = stored(store)
    assert store.folder.stat().st_mode & 0o077 == 0
    # What is read is marked: were it packed anew, nobody would see that it was not read.
    os.utime(path, (0, 0))
    known = NativeModel(checkpoint, library, store=store)
    assert path.stat().st_mtime > 0
    assert np.array_equal(said(known), said(new))
    # A correction beside the weights has to know what balancing moved.
    random, outputs = np.random.default_rng(0), shape.num_heads * shape.head_size
    a_RI = random.standard_normal((4, shape.hidden_size)).astype(np.float32)
    b_OR = random.standard_normal((outputs, 4)).astype(np.float32) / 8
    for model in (new, known):
        model.adapt({"model.layers.0.self_attn.q_proj": LowRank(a_RI, b_OR, 1.0)})
    assert np.array_equal(said(known), said(new))


def test_other_weights_and_other_operators_are_packed_anew(
    make_folder: MakeFolder, tmp_path: Path, library: Library, store: PackingStore
) -> None:
    folder = tmp_path / "quantized"
    convert(make_folder(seed=0), folder)
    NativeModel(Checkpoint(folder), library, store=store)
    convert(make_folder(name="other", seed=1), tmp_path / "other quantized")
    weights = (tmp_path / "other quantized" / "model.safetensors").read_bytes()
    assert len(weights) == (folder / "model.safetensors").stat().st_size
    (folder / "model.safetensors").write_bytes(weights)
    changed = NativeModel(Checkpoint(folder), library, store=store)
    assert np.array_equal(said(changed), said(NativeModel(Checkpoint(tmp_path / "other quantized"), library)))
    # That of the weights that are gone is gone.
    assert len(stored(store)) == 1
    NativeModel(Checkpoint(folder), library, variant="portable", store=store)
    NativeModel(Checkpoint(folder), library, EngineConfig(cache_bits=8), store=store)
    assert len(stored(store)) == 3
    shutil.rmtree(folder)
    NativeModel(Checkpoint(tmp_path / "other quantized"), library, store=store)
    assert len(stored(store)) == 1


def test_other_code_packs_anew(make_folder: MakeFolder, tmp_path: Path, library: Library) -> None:
    convert(make_folder(), tmp_path / "quantized")
    checkpoint, copy = Checkpoint(tmp_path / "quantized"), tmp_path / "library"
    shutil.copyfile(library.path, copy)
    same = stored_packing.key(checkpoint, replace(library, path=copy), "portable", 16)
    assert same == stored_packing.key(checkpoint, library, "portable", 16)
    newer = tmp_path / "newer"
    newer.write_bytes(copy.read_bytes() + b"0")
    assert stored_packing.key(checkpoint, replace(library, path=newer), "portable", 16) != same


def test_weights_that_are_replaced_while_they_are_packed_are_not_kept(
    make_folder: MakeFolder, tmp_path: Path, library: Library, store: PackingStore
) -> None:
    folder = tmp_path / "quantized"
    convert(make_folder(seed=0), folder)
    opened = Checkpoint(folder)
    convert(make_folder(name="other", seed=1), tmp_path / "other quantized")
    for name in ("config.json", "model.safetensors"):
        (tmp_path / "other quantized" / name).replace(folder / name)
    NativeModel(opened, library, store=store)
    assert stored(store) == []


@pytest.mark.parametrize("damage", ["cut", "empty", "of another model"])
def test_a_file_that_does_not_fit_is_passed_over_and_made_anew(
    damage: str, make_folder: MakeFolder, tmp_path: Path, library: Library, store: PackingStore
) -> None:
    convert(make_folder(), tmp_path / "quantized")
    checkpoint = Checkpoint(tmp_path / "quantized")
    expected = said(NativeModel(checkpoint, library, store=store))
    (path,) = stored(store)
    whole = path.read_bytes()
    if damage == "of another model":
        convert(make_folder(replace(DEBUG, intermediate_size=64), name="small"), tmp_path / "small quantized")
        NativeModel(Checkpoint(tmp_path / "small quantized"), library, store=store)
        (other,) = set(stored(store)) - {path}
        path.write_bytes(other.read_bytes())
    else:
        path.write_bytes(whole[: len(whole) // 2] if damage == "cut" else b"")
    assert np.array_equal(said(NativeModel(checkpoint, library, store=store)), expected)
    assert path.read_bytes() == whole


def test_small_ones_are_not_kept_and_those_used_longest_ago_go(
    make_folder: MakeFolder, tmp_path: Path, library: Library, store: PackingStore
) -> None:
    folders = [tmp_path / f"quantized {seed}" for seed in range(3)]
    for seed, folder in enumerate(folders):
        convert(make_folder(name=f"plain {seed}", seed=seed), folder)
    NativeModel(Checkpoint(folders[0]), library, store=replace(store, least_bytes=1 << 30))
    NativeModel(Checkpoint(make_folder(name="plain")), library, store=store)
    assert stored(store) == []
    for age, folder in enumerate(folders[:2]):
        NativeModel(Checkpoint(folder), library, store=store)
        (path,) = [path for path in stored(store) if path.stat().st_mtime > 100]
        os.utime(path, (age, age))
    two = sum(path.stat().st_size for path in stored(store))
    # The oldest is used again, so the other one goes.
    NativeModel(Checkpoint(folders[0]), library, store=store)
    (kept,) = [path for path in stored(store) if path.stat().st_mtime > 100]
    NativeModel(Checkpoint(folders[2]), library, store=replace(store, most_bytes=two))
    assert len(stored(store)) == 2
    assert kept in stored(store)


def test_a_folder_that_cannot_be_written_is_no_error(make_folder: MakeFolder, tmp_path: Path, library: Library) -> None:
    convert(make_folder(), tmp_path / "quantized")
    (tmp_path / "file").write_text("")
    store = PackingStore(tmp_path / "file" / "packed", least_bytes=0)
    assert np.isfinite(said(NativeModel(Checkpoint(tmp_path / "quantized"), library, store=store))).all()
