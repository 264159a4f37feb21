"""A deed -> the example that asks for the edits, of one file or of many, that do what was wanted."""

from __future__ import annotations

from apprentice.examples.change import answer, excerpts, question
from apprentice.examples.conversation import REFACTORING, Conversation, assistant, user
from apprentice.examples.deed import Deed
from apprentice.examples.kinds.intent import telling

FORM = "Answer with search/replace blocks."
MIN_PLACES = 2
"""Of a commit; below, it is a next edit."""


def refactoring(deed: Deed, *, around: int) -> Conversation | str:
    """The example, or why there is none. `around`: lines shown on each side of a place."""
    words = telling(deed.words)
    if not words:
        return "words that tell no purpose"
    if deed.commit and sum(len(change.places) for change in deed.changes) < MIN_PLACES:
        return "work at one place"
    edits = answer(deed.changes)
    if edits is None:
        return "edits that blocks cannot tell apart"
    shown = tuple(excerpts(deed.changes, around))
    return Conversation(
        id=f"{deed.id}-{REFACTORING}", kind=REFACTORING, prompt=(user("\n\n".join(filter(None, (words, question(shown), FORM)))),),
        target=(assistant(edits),), check={"type": "blocks"}, shown=shown, source=deed.source, repository=deed.repository,
        commit=deed.commit, session=deed.session, time=deed.time, author=deed.author.kind, agent=deed.author.agent,
        person=deed.author.person,
    )  # fmt: skip
