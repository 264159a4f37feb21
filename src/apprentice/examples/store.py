"""The `examples` artifact: a JSONL file a split, compressed, in the columns that TRL reads; and its way back.

    examples/  train.jsonl.zst  valid.jsonl.zst  gate.jsonl.zst  test.jsonl.zst  commits.json  manifest.json
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import zstandard

from apprentice.core import artifacts, files
from apprentice.core.errors import InputError
from apprentice.examples.build import Built, ExamplesConfig
from apprentice.examples.example import Example
from apprentice.examples.split import SPLITS

Row = TypeVar("Row", bound=msgspec.Struct)
KIND = "examples"
VERSION = 1
COMMITS = "commits.json"
MAX_LINE_BYTES = 64 << 20
"""Of one row: a longer one is not ours."""


def write(
    folder: Path, built: Built, config: ExamplesConfig, *, parents: Mapping[str, str], learn_from: tuple[str, ...] = ()
) -> artifacts.Manifest:
    """Store the examples. `parents`: content hashes of the sessions and of the tokenizer that sized the prompts; `learn_from`: the
    policy, where it is not the default."""
    with artifacts.create(folder, kind=KIND, version=VERSION, parents=parents, config=described(config, learn_from)) as writer:
        for split in SPLITS:
            write_rows(writer.path(f"{split}.jsonl.zst"), built.examples[split])
        files.write_json(writer.path(COMMITS), built.commits)
        return writer.finish(counts=built.counts(), dropped=built.dropped)


def described(config: ExamplesConfig, learn_from: tuple[str, ...]) -> dict[str, Any]:
    """For the manifest: what decides the examples besides the sessions."""
    found: dict[str, Any] = asdict(config) | ({"learn_from": list(learn_from)} if learn_from else {})
    if not config.shares.max_heldout:
        # Examples of before there was this bound stay what they are.
        del found["shares"]["max_heldout"]
    return found


def read(folder: Path, split: str, *, kind: str | None = None) -> Iterator[Example]:
    """The examples of a split in order of time. Raises: InputError for a folder or a row that is not ours."""
    artifacts.read(folder, kind=KIND)
    for example in read_rows(folder / f"{split}.jsonl.zst", Example):
        if kind is None or example.kind == kind:
            yield example


def write_rows(path: Path, rows: Iterable[msgspec.Struct]) -> None:
    """A line of JSON each, compressed."""
    with files.open_write(path) as raw, zstandard.ZstdCompressor(level=9).stream_writer(raw, closefd=False) as stream:
        for row in rows:
            stream.write(msgspec.json.encode(row) + b"\n")


def read_rows(path: Path, row_type: type[Row]) -> Iterator[Row]:
    """Written by `write_rows`. Raises: InputError."""
    decoder = msgspec.json.Decoder(row_type)
    try:
        with path.open("rb") as raw, zstandard.ZstdDecompressor().stream_reader(raw) as stream:
            lines = io.BufferedReader(stream)
            while line := lines.readline(MAX_LINE_BYTES):
                yield decoder.decode(line)
    except (OSError, zstandard.ZstdError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(f"`{path}` cannot be read: {error}", hint="make it again with `apprentice learn`") from error


def read_commits(folder: Path) -> dict[str, list[str]]:
    """Split -> commits, oldest first."""
    artifacts.read(folder, kind=KIND)
    path = folder / COMMITS
    try:
        commits: Any = msgspec.json.decode(path.read_bytes(), type=dict[str, list[str]])
    except (OSError, msgspec.DecodeError) as error:
        raise InputError(f"`{path}` cannot be read: {error}", hint="make it again with `apprentice learn`") from error
    return commits
