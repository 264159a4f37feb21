"""The editor's documents as it last told them: lines, and places in the units that were agreed on.

    didOpen, didChange --Document.plan()--> Change (smallest, in characters) --Document.apply()--> lines

Lines end at `\\n`, `\\r\\n` or `\\r`, as the protocol says, and carry no line break; what ends them is the editor's to remember.
Whatever the editor sends is made to fit: a place behind the end of a line is its end, a range that is the wrong way round is
turned, half a character becomes U+FFFD. A change that replaces much by nearly the same is cut down to what differs, so that
others see what was typed and not how the editor said it.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

MAX_CHARS = 2 << 20
"""A larger document is passed over."""
MAX_LINE_CHARS = 2_000
"""So is a place on a longer line."""
UNNAMED = "untitled"

_BREAK = re.compile("\r\n|\r|\n")
_HALF_CHARACTER = re.compile("[\ud800-\udfff]")


class Point(NamedTuple):
    """A place: line and characters in front of it on that line, both from 0."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Change:
    """What stood between two places became `text`."""

    start: Point
    end: Point
    """In the lines before."""
    text: str
    old: str

    @property
    def new_end(self) -> Point:
        """Where `text` ends, in the lines after."""
        return _after(self.start, self.text)


class Document:
    """One open document."""

    def __init__(self, uri: str, text: str, *, version: int | None = None, name: str = UNNAMED, path: Path | None = None) -> None:
        """`name`: what prompts and recordings call it; `path`: where it lies, if it lies anywhere."""
        self.uri, self.version, self.name, self.path = uri, version, name, path
        self.lines = _split(text)
        """At least one; the last one is empty where the text ends in a line break."""
        self.revision = 0
        """Grows with every change."""
        self._size, self._is_binary = len(text), "\0" in text
        self._written = self._stamp()

    @property
    def is_readable(self) -> bool:
        """Not too large, and text."""
        return self._size <= MAX_CHARS and not self._is_binary

    def saved(self) -> None:
        """The file has these lines now."""
        self._written = self._stamp()

    def is_saved(self) -> bool:
        """Whether its file says what it says; a document that lies in no file has none."""
        return self.path is None or ((text := self._text_on_disk()) is not None and _split(text) == self.lines)

    def is_written_by_others(self) -> bool:
        """Whether its file is another one than when it was opened or saved."""
        return (stamp := self._stamp()) is not None and stamp != self._written

    def copy(self) -> Document:
        """The same lines, to be changed by themselves."""
        return Document(self.uri, "\n".join(self.lines), name=self.name, path=self.path)

    def _stamp(self) -> tuple[int, int] | None:
        """Time and size of the file."""
        try:
            found = self.path.stat() if self.path is not None else None
        except (OSError, ValueError):
            return None
        return None if found is None or not stat.S_ISREG(found.st_mode) else (found.st_mtime_ns, found.st_size)

    def _text_on_disk(self) -> str | None:
        if self.path is None or (stamp := self._stamp()) is None or stamp[1] > 4 * MAX_CHARS:
            return None
        try:
            return self.path.read_bytes().decode("utf-8-sig", errors="replace")
        except OSError:
            return None

    @property
    def whole_lines(self) -> list[str]:
        """As `text.edits.split_lines` has them: a line break at the end begins no line. A copy."""
        return list(whole(self.lines))

    def plan(self, text: str, start: Point | None = None, end: Point | None = None) -> Change | None:
        """The change that putting `text` between two places makes, by default in place of everything; None where it makes none."""
        lines = _split(text)
        if start is None or end is None:
            # Line by line first: most of it stays.
            head = _alike(self.lines[:-1], lines[:-1])
            tail = _alike(self.lines[head:][::-1], lines[head:][::-1])
            start, end = Point(head, 0), Point(len(self.lines) - tail, 0)
            lines = [*lines[head : len(lines) - tail], ""] if tail else lines[head:]
            if not tail:
                end = Point(len(self.lines) - 1, len(self.lines[-1]))
        start, end = min(start, end), max(start, end)
        return _smallest(start, self.between(start, end), "\n".join(lines))

    def apply(self, change: Change) -> None:
        """The lines after a change that was planned on the lines as they stand."""
        (first, start_column), (last, end_column) = change.start, change.end
        lines = change.text.split("\n")
        lines[0] = self.lines[first][:start_column] + lines[0]
        lines[-1] += self.lines[last][end_column:]
        self.lines[first : last + 1] = lines
        self._size += len(change.text) - len(change.old)
        self._is_binary = self._is_binary or "\0" in change.text
        self.revision += 1

    def between(self, start: Point, end: Point) -> str:
        """The text between two places."""
        if start.line == end.line:
            return self.lines[start.line][start.column : end.column]
        first, *middle = self.lines[start.line : end.line]
        return "\n".join([first[start.column :], *middle, self.lines[end.line][: end.column]])

    def point(self, line: int, character: int, encoding: str) -> Point:
        """A place in the editor's units, brought into the document."""
        if line >= len(self.lines):
            return Point(len(self.lines) - 1, len(self.lines[-1]))
        text = self.lines[max(line, 0)]
        return Point(max(line, 0), column(text, character, encoding))


def whole(lines: Sequence[str]) -> Sequence[str]:
    """A document's lines without the empty one behind a line break at the end."""
    return lines[:-1] if lines[-1] == "" else lines


def column(text: str, units: int, encoding: str) -> int:
    """Characters in front of a place that is given in units of `utf-8`, `utf-16` or `utf-32`; a place inside a character is
    the one in front of it."""
    if encoding == "utf-32" or text.isascii():
        return min(max(units, 0), len(text))
    for number, character in enumerate(text):
        units -= _width(character, encoding)
        if units < 0:
            return number
    return len(text)


def units(text: str, encoding: str) -> int:
    """Length of a text in units of the encoding."""
    if encoding == "utf-32" or text.isascii():
        return len(text)
    return sum(_width(character, encoding) for character in text)


def path_of(uri: str) -> Path | None:
    """The file that a URI names; None for a document that lies in no file of this machine."""
    try:
        parts = urlsplit(uri)
    except ValueError:
        return None
    path = unquote(parts.path)
    if parts.scheme != "file" or parts.netloc not in ("", "localhost") or not path.startswith("/"):
        return None
    if "\0" in path or _HALF_CHARACTER.search(path):
        return None
    return Path(path)


def name_of(path: Path | None, folders: Sequence[Path] = ()) -> str:
    """What prompts call a file: its path in its repository, as in training, else in the editor's folder, else its name."""
    if path is None:
        return UNNAMED
    root = repository_of(path) or next((folder for folder in folders if path.is_relative_to(folder)), path.parent)
    return path.relative_to(root).as_posix()


def repository_of(path: Path) -> Path | None:
    """The folder of the repository that a file lies in."""
    try:
        return next((folder for folder in path.parents if (folder / ".git").exists()), None)
    except OSError:
        return None


def _smallest(start: Point, old: str, new: str) -> Change | None:
    """Without what is alike at both ends."""
    if old == new:
        return None
    head = _alike(old, new)
    tail = _alike(old[head:][::-1], new[head:][::-1])
    start = _after(start, old[:head])
    old, new = old[head : len(old) - tail], new[head : len(new) - tail]
    return Change(start, _after(start, old), new, old)


def _after(start: Point, text: str) -> Point:
    breaks = text.count("\n")
    return Point(start.line + breaks, len(text) - (text.rfind("\n") + 1) + (0 if breaks else start.column))


def _split(text: str) -> list[str]:
    return _BREAK.split(_HALF_CHARACTER.sub("\ufffd", text))


def _alike(a: Sequence[str], b: Sequence[str]) -> int:
    length = min(len(a), len(b))
    return next((i for i in range(length) if a[i] != b[i]), length)


def _width(character: str, encoding: str) -> int:
    code = ord(character)
    if encoding == "utf-16":
        return 2 if code > 0xFFFF else 1
    return 1 if code < 0x80 else 2 if code < 0x800 else 3 if code < 0x10000 else 4
