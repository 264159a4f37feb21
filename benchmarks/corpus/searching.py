"""A search that knows what was planted: is any of it left in what was written, plainly or in a disguise?

    files --texts()--> strings --readings()--> what they say when they are decoded --Search.left()--> pieces that are found

Stands on its own feet: it shares no code with the redaction, whose decoders may be wrong. Two layers deep; whatever the case.
"""

from __future__ import annotations

import base64
import binascii
import html
import json
import quopri
import re
import zlib
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import pyarrow as pa
import pyarrow.parquet as pq

from apprentice.text.anchors import Anchors

_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{8,}(?:\n[A-Za-z0-9+/_-]{2,})*={0,2}")
_HEX = re.compile(r"(?:[0-9a-fA-F]{2}\n?){8,}")
_COLOUR = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_GLUE = re.compile(r"[\s\"'`+\\.&>|-]+")
_NUMBER = re.compile(r"^ *\d+\u2192", re.MULTILINE)
_BYTE = re.compile(r"\\x([0-9a-fA-F]{2})")
_UNICODE = re.compile(r"\\u([0-9a-fA-F]{4})")


def texts(folder: Path) -> Iterator[str]:
    """Every string in every file under the folder: of tables each cell, and what JSON in it says."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        if path.suffix == ".parquet":
            for column in pq.read_table(path).columns:
                if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
                    yield from (part for value in column.to_pylist() if value for part in _strings(value))
        else:
            yield path.read_text(encoding="utf-8", errors="replace")


def _strings(text: str) -> Iterator[str]:
    yield text
    if text[:1] == "{":
        yield from _walk(json.loads(text)) if _is_json(text) else ()


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _walk(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        if value and all(isinstance(item, str) for item in value):
            yield "\n".join(value)
        for item in value:
            yield from _walk(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _walk(item)


def readings(text: str, layers: int = 2) -> Iterator[str]:
    """The text and what it says in disguise."""
    yield text
    found = {plain for plain in (*_unescaped(text), *_decoded(text)) if plain != text and len(plain) >= 6}
    for plain in found:
        if layers > 1:
            yield from readings(plain, layers - 1)
        else:
            yield plain


def _unescaped(text: str) -> Iterator[str]:
    if "\\" in text:
        yield _UNICODE.sub(lambda match: chr(int(match[1], 16)), text).replace("\\\\", "\\").replace('\\"', '"').replace("\\n", "\n")
    if "\\x" in text:
        yield _BYTE.sub(lambda match: chr(int(match[1], 16)), text.replace("\\\\", "\\"))
    if "%" in text:
        yield unquote_to_bytes(text).decode("utf-8", "replace")
    if "&" in text:
        yield html.unescape(text)
    if "\x1b" in text:
        yield _COLOUR.sub("", text)
    if "=\n" in text or "=3D" in text:
        yield quopri.decodestring(text.encode()).decode("utf-8", "replace")


def _decoded(text: str) -> Iterator[str]:
    for match in _BASE64.finditer(text):
        # Lines of a listing begin with what may be read as base64, too.
        lines = match[0].split("\n")
        for blob in {"".join(lines), "".join(lines[1:]), "".join(lines[:-1]), "".join(lines[1:-1]), *lines}:
            for shift in range(4):
                yield from _texts_of(_base64(blob[shift:].rstrip("=")))
    for match in _HEX.finditer(text):
        digits = match[0].replace("\n", "")
        yield from _texts_of(bytes.fromhex(digits[: len(digits) // 2 * 2]))


def _base64(blob: str) -> bytes:
    usable = blob if len(blob) % 4 != 1 else blob[:-1]
    try:
        return base64.urlsafe_b64decode(usable.replace("+", "-").replace("/", "_") + "=" * (-len(usable) % 4))
    except (binascii.Error, ValueError):
        return b""


def _texts_of(data: bytes) -> Iterator[str]:
    if data[:2] == b"\x1f\x8b":
        try:
            data = zlib.decompressobj(wbits=31).decompress(data)
        except zlib.error:
            return
    text = data.decode("latin-1")
    if text and sum(" " <= character <= "~" or character in "\n\t" for character in text) > 0.8 * len(text):
        yield text


def glued(text: str) -> str:
    """Without what stands between halves of a string: quotes, operators, line breaks, numbers of lines."""
    return _GLUE.sub("", _NUMBER.sub("", text))


class Search:
    """For many pieces at once. `secrets`: half of one is as good as found."""

    def __init__(self, pieces: Iterable[str], secrets: Collection[str]) -> None:
        words: dict[bytes, str] = {}
        self._glued: dict[bytes, str] = {}
        for piece in pieces:
            half = len(piece) // 2
            for part in (piece, *((piece[:half], piece[half:]) if half >= 10 and piece in secrets else ())):
                words[part.lower().encode()] = piece
            self._glued[glued(piece).lower().encode()] = piece
        self._anchors, self._glued_anchors = Anchors(words), Anchors(self._glued)

    def left(self, text: str) -> set[str]:
        """The pieces that the text still says."""
        found: set[str] = set()
        for reading in readings(text):
            found |= {piece for _, _, piece in self._anchors.find(reading.encode("utf-8", "replace"))}
            found |= {piece for _, _, piece in self._glued_anchors.find(glued(reading).encode("utf-8", "replace"))}
        return found
