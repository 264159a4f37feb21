"""What becomes of suggestions: each is followed from the moment it was offered until its outcome is known.

    offered, shown --> typed along ... --> accepted --------- saved --> kept, changed, undone
                          |                   (by command)
                          +--> something else was typed there --> rejected
                          +--> left: another place, another suggestion, the end --> ignored

A developer who types what is suggested, letter by letter, still follows the suggestion; brackets that the editor closes by itself
do not disturb that. Accepted is what the editor says was accepted: typed by hand to the end it is `ignored`, for nobody can say
whether it was read. Accepted in part and left is `changed`. Editors that never say what they show are taken to show what they
get, completions and next edits apart. Whoever closes a document without saving it has judged nothing in it. A suggestion that was rejected or undone is not wanted at such lines again; neither is one of an earlier session, as far as
sessions are recorded.
"""

from __future__ import annotations

import itertools
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from apprentice.serve.lsp.documents import Change, Document, Point, column, whole
from apprentice.serve.lsp.history import AROUND_LINES, Stretch
from apprentice.text.edits import Edit

Kind = Literal["completion", "edit"]
_Rejection = tuple[tuple[str, str, tuple[str, ...], tuple[str, ...]], ...]
"""Of each place that changes: (file, the line above where none or only blank ones go, lines that go, lines that come)."""
Outcome = Literal["kept", "changed", "rejected", "ignored", "undone"]
MAX_REJECTED = 10_000
MAX_ACCEPTED = 200
"""Of one document, between two saves."""
_MAX_CLOSERS = 4
_PAIRS = {"(": ")", "[": "]", "{": "}", '"': '"', "'": "'", "`": "`"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Proposal:
    """Lines [start_line, start_line + len(old)) as they would become. In the text of these lines `inserted` takes the place of
    `replaced`, between `head` and `tail`."""

    start_line: int
    old: tuple[str, ...]
    new: tuple[str, ...]
    head: str
    replaced: str
    inserted: str
    tail: str
    item: str
    """The text that the editor is given to put in."""

    @classmethod
    def of_lines(cls, start_line: int, old: Sequence[str], new: Sequence[str]) -> Proposal:
        """Whole lines for whole lines."""
        before, after = "\n".join(old), "\n".join(new)
        shorter = min(len(before), len(after))
        head = next((i for i in range(shorter) if before[i] != after[i]), shorter)
        tail = next((i for i in range(shorter - head) if before[-1 - i] != after[-1 - i]), shorter - head)
        return cls(
            start_line=start_line, old=tuple(old), new=tuple(new), head=before[:head], replaced=before[head : len(before) - tail],
            inserted=after[head : len(after) - tail], tail=before[len(before) - tail :], item=after,
        )  # fmt: skip


@dataclass(slots=True)
class Offer:
    """A proposal that an editor was given."""

    id: str
    kind: Kind
    document: Document
    proposal: Proposal
    time: float
    stretch: Stretch
    start: Point
    end: Point
    """Its lines as they stand now."""
    text: str
    """Of these lines."""
    item: str
    is_shown: bool = False
    taken: int = 0
    """Characters of `inserted` that were accepted."""
    is_accepted: bool = False
    is_in_place: bool = False
    """What was accepted stands in the document."""
    is_cut: bool = False
    """Of its line a part was deleted since, and what comes in its place is not known yet."""
    contexts: set[tuple[str, ...]] = field(default_factory=set)
    """Lines for which it was offered, and what became of them while it was typed along."""

    def lines(self) -> str:
        return "\n".join(self.document.lines[self.start.line : self.end.line + 1])

    def typed(self) -> int | None:
        """Characters of `inserted` that stand there; None where something else does."""
        proposal = self.proposal
        if self.stands():
            return len(proposal.inserted)
        for tail in {proposal.tail, proposal.replaced + proposal.tail}:
            if self.text.startswith(proposal.head) and self.text.endswith(tail) and len(self.text) >= len(proposal.head) + len(tail):
                typed = self.text[len(proposal.head) : len(self.text) - len(tail)]
                for closers in range(min(_MAX_CLOSERS, len(typed)) + 1):
                    said = typed[: len(typed) - closers]
                    if proposal.inserted.startswith(said) and _closers(said).startswith(typed[len(said) :]):
                        return len(said)
        return None

    def stands(self) -> bool:
        """Whether it is there, wholly and unchanged."""
        if self.proposal.new:
            return self.text == "\n".join(self.proposal.new)
        # Lines that were taken out: those that stood around them stand together. Once they do, one of the two may be worked on.
        at = self.proposal.start_line - self.stretch.first_line
        above, below = self.stretch.new[max(at - 1, 0) : at], self.stretch.new[at : at + 1]
        lines, here = self.document.lines, self.gap
        found = [tuple(lines[max(here - 1, 0) : here]) == above, tuple(whole(lines)[here : here + 1]) == below]
        return all(found) or (self.is_in_place and any(found) and not self.is_undone())

    @property
    def gap(self) -> int:
        """The line in front of which lines that were taken out stood; the last lines go with the line break in front of them."""
        return self.start.line + (self.start.column > 0)

    def is_undone(self) -> bool:
        """Whether the lines are as they were."""
        old, here = self.proposal.old, self.gap
        if self.proposal.new:
            return self.text == "\n".join(old)
        # Put in again at the gap, they stand behind it or in front of it, as the editor says where.
        return any(tuple(self.document.lines[at : at + len(old)]) == old for at in {here, max(here - len(old), 0)})

    def waits(self, change: Change) -> bool:
        """Whether a next edit's line was only cut, or is being written anew as suggested: in Vim a change begins with what it deletes."""
        if self.kind == "edit" and not change.text and change.start.line == change.end.line:
            self.is_cut = True
            return True
        return self.is_cut and "\n".join(self.proposal.new).startswith(self.text)

    def follow(self, change: Change) -> None:
        """Where its lines are after a change that was made."""
        was = self.start.line
        touches = change.start <= self.end and self.start <= change.end
        self.start = _moved(self.start, change, stays=not change.text.endswith("\n"))
        self.end = max(_moved(self.end, change, stays=change.text.startswith("\n")), self.start)
        new, lines = self.proposal.new, self.document.lines
        if self.kind == "edit" and new and touches and tuple(lines[was : was + len(new)]) == new:
            # Lines that a next edit puts in above or below one that stays are its own, too.
            self.start, self.end = Point(was, 0), Point(was + len(new) - 1, len(new[-1]))
        self.text = self.lines()


def _stretch(document: Document, start_line: int, old: Sequence[str], new: Sequence[str], time: float = 0.0) -> Stretch:
    """What `new` in the place of `old` would make of the document."""
    first, behind = max(start_line - AROUND_LINES, 0), start_line + len(old)
    above, below = document.lines[first:start_line], whole(document.lines)[behind : behind + AROUND_LINES]
    return Stretch(document.uri, document.name, first, (*above, *old, *below), (*above, *new, *below), time, by_model=True)


def _rejection(edits: Sequence[Edit]) -> _Rejection:
    """As a recording has them. What is put in, or taken out, between equal lines can be told as a change of any of several places; the
    uppermost is meant, as far as the lines above are told."""
    return tuple(map(_place, edits))


def _place(edit: Edit) -> tuple[str, str, tuple[str, ...], tuple[str, ...]]:
    gone, come, before = [*edit.old], [*edit.new], [*edit.above]
    while before and bool(gone) != bool(come) and (gone or come)[-1] == before[-1]:
        moved = gone or come
        moved.insert(0, before.pop())
        moved.pop()
    is_telling = any(line.strip() for line in gone)
    return edit.path, "" if is_telling or not before else before[-1], tuple(gone), tuple(come)


class Outcomes:
    """The suggestions of a session."""

    def __init__(
        self, on_outcome: Callable[[Offer, Outcome], None] = lambda offer, outcome: None, clock: Callable[[], float] = time.time,
        rejected: Iterable[Sequence[Edit]] = (),
    ) -> None:  # fmt: skip
        """`rejected`: the edits of each suggestion that was rejected in earlier sessions, oldest first."""
        self._on_outcome, self._clock = on_outcome, clock
        self._offers: dict[str, list[Offer]] = {}
        self._rejected: OrderedDict[_Rejection, None] = OrderedDict()
        self._tells_shown: set[Kind] = set()
        self._session, self._numbers = uuid.uuid4().hex[:8], itertools.count(1)
        for edits in rejected:
            self._reject(edits)

    def is_rejected(self, document: Document, proposal: Proposal) -> bool:
        """Whether it was rejected here before."""
        return _rejection(_stretch(document, proposal.start_line, proposal.old, proposal.new).edits()) in self._rejected

    def offer(self, document: Document, kind: Kind, proposal: Proposal) -> Offer:
        """It goes to the editor. What was offered there before and is the same goes on; anything else was left."""
        for earlier in self._open(document, kind):
            if earlier.start.line == proposal.start_line and earlier.proposal.new == proposal.new:
                earlier.item = proposal.item
                earlier.contexts.add(proposal.old)
                return earlier
            self._end(earlier, "ignored")
        lines, now = document.lines, self._clock()
        stretch = _stretch(document, proposal.start_line, proposal.old, proposal.new, now)
        start, end = Point(proposal.start_line, 0), proposal.start_line + max(len(proposal.old) - 1, 0)
        offer = Offer(
            f"{self._session}-{next(self._numbers)}", kind, document, proposal, now, stretch, start, Point(end, len(lines[end])),
            "\n".join(lines[start.line : end + 1]), proposal.item, contexts={proposal.old},
        )  # fmt: skip
        self._offers.setdefault(document.uri, []).append(offer)
        return offer

    def shown(self, id: str) -> None:
        """The editor says that it shows it."""
        if (offer := self._find(id)) is not None:
            self._tells_shown.add(offer.kind)
            offer.is_shown = True

    def accepted(self, id: str, length: int | None = None) -> Document | None:
        """It was put in, or will be; `length`: only so many UTF-16 units of what the editor was given. The document, where it stands
        there already."""
        offer = self._find(id)
        if offer is None or offer.is_accepted:
            return None
        offer.is_shown = True
        missing = 0 if length is None else len(offer.item) - column(offer.item, length, "utf-16")
        behind = len(offer.proposal.tail) if offer.kind == "edit" else 0
        offer.taken = max(offer.taken, len(offer.proposal.inserted) - max(missing - behind, 0))
        offer.is_accepted, offer.is_in_place = missing == 0, False
        accepted = [one for one in self._offers[offer.document.uri] if one.is_accepted]
        if len(accepted) > MAX_ACCEPTED:
            self._end(accepted[0], "kept")
        return offer.document if self._arrives(offer) else None

    def rejected(self, id: str) -> None:
        """The editor says so."""
        if (offer := self._find(id)) is not None and not offer.is_accepted:
            offer.is_shown = True
            self._end(offer, "rejected")

    def awaits(self, document: Document) -> bool:
        """Whether the next change may put a suggestion in."""
        return any(not (offer.is_accepted and offer.is_in_place) for offer in self._offers.get(document.uri, ()))

    def changed(self, document: Document, change: Change) -> bool:
        """Told of a change that was made; whether it brought what was said to be accepted."""
        arrived = False
        for offer in list(self._offers.get(document.uri, ())):
            before, end_before = offer.text, offer.end
            offer.follow(change)
            if offer.is_accepted:
                arrived = self._arrives(offer) or arrived
            elif offer.text == before:
                went_on = offer.kind == "completion" and not offer.proposal.tail and change.start == end_before and change.text
                self._end(offer, "rejected" if went_on else "ignored")
            elif offer.typed() is None:
                if not offer.waits(change):
                    self._end(offer, "rejected" if change.text else "ignored")
            else:
                # Where the developer went on without a request the editor may ask later.
                offer.contexts.add(tuple(offer.text.split("\n")))
                arrived = self._arrives(offer) or arrived
        return arrived

    def saved(self, document: Document) -> None:
        """What was accepted is judged as it stands."""
        for offer in [offer for offer in self._offers.get(document.uri, ()) if offer.is_accepted]:
            self._end(offer, "kept")

    def closed(self, document: Document) -> None:
        """Everything offered there has come to its end."""
        for offer in list(self._offers.get(document.uri, ())):
            self._end(offer, "ignored", is_over=True)

    def end(self) -> None:
        """The session ends."""
        for offer in [offer for offers in self._offers.values() for offer in offers]:
            self._end(offer, "ignored", is_over=True)

    def _arrives(self, offer: Offer) -> bool:
        """Whether what was accepted has come to stand there just now."""
        if offer.is_in_place or not (offer.is_accepted or offer.taken):
            return False
        typed = offer.typed()
        offer.is_in_place = offer.stands() if offer.is_accepted else typed is not None and typed >= offer.taken
        return offer.is_in_place

    def _end(self, offer: Offer, outcome: Outcome, *, is_over: bool = False) -> None:
        """`is_over`: nothing more is saved, so that what is not in the file was thrown away, and says nothing of the suggestion."""
        offers = self._offers[offer.document.uri]
        offers.remove(offer)
        if not offers:
            del self._offers[offer.document.uri]
        if offer.is_accepted or offer.taken:
            outcome = "kept" if offer.stands() else "undone" if offer.is_undone() else "changed"
            if is_over and outcome != "undone" and not offer.document.is_saved():
                outcome = "ignored"
        if not offer.is_shown and offer.kind in self._tells_shown:
            return
        if outcome in ("rejected", "undone"):
            at, old = offer.proposal.start_line - offer.stretch.first_line, offer.stretch.old
            for context in offer.contexts:
                self._reject(replace(offer.stretch, old=(*old[:at], *context, *old[at + len(offer.proposal.old) :])).edits())
        self._on_outcome(offer, outcome)

    def _reject(self, edits: Sequence[Edit]) -> None:
        if edits:
            self._rejected[_rejection(edits)] = None
        if len(self._rejected) > MAX_REJECTED:
            self._rejected.popitem(last=False)

    def _open(self, document: Document, kind: Kind) -> list[Offer]:
        return [offer for offer in self._offers.get(document.uri, ()) if offer.kind == kind and not offer.is_accepted]

    def _find(self, id: str) -> Offer | None:
        return next((offer for offers in self._offers.values() for offer in offers if offer.id == id), None)


def _moved(point: Point, change: Change, *, stays: bool) -> Point:
    """A place after a change; `stays`: in front of what was put in exactly there."""
    if point < change.start or (point == change.start and (stays or change.start < change.end)):
        return point
    if point < change.end:
        return change.start
    line = point.line + change.new_end.line - change.end.line
    return Point(line, point.column + change.new_end.column - change.end.column if point.line == change.end.line else point.column)


def _closers(text: str) -> str:
    """What an editor puts behind a text of its own accord."""
    waiting: list[str] = []
    for character in text:
        if waiting and character == waiting[-1]:
            waiting.pop()
        elif character in _PAIRS:
            waiting.append(_PAIRS[character])
    return "".join(reversed(waiting))
