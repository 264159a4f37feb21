"""Pages of one folder that link to each other, for browsing what is too much for one report. They run no script either.

    LinkedPage(title) --> .links .rows .shades .changes and all of html.Page --> .save(folder / name)

An address is the name of a page beside it, never a text from outside. Texts are cut to what a browser shows at ease, tables have at
most MAX_ROWS rows (`paged` spreads longer ones), comparisons take a time that a hostile text cannot stretch.
"""

from __future__ import annotations

import difflib
import html
import math
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from apprentice.core.html import CONTENT_POLICY, Page
from apprentice.core.text_safety import shorten, terminal_safe

MAX_ROWS = 200
MAX_CHARS = 20_000
"""Of one text."""
MAX_CELL = 200
_MAX_PAIRS = 100_000
"""Lines times lines of a comparison."""
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_ADDRESS = re.compile(r"[a-z0-9][a-z0-9-]{0,80}\.html")
_BITS_FULL = 12.0
"""A token of this many bits has the full shade."""


class Link(NamedTuple):
    """A cell that leads to a page."""

    text: str
    address: str


Cell = Link | str


class LinkedPage(Page):
    """A page among others; each method adds a part and returns the page."""

    def __init__(self, title: str) -> None:
        super().__init__(shorten(title, MAX_CELL))

    def links(self, links: Sequence[Link]) -> LinkedPage:
        """One beside the other."""
        self._add("<p>" + " &nbsp; ".join(_anchor(link) for link in links) + "</p>")
        return self

    def rows(self, rows: Sequence[Sequence[Cell]], header: Sequence[str]) -> LinkedPage:
        """A table of short cells."""
        assert len(rows) <= MAX_ROWS
        head = "".join(f"<th>{_cell(name)}</th>" for name in header)
        body = "".join("<tr>" + "".join(f"<td>{_cell(cell)}</td>" for cell in row) + "</tr>" for row in rows)
        self._add(f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>')
        return self

    def text(self, text: str, *, end: bool = False) -> LinkedPage:
        """A piece of code or prose; `end`: of a long one the end, not the beginning."""
        self.code(_shown(text, end=end))
        return self

    def changes(self, old: str, new: str) -> LinkedPage:
        """What became of a text, line by line."""
        self._add("<pre>" + "\n".join(_changes(_shown(old).split("\n"), _shown(new).split("\n"))) + "</pre>")
        return self

    def shades(self, pieces: Sequence[tuple[str, float]]) -> LinkedPage:
        """A text in pieces, each as dark as it was unlikely. (piece, natural log of its probability)."""
        spans: list[str] = []
        left = MAX_CHARS
        for text, log_prob in pieces:
            if left <= 0:
                spans.append("...")
                break
            bits = max(0.0, -log_prob / math.log(2)) if math.isfinite(log_prob) else math.inf
            alpha = min(bits / _BITS_FULL, 1.0) * 0.6
            spans.append(f'<span style="background:rgba(207,34,46,{alpha:.2f})" title="{bits:.2f} bits">{_text(text[:left])}</span>')
            left -= len(text)
        self._add("<pre>" + "".join(spans) + "</pre>")
        return self

    def render(self) -> str:
        """The whole page."""
        # Its own policy stands in front of everything that is shown, so the first is the one.
        return super().render().replace(CONTENT_POLICY, _POLICY, 1)


def paged(name: str, title: str, intro: str, rows: Sequence[Sequence[Cell]], header: Sequence[str], home: Sequence[Link]) -> Iterator[tuple[str, LinkedPage]]:
    """A table on as many pages as it needs: (name of the page, page). The first is `NAME.html`."""
    count = max(1, math.ceil(len(rows) / MAX_ROWS))
    for number in range(count):
        page = LinkedPage(title).links(home)
        page.paragraph(intro)
        if count > 1:
            around = [("first", 0), ("previous", number - 1), ("next", number + 1), ("last", count - 1)]
            page.paragraph(f"page {number + 1} of {count}, {len(rows):,} rows")
            page.links([Link(word, address(name, at)) for word, at in around if 0 <= at < count and at != number])
        page.rows(rows[number * MAX_ROWS : (number + 1) * MAX_ROWS], header)
        yield address(name, number), page


def address(name: str, number: int = 0) -> str:
    """Of a page of a table."""
    return f"{name}.html" if number == 0 else f"{name}-{number + 1}.html"


def _anchor(link: Link) -> str:
    if not _ADDRESS.fullmatch(link.address):
        raise ValueError(f"{link.address!r} is no page beside this one")
    return f'<a href="{link.address}">{_text(shorten(link.text, MAX_CELL))}</a>'


def _cell(cell: Cell) -> str:
    return _anchor(cell) if isinstance(cell, Link) else _text(shorten(cell, MAX_CELL))


def _shown(text: str, *, end: bool = False) -> str:
    left_out = len(text) - MAX_CHARS
    if left_out <= 0:
        return text
    said = f"({left_out:,} more characters)"
    return f"{said}\n{text[-MAX_CHARS:]}" if end else f"{text[:MAX_CHARS]}\n{said}"


def _changes(old: Sequence[str], new: Sequence[str]) -> Iterator[str]:
    if len(old) * len(new) > _MAX_PAIRS:
        steps = [("replace", 0, len(old), 0, len(new))]
    else:
        steps = difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
    for tag, i1, i2, j1, j2 in steps:
        if tag == "equal":
            yield from (_text("  " + line) for line in old[i1:i2])
        else:
            yield from (f"<del>{_text('- ' + line)}</del>" for line in old[i1:i2])
            yield from (f"<ins>{_text('+ ' + line)}</ins>" for line in new[j1:j2])


def _text(text: str) -> str:
    return html.escape(terminal_safe(text), quote=True)
