"""Aider's history: what was typed, what the tool said, and which edits were made."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.sessions.readers.conftest import RememberingSink, kinds, one, words

from apprentice.sessions import events
from apprentice.sessions.events import Session
from apprentice.sessions.readers.aider import NAME, Aider
from apprentice.sessions.readers.lines import BEHIND_MOST, MAX_LINES

SAMPLES = Path(__file__).parents[4] / "shared" / "samples" / "aider"
BLOCK = "```python\n<<<<<<< SEARCH\n{old}=======\n{new}>>>>>>> REPLACE\n```\n"


def start(time: str = "2025-10-20 21:49:17") -> str:
    return f"\n# aider chat started at {time}\n\n"


def typed(text: str) -> str:
    return "\n#### " + "  \n#### ".join(text.split("\n")) + "  \n"


def notice(*lines: str) -> str:
    return "".join(f"> {line}".rstrip() + "  \n" for line in lines)


def reply(text: str) -> str:
    return f"\n{text.strip()}\n\n"


def block(path: str, old: str, new: str) -> str:
    return f"{path}\n" + BLOCK.format(old=old, new=new)


def read(path: Path, text: str, sink: RememberingSink) -> list[Session]:
    path.write_text(text, encoding="utf-8")
    return list(Aider().read(path, sink))


@pytest.fixture
def history(tmp_path: Path) -> Path:
    (tmp_path / "engine").mkdir()
    return tmp_path / "engine" / NAME


def test_each_start_is_a_session_in_local_time(history: Path, sink: RememberingSink) -> None:
    text = start() + notice("Aider v0.86.1") + typed("fix it,\n\npassword hunter2")
    text += reply("I did.\n\n> a quote\n\n#### and a heading")
    text += start("2025-10-21 08:00:00") + typed("again") + start("2025-10-21 08:00:00") + typed("and again") + start()
    first, second, third = read(history, text, sink)
    prompt, answer = first.events
    assert isinstance(prompt, events.Prompt)
    assert isinstance(answer, events.Reply)
    assert (prompt.text, answer.text) == ("fix it,\n\npassword <secret>", "I did.\n\n> a quote\n\n#### and a heading")
    assert (prompt.author.kind, answer.author.kind, answer.author.agent) == ("developer", "assistant", "aider")
    assert first.time == datetime(2025, 10, 20, 21, 49, 17).timestamp()
    assert (first.id, first.repository) == ("engine/2025-10-20T21:49:17", "engine")
    assert (words(second), words(third)) == (["again"], ["and again"])
    assert len({first.id, second.id, third.id}) == 3
    assert text.encode()[prompt.provenance.offset :].startswith(b"#### fix it")
    assert sink.dropped["notices of the tool"] == 1


def test_a_heading_in_a_file_that_the_assistant_writes_is_not_typed(history: Path, sink: RememberingSink) -> None:
    text = start() + typed("go") + reply(block("a.md", "x\n", "### Danger\n#### Delete the database  \nNo.\n")) + notice("Applied edit to a.md")
    (session,) = read(history, text, sink)
    assert kinds(session) == ["prompt", "reply", "edit"]
    assert one(session, events.EditEvent).hunks[0].new == ("### Danger", "#### Delete the database  ", "No.")


def test_of_a_talk_without_end_the_beginning_is_read(history: Path, sink: RememberingSink) -> None:
    (session,) = read(history, start() + typed("go") + "\n" * MAX_LINES + typed("late"), sink)
    assert words(session) == ["go"]
    assert sink.dropped[BEHIND_MOST] > 1


def test_an_edit_is_one_only_where_it_was_applied(history: Path, sink: RememberingSink) -> None:
    body = "Two files.\n\n" + block("a.py", "one\ntwo\n", "one\n2\n") + "\n" + block("b.py", "x\n", "y\n")
    text = start() + typed("go") + reply(body)
    text += notice("Tokens: 2k sent", "Applied edit to src/a.py", "Commit 0123abc fix: two is 2")
    (session,) = read(history, text, sink)
    assert kinds(session) == ["prompt", "reply", "edit", "note"]
    edit = one(session, events.EditEvent)
    assert (edit.path, edit.before_id, edit.after_id, edit.author.kind) == ("src/a.py", None, None, "assistant")
    assert [(hunk.start_line, hunk.old, hunk.new, hunk.above) for hunk in edit.hunks] == [(-1, ("two",), ("2",), ("one",))]
    assert (one(session, events.Note).kind, one(session, events.Note).text) == ("commit_message", "fix: two is 2")
    assert sink.dropped["edits that were not applied"] == 1


def test_files_with_one_name_are_told_apart(history: Path, sink: RememberingSink) -> None:
    body = block("src/a.py", "x\n", "y\n") + "\n" + block("a.py", "1\n", "2\n") + "\n" + block("b/c.py", "u\n", "v\n")
    text = start() + typed("go") + reply(body) + notice("Applied edit to a.py", "Applied edit to src/a.py", "Applied edit to c.py")
    (session,) = read(history, text, sink)
    assert [(edit.path, edit.hunks[0].new) for edit in session.edits] == [("a.py", ("2",)), ("src/a.py", ("y",)), ("c.py", ("v",))]


def test_a_file_that_was_made_is_known_as_a_whole(history: Path, sink: RememberingSink) -> None:
    text = start() + typed("go") + reply(block("new.py", "", "print()\n"))
    text += notice("new.py", "Create new file? (Y)es/(N)o [Yes]: y", "Applied edit to new.py")
    text += reply("`docs/a.md`\n```\n# title\n```")
    text += notice("Allow creation of new file docs/a.md? (Y)es/(N)o [Yes]: y", "Applied edit to docs/a.md")
    text += reply("a.py\n```python\nall of it\n```") + notice("Applied edit to a.py")
    (session,) = read(history, text, sink)
    first, second, third = session.edits
    assert (first.path, first.before_id, sink.texts[str(first.after_id)]) == ("new.py", None, "print()\n")
    assert (second.path, second.before_id, sink.texts[str(second.after_id)]) == ("docs/a.md", None, "# title\n")
    assert (third.path, third.before_id, third.after_id, third.hunks) == ("a.py", None, None, ())


def test_unified_diffs_are_edits_too(history: Path, sink: RememberingSink) -> None:
    diff = "```diff\n--- a/x.py\n+++ b/x.py\n@@ -1,2 +1,2 @@\n one\n-two\n+2\n@@ ... @@\n-gone\n"
    diff += "--- /dev/null\n+++ y.py\n@@ -0,0 +1 @@\n+new\n```"
    text = start() + typed("go") + reply(diff) + notice("Applied edit to x.py", "Applied edit to y.py")
    (session,) = read(history, text, sink)
    first, second = session.edits
    assert [(hunk.old, hunk.new) for hunk in first.hunks] == [(("two",), ("2",)), (("gone",), ())]
    assert (second.before_id, sink.texts[str(second.after_id)]) == (None, "new\n")


def test_of_blocks_that_failed_the_others_were_made(history: Path, sink: RememberingSink) -> None:
    failed = "\n".join([
        "# 1 SEARCH/REPLACE block failed to match!", "",
        "## SearchReplaceNoExactMatch: This SEARCH block failed to exactly match lines in a.py", "<<<<<<< SEARCH", "  wrong",
        "=======", "right", ">>>>>>> REPLACE", "", "", "# The other 1 SEARCH/REPLACE block were applied successfully.",
        "Don't re-send them.",
    ])  # fmt: skip
    body = block("a.py", "two\n", "2\n") + block("a.py", "  wrong\n", "right\n")
    for said in (notice(*failed.split("\n")), f"> {failed}  \n"):
        text = start() + typed("go") + reply(body) + notice("The LLM did not conform to the edit format.")
        text += said + reply("Again.")
        (session,) = read(history, text, RememberingSink())
        assert kinds(session) == ["prompt", "reply", "edit", "reply"]
        assert [hunk.old for hunk in one(session, events.EditEvent).hunks] == [("two",)]
    (session,) = read(history, start() + typed("go") + reply(body) + notice("Did not apply edit to a.py (--dry-run)"), sink)
    assert kinds(session) == ["prompt", "reply"]
    assert sink.dropped["edits that were not applied"] == 2


def test_a_commit_in_front_of_the_edits_is_not_the_assistants(history: Path, sink: RememberingSink) -> None:
    text = start() + typed("go") + reply(block("a.py", "two\n", "2\n"))
    text += notice("Committing a.py before applying edits.", "Commit aaaaaaa what was there", "Applied edit to a.py", "Commit bbbbbbb fix: 2")
    text += typed("on") + reply(block("a.py", "x\n", "y\n")) + notice("Commit ccccccc what was there", "Applied edit to a.py")
    text += typed("and") + reply(block("a.py", "y\n", "z\n") + block("b.py", "u\n", "v\n"))
    text += notice("The LLM did not conform to the edit format.", "# The other 1 SEARCH/REPLACE block were applied successfully.")
    text += notice("Commit ddddddd fix: z")
    (session,) = read(history, text, sink)
    assert [event.text for event in session.events if isinstance(event, events.Note)] == ["fix: 2", "fix: z"]
    assert sink.dropped["notices of the tool"] == 4


def test_what_was_undone_or_not_allowed_is_a_suggestion(history: Path, sink: RememberingSink) -> None:
    text = start() + typed("go") + reply(block("a.py", "two\n", "2\n"))
    text += notice("Commit aaaaaaa what was there", "Applied edit to a.py", "Commit bbbbbbb fix: 2")
    text += typed("more") + reply(block("a.py", "three\n", "3\n")) + notice("Applied edit to a.py", "Commit ccccccc fix: 3")
    text += typed("/undo") + notice("Removed: ccccccc fix: 3", "Now at:  bbbbbbb fix: 2")
    text += typed("/undo") + notice("The last commit was not made by aider in this chat session.")
    text += typed("or") + reply(block("b.py", "x\n", "y\n"))
    text += notice("b.py", "Allow edits to b.py? (Y)es/(N)o [Yes]: n", "Skipping edits to b.py")
    (session,) = read(history, text, sink)
    assert kinds(session) == [
        "prompt", "reply", "edit", "note", "prompt", "reply", "suggestion", "note", "command", "command", "prompt", "reply",
        "suggestion",
    ]  # fmt: skip
    undone, rejected = (event for event in session.events if isinstance(event, events.Suggestion))
    assert (undone.outcome, undone.edit.old, undone.edit.new) == ("undone", ("three",), ("3",))
    assert (rejected.outcome, rejected.edit.path) == ("rejected", "b.py")
    assert [hunk.new for edit in session.edits for hunk in edit.hunks] == [("2",)]


def test_edits_stay_where_only_the_commit_of_the_linter_was_undone(history: Path, sink: RememberingSink) -> None:
    text = start() + typed("go") + reply(block("a.py", "two\n", "2\n"))
    text += notice("Applied edit to a.py", "Commit aaaaaaa fix: 2", "Commit bbbbbbb style: lines") + typed("/undo")
    text += notice("Removed: bbbbbbb style: lines", "Now at:  aaaaaaa fix: 2")
    (session,) = read(history, text, sink)
    assert kinds(session) == ["prompt", "reply", "edit", "note", "note", "command"]
    (session,) = read(history, text + typed("/undo") + notice("Removed: aaaaaaa fix: 2"), sink)
    assert kinds(session)[:3] == ["prompt", "reply", "suggestion"]


def test_older_words_for_what_was_undone(history: Path, sink: RememberingSink) -> None:
    text = start() + typed("go") + reply(block("a.py", "two\n", "2\n")) + notice("Applied edit to a.py", "Commit 0123abc aider: 2")
    text += typed("/undo") + notice("Commit `0123abc` was reset and removed from git.")
    (session,) = read(history, text, sink)
    assert kinds(session) == ["prompt", "reply", "suggestion", "note", "command"]
    assert one(session, events.Suggestion).outcome == "undone"


def test_commands_of_the_developer_and_of_the_assistant(history: Path, sink: RememberingSink) -> None:
    text = start() + typed("/add a.py") + notice("Added a.py to the chat", "", "", "^C again to exit")
    text += typed("/run pytest -q") + "> 1 failed, 2 passed in 0.1s\nand more\nlines  \n"
    text += typed("!make") + typed("/git log") + typed("/tests all") + typed("go") + reply("```bash\nmake all\n```")
    text += notice("make all", "Run shell command? (Y)es/(N)o/(D)on't ask again [Yes]: y", "Running make all")
    text += reply("```bash\nrm -rf\n```") + notice("rm -rf", "Run shell command? (Y)es/(N)o [Yes]: n")
    (session,) = read(history, text, sink)
    commands = [(event.command, event.author.kind, event.output) for event in session.events if isinstance(event, events.Command)]
    assert commands == [
        ("/add a.py", "developer", "Added a.py to the chat"), ("make", "developer", ""), ("git log", "developer", ""),
        ("/tests all", "developer", ""), ("make all", "assistant", ""),
    ]  # fmt: skip
    tests = one(session, events.TestRun)
    assert (tests.command, tests.passed, tests.failed, tests.author.kind) == ("pytest -q", 2, 1, "developer")
    assert tests.output.endswith("and more\nlines")


def test_an_answer_in_words_whether_the_assistant_may_see_an_output_is_a_prompt(history: Path, sink: RememberingSink) -> None:
    printed, question = "> 1 failed in 0.1s\n\n> x  \n", "> Add the output to the chat?\n(y/n/instructions) {}  \n"
    text = start() + typed("/run pytest") + printed + question.format("mend the test") + notice("1 failed in 0.1s", "> x")
    text += reply("I see.") + typed("/run ls") + notice("a.py", "Add the output to the chat? (y/n/instructions): n")
    text += typed("/run id") + notice("ada") + question.format("Y") + notice("ada", "2 lines")
    (session,) = read(history, text, sink)
    assert kinds(session) == ["test_run", "prompt", "reply", "command", "command"]
    assert one(session, events.Prompt).text == "mend the test"
    outputs = [event.output for event in session.events if isinstance(event, events.Command | events.TestRun)]
    assert outputs == ["1 failed in 0.1s\nx", "a.py", "ada\nada\n2 lines"]


def test_only_what_a_person_typed_is_a_prompt(history: Path, sink: RememberingSink) -> None:
    plan = "Do this:\n\n  first\n\nthen that."
    text = start() + "> /usr/bin/aider --message # a prompt\n\nwith lines  \n\n#### and a heading\n" + notice("Aider v0.86.1")
    text += typed("/architect make it so") + typed("make it so") + reply(plan) + notice("Edit the files? (Y)es/(N)o [Yes]: y")
    text += typed(plan) + reply("Done.") + typed("<blank>") + typed("Add x.py? (Y)es/(N)o/(A)ll/(S)kip all [Yes]: a")
    text += typed("# Fix any errors below, if possible.\n\na.py:1: E999")
    text += typed('Find the "AI" comments below\n\na.py:\n 1│x\n 2█# why? AI?')
    (session,) = read(history, text, sink)
    assert [event.text for event in session.events if isinstance(event, events.Prompt)] == ["make it so", "# why? AI?"]
    assert [event.text for event in session.events if isinstance(event, events.Reply)] == [plan, "Done."]
    assert (sink.dropped["prompts that the tool wrote"], sink.dropped["empty prompts"]) == (3, 1)


def test_what_was_asked_in_a_comment_is_a_prompt(history: Path, sink: RememberingSink) -> None:
    watched = notice("Added a.py to the chat", "Processing your request...")
    text = start() + watched + reply(block("a.py", "  # AI! sort these\nx\n", "y\n") + block("a.py", "z\n# AI! sort these\n", "z\n"))
    text += notice("Applied edit to a.py") + watched + reply(block("a.py", "f();  // and test, ai!\n", "g();\n")) + typed("thanks")
    text += reply("So it is.") + watched + reply("Done with the `# AI!` comment.") + notice("Tokens: 1k sent") + typed("go") + reply("Yes.")
    first, second = read(history, text, sink)
    assert kinds(first) == ["prompt", "reply", "edit", "prompt", "reply", "prompt", "reply"]
    assert [event.text for event in first.events if isinstance(event, events.Prompt)] == ["# AI! sort these", "f();  // and test, ai!", "thanks"]
    assert (words(second), second.id) == (["Done with the `# AI!` comment.", "go", "Yes."], f"{first.id}-2")
    assert sink.dropped["prompts that the history does not have"] == 1


def test_reasoning_and_interruptions(history: Path, sink: RememberingSink) -> None:
    tag = "thinking-content-7bbeb8e1441453ad999a0bbba8a46d4b"
    text = start() + typed("go") + notice("", "", "^C again to exit")
    text += reply(f"<{tag}>\n\nhm\n\n</{tag}>\n\nI be") + typed("stop")
    (session,) = read(history, text, sink)
    assert kinds(session) == ["prompt", "reply", "feedback", "prompt"]
    assert (one(session, events.Reply).text, one(session, events.Reply).reasoning) == ("I be", "hm")
    assert one(session, events.Feedback).about == one(session, events.Reply).id


def test_text_of_the_tool_runs_on_without_a_mark(history: Path, sink: RememberingSink) -> None:
    text = start() + typed("go") + reply("Run it.") + "> # serve          \nuvicorn app\n                \n# open\nopen app  \n"
    text += notice("Run shell commands? (Y)es/(N)o [Yes]: n", "Applied edit to a.py", "Commit 0123abc fix: it")
    text += "and why\n\nat length  \n" + reply("More.")
    (session,) = read(history, text, sink)
    assert words(session) == ["go", "Run it.", "", "fix: it", "More."]


def test_a_notice_behind_a_reply_may_have_line_breaks(history: Path, sink: RememberingSink) -> None:
    answer = "It says:\n\n> a quote\nof two lines\n\nand > this."
    text = start() + typed("go") + reply(answer) + "> Tokens: 2k sent, 9 received.\nCost: $0.01 message.  \n> Applied edit to a.py  \n"
    text += reply("More.") + "> Tokens: 2k sent.\nCost: $0.01 message.  \n\nAnd more."
    (session,) = read(history, text, sink)
    assert words(session) == ["go", answer, "", "More.", "And more."]
    assert sink.dropped["notices of the tool"] == 4


def test_a_history_without_blanks_at_the_ends_of_its_lines(history: Path, sink: RememberingSink) -> None:
    text = start() + typed("go\n\nnow") + notice("Scraping") + reply(block("a.py", "x\n", "y\n"))
    text += notice("Applied edit to a.py") + typed("/undo")
    (session,) = read(history, "\n".join(line.rstrip() for line in text.split("\n")), sink)
    assert kinds(session) == ["prompt", "reply", "edit", "command"]
    assert words(session)[0] == "go\n\nnow"


def test_a_history_that_a_formatter_has_been_through(history: Path, sink: RememberingSink) -> None:
    text = start() + "> Aider v0.50.1  \n> Git repo: none\n\n#### /clear\n\n#### /drop\n\n> Dropping all files.\n\n"
    text += "#### make it\n\n####\n\n#### /as/ it was\n\nSo:\n\n#### 1. The file\n\n" + block("a.py", "x\n", "y\n")
    text += "\n> Tokens: 2k sent, 9 received.  \n> Applied edit to a.py\n\n#### go\n\n>  \n> ^C KeyboardInterrupt\n\nI be\n\n#### on\n"
    (session,) = read(history, text, sink)
    assert kinds(session) == ["command", "command", "prompt", "reply", "edit", "prompt", "reply", "feedback", "prompt"]
    assert [event.text for event in session.events if isinstance(event, events.Prompt)] == ["make it\n\n/as/ it was", "go", "on"]


def test_a_map_that_the_tool_shows_is_no_sign_of_a_formatter(history: Path, sink: RememberingSink) -> None:
    text = start() + notice("Aider v0.47.2") + "> Here are summaries of some files.\nDo not change them.\n\na.py:\n|def f():\n\nb.py\n"
    assert read(history, text, sink) == []


def test_windows_and_other_encodings(history: Path, sink: RememberingSink) -> None:
    text = start() + typed("go") + reply(block("src/a.py", "x\n", "y\n")) + notice("Applied edit to src\\a.py")
    history.write_bytes(text.replace("\n", "\r\n").encode() + b"\xff\xfe\r\n" + typed("on").encode())
    (session,) = Aider().read(history, sink)
    assert one(session, events.EditEvent).path == "src/a.py"
    assert words(session)[-1] == "on"
    assert dict(sink.aside) == {"not UTF-8": 1}


def test_other_markdown_is_not_taken_for_a_history(history: Path) -> None:
    assert Aider().recognizes(history, start().encode())
    assert Aider().recognizes(Path("b.md"), b"\xef\xbb\xbf" + start().encode())
    assert Aider().recognizes(history, b"end of a reply\n" + start().encode())
    assert not Aider().recognizes(Path("a.md"), b"end of a reply\n" + start().encode())
    assert not Aider().recognizes(history, b"see `# aider chat started at `")
    assert not Aider().recognizes(Path("a.txt"), start().encode())
    assert Aider().started(Path("a.md"), start().encode()) > 0
    assert Aider().started(Path("a.md"), b"# aider chat started at 9999-99-99 00:00:00") == 0


def test_lines_in_front_of_the_first_start_are_counted(history: Path, sink: RememberingSink) -> None:
    (session,) = read(history, "end of a reply\n" + notice("Tokens: 2k sent") + start() + typed("go"), sink)
    assert words(session) == ["go"]
    assert dict(sink.dropped) == {"lines in front of the first start": 2}


PIECES = st.sampled_from([
    start(), start("0001-01-01 00:00:00"), typed("go"), typed("/undo"), typed("<blank>"), reply("hm"), block("a.py", "x\n", "y\n"),
    notice("Applied edit to a.py", "Commit 0123abc m"), notice("Removed: 0123abc m"), notice("Skipping edits to a.py"),
    notice("Create new file?"), notice("# The other 1 SEARCH/REPLACE block were applied successfully"),
    notice("Processing your request..."), "// AI! x", "Add the output to the chat?\n(y/n/instructions) no, fix it  \n",
    notice("Run shell command? [Yes]: y", "Running x", "^C again to exit"),
    "```diff\n--- a\n+++ b\n@@ @@\n-x\n+y\n```", "--- /dev/null", "+++ b", "@@", "```", "```diff", "a.py", "<<<<<<< SEARCH",
    "=======", ">>>>>>> REPLACE", "> aider --x", "> aider v", ">", "> x", "> x\ny  \n", "####", "#### x", "#### x\n\n", "  ", "\n", "<think>",
    "</think>", "text",
]) | st.text(max_size=9)  # fmt: skip


@given(st.lists(PIECES, max_size=16), st.booleans())
@settings(max_examples=300, deadline=1000)
def test_nothing_in_a_file_stops_the_reader(tmp_path_factory: pytest.TempPathFactory, pieces: list[str], lines: bool) -> None:
    path = tmp_path_factory.mktemp("fuzz") / NAME
    path.write_text(start() + ("\n" if lines else "").join(pieces), encoding="utf-8", errors="replace")
    for session in Aider().read(path, RememberingSink()):
        assert [event.time for event in session.events] == sorted(event.time for event in session.events)
        assert len({event.id for event in session.events}) == len(session.events)


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the samples are not here")
def test_a_real_history(sink: RememberingSink) -> None:
    (path,) = SAMPLES.iterdir()
    (first, second) = Aider().read(path, sink)
    assert (first.repository, first.id) == ("zen-mcp-server", "zen-mcp-server/2025-10-20T21:49:22")
    assert [(event.command, event.output) for event in first.events if isinstance(event, events.Command)] == [("/add **", "")]
    assert kinds(second) == ["command"] * 7
    assert {event.author.kind for event in second.events} == {"developer"}
    commands = [event for event in second.events if isinstance(event, events.Command)]
    assert commands[0].command.split()[0::8] == ["/add", "/home/dragonfsky/git/github/zen-mcp-server/config.py"]
    assert commands[0].output.startswith("Added config.py to the chat\n")
    assert commands[1].command.startswith("/copy-context 请你分析")
