from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from apprentice.core import artifacts
from apprentice.core.progress import Silent
from apprentice.repository.git import Git
from apprentice.sessions.conversation import Change, Conversation, Use
from apprentice.sessions.git_history import GitHistoryConfig, read_history
from apprentice.sessions.outcomes.judging import (
    COMMON_LINES,
    IGNORED,
    NO_FILE,
    NO_HISTORY,
    NOT_COMMITTED,
    NOT_FOUND,
    NOT_YET,
    EditOutcome,
    OutcomesConfig,
    judge,
)
from apprentice.sessions.policy import Policy
from apprentice.sessions.store import KIND, VERSION, Sessions, SessionsWriter

NewRepository = Callable[..., Any]
START = 1_700_000_000.0
"""Commit n of a repository is n minutes later."""
ROOT = "/home/ada/engine/"
MAIN = """import sys


def greet(name):
    words = ["hello", name]
    return " ".join(words)


def leave(name):
    print("farewell", name)
    sys.exit(0)
"""
POLITE = MAIN.replace('["hello", name]', '["good", "morning", name]')
LOUD = '    for letter in sorted(name):\n        shout(letter.upper(), volume=11)\n'
TALKATIVE = MAIN.replace('    words = ["hello", name]\n', '    words = ["hello", name]\n' + LOUD)


class NoScanner:
    def redact(self, text: str) -> tuple[str, dict[str, int]]:
        return text, {}


class Talk:
    """A conversation with an assistant about `engine`, in which an hour of commits is a minute each."""

    def __init__(self, id: str = "talk", *, repository: str = "engine", source: str = "claude_code") -> None:
        self.id, self.repository, self.source = id, repository, source
        self._acts: list[Callable[[Conversation], None]] = []

    def edit(self, minute: float, path: str, old: str, new: str, **fields: Any) -> Talk:
        rejected = fields.pop("rejected", False)
        offered = fields.pop("offered", None)
        change = Change(path=path, old=old, new=new, **fields)
        offers = () if offered is None else (Change(path=path, old=old, new=offered),)
        use = Use(name="Edit", arguments="{}", kind="edit", changes=(change,), offered=offers, rejected=rejected)
        return self._use(minute, use)

    def run(self, minute: float, command: str, *, exit_code: int = 0) -> Talk:
        return self._use(minute, Use(name="Bash", arguments="{}", kind="shell", command=command, exit_code=exit_code))

    def take(self, minute: float, path: str, new: str, outcome: Any = "kept") -> Talk:
        """An edit that was offered, and that the developer took as it was."""
        self._acts.append(lambda made: made.offered([Change(path=path, old="", new=new)], outcome, START + 60 * minute, 0))
        return self

    def touch(self, minute: float, path: str) -> Talk:
        """An edit of which only the file is known."""
        return self.edit(minute, path, "", "")

    def tell(self, writer: SessionsWriter) -> Conversation:
        made = Conversation(writer, source=self.source, file="t.jsonl", session_id=self.id, agent="claude", repository=self.repository)
        for act in self._acts:
            act(made)
        return made

    def _use(self, minute: float, use: Use) -> Talk:
        self._acts.append(lambda made: made.replied("", START + 60 * minute, 0, uses=[use]))
        return self


Judge = Callable[..., list[EditOutcome]]


@pytest.fixture
def judged(tmp_path: Path) -> Judge:
    """The outcomes of talks beside the histories of repositories."""

    def run(repositories: Sequence[Any], *talks: Talk, **config: float) -> list[EditOutcome]:
        with artifacts.create(tmp_path / "sessions", kind=KIND, version=VERSION) as artifact:
            with SessionsWriter(artifact, NoScanner()) as writer:
                for repository in repositories:
                    read_history(Git.open(repository.path), writer, GitHistoryConfig(), Silent())
                for source in dict.fromkeys(talk.source for talk in talks):
                    writer.start_stream(source, "", talks=True)
                    for talk in (talk for talk in talks if talk.source == source):
                        session = talk.tell(writer).session()
                        assert session is not None
                        writer.add_session(session)
                writer.finish(config={}, policy=Policy())
        return judge(Sessions.open(tmp_path / "sessions"), OutcomesConfig(**config), Silent())

    return run


@pytest.fixture
def engine(new_repository: NewRepository) -> Any:
    """`engine` with its first commit, in minute 1."""
    made = new_repository("engine")
    made.commit("Begin", main_py=MAIN)
    return made


def seen(outcome: EditOutcome) -> dict[str, str]:
    """What the evidence is -> its commit or event."""
    return {one.what: one.commit or one.event for one in outcome.evidence}


def test_an_edit_that_stands_in_the_newest_tree_survived(engine: Any, judged: Judge) -> None:
    commit = engine.commit("Talk more", main_py=TALKATIVE)
    head = engine.commit("Go on", other_py="unrelated = 1\n")
    (found,) = judged([engine], Talk().edit(1.5, "main.py", '    words = ["hello", name]\n', '    words = ["hello", name]\n' + LOUD))
    assert (found.outcome, found.committed, found.newest, found.num_lines) == ("survived", 1.0, 1.0, 2)
    assert seen(found) == {"commit": commit, "newest": head}
    assert (found.evidence[0].path, found.evidence[0].line, found.repository) == ("main.py", 5, "engine")
    assert found.confidence > 0.7


def test_an_edit_that_later_work_replaced_was_kept(engine: Any, judged: Judge) -> None:
    commit = engine.commit("Talk more", main_py=TALKATIVE)
    quiet = TALKATIVE.replace("shout(letter.upper(), volume=11)", "whisper(letter)").replace("sorted(name)", "set(name)")
    later = engine.commit("Whisper", main_py=quiet)
    (found,) = judged([engine], Talk().edit(1.5, ROOT + "main.py", "", LOUD))
    assert (found.outcome, found.committed, found.newest) == ("kept", 1.0, 0.0)
    assert seen(found) == {"commit": commit, "gone": later}


def test_blanks_at_the_ends_of_lines_do_not_count(engine: Any, judged: Judge) -> None:
    engine.commit("Talk more", main_py=TALKATIVE)
    (found,) = judged([engine], Talk().edit(1.5, "main.py", "", LOUD.replace("\n", "  \r\n")))
    assert found.outcome == "survived"


def test_what_the_developer_changed_is_told_with_the_lines_that_stand_there_instead(engine: Any, judged: Judge) -> None:
    three = LOUD + "    rest(seconds=len(name))\n"
    commit = engine.commit("Talk", main_py=TALKATIVE.replace(LOUD, three).replace("volume=11", "volume=3"))
    old = '    words = ["hello", name]\n'
    (found,) = judged([engine], Talk().edit(1.5, "main.py", old, old + three))
    assert (found.outcome, found.by, found.committed) == ("changed", "developer", 0.667)
    (change,) = found.changes
    assert (change.old, change.new) == (("        shout(letter.upper(), volume=11)",), ("        shout(letter.upper(), volume=3)",))
    assert change.start_line == 6
    assert seen(found)["commit"] == commit


def test_an_edit_whose_every_line_was_changed_is_found_by_the_lines_that_it_replaced(engine: Any, judged: Judge) -> None:
    commit = engine.commit("Be polite", main_py=POLITE)
    old = '    words = ["hello", name]\n'
    (found,) = judged([engine], Talk().edit(1.5, "main.py", old, '    words = ["hey", "you", name]\n', before=MAIN))
    assert (found.outcome, found.by, found.committed, found.confidence) == ("changed", "developer", 0.0, 0.5)
    assert seen(found) == {"commit": commit}
    (change,) = found.changes
    assert (change.old, change.new) == (('    words = ["hey", "you", name]',), ('    words = ["good", "morning", name]',))


def test_a_change_is_the_developers_only_if_no_edit_of_the_assistant_came_between(engine: Any, judged: Judge) -> None:
    engine.commit("Talk", main_py=TALKATIVE.replace("volume=11", "volume=3"))
    edit = Talk("a").edit(1.2, "main.py", "", LOUD)
    (alone,) = judged([engine], edit)
    assert (alone.outcome, alone.by) == ("changed", "developer")
    first, unknown = judged([engine], edit, Talk("b").touch(1.4, "main.py"))
    assert (first.outcome, first.by, unknown.outcome) == ("changed", "unknown", "committed")
    old, new = LOUD.split("\n")[1], LOUD.split("\n")[1].replace("11", "3")
    first, second = judged([engine], edit, Talk("b").edit(1.4, "main.py", old + "\n", new + "\n"))
    assert (first.outcome, first.by, second.outcome) == ("superseded", "assistant", "survived")


def test_an_edit_that_the_next_one_takes_back_is_undone(engine: Any, judged: Judge) -> None:
    engine.commit("Something else", other_py="unrelated = 1\n")
    old, new = '    words = ["hello", name]\n', '    words = ["good", "morning", name]\n'
    first, second = judged([engine], Talk().edit(1.2, "main.py", old, new).edit(1.4, "main.py", new, old))
    assert (first.outcome, first.by, seen(first)) == ("undone", "assistant", {"edit": second.id})
    assert second.outcome == "unknown"


def test_an_edit_that_the_assistant_overtakes_is_neither_undone_nor_changed(engine: Any, judged: Judge) -> None:
    engine.commit("Be polite", main_py=POLITE)
    old, first_try = '    words = ["hello", name]\n', '    words = ["hey", name]\n'
    talk = Talk().edit(1.2, "main.py", old, first_try).edit(1.4, "main.py", first_try, '    words = ["good", "morning", name]\n')
    first, second = judged([engine], talk)
    assert (first.outcome, first.by, second.outcome) == ("superseded", "assistant", "survived")


def test_git_commands_undo_what_was_not_committed(engine: Any, judged: Judge) -> None:
    engine.commit("Something else", other_py="unrelated = 1\n")
    lost = Talk("a").edit(1.2, "main.py", "", LOUD).touch(1.3, "util/deep.py").run(1.4, "cd x && git checkout -- main.py util")
    failed = Talk("b").edit(1.2, "main.py", "", LOUD).run(1.4, "git checkout -- main.py", exit_code=1)
    safe = Talk("c").edit(1.2, "main.py", "", LOUD).run(1.3, "git commit -am 'Talk'").run(1.4, "git reset --hard")
    first, second, third, fourth = judged([engine], lost, failed, safe)
    assert [one.outcome for one in (first, second, third, fourth)] == ["undone", "undone", "unknown", "unknown"]
    assert (seen(first), first.confidence) == ({"command": "a/5"}, 0.9)


def test_lines_that_were_committed_weigh_more_than_a_command(engine: Any, judged: Judge) -> None:
    engine.commit("Talk more", main_py=TALKATIVE)
    (found,) = judged([engine], Talk().edit(1.2, "main.py", "", LOUD).run(1.4, "git checkout ."))
    assert found.outcome == "survived"


def test_what_the_developer_rejected_or_changed_at_once_is_taken_from_the_session(engine: Any, judged: Judge) -> None:
    engine.commit("Be polite", main_py=POLITE)
    old, new = '    words = ["hello", name]\n', '    words = ["good", "morning", name]\n'
    rejected = Talk("a").edit(1.2, "main.py", old, '    words = ["hey"]\n', rejected=True)
    changed = Talk("b").edit(1.3, "main.py", old, new, offered='    words = ["hey", name]\n')
    first, second, third = judged([engine], rejected, changed)
    assert (first.kind, first.outcome, first.recorded, first.by, first.confidence) == ("suggestion", "undone", "rejected", "developer", 1.0)
    assert (second.kind, second.outcome, second.by) == ("suggestion", "changed", "developer")
    assert [(change.old, change.new) for change in second.changes] == [((('    words = ["hey", name]'),), (new.strip("\n"),))]
    assert (third.kind, third.outcome) == ("edit", "survived")


def test_a_suggestion_that_was_taken_is_looked_for_like_an_edit(engine: Any, judged: Judge) -> None:
    commit = engine.commit("Talk more", main_py=TALKATIVE)
    first, second = judged([engine], Talk(source="cursor").take(1.5, "main.py", LOUD))
    assert [(each.kind, each.recorded, each.outcome) for each in (first, second)] == [("suggestion", "kept", "survived"), ("edit", "", "survived")]
    assert seen(first)["commit"] == commit


def test_of_a_suggestion_that_was_left_alone_nothing_is_known(engine: Any, judged: Judge) -> None:
    engine.commit("Talk more", main_py=TALKATIVE)
    found = judged([engine], Talk(source="editor").take(1.5, "main.py", LOUD, "ignored"))[0]
    assert (found.kind, found.recorded, found.outcome, found.reason, found.by) == ("suggestion", "ignored", "unknown", IGNORED, "")


def test_an_edit_that_the_file_was_committed_without_is_undone(engine: Any, judged: Judge) -> None:
    commit = engine.commit("Leave loudly", main_py=MAIN.replace('"farewell"', '"FAREWELL"'))
    old, new = '    words = ["hello", name]\n', '    words = ["hey", "you", name]\n'
    (found,) = judged([engine], Talk().edit(1.5, "main.py", old, new))
    assert (found.outcome, found.by, found.confidence, seen(found)) == ("undone", "unknown", 0.6, {"before": commit})


def test_a_commit_that_brings_the_old_lines_back_reverts(engine: Any, judged: Judge) -> None:
    commit = engine.commit("Be polite", main_py=POLITE)
    back = engine.commit("No, do not", main_py=MAIN)
    old, new = '    words = ["hello", name]\n', '    words = ["good", "morning", name]\n'
    (found,) = judged([engine], Talk().edit(1.5, "main.py", old, new))
    assert (found.outcome, found.newest, seen(found)) == ("reverted", 0.0, {"commit": commit, "reverted": back})


def test_a_commit_reverts_in_words_long_after_and_otherwise_only_soon(engine: Any, judged: Judge) -> None:
    commit = engine.commit("Be polite", main_py=POLITE)
    edit = Talk().edit(1.5, "main.py", '    words = ["hello", name]\n', '    words = ["good", "morning", name]\n')
    engine.commit("Simplify", main_py=MAIN)
    (soon,) = judged([engine], edit)
    (late,) = judged([engine], edit, revert_window_days=1 / 24 / 60 / 2)
    assert (soon.outcome, late.outcome) == ("reverted", "kept")
    engine.git("reset", "-q", "--hard", commit)
    engine.commit(f'Revert "Be polite"\n\nThis reverts commit {commit}.', main_py=MAIN)
    (worded,) = judged([engine], edit, revert_window_days=1 / 24 / 60 / 2)
    assert worded.outcome == "reverted"


def test_lines_that_a_commit_puts_back_after_a_revert_stand(engine: Any, judged: Judge) -> None:
    for message, text in (("Be polite", POLITE), ("No", MAIN), ("Yes", POLITE)):
        engine.commit(message, main_py=text)
    edit = Talk().edit(1.5, "main.py", '    words = ["hello", name]\n', '    words = ["good", "morning", name]\n')
    (found,) = judged([engine], edit)
    assert (found.outcome, found.newest) == ("survived", 1.0)


def test_lines_are_followed_through_a_rename_and_into_another_file(engine: Any, judged: Judge) -> None:
    commit = engine.commit("Talk more", main_py=TALKATIVE)
    engine.git("mv", "main.py", "entry.py")
    engine.commit("Rename")
    engine.commit("Go on", other_py="unrelated = 1\n")
    (renamed,) = judged([engine], Talk().edit(1.5, "main.py", "", LOUD))
    assert (renamed.outcome, seen(renamed)["commit"]) == ("survived", commit)
    assert renamed.evidence[-1].path == "entry.py"
    engine.write("voice.py", "from entry import *\n\n\ndef speak(name):\n" + LOUD)
    engine.write("entry.py", MAIN)
    engine.commit("Move the voice")
    (moved,) = judged([engine], Talk().edit(1.5, "main.py", "", LOUD))
    assert (moved.outcome, moved.evidence[-1].path) == ("survived", "voice.py")


def test_a_file_that_was_moved_before_it_was_committed_is_found_by_its_lines(engine: Any, judged: Judge) -> None:
    commit = engine.commit("Add", voice_py="def speak(name):\n" + LOUD)
    (found,) = judged([engine], Talk().edit(1.5, ROOT + "sound/noise.py", "", "def speak(name):\n" + LOUD, creates=True))
    assert (found.outcome, seen(found)["commit"], found.evidence[0].path) == ("survived", commit, "voice.py")
    # A file of another kind that quotes the lines is no place that they went to.
    (quoted,) = judged([engine], Talk().edit(1.5, ROOT + "sound/noise.go", "", "def speak(name):\n" + LOUD, creates=True))
    assert (quoted.outcome, quoted.reason) == ("unknown", NOT_YET)


def test_edits_of_several_sessions_are_found_in_one_squashed_commit(engine: Any, judged: Judge) -> None:
    both = TALKATIVE.replace('"farewell", name', '"farewell", name.title(), sep=", "')
    commit = engine.commit("All of it (#7)", main_py=both)
    one = Talk("a").edit(1.2, "main.py", "", LOUD)
    other = Talk("b").edit(1.4, "main.py", '    print("farewell", name)\n', '    print("farewell", name.title(), sep=", ")\n')
    found = judged([engine], one, other)
    assert [(each.outcome, seen(each)["commit"]) for each in found] == [("survived", commit)] * 2


def test_of_two_commits_with_the_lines_the_one_next_after_the_edit_is_taken(engine: Any, judged: Judge) -> None:
    first = engine.commit("Talk", main_py=TALKATIVE)
    engine.commit("Be quiet", main_py=MAIN)
    second = engine.commit("Talk again", main_py=TALKATIVE)
    (early,) = judged([engine], Talk().edit(1.5, "main.py", "", LOUD))
    (late,) = judged([engine], Talk().edit(3.5, "main.py", "", LOUD))
    assert (seen(early)["commit"], seen(late)["commit"]) == (first, second)


def test_a_commit_before_the_edit_or_long_after_it_is_not_taken(engine: Any, judged: Judge) -> None:
    engine.commit("Talk", main_py=TALKATIVE)
    engine.commit("Go on", other_py="unrelated = 1\n")
    (after,) = judged([engine], Talk().edit(60, "main.py", "", LOUD))
    assert (after.outcome, after.reason) == ("unknown", NOT_YET)
    (before,) = judged([engine], Talk().edit(-20, "main.py", "", LOUD), window_days=10 / 24 / 60, path_window_days=10 / 24 / 60)
    assert (before.outcome, before.reason) == ("unknown", NOT_FOUND)


def test_the_rest_of_an_edit_may_be_committed_apart(engine: Any, judged: Judge) -> None:
    half = LOUD.split("\n")[0] + "\n"
    engine.commit("One half", main_py=TALKATIVE.replace(LOUD, half))
    engine.commit("The other", main_py=TALKATIVE)
    (found,) = judged([engine], Talk().edit(1.5, "main.py", "", LOUD))
    assert (found.outcome, found.committed) == ("survived", 1.0)


def test_an_edit_that_only_takes_lines_away_is_found_by_the_commit_that_took_them(engine: Any, judged: Judge) -> None:
    without = MAIN.replace('    print("farewell", name)\n', "")
    commit = engine.commit("Leave quietly", main_py=without)
    edit = Talk().edit(1.5, "main.py", '    print("farewell", name)\n', "")
    (found,) = judged([engine], edit)
    assert (found.outcome, seen(found)) == ("survived", {"commit": commit})
    back = engine.commit("Say it again", main_py=MAIN)
    (found,) = judged([engine], edit)
    assert (found.outcome, seen(found)) == ("reverted", {"commit": commit, "reverted": back})


def test_lines_that_stand_everywhere_are_no_evidence(new_repository: NewRepository, judged: Judge) -> None:
    engine = new_repository("engine")
    every = "".join(f"def f{i}(x):\n    if x is None:\n        return None\n    return {i}\n\n" for i in range(30))
    engine.commit("Begin", main_py=every)
    engine.commit("More", main_py=every + "def g(x):\n    if x is None:\n        return None\n")
    (found,) = judged([engine], Talk().edit(1.5, "main.py", "", "    if x is None:\n        return None\n\n    }\n"))
    assert (found.outcome, found.reason, found.num_lines) == ("committed", COMMON_LINES, 0)
    (elsewhere,) = judged([engine], Talk().edit(1.5, "src/none.py", "", "    if x is None:\n        return None\n"))
    assert (elsewhere.outcome, elsewhere.reason) == ("unknown", COMMON_LINES)


def test_a_plain_line_is_told_by_its_neighbour(engine: Any, judged: Judge) -> None:
    commit = engine.commit("Stop", main_py=MAIN.replace('    print("farewell", name)\n', '    print("farewell", name)\n    return\n'))
    old = '    print("farewell", name)\n    sys.exit(0)\n'
    (found,) = judged([engine], Talk().edit(1.5, "main.py", old, old.replace("    sys", "    return\n    sys")))
    assert (found.outcome, seen(found)["commit"]) == ("survived", commit)


def test_without_a_history_nothing_is_known_but_what_the_session_says(judged: Judge) -> None:
    lost = Talk().edit(1, "main.py", "", LOUD).edit(2, "other.py", "", LOUD).run(3, "git checkout other.py")
    first, second = judged([], lost)
    assert (first.outcome, first.reason, first.confidence) == ("unknown", NO_HISTORY, 0.0)
    assert second.outcome == "undone"


def test_of_an_edit_without_lines_only_the_next_commit_of_its_file_is_told(engine: Any, judged: Judge) -> None:
    engine.commit("Else", other_py="unrelated = 1\n")
    commit = engine.commit("Talk", main_py=TALKATIVE)
    (found,) = judged([engine], Talk().touch(1.5, ROOT + "main.py"))
    assert (found.outcome, seen(found), found.committed, found.newest) == ("committed", {"file": commit}, None, None)
    assert 0.5 < found.confidence < 0.9
    (late,) = judged([engine], Talk().touch(1.5, ROOT + "main.py"), path_window_days=1 / 24 / 60)
    assert (late.outcome, late.reason) == ("unknown", NOT_COMMITTED)
    (over,) = judged([engine], Talk().touch(4, ROOT + "main.py"))
    assert (over.outcome, over.reason) == ("unknown", NOT_YET)


def test_what_a_merge_or_a_huge_commit_brought_is_seen_in_the_tree_that_it_left(engine: Any, judged: Judge) -> None:
    huge = engine.commit("Everything", main_py=TALKATIVE, data_txt="".join(f"line {i}\n" for i in range(3000)))
    engine.commit("Go on", other_py="unrelated = 1\n")
    lines, file = judged([engine], Talk().edit(1.5, "main.py", "", LOUD).touch(1.6, "main.py"))
    assert (lines.outcome, lines.evidence[0].what, lines.evidence[0].commit) == ("survived", "tree", huge)
    assert (file.outcome, seen(file)) == ("committed", {"tree": huge})


def test_old_lines_that_a_huge_commit_replaced_do_not_stand_there_any_more(engine: Any, judged: Judge) -> None:
    new = MAIN.replace('    words = ["hello", name]\n', '    words = ["welcome", "dear", name]\n')
    engine.commit("Everything", main_py=new, data_txt="".join(f"line {i}\n" for i in range(3000)))
    engine.commit("Go on", other_py="unrelated = 1\n")
    (found,) = judged([engine], Talk().edit(1.5, "main.py", '    words = ["hello", name]\n', '    words = ["hey", "you", name]\n'))
    assert found.outcome == "unknown"


def test_a_tree_that_may_be_older_than_the_edit_is_named_beside_the_commit_that_starts_from_it(engine: Any, judged: Judge) -> None:
    huge = engine.commit("Everything", main_py=TALKATIVE, data_txt="".join(f"line {i}\n" for i in range(3000)))
    commit = engine.commit("Be polite", main_py=TALKATIVE.replace('"hello"', '"good", "morning"'))
    (found,) = judged([engine], Talk().touch(5.5 / 2, "main.py"))
    assert (found.outcome, seen(found)) == ("committed", {"tree": huge, "file": commit})


def test_a_file_written_anew_with_the_lines_that_it_had_is_what_it_is_committed_as(engine: Any, judged: Judge) -> None:
    commit = engine.commit("Greet on", main_py=MAIN + '\n\nif __name__ == "__main__":\n    greet(*sys.argv)\n')
    (found,) = judged([engine], Talk(source="specstory").edit(1.5, ROOT + "main.py", "", MAIN))
    assert (found.outcome, found.committed, seen(found)["commit"]) == ("survived", 1.0, commit)
    assert found.confidence == 0.5


def test_the_repository_is_told_by_its_name_and_else_by_the_lines(engine: Any, new_repository: NewRepository, judged: Judge) -> None:
    fork = new_repository("fork")
    fork.commit("Begin", main_py=MAIN)
    in_fork = fork.commit("Talk", main_py=TALKATIVE)
    in_engine = engine.commit("Talk", main_py=TALKATIVE)
    (own,) = judged([fork, engine], Talk().edit(1.5, "main.py", "", LOUD))
    assert (own.repository, seen(own)["commit"]) == ("engine", in_engine)
    (other,) = judged([engine, fork], Talk(repository="fork").edit(1.5, "main.py", "", LOUD))
    assert (other.repository, seen(other)["commit"]) == ("fork", in_fork)
    third = new_repository("third")
    third.commit("Begin", voice_py=MAIN)
    committed = third.commit("Sing", voice_py=MAIN + "\n\ndef sing(song):\n    for verse in song.verses:\n        hum(verse.melody)\n")
    edit = Talk(repository="").edit(1.5, "voice.py", "", "def sing(song):\n    for verse in song.verses:\n        hum(verse.melody)\n")
    (found,) = judged([engine, fork, third], edit)
    assert (found.repository, seen(found)["commit"], found.outcome) == ("third", committed, "survived")


def test_a_file_outside_the_repository_is_not_taken_for_one_in_it(engine: Any, judged: Judge) -> None:
    engine.commit("Talk", main_py=TALKATIVE, notes_md="# Plan\n\nShout every letter of the name\n")
    text = "# Plan\n\nShout every letter of the name\n"
    plan = Talk().edit(1.5, ROOT + "main.py", "", LOUD).edit(1.6, "/home/ada/.claude/plans/x.md", "", text)
    other = Talk("b", repository="shop").touch(1.5, "/home/ada/shop/main.py")
    _, outside, foreign = judged([engine], plan.touch(1.7, "/home/ada/shop/main.py"), other)[:3]
    assert (outside.outcome, outside.reason) == ("unknown", NO_FILE)
    assert (foreign.outcome, foreign.reason) == ("unknown", NO_FILE)


def test_the_records_of_talks_in_a_repository_are_no_evidence(engine: Any, judged: Judge) -> None:
    engine.write(".specstory/history/talk.md", "```py\n" + LOUD + "```\n")
    engine.commit("Histories")
    engine.commit("Go on", other_py="unrelated = 1\n")
    (found,) = judged([engine], Talk().edit(1.5, ROOT + "docs/a.md", "", LOUD, creates=True))
    assert found.outcome == "unknown"


def test_a_history_of_equal_lines_takes_bounded_time(new_repository: NewRepository, judged: Judge) -> None:
    engine = new_repository("engine")
    equal = "the same line over and over\n" * 100_000
    engine.commit("Begin", main_py=equal)
    engine.commit("More", main_py=equal + LOUD + equal)
    engine.commit("Less", main_py=equal)
    engine.commit("End", other_py="unrelated = 1\n")
    hostile = Talk("a").edit(1.2, "main.py", "", equal[:190_000]).edit(1.3, "main.py", equal[:190_000], LOUD)
    many = Talk("b")
    for number in range(500):
        many.edit(1.4, "main.py", "the same line over and over\n" * (number + 1), LOUD * 3)
    began = time.process_time()
    found = judged([engine], hostile, many)
    assert len(found) == 502
    # 1.5 s, most of them for reading.
    assert time.process_time() - began < 20


def test_outcomes_are_told_in_json(engine: Any, judged: Judge) -> None:
    engine.commit("Be polite", main_py=POLITE)
    found = judged([engine], Talk().edit(1.5, "main.py", '    words = ["hello", name]\n', '    words = ["hey", "you", name]\n'))
    assert msgspec.json.decode(msgspec.json.encode(found), type=list[EditOutcome]) == found


@pytest.mark.parametrize("name", ["window_days", "path_window_days", "revert_window_days"])
def test_a_window_has_to_have_a_length(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        OutcomesConfig(**{name: 0.0})
