"""What Cursor changed in files, in each of the forms in which it keeps that, and what the developer made of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.sessions.readers.conftest import RememberingSink
from tests.sessions.readers.cursor_talks import FOLDER, TEXT, URI, Talk, kinds, one, outcomes, told

from apprentice.sessions import events


def test_an_edit_has_both_texts_where_they_are_kept(tmp_path: Path, sink: RememberingSink) -> None:
    talk = Talk()
    ids = {"beforeContentId": "composer.content.1", "afterContentId": "composer.content.2"}
    talk.row("composer.content.1", TEXT + "hunter2\n")
    talk.row("composer.content.2", b"one\n2\nthree\nhunter2\n")
    talk.tool("edit_file_v2", {"relativeWorkspacePath": f"{FOLDER}/a.py"}, ids)
    talk.tool("edit_file_v2", {"relativeWorkspacePath": "new.py"}, {"afterContentId": "composer.content.2"})
    talk.tool("edit_file_v2", {"relativeWorkspacePath": "b.py"}, {"afterContentId": "composer.content.9"})
    session = told(talk, tmp_path, sink)
    changed, created, unknown = session.edits
    assert changed.path == "a.py"
    assert sink.texts[str(changed.before_id)] == TEXT + "<secret>\n"
    assert [(hunk.start_line, hunk.old, hunk.new) for hunk in changed.hunks] == [(1, ("two",), ("2",))]
    assert (created.before_id, sink.texts[str(created.after_id)]) == (None, "one\n2\nthree\n<secret>\n")
    assert (unknown.path, unknown.hunks, unknown.after_id) == ("b.py", (), None)
    assert outcomes(session) == []


CHUNK = {"diffString": "  \tone\n- \ttwo\n+ \t2\n  }", "oldStart": 8, "newStart": 9}
SHOWN = [
    {"type": "unchanged", "content": "one", "originalLineNumber": 8, "modifiedLineNumber": 9},
    {"type": "removed", "content": "two", "originalLineNumber": 9}, {"type": "added", "content": "2", "modifiedLineNumber": 10},
    {"type": "added", "content": "x", "modifiedLineNumber": 40},
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "arguments", "result", "extra", "hunks"),
    [
        ("search_replace", {}, {"diff": {"chunks": [CHUNK]}}, {}, [(9, ("\ttwo",), ("\t2",))]),
        ("edit_file", {}, {"diff": {"chunks": [{"diffString": " one\n-two\n+2", "newStart": 1}]}}, {}, [(1, ("two",), ("2",))]),
        ("edit_file_v2", {}, {}, {"precomputedDiff": {"lines": SHOWN}}, [(9, ("two",), ("2",)), (39, (), ("x",))]),
        ("search_replace", {"old_string": "one\ntwo", "new_string": "one\n2"}, {}, {}, [(-1, ("two",), ("2",))]),
        ("MultiEdit", {"edits": [{"old_string": "1", "new_string": "2"}, {"old_string": "3", "new_string": "4"}]}, {}, {},
         [(-1, ("1",), ("2",)), (-1, ("3",), ("4",))]),
        ("write", {"contents": "x\n"}, {}, {}, [(0, (), ("x",))]),
        ("edit_file", {"code_edit": "// ... existing code ...\nx"}, {"isApplied": True}, {}, []),
        ("delete_file", {}, {}, {}, []),
    ],
)  # fmt: skip
def test_an_edit_has_what_its_tool_says(
    tmp_path: Path, sink: RememberingSink, name: str, arguments: Any, result: Any, extra: Any, hunks: Any
) -> None:
    talk = Talk()
    talk.tool(name, {"relativeWorkspacePath": "./a.py"}, result, additionalData=extra, rawArgs=json.dumps(arguments))
    edit = one(told(talk, tmp_path, sink), events.EditEvent)
    assert (edit.path, edit.author.kind) == ("a.py", "assistant")
    assert [(hunk.start_line, hunk.old, hunk.new) for hunk in edit.hunks] == hunks


def test_an_edit_that_was_refused_or_went_wrong_is_in_no_file(tmp_path: Path, sink: RememberingSink) -> None:
    talk = Talk()
    arguments = {"file_path": "a.py", "old_string": "two", "new_string": "2"}
    talk.tool("search_replace", arguments, {}, userDecision="rejected")
    talk.tool("search_replace", arguments, {"applyFailed": True})
    talk.tool("search_replace", arguments, {}, status="error", error="no such text")
    talk.tool("search_replace", arguments, {}, status="loading")
    talk.tool("delete_file", {"targetFile": "a.py"}, {}, userDecision="rejected")
    session = told(talk, tmp_path, sink)
    assert session.edits == []
    assert outcomes(session) == [("rejected", ("two",), ("2",))]
    assert one(session, events.Feedback).text == "rejected: delete_file"


def diff(*places: tuple[int, int, list[str]]) -> list[dict[str, Any]]:
    return [{"original": {"startLineNumber": start, "endLineNumberExclusive": end}, "modified": lines} for start, end, lines in places]


FIRST: dict[str, Callable[[Talk], None]] = {
    "state": lambda talk: talk.header.update(originalFileStates={URI: {"content": TEXT}}),
    "row": lambda talk: talk.row(f"ofsContent:c:{URI}", TEXT.encode()),
    "lines": lambda talk: talk.header.update(originalModelLines={URI: TEXT.split("\n")}),
}


@pytest.mark.parametrize("form", FIRST)
def test_a_code_block_has_its_place_in_the_text_at_first(tmp_path: Path, sink: RememberingSink, form: str) -> None:
    talk = Talk()
    bubble = talk.add(2, text="So:")
    FIRST[form](talk)
    talk.block(bubble, "accepted", diffId="d")
    before = [(1, 2, ["ONE", "and"])]
    talk.row("codeBlockDiff:c:d", {"originalModelDiffWrtV0": diff(*before), "newModelDiffWrtV0": diff(*before, (2, 3, ["2"]))})
    session = told(talk, tmp_path, sink)
    assert outcomes(session) == [("kept", ("two",), ("2",))]
    (edit,) = session.edits
    assert (edit.path, edit.hunks[0].start_line) == ("a.py", 2)
    assert sink.texts[str(edit.before_id)] == "ONE\nand\ntwo\nthree\n"


@pytest.mark.parametrize(
    ("status", "found", "num_edits"),
    [("accepted", ["kept"], 1), ("rejected", ["rejected"], 0), ("completed", [], 1), ("aborted", [], 0), (None, [], 0)],
)
@pytest.mark.parametrize("as_list", [True, False])
def test_what_became_of_a_code_block(
    tmp_path: Path, sink: RememberingSink, status: Any, found: list[str], num_edits: int, as_list: bool
) -> None:
    talk = Talk()
    FIRST["state"](talk)
    talk.block(talk.add(2, text="So:"), status, diffId="d")
    if as_list:
        talk.header["codeBlockData"][URI] = list(talk.header["codeBlockData"][URI].values())
    talk.row("codeBlockDiff:c:d", {"originalModelDiffWrtV0": [], "newModelDiffWrtV0": diff((2, 3, ["2"]))})
    session = told(talk, tmp_path, sink)
    assert [outcome for outcome, _, _ in outcomes(session)] == found
    assert len(session.edits) == num_edits
    assert sink.dropped["code blocks that were not applied"] == (not found and not num_edits)


def test_parts_that_were_kept_are_told_from_parts_that_were_not(tmp_path: Path, sink: RememberingSink) -> None:
    talk = Talk()
    bubble = talk.tool("search_replace", {"file_path": "a.py", "old_string": "a\nb", "new_string": "A\nB"}, {}, additionalData={"codeblockId": "k0"})
    talk.block(bubble, "accepted", partialInlineDiffFatesId="f")
    fates = [{"fate": "accepted", "removedLines": ["a"], "addedLines": ["A"]}, {"fate": "rejected", "removedLines": ["b"], "addedLines": ["B"]}]
    talk.row("codeBlockPartialInlineDiffFates:c:f", {"fates": fates})
    session = told(talk, tmp_path, sink)
    assert outcomes(session) == [("kept", ("a",), ("A",)), ("rejected", ("b",), ("B",))]
    (edit,) = session.edits
    assert [(hunk.old, hunk.new) for hunk in edit.hunks] == [(("a",), ("A",))]


def test_a_tool_and_its_code_block_are_one_change(tmp_path: Path, sink: RememberingSink) -> None:
    talk = Talk()
    FIRST["state"](talk)
    kept = talk.tool("edit_file", {"relativeWorkspacePath": "a.py"}, {"diff": {"chunks": [CHUNK]}}, additionalData={"codeblockId": "k0"})
    talk.block(kept, "accepted", diffId="d")
    talk.row("codeBlockDiff:c:d", {"originalModelDiffWrtV0": [], "newModelDiffWrtV0": diff((2, 3, ["2"]))})
    talk.block("nobody", "accepted")
    session = told(talk, tmp_path, sink)
    assert kinds(session) == ["reply", "suggestion", "edit"]
    assert outcomes(session) == [("kept", ("two",), ("2",))]
    assert dict(sink.dropped) == {"code blocks of no message": 1}


def test_a_code_block_without_the_text_at_first_has_what_is_certain(tmp_path: Path, sink: RememberingSink) -> None:
    talk = Talk()
    for number, (old, new) in enumerate([((), (2, 2, ["x"])), ((2, 3, ["two"]), (2, 3, ["2"])), ((), (2, 3, ["2"]))]):
        talk.block(talk.add(2, text="So:"), "accepted", diffId=f"d{number}")
        talk.row(f"codeBlockDiff:c:d{number}", {"originalModelDiffWrtV0": diff(old) if old else [], "newModelDiffWrtV0": diff(new)})
    session = told(talk, tmp_path, sink)
    assert [[(hunk.old, hunk.new) for hunk in edit.hunks] for edit in session.edits] == [[((), ("x",))], [(("two",), ("2",))], []]


PATCH = "*** Begin Patch\n*** Update File: a.py\n@@\n one\n-two\n+2\n*** Delete File: b.py\n*** End Patch"


@pytest.mark.parametrize("call", [{"rawArgs": json.dumps({"file_path": "a.py", "patch": PATCH})}, {"rawArgs": PATCH, "params": "null"}])
def test_a_patch_is_of_each_file_that_it_names(tmp_path: Path, sink: RememberingSink, call: dict[str, str]) -> None:
    talk = Talk()
    talk.tool("apply_patch", {"relativeWorkspacePath": "a.py"}, {}, **call)
    found = [(edit.path, [(hunk.old, hunk.new) for hunk in edit.hunks]) for edit in told(talk, tmp_path, sink).edits]
    assert found == [("a.py", [(("two",), ("2",))]), ("b.py", [])]


@pytest.mark.parametrize(
    ("arguments", "result", "lines"),
    [
        ({"streamingContent": "# T\n"}, {"afterContentId": "composer.content.gone"}, ((), ("# T",))),
        ({}, {"contentsBeforeEdit": "a\n", "contentsAfterEdit": "b\n"}, (("a",), ("b",))),
        ({"contentsAfterEdit": "b\n"}, {"contentsBeforeEdit": "a\n"}, (("a",), ("b",))),
    ],
)  # fmt: skip
def test_what_a_file_holds_may_stand_in_the_call(tmp_path: Path, sink: RememberingSink, arguments: Any, result: Any, lines: Any) -> None:
    talk = Talk()
    talk.tool("edit_file_v2", {"relativeWorkspacePath": "a.py", **arguments}, result)
    (hunk,) = one(told(talk, tmp_path, sink), events.EditEvent).hunks
    assert (hunk.old, hunk.new) == lines


@pytest.mark.parametrize("says", [{"beforeContentId": "composer.content.e3b0c44298fc1c14"}, {"fileWasCreated": True, "beforeContentId": "composer.content.x"}])
def test_a_file_that_was_nothing_is_new(tmp_path: Path, sink: RememberingSink, says: dict[str, Any]) -> None:
    talk = Talk()
    talk.row("composer.content.e3b0c44298fc1c14", "")
    talk.row("composer.content.2", "hello\n")
    talk.tool("edit_file_v2", {"relativeWorkspacePath": "a.py"}, {**says, "afterContentId": "composer.content.2"})
    edit = one(told(talk, tmp_path, sink), events.EditEvent)
    assert (edit.before_id, sink.texts[str(edit.after_id)]) == (None, "hello\n")


@pytest.mark.parametrize(
    ("name", "result", "fields"),
    [
        ("search_replace", {}, {"additionalData": {"status": "error"}}), ("delete_file", {"fileNonExistent": True}, {}),
        ("edit_file", {"isApplied": False}, {}),
    ],
)  # fmt: skip
def test_an_edit_that_was_not_made_is_none(tmp_path: Path, sink: RememberingSink, name: str, result: Any, fields: dict[str, Any]) -> None:
    talk = Talk()
    talk.tool(name, {"file_path": "a.py", "old_string": "a", "new_string": "b"}, result, **fields)
    assert kinds(told(talk, tmp_path, sink)) == ["reply"]


def test_an_edit_that_was_skipped_was_rejected(tmp_path: Path, sink: RememberingSink) -> None:
    talk = Talk()
    error = {"clientVisibleErrorMessage": "Edit rejected: User chose to skip"}
    talk.tool("search_replace", {"file_path": "a.py", "old_string": "a", "new_string": "b"}, None, status="cancelled", error=error)
    assert outcomes(told(talk, tmp_path, sink)) == [("rejected", ("a",), ("b",))]


def test_a_new_file_has_no_text_before(tmp_path: Path, sink: RememberingSink) -> None:
    talk = Talk(originalFileStates={URI: {"content": "", "isNewlyCreated": True}})
    made = talk.tool("write", {"relativeWorkspacePath": "a.py"}, {"diff": {"chunks": [CHUNK]}}, additionalData={"codeblockId": "k0"})
    talk.block(made, "completed", diffId="d")
    talk.row("codeBlockDiff:c:d", {"originalModelDiffWrtV0": [], "newModelDiffWrtV0": diff((1, 2, ["one", "two", ""]))})
    (edit,) = told(talk, tmp_path, sink).edits
    assert (edit.before_id, sink.texts[str(edit.after_id)]) == (None, "one\ntwo\n")


@pytest.mark.parametrize("places", [[(2, 9, ["x"])], [(3, 2, ["x"])], [(1, 3, ["x"]), (2, 3, ["y"])], [(0, 1, ["x"])]])
def test_places_that_do_not_fit_the_text_are_not_guessed(tmp_path: Path, sink: RememberingSink, places: Any) -> None:
    talk = Talk()
    FIRST["state"](talk)
    talk.block(talk.add(2, text="So:"), "accepted", diffId="d")
    talk.row("codeBlockDiff:c:d", {"originalModelDiffWrtV0": [], "newModelDiffWrtV0": diff(*places)})
    (edit,) = told(talk, tmp_path, sink).edits
    assert (edit.path, edit.hunks) == ("a.py", ())


def test_of_a_long_file_the_lines_that_changed_are_enough(tmp_path: Path, sink: RememberingSink) -> None:
    talk = Talk()
    for name, word in (("1", "two"), ("2", "2")):
        talk.row(f"composer.content.{name}", "line\n" * 50_000 + word)
    ids = {"beforeContentId": "composer.content.1", "afterContentId": "composer.content.2"}
    talk.tool("edit_file_v2", {"relativeWorkspacePath": "a.py"}, ids, additionalData={"precomputedDiff": {"lines": SHOWN[:3]}})
    (edit,) = told(talk, tmp_path, sink).edits
    assert [(hunk.start_line, hunk.old, hunk.new) for hunk in edit.hunks] == [(9, ("two",), ("2",))]
