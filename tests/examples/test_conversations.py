from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from apprentice.core.fakes import ByteTokenizer
from apprentice.core.progress import Silent
from apprentice.examples.checks.blocks import score_blocks
from apprentice.examples.conversation import Conversation
from apprentice.examples.conversations import Conversations, ConversationsConfig, HeldOut, build, showing_held_out
from apprentice.sessions.conversation import Change
from apprentice.sessions.outcomes.judging import OutcomesConfig, judge
from apprentice.sessions.policy import Policy
from apprentice.sessions.store import Sessions
from apprentice.text.edits import Edit

START = 1_700_000_000.0
"""Commit n of a repository is n minutes later."""
ROOT = "/home/<user>/engine/"
CODE = "".join(f"value_{n} = compute(alpha_{n}, beta_{n})\n" for n in range(30))
ALL = Policy(learn_from=("developer", "assistant"))
BIG = ConversationsConfig(max_tokens=6000, output_tokens=500)
Read = Callable[..., Sessions]


def made(
    sessions: Sessions, *, policy: Policy = ALL, commits: dict[str, Sequence[str]] | None = None, edits: Sequence[tuple[str, str, Edit]] = (),
    config: ConversationsConfig = BIG,
) -> Conversations:  # fmt: skip
    outcomes = judge(sessions, OutcomesConfig(), Silent())
    return build(sessions, ByteTokenizer(), policy, HeldOut(commits or {}, edits), outcomes, config)


def of_kind(built: Conversations, kind: str, split: str = "train") -> list[Conversation]:
    return [row for row in built.rows[split] if row.kind == kind]


def replaced(number: int, name: str = "a.py") -> Change:
    line = f"value_{number} = compute(alpha_{number}, beta_{number})\n"
    return Change(path=ROOT + name, old=line, new=line.replace("compute", "estimate"), before=CODE)


@pytest.fixture
def engine(new_repository: Callable[..., Any]) -> Any:
    """A first commit in minute 1, of two files."""
    repository = new_repository("engine")
    repository.commit("Begin the work", a_py=CODE, b_py=CODE)
    return repository


def test_without_commits_only_talks_make_conversations(engine: Any, read_talks: Read) -> None:
    commit = engine.commit("Guess some values (#7)", a_py=CODE.replace("compute(alpha_3", "guess(alpha_3"), b_py=CODE + "extra = 1\n")

    def tell(talk: Any) -> None:
        talk.ask("What is estimated here?", START)
        talk.say("The third value.", START + 1)

    sessions = read_talks([engine], tell)
    sources = [
        {row.source for rows in made(sessions, commits={"train": [commit]}, config=config).rows.values() for row in rows}
        for config in (BIG, replace(BIG, commits=False))
    ]
    assert sources == [{"git", "claude_code"}, {"claude_code"}]


def test_a_commit_gives_its_edits_for_its_words_and_its_words_for_its_edits(engine: Any, read_talks: Read) -> None:
    text = CODE.replace("compute(alpha_3", "guess(alpha_3").replace("compute(alpha_20", "guess(alpha_20")
    commit = engine.commit("Guess some values (#7)", a_py=text, b_py=CODE + "extra = 1\n")
    built = made(read_talks([engine], lambda talk: talk.ask("hello you there", START)), commits={"train": [commit]})
    (row,) = of_kind(built, "refactoring")
    assert row.prompt[0].content.startswith("Guess some values\n\na.py, lines 1 to 10:\n```python\n")
    assert row.prompt[0].content.endswith("Answer with search/replace blocks.")
    assert "beta_12" not in row.prompt[0].content
    assert score_blocks(row.target[0].content, row.target[0].content, row.shown).changed == 3
    assert (row.author, row.commit, row.repository, row.check) == ("developer", commit, "engine", {"type": "blocks"})
    (row,) = of_kind(built, "intent")
    assert row.target[0].content == "Guess some values"
    assert "-value_3 = compute(alpha_3, beta_3)\n+value_3 = guess(alpha_3, beta_3)\n" in row.prompt[0].content
    assert row.messages[-1] == {"role": "assistant", "content": "Guess some values"}


def test_by_default_no_reply_or_edit_of_an_assistant_is_learned_from(read_talks: Read) -> None:
    def tell(talk: Any) -> None:
        talk.ask("Estimate the third and the ninth value", START)
        talk.edit(START + 1, replaced(3), replaced(9, "b.py"), text="I will.")
        talk.say("Done, both are estimated.", START + 2)

    sessions = read_talks([], tell)
    built = made(sessions, policy=Policy())
    assert {row.author for rows in built.rows.values() for row in rows} == {"developer"}
    assert [row.target[0].content for row in of_kind(built, "intent")] == ["Estimate the third and the ninth value"]
    assert built.dropped["turn: by an author not learned from (claude)"] == 2
    assert built.dropped["refactoring: by an author not learned from (claude)"] == 1


def test_where_the_policy_allows_it_replies_are_learned_from_with_their_calls(read_talks: Read) -> None:
    def tell(talk: Any) -> None:
        talk.ask("Estimate the third and the ninth value", START)
        talk.say("Let me see.", START + 0.5)
        talk.edit(START + 1, replaced(3), replaced(9, "b.py"), text="I will.")
        talk.say("Done, both are estimated.", START + 2)

    built = made(read_talks([], tell), policy=Policy(learn_from=("assistant:claude",)))
    first, second = of_kind(built, "turn")
    assert first.target[0].content == "Let me see.\n\nI will."
    assert [call.function.name for call in first.target[0].tool_calls] == ["Edit"]
    assert [message.role for message in second.prompt] == ["user", "assistant", "tool"]
    assert second.prompt[2].tool_call_id == second.prompt[1].tool_calls[0].id
    assert (second.target[0].content, second.author, second.agent) == ("Done, both are estimated.", "assistant", "claude")
    (row,) = of_kind(built, "refactoring")
    assert {part.path for part in row.shown} == {"a.py", "b.py"}


def test_what_the_developer_did_not_keep_is_nobodys_example(read_talks: Read) -> None:
    def tell(talk: Any) -> None:
        talk.ask("Estimate the third value and the ninth", START)
        talk.edit(START + 1, replaced(3), text="First try.", rejected=True)
        talk.say("Second try.", START + 2)
        talk.vote("down", START + 3)
        talk.ask("Then estimate the ninth value only", START + 4)
        talk.say("Yes, it is estimated now.", START + 5)

    built = made(read_talks([], tell))
    assert [row.target[0].content for row in of_kind(built, "turn")] == ["Yes, it is estimated now."]
    assert built.dropped["turn: replies that the developer did not keep"] == 2


def test_a_failing_run_and_the_edit_after_which_it_passed_are_an_example(read_talks: Read) -> None:
    def tell(talk: Any) -> None:
        talk.ask("Why does it fail when I run the tests?", START)
        talk.run("pytest -q", "E   NameError: compute\n1 failed, 2 passed in 0.1s", START + 1)
        talk.say("The name is wrong.", START + 2)
        talk.edit(START + 3, replaced(3))
        talk.run("pytest -q", "3 passed in 0.1s", START + 4)

    built = made(read_talks([], tell))
    (row,) = of_kind(built, "debugging")
    asked, answered = row.prompt[0].content, row.target[0].content
    assert asked.startswith("`pytest -q` fails:\n\n```\nE   NameError: compute\n1 failed, 2 passed in 0.1s\n```\n\na.py, lines 1 to 10:")
    assert answered.startswith("The name is wrong.\n\na.py\n```python\n<<<<<<< SEARCH\nvalue_3 = compute")
    assert score_blocks(answered, answered, row.shown).exact


def test_what_was_said_after_the_edit_does_not_stand_in_the_question(read_talks: Read) -> None:
    def tell(talk: Any) -> None:
        talk.ask("Why does it fail when I run the tests?", START)
        talk.run("pytest -q", "1 failed, 2 passed in 0.1s", START + 1)
        talk.edit(START + 2, replaced(3))
        talk.ask("So estimate was the right name, run them again", START + 3)
        talk.run("pytest -q", "3 passed in 0.1s", START + 4)

    (row,) = of_kind(made(read_talks([], tell)), "debugging")
    assert "right name" not in row.prompt[0].content


def test_a_run_that_fails_again_teaches_nothing(read_talks: Read) -> None:
    def tell(talk: Any) -> None:
        talk.ask("Why does it fail when I run the tests?", START)
        talk.run("pytest -q", "1 failed, 2 passed in 0.1s", START + 1)
        talk.edit(START + 3, replaced(3))
        talk.run("pytest -q", "1 failed, 2 passed in 0.1s", START + 4)
        talk.run("make", "error", START + 5, exit_code=2)
        talk.edit(START + 6, replaced(9))

    assert not of_kind(made(read_talks([], tell)), "debugging")


def test_a_talk_is_in_the_split_of_the_commits_of_its_time(engine: Any, read_talks: Read) -> None:
    commits = [engine.commit(f"Change the value of number {n}", a_py=CODE + f"x = {n}\n") for n in range(4)]

    def tell(minute: float) -> Callable[[Any], None]:
        def told(talk: Any) -> None:
            talk.ask("Say something about the values here", START + 60 * minute)
            talk.say(f"Of minute {minute}.", START + 60 * minute + 1)

        return told

    # The commits are of minutes 2 to 5.
    built = made(
        read_talks([engine], tell(1.5), tell(3.5), tell(9)), commits={"train": commits[:2], "valid": commits[2:3], "test": commits[3:]}
    )
    told = {split: [row.target[0].content for row in of_kind(built, "turn", split)] for split in built.rows}
    assert told == {"train": ["Of minute 1.5.", "Of minute 3.5."], "valid": [], "gate": [], "test": ["Of minute 9."]}


def test_a_talk_that_shows_held_out_edits_is_left_out(engine: Any, read_talks: Read) -> None:
    first = engine.commit("Some older work on the values", a_py=CODE + "x = 1\n")
    line = "value_3 = compute(alpha_3, beta_3)"
    later = Edit("a.py", 3, (line,), (line.replace("compute", "estimate"),), tuple(CODE.split("\n")[:3]), tuple(CODE.split("\n")[4:10]))

    def tell(talk: Any) -> None:
        talk.ask("Estimate the third value of them", START + 150)
        talk.edit(START + 151, replaced(3), text="I will.")

    sessions = read_talks([engine], tell)
    assert of_kind(made(sessions, commits={"train": [first]}), "turn")
    built = made(sessions, commits={"train": [first]}, edits=[("test", "c9", later)])
    assert not of_kind(built, "turn")
    assert built.dropped["turn: edits that are held out"] == 1


def test_a_commit_that_shows_held_out_edits_is_left_out_too(engine: Any, read_talks: Read) -> None:
    text = CODE.replace("compute(alpha_3", "guess(alpha_3").replace("compute(alpha_20", "guess(alpha_20")
    commit = engine.commit("Guess two of the values", a_py=text)
    sessions = read_talks([engine], lambda talk: talk.ask("hello you there", START))
    line = "value_3 = compute(alpha_3, beta_3)"
    later = Edit("a.py", 3, (line,), (line.replace("compute", "guess"),), tuple(CODE.split("\n")[:3]), tuple(CODE.split("\n")[4:10]))
    assert of_kind(made(sessions, commits={"train": [commit]}), "refactoring")
    built = made(sessions, commits={"train": [commit]}, edits=[("test", "c9", later)])
    assert not built.rows["train"]
    assert built.dropped["refactoring: edits that are held out"] == built.dropped["intent: edits that are held out"] == 1


def test_what_does_not_fit_is_shown_with_less_around_it_or_left_out(engine: Any, read_talks: Read) -> None:
    text = CODE.replace("compute(alpha_3", "guess(alpha_3").replace("compute(alpha_20", "guess(alpha_20")
    commit = engine.commit("Guess some of the values", a_py=text)
    sessions = read_talks([engine], lambda talk: talk.ask("hello you there", START))
    sizes = {}
    for tokens in (3000, 900, 200):
        built = made(sessions, commits={"train": [commit]}, config=ConversationsConfig(max_tokens=tokens, output_tokens=16))
        sizes[tokens] = [len(row.prompt[0].content) for row in of_kind(built, "refactoring")]
    assert sizes[3000][0] > sizes[900][0]
    assert not sizes[200]
    assert built.dropped["refactoring: longer than 200 tokens"] == 1


def test_the_same_conversation_twice_is_one(read_talks: Read) -> None:
    def tell(talk: Any) -> None:
        talk.ask("Say something about the values here", START)
        talk.say("There are thirty.", START + 1)

    built = made(read_talks([], tell, tell))
    assert sum(len(rows) for rows in built.rows.values()) == 1
    assert built.dropped["turn: duplicates"] == 1


def test_a_rejected_edit_is_a_pair_with_the_region_as_it_was(read_talks: Read) -> None:
    def tell(talk: Any) -> None:
        talk.ask("Estimate the third value of them", START)
        talk.edit(START + 1, replaced(3), rejected=True)

    sessions = read_talks([], tell)
    (pair,) = made(sessions).pairs
    assert (pair.outcome, pair.agent) == ("undone", "claude")
    assert "compute(alpha_3" in pair.chosen
    assert "estimate(alpha_3" in pair.rejected
    assert pair.prompt.endswith("=======")
    assert not made(sessions, policy=Policy()).pairs
    assert made(sessions, policy=Policy()).dropped["pairs with suggestions not learned from (claude)"] == 1


def test_what_the_developer_wrote_instead_is_chosen(engine: Any, read_talks: Read) -> None:
    line = "value_3 = compute(alpha_3, beta_3)\n"
    engine.commit("Estimate it at last", a_py=CODE.replace(line, "value_3 = exactly(gamma_3, delta_3, epsilon_3)\n"))

    def tell(talk: Any) -> None:
        talk.ask("Estimate the third value of them", START + 80)
        talk.edit(START + 81, replaced(3))

    pairs = made(read_talks([engine], tell)).pairs
    assert [(pair.outcome, "exactly(gamma_3" in pair.chosen, "estimate(alpha_3" in pair.rejected) for pair in pairs] == [("changed", True, True)]


def test_edits_of_a_talk_are_compared_once_however_many_turns_it_has() -> None:
    class Counted(tuple[Edit, ...]):
        times = 0

        def __iter__(self) -> Iterator[Edit]:
            Counted.times += 1
            return super().__iter__()

    shared = Counted(Edit(f"{n}.py", 0, (f"a_{n}",), (f"b_{n} = {n * n}",)) for n in range(3))
    held_out = HeldOut({}, [("test", "c", Edit("x.py", 9, ("a_1",), ("b_1 = 1",)))])
    assert showing_held_out([("train", "talk", shared)] * 50, held_out, BIG) == set(range(50))
    assert Counted.times < 5
    assert not showing_held_out([("valid", "talk", shared)], held_out, BIG)


def test_a_pair_is_no_older_than_its_answer_and_shows_nothing_held_out(engine: Any, read_talks: Read) -> None:
    line, written = "value_3 = compute(alpha_3, beta_3)", "value_3 = exactly(gamma_3, delta_3, epsilon_3)"
    first = engine.commit("Some older work on the values", a_py=CODE + "x = 1\n")
    last = engine.commit("Estimate it at last", a_py=CODE.replace(line, written) + "x = 1\n")
    lines = CODE.split("\n")

    def tell(talk: Any) -> None:
        talk.ask("Estimate the third value of them", START + 140)
        talk.edit(START + 141, replaced(3))

    sessions = read_talks([engine], tell)
    # The talk is older than the commit that tells what the developer wrote instead.
    newer: dict[str, Sequence[str]] = {"train": [first], "test": [last]}
    assert [pair.split for pair in made(sessions, commits=newer).pairs] == ["test"]
    older: dict[str, Sequence[str]] = {"train": [first, last]}
    assert [pair.split for pair in made(sessions, commits=older).pairs] == ["train"]
    held_out = Edit("a.py", 3, (line,), (written,), tuple(lines[:3]), tuple(lines[4:10]))
    built = made(sessions, commits=older, edits=[("test", "c9", held_out)])
    assert not built.pairs
    assert built.dropped["pairs: edits that are held out"] == 1


def test_our_own_suggestions_are_paired_under_every_policy(read_talks: Read) -> None:
    def tell(talk: Any) -> None:
        talk.ask("Estimate the third value of them", START)
        talk.edit(START + 1, replaced(3), rejected=True)

    assert len(made(read_talks([], tell, agent="apprentice"), policy=Policy()).pairs) == 1
