"""Session files found, told apart and read into the store; and over the real samples, where they are."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from tests.sessions.readers.conftest import Records
from tests.sessions.readers.test_specstory import HEAD, agent, user

from apprentice.core import artifacts
from apprentice.core.errors import InputError
from apprentice.core.progress import Silent
from apprentice.sessions import store
from apprentice.sessions.events import Prompt
from apprentice.sessions.policy import Policy
from apprentice.sessions.readers import files
from apprentice.sessions.store import Sessions, SessionsWriter
from apprentice.text.redaction import Redactor

SAMPLES = Path(__file__).parents[4] / "shared" / "samples"


def read(folder: Path, out: Path) -> Sessions:
    with artifacts.create(out, kind=store.KIND, version=store.VERSION) as artifact, SessionsWriter(artifact, Redactor()) as writer:
        files.read(files.find([folder]), writer, Silent())
        writer.finish(config={}, policy=Policy())
    return Sessions.open(out)


def test_each_tool_has_a_stream_and_time_orders_the_sessions(records: Records, tmp_path: Path) -> None:
    folder = tmp_path / "home"
    (folder / "deep").mkdir(parents=True)
    records.user("later")
    records.write(folder / "deep" / "s.jsonl")
    (folder / "a.md").write_text(HEAD + user("earlier", "2025-01-02 03:04:05Z"))
    (folder / "README.md").write_text("# words")
    (folder / "link.md").symlink_to(folder / "a.md")
    sessions = read(folder, tmp_path / "out")
    assert [(stream.source, stream.files, stream.sessions) for stream in sessions.streams()] == [("claude_code", 1, 1), ("specstory", 1, 1)]
    assert [event.text for session in sessions.talks() for event in session.events if isinstance(event, Prompt)] == ["earlier", "later"]
    assert list(sessions.sessions()) == []
    assert sessions.repositories() == []


def test_hidden_histories_and_trajectories_are_found(tmp_path: Path) -> None:
    folder = tmp_path / "in" / "engine"
    folder.mkdir(parents=True)
    (folder / ".aider.chat.history.md").write_text("\n# aider chat started at 2025-01-02 03:04:05\n\n\n#### go  \n")
    steps = json.dumps({"trajectory": [{"thought": "I look.", "action": "ls", "observation": "a.py"}]})
    (folder / "a__b-1.traj").write_text(steps)
    (folder / "a__b-2.traj.json").write_text(steps)
    (folder / "a.json").write_text(steps)
    sessions = read(tmp_path / "in", tmp_path / "out")
    assert {(stream.source, stream.files, stream.sessions) for stream in sessions.streams()} == {("aider", 1, 1), ("swe_agent", 2, 2)}
    assert [(session.source, session.repository) for session in sessions.talks()][2:] == [("aider", "engine")]


def test_of_one_session_in_several_files_the_longest_is_read(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name, rest in (("a", ""), ("b", agent("done") + user("and now")), ("c", agent("done"))):
        (tmp_path / "in" / f"{name}.md").write_text(HEAD + user("go") + rest)
    sessions = read(tmp_path / "in", tmp_path / "out")
    (session,) = sessions.talks()
    assert len(session.events) == 3
    assert sessions.summary()["sources"]["specstory"]["dropped"] == {"files with a session that a longer file has": 2}


def test_one_hostile_file_does_not_end_the_reading(records: Records, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    # Half of a commit's name and a word: the search for secrets in hexadecimal digits once fell over it.
    (tmp_path / "in" / "a.md").write_text(HEAD + user("6b86b273ff34fce19d6b804eff5a3f5747ada4ea\nx") + agent("fine"))
    records.user("good")
    records.write(tmp_path / "in" / "s.jsonl")
    sessions = read(tmp_path / "in", tmp_path / "out")
    assert len(list(sessions.talks())) == 2


def test_sessions_are_in_the_order_of_time_and_each_is_there_once(records: Records, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    first = records.user("monday", timestamp="2026-01-05T10:00:00Z")
    records.user("friday, left", timestamp="2026-01-09T10:00:00Z")
    records.user("monday, kept", timestamp="2026-01-09T11:00:00Z", parent=first)
    records.write(tmp_path / "in" / "id-1.jsonl")
    (tmp_path / "in" / "b.md").write_text(HEAD + user("the same session, recorded"))
    (tmp_path / "in" / "c.md").write_text(HEAD.replace("id-1", "id-2") + user("wednesday", "2026-01-07 10:00:00Z"))
    sessions = read(tmp_path / "in", tmp_path / "out")
    assert [session.id for session in sessions.talks()] == ["id-1", "id-2", "id-1/branch-1"]
    assert sessions.summary()["sources"]["specstory"]["dropped"] == {"sessions that another file has": 1}


def test_a_session_that_was_gone_on_with_keeps_its_beginning(records: Records, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    records.user("one", sessionId="ffff")
    records.write(tmp_path / "in" / "ffff.jsonl")
    records.user("two", sessionId="aaaa")
    records.write(tmp_path / "in" / "aaaa.jsonl")
    sessions = {session.id: [event.text for event in session.events] for session in read(tmp_path / "in", tmp_path / "out").talks()}  # pyrefly: ignore[missing-attribute]
    assert sessions == {"ffff": ["one"], "aaaa": ["two"]}


def test_secrets_do_not_reach_the_disk(records: Records, tmp_path: Path) -> None:
    key = "ghp_" + "a1B2c3D4e5" * 4
    records.user(f"use {key[:40]}")
    records.tool("Bash", {"command": f"curl -H 'Authorization: Bearer {key[:40]}' x"}, f"token={key[:40]}")
    (tmp_path / "in").mkdir()
    records.write(tmp_path / "in" / "s.jsonl")
    sessions = read(tmp_path / "in", tmp_path / "out")
    assert "ghp_" not in repr(list(sessions.talks()))
    assert all(b"ghp_a1" not in path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file())


def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may open everything")
    path = tmp_path / "s.jsonl"
    path.write_text("{}")
    path.chmod(0)
    with pytest.raises(InputError, match=r"s\.jsonl"):
        files.find([path])


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the samples are not here")
def test_real_sessions(tmp_path: Path) -> None:
    summary = read(SAMPLES, tmp_path / "out").summary()["sources"]
    assert (summary["claude_code"]["files"], summary["specstory"]["files"]) == (4, 52)
    assert summary["claude_code"]["kept_aside"] == {"no content": 2, "no message": 1, "no record": 4}
    assert summary["specstory"]["kept_aside"] == {}
    assert summary["specstory"]["events"]["prompt"] > 200
    assert summary["specstory"]["events"]["edit"] > 400


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the samples are not here")
def test_by_default_nobody_learns_from_an_assistant(tmp_path: Path) -> None:
    sessions = read(SAMPLES, tmp_path / "out")
    policy, named = Policy(), Policy(learn_from=("developer", "assistant:claude"))
    learned = [event for session in sessions.talks() for event in session.events if policy.may_learn(event.author)]
    assert learned
    assert {event.author.kind for event in learned} == {"developer"}
    agents = {event.author.agent for session in sessions.talks() for event in session.events if named.may_learn(event.author)}
    assert agents == {"", "claude"}


def test_a_copy_of_the_talks_of_sub_agents_is_not_read_again(records: Records, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    records.user("do it")
    records.user("look for it", isSidechain=True, agentId="a1")
    records.write(tmp_path / "in" / "id-1.jsonl")
    sidechain = "_**User - sidechain (2025-01-02 03:04:06Z)**_\n\nlook for it\n\n---\n\n"
    (tmp_path / "in" / "a.md").write_text(HEAD + user("do it") + sidechain)
    (tmp_path / "in" / "b.md").write_text(HEAD.replace("id-1", "id-2") + user("another") + sidechain)
    found = [session.id for session in read(tmp_path / "in", tmp_path / "out").talks()]
    assert sorted(found) == ["id-1", "id-1/agent-a1", "id-2", "id-2/sidechain"]


def test_a_name_that_is_no_text_ends_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    with open(os.path.join(os.fsencode(folder), b"caf\xe9.md"), "w") as stream:  # noqa: PTH118, PTH123
        stream.write(HEAD + user("go") + agent("done"))
    sessions = read(folder, tmp_path / "out")
    assert [session.id for session in sessions.talks()] == ["id-1"]
    assert "caf?.md" in repr(list(sessions.talks()))
