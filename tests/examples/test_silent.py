from __future__ import annotations

from apprentice.core.fakes import ByteTokenizer
from apprentice.examples import silent
from apprentice.examples.build import Built
from apprentice.examples.work import FileWork, Work, moments
from apprentice.repository.prompt import PromptConfig
from apprentice.sessions.events import Author, Provenance, Session, Suggestion
from apprentice.sessions.policy import Policy
from apprentice.text.edits import Edit, hunks

LINES = [f"line_{number} = {number}" for number in range(60)]


def _work(commit: str, time: float, line: int, lines: list[str] = LINES) -> Work:
    after = [*lines[:line], f"changed = '{commit}'", *lines[line + 1 :]]
    before, now = ("".join(line + "\n" for line in state) for state in (lines, after))
    return Work(commit=commit, time=time, author="developer", repository="r", files=[FileWork("m.py", lines, hunks("m.py", before, now))])


WORKS = [_work("c1", 1.0, 10), _work("c2", 2.0, 40), _work("c3", 3.0, 20), _work("c4", 4.0, 30)]
KEYS = [moment.key for moment in moments(WORKS)]


def _talk(source: str, time: float, old: str = "b = 2") -> Session:
    offered = Edit("a.py", 4, (old,), ("b = 7",), ("a = 1",), ("c = 3",))
    event = Suggestion(
        id=f"{source}/{time}", session_id="s", time=time, author=Author(kind="assistant"), edit=offered, outcome="rejected",
        provenance=Provenance(source=source, file="f"),
    )  # fmt: skip
    return Session(id="s", source=source, repository="r", time=time, events=(event,))


def _built(works: list[Work] = WORKS, *, talks: tuple[Session, ...] = (), policy: Policy = Policy(), learned: int = 3) -> Built:  # noqa: B008
    return silent.build(
        works, talks, ByteTokenizer(), policy, learned=set(KEYS[:learned]), held_out={"c4"}, config=PromptConfig()
    )


def test_each_edit_that_is_learned_from_has_a_silent_place_near_it_and_no_other_edit() -> None:
    assert [row.commit for row in _built().examples["train"]] == ["c1", "c2", "c3"]
    assert [row.moment for row in _built(learned=2).examples["train"]] == KEYS[:2]
    assert not any(_built().examples[split] for split in ("valid", "gate", "test"))
    assert all(row.kind == "silence" and row.edit.old == row.edit.new for row in _built().examples["train"])


def test_a_held_out_commit_has_none_even_where_its_edit_is_said_to_be_learned_from() -> None:
    assert "c4" not in {row.commit for row in _built(learned=4).examples["train"]}


def test_rejections_are_taken_as_far_as_they_are_older_than_what_is_held_out() -> None:
    built = _built(talks=(_talk("editor", 2.5), _talk("editor", 4.5)))
    assert [row.time for row in built.examples["train"]] == [1.0, 2.0, 2.5, 3.0]
    assert built.dropped == {"rejections newer than the first commit held out": 1}


def test_what_an_agent_was_not_allowed_is_no_silent_place_nor_is_anything_of_people_who_are_not_learned_from() -> None:
    for talk, policy in ((_talk("claude_code", 2.5), Policy()), (_talk("editor", 2.5), Policy(learn_from=("assistant:ours",)))):
        assert 2.5 not in {row.time for row in _built(talks=(talk,), policy=policy).examples["train"]}


def test_long_places_and_edits_without_one_near_them_are_counted() -> None:
    long = ["x = '" + "y" * 1200 + "'"] * 60
    works = [_work("c1", 1.0, 10, long), _work("c2", 2.0, 0, ["only = 1"])]
    built = _built(works, talks=(_talk("editor", 1.5, old="b" * 1200),))
    assert built.examples["train"] == []
    assert built.dropped == {"edits without a silent place near them": 1, "silent places that are long": 2}
