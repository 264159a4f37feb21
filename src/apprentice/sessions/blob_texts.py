"""Texts of git blobs: decoded, redacted, stored once, and the latest kept at hand.

blob id --> Unusable(reason), or the id of the redacted text in the store
"""

from __future__ import annotations

from collections import OrderedDict

from apprentice.repository.git import Objects
from apprentice.sessions.store import SessionsWriter
from apprentice.sessions.unusable import Unusable

_CACHE_CHARACTERS = 48 << 20
_REGULAR = ("100644", "100755", "100664")


class BlobTexts:
    """Redacted texts of blobs: ids for all that were seen, texts for the latest."""

    def __init__(self, objects: Objects, writer: SessionsWriter, max_bytes: int) -> None:
        self._objects, self._writer, self._max_bytes = objects, writer, max_bytes
        self._ids: dict[bytes, str | Unusable] = {}
        self._cache: OrderedDict[str, str] = OrderedDict()
        self._cached = 0

    def id_of(self, object_id: str, mode: str, path: str) -> str:
        """Store the blob's text. Raises: Unusable."""
        if mode not in _REGULAR:
            raise Unusable({"120000": "symlink", "160000": "submodule"}.get(mode, "odd_mode"))
        key = bytes.fromhex(object_id)
        if key not in self._ids:
            try:
                self._ids[key] = self._writer.add_text(self._redacted(object_id), near=path)
            except Unusable as unusable:
                self._ids[key] = unusable
        known = self._ids[key]
        if isinstance(known, Unusable):
            raise Unusable(known.reason, aside=known.aside, detail=path)
        return known

    def text(self, object_id: str) -> str:
        """The redacted text of a blob that has an id."""
        if object_id in self._cache:
            self._cache.move_to_end(object_id)
            return self._cache[object_id]
        return self._redacted(object_id)

    def _redacted(self, object_id: str) -> str:
        blob = self._objects.read(object_id, max_bytes=self._max_bytes)
        if blob.missing:
            raise Unusable("object_missing", aside=True)
        if blob.data is None:
            raise Unusable("large_file")
        text = self._writer.redact(_decode(blob.data))
        self._cache[object_id] = text
        self._cached += len(text)
        while self._cached > _CACHE_CHARACTERS:
            self._cached -= len(self._cache.popitem(last=False)[1])
        return text


def _decode(data: bytes) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise Unusable("utf16", aside=True)
    if b"\0" in data:
        raise Unusable("binary")
    try:
        # As editors have lines: what ends them is no part of them, and a change of that alone is none.
        return data.decode("utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError:
        raise Unusable("not_utf8", aside=True) from None
