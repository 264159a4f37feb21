"""Where the words of a suggestion have been seen before.

    new text's tokens --longest match that ends at each token--> stretches --longest first, no overlap--> Resemblances

A stretch is a run of tokens that also stands, word for word, somewhere in the memory. It is no proof that the model
took it from there: weights know things too. The report is about likeness, and says where to look.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from apprentice.core.protocols import Tokenizer
from apprentice.memory.index import View
from apprentice.memory.mixture import Source

MIN_TOKENS = 4
"""Shorter stretches are found everywhere and say nothing."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a document comes from."""

    path: str
    first_line: int
    """0-based, of the document in its file, at the time of the edit where it is one."""
    provenance: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Resemblance:
    """A stretch of a suggestion that was found elsewhere."""

    path: str
    line: int
    """1-based: where the stretch begins; for an edit, as the file stood after it."""
    commit: str | None
    """Of the edit that wrote it; None for a file as it stands."""
    text: str
    length: int
    """Tokens."""


@dataclass(frozen=True, slots=True)
class _Stretch:
    end: int
    """Behind its last token, in the new text."""
    length: int
    """Tokens of the new text that it covers."""
    source: int
    document: int
    position: int
    """Behind its last token, in the document."""


def resemblances(
    tokenizer: Tokenizer, places: Sequence[tuple[Source, Mapping[int, Origin]]], context: Sequence[int],
    new: Sequence[int], limit: int,
) -> list[Resemblance]:  # fmt: skip
    """`places`: where to look and what each document there is; `context` stands in front of `new`."""
    found: list[_Stretch] = []
    for number, (source, _) in enumerate(places):
        found += _stretches(source, number, [*context, *new], len(new))
    covered: set[int] = set()
    shown: dict[tuple[str, int], Resemblance] = {}
    for stretch in sorted(found, key=lambda stretch: (-stretch.length, stretch.source)):
        tokens = range(stretch.end - stretch.length, stretch.end)
        if stretch.length < MIN_TOKENS or 2 * len(covered.intersection(tokens)) > stretch.length:
            continue
        source, origins = places[stretch.source]
        resemblance = _describe(tokenizer, source.view, origins, stretch)
        if resemblance is not None and (resemblance.path, resemblance.line) not in shown:
            covered.update(tokens)
            shown[resemblance.path, resemblance.line] = resemblance
        if len(shown) == limit:
            break
    return list(shown.values())


def _stretches(source: Source, number: int, text: Sequence[int], num_new: int) -> list[_Stretch]:
    """The longest match that ends at each new token, unless the next one goes on with it."""
    found: list[_Stretch] = []
    first = len(text) - num_new
    for end in range(first + 1, len(text) + 1):
        matches = source.view.nearest(text[:end], 1, without_group=source.without_group)
        if not len(matches):
            continue
        document, position = int(matches.documents[0]), int(matches.positions[0])
        known = source.view.following(document, 0, position)
        length = int(matches.lengths[0])
        while length < min(end, position) and text[end - length - 1] == known[position - length - 1]:
            length += 1
        stretch = _Stretch(end - first, min(length, end - first), number, document, position)
        if found and found[-1].end == stretch.end - 1 and found[-1].length < stretch.length:
            found.pop()
        found.append(stretch)
    return found


def _describe(tokenizer: Tokenizer, view: View, origins: Mapping[int, Origin], stretch: _Stretch) -> Resemblance | None:
    origin = origins.get(stretch.document)
    if origin is None:
        return None
    before = tokenizer.decode(view.following(stretch.document, 0, stretch.position - stretch.length))
    text = tokenizer.decode(view.following(stretch.document, stretch.position - stretch.length, stretch.length))
    if not text.strip():
        return None
    # Documents begin with a line break, so the breaks up to the stretch's first character count its line from 1.
    blank = text[: len(text) - len(text.lstrip())]
    line = origin.first_line + before.count("\n") + blank.count("\n")
    commit = origin.provenance.get("commit")
    known = commit if isinstance(commit, str) else None
    return Resemblance(origin.path, max(line, 1), known, text.strip("\n"), stretch.length)
