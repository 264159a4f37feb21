"""More than sixty checkpoints that somebody made to harm: each is refused, soon, by a message that names the file, and before
anything as large as it claims to be is allocated. They are opened in a process of its own that may grow by half a gigabyte."""

from __future__ import annotations

import json
import os
import resource
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from apprentice.core.errors import UserError
from apprentice.engine.engine import Engine
from apprentice.model import tensor_files
from apprentice.quantize.convert import convert
from apprentice.text import chat

ROOM_BYTES = 512 * 2**20
SECONDS = 20
"""Much more than any of them takes on a busy machine."""
UP = "model.layers.0.mlp.up_proj.weight"
EMBEDDING, NORM = "model.embed_tokens.weight", "model.norm.weight"

Harm = Callable[[Path], object]


def header(change: Callable[[dict[str, Any]], object]) -> Harm:
    """Changes the header of the weights and leaves the data."""

    def harm(folder: Path) -> None:
        path = folder / "model.safetensors"
        data = path.read_bytes()
        (length,) = struct.unpack("<Q", data[:8])
        entries = json.loads(data[8 : 8 + length])
        change(entries)
        encoded = json.dumps(entries).encode()
        path.write_bytes(struct.pack("<Q", len(encoded)) + encoded + data[8 + length :])

    return harm


def entry(name: str, **changes: Any) -> Harm:
    return header(lambda entries: entries[name].update(changes))


def weights(data: bytes) -> Harm:
    return lambda folder: (folder / "model.safetensors").write_bytes(data)


def values(name: str, value: bytes) -> Harm:
    def harm(folder: Path) -> None:
        data = bytearray((folder / "model.safetensors").read_bytes())
        start = tensor_files.open_folder(folder)[name].tensors[name].start
        data[start : start + len(value)] = value
        (folder / "model.safetensors").write_bytes(data)

    return harm


def settings(**changes: Any) -> Harm:
    return json_file("config.json", lambda data: data.update(changes))


def json_file(name: str, change: Callable[[dict[str, Any]], object]) -> Harm:
    def harm(folder: Path) -> None:
        data = json.loads((folder / name).read_bytes())
        change(data)
        (folder / name).write_text(json.dumps(data))

    return harm


def content(name: str, data: bytes) -> Harm:
    return lambda folder: (folder / name).write_bytes(data)


def sparse(name: str, size: int, start: bytes = b"") -> Harm:
    def harm(folder: Path) -> None:
        with (folder / name).open("wb") as stream:
            stream.write(start)
            stream.truncate(size)

    return harm


def index(weight_map: Any) -> Harm:
    def harm(folder: Path) -> None:
        (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
        (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))

    return harm


def tokenizer(change: Callable[[dict[str, Any]], object]) -> Harm:
    return json_file("tokenizer.json", change)


def template(text: str) -> Harm:
    """Rendered once it is loaded."""
    return json_file("tokenizer_config.json", lambda data: data.update(chat_template=text))


def removed(name: str) -> Harm:
    return lambda folder: (folder / name).unlink()


def folder_instead(name: str) -> Harm:
    def harm(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).mkdir()

    return harm


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


DEEP = b'{"a":' * 100_000 + b"1" + b"}" * 100_000
CASES: dict[str, Harm] = {
    # What the header of the weights claims.
    "scale missing": header(lambda entries: entries.pop(UP + "_scale")),
    "divisor missing": header(lambda entries: entries.pop(UP + "_global_scale")),
    "norm missing": header(lambda entries: entries.pop(NORM)),
    "matrix missing": header(lambda entries: entries.pop(UP + "_packed")),
    "surplus tensor": header(lambda entries: entries.update({"model.extra": entries.pop(NORM)})),
    "data past the end": entry(UP + "_packed", data_offsets=[0, 2**40]),
    "data before the start": entry(UP + "_packed", data_offsets=[-64, 64]),
    "data backwards": entry(UP + "_packed", data_offsets=[6144, 0]),
    "offsets no list": entry(UP + "_packed", data_offsets="0-6144"),
    "three offsets": entry(UP + "_packed", data_offsets=[0, 1, 2]),
    "fractional offsets": entry(UP + "_packed", data_offsets=[0.5, 6144.5]),
    "shape of exabytes": entry(UP + "_packed", shape=[2**62, 2**62]),
    "shape that overflows to what fits": entry(UP + "_packed", shape=[2**32, 2**32]),
    "negative shape": entry(UP + "_packed", shape=[-192, -32]),
    "shape of text": entry(UP + "_packed", shape=["192", "32"]),
    "shape of a thousand ones": entry(UP + "_packed", shape=[1] * 1000),
    "one byte short": entry(UP + "_packed", shape=[192, 31]),
    "swapped shape": entry(UP + "_packed", shape=[32, 192]),
    "signed codes": entry(UP + "_packed", dtype="I8"),
    "scales of another type": entry(UP + "_scale", dtype="U8"),
    "whole divisor": entry(UP + "_global_scale", dtype="I32"),
    "unknown type": entry(UP + "_packed", dtype="Q4_K"),
    "type no text": entry(UP + "_packed", dtype=7),
    "overlapping data": header(lambda entries: entries[UP + "_packed"].update(data_offsets=entries[UP + "_scale"]["data_offsets"])),
    "entry no object": header(lambda entries: entries.update({UP + "_packed": [1, 2]})),
    "huge embedding": entry(EMBEDDING, shape=[2**31, 64]),
    # The file around it.
    "header of exabytes": weights(struct.pack("<Q", 2**60) + b"{}"),
    "header of a gigabyte": sparse("model.safetensors", 2**30 + 100, struct.pack("<Q", 2**30)),
    "no header": weights(struct.pack("<Q", 0)),
    "header no JSON": weights(struct.pack("<Q", 4) + b"\xff\x00{}"),
    "header a list": weights(struct.pack("<Q", 2) + b"[]"),
    "header nested": weights(struct.pack("<Q", len(DEEP)) + DEEP),
    "empty file": weights(b""),
    "seven bytes": weights(b"\x02\0\0\0\0\0\0"),
    "cut short": lambda folder: os.truncate(folder / "model.safetensors", 40_000),
    "folder in place of weights": folder_instead("model.safetensors"),
    "pickled weights": pickled,
    "shard outside the folder": index({UP: "../../secret.safetensors"}),
    "shard by a whole path": index({UP: "/etc/passwd"}),
    "shard missing": index({UP: "model-00002-of-00002.safetensors"}),
    "index no object": index([1, 2]),
    # Numbers.
    "scale NaN": values(UP + "_scale", b"\x7f"),
    "scale negative NaN": values(UP + "_scale", b"\xff"),
    **{
        f"divisor {value}": values(UP + "_global_scale", np.float32(value).tobytes())
        for value in (0.0, -1.0, np.nan, np.inf, 1e-42)
    },
    "norm NaN": values(NORM, b"\xc0\x7f"),
    "norm infinite": values(NORM, b"\x80\x7f"),
    "embedding infinite": values(EMBEDDING, b"\x80\x7f"),
    # What config.json claims.
    **{f"{key} {value}": settings(**{key: value}) for key, value in (
        ("vocab_size", 2**40), ("vocab_size", 0), ("hidden_size", 2**31), ("hidden_size", -64), ("hidden_size", "64"),
        ("num_hidden_layers", 10**9), ("num_hidden_layers", 0), ("num_hidden_layers", 2.5), ("num_attention_heads", 0),
        ("num_attention_heads", 3), ("num_key_value_heads", 0), ("intermediate_size", 2**40), ("head_dim", 2**20),
        ("max_position_embeddings", 0), ("rope_parameters", {"rope_theta": -5}), ("rope_parameters", {"rope_theta": 0}), ("rope_parameters", {"rope_theta": "x"}),
        ("rope_parameters", {"rope_type": "evil", "rope_theta": 1e4}), ("rms_norm_eps", "x"), ("model_type", "gpt_bigcode"), ("auto_map", {"AutoModel": "evil.Model"}),
        *(("rope_parameters", {"rope_type": "yarn", "rope_theta": 1e4, "factor": 2.0, **more}) for more in (
            {"original_max_position_embeddings": -1}, {"rope_theta": 1.0}, {"original_max_position_embeddings": float("inf")},
            {"attention_factor": float("nan")},
        )),
        ("rope_parameters", {"rope_theta": 1e-300}),
        ("quantization_config", {"quant_method": "gptq"}), ("quantization_config", [1]), ("quantization_config", {"format": ["x"]}),
    )},
    "config no JSON": content("config.json", b"{"),
    "config a list": content("config.json", b"[]"),
    "config nested": content("config.json", DEEP),
    "config of a gigabyte": sparse("config.json", 2**30, b"{"),
    "config missing": removed("config.json"),
    # Tokenizers and templates.
    "tokenizer missing": removed("tokenizer.json"),
    "tokenizer no JSON": content("tokenizer.json", b"\xff"),
    "tokenizer of a gigabyte": sparse("tokenizer.json", 2**30, b"{"),
    "tokenizer nested": content("tokenizer.json", DEEP),
    "token id of billions": tokenizer(lambda data: data["model"]["vocab"].update({"bomb": 2**31})),
    "token id negative": tokenizer(lambda data: data["model"]["vocab"].update({"bomb": -5})),
    "special token id of billions": tokenizer(lambda data: data["added_tokens"][0].update(id=2**31)),
    "more tokens than the model": tokenizer(lambda data: data["model"]["vocab"].update({f"t{i}": 400 + i for i in range(99)})),
    "another kind of tokenizer": tokenizer(lambda data: data["model"].update(type="WordPiece")),
    "merges of nothing": tokenizer(lambda data: data["model"].update(merges=[["no", "thing"]])),
    "vocabulary a list": tokenizer(lambda data: data["model"].update(vocab=[1, 2])),
    "endless template": template("{% for i in range(1000000000) %}x{% endfor %}"),
    "template that swells": template("{% set n = namespace(s='x') %}{% for i in range(60) %}{% set n.s = n.s ~ n.s %}{% endfor %}{{ n.s }}"),
    "template that calls itself": template("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}"),
    "template that reads files": template("{% include '/etc/passwd' %}"),
    "template no template": template("{% for %}"),
}  # fmt: skip


def outcome(folder: Path) -> str:
    """`refused: message`, or what happened instead."""
    try:
        engine = Engine.load(folder)
        chat.render(engine.tokenizer, None, [{"role": "user", "content": "x"}], add_generation_prompt=True)
    except UserError as error:
        return f"refused: {error.message}"
    except BaseException as error:  # noqa: BLE001 - the test says which
        return f"{type(error).__name__}: {error}"
    return "accepted"


def main(work: Path) -> None:
    """Opens every folder below `work` and prints a line of JSON for each."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + ROOM_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    for folder in sorted(work.iterdir()):
        started = time.monotonic()
        print(json.dumps({"name": folder.name, "outcome": outcome(folder), "seconds": time.monotonic() - started}), flush=True)


@pytest.fixture(scope="module")
def outcomes(folder_at: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    work = tmp_path_factory.mktemp("hostile")
    plain = folder_at(tmp_path_factory.mktemp("plain") / "model")
    convert(plain, work / "sound")
    names = {f"{number:03}": name for number, name in enumerate(CASES)}
    for number, name in names.items():
        shutil.copytree(work / "sound", work / number)
        CASES[name](work / number)
    done = subprocess.run([sys.executable, __file__, work], capture_output=True, text=True, timeout=300, check=False)
    rows = {row["name"]: row for row in map(json.loads, done.stdout.splitlines())}
    assert done.returncode == 0, f"{done.stderr[-2000:]} after {max(rows, default='none')}"
    return {names.get(number, number): row for number, row in rows.items()}


def test_there_are_enough_of_them_and_the_sound_one_is_accepted(outcomes: dict[str, dict[str, Any]]) -> None:
    assert len(CASES) >= 60
    assert outcomes["sound"]["outcome"] == "accepted"


@pytest.mark.parametrize("name", CASES)
def test_it_is_refused(name: str, outcomes: dict[str, dict[str, Any]]) -> None:
    found = outcomes[name]
    assert found["outcome"].startswith("refused: "), found["outcome"]
    assert found["seconds"] < SECONDS
    assert len(found["outcome"]) < 600


if __name__ == "__main__":
    main(Path(sys.argv[1]))
