"""Edits of several files as one answer in Markdown: search/replace blocks.

    render(blocks) --> text --parse()--> blocks --apply()--> the files afterwards

    a.py                            a path in front of the fence
    ```python
    <<<<<<< SEARCH
    lines as they stand
    =======
    lines that take their place
    >>>>>>> REPLACE
    ```

It is the form in which assistants write edits into a conversation: a place need not be given, and a client that knows
the form (Aider's `diff`) makes the edits. `text.edits` has the form for one given place, which small models find easier.

A block of no old lines makes a file, or fills an empty one. Source: Aider, "Edit formats", aider.chat/docs/more/edit-formats.html.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

SEARCH, DIVIDER, REPLACE = "<<<<<<< SEARCH", "=======", ">>>>>>> REPLACE"
_SEARCH = re.compile(r"\s*<{5,9} (?:SEARCH|ORIGINAL)>?\s*")
_DIVIDER = re.compile(r"\s*={5,9}\s*")
_REPLACE = re.compile(r"\s*>{5,9} (?:REPLACE|UPDATED)\s*")
_FENCE = re.compile(r"(?:(`{3,})|</?(source|code|pre|codeblock|sourcecode)>).*")
_TICKS = re.compile(r"`{3,}")
_LINES_TO_PATH = 3
_LANGUAGES = {".py": "python", ".js": "javascript", ".ts": "typescript", ".rs": "rust", ".md": "markdown", ".sh": "bash", ".yml": "yaml"}


@dataclass(frozen=True, slots=True)
class Block:
    """These lines of a file become those."""

    path: str
    old: tuple[str, ...]
    new: tuple[str, ...]


class BlockError(ValueError):
    """A block that does not fit the files."""


def is_writable(block: Block) -> bool:
    """Whether the form can hold it: no line of it is a mark, and its path is a line that is read as it is written."""
    marks = (_SEARCH, _DIVIDER, _REPLACE)
    is_path = bool(block.path) and "\n" not in block.path and named([block.path]) == block.path
    return is_path and not any(mark.fullmatch(line) for line in (*block.old, *block.new) for mark in marks)


def render(blocks: Iterable[Block]) -> str:
    """The answer that makes these edits. Raises: ValueError where the form cannot hold one of them."""
    parts = []
    for block in blocks:
        if not is_writable(block):
            raise ValueError(f"{block.path}: its path, or a line of the edit, is a mark of the form")
        body = "".join(line + "\n" for line in (SEARCH, *block.old, DIVIDER, *block.new, REPLACE))
        parts.append(f"{block.path}\n{fenced(body, block.path)}")
    return "\n\n".join(parts)


def fenced(body: str, path: str = "", *, language: str = "") -> str:
    """A text in a fence that it cannot end. `path` tells the language."""
    ticks = "`" * max(3, 1 + max((len(found) for found in _TICKS.findall(body)), default=0))
    suffix = PurePosixPath(path).suffix
    return f"{ticks}{language or _LANGUAGES.get(suffix, suffix[1:])}\n{body if body.endswith(chr(10)) else body + chr(10)}{ticks}"


def parse(text: str) -> Iterator[Block]:
    """The blocks of an answer, as clients read them: older marks too, and a path in or in front of the fence. A block without a path
    belongs to the file of the one before it; one that does not end is left out."""
    path, part = "", ""
    old: list[str] = []
    new: list[str] = []
    lines = text.split("\n")
    for number, line in enumerate(lines):
        if not part and _SEARCH.fullmatch(line):
            path, part = named(lines[max(0, number - _LINES_TO_PATH) : number]) or path, "old"
            old.clear()
            new.clear()
        elif part == "old" and _DIVIDER.fullmatch(line):
            part = "new"
        elif part == "new" and _REPLACE.fullmatch(line):
            part = ""
            if path:
                yield Block(path, tuple(old), tuple(new))
        elif part:
            (old if part == "old" else new).append(line)


def apply(files: Mapping[str, Sequence[str]], blocks: Iterable[Block]) -> dict[str, list[str]]:
    """The lines of all files afterwards; each block at the first place where its old lines stand. Raises: BlockError."""
    after = {path: list(lines) for path, lines in files.items()}
    for block in blocks:
        lines = after.get(block.path)
        if not block.old:
            if lines:
                raise BlockError(f"{block.path}: a block without old lines, but the file has some")
            after[block.path] = list(block.new)
            continue
        at = None if lines is None else place_of(lines, block.old)
        if lines is None or at is None:
            raise BlockError(f"{block.path}: the old lines do not stand in it" if lines is not None else f"{block.path}: there is no such file")
        lines[at : at + len(block.old)] = block.new
    return after


def place_of(lines: Sequence[str], wanted: Sequence[str], start: int = 0) -> int | None:
    """Where these lines stand first, from `start` on; None where they do not, or where there are none."""
    wanted = list(wanted)
    if not wanted:
        return None
    last = len(lines) - len(wanted)
    return next((at for at in range(start, last + 1) if lines[at] == wanted[0] and list(lines[at : at + len(wanted)]) == wanted), None)


def is_fence(line: str) -> re.Match[str] | None:
    """Whether a line opens or closes a fence: its first group are the ticks, its second the name of a tag."""
    return _FENCE.fullmatch(line)


def named(lines: Sequence[str]) -> str:
    """The path in the last of these lines that is no fence."""
    for line in reversed(lines):
        if not _FENCE.fullmatch(line.strip()):
            return line.strip().rstrip(":").lstrip("#").strip().strip("`*").replace("\\_", "_")
    return ""
