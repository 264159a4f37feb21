"""The row of a data set: a prompt plus what is known about good answers.

On disk an example is one line of JSON whose `prompt` and `completion` TRL reads unchanged; everything else is a column
beside them. `spans` cover prompt + completion without a gap, so that a trainer can weigh each kind of text, drop the
latest edits where its stream shows them anyway, or cut the windows above and below.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import msgspec

from apprentice.examples.work import Moment
from apprentice.repository.prompt import Prompt
from apprentice.text.edits import Edit, Piece, Span

NEXT_EDIT = "next_edit"
COMPLETION = "completion"


class Example(msgspec.Struct, frozen=True, kw_only=True):
    """See the top of this file."""

    id: str
    """The moment's key and the kind."""
    kind: str
    """`next_edit` or `completion`."""
    prompt: str
    target: str = msgspec.field(name="completion")
    spans: tuple[tuple[int, int, str], ...]
    """[start, end, kind] in characters of prompt + target, in order, without a gap."""
    check: dict[str, str]
    """`type` (`edit` or `line`) names the scorer in `examples/checks`."""
    edit: Edit
    """What the developer did."""
    text_id: str
    """sha256 (32 hex digits) of the file as it stands before this edit, earlier edits of the same commit in it."""
    repository: str
    commit: str
    session: str
    time: float
    author: str
    person: str = ""
    hunk: int = 0
    """0-based number of the edit within its file and commit."""
    order: int = 0
    """Number of the edit in the whole history: sorts examples by time."""

    @property
    def moment(self) -> str:
        """`Moment.key` of the edit: what a next edit and a completion of one place have in common."""
        return self.id.removesuffix("-" + self.kind)

    @property
    def prompt_spans(self) -> list[Span]:
        """Spans of the prompt."""
        return [Span(*span) for span in self.spans if span[1] <= len(self.prompt)]

    @property
    def target_spans(self) -> list[Span]:
        """Spans of the target, counted from its start."""
        shift = len(self.prompt)
        return [Span(start - shift, end - shift, kind) for start, end, kind in self.spans if start >= shift]


def from_moment(moment: Moment, kind: str, check: str, prompt: Prompt, target: Sequence[Piece]) -> Example:
    """The row of a moment: its prompt, its target cut into kinds, and where it comes from."""
    work = moment.work
    return Example(
        id=f"{moment.key}-{kind}",
        kind=kind,
        prompt=prompt.text,
        target="".join(piece.text for piece in target),
        spans=spans_of(prompt.spans, target),
        check={"type": check},
        edit=moment.edit,
        text_id=text_id(moment.lines),
        repository=work.repository,
        commit=work.commit,
        session=work.session,
        time=work.time,
        author=work.author,
        person=work.person,
        hunk=moment.hunk,
        order=moment.order,
    )


def spans_of(prompt_spans: Iterable[Span], target: Iterable[Piece]) -> tuple[tuple[int, int, str], ...]:
    """Spans over prompt + target. Pieces of the target are never merged with the prompt's last span."""
    spans = [(span.start, span.end, span.kind) for span in prompt_spans]
    at = spans[-1][1] if spans else 0
    for piece in target:
        spans.append((at, at + len(piece.text), piece.kind))
        at += len(piece.text)
    return tuple(spans)


def text_id(lines: Iterable[str]) -> str:
    """The content address of a file's text."""
    text = "\n".join([*lines, ""])
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:32]
