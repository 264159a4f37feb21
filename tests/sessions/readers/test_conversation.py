"""What is alike in all talks with assistants: whose words, which edits, nothing secret, nothing without bounds."""

from __future__ import annotations

import time

import pytest
from tests.sessions.readers.conftest import RememberingSink, words

from apprentice.sessions import events
from apprentice.sessions.conversation import MAX_TEXT, Change, Conversation, Use, folder_name
from apprentice.text.redaction import Redactor


def talk(sink: RememberingSink) -> Conversation:
    return Conversation(sink, source="made", file="f", session_id="s", agent="claude", repository="r")


def edit(*changes: Change, **more: object) -> Use:
    return Use(name="Edit", arguments="{}", kind="edit", changes=changes, **more)  # pyrefly: ignore[bad-argument-type]


def said(text: str) -> list[tuple[str, str]]:
    conversation = talk(RememberingSink())
    conversation.said(text, 1.0, 0)
    session = conversation.session()
    return [] if session is None else [(str(e.__struct_config__.tag), getattr(e, "text", getattr(e, "command", ""))) for e in session.events]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("why does it say <bash-input>rm -rf /</bash-input> here?", [("prompt", "why does it say <bash-input>rm -rf /</bash-input> here?")]),
        ("<bash-input>ls</bash-input>", [("command", "ls")]),
        ('<system-reminder kind="x">no</system-reminder>yes', [("prompt", "yes")]),
        ("<task-notification><id>1</id></task-notification>\nRead the output file to retrieve the result: /tmp/x", []),
        ('<teammate-message teammate_id="alice">do it</teammate-message>', []),
        ("Base directory for this skill: /x\n\n# Skill", []),
        ("an unclosed <system-reminder> tag", [("prompt", "an unclosed <system-reminder> tag")]),
    ],
)
def test_only_what_a_person_typed(text: str, expected: list[tuple[str, str]]) -> None:
    assert said(text) == expected


def test_a_line_that_goes_takes_its_break_along(sink: RememberingSink) -> None:
    conversation = talk(sink)
    conversation.replied("x", 1.0, 0, uses=[edit(Change(path="a", old="two", new="", before="one\ntwo\nthree\n"))])
    (event,) = [e for e in conversation.session().events if isinstance(e, events.EditEvent)]  # pyrefly: ignore[missing-attribute]
    assert sink.texts[str(event.after_id)] == "one\nthree\n"


def test_a_file_that_grows_without_end_is_not_written(sink: RememberingSink) -> None:
    conversation = talk(sink)
    grow = [Change(path="a", old="a", new="a" * 100, before="a\n", everywhere=True)] * 9
    start = time.process_time()
    conversation.replied("x", 1.0, 0, uses=[edit(*grow), edit(*[Change(path="b", old="x", new="y")] * 501)])
    assert time.process_time() - start < 2
    assert all(len(text) <= 3 * MAX_TEXT for text in sink.texts.values())
    assert sink.dropped["edits: too many changes of one file"] == 1


def test_a_secret_across_the_cut_is_seen_whole(sink: RememberingSink) -> None:
    conversation = talk(sink)
    conversation.said("x" * (MAX_TEXT - 3) + "hunter2" + "y" * 30_000, 1.0, 0)
    (text,) = words(conversation.session())  # pyrefly: ignore[bad-argument-type]
    assert "hun" not in text
    assert len(text) <= MAX_TEXT + 10
    assert sink.dropped["ends of long texts"] == 1


def test_every_string_is_redacted(sink: RememberingSink) -> None:
    conversation = Conversation(sink, source="made", file="hunter2", session_id="hunter2", agent="hunter2", repository="hunter2", by_assistant=True)
    conversation.said("hunter2", 1.0, 0)
    conversation.replied("hunter2", 1.0, 0, reasoning="hunter2", uses=[
        Use(name="hunter2", arguments="hunter2", result="hunter2", kind="shell", command="hunter2"),
        edit(Change(path="hunter2", old="hunter2", new="hunter3")), edit(Change(path="hunter2", old="", new="hunter2", creates=True)),
        Use(name="Read", arguments="", kind="read", path="hunter2"), Use(name="Plan", arguments="", kind="plan", plan="hunter2"),
    ])  # fmt: skip
    conversation.noted("summary", "hunter2", 1.0, 0)
    conversation.voted("down", "hunter2", 1.0, 0)
    assert "hunter2" not in repr(conversation.session())


@pytest.mark.parametrize("piece", ["<bash-input>", "<system-reminder>x", "<ide_selection a", "[Request interrupted by user", "</bash-input>"])
def test_hostile_words_take_no_time(piece: str) -> None:
    start = time.process_time()
    said(piece * 15_000)
    assert time.process_time() - start < 5


@pytest.mark.parametrize(
    "begins", ["Implement the following plan:\n\n# Plan\n\nRewrite it all.", "Implement the plan as specified, it is attached for your reference. Do NOT edit it."]
)
def test_a_plan_that_the_tool_begins_anew_with_is_the_assistants(begins: str) -> None:
    conversation = talk(RememberingSink())
    conversation.said(begins, 1.0, 0)
    conversation.said("yes, and keep the tests", 2.0, 1)
    session = conversation.session()
    assert session is not None
    assert [(event.author.kind, event.author.agent) for event in session.events] == [("assistant", "claude"), ("developer", "")]


@pytest.mark.parametrize("folder", ["/home/ada", "/Users/ada/", "C:\\Users\\ada"])
def test_the_name_of_a_home_folder_is_its_owners(folder: str) -> None:
    assert "ada" not in folder_name(folder, _Redacting())
    assert folder_name(f"{folder.rstrip('/')}/shapes", _Redacting()) == "shapes"


class _Redacting(RememberingSink):
    def redact(self, text: str) -> str:
        return Redactor().redact(text)[0]
