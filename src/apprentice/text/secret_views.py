"""The disguises of a secret: other readings of a text, each of which knows where its bytes stand in the source.

    `\\u0041`, `\\n`, `\\"` of JSON and source code --> unescaped
    `%41` of URLs                                 --> unescaped
    `"QUtJQQ..."` base64, hexadecimal             --> decoded, where that gives text
    `"AKIA" \\n "IOSF..."`, wrapped lines          --> joined
    `"AKIA" + "IOSF..."`                          --> joined
    `=3D`, `=\\n` of patches that were mailed      --> unescaped
    `H4sI...` base64 of gzip, of zlib             --> unpacked; what is found in it stands for the whole

Only the stretches that have a disguise are read again, with the lines they stand in, so ordinary code costs little. Colours
of a terminal and the numbers in front of the lines of a listing are no disguise but dress: `undressed` texts are read in
place of dressed ones.
"""

from __future__ import annotations

import base64
import binascii
import bisect
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

MAX_ESCAPED_LINE = 1 << 20
MAX_UNPACKED_BYTES = 1 << 20
"""Of what is compressed: the rest is not looked at."""
_UNPACKED_OF_TEXT = 8
"""How many times the length of a text may come out of all that is packed in it, besides."""
_PACKED = (b"\x1f\x8b\x08", b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")
"""How gzip and zlib begin."""
_UNPRINTABLE = bytes(byte for byte in range(256) if not (32 <= byte < 127 or byte in b"\t\n\r"))
_TO_STANDARD = bytes.maketrans(b"-_", b"+/")
_ESCAPE = re.compile(rb"\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|([0-7]{3})|(\r?\n[ \t]*)|(.))", re.DOTALL)
_NAMED_ESCAPES = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"b": b"\b", b"f": b"\f", b"0": b"\0"}
_PERCENT = re.compile(rb"%([0-9a-fA-F]{2})")
_ENTITY = re.compile(rb"&(?:#(\d{1,3})|#[xX]([0-9a-fA-F]{2})|(quot|amp|lt|gt|apos));")
_DRESS = re.compile(rb"^(?:\x1b\[[0-9;]{0,16}m)?[a-z][\w.]{0,30}-[0-9]{1,3} {1,20}\| |\x1b\[[0-9;?]{0,32}([A-Za-z])|^ {0,8}[0-9]{1,7}(?:\xe2\x86\x92|\t)", re.MULTILINE)
_OF_SERVICES = re.compile(rb"[a-z][\w.]{0,30}-[0-9]{1,3} {1,20}\| ")
"""In front of what several containers say."""
_NUMBERED = re.compile(rb" {0,8}[0-9]{1,7}(?:\xe2\x86\x92|\t)")
_ARROW = b"\xe2\x86\x92"
_MAILED = re.compile(rb"=(?:([0-9A-F]{2})|[ \t]*\r?\n)")
_SOFT_BREAK = re.compile(rb"=\n(?<=[^\n]{60}=\n)(?=[^\n=])")
_BETWEEN = (
    rb"(?:[ \t]{1,8}|[ \t]{0,8}(?:\+|\.|&|\.\.)[ \t]{0,8}"
    rb"|[ \t]{0,8}(?:\+|\\|\.|&)?[ \t]{0,8}\r?\n[+>|-]?[ \t]{0,80}(?:[+.&][ \t]{0,8})?)[rbfuRBFU]?"
)
_ADDED = {quote: re.compile(quote + rb"(?<=[\w+/=:@.~-]" + quote + rb")" + _BETWEEN + quote + rb"(?=[\w+/=:@.~-])") for quote in (b'"', b"'")}
"""Between two halves of a string, on one line or on two; of prose that goes on there is a blank at one side."""
_Meaning = Callable[[re.Match[bytes]], bytes]
_ENTITIES = {b"quot": b'"', b"amp": b"&", b"lt": b"<", b"gt": b">", b"apos": b"'"}
JOIN = re.compile(
    rb"(?:\x1b\[[0-9;]*+m)*+\\*[\"'`]?,?(?:\\[nr])*[\"'`]?[ \t]*+(?:\+|\\|\.|&|\.\.)?[ \t]*+\\?\r?\n"
    rb"(?:[ \t]*+(?:[+\-> |#*;%!]|//|\"\"\"){0,3})?[ \t]*+(?:\+|\.|&)?[ \t]*+(?:[rbfuRBFU]{0,2}\\*[\"'`])?(?:\x1b\[[0-9;]*+m)*+"
)
"""What may stand between the halves of a string that goes on in the next line: quotes, an operator, a backslash, the
marks of a diff, a quotation or a comment."""


@dataclass(frozen=True, slots=True)
class View:
    """Bytes read out of a source. Piece i covers [starts[i], starts[i + 1]) of `data` and stands at
    [sources[i], ends[i]) of the source; `exact[i]` where they are the same bytes."""

    data: bytes
    starts: list[int]
    sources: list[int]
    ends: list[int]
    exact: list[bool]

    def to_source(self, start: int, end: int) -> list[tuple[int, int]]:
        """The ranges of the source that [start, end) was read from, neighbours joined."""
        ranges: list[tuple[int, int]] = []
        index = bisect.bisect_right(self.starts, start) - 1
        while index < len(self.starts) and self.starts[index] < end:
            low, high = self.sources[index], self.ends[index]
            if self.exact[index]:
                low += max(0, start - self.starts[index])
                high = min(high, self.sources[index] + end - self.starts[index])
            if low < high:
                if ranges and ranges[-1][1] == low:
                    ranges[-1] = (ranges[-1][0], high)
                else:
                    ranges.append((low, high))
            index += 1
        return ranges

    def is_disguised(self, start: int, end: int) -> bool:
        """Whether [start, end) does not stand in the source as it is."""
        first = bisect.bisect_right(self.starts, start) - 1
        last = bisect.bisect_left(self.starts, end) - 1
        return first != last or not self.exact[first]


@dataclass(slots=True)
class Room:
    """For what may still be unpacked out of one text, layer by layer: a kilobyte can say a megabyte, which says a thousand more."""

    left: int

    @classmethod
    def of(cls, size: int) -> Room:
        return cls(MAX_UNPACKED_BYTES + _UNPACKED_OF_TEXT * size)


class _Builder:
    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._view = View(b"", [], [], [], [])
        self._length = 0

    def add(self, part: bytes, source: int, end: int, *, exact: bool = False) -> None:
        if part:
            self._parts.append(part)
            view = self._view
            view.starts.append(self._length)
            view.sources.append(source)
            view.ends.append(end)
            view.exact.append(exact)
            self._length += len(part)

    def copy(self, data: bytes, start: int, end: int) -> None:
        self.add(data[start:end], start, end, exact=True)

    def build(self) -> View:
        view = self._view
        return View(b"".join(self._parts), view.starts, view.sources, view.ends, view.exact)


def undressed(data: bytes) -> View | None:
    """All of it without colours of a terminal and without the numbers of a listing; None where it has neither."""
    if b"\x1b" not in data and _ARROW not in data and not _NUMBERED.match(data) and not _OF_SERVICES.match(data):
        return None
    builder = _Builder()
    at = 0
    for match in _DRESS.finditer(data):
        builder.copy(data, at, match.start())
        # Where the cursor moves, something ends.
        if match[1] not in (None, b"m", b"K"):
            builder.add(b" ", match.start(), match.end())
        at = match.end()
    if not at:
        return None
    builder.copy(data, at, len(data))
    return builder.build()


def rewritten(data: bytes) -> Iterator[View]:
    """The lines that have escapes of strings, of URLs, of HTML, or strings in halves, read without them; a mail as a whole."""
    for sign, pattern, meaning in _REWRITES:
        view = _replaced(data, sign, pattern, meaning)
        if view is not None:
            yield view
    if _is_mail(data):
        builder, at = _Builder(), 0
        for match in _MAILED.finditer(data):
            builder.copy(data, at, match.start())
            builder.add(bytes([int(match[1], 16)]) if match[1] else b"", match.start(), match.end())
            at = match.end()
        builder.copy(data, at, len(data))
        yield builder.build()


def _is_mail(data: bytes) -> bool:
    """Whether there is quoted-printable in it."""
    if b"=3D" in data:
        return True
    return b"=\n" in data and (b"quoted-printable" in data or any(_is_soft_break(data, match.start()) for match in _SOFT_BREAK.finditer(data)))


def _is_soft_break(data: bytes, end: int) -> bool:
    """Mail breaks its lines at 76 bytes; lines of base64 may end in `=`, too, but have no blanks."""
    start = data.rfind(b"\n", 0, end) + 1
    return 68 <= end - start <= 76 and b" " in data[start:end]


def _replaced(data: bytes, sign: bytes, pattern: re.Pattern[bytes], meaning: _Meaning) -> View | None:
    if sign not in data:
        return None
    builder = _Builder()
    at = line_end = -1
    for match in pattern.finditer(data):
        start = match.start()
        if start >= line_end:
            if at >= 0:
                builder.copy(data, at, line_end)
                builder.add(b"\n", line_end, line_end)
            line_start = max(data.rfind(b"\n", max(0, start - MAX_ESCAPED_LINE), start) + 1, line_end, 0)
            at = line_start
        builder.copy(data, at, start)
        builder.add(meaning(match), start, match.end())
        at = match.end()
        if at > line_end:
            found = data.find(b"\n", at)
            line_end = len(data) if found < 0 else found
    if at < 0:
        return None
    builder.copy(data, at, line_end)
    return builder.build()


def _escape(match: re.Match[bytes]) -> bytes:
    unicode, byte, octal, line_break, other = match.groups()
    if unicode:
        return chr(int(unicode, 16)).encode("utf-8", "surrogatepass")
    if byte or octal:
        return bytes([int(byte, 16) if byte else int(octal, 8) & 255])
    if line_break:
        return b""
    return _NAMED_ESCAPES.get(other, other)


def _entity(match: re.Match[bytes]) -> bytes:
    if match[3]:
        return _ENTITIES[match[3]]
    return bytes([(int(match[1]) if match[1] else int(match[2], 16)) & 255])


def _nothing(match: re.Match[bytes]) -> bytes:
    return b""


_REWRITES: tuple[tuple[bytes, re.Pattern[bytes], _Meaning], ...] = (
    (b"\\", _ESCAPE, _escape),
    (b"%", _PERCENT, lambda match: bytes([int(match[1], 16)])),
    (b"&", _ENTITY, _entity),
    *((quote, pattern, _nothing) for quote, pattern in _ADDED.items()),
)


def joined(data: bytes, start: int, max_lines: int = 8, max_bytes: int = 4096) -> View | None:
    """The text from `start` on with the line breaks inside strings taken out; None where the line does not go on."""
    builder = _Builder()
    at, limit, lines = start, min(len(data), start + max_bytes), 0
    while lines < max_lines:
        line_end = data.find(b"\n", at, limit)
        if line_end < 0:
            break
        # The gap begins with the quote, operator or backslash in front of the line break.
        gap = _gap_start(data, at, line_end)
        match = JOIN.match(data, gap)
        if match is None or match.end() <= line_end:
            break
        builder.copy(data, at, gap)
        at = match.end()
        lines += 1
    if not lines:
        return None
    end = data.find(b"\n", at, limit)
    builder.copy(data, at, end if end >= 0 else limit)
    return builder.build()


def _gap_start(data: bytes, start: int, line_end: int) -> int:
    at = line_end
    while at > start and data[at - 1] in b" \t\r+\\.&\"'`,":
        at -= 1
    if at - 1 > start and data[at - 1 : at] in (b"n", b"r") and data[at - 2 : at - 1] == b"\\" and at < line_end:
        at -= 2
    return at


def base64_views(data: bytes, blocks: list[tuple[int, int]], room: Room) -> Iterator[View]:
    """Readings as text of base64 that stands in these pieces (one behind the other, line breaks between)."""
    text = b"".join(data[start:end] for start, end in blocks).rstrip(b"=").translate(_TO_STANDARD)
    places = _positions(blocks)
    for shift in range(4):
        usable = (len(text) - shift) // 4 * 4
        rest = text[shift + usable :]
        if usable < 12:
            return
        try:
            decoded = base64.b64decode(text[shift : shift + usable] + _padded(rest), validate=True)
        except (binascii.Error, ValueError):
            continue
        if _is_text(decoded):
            yield _coded_view(decoded, places, shift, digits=4, size=3)
            return
        if not shift and decoded.startswith(_PACKED):
            plain, length = _unpacked(decoded, room)
            if plain:
                # Nobody can cut a piece out of it: what is found inside stands for all of it.
                last = min((length + 2) // 3 * 4, len(places)) - 1
                yield View(plain, [0], [blocks[0][0]], [places[last] + 1], [False])
                return


def hex_views(data: bytes, blocks: list[tuple[int, int]]) -> Iterator[View]:
    """Readings as text of hexadecimal digits that stand in these pieces."""
    text = b"".join(data[start:end] for start, end in blocks)
    places = _positions(blocks)
    for shift in range(2):
        usable = (len(text) - shift) // 2 * 2
        try:
            decoded = bytes.fromhex(text[shift : shift + usable].decode("ascii"))
        except ValueError:
            # A short line behind the digits may be a word.
            continue
        if _is_text(decoded):
            yield _coded_view(decoded, places, shift, digits=2, size=1)
            return


def _unpacked(packed: bytes, room: Room) -> tuple[bytes, int]:
    """The text in it, as far as it goes, and how long it is packed; empty where there is none."""
    machine = zlib.decompressobj(wbits=47)
    if room.left <= 0:
        return b"", 0
    try:
        plain = machine.decompress(packed, min(MAX_UNPACKED_BYTES, room.left))
    except zlib.error:
        return b"", 0
    room.left -= len(plain)
    return plain if _is_text(plain) else b"", len(packed) - len(machine.unused_data)


def _padded(rest: bytes) -> bytes:
    return b"" if len(rest) < 2 else rest + b"=" * (4 - len(rest))


def _is_text(decoded: bytes) -> bool:
    return len(decoded) >= 8 and len(decoded.translate(None, _UNPRINTABLE)) >= 0.97 * len(decoded)


def _positions(blocks: list[tuple[int, int]]) -> list[int]:
    return [at for start, end in blocks for at in range(start, end)]


def _coded_view(decoded: bytes, places: list[int], shift: int, *, digits: int, size: int) -> View:
    builder = _Builder()
    for index in range(0, len(decoded), size):
        first = shift + index // size * digits
        last = min(first + digits, len(places)) - 1
        builder.add(decoded[index : index + size], places[first], places[last] + 1)
    return builder.build()
