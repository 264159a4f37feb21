"""A folder of weights -> a Generator: our engine where it computes in native code, else torch for what is not quantized."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from apprentice.core import artifacts
from apprentice.core.errors import InputError
from apprentice.core.protocols import Generator
from apprentice.text.tokenizer import Tokenizer

SAMPLES, SAMPLE_BYTES = 65, 64 << 10


def open_model(folder: Path, tokenizer: Tokenizer) -> Generator:
    """Raises: InputError where the folder holds no model of ours.

    The engine answers several times as fast as torch on a CPU; its log-probabilities are as near to float32 as those of
    torch's BF16."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"`{folder}` holds no model: {error}", hint="name a checkpoint or a quantized folder") from error
    from apprentice.kernels import native

    if config.get("quantization_config") or native.is_fast():
        from apprentice.engine.engine import Engine

        return Engine.load(folder)
    return open_in_torch(folder, tokenizer)


def open_in_torch(folder: Path, tokenizer: Tokenizer) -> Generator:
    """A folder that is not quantized, whatever else could run it."""
    from apprentice.model import weights
    from apprentice.model.generator import TorchGenerator, fast_precision

    return TorchGenerator(weights.load(folder).eval(), tokenizer, reading=fast_precision())


def weights_hash(folder: Path) -> str:
    """Content hash of an artifact; of any other folder a hash of its settings and tokenizer and of its weights, by name, size and SAMPLES
    pieces of each: a copy is the same model."""
    if artifacts.is_finished(folder):
        return artifacts.read(folder).hash
    found = hashlib.sha256()
    for path in sorted(path for path in folder.iterdir() if path.suffix in (".json", ".jinja") and path.is_file()):
        found.update(f"{path.name} {path.stat().st_size} ".encode() + path.read_bytes())
    for path in sorted(folder.glob("*.safetensors")):
        size = path.stat().st_size
        found.update(f"{path.name} {size} ".encode())
        with path.open("rb") as stream:
            for number in range(SAMPLES):
                stream.seek(max(size - SAMPLE_BYTES, 0) * number // (SAMPLES - 1))
                found.update(stream.read(SAMPLE_BYTES))
    return found.hexdigest()
