"""What an editor gets: the right place in every unit, nothing stale, nothing it must not have."""

from __future__ import annotations

import dataclasses
import threading
import time
from typing import Any

import pytest
from tests.serve.lsp.conftest import TOKENIZER, RpcError, Start, Waiting, greet

from apprentice.core.fakes import ScriptedGenerator
from apprentice.text.edits import Edit

TEXT = "def add(a, b):\n    return a\n\nprint(add(1, 2))\n"
HERE = TEXT.index("return a") + len("return a")


def test_the_rest_of_the_line_is_completed_with_the_file_around_it(start: Start) -> None:
    talk = start(" + b")
    buffer = talk.buffer(TEXT)
    item = buffer.complete(HERE)
    assert item is not None
    assert item["insertText"] == " + b"
    assert item["range"] == {"start": {"line": 1, "character": 12}, "end": {"line": 1, "character": 12}}
    assert item["command"]["command"] == "apprentice.acceptSuggestion"
    (prompt,) = talk.prompts
    assert prompt == "# a.py, below the edit\n\nprint(add(1, 2))\n# a.py\ndef add(a, b):\n    return a"


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        (None, "utf-16"), (["utf-16"], "utf-16"), (["utf-8", "utf-16", "utf-32"], "utf-16"), (["utf-8"], "utf-8"),
        (["utf-32"], "utf-32"), (["utf-32", "utf-8"], "utf-32"), (["latin-1"], "utf-16"),
    ],
)  # fmt: skip
def test_places_behind_astral_characters_are_right_in_every_encoding(start: Start, offered: list[str] | None, chosen: str) -> None:
    talk = start(lambda line: "!" if line == 'x = "😀é𝄞' else "wrong", initialize=False)
    assert greet(talk.client, talk.root, offered)["capabilities"]["positionEncoding"] == chosen
    text = 'y = 1\nx = "😀é𝄞"\n'
    buffer = talk.buffer(text, encoding=chosen)
    item = buffer.complete(text.rindex('"'))
    assert item is not None
    assert item["insertText"] == "!"
    units = {"utf-8": 15, "utf-16": 10, "utf-32": 8}[chosen]
    assert item["range"]["start"] == {"line": 1, "character": units}
    buffer.put(item)
    # Changes are counted the same way: what is asked next is asked of what stands there.
    buffer.replace(buffer.text.index("é"), buffer.text.index("é") + 1, "e𝄞")
    buffer.complete(len(buffer.text))
    assert 'x = "😀e𝄞𝄞!"' in talk.prompts[-1]


def test_a_line_behind_the_end_and_a_column_behind_it_are_the_end(start: Start) -> None:
    talk = start("x")
    buffer = talk.buffer("a\nbb")
    place = {"textDocument": {"uri": buffer.uri}, "position": {"line": 99, "character": 99}, "context": {"triggerKind": 2}}
    item = talk.client.request("textDocument/inlineCompletion", place)["items"][0]
    assert item["range"]["start"] == {"line": 1, "character": 2}


def test_windows_line_breaks_and_form_feeds_end_lines_as_the_editor_has_them(start: Start) -> None:
    talk = start(lambda line: "+" if line == "two\x0cand a half" else "wrong")
    text = "one\r\ntwo\x0cand a half\r\nthree\r\n"
    buffer = talk.buffer(text)
    talk.client.wait()
    place = {"textDocument": {"uri": buffer.uri}, "position": {"line": 1, "character": 14}, "context": {"triggerKind": 2}}
    item = talk.client.request("textDocument/inlineCompletion", place)["items"][0]
    assert item["insertText"] == "+"


def test_a_request_is_stale_when_the_same_is_asked_again(start: Start) -> None:
    waiting = Waiting(ScriptedGenerator(TOKENIZER, [" + b"], log_prob=-0.01))
    talk = start(waiting)
    buffer = talk.buffer(TEXT)
    first = buffer.ask_completion(HERE)
    assert waiting.begun.acquire(timeout=20)
    edit = buffer.ask_edit(HERE)
    second = buffer.ask_completion(HERE)
    talk.client.wait()
    waiting.let.release(100)
    assert talk.client.answer(first) is None
    assert talk.client.answer(second)["items"][0]["insertText"] == " + b"
    # Another kind of request is not the same.
    assert talk.client.answer(edit) == {"edits": []}
    assert len(waiting.requests) == 3
    assert waiting.cancelled == 1


def test_a_request_is_stale_when_the_document_has_changed(start: Start) -> None:
    waiting = Waiting(ScriptedGenerator(TOKENIZER, [" + b"], log_prob=-0.01))
    talk = start(waiting)
    buffer, other = talk.buffer(TEXT), talk.buffer(TEXT, "b.py")
    number = buffer.ask_completion(HERE)
    assert waiting.begun.acquire(timeout=20)
    buffer.type(HERE, "z")
    elsewhere = other.ask_completion(HERE)
    talk.client.wait()
    waiting.let.release(100)
    assert talk.client.answer(number) is None
    assert talk.client.answer(elsewhere)["items"]
    assert talk.client.answer(buffer.ask_edit(HERE, version=1)) == {"edits": []}
    assert waiting.cancelled == 1


@pytest.mark.parametrize("method", ["completion", "edit"])
def test_a_cancelled_request_stops_at_its_next_token(start: Start, method: str) -> None:
    waiting = Waiting(ScriptedGenerator(TOKENIZER, ["\n" + "x" * 50], log_prob=-0.01))
    talk = start(waiting)
    buffer = talk.buffer(TEXT)
    number = buffer.ask_edit(HERE)
    assert waiting.begun.acquire(timeout=20)
    in_line = buffer.ask_completion(HERE)
    talk.client.notify("$/cancelRequest", {"id": number})
    talk.client.notify("$/cancelRequest", {"id": in_line})
    for one in (number, in_line):
        with pytest.raises(RpcError) as error:
            talk.client.answer(one)
        assert error.value.code == -32800
    waiting.let.release(1)
    deadline = time.monotonic() + 10
    while not waiting.cancelled and time.monotonic() < deadline:
        time.sleep(0.01)
    assert waiting.cancelled == 1
    # Its line is free again, and what waited was not begun.
    waiting.let.release(200)
    buffer.complete(HERE)
    assert len(waiting.requests) == 2


def test_the_next_edit_replaces_the_line_at_the_cursor(start: Start) -> None:
    talk = start({"    return a": "    return a + b"})
    buffer = talk.buffer(TEXT)
    edit = buffer.edit(HERE)
    assert edit is not None
    assert edit["text"] == "    return a + b"
    assert edit["range"] == {"start": {"line": 1, "character": 0}, "end": {"line": 1, "character": 12}}
    assert edit["textDocument"] == {"uri": buffer.uri, "version": 1}
    assert edit["command"]["arguments"]
    # What changes nothing is no edit.
    assert buffer.edit(0) is None


def test_a_line_can_be_taken_out_and_lines_put_in_at_the_end(start: Start) -> None:
    talk = start({"gone": None, "": "new\nlines"})
    buffer = talk.buffer("a\ngone\nb\n")
    edit = buffer.edit(3)
    assert edit is not None
    assert (edit["text"], edit["range"]["end"]) == ("", {"line": 2, "character": 0})
    buffer.put(edit)
    assert buffer.text == "a\nb\n"
    edit = buffer.edit(len(buffer.text))
    assert edit is not None
    buffer.put(edit)
    assert buffer.text == "a\nb\nnew\nlines"
    last = talk.buffer("a\ngone", "b.py")
    edit = last.edit(4)
    assert edit is not None
    last.put(edit)
    assert last.text == "a"


@pytest.mark.parametrize("kind", ["completion", "edit"])
def test_of_what_is_not_shown_only_a_completion_that_was_asked_for_is_given(start: Start, kind: str) -> None:
    talk = start({"    return a": " + b" if kind == "completion" else "    return b"}, shows=False)
    buffer = talk.buffer(TEXT)
    if kind == "edit":
        assert buffer.edit(HERE) is None
    else:
        assert buffer.complete(HERE, kind=2) is None
        assert buffer.complete(HERE, kind=1) is not None


@pytest.mark.parametrize("said", ["", "   ", "\x1b[31mred", "a\u202eb", "a\rb"])
def test_nothing_and_what_would_hide_in_the_editor_is_not_given(start: Start, said: str) -> None:
    talk = start(said)
    assert talk.buffer(TEXT).complete(HERE) is None


@pytest.mark.parametrize("text", ["a\0b\n", "x" * 5000 + "\n", "line\n" * 500_000], ids=["binary", "long line", "large"])
def test_what_is_no_text_or_too_large_is_passed_over(start: Start, text: str) -> None:
    talk = start("x")
    buffer = talk.buffer(text)
    assert buffer.complete(1) is None
    assert buffer.edit(1) is None
    assert talk.generator.requests == []
    buffer.set("small\n")
    assert talk.buffer("small\n", "b.py").complete(5) is not None


def test_a_document_without_a_path_and_one_with_half_characters(start: Start) -> None:
    talk = start("x")
    buffer = talk.buffer("a\n")
    buffer.uri = "untitled:Untitled-1"
    buffer.text = "half \ud83d and NEL \x85 and \ufeff\n"
    buffer.open()
    assert buffer.complete(len("half \ud83d and")) is not None
    assert talk.prompts[-1].endswith("# untitled\nhalf \ufffd and")
    assert talk.buffer("a\n", "odd name é%20.py").complete(1) is not None
    assert "# odd name é%20.py\n" in talk.prompts[-1]


def test_the_path_is_that_in_the_repository(start: Start) -> None:
    talk = start("x")
    talk.buffer("a\n", "src/deep/c.py").complete(1)
    assert talk.prompts[-1] == "# src/deep/c.py\na"


def test_the_latest_edits_are_shown_but_not_the_one_at_the_cursor(start: Start) -> None:
    talk = start(lambda line: "x" if not line.startswith("    ") else line)
    lines = [f"line_{number} = {number}" for number in range(40)]
    buffer = talk.buffer("\n".join(lines) + "\n")
    at = buffer.text.index("= 3\n") + 2
    buffer.replace(at, at + 1, "three")
    at = buffer.text.index("= 30\n") + 4
    buffer.type(at, " + 1")
    buffer.complete(at + 4)
    prompt = talk.prompts[-1]
    assert "<<<<<<< before\nline_3 = 3\n=======\nline_3 = three\n>>>>>>> after\n" in prompt
    assert prompt.count("<<<<<<< before") == 1
    assert prompt.endswith("line_30 = 30 + 1")
    # A next edit follows from the last one.
    buffer.edit(at + 4)
    assert "<<<<<<< before\nline_30 = 30\n=======\nline_30 = 30 + 1\n>>>>>>> after\n" in talk.prompts[-1]
    other = talk.buffer("z = \n", "b.py")
    other.complete(4)
    assert "line_30 = 30 + 1\n>>>>>>> after\n# b.py\nz = " in talk.prompts[-1]
    # The memory is told of edits that have ended.
    assert [[edit.new for edit in edits] for edits in talk.remembered] == [[("line_3 = three",)]]


def test_a_memory_that_comes_while_the_editor_is_open_learns_what_was_done_before(start: Start) -> None:
    talk = start("x")
    buffer = talk.buffer("".join(f"line_{n} = {n}\n" for n in range(40)))
    for line in (3, 20):
        at = buffer.text.index(f"= {line}\n") + 2
        buffer.replace(at, at + 1, "9")
    talk.client.wait()
    told: list[list[Edit]] = []
    talk.slot.replace(dataclasses.replace(talk.slot.assistant, remember=lambda edits: told.append(list(edits))))
    buffer.complete(4)
    assert [[edit.new for edit in edits] for edits in told] == [[("line_3 = 9",)]]
    buffer.replace(0, 1, "l")
    buffer.replace(0, 1, "m")
    buffer.complete(4)
    assert [[edit.new for edit in edits] for edits in told[1:]] == [[("line_20 = 90",)]]


def test_what_was_not_committed_is_older_than_what_is_done_now(start: Start) -> None:
    asked = threading.Event()

    def uncommitted(path: Any, lines: list[str]) -> list[Edit]:
        asked.set()
        return [Edit("a.py", 0, ("old = 0",), ("old = 1",))]

    talk = start("x", uncommitted=uncommitted)
    buffer = talk.buffer("old = 1\n" + "\n" * 20 + "new = 0\n")
    assert asked.wait(10)
    at = len(buffer.text) - 2
    buffer.replace(at, at + 1, "1")
    deadline = time.monotonic() + 10
    while "old = 0" not in (prompt := talk.prompts[-1] if talk.prompts else "") and time.monotonic() < deadline:
        buffer.edit(0)
    assert prompt.index("old = 1\n>>>>>>> after") < prompt.index("new = 1\n>>>>>>> after")


def test_the_chosen_entry_of_a_menu_is_gone_on_from(start: Start) -> None:
    talk = start({"x = obj.method": "(1)"})
    buffer = talk.buffer("x = obj.me\n")
    span = {"start": {"line": 0, "character": 8}, "end": {"line": 0, "character": 10}}
    item = buffer.complete(10, selectedCompletionInfo={"range": span, "text": "method"})
    assert item is not None
    assert (item["insertText"], item["range"]) == ("method(1)", span)


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("textDocument/copilotInlineEdit", None), ("textDocument/copilotInlineEdit", {}),
        ("textDocument/copilotInlineEdit", {"textDocument": {"uri": 3}, "position": {"line": 0, "character": 0}}),
        ("textDocument/copilotInlineEdit", {"textDocument": {"uri": "file:///a"}, "position": {"line": -1, "character": 0}}),
        ("textDocument/copilotInlineEdit", {"textDocument": {"uri": "file:///a"}, "position": {"line": "x", "character": 0}}),
        ("textDocument/inlineCompletion", None), ("textDocument/inlineCompletion", {"textDocument": {}}),
        ("textDocument/inlineCompletion", [1, 2]),
        ("textDocument/inlineCompletion", {"textDocument": {"uri": "file:///a"}, "position": {"line": -1, "character": 0}, "context": {"triggerKind": 2}}),
        ("workspace/executeCommand", {}), ("workspace/executeCommand", {"command": "no such command"}),
    ],
)  # fmt: skip
def test_a_request_that_is_none_gets_an_error_and_the_next_one_its_answer(start: Start, method: str, params: Any) -> None:
    talk = start(" + b")
    with pytest.raises(RpcError) as error:
        talk.client.request(method, params)
    assert error.value.code == -32602
    assert "Traceback" not in error.value.message
    assert talk.buffer(TEXT).complete(HERE) is not None
    assert talk.client.notifications == []


def test_messages_that_are_none_are_answered_or_passed_over(start: Start) -> None:
    talk = start(" + b")
    buffer = talk.buffer(TEXT)
    talk.client.send_bytes(b"{not json")
    assert talk.client.unasked.get(timeout=10)["error"]["code"] == -32700
    for message in (
        [], 3, "x", {}, {"jsonrpc": "1.0", "method": "x"}, {"jsonrpc": "2.0"}, {"jsonrpc": "2.0", "id": 3},
        {"jsonrpc": "2.0", "id": [1], "method": "x", "params": {}}, {"jsonrpc": "2.0", "id": {"a": 1}, "method": "shutdown"}, {"jsonrpc": "2.0", "id": [1], "result": 1},
        {"jsonrpc": "2.0", "method": "textDocument/didChange", "params": {"textDocument": {"uri": "file:///unknown", "version": 1}, "contentChanges": [{"text": "x"}]}},
        {"jsonrpc": "2.0", "method": "textDocument/didChange", "params": {"nothing": 1}},
        {"jsonrpc": "2.0", "method": "textDocument/didChange", "params": {"textDocument": {"uri": buffer.uri, "version": 2}, "contentChanges": [{"range": {"start": {"line": 9, "character": 9}, "end": {"line": 0, "character": 0}}, "text": ""}]}},
        {"jsonrpc": "2.0", "method": "textDocument/didShowCompletion", "params": {"item": 3}},
        {"jsonrpc": "2.0", "method": "textDocument/didShowCompletion", "params": {"item": {"command": {"arguments": []}}}},
        {"jsonrpc": "2.0", "method": "textDocument/didPartiallyAcceptCompletion", "params": {"item": {}, "acceptedLength": -3}},
        {"jsonrpc": "2.0", "method": "workspace/executeCommand", "params": {"command": "apprentice.acceptSuggestion", "arguments": [{"a": 1}]}},
        {"jsonrpc": "2.0", "method": "textDocument/didSave", "params": {"textDocument": {"uri": "file:///unknown"}}},
        {"jsonrpc": "2.0", "method": "textDocument/didClose", "params": {"textDocument": {"uri": "file:///unknown"}}},
        {"jsonrpc": "2.0", "method": "$/cancelRequest", "params": {"id": 12345}},
        {"jsonrpc": "2.0", "method": "textDocument/didFocus", "params": {}},
    ):  # fmt: skip
        talk.client.send(message)
    with pytest.raises(RpcError) as error:
        talk.client.request("no/such/method", {})
    assert error.value.code == -32601
    other = talk.buffer(TEXT, "b.py")
    assert other.complete(HERE) is not None
    assert talk.client.notifications == []


def test_before_it_is_greeted_the_server_answers_no_question(start: Start) -> None:
    talk = start(" + b", initialize=False)
    buffer = talk.buffer(TEXT)
    for number in (buffer.ask_completion(HERE), buffer.ask_edit(HERE)):
        with pytest.raises(RpcError) as error:
            talk.client.answer(number)
        assert error.value.code == -32002


def test_a_model_that_fails_is_an_error_without_the_text(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    def fail(request: Any) -> str:
        raise RuntimeError("private text")

    talk = start(ScriptedGenerator(TOKENIZER, fail))
    buffer = talk.buffer(TEXT)
    with pytest.raises(RpcError) as error:
        talk.client.answer(buffer.ask_completion(HERE))
    assert "private" not in error.value.message
    assert "a suggestion failed" in caplog.text


def test_what_it_can_do(start: Start) -> None:
    talk = start("x", initialize=False)
    result = greet(talk.client, talk.root)
    can = result["capabilities"]
    assert result["serverInfo"]["name"] == "apprentice"
    assert can["inlineCompletionProvider"] == {}
    assert can["textDocumentSync"]["openClose"] is True
    assert can["textDocumentSync"]["change"] == 2
    assert can["textDocumentSync"]["save"] is True
    assert set(can["executeCommandProvider"]["commands"]) == {"apprentice.acceptSuggestion", "apprentice.rejectSuggestion"}
