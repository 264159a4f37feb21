"""Real sessions of every tool: whose words would carry loss."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from apprentice.core.fakes import ByteTokenizer
from apprentice.core.progress import Silent
from apprentice.examples.checks.blocks import score_blocks
from apprentice.examples.conversations import Conversations, ConversationsConfig, HeldOut, build
from apprentice.examples.recorded import works
from apprentice.learn.config import LearnConfig
from apprentice.learn.sources import Source
from apprentice.learn.stages import sessions as stage
from apprentice.sessions.outcomes.judging import EditOutcome, OutcomesConfig, judge
from apprentice.sessions.policy import Policy
from apprentice.sessions.store import Sessions

SAMPLES = Path(__file__).parents[3] / "shared" / "samples"
pytestmark = pytest.mark.skipif(not SAMPLES.is_dir(), reason="no sample sessions beside the checkout")
EVERYBODY = Policy(learn_from=("developer", "assistant", "tool"))


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> tuple[Sessions, list[EditOutcome]]:
    sources = [Source("sessions", path, "") for path in sorted(SAMPLES.iterdir()) if path.is_dir()]
    sessions = stage.read(sources, tmp_path_factory.mktemp("samples") / "sessions", LearnConfig(), Policy(), Silent())
    return sessions, judge(sessions, OutcomesConfig(), Silent())


def _built(read: tuple[Sessions, list[EditOutcome]], policy: Policy) -> Conversations:
    config = ConversationsConfig(max_tokens=6_000, output_tokens=1_000)
    return build(read[0], ByteTokenizer(), policy, HeldOut({}), read[1], config)


def test_by_default_nothing_that_an_assistant_wrote_is_learned_from(read: tuple[Sessions, list[EditOutcome]]) -> None:
    built = _built(read, Policy())
    rows = [row for rows in built.rows.values() for row in rows]
    assert rows
    assert {row.author for row in rows} == {"developer"}
    assert {row.kind for row in rows} == {"intent"}
    assert {pair.agent for pair in built.pairs} <= {"apprentice"}
    assert not any(work.may_learn and work.author != "developer" for work in works(read[0].talks(), Policy()))


def test_what_the_policy_names_is_learned_from(read: tuple[Sessions, list[EditOutcome]]) -> None:
    built = _built(read, EVERYBODY)
    counts = Counter((row.kind, row.author) for rows in built.rows.values() for row in rows)
    assert counts["turn", "assistant"] > 200
    assert counts["refactoring", "assistant"] > 0
    one = _built(read, Policy(learn_from=("assistant:swe-agent",)))
    assert {row.agent for rows in one.rows.values() for row in rows} == {"swe-agent"}


def test_every_answer_of_blocks_makes_the_edits_on_what_its_prompt_shows(read: tuple[Sessions, list[EditOutcome]]) -> None:
    for rows in _built(read, EVERYBODY).rows.values():
        for row in rows:
            if row.check["type"] == "blocks":
                answer = row.target[0].content
                assert score_blocks(answer, answer, row.shown).exact
