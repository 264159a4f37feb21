"""Texts out of written files, for the search that follows every stage: file --texts_of()--> Texts.

A table's cell or a line of a `.jsonl` file that is JSON gives the strings in it, a list of strings as one text: lines are
kept like that, and were redacted together. Binary arrays (weights, token ids) hold no text and are passed over. pyarrow
is imported only where a table is met.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import msgspec
import zstandard

_BLOCK_BYTES = 4 << 20
_ARRAYS = frozenset({".safetensors", ".npy", ".npz", ".bin", ".pt", ".gguf"})


class Text(NamedTuple):
    """A piece of a file."""

    line: int
    """1-based, of its start; of a table or of JSON the number of the row that holds it."""
    text: str
    is_row: bool = False


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


def texts_of(path: Path) -> Iterator[Text]:
    """The text of a file in pieces."""
    suffix = path.suffix.lower()
    if suffix in _ARRAYS:
        return
    if suffix == ".parquet":
        yield from _table(path)
        return
    read = _json_lines if ".jsonl" in path.suffixes else _blocks
    with path.open("rb") as raw:
        if suffix == ".zst":
            with zstandard.ZstdDecompressor().stream_reader(raw) as stream:
                yield from read(stream)
        elif suffix == ".gz":
            with gzip.open(raw) as stream:
                yield from read(stream)
        else:
            yield from read(raw)


def _blocks(stream: _Readable) -> Iterator[Text]:
    line, rest = 1, b""
    while chunk := stream.read(_BLOCK_BYTES):
        rest += chunk
        # A secret may have several lines: keep whole lines together and look at the last ones again.
        cut = rest.rfind(b"\n", 0, len(rest) - 65_536) + 1 if len(rest) > 2 * _BLOCK_BYTES else 0
        if cut:
            yield Text(line, rest.decode("utf-8", "replace"))
            line += rest.count(b"\n", 0, cut)
            rest = rest[cut:]
    if rest:
        yield Text(line, rest.decode("utf-8", "replace"))


def _json_lines(stream: _Readable) -> Iterator[Text]:
    line, rest = 1, b""
    while chunk := stream.read(_BLOCK_BYTES):
        *lines, rest = (rest + chunk).split(b"\n")
        for number, text in enumerate(lines, line):
            yield from (Text(number, part, True) for part in _strings(text.decode("utf-8", "replace")))
        line += len(lines)
    yield from (Text(line, part, True) for part in _strings(rest.decode("utf-8", "replace")))


def _strings(text: str) -> Iterator[str]:
    """The strings in JSON; other text as it is."""
    if not text:
        return
    if text[0] not in "{[":
        yield text
        return
    try:
        found = list(_walk(msgspec.json.decode(text)))
    except (msgspec.DecodeError, RecursionError):
        yield text
        return
    yield from found


def _walk(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        yield "\n".join(value)
    elif isinstance(value, list):
        for item in value:
            yield from _walk(item)
    elif isinstance(value, dict):
        yield from value
        for item in value.values():
            yield from _walk(item)


def _table(path: Path) -> Iterator[Text]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    row, file = 1, pq.ParquetFile(path)
    # One row group at a time: over all of them pyarrow 26 keeps what it has read, as much as the file is long.
    for batch in (one for group in range(file.num_row_groups) for one in file.iter_batches(batch_size=256, row_groups=[group])):
        for column in batch.columns:
            if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
                for offset, value in enumerate(column.to_pylist()):
                    if value:
                        yield from (Text(row + offset, part, True) for part in _strings(value))
        row += batch.num_rows
