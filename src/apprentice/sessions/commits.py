"""Parses a commit object as git stores it; whatever stands in it, the result is text and numbers.

tree .../parent .../author NAME <EMAIL> SECONDS ZONE/committer .../encoding ... (blank line) message
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass

from apprentice.sessions.authors import Identity

_SIGNED = re.compile(rb"^(.*?)\s*<([^>]*)>\s*(-?\d{1,18})?")
_LATEST = 4102444800.0
"""The year 2100: a clock that is farther off says nothing."""


@dataclass(frozen=True, slots=True)
class CommitFacts:
    """What a commit says about itself."""

    author: Identity
    committer: Identity
    authored: float
    """Seconds since 1970, UTC; 0 where the commit's clock was out of order."""
    committed: float
    message: str


def parse_commit(data: bytes) -> CommitFacts:
    """Never fails: missing fields are empty, undecodable bytes are replaced."""
    head, _, body = data.partition(b"\n\n")
    fields: dict[bytes, bytes] = {}
    for line in head.split(b"\n"):
        key, _, value = line.partition(b" ")
        fields.setdefault(key, value)
    encoding = fields.get(b"encoding", b"utf-8").decode("ascii", "replace")
    author, authored = _signed(fields.get(b"author", b""), encoding)
    committer, committed = _signed(fields.get(b"committer", b""), encoding)
    return CommitFacts(author, committer, authored, committed, _text(body, encoding).strip())


def _signed(value: bytes, encoding: str) -> tuple[Identity, float]:
    found = _SIGNED.match(value)
    if not found:
        return Identity("", ""), 0.0
    seconds = float(found.group(3) or 0)
    identity = Identity(_text(found.group(1), encoding), _text(found.group(2), encoding))
    return identity, seconds if 0 <= seconds <= _LATEST else 0.0


def _text(data: bytes, encoding: str) -> str:
    """Decoded as UTF-8 where it is, else as the commit says, else as Latin-1, which takes anything."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        pass
    try:
        codec = codecs.lookup(encoding)
        if codec.name != "utf-8" and getattr(codec, "_is_text_encoding", True):
            return codec.decode(data, "replace")[0]
    except LookupError:
        pass
    return data.decode("latin-1")
