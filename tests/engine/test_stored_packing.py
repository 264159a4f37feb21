"""A start that finds what an earlier one packed computes the same, bit for bit, and never trusts what does not fit."""

from __future__ import annotations

import os
import platform
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from apprentice.engine import packing, stored_packing
from apprentice.engine.loader import Checkpoint, folder_state
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
    return PackingStore(tmp_path / "packed", least_bytes=0, free_bytes=0)


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
    written = path.stat()
    os.utime(path, (written.st_atime, written.st_mtime - 100))
    # This one cannot write: what is marked as used was read.
    known = NativeModel(checkpoint, library, store=replace(store, least_bytes=1 << 60))
    assert path.stat().st_mtime > written.st_mtime - 50
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
    # That of the weights that are gone goes.
    store.tidy()
    assert len(stored(store)) == 1
    NativeModel(Checkpoint(folder), library, variant="portable", store=store)
    NativeModel(Checkpoint(folder), library, EngineConfig(cache_bits=8), store=store)
    assert len(stored(store)) == len({library.variant, "portable"}) + 1


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


def test_weights_that_were_changed_in_place_are_others(make_folder: MakeFolder, library: Library) -> None:
    folder = make_folder()
    path = folder / "model.safetensors"
    before, seen = stored_packing.key(Checkpoint(folder), library, "portable", 16), path.stat()
    with path.open("r+b") as stream:
        stream.seek(-1, os.SEEK_END)
        stream.write(b"\x01")
    os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    assert (path.stat().st_ino, path.stat().st_size, path.stat().st_mtime_ns) == (seen.st_ino, seen.st_size, seen.st_mtime_ns)
    assert stored_packing.key(Checkpoint(folder), library, "portable", 16) != before


@pytest.mark.parametrize(
    ("name", "value"),
    [("model.safetensors.index.json", '{"weight_map": {}}'), ("config.json", " "), ("another.safetensors", "")],
)
def test_whatever_decides_the_tensors_is_part_of_the_key(make_folder: MakeFolder, library: Library, name: str, value: str) -> None:
    checkpoint = Checkpoint(folder := make_folder())
    before = stored_packing.key(checkpoint, library, "portable", 16)
    with (folder / name).open("a") as stream:
        stream.write(value)
    checkpoint.state = folder_state(folder)
    assert stored_packing.key(checkpoint, library, "portable", 16) != before


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda whole: whole[: len(whole) // 2],
    "empty": lambda _: b"",
    "another type": lambda whole: whole.replace(b'"F32"', b'"I32"', 1),
    "a type that is none": lambda whole: whole.replace(b'"F32"', b'[   ]', 1),
    "a scalar": lambda whole: re.sub(rb'("shape":)\[1\]', rb"\1[ ]", whole, count=1),
    "a name": lambda whole: whole.replace(b"layers.0.input_norm", b"layers.0.input_noon", 1),
    "a matrix's name": lambda whole: whole.replace(b"matrices.0.factor", b"matrices.9.factoe", 1),
    "other weights": lambda whole: whole.replace(b'\\"', b"\\/", 1),
}


@pytest.mark.parametrize("damage", [*DAMAGES, "of another model", "of other weights"])
def test_a_file_that_does_not_fit_is_passed_over_and_made_anew(
    damage: str, make_folder: MakeFolder, tmp_path: Path, library: Library, store: PackingStore
) -> None:
    convert(make_folder(), tmp_path / "quantized")
    checkpoint = Checkpoint(tmp_path / "quantized")
    expected = said(NativeModel(checkpoint, library, store=store))
    (path,) = stored(store)
    whole = path.read_bytes()
    if damage.startswith("of "):
        shape = DEBUG if damage == "of other weights" else replace(DEBUG, intermediate_size=64)
        convert(make_folder(shape, name="other", seed=1), tmp_path / "other quantized")
        NativeModel(Checkpoint(tmp_path / "other quantized"), library, store=store)
        (other,) = set(stored(store)) - {path}
        path.write_bytes(other.read_bytes())
    else:
        assert (damaged := DAMAGES[damage](whole)) != whole
        path.write_bytes(damaged)
    assert np.array_equal(said(NativeModel(checkpoint, library, store=store)), expected)
    assert path.read_bytes() == whole


def test_sizes_of_another_model_are_passed_over(make_folder: MakeFolder, tmp_path: Path, library: Library, store: PackingStore) -> None:
    """Its file says that it is of this one."""
    convert(make_folder(), tmp_path / "quantized")
    convert(make_folder(replace(DEBUG, intermediate_size=64), name="small"), tmp_path / "small")
    checkpoint, small = Checkpoint(tmp_path / "quantized"), Checkpoint(tmp_path / "small")
    packed = packing.pack(library, small)
    factors = packing.balanced(library, small, packed, np.ones(DEBUG.num_layers * (2 * DEBUG.hidden_size + 64) + DEBUG.hidden_size, np.float32))
    key = stored_packing.key(checkpoint, library, library.variant, 16)
    store.write(key, checkpoint, packed.arena, packing.contents_of(packed, factors))
    assert len(stored(store)) == 1
    expected = said(NativeModel(checkpoint, library))
    assert np.array_equal(said(NativeModel(checkpoint, library, store=store)), expected)


def test_what_is_of_no_use_goes(make_folder: MakeFolder, tmp_path: Path, library: Library, store: PackingStore) -> None:
    def kept_for(name: str) -> Path:
        key = stored_packing.key(Checkpoint(tmp_path / name), library, library.variant, 16)
        return store.folder / f"{key}.safetensors"

    def set_back(path: Path, seconds: float) -> None:
        os.utime(path, (0, time.time() - seconds))

    for name in ("kept", "gone", "old"):
        convert(make_folder(name=f"plain {name}"), tmp_path / name)
        NativeModel(Checkpoint(tmp_path / name), library, store=store)
    written, killed = store.folder / ".a.safetensors.tmp-1-1", store.folder / ".b.safetensors.tmp-1-1"
    for path in (store.folder / "nothing of ours.safetensors", written, killed):
        path.write_bytes(b"0" * 100)
    (store.folder / "folder.safetensors").mkdir()
    shutil.rmtree(tmp_path / "gone")
    set_back(kept_for("old"), (stored_packing.DAYS + 1) * 86400)
    set_back(killed, stored_packing.LEFT_S + 100)
    store.tidy()
    assert set(stored(store)) == {kept_for("kept"), store.folder / "folder.safetensors", written}


def test_a_start_tidies(make_folder: MakeFolder, tmp_path: Path, library: Library, store: PackingStore) -> None:
    convert(make_folder(), tmp_path / "quantized")
    store.folder.mkdir()
    unusable = store.folder / "x.safetensors"
    unusable.write_bytes(b"")
    NativeModel(Checkpoint(tmp_path / "quantized"), library, store=replace(store, tidy_after_s=0))
    ends = time.monotonic() + 60
    while unusable.exists() and time.monotonic() < ends:
        time.sleep(0.01)
    assert [path.suffix for path in stored(store)] == [".safetensors"]
    assert not unusable.exists()


def kept(make_folder: MakeFolder, tmp_path: Path, library: Library, store: PackingStore) -> tuple[Checkpoint, Path]:
    """A checkpoint, and what a start has left of it."""
    convert(make_folder(), tmp_path / "quantized")
    checkpoint = Checkpoint(tmp_path / "quantized")
    NativeModel(checkpoint, library, store=store)
    (path,) = stored(store)
    return checkpoint, path


def test_one_that_was_not_used_for_long_is_used_all_the_same(
    make_folder: MakeFolder, tmp_path: Path, library: Library, store: PackingStore
) -> None:
    checkpoint, path = kept(make_folder, tmp_path, library, store)
    os.utime(path, (0, time.time() - (stored_packing.DAYS + 1) * 86400))
    NativeModel(checkpoint, library, store=replace(store, least_bytes=1 << 60))
    assert time.time() - path.stat().st_mtime < 60


def test_one_written_on_another_machine_is_used_and_not_judged(
    make_folder: MakeFolder, tmp_path: Path, library: Library, store: PackingStore
) -> None:
    checkpoint, path = kept(make_folder, tmp_path, library, store)
    here = platform.node().encode()
    path.write_bytes(path.read_bytes().replace(b'"machine":"' + here, b'"machine":"' + b"?" * len(here), 1))
    os.utime(path, (0, time.time() - 1000))
    NativeModel(checkpoint, library, store=replace(store, least_bytes=1 << 60))
    assert time.time() - path.stat().st_mtime < 60
    shutil.rmtree(tmp_path / "quantized")
    store.tidy()
    assert path.exists()


def test_a_full_disk_is_left_alone(make_folder: MakeFolder, tmp_path: Path, library: Library, store: PackingStore) -> None:
    convert(make_folder(), tmp_path / "quantized")
    NativeModel(Checkpoint(tmp_path / "quantized"), library, store=replace(store, free_bytes=1 << 60))
    assert stored(store) == []


def test_small_ones_are_not_kept_and_those_used_longest_ago_go(
    make_folder: MakeFolder, tmp_path: Path, library: Library, store: PackingStore
) -> None:
    folders = [tmp_path / f"quantized {seed}" for seed in range(3)]
    for seed, folder in enumerate(folders):
        convert(make_folder(name=f"plain {seed}", seed=seed), folder)
    NativeModel(Checkpoint(folders[0]), library, store=replace(store, least_bytes=1 << 30))
    NativeModel(Checkpoint(make_folder(name="plain")), library, store=store)
    assert stored(store) == []
    now = time.time()
    for age, folder in zip((200, 100), folders, strict=False):
        NativeModel(Checkpoint(folder), library, store=store)
        (path,) = [path for path in stored(store) if path.stat().st_mtime > now - 50]
        os.utime(path, (0, now - age))
    two = sum(path.stat().st_size for path in stored(store))
    # The oldest is used again, so the other one goes.
    NativeModel(Checkpoint(folders[0]), library, store=store)
    (kept,) = [path for path in stored(store) if path.stat().st_mtime > now - 50]
    NativeModel(Checkpoint(folders[2]), library, store=replace(store, most_bytes=two))
    assert len(stored(store)) == 2
    assert kept in stored(store)


@pytest.mark.parametrize("how", ["a file in its place", "closed", "read-only"])
def test_a_folder_that_cannot_be_used_is_no_error(
    how: str, make_folder: MakeFolder, tmp_path: Path, library: Library, store: PackingStore
) -> None:
    convert(make_folder(), tmp_path / "quantized")
    if how == "a file in its place":
        store.folder.write_text("")
    else:
        store.folder.mkdir(0o000 if how == "closed" else 0o500)
    try:
        store.tidy()
        assert np.isfinite(said(NativeModel(Checkpoint(tmp_path / "quantized"), library, store=store))).all()
    finally:
        store.folder.chmod(0o700)
