"""Cursor's databases: talks of all layouts, and what may stand in them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.sessions.readers.conftest import RememberingSink, words
from tests.sessions.readers.cursor_talks import CHATS, FOLDER, TEXT, URI, Talk, kinds, one, read, told, write

from apprentice.core import artifacts
from apprentice.core.progress import Silent
from apprentice.sessions import events, store
from apprentice.sessions.policy import Policy
from apprentice.sessions.readers import files
from apprentice.sessions.readers.cursor import Cursor
from apprentice.sessions.store import Sessions, SessionsWriter
from apprentice.text.redaction import Redactor


def test_messages_stand_in_the_order_of_their_talk(tmp_path: Path, sink: RememberingSink) -> None:
    talk = Talk()
    talk.user("fix it, password hunter2", createdAt="2026-01-02T03:04:05.000Z")
    talk.add(2, thinking={"text": "hm", "signature": "s"})
    talk.add(2, text="I look.", createdAt="2026-01-02T03:04:09.500Z")
    talk.tool("read_file_v2", {"targetFile": f"{FOLDER}/a.py", "offset": 7}, {"contents": TEXT})
    talk.header["fullConversationHeadersOnly"].append({"bubbleId": "gone", "type": 2})
    talk.row("bubbleId:c:taken-back", {"type": 1, "text": "fix that"})
    talk.rows = dict(reversed(talk.rows.items()))
    session = told(talk, tmp_path, sink)
    prompt, reply, using, looked = session.events
    assert isinstance(prompt, events.Prompt)
    assert isinstance(reply, events.Reply)
    assert isinstance(using, events.Reply)
    assert isinstance(looked, events.Navigation)
    assert (session.id, session.source, session.repository) == ("c", "cursor", "engine")
    assert (prompt.text, prompt.author.kind) == ("fix it, password <secret>", "developer")
    assert (reply.text, reply.reasoning, reply.author.agent) == ("I look.", "hm", "cursor")
    assert (prompt.time, reply.time, using.time) == (1767323045.0, 1767323049.5, 1767323049.5)
    assert [(call.name, call.result) for call in using.tool_calls] == [("read_file_v2", TEXT)]
    assert (looked.path, looked.line) == ("a.py", 6)
    assert (reply.provenance.file, reply.provenance.offset) == ("globalStorage/state.vscdb", 2)
    assert dict(sink.dropped) == {"messages that are gone": 1, "messages that their talk does not name": 1}
    assert not sink.aside


def test_the_older_layout_has_its_messages_and_tools_in_the_talk(tmp_path: Path, sink: RememberingSink) -> None:
    tool = {"tool": 15, "name": "run_terminal_cmd", "rawArgs": '{"command": "ls"}', "status": "completed", "result": '{"output": "a.py"}'}
    tools = {"b1": tool}
    header = {
        "composerId": "c", "createdAt": 1738226420089, "capabilities": [{"type": 15, "data": {"bubbleDataMap": json.dumps(tools)}}],
        "conversation": [
            {"type": 1, "bubbleId": "b0", "text": "", "richText": json.dumps(rich("what is", "here?"))},
            {"type": 2, "bubbleId": "b1", "text": "", "capabilityType": 15,
             "timingInfo": {"clientStartTime": 1234.5, "clientRpcSendTime": 1738226430000}},
            {"type": 2, "bubbleId": "b2", "text": "A file."},
        ],
    }  # fmt: skip
    (session,) = read(write(tmp_path / "state.vscdb", {"composerData:c": json.dumps(header).encode()}), sink)
    assert kinds(session) == ["prompt", "reply", "command", "reply"]
    assert words(session)[0] == "what is\nhere?"
    assert one(session, events.Command).command == "ls"
    assert [event.time for event in session.events] == [1738226420.089, 1738226430.0, 1738226430.0, 1738226430.0]
    assert not sink.dropped


def rich(*paragraphs: str) -> dict[str, Any]:
    children = [{"type": "paragraph", "children": [{"type": "text", "text": text}]} for text in paragraphs]
    return {"root": {"type": "root", "children": children}}


def test_the_oldest_talks_are_tabs_of_a_project(tmp_path: Path, sink: RememberingSink) -> None:
    tabs = [
        {"tabId": "t1", "lastSendTime": 1724000000000, "bubbles": [
            {"type": "user", "initText": json.dumps(rich("how?"))}, {"type": "ai", "rawText": "so", "modelType": "gpt-4"},
            {"type": "user", "delegate": {"a": "really?"}}]},
        {"tabId": "t2", "bubbles": []},
    ]  # fmt: skip
    prompts = [{"text": "how?", "commandType": 4}, {"text": "a shorter loop"}]
    generations = [
        {"unixMs": 1724000001000, "type": "chat", "textDescription": "how?"},
        {"unixMs": 1724000002000, "type": "cmdk", "textDescription": "a shorter loop"},
    ]
    items = {CHATS: {"tabs": tabs}, "aiService.prompts": prompts, "aiService.generations": generations}
    path = project(tmp_path, {key: json.dumps(value) for key, value in items.items()})
    tab, typed = read(path, sink)
    assert (tab.id, tab.repository, words(tab)) == ("t1", "engine", ["how?", "so", "really?"])
    assert tab.time == 1724000000.0
    assert (typed.id, words(typed), typed.time) == ("hash/prompts", ["a shorter loop"], 1724000002.0)
    assert dict(sink.dropped) == {"prompts that a talk holds": 1}


def project(folder: Path, items: Mapping[str, Any], where: str = f"file://{FOLDER}") -> Path:
    path = write(folder / "workspaceStorage" / "hash" / "state.vscdb", {}, items)
    path.with_name("workspace.json").write_text(json.dumps({"folder": where}))
    return path


def test_what_was_typed_stands_alone_where_no_talk_is_left(tmp_path: Path, sink: RememberingSink) -> None:
    (session,) = read(project(tmp_path, {"aiService.prompts": '[{"text": "one"}, {"text": "two"}, 3]'}), sink)
    assert words(session) == ["one", "two"]


def test_projects_say_where_the_talks_of_the_global_database_belong(tmp_path: Path, sink: RememberingSink) -> None:
    talks = [Talk("mine"), Talk("nobodys"), Talk("named")]
    for talk in talks:
        del talk.header["workspaceIdentifier"]
        talk.user("go")
    items = {"composer.composerHeaders": '{"allComposers": [{"composerId": "named", "workspaceIdentifier": {"id": "hash"}}]}'}
    write(tmp_path / "globalStorage" / "state.vscdb", {key: value for talk in talks for key, value in talk.all_rows().items()}, items)
    project(tmp_path, {"composer.composerData": '{"allComposers": [{"composerId": "mine"}]}'}, "file:///home/ada/my%20engine")
    reader = Cursor()
    found = [session for file in files.find([tmp_path])["cursor"] for session in reader.read(file.path, sink)]
    assert {session.id: session.repository for session in found} == {"mine": "my engine", "nobodys": "", "named": "my engine"}


def test_talks_once_stood_in_the_list_of_their_project(tmp_path: Path, sink: RememberingSink) -> None:
    talk = {"composerId": "c", "createdAt": 1724000000000, "conversation": [{"type": 1, "text": "go"}, {"type": 2, "text": "done"}, {"type": 7}]}
    (session,) = read(project(tmp_path, {"composer.composerData": json.dumps({"allComposers": [talk, {"composerId": "d"}]})}), sink)
    assert (session.id, session.repository, words(session)) == ("c", "engine", ["go", "done"])
    assert dict(sink.dropped) == {"messages of another kind": 1}


def test_reasoning_that_nothing_follows_stays(tmp_path: Path, sink: RememberingSink) -> None:
    talk = Talk()
    talk.add(2, thinking={"text": "first"})
    talk.user("stop")
    talk.add(2, allThinkingBlocks=[{"thinking": "second"}, {"thinking": "third"}])
    session = told(talk, tmp_path, sink)
    assert [getattr(event, "reasoning", "") for event in session.events] == ["first", "", "second\n\nthird"]


@pytest.mark.parametrize(
    ("given_path", "path"),
    [
        (f"{FOLDER}/src/a.py", "src/a.py"), ("./a.py", "a.py"), (f"file://{FOLDER}/a%20b.py", "a b.py"), ("/home/ada/engineer/a.py", "/home/ada/engineer/a.py"),
        ("file:///c%3A/x/a.py", "c:/x/a.py"), (f"vscode-remote://ssh-remote%2Bhost{FOLDER}/a.py", "a.py"), ({"path": f"{FOLDER}/a.py", "scheme": "file"}, "a.py"),
    ],
)  # fmt: skip
def test_paths_are_those_within_the_project(tmp_path: Path, sink: RememberingSink, given_path: Any, path: str) -> None:
    talk = Talk()
    talk.tool("read_file", {"targetFile": given_path}, {})
    assert one(told(talk, tmp_path, sink), events.Navigation).path == path


def test_a_talk_in_two_databases_is_read_once(tmp_path: Path, sink: RememberingSink) -> None:
    talk = Talk()
    talk.user("go")
    reader = Cursor()
    first, second = (write(tmp_path / name / "state.vscdb", talk.all_rows()) for name in "ab")
    assert [len(list(reader.read(path, sink))) for path in (first, second)] == [1, 0]
    assert dict(sink.dropped) == {"talks that another database has": 1}


def test_a_sub_agent_is_asked_by_the_assistant(tmp_path: Path, sink: RememberingSink) -> None:
    talk, side = Talk(subagentComposerIds=["side"]), Talk("side", createdAt=1767323046000)
    for each in (talk, side):
        each.user("search")
    main, other = read(write(tmp_path / "state.vscdb", {**side.all_rows(), **talk.all_rows()}), sink)
    assert [(session.id, session.events[0].author.kind) for session in (main, other)] == [("c", "developer"), ("side", "assistant")]


@pytest.mark.parametrize(
    "mark",
    [
        {"isSimulatedMsg": True}, {"isPlanExecution": True}, {"grouping": {"isSimulatedMsg": True}}, {"sentByAgentId": "a"},
        {"subagentSpawnTaskToolCallId": "t"},
    ],
)  # fmt: skip
def test_what_cursor_writes_in_the_developers_place_is_not_theirs(tmp_path: Path, sink: RememberingSink, mark: dict[str, Any]) -> None:
    talk = Talk()
    talk.user("go")
    talk.user("Background task finished", **mark)
    assert [event.author.kind for event in told(talk, tmp_path, sink).events] == ["developer", "assistant"]


SUB_AGENT = {"subagentInfo": {"subagentType": "explore"}}


@pytest.mark.parametrize(
    ("main", "side", "items", "headers"),
    [
        ({"supersededSubagentComposerIds": ["side"]}, {}, {}, None), ({"subComposerIds": ["side"]}, {}, {}, None),
        ({}, {"isBestOfNSubcomposer": True}, {}, None), ({}, {}, {}, {"side": (1, {})}), ({}, {}, {}, {"side": (0, SUB_AGENT), "c": (0, {})}),
        ({}, {}, {"composer.composerHeaders": json.dumps({"allComposers": [{"composerId": "side", **SUB_AGENT}]})}, None),
    ],
)  # fmt: skip
def test_a_sub_agent_is_known_by_what_is_said_of_it(
    tmp_path: Path, sink: RememberingSink, main: dict[str, Any], side: dict[str, Any], items: dict[str, str], headers: Any
) -> None:
    talks = Talk(**main), Talk("side", createdAt=1767323046000, **side)
    for talk in talks:
        talk.user("search")
    rows = {key: value for talk in talks for key, value in talk.all_rows().items()}
    found = read(write(tmp_path / "state.vscdb", rows, items, headers=headers), sink)
    assert [(session.id, session.events[0].author.kind) for session in found] == [("c", "developer"), ("side", "assistant")]


def test_a_sub_agent_is_known_by_the_call_that_began_it(tmp_path: Path, sink: RememberingSink) -> None:
    talk, side = Talk(), Talk("side", createdAt=1767323046000)
    talk.tool("task_v2", {"prompt": "search"}, {}, additionalData={"subagentComposerId": "side"})
    side.user("search")
    _, other = read(write(tmp_path / "state.vscdb", {**side.all_rows(), **talk.all_rows()}), sink)
    assert (other.id, other.events[0].author.kind) == ("side", "assistant")


def test_a_prompt_of_a_project_whose_talks_are_elsewhere_is_told_once(tmp_path: Path, sink: RememberingSink) -> None:
    items = {
        "composer.composerData": json.dumps({"selectedComposerIds": [], "hasMigratedComposerData": True}),
        "aiService.prompts": json.dumps([{"text": "fix the login"}]),
        "aiService.generations": json.dumps([{"unixMs": 1767323045000, "type": "composer", "textDescription": "fix the login"}]),
    }
    assert not read(project(tmp_path, items), sink)
    assert dict(sink.dropped) == {"prompts that a talk holds": 1}


def test_a_talk_that_was_restored_knows_its_messages_by_their_time(tmp_path: Path, sink: RememberingSink) -> None:
    talk = Talk()
    for number, (kind, said) in enumerate([(1, "go"), (2, "done")]):
        started = 1767323045000 + number
        talk.add(kind, text=said, startedAtMs=started)
        talk.header["fullConversationHeadersOnly"][number] |= {"bubbleId": f"h{number}", "startedAtMs": started}
    talk.row("bubbleId:c:left", {"type": 1, "text": "another way", "startedAtMs": 5})
    assert words(told(talk, tmp_path, sink)) == ["go", "done"]
    assert dict(sink.dropped) == {"messages that their talk does not name": 1}


def test_an_empty_row_does_not_take_the_words_of_its_talk(tmp_path: Path, sink: RememberingSink) -> None:
    talk = Talk(conversation=[{"type": 1, "bubbleId": "b0", "text": "typed"}, {"type": 2, "bubbleId": "b1", "text": "answer"}])
    talk.user("")
    talk.add(2)
    del talk.header["fullConversationHeadersOnly"]
    assert words(told(talk, tmp_path, sink)) == ["typed", "answer"]


@pytest.mark.parametrize(
    ("fields", "result", "kind"),
    [
        ({"status": "cancelled"}, None, None), ({"status": "loading", "additionalData": {"status": "pending"}}, None, None),
        ({"status": "cancelled", "error": {"clientVisibleErrorMessage": "Rejected: User chose to skip"}}, None, "feedback"),
        ({"status": "cancelled", "additionalData": {"startedAtMs": 5}}, None, "command"),
        ({"status": "cancelled"}, {"output": "half"}, "command"),
    ],
)  # fmt: skip
def test_a_command_is_one_where_something_shows_that_it_began(
    tmp_path: Path, sink: RememberingSink, fields: dict[str, Any], result: Any, kind: str | None
) -> None:
    talk = Talk()
    talk.tool("run_terminal_command_v2", {"command": "rm -rf a"}, result, **fields)
    assert kinds(told(talk, tmp_path, sink)) == ["reply", *([kind] if kind else [])]


def test_a_command_is_told_as_it_was_run_and_its_silence_as_nothing(tmp_path: Path, sink: RememberingSink) -> None:
    talk = Talk()
    talk.tool("run_terminal_command_v2", {"command": "rm -rf build"}, {"output": "", "updatedCommand": "rm -rf build/tmp", "exitCodeV2": 0})
    command = one(told(talk, tmp_path, sink), events.Command)
    assert (command.command, command.output) == ("rm -rf build/tmp", "")


def test_why_a_command_failed_is_told_beside_what_it_printed(tmp_path: Path, sink: RememberingSink) -> None:
    talk = Talk()
    error = {"clientVisibleErrorMessage": "no shell"}
    talk.tool("run_terminal_command_v2", {"command": "make"}, {"rejected": False}, status="error", error=error)
    assert one(told(talk, tmp_path, sink), events.Command).output == "no shell"


QUESTIONS = {"questions": [{"id": "q", "options": [{"id": "1", "label": "Postgres"}, {"id": "2", "label": "SQLite"}]}]}


@pytest.mark.parametrize(
    ("name", "arguments", "result", "fields", "said"),
    [
        ("ask_question", QUESTIONS, {"answers": [{"questionId": "q", "selectedOptionIds": ["2"], "freeformText": "with WAL"}]}, {}, "SQLite\nwith WAL"),
        ("run_terminal_command_v2", {"command": "pip"}, {"rejected": True}, {"additionalData": {"reviewData": {"finalFeedbackText": "use uv"}}}, "use uv"),
        ("search_replace", {"file_path": "a.py", "old_string": "a", "new_string": "b"}, {"rejected": True, "humanReviewV2": {"feedbackText": "no"}}, {}, "no"),
    ],
)  # fmt: skip
def test_what_the_developer_said_to_a_tool(
    tmp_path: Path, sink: RememberingSink, name: str, arguments: Any, result: Any, fields: dict[str, Any], said: str
) -> None:
    talk = Talk()
    talk.tool(name, arguments, result, **fields)
    session = told(talk, tmp_path, sink)
    prompt = session.events[-1]
    assert isinstance(prompt, events.Prompt)
    assert (prompt.text, prompt.author.kind) == (said, "developer")


def test_a_plan_that_was_merged_is_whole(tmp_path: Path, sink: RememberingSink) -> None:
    talk = Talk()
    merged = {"finalTodos": [{"content": "a", "status": "completed"}, {"content": "b"}]}
    talk.tool("todo_write", {"merge": True, "todos": [{"id": "1", "content": "", "status": "completed"}]}, merged)
    assert one(told(talk, tmp_path, sink), events.Note).text == "[x] a\n[ ] b"


@pytest.mark.parametrize(
    ("header", "items", "headers"),
    [
        ({"workspaceIdentifier": {"configPath": {"fsPath": "/home/ada/engine.code-workspace"}}}, {}, None),
        ({"trackedGitRepos": [{"repoPath": FOLDER}]}, {}, None), ({}, {}, {"c": (0, {"workspaceIdentifier": {"uri": {"fsPath": FOLDER}}})}),
    ],
)  # fmt: skip
def test_a_newer_talk_says_elsewhere_where_it_is(tmp_path: Path, sink: RememberingSink, header: Any, items: Any, headers: Any) -> None:
    talk = Talk()
    talk.header |= {"workspaceIdentifier": None, **header}
    talk.user("go")
    (session,) = read(write(tmp_path / "state.vscdb", talk.all_rows(), items, headers=headers), sink)
    assert session.repository == "engine"


def test_the_panes_of_a_project_say_which_talks_are_its_own(tmp_path: Path, sink: RememberingSink) -> None:
    talk = Talk(workspaceIdentifier=None)
    talk.user("go")
    pane = {"workbench.panel.composerChatViewPane.1": json.dumps({"workbench.panel.aichat.view.c": {"collapsed": False}})}
    reader = Cursor()
    assert not list(reader.read(project(tmp_path, pane), sink))
    (session,) = reader.read(write(tmp_path / "globalStorage" / "state.vscdb", talk.all_rows()), sink)
    assert session.repository == "engine"


@pytest.mark.parametrize("given_path", ["c:/Users/ada/engine/src/a.ts", "C:\\Users\\ada\\engine\\src\\a.ts", "src\\a.ts",
                                            {"path": "/c:/Users/ada/engine/src/a.ts", "scheme": "file"}])  # fmt: skip
def test_a_file_of_windows_has_one_path(tmp_path: Path, sink: RememberingSink, given_path: Any) -> None:
    talk = Talk(workspaceIdentifier={"uri": {"fsPath": "c:\\Users\\ada\\engine"}})
    talk.tool("read_file", {"targetFile": given_path}, {})
    assert one(told(talk, tmp_path, sink), events.Navigation).path == "src/a.ts"


@pytest.mark.parametrize(
    ("result", "fields", "code"),
    [
        ({"output": "a", "exitCodeV2": 2}, {}, 2),
        ({"output": "a", "notInterrupted": True}, {"additionalData": {"status": "success"}}, 0),
        ({"output": "a", "notInterrupted": True}, {"additionalData": {"status": "error"}}, None), ({"output": "a", "notInterrupted": True}, {}, None),
        ({"output": "a", "notInterrupted": True, "poppedOutIntoBackground": True}, {"additionalData": {"status": "success"}}, None),
        ({"output": "a", "exitCode": 1}, {}, 1),
        ({"output": "a", "endedReason": "RUN_TERMINAL_COMMAND_ENDED_REASON_EXECUTION_COMPLETED"}, {}, 0),
        ({"output": "a", "endedReason": "RUN_TERMINAL_COMMAND_ENDED_REASON_EXECUTION_ABORTED"}, {}, None),
        ({"output": "a", "notInterrupted": True, "backgroundShellId": 4}, {}, None),
        ({"output": "a"}, {}, None),
        ({"output": "a", "notInterrupted": True}, {"status": "error", "error": '{"clientVisibleErrorMessage": "no"}'}, None),
    ],
)  # fmt: skip
def test_a_command_with_its_exit_code(tmp_path: Path, sink: RememberingSink, result: Any, fields: Any, code: int | None) -> None:
    talk = Talk()
    talk.tool("run_terminal_command_v2", {"command": "make"}, result, **fields)
    command = one(told(talk, tmp_path, sink), events.Command)
    assert (command.command, command.exit_code, command.output[:1]) == ("make", code, "a")


def test_a_command_that_was_not_allowed_is_feedback(tmp_path: Path, sink: RememberingSink) -> None:
    talk = Talk()
    talk.tool("run_terminal_cmd", {"command": "rm -rf build"}, {"rejected": True})
    talk.tool("run_terminal_cmd", {"command": "rm -rf dist"}, userDecision="rejected", status="cancelled")
    session = told(talk, tmp_path, sink)
    assert kinds(session) == ["reply", "feedback", "reply", "feedback"]
    assert [event.vote for event in session.events if isinstance(event, events.Feedback)] == ["down", "down"]


def test_a_test_run_and_a_plan(tmp_path: Path, sink: RememberingSink) -> None:
    talk = Talk()
    talk.tool("run_terminal_cmd", {"command": "python -m pytest -q"}, {"output": "1 failed, 12 passed in 2s", "exitCodeV2": 1})
    talk.tool("todo_write", {"todos": [{"content": "a", "status": "completed"}, {"content": "b", "status": "TODO_STATUS_IN_PROGRESS"}, "c"]}, {})
    session = told(talk, tmp_path, sink)
    assert (one(session, events.TestRun).passed, one(session, events.TestRun).failed) == (12, 1)
    assert one(session, events.Note).text == "[x] a\n[~] b\n[ ] c"


def test_databases_are_found_by_how_they_begin_and_read_into_the_store(tmp_path: Path) -> None:
    key = "ghp_" + "a1B2c3D4e5" * 3 + "a1B2c3"
    talk = Talk()
    talk.user(f"use {key}")
    talk.row("composer.content.1", f"token = '{key}'\n")
    talk.tool("edit_file_v2", {"relativeWorkspacePath": "a.py"}, {"afterContentId": "composer.content.1"})
    talk.tool("run_terminal_cmd", {"command": f"curl -H 'Authorization: Bearer {key}' x"}, {"output": f"token={key}", "exitCodeV2": 0})
    talk.row(f"bubbleId:c:{key}", "{")
    write(tmp_path / "User" / "globalStorage" / "state.vscdb", talk.all_rows())
    (tmp_path / "User" / "other.vscdb").write_text("words")
    out = tmp_path / "out"
    with artifacts.create(out, kind=store.KIND, version=store.VERSION) as artifact, SessionsWriter(artifact, Redactor()) as writer:
        files.read(files.find([tmp_path / "User"]), writer, Silent())
        writer.finish(config={}, policy=Policy())
    sessions = Sessions.open(out)
    assert [(stream.source, stream.files, stream.sessions) for stream in sessions.streams()] == [("cursor", 1, 1)]
    (session,) = sessions.talks()
    assert kinds(session) == ["prompt", "reply", "edit", "reply", "command"]
    assert "ghp_" not in repr(session)
    assert all(b"ghp_a1" not in path.read_bytes() for path in out.rglob("*") if path.is_file())
    assert [terms["vendor"] for terms in Policy().describe(["cursor"])["terms"]] == ["Anysphere"]


NAMES = st.sampled_from([
    "bubbleId", "type", "text", "richText", "thinking", "toolFormerData", "name", "params", "rawArgs", "result", "status", "userDecision",
    "additionalData", "diff", "chunks", "diffString", "newStart", "precomputedDiff", "lines", "content", "fates", "fate", "removedLines",
    "addedLines", "original", "modified", "startLineNumber", "endLineNumberExclusive", "originalModelDiffWrtV0", "newModelDiffWrtV0",
    "diffId", "partialInlineDiffFatesId", "codeblockId", "uri", "fsPath", "root", "children", "tabs", "bubbles", "tabId", "allComposers",
    "composerId", "conversation", "relativeWorkspacePath", "command", "old_string", "edits", "todos", "createdAt", "timingInfo", URI, "data",
])  # fmt: skip
WORDS = st.sampled_from(["b0", "b1", "d", "f", "accepted", "rejected", "completed", "+ a\n- b\n", URI, "file:///x", "{}", '{"rejected": 1}', "1e999"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 2**70) | st.floats() | st.text(max_size=9) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=5) | inner.map(json.dumps), max_leaves=12,
)  # fmt: skip
PLACE = st.fixed_dictionaries({"original": st.fixed_dictionaries({"startLineNumber": st.integers(-1, 5), "endLineNumberExclusive": st.integers(-1, 6)}) | JSON,
                               "modified": st.lists(st.text(max_size=3) | JSON, max_size=2)})  # fmt: skip
TOOL = st.fixed_dictionaries({
    "name": st.sampled_from(["edit_file", "edit_file_v2", "search_replace", "write", "MultiEdit", "run_terminal_cmd", "read_file", "todo_write", "x"]) | JSON,
    "params": JSON, "rawArgs": JSON, "result": JSON, "status": WORDS | JSON, "userDecision": WORDS, "additionalData": JSON, "error": JSON,
})  # fmt: skip
BUBBLE = st.fixed_dictionaries({
    "type": st.sampled_from([1, 2]) | JSON, "text": JSON, "richText": JSON, "thinking": JSON, "allThinkingBlocks": JSON, "createdAt": JSON,
    "timingInfo": JSON, "toolFormerData": TOOL | JSON, "bubbleId": WORDS | JSON,
})  # fmt: skip
BLOCK = st.fixed_dictionaries({
    "bubbleId": st.sampled_from(["b0", "b1"]), "status": WORDS | JSON, "diffId": st.just("d") | JSON, "partialInlineDiffFatesId": st.just("f") | JSON,
    "uri": st.just({"fsPath": "/a.py"}) | JSON, "codeblockId": JSON, "isNotApplied": JSON,
})  # fmt: skip
HEADER = st.fixed_dictionaries({
    "fullConversationHeadersOnly": st.just([{"bubbleId": "b0", "type": 2}, {"bubbleId": "b1", "type": 2}]) | JSON, "conversation": st.lists(BUBBLE, max_size=2) | JSON,
    "codeBlockData": st.dictionaries(st.just(URI), st.lists(BLOCK, max_size=2) | st.dictionaries(WORDS, BLOCK, max_size=2) | JSON, max_size=1) | JSON,
    "originalFileStates": st.just({URI: {"content": TEXT}}) | JSON, "originalModelLines": JSON, "createdAt": JSON, "capabilities": JSON,
    "workspaceIdentifier": JSON, "subagentComposerIds": JSON, "subagentInfo": JSON, "conversationMap": JSON,
})  # fmt: skip
VALUES = st.fixed_dictionaries({
    "composerData:c": HEADER | JSON, "bubbleId:c:b0": BUBBLE | JSON, "bubbleId:c:b1": BUBBLE | JSON,
    "codeBlockDiff:c:d": st.fixed_dictionaries({"originalModelDiffWrtV0": st.lists(PLACE, max_size=2), "newModelDiffWrtV0": st.lists(PLACE, max_size=2)}) | JSON,
    "codeBlockPartialInlineDiffFates:c:f": JSON, f"ofsContent:c:{URI}": JSON,
})  # fmt: skip
ITEMS = st.fixed_dictionaries({
    CHATS: st.fixed_dictionaries({"tabs": st.lists(st.fixed_dictionaries({"tabId": WORDS | JSON, "bubbles": st.lists(BUBBLE, max_size=2) | JSON}), max_size=2) | JSON}) | JSON,
    "composer.composerData": JSON, "composer.composerHeaders": JSON, "aiService.prompts": JSON, "aiService.generations": JSON,
})  # fmt: skip


@given(VALUES, ITEMS, st.dictionaries(st.text(max_size=6), st.binary(max_size=6) | st.none() | st.integers(-(2**63), 2**63 - 1) | st.floats(), max_size=2))
@settings(max_examples=300, deadline=1000)
def test_nothing_in_a_database_stops_the_reader(
    tmp_path_factory: pytest.TempPathFactory, kv: dict[str, Any], items: dict[str, Any], others: dict[str, Any]
) -> None:
    def text(values: dict[str, Any]) -> dict[str, str]:
        return {key: json.dumps(value) for key, value in values.items()}

    odd = {f"composerData:{key}".encode("utf-8", "replace").decode(): value for key, value in others.items()}
    path = write(tmp_path_factory.mktemp("fuzz") / "state.vscdb", {**odd, **text(kv)}, text(items))
    for session in Cursor().read(path, RememberingSink()):
        assert [event.time for event in session.events] == sorted(event.time for event in session.events)
        assert len({event.id for event in session.events}) == len(session.events)
    assert [found.name for found in path.parent.iterdir()] == ["state.vscdb"]
