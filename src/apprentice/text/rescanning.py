"""Texts out of written files, for the search that follows every stage: file --texts_of()--> (line or row, text).

Binary arrays (weights, token ids) hold no text and are passed over. pyarrow is imported only where a table is met.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import zstandard

_BLOCK_BYTES = 4 << 20
_ARRAYS = frozenset({".safetensors", ".npy", ".npz", ".bin", ".pt", ".gguf"})


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


def texts_of(path: Path) -> Iterator[tuple[int, str]]:
    """The text of a file in pieces, with the 1-based number of the line (or row) that each starts at."""
    suffix = path.suffix.lower()
    if suffix in _ARRAYS:
        return
    if suffix == ".parquet":
        yield from _table(path)
        return
    with path.open("rb") as raw:
        if suffix == ".zst":
            with zstandard.ZstdDecompressor().stream_reader(raw) as stream:
                yield from _blocks(stream)
        elif suffix == ".gz":
            with gzip.open(raw) as stream:
                yield from _blocks(stream)
        else:
            yield from _blocks(raw)


def _blocks(stream: _Readable) -> Iterator[tuple[int, str]]:
    line, rest = 1, b""
    while chunk := stream.read(_BLOCK_BYTES):
        rest += chunk
        # A secret may have several lines: keep whole lines together and look at the last ones again.
        cut = rest.rfind(b"\n", 0, len(rest) - 65_536) + 1 if len(rest) > 2 * _BLOCK_BYTES else 0
        if cut:
            yield line, rest.decode("utf-8", "replace")
            line += rest.count(b"\n", 0, cut)
            rest = rest[cut:]
    if rest:
        yield line, rest.decode("utf-8", "replace")


def _table(path: Path) -> Iterator[tuple[int, str]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    row = 1
    for batch in pq.ParquetFile(path).iter_batches(batch_size=256):
        for column in batch.columns:
            if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
                for offset, value in enumerate(column.to_pylist()):
                    if value:
                        yield row + offset, value
        row += batch.num_rows
