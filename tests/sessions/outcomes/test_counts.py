from __future__ import annotations

from typing import Any

from apprentice.sessions.outcomes.counts import count, share
from apprentice.sessions.outcomes.judging import EditOutcome


def outcome(session: str, name: Any, *, agent: str = "claude", **fields: Any) -> EditOutcome:
    common: dict[str, Any] = {"id": "e", "source": "git", "kind": "edit", "time": 0.0, "path": "a.py"}
    return EditOutcome(session_id=session, agent=agent, outcome=name, **common, **fields)


def test_outcomes_are_counted_for_each_source_and_agent() -> None:
    rows = count([
        outcome("a", "kept"), outcome("a", "changed", by="developer"), outcome("b", "unknown", reason="no"), outcome("b", "kept"),
        outcome("c", "kept", agent="aider"),
    ])  # fmt: skip
    assert [(row.agent, row.num_sessions, row.num_edits) for row in rows] == [("aider", 1, 1), ("claude", 2, 4)]
    row = rows[1]
    assert row.counts == {"kept": 2, "changed": 1, "unknown": 1}
    assert (row.changed_by, row.reasons, row.shares["kept"].value) == ({"developer": 1}, {"no": 1}, 0.5)


def test_an_interval_is_wilsons_where_sessions_are_not_alike() -> None:
    # Wilson's interval of 5 of 10: 0.2366 to 0.7634.
    apart = share([(1, 1)] * 5 + [(0, 1)] * 5)
    assert (round(apart.low, 3), round(apart.high, 3)) == (0.237, 0.763)


def test_edits_of_one_session_tell_less_than_as_many_of_several() -> None:
    apart = share([(5, 10)] * 10)
    alike = share([(10, 10)] * 5 + [(0, 10)] * 5)
    alone = share([(5, 10)])
    all_kept = share([(10, 10)] * 10)
    assert apart.value == alike.value == alone.value == 0.5
    assert apart.high - apart.low <= alike.high - alike.low < alone.high - alone.low
    assert (all_kept.value, all_kept.high) == (1.0, 1.0)
    assert 0.7 < all_kept.low < 0.8
