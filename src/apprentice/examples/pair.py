"""Outcomes -> pairs: what the developer made of a suggestion or an agent's edit, against what had been suggested.

    rejected, undone    chosen: the region as it was             rejected: what was suggested there
    changed             chosen: what the developer wrote there   rejected: what was suggested there

Prompt and answers are those of a next edit, so that TRL's preference trainers read a row unchanged. The suggestions of our own
model are always among them; those of another assistant only where the policy lets its words be learned from, for a preference
is learned from both sides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import msgspec

from apprentice.core.protocols import Tokenizer
from apprentice.examples.filters import file_reason
from apprentice.repository.prompt import Place, PromptConfig, next_edit_prompt
from apprentice.sessions.events import EditEvent, Session, Suggestion
from apprentice.sessions.outcomes.judging import EditOutcome
from apprentice.sessions.policy import Policy
from apprentice.sessions.readers.editor import AGENT
from apprentice.text.blocks import place_of
from apprentice.text.edits import Edit, contains_mark, target_text

UNDONE = ("undone", "reverted")


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """See the top of this file."""

    id: str
    prompt: str
    chosen: str
    rejected: str
    outcome: str
    path: str
    source: str
    repository: str
    session: str
    agent: str
    """Whose suggestion it was."""
    time: float
    confidence: float
    """That the outcome is right, 0 to 1."""
    split: str = ""


def pairs(
    session: Session, outcomes: Mapping[str, EditOutcome], policy: Policy, tokenizer: Tokenizer, config: PromptConfig,
    drop: Callable[[str], None],
) -> Iterator[tuple[Pair, tuple[Edit, Edit]]]:  # fmt: skip
    """The pairs of a talk, in order, each with what its two answers make of the place."""
    for event in session.events:
        outcome = outcomes.get(event.id)
        if outcome is None or not isinstance(event, EditEvent | Suggestion):
            continue
        hunks = event.hunks if isinstance(event, EditEvent) else (event.edit,)
        found = [(hunk, chosen) for hunk in hunks if (chosen := _chosen(hunk, outcome)) is not None and _is_news(hunk, chosen)]
        if not found:
            continue
        if event.author.agent != AGENT and not policy.may_learn(event.author):
            drop(f"pairs with suggestions not learned from ({event.author.agent or event.author.kind})")
            continue
        for number, (hunk, chosen) in enumerate(found):
            lines = (*hunk.above, *hunk.old, *hunk.below)
            if file_reason(hunk.path, lines or hunk.new) or contains_mark((*lines, *hunk.new, *chosen)):
                drop("pairs in files that teach nothing")
                continue
            place = Place(hunk.path, lines, len(hunk.above), len(hunk.above) + len(hunk.old))
            made = Pair(
                id=f"{event.id}/{number}", prompt=next_edit_prompt(tokenizer, place, config=config).text, chosen=target_text(chosen),
                rejected=target_text(hunk.new), outcome=outcome.outcome, path=hunk.path, source=session.source,
                repository=session.repository, session=session.id, agent=event.author.agent, time=event.time,
                confidence=outcome.confidence,
            )  # fmt: skip
            yield made, (replace(hunk, new=chosen), hunk)


def _chosen(hunk: Edit, outcome: EditOutcome) -> tuple[str, ...] | None:
    """What the developer wanted in the place of the hunk's lines; None where nobody knows."""
    if outcome.outcome in UNDONE:
        return hunk.old
    if outcome.outcome != "changed" or outcome.by == "assistant":
        return None
    for change in outcome.changes:
        at = place_of(hunk.new, change.old)
        if at is not None:
            return (*hunk.new[:at], *change.new, *hunk.new[at + len(change.old) :])
    return None


def _is_news(hunk: Edit, chosen: tuple[str, ...]) -> bool:
    """Whether the two differ in more than blanks."""
    return "".join("".join(chosen).split()) != "".join("".join(hunk.new).split())
