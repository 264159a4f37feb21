"""SWE-agent's trajectories in all their layouts: the issue, the steps, what its editors changed."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.sessions.readers.conftest import RememberingSink, kinds, one, words

from apprentice.sessions import events
from apprentice.sessions.events import Session
from apprentice.sessions.readers.swe_agent import SweAgent

SAMPLES = Path(__file__).parents[4] / "shared" / "samples" / "swe_agent"
TASK = "We're solving an issue. Here's the text:\nISSUE:\nIt breaks, hunter2.\r\nFix it\n\nINSTRUCTIONS:\nUse the commands.\n"
SUBMIT = "COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT"
UPDATED = "File updated. Please review the changes and make sure they are correct.\r\n"


def step(action: str, observation: str = "", thought: str = "I think.", **fields: Any) -> dict[str, Any]:
    state = json.dumps({"open_file": "n/a", "working_dir": "/ada__engine"})
    response = f"{thought}\n```\n{action}\n```"
    return {"action": action, "observation": observation, "thought": thought, "response": response, "state": state, **fields}


def window(path: str, lines: dict[int, str], total: int) -> str:
    shown = "\r\n".join(f"{number}:{line}" for number, line in lines.items())
    return f"[File: {path} ({total} lines total)]\r\n(1 more lines above)\r\n{shown}"


def read(path: Path, document: Any, sink: RememberingSink) -> list[Session]:
    path.write_text(json.dumps(document), encoding="utf-8")
    return list(SweAgent().read(path, sink))


def run(path: Path, steps: list[dict[str, Any]], sink: RememberingSink) -> Session:
    demonstration = {"role": "user", "content": "a demonstration", "is_demo": True}
    history = [{"role": "system", "content": "x"}, demonstration, {"role": "user", "content": TASK}]
    (session,) = read(path, {"trajectory": steps, "history": history, "info": {"submission": "diff"}}, sink)
    return session


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ada__engine-7.traj"


def test_a_step_is_a_reply_and_what_it_did(path: Path, sink: RememberingSink) -> None:
    steps = [step("ls\n", "a.py\r\nb.py"), step("python -m pytest -q", "2 failed, 1 passed in 3s"), step("", "no command")]
    session = run(path, [*steps, step("submit", "\ndiff")], sink)
    assert kinds(session) == ["prompt", "reply", "command", "reply", "test_run", "reply", "reply"]
    prompt, reply, command = session.events[:3]
    assert isinstance(prompt, events.Prompt)
    assert (prompt.text, prompt.author.kind) == ("It breaks, <secret>.\nFix it", "developer")
    assert isinstance(reply, events.Reply)
    assert (reply.text, reply.author.agent) == ("I think.", "swe-agent")
    (call,) = reply.tool_calls
    assert (call.name, json.loads(call.arguments), call.result) == ("bash", {"command": "ls"}, "a.py\nb.py")
    assert isinstance(command, events.Command)
    assert (command.command, command.output, command.exit_code) == ("ls", "a.py\nb.py", None)
    assert (one(session, events.TestRun).passed, one(session, events.TestRun).failed) == (1, 2)
    assert (session.id, session.repository) == ("ada__engine-7", "engine")
    assert dict(sink.dropped) == {"messages of demonstrations": 1, "submitted patches": 1}
    assert "diff" not in repr(session)


def test_a_file_that_windows_show_whole_has_both_texts(path: Path, sink: RememberingSink) -> None:
    made = window("/ada__engine/new.py", {1: ""}, 1)
    written = UPDATED + window("/ada__engine/new.py", {1: "one", 2: "two"}, 2)
    session = run(path, [step("create new.py", made), step("edit 1:1\none\ntwo\nend_of_edit", written)], sink)
    first, second = session.edits
    assert (first.path, first.before_id, sink.texts[str(first.after_id)]) == ("new.py", None, "\n")
    assert (sink.texts[str(second.before_id)], sink.texts[str(second.after_id)]) == ("\n", "one\ntwo\n")
    assert [(hunk.start_line, hunk.old, hunk.new) for hunk in second.hunks] == [(0, ("",), ("one", "two"))]


@pytest.mark.parametrize(
    ("before", "action", "hunk"),
    [
        ([], "edit 8:9\n8\nend_of_edit\n", (7, ("eight", "nine"), ("8",))),
        ([], "edit 8:8\nend_of_edit", (7, ("eight",), ())),
        ([], "edit 8:8\n\nend_of_edit", (7, ("eight",), ("",))),
        ([], "edit 'igh' 'IGH'", (7, ("eight",), ("eIGHt",))),
        ([], "edit 'ht\nni' 'it'\"'\"'s'", (7, ("eight", "nine"), ("eigit'sne",))),
        ([], "insert 'x\ny' 8", (8, (), ("x", "y"))),
        ([], "insert x", (20, (), ("x",))),
        (["set_cursors 8 9"], "edit\n8\nend_of_edit\n", (7, ("eight", "nine"), ("8",))),
    ],
)
def test_an_edit_has_the_lines_that_a_window_showed(
    path: Path, sink: RememberingSink, before: list[str], action: str, hunk: tuple[Any, ...]
) -> None:
    shown = window("/ada__engine/src/a.py", {7: "seven", 8: "eight", 9: "nine"}, 20)
    marked = shown.replace("\r\n8:", "\r\n<<<<< START CURSOR >>>>>\r\n8:") + "\r\n<<<<< END CURSOR >>>>>"
    steps = [step("open src/a.py 8", shown), *(step(command, marked) for command in before), step(action, UPDATED + shown)]
    session = run(path, steps, sink)
    edit = one(session, events.EditEvent)
    assert (edit.path, edit.before_id, edit.author.kind) == ("src/a.py", None, "assistant")
    assert [(found.start_line, found.old, found.new) for found in edit.hunks] == [hunk]
    assert (one(session, events.Navigation).path, one(session, events.Navigation).line) == ("src/a.py", 7)


def test_what_the_editor_refused_is_no_edit(path: Path, sink: RememberingSink) -> None:
    shown = window("/ada__engine/a.py", {1: "one"}, 1)
    refused = f"Your proposed edit has introduced new syntax error(s).\n{shown}\nYour changes have NOT been applied."
    steps = [step("open a.py", shown), step("edit 1:1\n(\nend_of_edit", refused)]
    session = run(path, [*steps, step("edit 'x' 'y'", "Your edit was not applied (file not modified)")], sink)
    assert kinds(session) == ["prompt", "reply", "navigation", "reply", "reply"]
    assert sink.dropped["edits that were not applied"] == 2


def test_what_a_shell_may_have_changed_is_not_known_any_more(path: Path, sink: RememberingSink) -> None:
    shown = window("a.py", {1: "one"}, 1)
    for command, known in (("ls", True), ("sed -i s/x/y/ b.py", False), ("python a.py", False)):
        edited = step("edit 1:1\n1\nend_of_edit", window("a.py", {1: "1"}, 1))
        session = run(path, [step("open a.py", shown), step(command), edited], sink)
        assert (one(session, events.EditEvent).before_id is not None) == known
        assert bool(one(session, events.EditEvent).hunks) == known


def test_the_editor_that_is_given_texts(path: Path, sink: RememberingSink) -> None:
    def call(task: str, name: str, observation: str, **options: str) -> dict[str, Any]:
        given = " ".join(f"--{option} {shlex.quote(value)}" for option, value in options.items())
        return step(f"str_replace_editor {task} /ada__engine/{name} {given}", observation)

    done = "The file x has been edited. "
    snippet = f"{done}Here's the result of `cat -n` on a snippet:\n    40\tabove\n    41\t  x = new 'it'()\n    42\tbelow\n"
    session = run(path, [
        call("view", "a.py", "Here's the result of running `cat -n`:\n     1\tx", view_range="30"),
        call("create", "b.py", "File created successfully at: x", file_text="one\ntwo\n"),
        call("str_replace", "b.py", done, old_str="two", new_str="2"),
        call("insert", "b.py", done, insert_line="1", new_str="half"),
        call("str_replace", "a.py", snippet, old_str="old", new_str="new 'it'"),
        call("str_replace", "a.py", "No replacement was performed", old_str="?", new_str="!"),
        call("undo_edit", "a.py", "Last edit to x undone successfully."),
    ], sink)  # fmt: skip
    assert (one(session, events.Navigation).path, one(session, events.Navigation).line) == ("a.py", 29)
    made, replaced, inserted, placed, undone = session.edits
    assert (made.path, made.before_id, sink.texts[str(made.after_id)]) == ("b.py", None, "one\ntwo\n")
    assert (sink.texts[str(replaced.before_id)], sink.texts[str(replaced.after_id)]) == ("one\ntwo\n", "one\n2\n")
    assert sink.texts[str(inserted.after_id)] == "one\nhalf\n2\n"
    assert [(hunk.start_line, hunk.old, hunk.new) for hunk in placed.hunks] == [(40, ("  x = old()",), ("  x = new 'it'()",))]
    assert (undone.path, undone.hunks) == ("a.py", ())
    assert sink.dropped["edits that were not applied"] == 1


def test_a_demonstration_has_a_history_and_nothing_else(tmp_path: Path, sink: RememberingSink) -> None:
    behind = "\n(Open file: /engine/a.py)\n(Current directory: /engine)\nbash-$"
    history = [
        {"role": "user", "content": [{"type": "text", "text": TASK}]},
        {"role": "assistant", "content": "I look.", "thought": "I look.", "action": "open a.py", "tool_calls": []},
        {"role": "tool", "content": window("/engine/a.py", {1: "one"}, 1) + behind}, {"role": "assistant", "content": "Fine."},
        7, {"content": "x"},
    ]  # fmt: skip
    (session,) = read(tmp_path / "simple.traj", {"history": history}, sink)
    assert kinds(session) == ["prompt", "reply", "navigation", "reply"]
    assert (words(session)[1], session.repository, one(session, events.Navigation).path) == ("I look.", "engine", "a.py")
    reply = session.events[1]
    assert isinstance(reply, events.Reply)
    assert reply.tool_calls[0].result == window("/engine/a.py", {1: "one"}, 1).replace("\r\n", "\n")
    assert dict(sink.aside) == {"no message": 2}


def test_mini_swe_agent_with_calls(tmp_path: Path, sink: RememberingSink) -> None:
    calls = [
        {"id": id, "function": {"name": "bash", "arguments": json.dumps({"command": command})}}
        for id, command in (("c0", "ls"), ("c1", "false"))
    ]  # fmt: skip
    messages = [
        {"role": "system", "content": "x"},
        {"role": "user", "content": "<pr_description>\nConsider the following PR description:\nIt breaks\n\n</pr_description>\netc."},
        {"role": "assistant", "content": "Both.", "reasoning_content": "hm", "tool_calls": calls, "extra": {"timestamp": 1.5e9}},
        {"role": "tool", "tool_call_id": "c1", "content": "x", "extra": {"raw_output": "", "returncode": 1}},
        {"role": "tool", "tool_call_id": "c0", "content": "<returncode>0</returncode>\n<output>\na.py\n</output>"},
        {"role": "assistant", "content": "Done.", "extra": {"actions": [{"command": f"echo {SUBMIT} && cat p"}]}},
        {"role": "exit", "content": "diff"},
    ]  # fmt: skip
    document = {"messages": messages, "info": {"submission": "diff"}, "instance_id": "ada__engine-9"}
    (session,) = read(tmp_path / "ada__engine-9.traj.json", document, sink)
    assert kinds(session) == ["prompt", "reply", "command", "command", "reply"]
    assert (words(session)[0], session.id, session.repository, session.time) == ("It breaks", "ada__engine-9", "engine", 1.5e9)
    assert [(event.command, event.output, event.exit_code) for event in session.events if isinstance(event, events.Command)] == [
        ("ls", "a.py\n", 0), ("false", "", 1),
    ]  # fmt: skip
    reply = session.events[1]
    assert isinstance(reply, events.Reply)
    assert (reply.reasoning, reply.author.agent) == ("hm", "mini-swe-agent")
    assert sink.dropped["submitted patches"] == 1


def test_mini_swe_agent_with_fences_and_a_template_of_its_own(tmp_path: Path, sink: RememberingSink) -> None:
    messages = [
        {"role": "user", "content": "Please do: make it so\n\nNow work."},
        {"role": "assistant", "content": "THOUGHT: first\n\n```bash\nls\npwd\n```\n"},
        {"role": "user", "content": "<returncode>-1</returncode>\n<output>\na <output> b\n</output>"},
        {"role": "assistant", "content": "no command"}, {"role": "user", "content": "Please always provide EXACTLY ONE action"},
    ]  # fmt: skip
    info = {"config": {"agent": {"instance_template": "Please do: {{task}}\n\nNow work.\n"}}}
    (session,) = read(tmp_path / "x.traj.json", {"messages": messages, "info": info}, sink)
    assert words(session) == ["make it so", "THOUGHT: first", "", "no command"]
    assert (one(session, events.Command).command, one(session, events.Command).output) == ("ls\npwd", "a <output> b\n")
    assert one(session, events.Command).exit_code is None
    assert dict(sink.dropped) == {"messages that answer no command": 1}
    (session,) = read(tmp_path / "x.traj.json", messages, sink)
    assert kinds(session) == ["reply", "command", "reply"]
    assert sink.dropped["tasks that do not stand apart from what the tool put around them"] == 1


def test_runs_on_one_issue_are_told_apart(tmp_path: Path, sink: RememberingSink) -> None:
    reader = SweAgent()
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a__b-1.traj").write_text(json.dumps({"trajectory": [step("ls")]}))
    ids = [next(reader.read(tmp_path / folder / "a__b-1.traj", sink)).id for folder in ("one", "two")]
    assert ids == ["a__b-1", "a__b-1-2"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "not JSON"), ("7", "no trajectory"), ("[7]", "no trajectory"), ("{}", "no trajectory"),
        ('{"trajectory": 7}', "no trajectory"), ('{"trajectory": [7]}', "no trajectory"), ('{"a": ' + "[" * 5000, "not JSON"),
    ],
)  # fmt: skip
def test_what_is_no_trajectory_is_kept_aside(path: Path, sink: RememberingSink, text: str, reason: str) -> None:
    path.write_text(text)
    assert list(SweAgent().read(path, sink)) == []
    assert dict(sink.aside) == {reason: 1}


def test_files_are_recognized_by_name_and_beginning() -> None:
    assert SweAgent().recognizes(Path("a.traj"), b"\n{ ")
    assert SweAgent().recognizes(Path("a.traj.json"), b"{")
    assert not SweAgent().recognizes(Path("a.json"), b"{")
    assert not SweAgent().recognizes(Path("a.traj"), b"ASE")
    assert SweAgent().started(Path("a.traj"), b'{"timestamp": 1775792178.5}') == 1775792178.5


TEXT = st.sampled_from([
    "ls", "submit", "open a 9", "create a", "edit 1:1\nx\nend_of_edit", "edit 9999999:1\nend_of_edit", "edit\nend_of_edit", "edit a b",
    "edit 'a", "insert x 3", "insert", window("/r/a", {1: "a", 2: "b"}, 2), window("a", {2: "a"}, 3), "[File: a (0 lines total)]",
    "<<<<< START CURSOR >>>>>", "<<<<< END CURSOR >>>>>", "/r", "have NOT been applied", "has been edited", "     1\tb",
    "str_replace_editor str_replace /r/a --old_str a --new_str b", "str_replace_editor insert a --insert_line 2 --new_str b",
    "str_replace_editor create a --file_text b", "str_replace_editor view a --view_range 9", "str_replace_editor", TASK,
    "```bash\nls\n```", "<returncode>0</returncode>", "user", "assistant", " ",
]) | st.text(max_size=9)  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 2**70) | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
        ["role", "content", "text", "action", "thought", "extra", "actions", "command", "tool_calls", "function", "arguments", "id",
         "tool_call_id", "timestamp", "returncode", "raw_output", "is_demo", "working_dir", "agent", "templates", "instance_template",
         "config", "submission"]), inner, max_size=5),
    max_leaves=12,
)  # fmt: skip
STEP = st.fixed_dictionaries({name: TEXT | JSON for name in ("action", "observation", "thought", "response", "state")})
ROLE = st.sampled_from(["user", "assistant", "tool"])
MESSAGES = st.lists(
    st.fixed_dictionaries({"role": ROLE | JSON, "content": TEXT | JSON, "extra": JSON, "action": TEXT | JSON, "tool_calls": JSON}) | JSON,
    max_size=6,
)
DOCUMENT = st.fixed_dictionaries({}, optional={
    "trajectory": st.lists(STEP, max_size=6) | JSON, "history": MESSAGES | JSON, "messages": MESSAGES | JSON, "info": JSON,
    "replay_config": JSON, "instance_id": JSON,
})  # fmt: skip


@given(DOCUMENT | MESSAGES | JSON)
@settings(max_examples=300, deadline=1000)
def test_nothing_in_a_file_stops_the_reader(tmp_path_factory: pytest.TempPathFactory, document: Any) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "s.traj"
    for session in read(path, document, RememberingSink()):
        assert [event.time for event in session.events] == sorted(event.time for event in session.events)
        assert len({event.id for event in session.events}) == len(session.events)


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the samples are not here")
def test_real_trajectories(sink: RememberingSink) -> None:
    paths = sorted(SAMPLES.glob("*.traj"))
    assert len(paths) == 9
    for path in paths:
        (session,) = SweAgent().read(path, sink)
        assert "INSTRUCTIONS" not in one(session, events.Prompt).text
        assert session.repository in ("marshmallow", "pydicom", "test-repo", "swe-agent-test-repo", "humanevalfix-python")
        placed = {
            (edit.path, hunk.start_line + number, line)
            for edit in session.edits
            for hunk in edit.hunks
            for number, line in enumerate(hunk.new)
        }
        assert added_lines(json.loads(path.read_text()).get("info", {}).get("submission", "")) <= placed
    assert dict(sink.aside) == {}
    assert sink.dropped == {"submitted patches": 9, "edits that were not applied": 8, "messages of demonstrations": 2}


def added_lines(patch: str) -> set[tuple[str, int, str]]:
    """(path, 0-based number, text) of the lines that a unified diff adds."""
    added: set[tuple[str, int, str]] = set()
    path, number = "", 0
    for line in patch.replace("\r\n", "\n").split("\n"):
        if line.startswith("+++ b/"):
            path = line[6:]
        elif line.startswith("@@"):
            number = int(line.split("+")[1].split(",")[0]) - 1
        elif line[:1] in ("+", " "):
            if line[0] == "+":
                added.add((path, number, line[1:]))
            number += 1
    return added
