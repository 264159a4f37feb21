"""Takes secrets and persons out of text before it is written anywhere.

    text --redact()--> text with `<secret:github-token>`, `<email>`, `<person>`, ... and counts by kind
    folder --rescan()--> what is still found in its files

Three searchers look at the same bytes: Kingfisher (488 vendors' rules, in process, never its validators, which use the
network), our own rules (`text.secret_rules`), and known persons (`text.people`). What a text says in disguise is
searched as well: escapes of strings, URLs, HTML and mails, base64 and hexadecimal in up to three layers, what gzip packed,
strings split over lines or added on one. Colours of a terminal and numbers of lines are looked through.

`redact` is a pure function of the text: no numbers, no keys. So a repeated or resumed reading of a history gives the
same texts, an edit elsewhere in a file never changes a placeholder, and a placeholder tells nothing about what it
replaced. A change of one secret for another is no change any more. Line breaks inside a secret stay, so places in a
file keep their line numbers.

Not promised: a password that looks like a word, or one behind a name that tells nothing. `benchmarks/run redaction` measures
it with a planted corpus beside other scanners; the guide to privacy has the table.
"""

from __future__ import annotations

import functools
import os
import re
import threading
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from apprentice.core import files
from apprentice.core.errors import MissingPieceError, StorageError
from apprentice.text import secret_views
from apprentice.text.people import Known, People, is_made_up
from apprentice.text.secret_rules import MIN_URL_PASSWORD, Hit, Rules, decoded_views
from apprentice.text.secret_values import is_documented, is_placeholder
from apprentice.text.secret_views import Room

MAX_LAYERS = 3
"""Encodings inside encodings that are followed."""
MAX_COATS = 3
"""Numbers and colours that are taken off, one behind the other: each column of a table of numbers looks like one."""
_PLACEHOLDER = re.compile(rb"<(?:secret:[a-z0-9.-]{1,60}|email|person|phone|user|host|home)>")
_PERSONAL = frozenset({"email", "person", "phone", "user", "host", "home"})
_GENERIC = frozenset({"token", "password", "secret", "key", "authorization"})
_KIND = re.compile(r"^(?:betterleaks|kingfisher|veles\.secrets|custom)[./]|\.\d+$")


@dataclass(frozen=True, kw_only=True, slots=True)
class RedactionPolicy:
    """What is taken out."""

    known: Known = Known()
    persons: bool = True
    """Addresses, names of authors, user names in paths."""
    vendor_rules: bool = True
    """Kingfisher's rules besides our own. Off only in tests of ours."""


class Redactor:
    """Implements `core.protocols.SecretScanner`; safe to share between threads."""

    def __init__(self, policy: RedactionPolicy = RedactionPolicy()) -> None:
        """Raises: MissingPieceError where Kingfisher is not installed."""
        self._rules = _rules()
        self._people = People(policy.known) if policy.persons else None
        self._kingfisher = _Kingfisher.shared() if policy.vendor_rules else None

    def redact(self, text: str) -> tuple[str, dict[str, int]]:
        try:
            data = text.encode()
        except UnicodeEncodeError:
            # Half characters, as of a file name in another encoding, cannot be written.
            data = text.encode("utf-8", "replace")
            text = data.decode()
        hits = merged(self.find(data))
        if not hits:
            return text, {}
        parts: list[bytes] = []
        at = 0
        for hit in hits:
            parts += [data[at : hit.start], _placeholder(hit.kind), b"\n" * data.count(b"\n", hit.start, hit.end)]
            at = hit.end
        parts.append(data[at:])
        return b"".join(parts).decode(), dict(Counter(hit.kind for hit in hits))

    def find(self, data: bytes) -> list[Hit]:
        """Everything that must not be written, overlaps included."""
        if b"<" in data:
            data = _PLACEHOLDER.sub(_mask, data)
        return self._layers(data, MAX_LAYERS, MAX_COATS, Room.of(len(data)))

    def _layers(self, data: bytes, layers: int, coats: int, room: Room) -> list[Hit]:
        view = secret_views.undressed(data) if coats else None
        if view is not None:
            return [
                Hit(*place, hit.kind)
                for hit in self._layers(view.data, layers, coats - 1, room)
                for place in _by_lines(data, view.to_source(hit.start, hit.end))
                if not data[slice(*place)].isspace()
            ]
        tokens = self._rules.tokens(data)
        hits = self._direct(data, tokens)
        if not layers:
            return hits
        for view in (*secret_views.rewritten(data), *decoded_views(data, tokens, room)):
            hits += [
                Hit(*place, hit.kind)
                for hit in self._layers(view.data, layers - 1, coats, room)
                for place in view.to_source(hit.start, hit.end)
                if hit.kind != "email" or not is_made_up(data[slice(*place)], view.data[hit.start : hit.end])
            ]
        return hits

    def _direct(self, data: bytes, tokens: list[tuple[int, int]]) -> list[Hit]:
        hits = self._rules.find(data) + self._rules.judge_tokens(data, tokens)
        if self._kingfisher is not None:
            hits += self._kingfisher.find(data)
        hits = [hit for hit in hits if not is_documented(data[hit.start : hit.end])]
        if self._people is not None:
            hits += [Hit(*found) for found in self._people.find(data)]
        return hits


@dataclass(frozen=True, slots=True)
class Finding:
    """A secret that stands in a written file. Never holds the secret itself."""

    path: Path
    line: int
    """1-based; for tables and compressed files the number of the row or line inside."""
    kind: str


def rescan(folder: Path, redactor: Redactor | None = None, *, known: Collection[str] = ()) -> list[Finding]:
    """Look through everything that was written under `folder`: text, JSON lines, Parquet, compressed or not. `known`:
    files, by their path in the folder, that were looked through before."""
    from apprentice.text import rescanning

    scanner = redactor or Redactor()
    findings = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()):
        if path.relative_to(folder).as_posix() in known:
            continue
        for piece in rescanning.texts_of(path):
            data = piece.text.encode("utf-8", "surrogatepass")
            for hit in merged(scanner.find(data)):
                further = 0 if piece.is_row else data.count(b"\n", 0, hit.start)
                findings.append(Finding(path, piece.line + further, hit.kind))
    return findings


class _Kingfisher:
    """Kingfisher's scanner, built once a process (0.3 s with its cache of compiled rules, 3 s without)."""

    def __init__(self) -> None:
        try:
            from kingfisher_sdk import DetectionScanner
            from kingfisher_sdk import Rules as KingfisherRules
        except ImportError as error:
            raise MissingPieceError(
                "the scanner for secrets is not installed", hint="pip install kingfisher-secret-scanner"
            ) from error
        rules = KingfisherRules(cache_dir=_cache_folder())
        # Marks such as `kingfisher:ignore` in a text must not hide anything from us.
        self._scanner = DetectionScanner(rules, inline_ignores=False, markup_context=False, base64=False)

    @classmethod
    def shared(cls) -> _Kingfisher:
        with _LOCK:
            return _shared_kingfisher()

    def find(self, data: bytes) -> Iterator[Hit]:
        for finding in self._scanner.scan(data):
            if not finding.visible:
                continue
            start, end = finding.location["start_offset"], finding.location["end_offset"]
            secret = finding.secret.encode("utf-8", "surrogatepass")
            at = data.find(secret, start, end) if secret else -1
            kind = _KIND.sub("", _KIND.sub("", finding.rule_id)).lower()
            if kind == "generic-credential-uri":
                kind = "password-in-url"
                if len(secret) < MIN_URL_PASSWORD or is_placeholder(secret):
                    continue
            yield Hit(at, at + len(secret), kind) if at >= 0 else Hit(start, end, kind)


_LOCK = threading.Lock()


@functools.cache
def _shared_kingfisher() -> _Kingfisher:
    return _Kingfisher()


@functools.cache
def _rules() -> Rules:
    return Rules()


def _cache_folder() -> str | None:
    """None leaves the choice to Kingfisher (`KF_RULE_CACHE_DIR`, or no cache where the home folder is read-only)."""
    if os.environ.get("KF_RULE_CACHE_DIR"):
        return None
    folder = platformdirs.user_cache_path("apprentice") / "kingfisher"
    try:
        files.make_folder(folder)
        folder.chmod(0o700)
    except (StorageError, OSError):
        return None
    return str(folder)


def _placeholder(kind: str) -> bytes:
    return (f"<{kind}>" if kind in _PERSONAL else f"<secret:{kind}>").encode()


def _rank(kind: str) -> int:
    return 0 if kind in _PERSONAL else 1 if kind in _GENERIC else 2


def merged(hits: list[Hit]) -> list[Hit]:
    """Without overlaps, in order, named by the most telling rule."""
    merged: list[Hit] = []
    for hit in sorted(set(hits)):
        if hit.start >= hit.end:
            continue
        if merged and hit.start < merged[-1].end:
            last = merged[-1]
            kind = hit.kind if _rank(hit.kind) > _rank(last.kind) else last.kind
            merged[-1] = Hit(last.start, max(last.end, hit.end), kind)
        else:
            merged.append(hit)
    return merged


def _by_lines(data: bytes, places: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Places on one line as one: between them are colours only."""
    joined: list[tuple[int, int]] = []
    for low, high in places:
        if joined and data.find(b"\n", joined[-1][0], high) < 0:
            joined[-1] = (joined[-1][0], high)
        else:
            joined.append((low, high))
    return joined


def _mask(placeholder: re.Match[bytes]) -> bytes:
    """No name in a placeholder must be taken for a name in front of a value."""
    return b"<" + b"?" * (len(placeholder[0]) - 2) + b">"
