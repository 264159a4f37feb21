from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import msgspec
import pyarrow.parquet as pq
import pytest

from apprentice.core import artifacts
from apprentice.core.errors import InputError, InternalError
from apprentice.sessions import events as schema
from apprentice.sessions.events import AnyEvent, Author, Provenance, Session
from apprentice.sessions.policy import Policy
from apprentice.sessions.store import KIND, VERSION, Sessions, SessionsWriter, text_id
from apprentice.text.edits import Edit

NewRepository = Callable[..., Any]
Read = Callable[..., Sessions]

COMMON: dict[str, Any] = {
    "session_id": "s",
    "time": 1.5,
    "author": Author(kind="developer", person="person-1"),
    "provenance": Provenance(source="other", file="log.jsonl", offset=7),
}
PLACE = Edit("a.py", 3, ("old",), ("new", "\u2028"), ("above",), ("below",))
EVERY_EVENT: list[AnyEvent] = [
    schema.Prompt(id="0", text="why?", **COMMON),
    schema.Reply(id="1", text="so", reasoning="hm", tool_calls=(schema.ToolCall("run", "{}", "ok"),), **COMMON),
    schema.Suggestion(id="2", edit=PLACE, outcome="kept", **COMMON),
    schema.EditEvent(id="3", path="a.py", before_id=None, after_id="ab", renamed_from="b.py", hunks=(PLACE,), **COMMON),
    schema.Diagnostic(id="4", path="a.py", line=0, severity="error", message="no", **COMMON),
    schema.Command(id="5", command="make", exit_code=2, output="\x1b[31m", **COMMON),
    schema.TestRun(id="6", command="pytest", passed=1, failed=2, **COMMON),
    schema.Navigation(id="7", path="a.py", line=3, **COMMON),
    schema.Note(id="8", kind="plan", text="first this", **COMMON),
    schema.Feedback(id="9", about="2", vote="up", **COMMON),
    schema.Commit(id="10", parents=("p",), moves=(schema.Move("c.py", None), schema.Move("d.py", "ab")), **COMMON),
]


class NoScanner:
    def redact(self, text: str) -> tuple[str, dict[str, int]]:
        return text, {}


def write(folder: Path, *sessions: Session, texts: tuple[str, ...] = ()) -> Sessions:
    with artifacts.create(folder, kind=KIND, version=VERSION) as artifact:
        with SessionsWriter(artifact, NoScanner()) as writer:
            writer.start_stream("other", "shop")
            for text in texts:
                writer.add_text(text)
            for session in sessions:
                writer.add_session(session)
            writer.finish(config={}, policy=Policy())
    return Sessions.open(folder)


def session_of(events: list[AnyEvent]) -> Session:
    return Session(id="s", source="other", repository="", time=1.5, events=tuple(events))


def test_every_kind_of_event_comes_back_as_it_was(tmp_path: Path) -> None:
    assert {type(event) for event in EVERY_EVENT} == set(get_args(AnyEvent))
    sessions = write(tmp_path / "out", session_of(EVERY_EVENT))
    assert [session.events for session in sessions.sessions()] == [tuple(EVERY_EVENT)]


def test_the_tables_can_be_queried_without_this_package(tmp_path: Path) -> None:
    sessions = write(tmp_path / "out", session_of(EVERY_EVENT), texts=("one\n",))
    rows = pq.read_table(sessions.folder / "events/other-0000.parquet").to_pylist()
    assert [row["type"] for row in rows][:4] == ["prompt", "reply", "suggestion", "edit"]
    assert (rows[3]["path"], rows[3]["before_id"], rows[3]["after_id"], rows[3]["offset"]) == ("a.py", None, "ab", 7)
    assert msgspec.json.decode(rows[0]["body"])["text"] == "why?"
    assert pq.read_table(sessions.folder / "texts/0000.parquet").to_pylist() == [
        {"text_id": text_id("one\n"), "text": "one\n"}
    ]


def test_texts_are_stored_once_and_found_again_over_many_row_groups(tmp_path: Path) -> None:
    texts = tuple(f"{number}\n" * 400_000 for number in range(10, 40))
    sessions = write(tmp_path / "out", texts=(*texts, *texts, ""))
    assert sessions.streams()[0].texts == 31
    for text in (*texts, "", *texts[::-1]):
        assert sessions.text(text_id(text)) == text
        assert text_id(text) in sessions
    assert pq.ParquetFile(sessions.folder / "texts/0000.parquet").num_row_groups > 1
    assert "nothing" not in sessions
    with pytest.raises(KeyError):
        sessions.text("nothing")


def test_sessions_are_not_torn_at_batches(tmp_path: Path) -> None:
    rest: dict[str, Any] = {name: value for name, value in COMMON.items() if name != "session_id"}
    many = [
        Session(id=str(number), source="other", repository="", time=number, events=tuple(
            schema.Note(id=f"{number}/{i}", kind="plan", text="x", session_id=str(number), **rest) for i in range(100)
        ))
        for number in range(20)
    ]  # fmt: skip
    sessions = write(tmp_path / "out", *many)
    assert [len(session.events) for session in sessions.sessions()] == [100] * 20


def test_a_missing_unfinished_or_damaged_artifact_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no `sessions` artifact"):
        Sessions.open(tmp_path / "nothing")
    with pytest.raises(InternalError), artifacts.create(tmp_path / "half", kind=KIND, version=VERSION):
        pass
    with pytest.raises(InputError, match="unfinished"):
        Sessions.open(tmp_path / "half")
    sessions = write(tmp_path / "out", session_of(EVERY_EVENT), texts=("x",))
    for name in ("events/other-0000.parquet", "tree.parquet"):
        (sessions.folder / name).write_bytes(b"PAR1 no")
    with pytest.raises(InputError, match="events/other-0000"):
        list(sessions.sessions())
    with pytest.raises(InputError, match=r"tree\.parquet"):
        sessions.trees()


def test_an_interrupted_reading_leaves_nothing_that_looks_whole(tmp_path: Path) -> None:
    def work() -> None:
        with artifacts.create(tmp_path / "out", kind=KIND, version=VERSION) as artifact:
            with SessionsWriter(artifact, NoScanner()) as writer:
                writer.start_stream("other", "shop")
                writer.add_text("x")
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    assert not artifacts.is_finished(tmp_path / "out")
    assert not list((tmp_path / "out").rglob("*.parquet"))


def test_a_name_is_made_distinct_where_it_is_taken(tmp_path: Path) -> None:
    with artifacts.create(tmp_path / "out", kind=KIND, version=VERSION) as artifact:
        with SessionsWriter(artifact, NoScanner()) as writer:
            for _ in range(3):
                writer.start_stream("other", writer.free_name("shop"))
            writer.finish(config={}, policy=Policy())
    assert Sessions.open(tmp_path / "out").repositories() == ["shop", "shop-2", "shop-3"]
