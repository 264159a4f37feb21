from __future__ import annotations

from collections.abc import Callable, Sequence

from apprentice.core.fakes import ByteTokenizer
from apprentice.examples.build import Built, build
from apprentice.examples.recorded import works
from apprentice.examples.work import Work
from apprentice.sessions.events import Author, EditEvent, Provenance, Session
from apprentice.sessions.policy import Policy
from apprentice.text.edits import Edit

DEVELOPER, MODEL = Author(kind="developer", person="person-1"), Author(kind="assistant", agent="apprentice")


def recorded(
    times: Sequence[float], *, author: Author = DEVELOPER, name: str = "rec", hunks: int = 1, repository: str = "r"
) -> Session:  # fmt: skip
    """An edit at each of these times, each in its own words; the first is the developer's."""
    events = tuple(
        EditEvent(
            id=f"editor:{name}/{n}", session_id=f"editor:{name}", time=time, author=author if n else DEVELOPER, repository=repository,
            provenance=Provenance(source="editor", file="f"), path="n.py", before_id=None, after_id=None,
            hunks=tuple(_edit(n * 10 + k, 100 * k) for k in range(hunks)),
        )
        for n, time in enumerate(times)
    )  # fmt: skip
    return Session(id=f"editor:{name}", source="editor", repository=repository, time=times[0], events=events)


def _edit(number: int, line: int) -> Edit:
    old, new = f"old_{number} = {number * 17}", f"typed_{number} = omega_{number * 3} - psi_{number * number}"
    return Edit("n.py", line, (old,), (new,), (f"above_{number}",), (f"below_{number}",))


def _commits(make_work: Callable[..., Work], count: int = 20) -> list[Work]:
    text = "".join(f"line_{i} = alpha_{i} + beta_{i * i}\n\n\n\n" for i in range(count))
    found = []
    for i in range(count):
        now = text.replace(f"alpha_{i} +", f"gamma_{i} * delta_{i * 7} -")
        found.append(make_work(f"c{i}", {"m.py": (text, now)}, time=float(i)))
        text = now
    return found


def _typed(built: Built, kind: str = "next_edit") -> list[str]:
    return [row.commit for row in built.examples["train"] if row.kind == kind and row.session.startswith("editor:")]


def test_edits_are_examples_with_the_lines_beside_them() -> None:
    built = build([], ByteTokenizer(), recorded=list(works([recorded([1, 2])], Policy())))
    first, second = (row for row in built.examples["train"] if row.kind == "next_edit")
    assert first.prompt == "# n.py, below the edit\nbelow_0\n# n.py\nabove_0\n<<<<<<< before\nold_0 = 0\n======="
    assert "typed_0 = omega_0 - psi_0" in second.prompt
    assert (second.person, second.author, second.edit.start_line) == ("person-1", "developer", 1)


def test_places_of_one_edit_have_names_of_their_own() -> None:
    built = build([], ByteTokenizer(), recorded=list(works([recorded([1], hunks=3)], Policy())))
    assert _typed(built) == ["editor:rec/0/0", "editor:rec/0/1", "editor:rec/0/2"]
    assert len({row.id for row in built.examples["train"]}) == len(built.examples["train"])


def test_only_what_is_older_than_held_out_commits_is_learned_from(make_work: Callable[..., Work]) -> None:
    commits = _commits(make_work)
    built = build(commits, ByteTokenizer(), recorded=list(works([recorded([3.5, 13.5, 14.5, 30.0])], Policy())))
    assert built.commits["valid"] == ["c14"]
    assert _typed(built) == ["editor:rec/0/0", "editor:rec/1/0"]
    assert built.dropped["recorded edits newer than the first one held out"] == 2
    assert [row.time for row in built.examples["train"]] == sorted(row.time for row in built.examples["train"])


def test_a_recording_of_a_repository_by_another_name_is_no_newer_either(make_work: Callable[..., Work]) -> None:
    typed = list(works([recorded([3.5, 13.5, 14.5, 30.0], repository="checkout-2")], Policy()))
    built = build(_commits(make_work), ByteTokenizer(), recorded=typed)
    assert _typed(built) == ["editor:rec/0/0", "editor:rec/1/0"]
    assert built.dropped["recorded edits newer than the first one held out"] == 2


def test_prompts_of_commits_are_the_same_with_recordings_and_without(make_work: Callable[..., Work]) -> None:
    commits = _commits(make_work)
    alone = build(commits, ByteTokenizer())
    beside = build(commits, ByteTokenizer(), recorded=list(works([recorded([3.5, 13.5])], Policy())))
    for split, rows in alone.examples.items():
        assert [row for row in beside.examples[split] if not row.session.startswith("editor:")] == rows


def test_what_a_model_typed_is_seen_and_not_learned_from() -> None:
    built = build([], ByteTokenizer(), recorded=list(works([recorded([1, 2, 3], author=MODEL)], Policy())))
    assert _typed(built) == ["editor:rec/0/0"]
    assert built.dropped["edits by an author not learned from (assistant)"] == 2


def test_talks_without_an_edit_of_the_developer_give_nothing() -> None:
    talk = recorded([1, 2], author=MODEL)
    assert not list(works([Session(id="t", source="x", repository="r", time=1, events=talk.events[1:])], Policy()))
