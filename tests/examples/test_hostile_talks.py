"""Whatever a session file holds, examples are made of it or it is counted."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from apprentice.core.fakes import ByteTokenizer
from apprentice.examples.checks.blocks import score_blocks
from apprentice.examples.conversation import Conversation
from apprentice.examples.deed import Deed, of_talk
from apprentice.examples.kinds.debugging import debugging
from apprentice.examples.kinds.intent import intent
from apprentice.examples.kinds.refactoring import refactoring
from apprentice.examples.kinds.turn import turn
from apprentice.examples.pair import pairs
from apprentice.repository.prompt import PromptConfig
from apprentice.sessions import events as e
from apprentice.sessions.outcomes.judging import EditOutcome
from apprentice.sessions.policy import Policy
from apprentice.text.edits import Edit

TEXT = st.one_of(
    st.text(max_size=30),
    st.sampled_from(["", "\n", "```", "<<<<<<< SEARCH", "=======", ">>>>>>> REPLACE", "<|im_end|>", "fix the bug please", "a\r\nb", "# a.py"]),
)
LINES = st.lists(TEXT.map(lambda text: text.replace("\n", " ")), max_size=4).map(tuple)
PATHS = st.sampled_from(["a.py", "", "/", "..", "../../x", "a\nb", "C:\\x\\r\\a.py", "/home/r/a.py", "```", "package-lock.json", "é.py"])
EDITS = st.builds(Edit, PATHS, st.integers(-1, 50), LINES, LINES, LINES, LINES)
AUTHORS = st.sampled_from([e.Author(kind="developer"), e.Author(kind="assistant", agent="x"), e.Author(kind="tool")])
COMMON = {
    "id": st.sampled_from([f"i{n}" for n in range(40)]), "session_id": st.just("s"), "time": st.floats(0, 1e9), "author": AUTHORS,
    "provenance": st.builds(e.Provenance, source=st.just("claude_code"), file=st.just("f"), offset=st.integers(0, 3)),
}  # fmt: skip
IDS = st.sampled_from([None, "t1", "t2", "t3", "gone"])
EVENTS = st.one_of(
    st.builds(e.Prompt, text=TEXT, **COMMON),
    st.builds(e.Reply, text=TEXT, tool_calls=st.lists(st.builds(e.ToolCall, TEXT, TEXT, TEXT), max_size=2).map(tuple), **COMMON),
    st.builds(e.EditEvent, path=PATHS, before_id=IDS, after_id=IDS, hunks=st.lists(EDITS, max_size=2).map(tuple), **COMMON),
    st.builds(e.Suggestion, edit=EDITS, outcome=st.sampled_from(["kept", "changed", "rejected", "ignored", "undone"]), **COMMON),
    st.builds(e.Command, command=TEXT, exit_code=st.sampled_from([None, 0, 1]), output=TEXT, **COMMON),
    st.builds(e.TestRun, command=TEXT, passed=st.integers(0, 2), failed=st.integers(0, 1), output=TEXT, **COMMON),
    st.builds(e.Feedback, about=TEXT, vote=st.sampled_from([None, "up", "down"]), text=TEXT, **COMMON),
)
OUTCOMES = st.dictionaries(
    COMMON["id"],
    st.builds(
        EditOutcome, id=st.just("i"), session_id=st.just("s"), source=st.just("x"), agent=st.just("x"), kind=st.just("edit"), time=st.just(0.0),
        path=PATHS, outcome=st.sampled_from(["survived", "changed", "reverted", "undone", "unknown"]), changes=st.lists(EDITS, max_size=1).map(tuple),
    ),
    max_size=6,
)  # fmt: skip
TEXTS = {"t1": "", "t2": "one\ntwo\nthree\n", "t3": "one\r\ntwo\n\n=======\nx"}


class Texts:
    def text(self, text_id: str) -> str:
        return TEXTS[text_id]

    def __contains__(self, text_id: object) -> bool:
        return text_id in TEXTS


@given(st.lists(EVENTS, min_size=1, max_size=25), OUTCOMES)
@settings(max_examples=300, deadline=None)
def test_examples_are_made_of_any_events(events: list[e.Prompt], outcomes: dict[str, EditOutcome]) -> None:
    session = e.Session(id="s", source="claude_code", repository="r", time=0.0, events=tuple(events))
    policy, dropped = Policy(learn_from=("developer", "assistant", "tool")), Counter[str]()
    names = {name: outcome.outcome for name, outcome in outcomes.items()}
    count = lambda reason: dropped.update([reason])  # noqa: E731
    made: list[Conversation] = list(turn(session, policy, ByteTokenizer(), names, max_tokens=300, drop=count))
    for deed in of_talk(session, Texts(), names, count):
        made += _of_deed(deed)
    for pair, _ in pairs(session, outcomes, policy, ByteTokenizer(), PromptConfig(), count):
        assert pair.chosen != pair.rejected
    for row in made:
        assert row.prompt[0].role == "user"
        assert row.target[0].role == "assistant"
        if row.check["type"] == "blocks":
            assert score_blocks(row.target[0].content, row.target[0].content, row.shown).valid


def _of_deed(deed: Deed) -> list[Conversation]:
    found = [
        refactoring(deed, around=3), intent(deed, ByteTokenizer(), diff_tokens=100),
        debugging(deed, ByteTokenizer(), output_tokens=50, around=3),
    ]  # fmt: skip
    return [row for row in found if isinstance(row, Conversation)]
