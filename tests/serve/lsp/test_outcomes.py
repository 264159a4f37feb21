"""What becomes of a suggestion, as an editor tells it, and that what was rejected never comes back."""

from __future__ import annotations

import random
from typing import Any

import pytest
from tests.serve.lsp.conftest import ACCEPT, REJECT, Buffer, Start, Talk

from apprentice.serve.lsp.documents import Document
from apprentice.serve.lsp.outcomes import Outcomes, Proposal
from apprentice.text.edits import Edit

TEXT = "def add(a, b):\n    return a\n\nprint(add(1, 2))\n"
HERE = TEXT.index("return a") + len("return a")
LINE = "    return a + b"


def ready(start: Start, said: Any = None, **options: Any) -> tuple[Talk, Buffer]:
    talk = start({"    return a": " + b"} if said is None else said, record=True, **options)
    return talk, talk.buffer(TEXT)


def offered(buffer: Buffer, at: int = HERE) -> dict[str, Any]:
    item = buffer.complete(at)
    assert item is not None
    return item


def test_accepted_and_saved_is_kept(start: Start) -> None:
    talk, buffer = ready(start)
    buffer.accept(offered(buffer))
    assert buffer.text.split("\n")[1] == LINE
    assert talk.outcomes == []
    buffer.type(0, "# first\n")
    buffer.save()
    assert talk.outcomes == [(LINE, "kept")]
    buffer.save()
    assert len(talk.outcomes) == 1


@pytest.mark.parametrize("order", ["change first", "command first", "as a notification"])
def test_the_command_and_the_change_come_in_any_order(start: Start, order: str) -> None:
    talk, buffer = ready(start)
    item = offered(buffer)
    if order == "command first":
        talk.client.request("workspace/executeCommand", item["command"])
        buffer.put(item)
    else:
        buffer.put(item)
        if order == "as a notification":
            talk.client.notify("workspace/executeCommand", item["command"])
        else:
            talk.client.request("workspace/executeCommand", item["command"])
    buffer.type(len(buffer.text), "\n")
    buffer.save()
    buffer.close()
    assert talk.outcomes == [(LINE, "kept")]
    # The model wrote it: no edit of the developer has it.
    edits = [(event["author"]["kind"], event["hunks"][0]["new"]) for event in talk.recorded if event["type"] == "edit"]
    assert edits == [("assistant", [LINE]), ("developer", [""])]


def test_accepted_and_changed_before_the_next_save_is_changed(start: Start) -> None:
    talk, buffer = ready(start)
    buffer.accept(offered(buffer))
    at = buffer.text.index("+ b")
    buffer.replace(at, at + 1, "*")
    buffer.save()
    assert talk.outcomes == [(LINE, "changed")]


def test_changes_around_the_accepted_lines_do_not_count(start: Start) -> None:
    talk, buffer = ready(start)
    buffer.accept(offered(buffer))
    buffer.replace(0, 0, "# one\n# two\n")
    end = buffer.text.index(LINE) + len(LINE)
    buffer.replace(end, end, "\n    # below")
    buffer.replace(end, end + len("\n    # below"), "")
    start_of_line = buffer.text.index(LINE)
    buffer.replace(start_of_line, start_of_line, "    # above\n")
    buffer.save()
    assert talk.outcomes == [(LINE, "kept")]


def test_changed_after_the_save_was_kept(start: Start) -> None:
    talk, buffer = ready(start)
    buffer.accept(offered(buffer))
    buffer.save()
    buffer.replace(HERE, HERE + 1, "")
    buffer.save()
    assert talk.outcomes == [(LINE, "kept")]


def test_accepted_and_taken_back_is_undone_and_not_offered_again(start: Start) -> None:
    talk, buffer = ready(start)
    item = offered(buffer)
    buffer.accept(item)
    buffer.replace(HERE, HERE + len(item["insertText"]), "")
    buffer.save()
    assert talk.outcomes == [(LINE, "undone")]
    # Neither is it after something else was done: it would undo nothing, but was undone.
    buffer.type(0, "x")
    assert buffer.complete(HERE + 1) is None


def test_something_else_typed_there_is_rejected(start: Start) -> None:
    talk, buffer = ready(start)
    offered(buffer)
    buffer.type(HERE, "z")
    assert talk.outcomes == [(LINE, "rejected")]


def test_a_line_break_instead_is_rejected(start: Start) -> None:
    talk, buffer = ready(start)
    offered(buffer)
    buffer.replace(HERE, HERE, "\n    ")
    assert talk.outcomes == [(LINE, "rejected")]


def test_an_editor_may_say_that_it_was_rejected(start: Start) -> None:
    talk, buffer = ready(start)
    item = offered(buffer)
    talk.client.request("workspace/executeCommand", {"command": REJECT, "arguments": item["command"]["arguments"]})
    assert talk.outcomes == [(LINE, "rejected")]
    assert buffer.complete(HERE) is None


def leave_by_typing_elsewhere(talk: Talk, buffer: Buffer) -> None:
    buffer.type(0, "# ")


def leave_by_closing(talk: Talk, buffer: Buffer) -> None:
    buffer.close()


def leave_by_deleting(talk: Talk, buffer: Buffer) -> None:
    buffer.replace(HERE - 1, HERE, "")


def leave_by_reopening(talk: Talk, buffer: Buffer) -> None:
    buffer.open()


@pytest.mark.parametrize("leave", [leave_by_typing_elsewhere, leave_by_closing, leave_by_deleting, leave_by_reopening])
def test_shown_and_left_is_ignored(start: Start, leave: Any) -> None:
    talk, buffer = ready(start)
    offered(buffer)
    leave(talk, buffer)
    assert talk.outcomes == [(LINE, "ignored")]


def test_shown_when_the_session_ends_is_ignored(start: Start) -> None:
    talk, buffer = ready(start)
    offered(buffer)
    talk.client.request("shutdown")
    assert talk.recorder is not None
    (file,) = talk.recorder.folder.glob("*.jsonl")
    assert '"outcome":"ignored"' in file.read_text()


def test_another_suggestion_in_its_place_leaves_it_and_the_same_does_not(start: Start) -> None:
    talk, buffer = ready(start, {"    return a": " + b", "print(add(1, 2))": "  # 3"})
    first = offered(buffer)
    again = offered(buffer)
    assert first["command"]["arguments"] == again["command"]["arguments"]
    assert talk.outcomes == []
    offered(buffer, TEXT.index("2))") + 3)
    assert talk.outcomes == [(LINE, "ignored")]


def test_typing_what_is_suggested_follows_the_suggestion(start: Start) -> None:
    talk, buffer = ready(start, {"    return a": " + b", "    return a ": "+ b", "    return a +": " b"})
    first = offered(buffer)
    item = first
    for number, character in enumerate(" +"):
        buffer.type(HERE + number, character)
        item = offered(buffer, HERE + number + 1)
        assert item["command"]["arguments"] == first["command"]["arguments"]
    assert item["insertText"] == " b"
    buffer.accept(item)
    buffer.save()
    assert talk.outcomes == [(LINE, "kept")]
    buffer.close()
    edits = [(event["author"]["kind"], event["hunks"][0]["new"]) for event in talk.recorded if event["type"] == "edit"]
    assert edits == [("developer", ["    return a +"]), ("assistant", [LINE])]


def test_typed_by_hand_to_the_end_is_ignored(start: Start) -> None:
    talk, buffer = ready(start)
    offered(buffer)
    buffer.type(HERE, " + b")
    buffer.save()
    assert talk.outcomes == []
    buffer.close()
    assert talk.outcomes == [(LINE, "ignored")]
    assert [event["author"]["kind"] for event in talk.recorded if event["type"] == "edit"] == ["developer"]


def test_brackets_that_the_editor_closes_are_no_rejection(start: Start) -> None:
    talk, buffer = ready(start, {"    return a": '.get("x", [1])'})
    offered(buffer)
    buffer.type(HERE, ".get")
    buffer.replace(HERE + 4, HERE + 4, "()")
    buffer.replace(HERE + 5, HERE + 5, '""')
    buffer.type(HERE + 6, "x")
    assert talk.outcomes == []
    buffer.type(HERE + 7, "y")
    assert talk.outcomes == [('    return a.get("x", [1])', "rejected")]


def test_a_part_that_was_accepted_and_left_is_changed(start: Start) -> None:
    talk, buffer = ready(start)
    item = offered(buffer)
    buffer.replace(HERE, HERE, " +")
    talk.client.notify("textDocument/didPartiallyAcceptCompletion", {"item": item, "acceptedLength": 2})
    buffer.type(len(buffer.text), "\n")
    assert talk.outcomes == [(LINE, "changed")]
    buffer.close()
    edits = [(event["author"]["kind"], event["hunks"][0]["new"]) for event in talk.recorded if event["type"] == "edit"]
    assert edits[0] == ("assistant", ["    return a +"])


def test_part_after_part_until_all_is_accepted_is_kept(start: Start) -> None:
    talk, buffer = ready(start, {"    return a": " + '😀' + b"})
    item = offered(buffer)
    buffer.replace(HERE, HERE, " + '😀'")
    # The length is counted from the beginning of the text, in UTF-16.
    talk.client.notify("textDocument/didPartiallyAcceptCompletion", {"item": item, "acceptedLength": 7})
    buffer.replace(HERE + 6, HERE + 6, " + b")
    talk.client.notify("textDocument/didPartiallyAcceptCompletion", {"item": item, "acceptedLength": 11})
    buffer.save()
    assert talk.outcomes == [("    return a + '😀' + b", "kept")]
    buffer.close()
    assert {event["author"]["kind"] for event in talk.recorded} == {"assistant"}


def test_what_an_editor_never_showed_has_no_outcome(start: Start) -> None:
    talk, buffer = ready(start, {"    return a": " + b", "    return az": "oo", "print(add(1, 2))": "  # 3"})
    item = offered(buffer)
    talk.client.notify("textDocument/didShowCompletion", {"item": item})
    buffer.type(HERE, "z")
    assert talk.outcomes == [(LINE, "rejected")]
    # This editor says what it shows, and says nothing of the next one.
    offered(buffer, HERE + 1)
    buffer.type(HERE + 1, "q")
    assert len(talk.outcomes) == 1
    item = offered(buffer, buffer.text.index("2))") + 3)
    buffer.accept(item)
    buffer.save()
    assert [outcome for _, outcome in talk.outcomes] == ["rejected", "kept"]


def test_who_tells_of_next_edits_alone_shows_every_completion(start: Start) -> None:
    talk, buffer = ready(start, {"    return a": " + b", "print(add(1, 2))": "print(add(3, 4))"})
    edit = buffer.edit(TEXT.index("print"))
    assert edit is not None
    talk.client.notify("textDocument/didShowInlineEdit", {"item": {"command": edit["command"]}})
    offered(buffer)
    buffer.type(HERE, "z")
    assert (LINE, "rejected") in talk.outcomes


def test_a_next_edit_is_followed_too(start: Start) -> None:
    talk, buffer = ready(start, {"    return a": LINE, "print(add(1, 2))": "print(add(3, 4))", "": None})
    edit = buffer.edit(HERE)
    assert edit is not None
    talk.client.notify("textDocument/didShowInlineEdit", {"item": {"command": {"arguments": edit["command"]["arguments"]}}})
    buffer.accept(edit)
    buffer.save()
    other = buffer.edit(buffer.text.index("print"))
    assert other is not None
    talk.client.notify("textDocument/didShowInlineEdit", {"item": {"command": other["command"]}})
    at = buffer.text.index("1, 2")
    buffer.replace(at, at + 1, "7")
    assert talk.outcomes == [(LINE, "kept"), ("print(add(3, 4))", "rejected")]


@pytest.mark.parametrize(("typed", "outcome"), [("b - a", "rejected"), ("a + b", "ignored"), ("", "ignored")])
def test_what_is_typed_in_the_place_of_a_part_that_was_deleted_decides(start: Start, typed: str, outcome: str) -> None:
    """As Vim's `C` does it: what the line says goes first, all of it or a part that a suggestion would keep."""
    talk, buffer = ready(start, {"    return a": LINE})
    assert buffer.edit(HERE) is not None
    at = buffer.text.index("return a")
    buffer.replace(at, at + len("return a"), "")
    assert talk.outcomes == []
    for number, letter in enumerate(f"return {typed}" if typed else ""):
        buffer.type(at + number, letter)
    buffer.type(0, "# elsewhere\n")
    assert talk.outcomes == [(LINE, outcome)]


def test_a_line_that_was_taken_out_by_an_edit_is_kept_out(start: Start) -> None:
    talk = start({"gone": None}, record=True)
    buffer = talk.buffer("a\nb\ngone\nc\nd\n")
    edit = buffer.edit(5)
    assert edit is not None
    buffer.accept(edit)
    assert buffer.text == "a\nb\nc\nd\n"
    buffer.save()
    buffer.close()
    change, suggestion = talk.recorded
    assert (suggestion["edit"]["old"], suggestion["edit"]["new"], suggestion["outcome"]) == (["gone"], [], "kept")
    assert (change["author"]["kind"], change["hunks"][0]["old"]) == ("assistant", ["gone"])


@pytest.mark.parametrize("first", ["change", "command"])
@pytest.mark.parametrize("new", ["import a\nimport b", "import z\nimport a", "# why\nimport a", "# why\nimport a\n# so"])
def test_lines_that_a_next_edit_puts_in_beside_one_that_stays_are_its_own(start: Start, first: str, new: str) -> None:
    talk = start({"import a": new, "x": None}, record=True)
    buffer = talk.buffer("# top\nimport a\nx = 1\n")
    edit = buffer.edit(7)
    assert edit is not None
    if first == "change":
        buffer.accept(edit)
    else:
        talk.client.request("workspace/executeCommand", edit["command"])
        buffer.put(edit)
    assert buffer.text == f"# top\n{new}\nx = 1\n"
    buffer.type(len(buffer.text), "y")
    buffer.save()
    buffer.close()
    suggestions = [(event["edit"]["old"], event["outcome"]) for event in talk.recorded if event["type"] == "suggestion"]
    assert [outcome for _, outcome in suggestions] == ["kept"]
    edits = [(event["author"]["kind"], event["hunks"][0]["new"]) for event in talk.recorded if event["type"] == "edit"]
    assert [kind for kind, _ in edits] == ["assistant", "developer"]
    assert edits[1][1] == ["y"]


def test_lines_that_were_put_in_and_taken_out_again_are_undone(start: Start) -> None:
    talk = start({"import a": "import a\nimport b"}, record=True)
    buffer = talk.buffer("import a\nx = 1\n")
    edit = buffer.edit(0)
    assert edit is not None
    buffer.accept(edit)
    buffer.replace(len("import a"), len("import a\nimport b"), "")
    buffer.save()
    assert talk.outcomes == [("import a", "undone")] or talk.outcomes == [("import b", "undone")]
    buffer.type(len(buffer.text), "y")
    assert buffer.edit(0) is None


def test_a_line_that_was_taken_out_and_put_back_is_undone(start: Start) -> None:
    talk = start({"gone": None}, record=True)
    buffer = talk.buffer("a\nb\ngone\nc\n")
    edit = buffer.edit(5)
    assert edit is not None
    buffer.accept(edit)
    buffer.replace(4, 4, "gone\n")
    buffer.save()
    (suggestion,) = [event for event in talk.recorded if event["type"] == "suggestion"]
    assert (suggestion["edit"]["old"], suggestion["outcome"]) == (["gone"], "undone")
    buffer.type(len(buffer.text), "y")
    assert buffer.edit(5) is None


@pytest.mark.parametrize("text", ["a\ngone", "gone\na", "a\ngone\nb"])
def test_a_line_taken_out_at_an_end_of_the_file_is_the_models_doing(start: Start, text: str) -> None:
    talk = start({"gone": None}, record=True)
    buffer = talk.buffer(text)
    edit = buffer.edit(text.index("gone"))
    assert edit is not None
    buffer.accept(edit)
    assert "gone" not in buffer.text
    # Work on the line beside it says nothing of the one that is out.
    at = buffer.text.index("a") + 1
    buffer.replace(at, at, "!")
    buffer.save()
    buffer.close()
    found = [event["outcome"] if event["type"] == "suggestion" else event["author"]["kind"] for event in talk.recorded]
    assert sorted(found) == ["assistant", "developer", "kept"]


def test_what_is_thrown_away_with_its_document_says_nothing(start: Start) -> None:
    talk, buffer = ready(start)
    (talk.root / "a.py").write_text(TEXT)
    buffer.accept(offered(buffer))
    buffer.close()
    assert talk.outcomes == [(LINE, "ignored")]
    # Written by an editor that says nothing of it, it was kept.
    buffer = talk.buffer(TEXT)
    buffer.accept(offered(buffer))
    (talk.root / "a.py").write_text(buffer.text)
    buffer.close()
    assert talk.outcomes[1:] == [(LINE, "kept")]


@pytest.mark.parametrize("whole", [True, False])
def test_a_file_that_somebody_else_wrote_is_nobodys_typing(start: Start, whole: bool) -> None:
    talk = start({"    return a": " + b"}, record=True)
    path = talk.root / "a.py"
    path.write_text(TEXT)
    buffer = talk.buffer(TEXT)
    buffer.replace(0, 0, "# mine\n")
    path.write_text(buffer.text)
    buffer.save()
    talk.client.wait()
    text = buffer.text.replace("print(add(1, 2))", "print(add(3, 4))\nprint(add(5, 6))")
    path.write_text(text)
    if whole:
        buffer.set(text)
    else:
        at = buffer.text.index("1, 2")
        buffer.replace(at, at + len("1, 2))"), "3, 4))\nprint(add(5, 6))")
    assert buffer.text == text
    buffer.type(len(text), "# mine too")
    buffer.close()
    assert [event["hunks"][0]["new"] for event in talk.recorded] == [["# mine"], ["# mine too"]]
    assert not any("5, 6" in str(edits) and "mine" not in str(edits) for edits in talk.remembered)


def test_what_takes_the_last_edit_back_is_not_offered(start: Start) -> None:
    talk = start({"value = tw": "o", "value = two": "value = one", "value = o": "ne"})
    buffer = talk.buffer("# top\nvalue = one\n")
    buffer.replace(14, 17, "two")
    assert buffer.edit(14) is None
    buffer.replace(14, 17, "o")
    assert buffer.complete(15) is None
    assert len(talk.generator.requests) == 2


ALPHABET = "abc 1"


@pytest.mark.parametrize("kind", ["completion", "edit"])
def test_what_was_rejected_never_comes_back(start: Start, kind: str) -> None:
    """200 random developers and suggestions: whatever they do meanwhile, what they rejected at a line is not offered there;
    a blank line is known by the one above it."""
    talk = start(lambda line: f"{line}{_says(line)}" if kind == "edit" else _says(line))
    came_back = rejections = offers = 0
    for seed in range(100):
        choose = random.Random(seed)
        buffer = talk.buffer("".join(f"{choose.choice(ALPHABET) * 2}\n" for _ in range(3)), f"{kind}-{seed}.py")
        rejected: set[tuple[str, str, str]] = set()
        for _ in range(12):
            line = choose.randrange(3)
            at = sum(len(one) + 1 for one in buffer.text.split("\n")[:line])
            end = at + len(buffer.text.split("\n")[line])
            old = buffer.text[at:end]
            item = buffer.complete(end) if kind == "completion" else buffer.edit(end)
            if item is None:
                _do_something(choose, buffer, at, end)
                continue
            offers += 1
            new = old + item["insertText"] if kind == "completion" else item["text"]
            above = "" if old.strip() or not line else buffer.text.split("\n")[line - 1]
            came_back += (above, old, new) in rejected
            typed = choose.choice([character for character in ALPHABET if not new.startswith(old + character)])
            buffer.type(end, typed)
            rejected.add((above, old, new))
            rejections += 1
            # Often back to where it was: there it must not come again.
            if choose.random() < 0.8:
                buffer.replace(end, end + 1, "")
            _do_something(choose, buffer, at, end)
        buffer.close()
    assert came_back == 0
    assert rejections > 200
    assert offers == rejections


def _says(line: str) -> str:
    """Always the same at the same line, as a greedy model."""
    choose = random.Random(line)
    return "".join(choose.choice(ALPHABET.strip()) for _ in range(choose.randrange(1, 4)))


def _do_something(choose: random.Random, buffer: Buffer, at: int, end: int) -> None:
    what = choose.randrange(5)
    if what == 0:
        buffer.save()
    elif what == 1:
        buffer.replace(len(buffer.text), len(buffer.text), "z\n")
    elif what == 2 and end > at + 1:
        buffer.replace(end - 1, end, "")


def test_the_accept_command_of_nothing_known_does_nothing(start: Start) -> None:
    talk, buffer = ready(start)
    for arguments in (None, [], ["x"], [{"a": 1}, 2]):
        assert talk.client.request("workspace/executeCommand", {"command": ACCEPT, "arguments": arguments}) is True
    assert talk.recorded == []


def test_what_was_typed_along_and_rejected_is_not_offered_where_it_was_typed_along(start: Start) -> None:
    _, buffer = ready(start, {"    return a": " + b", "    return a +": " b"})
    offered(buffer)
    # An editor need not ask after every letter.
    buffer.type(HERE, " +")
    buffer.type(HERE + 2, "c")
    buffer.replace(HERE + 2, HERE + 3, "")
    assert buffer.complete(HERE + 2) is None


def test_a_rejection_on_a_blank_line_is_of_that_place(start: Start) -> None:
    talk = start(lambda line: "return None" if not line.strip() else None, record=True)
    buffer = talk.buffer("def one():\n    \n\ndef two():\n    \n")
    first, second = (buffer.text.index(name) + len(name) + 5 for name in ("one():", "two():"))
    offered(buffer, first)
    buffer.type(first, "x")
    buffer.replace(first, first + 1, "")
    assert buffer.complete(first) is None
    assert offered(buffer, second)["insertText"] == "return None"


def test_an_insertion_between_equal_lines_is_known_wherever_a_recording_puts_it() -> None:
    text = ["f(", "    stream,", "    auth,", "    follow,", ")"]
    document = Document("file:///a.py", "\n".join(text) + "\n", name="a.py")
    proposal = Proposal(
        start_line=1, old=("    stream,",), new=("    stream,", "    auth,", "    timeout,"), head="", replaced="", inserted="", tail="", item=""
    )
    recorded = Edit("a.py", 3, (), ("    timeout,", "    auth,"), tuple(text[:3]), tuple(text[3:]))
    assert Outcomes(rejected=[[recorded]]).is_rejected(document, proposal)
    other = Edit("a.py", 3, (), ("    timeout,", "    trust,"), tuple(text[:3]), tuple(text[3:]))
    assert not Outcomes(rejected=[[other]]).is_rejected(document, proposal)


def test_what_changes_several_places_is_one_suggestion() -> None:
    text = [f"line {number}" for number in range(8)]
    document = Document("file:///a.py", "\n".join(text) + "\n", name="a.py")
    proposal = Proposal.of_lines(1, text[1:7], ["first", *text[2:6], "last"])
    places = [Edit("a.py", 1, ("line 1",), ("first",), ("line 0",)), Edit("a.py", 6, ("line 6",), ("last",), tuple(text[2:6]))]
    assert Outcomes(rejected=[places]).is_rejected(document, proposal)
    assert not Outcomes(rejected=[[place] for place in places]).is_rejected(document, proposal)
