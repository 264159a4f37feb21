"""Counts of outcomes for each source, agent and kind, with shares and their intervals.

    EditOutcome... --count()--> OutcomeCounts: how many edits of how many sessions came to what, and which share that is

Edits of one session are alike: a developer who keeps one keeps the next. So the intervals are Wilson's with as many independent
edits as the scatter between sessions leaves, never more than there are edits nor fewer than there are sessions.
Source: Wilson 1927, doi:10.1080/01621459.1927.10502953; Kish 1965, Survey Sampling, 5.2 (a share of clusters as a ratio).
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import msgspec

from apprentice.sessions.outcomes.judging import EditOutcome

_Z = 1.959964
"""Of 95%."""


class Share(msgspec.Struct, frozen=True):
    """A share and its 95% interval."""

    value: float
    low: float
    high: float


class OutcomeCounts(msgspec.Struct, frozen=True, kw_only=True):
    """Of one source, agent and kind of event."""

    source: str
    agent: str
    kind: str
    num_sessions: int
    num_edits: int
    counts: dict[str, int]
    """Outcome -> edits, the most frequent first."""
    shares: dict[str, Share]
    """Outcome -> share of all these edits."""
    changed_by: dict[str, int]
    """Who changed those that were changed, where that can be told."""
    reasons: dict[str, int]
    """Why it is not known, and how often."""


def count(outcomes: Iterable[EditOutcome]) -> list[OutcomeCounts]:
    """One row for each source, agent and kind, in that order."""
    groups: defaultdict[tuple[str, str, str], list[EditOutcome]] = defaultdict(list)
    for outcome in outcomes:
        groups[outcome.source, outcome.agent, outcome.kind].append(outcome)
    return [_of_group(*key, group) for key, group in sorted(groups.items())]


def _of_group(source: str, agent: str, kind: str, group: Sequence[EditOutcome]) -> OutcomeCounts:
    counts = Counter(outcome.outcome for outcome in group)
    sizes = Counter(outcome.session_id for outcome in group)
    shares: dict[str, Share] = {}
    for name in counts:
        hits = Counter(outcome.session_id for outcome in group if outcome.outcome == name)
        shares[name] = share([(hits[session], size) for session, size in sizes.items()])
    return OutcomeCounts(
        source=source, agent=agent, kind=kind, num_sessions=len(sizes), num_edits=len(group), counts=dict(counts.most_common()),
        shares=shares, changed_by=dict(Counter[str](outcome.by for outcome in group if outcome.outcome == "changed")),
        reasons=dict(Counter(outcome.reason for outcome in group if outcome.outcome == "unknown").most_common()),
    )  # fmt: skip


def share(sessions: Sequence[tuple[int, int]]) -> Share:
    """Of (hits, edits) of each session; one edit or more in all."""
    total = sum(size for _, size in sessions)
    value = sum(hits for hits, _ in sessions) / total
    scatter = sum((hits - value * size) ** 2 for hits, size in sessions)
    # Without any scatter, or with one session alone, nothing tells how alike its edits are.
    alone = value * (1 - value) * total**2 / (scatter * len(sessions) / (len(sessions) - 1)) if scatter and len(sessions) > 1 else 0.0
    number = min(max(alone, len(sessions)), total)
    middle = (value + _Z**2 / (2 * number)) / (1 + _Z**2 / number)
    half = _Z / (1 + _Z**2 / number) * math.sqrt(value * (1 - value) / number + _Z**2 / (4 * number**2))
    return Share(round(value, 4), round(max(middle - half, 0.0), 4), round(min(middle + half, 1.0), 4))
