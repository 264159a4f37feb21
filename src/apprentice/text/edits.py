"""The value type `Edit` and the edit language: find, render, parse, apply and compare edits of text.

    before, after --hunks()--> Edits --render_place() + render_target()--> prompt and target
                                       generated text --parse_target()--> new lines --apply()--> after

An edit is always shown at a given place: the region to be rewritten stands between marks, so that a model need not
find it by quoting text (free search text fails with small models). The form is the one that merge conflicts have in
every pre-training corpus. The text BELOW the region comes first, so that what stands above it runs on into the
region and the replacement:

    # path/to/file.py, below the edit
    {below}
    # path/to/file.py
    {above}
    <<<<<<< before
    {old lines}
    =======
    {new lines}
    >>>>>>> after

The target starts with the line break in front of the new lines: a byte-pair tokenizer merges a line break with the
indentation that follows, and cutting between the two would make every indentation look changed.

What is left out: moves between files, renames, binary files. They are not edits of text at a place.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

OLD_MARK = "<<<<<<< before"
NEW_MARK = "======="
END_MARK = ">>>>>>> after"
MARKS = (OLD_MARK, NEW_MARK, END_MARK)
CONTEXT_LINES = 6
"""Lines kept on each side of an edit, so that it can be shown without its file."""

_WORD = re.compile(r"\w+|\s+|[^\w\s]")


@dataclass(frozen=True, slots=True)
class Edit:
    """Lines [start_line, start_line + len(old)) of `path` became `new`. Lines carry no line break."""

    path: str
    start_line: int
    """0-based, in the text as it stood just before THIS edit."""
    old: tuple[str, ...]
    new: tuple[str, ...]
    above: tuple[str, ...] = ()
    """Up to CONTEXT_LINES lines in front of the region."""
    below: tuple[str, ...] = ()
    """Up to CONTEXT_LINES lines behind the region."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Some text of one kind. Kinds in prompts: recent, path, below, above, mark, old; in targets: changed, copied, end."""

    text: str
    kind: str


@dataclass(frozen=True, slots=True)
class Span:
    """Characters [start, end) of a text are of one kind."""

    start: int
    end: int
    kind: str


class EditFormatError(ValueError):
    """Generated text that is not a replacement in our form."""


def split_lines(text: str) -> list[str]:
    """Lines at `\\n` only (a form feed or U+2028 inside a string literal is no line). A final line break ends the last
    line: "a\\n" has one line, "" has none."""
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    return lines


def hunks(path: str, before: str, after: str, *, merge_gap: int = 2) -> list[Edit]:
    """The edits that turn `before` into `after`, top to bottom, each at its place after the ones before it.

    Changes separated by at most `merge_gap` unchanged lines are one edit."""
    old, new = split_lines(before), split_lines(after)
    head = _common_prefix(old, new)
    tail = _common_prefix(old[head:][::-1], new[head:][::-1])
    middle_old, middle_new = old[head : len(old) - tail], new[head : len(new) - tail]
    groups: list[list[int]] = []
    for tag, *place in difflib.SequenceMatcher(None, middle_old, middle_new, autojunk=False).get_opcodes():
        if tag == "equal":
            continue
        i1, i2, j1, j2 = (at + head for at in place)
        if groups and i1 - groups[-1][1] <= merge_gap:
            groups[-1][1], groups[-1][3] = i2, j2
        else:
            groups.append([i1, i2, j1, j2])
    edits = []
    for i1, i2, j1, j2 in groups:
        edits.append(
            Edit(
                path,
                j1,
                tuple(old[i1:i2]),
                tuple(new[j1:j2]),
                tuple(new[max(0, j1 - CONTEXT_LINES) : j1]),
                tuple(old[i2 : i2 + CONTEXT_LINES]),
            )
        )
    return edits


def apply(lines: Sequence[str], edit: Edit) -> list[str]:
    """The lines after the edit. Raises: ValueError where the old lines do not stand at the place."""
    end = edit.start_line + len(edit.old)
    if tuple(lines[edit.start_line : end]) != edit.old:
        raise ValueError(f"{edit.path}: the old lines do not stand at line {edit.start_line + 1}")
    return [*lines[: edit.start_line], *edit.new, *lines[end:]]


def revert(lines: Sequence[str], edit: Edit) -> list[str]:
    """The lines before the edit. Raises: ValueError where the new lines do not stand at the place."""
    end = edit.start_line + len(edit.new)
    if tuple(lines[edit.start_line : end]) != edit.new:
        raise ValueError(f"{edit.path}: the new lines do not stand at line {edit.start_line + 1}")
    return [*lines[: edit.start_line], *edit.old, *lines[end:]]


def changed_ranges(old: str, new: str) -> list[tuple[int, int]]:
    """[start, end) ranges of characters of `new` that are not carried over from `old`.

    Words (runs of word characters, of white space, single other characters) are aligned first, so that letters
    scattered over a line are no match; inside a replaced stretch the common beginning and end are carried over.
    `changed_ranges("f(a)", "f(a, b)") == [(3, 6)]`."""
    old_words, new_words = _WORD.findall(old), _WORD.findall(new)
    old_at, new_at = _offsets(old_words), _offsets(new_words)
    ranges = []
    for tag, i1, i2, j1, j2 in difflib.SequenceMatcher(None, old_words, new_words, autojunk=False).get_opcodes():
        if tag in ("equal", "delete"):
            continue
        was, now = old[old_at[i1] : old_at[i2]], new[new_at[j1] : new_at[j2]]
        head = _common_prefix(was, now)
        tail = _common_prefix(was[head:][::-1], now[head:][::-1])
        if len(now) > head + tail:
            ranges.append((new_at[j1] + head, new_at[j2] - tail))
    return ranges


def render_place(path: str, above: Sequence[str], old: Sequence[str], below: Sequence[str]) -> list[Piece]:
    """The prompt for a replacement: ends in NEW_MARK without a line break (the target brings it)."""
    pieces = []
    if below:
        pieces += [Piece(f"# {path}, below the edit\n", "path"), Piece(_block(below), "below")]
    pieces += [Piece(f"# {path}\n", "path"), Piece(_block(above), "above"), Piece(OLD_MARK + "\n", "mark")]
    pieces += [Piece(_block(old), "old"), Piece(NEW_MARK, "mark")]
    return [piece for piece in pieces if piece.text]


def render_target(old: Sequence[str], new: Sequence[str]) -> list[Piece]:
    """The replacement with its leading line break and end mark, cut into `changed`, `copied` and `end` pieces."""
    text = "".join("\n" + line for line in new)
    pieces: list[Piece] = []
    at = 0
    for start, end in changed_ranges("".join("\n" + line for line in old), text):
        pieces += [Piece(text[at:start], "copied"), Piece(text[start:end], "changed")]
        at = end
    pieces += [Piece(text[at:], "copied"), Piece("\n" + END_MARK, "end")]
    return [piece for piece in pieces if piece.text]


def target_text(new: Sequence[str]) -> str:
    """The text of `render_target`, without asking what changed."""
    return "".join("\n" + line for line in new) + "\n" + END_MARK


def parse_target(text: str) -> list[str]:
    """New lines out of generated text, which may go on behind the end mark. Raises: EditFormatError."""
    if not text.startswith("\n"):
        raise EditFormatError("the replacement does not start on a new line")
    end = text.find("\n" + END_MARK)
    if end < 0:
        raise EditFormatError("the replacement has no end mark")
    new = text[1:end].split("\n") if end > 0 else []
    if any(line in MARKS for line in new):
        raise EditFormatError("the replacement contains a mark of the edit language")
    return new


class UntilEndMark:
    """An `on_token` of one generation that ends it once it has said END_MARK. A stop text would be cut off, and then
    nobody knew who ended it."""

    def __init__(self) -> None:
        self._tail = ""

    def __call__(self, index: int, token_id: int, text: str) -> bool:
        self._tail = (self._tail + text)[-2 * len(END_MARK) - len(text) :]
        return "\n" + END_MARK not in self._tail


def join(pieces: Iterable[Piece]) -> tuple[str, list[Span]]:
    """One text and the spans that its pieces cover; neighbours of one kind are one span."""
    texts: list[str] = []
    spans: list[Span] = []
    at = 0
    for piece in pieces:
        end = at + len(piece.text)
        if spans and spans[-1].kind == piece.kind:
            spans[-1] = Span(spans[-1].start, end, piece.kind)
        elif end > at:
            spans.append(Span(at, end, piece.kind))
        texts.append(piece.text)
        at = end
    return "".join(texts), spans


def contains_mark(lines: Iterable[str]) -> bool:
    """Whether a line would be taken for a mark of the edit language: such text cannot be shown in it."""
    return any(line in MARKS for line in lines)


def _block(lines: Sequence[str]) -> str:
    return "".join(line + "\n" for line in lines)


def _offsets(words: Sequence[str]) -> list[int]:
    at = [0]
    for word in words:
        at.append(at[-1] + len(word))
    return at


def _common_prefix(a: Sequence[str], b: Sequence[str]) -> int:
    length = min(len(a), len(b))
    return next((i for i in range(length) if a[i] != b[i]), length)
