"""Texts that come again need not be searched again: a tool's result is also a command's output, a file before an edit is the
file after the one before, and a table repeats its names in every row.

What a text's search gives depends on the text alone, so remembering changes no result. What is remembered is bounded in
bytes; the oldest goes first.
"""

from __future__ import annotations

import hashlib
import zlib
from collections import OrderedDict

from apprentice.core.protocols import SecretScanner
from apprentice.text.redaction import RedactionPolicy, Redactor
from apprentice.text.secret_rules import Hit

TEXT_BYTES = 8 << 20
"""Of texts that are remembered with what they became: enough for the files that one session goes back to."""
SHORT, NUM_SHORT = 512, 20_000
"""Characters of a short text, and how many of those are remembered."""
SEARCHED = 20_000
"""Texts of which it is remembered that nothing was found; some 5 MB."""
_DIGEST_BYTES = 16


class Remembering:
    """Implements `core.protocols.SecretScanner` with another one: text -> (redacted text, what was found)."""

    def __init__(self, scanner: SecretScanner, *, max_bytes: int = TEXT_BYTES) -> None:
        self._scanner, self._max_bytes = scanner, max_bytes
        self._long: OrderedDict[str, tuple[str, dict[str, int]]] = OrderedDict()
        self._short: OrderedDict[str, tuple[str, dict[str, int]]] = OrderedDict()
        self._bytes = 0

    def redact(self, text: str) -> tuple[str, dict[str, int]]:
        return self._of_long(text) if len(text) > SHORT else self._of_short(text)

    def _of_short(self, text: str) -> tuple[str, dict[str, int]]:
        """Paths and names come again in any session: they get a place of their own."""
        if (known := self._short.get(text)) is None:
            known = self._short[text] = self._scanner.redact(text)
            if len(self._short) > NUM_SHORT:
                self._short.popitem(last=False)
        return known

    def _of_long(self, text: str) -> tuple[str, dict[str, int]]:
        if (known := self._long.get(text)) is not None:
            self._long.move_to_end(text)
            return known
        known = self._long[text] = self._scanner.redact(text)
        self._bytes += len(text) + len(known[0])
        while self._bytes > self._max_bytes:
            old, (new, _) = self._long.popitem(last=False)
            self._bytes -= len(old) + len(new)
        return known


class SecondLook(Redactor):
    """Searches what was written, each text once. One of several that share the work takes `share` of `shares` texts."""

    def __init__(self, policy: RedactionPolicy, *, share: int = 0, shares: int = 1) -> None:
        super().__init__(policy)
        self._share, self._shares = share, shares
        self._clean: OrderedDict[bytes, None] = OrderedDict()

    def find(self, data: bytes) -> list[Hit]:
        if self._shares > 1 and zlib.crc32(data) % self._shares != self._share:
            return []
        key = data if len(data) <= 2 * _DIGEST_BYTES else hashlib.blake2b(data, digest_size=_DIGEST_BYTES).digest()
        if key in self._clean:
            self._clean.move_to_end(key)
            return []
        hits = super().find(data)
        if not hits:
            self._clean[key] = None
            if len(self._clean) > SEARCHED:
                self._clean.popitem(last=False)
        return hits
