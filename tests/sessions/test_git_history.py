"""Commits become sessions, and following them gives every commit's files."""

import errno
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from apprentice.core import artifacts, files
from apprentice.core.errors import InputError, StorageError
from apprentice.core.fakes import FailingOperations
from apprentice.repository.git import Git
from apprentice.sessions import replay
from apprentice.sessions.events import Author, Commit, EditEvent, Note
from apprentice.sessions.git_history import GitHistoryConfig, identities
from apprentice.sessions.git_window import can_continue
from apprentice.sessions.store import Sessions
from apprentice.text.edits import split_lines

NewRepository = Callable[..., Any]
Read = Callable[..., Sessions]
LINES = [f"line {number}\n" for number in range(40)]


def dropped(sessions: Sessions) -> dict[str, int]:
    return sessions.streams()[0].dropped


def test_a_commit_is_its_message_its_edits_in_path_order_and_itself(new_repository: NewRepository, read: Read) -> None:
    repository = new_repository("shop")
    first = repository.commit("Begin", b_py="b = 1\n", a_py="a = 1\n")
    second = repository.commit("Count on\n\nBecause.", a_py="a = 2\n", c_py="c = 1\n")
    sessions = list(read(repository.path).sessions())
    assert [session.intent for session in sessions] == ["Begin", "Count on\n\nBecause."]
    note, edit_a, edit_c, commit = sessions[1].events
    assert isinstance(note, Note)
    assert isinstance(edit_a, EditEvent)
    assert isinstance(edit_c, EditEvent)
    assert isinstance(commit, Commit)
    assert (edit_a.path, edit_c.path, edit_c.before_id) == ("a.py", "c.py", None)
    assert [(hunk.start_line, hunk.old, hunk.new) for hunk in edit_a.hunks] == [(0, ("a = 1",), ("a = 2",))]
    assert commit.parents == (first,)
    assert commit.revision == note.revision == second
    assert commit.time == sessions[1].time == 1_700_000_120
    assert commit.author == Author(kind="developer", person="person-1")
    assert len({event.id for session in sessions for event in session.events}) == 8
    assert {event.session_id for event in sessions[1].events} == {sessions[1].id}


def git_files(git: Git, commit: str | None) -> dict[str, str]:
    """Path -> text of the text files of a commit, straight from git."""
    found: dict[str, str] = {}
    if commit is None:
        return found
    with git.objects() as objects:
        for entry in git.tree(commit):
            data = objects.read(entry.id, max_bytes=1 << 20).data
            if entry.mode.startswith("100") and data is not None and b"\0" not in data:
                found[entry.path.decode()] = data.decode()
    return found


def assert_following_gives_every_commit(sessions: Sessions, git: Git) -> int:
    """The tree that each session starts from is that of its commit's parent, and its hunks lead to the text after."""
    worlds = replay.start(sessions)
    count = 0
    for session in sessions.sessions():
        assert session.commit is not None
        world = worlds[session.repository]
        replay.begin(world, session)
        parents = session.commit.parents
        assert {path: world.text(path) for path in world} == git_files(git, parents[0] if parents else None)
        for event in session.edits:
            replay.begin_edit(world, event)
            assert world.lines(event.path) == (split_lines(sessions.text(event.before_id)) if event.before_id else [])
            for hunk in event.hunks:
                world.apply(hunk)
            assert world.lines(event.path) == (split_lines(sessions.text(event.after_id)) if event.after_id else [])
            replay.settle(world, event)
        count += 1
    return count


def grow(repository: Any, dice: random.Random, steps: int) -> None:
    """Random work: edits, new files, removals, renames, binary files, empty commits, branches, merges."""
    for step in range(steps):
        present = sorted(path for path in repository.path.glob("*.py"))
        kind = dice.choice(
            ["edit", "edit", "edit", "new", "remove", "rename", "binary", "huge", "branch", "merge", "none"]
        )
        if kind in ("new", "none") or not present:
            repository.write(f"f{step}.py", "".join(dice.sample(LINES, 20)) if kind != "none" else "")
        elif kind == "edit":
            path = dice.choice(present)
            lines = path.read_bytes().decode("latin-1").splitlines(keepends=True)
            at = dice.randrange(len(lines) + 1)
            lines[at : at + dice.randrange(3)] = dice.sample(LINES, dice.randrange(3))
            repository.write(path.name, "".join(lines))
        elif kind == "remove":
            dice.choice(present).unlink()
        elif kind == "rename":
            dice.choice(present).rename(repository.path / f"r{step}.py")
        elif kind == "binary":
            repository.write(dice.choice(present).name, bytes([0, step]))
        elif kind == "huge":
            repository.write(f"h{step}.py", "".join(LINES) * 30)
        elif kind == "branch":
            repository.git("checkout", "-q", "-b", f"branch{step}", dice.choice(["HEAD", "HEAD~1", "HEAD~2"]))
        elif kind == "merge":
            branches = repository.git("branch", "--format=%(refname:short)").split()
            repository.git("merge", "-q", "-X", "ours", "-m", "Merge", dice.choice(branches))
            continue
        repository.commit(f"Step {step}: {kind}")


@pytest.mark.parametrize("seed", range(4))
def test_following_moves_and_edits_gives_the_files_of_every_commit(
    new_repository: NewRepository, read: Read, seed: int
) -> None:
    repository = new_repository()
    for step in range(3):
        repository.commit(a_py="".join(LINES[step:]), b_py="".join(LINES[:step]))
    grow(repository, random.Random(seed), 40)
    git = Git.open(repository.path)
    assert assert_following_gives_every_commit(read(repository.path), git) > 8
    assert assert_following_gives_every_commit(read(repository.path, limit_commits=12, into="window"), git) > 2


def test_unrelated_histories_that_were_merged_are_followed(new_repository: NewRepository, read: Read) -> None:
    repository = new_repository()
    repository.commit(a_py="".join(LINES))
    repository.commit(a_py="".join(LINES[1:]))
    repository.git("checkout", "-q", "--orphan", "other")
    repository.git("rm", "-rfq", ".")
    repository.commit(b_py="".join(LINES))
    repository.commit(b_py="".join(LINES[:-1]))
    repository.git("checkout", "-q", "main")
    repository.git("merge", "-q", "--allow-unrelated-histories", "-m", "Merge", "other")
    repository.commit(a_py="".join(LINES[2:]), b_py="".join(LINES[:-2]))
    assert assert_following_gives_every_commit(read(repository.path), Git.open(repository.path)) == 5


def test_what_teaches_nothing_is_left_out_and_counted(
    new_repository: NewRepository, read: Read, tmp_path: Path
) -> None:
    repository = new_repository()
    repository.commit(a_py="a = 1\n", b_py="b = 1\n")
    repository.commit("many", **{f"f{number}_py": f"x = {number}\n" for number in range(41)})
    repository.commit("long", long_py="x = 1\n" * 1001)
    (repository.path / "link.py").symlink_to("a.py")
    repository.commit("link", a_py="a = 2\n")
    (repository.path / "a.py").chmod(0o755)
    repository.commit("mode", b_py="b = 2\n")
    repository.commit("only binary", c_bin=b"\0\1\2")
    repository.commit("no line", a_py="a = 2")
    repository.git("mv", "b.py", "c.py")
    repository.commit("only renamed")
    repository.commit("empty")
    repository.commit("wide", a_py="a = 3\n", wide_txt="x" * 600_000)
    other = new_repository("other")
    other.commit(x_py="x\n")
    repository.git("submodule", "--quiet", "add", str(other.path), "module")
    repository.commit("submodule")
    repository.git("checkout", "-q", "-b", "side")
    repository.commit("side", side_py="s = 1\n")
    repository.git("checkout", "-q", "main")
    repository.merge("side")
    sessions = read(repository.path)
    intents = [session.intent for session in sessions.sessions()]
    assert intents == ["Change things", "link", "mode", "wide", "submodule", "side"]
    assert dropped(sessions) == {
        "merge": 1,
        "huge_commit": 2,
        "symlink": 1,
        "mode_only": 1,
        "binary": 1,
        "no_line_changed": 1,
        "no_text_changed": 4,
        "large_file": 1,
        "submodule": 1,
    }


def test_what_cannot_be_read_is_kept_aside_with_where_it_stands(new_repository: NewRepository, read: Read) -> None:
    repository = new_repository()
    repository.write("latin.py", "name = 'Zo\xeb hunter2'\n".encode("latin-1"))
    repository.write("wide.py", "x = 1\n".encode("utf-16"))
    repository.write("line\nbreak hunter2.py", "x = 1\n")
    (Path(repository.path) / b"\xff.py".decode("utf-8", "surrogateescape")).write_text("x = 1\n")
    commit = repository.commit(good_py="x = 1\n")
    sessions = read(repository.path)
    assert sessions.streams()[0].kept_aside == {"not_utf8": 1, "utf16": 1, "odd_path": 1, "path_not_utf8": 1}
    rows = [json.loads(line) for line in (sessions.folder / "kept_aside.jsonl").read_text().splitlines()]
    assert {row["reason"] for row in rows} == {"not_utf8", "utf16", "odd_path", "path_not_utf8"}
    assert all((row["source"], row["file"]) == ("git", commit) for row in rows)
    assert "hunter2" not in (sessions.folder / "kept_aside.jsonl").read_text()
    only = next(sessions.sessions())
    assert [event.path for event in only.edits] == ["good.py"]
    assert only.commit is not None
    assert sorted(only.commit.left_out) == ["not_utf8", "odd_path", "path_not_utf8", "utf16"]


def test_messages_in_other_encodings_and_impossible_clocks_are_read(new_repository: NewRepository, read: Read) -> None:
    repository = new_repository()
    repository.commit(a_py="x = 1\n")
    tree = repository.git("rev-parse", "HEAD^{tree}")
    repository.write("a.py", "x = 2\n")
    repository.git("add", "-A")
    tree = repository.git("write-tree")
    raw = f"tree {tree}\nparent {repository.git('rev-parse', 'HEAD')}\n".encode()
    raw += b"author Zo\xeb <z@x.example> 99999999999999999 +0000\ncommitter Zo\xeb <z@x.example> -5 +0000\n"
    raw += b"encoding iso-8859-1\n\nGr\xfc\xdfe\n"
    odd = repository.git("hash-object", "-t", "commit", "-w", "--stdin", "--literally", data=raw)
    repository.git("update-ref", "refs/heads/main", odd)
    last = list(read(repository.path).sessions())[-1]
    assert last.intent == "Gr\u00fc\u00dfe"
    assert last.time == 0.0


def test_assistants_and_tools_are_told_from_developers(new_repository: NewRepository, read: Read) -> None:
    repository = new_repository()
    repository.commit("Mine", a_py="1\n")
    repository.commit("Ours\n\nCo-authored-by: Claude <noreply@anthropic.com>", a_py="2\n")
    repository.commit("Bump", author="dependabot[bot] <49699333+dependabot[bot]@users.noreply.github.com>", a_py="3\n")
    repository.commit("Hers", author="Grace <grace@navy.example>", a_py="4\n")
    repository.commit("Mine again", a_py="5\n")
    assert [session.author for session in read(repository.path).sessions()] == [
        Author(kind="developer", person="person-1"),
        Author(kind="assistant", agent="claude"),
        Author(kind="tool", agent="dependabot"),
        Author(kind="developer", person="person-3"),
        Author(kind="developer", person="person-1"),
    ]


def test_nothing_unredacted_reaches_the_disk(new_repository: NewRepository, read: Read) -> None:
    repository = new_repository("hunter2-project")
    repository.commit("Use hunter2", **{"hunter2_py": "p = 'hunter2'\n", "a_py": "x = 1\n"})
    repository.commit("Other", author="hunter2 <hunter2@x.example>", a_py="x = 2\nhunter2\n")
    repository.write("odd\nhunter2", "x\n")
    repository.commit("Odd", a_py="x = 3\nhunter2\n")
    sessions = read(repository.path)
    assert sessions.repositories() == ["<secret>-project"]
    everything = repr(list(sessions.sessions())) + repr(sessions.trees()) + repr(sessions.manifest)
    everything += "".join(sessions.text(text_id) for text_id in sessions.text_ids())
    everything += (sessions.folder / "kept_aside.jsonl").read_text()
    assert "<secret>" in everything
    assert "hunter2" not in everything
    assert sessions.manifest.extra["redacted"]["secret"] >= 5
    for path in sessions.folder.rglob("*"):
        assert path.is_dir() or b"hunter2" not in path.read_bytes()


def test_edits_are_those_of_the_redacted_texts(new_repository: NewRepository, read: Read) -> None:
    repository = new_repository()
    repository.commit(a_py="p = 'hunter2'\nx = 1\n")
    repository.commit("Show it less", a_py="p = '<secret>'\nx = 2\n")
    repository.commit("Redaction hides this", a_py="p = 'hunter2'\nx = 2\n")
    sessions = read(repository.path)
    first, second = sessions.sessions()
    assert [(hunk.old, hunk.new) for hunk in second.edits[0].hunks] == [(("x = 1",), ("x = 2",))]
    assert dropped(sessions) == {"no_line_changed": 1, "no_text_changed": 1}
    assert first.edits[0].after_id == second.edits[0].before_id


def test_the_newest_commits_are_read_with_the_tree_that_they_start_from(
    new_repository: NewRepository, read: Read
) -> None:
    repository = new_repository()
    repository.commit("one", a_py="1\n", b_py="b\n")
    repository.commit("two", a_py="2\n")
    repository.commit("three", a_py="3\n")
    sessions = read(repository.path, limit_commits=1)
    assert [session.intent for session in sessions.sessions()] == ["three"]
    tree = sessions.tree("repository")
    assert {path: sessions.text(text_id) for path, text_id in tree.items()} == {"a.py": "2\n", "b.py": "b\n"}
    small = read(repository.path, limit_commits=1, max_tree_bytes=1, into="small")
    assert dropped(small)["tree: tree_over_limit"] == 1


def test_a_later_reading_adds_only_new_commits_and_is_as_if_read_at_once(
    new_repository: NewRepository, read: Read, scanner: Any
) -> None:
    repository = new_repository()
    repository.commit("one", a_py="hunter2\n1\n")
    repository.commit("two", author="Grace <g@navy.example>", a_py="hunter2\n2\n")
    first = read(repository.path, into="first")
    repository.git("checkout", "-q", "-b", "side", "HEAD~1")
    repository.commit("side", b_py="b\n")
    repository.git("checkout", "-q", "main")
    repository.commit("three", author="Joan <j@bletchley.example>", a_py="hunter2\n3\n")
    repository.merge("side")
    repository.commit("four", a_py="hunter2\n4\n")
    git = Git.open(repository.path)
    assert can_continue(git, first, "repository")
    scanner.seen.clear()
    second = read(repository.path, into="second", previous=first)
    assert "one" not in scanner.seen
    assert "four" in scanner.seen
    at_once = read(repository.path, into="at_once")
    by_id = {session.id: session for session in at_once.sessions()}
    assert {session.id: session for session in second.sessions()}.keys() == by_id.keys()
    for session in second.sessions():
        assert (session.author, session.edits) == (by_id[session.id].author, by_id[session.id].edits)
    worlds = replay.start(second)
    for session in second.sessions():
        replay.begin(worlds["repository"], session)
        assert session.commit is not None
        parent = session.commit.parents[0] if session.commit.parents else None
        world = worlds["repository"]
        expected = {path: text.replace("hunter2", "<secret>") for path, text in git_files(git, parent).items()}
        assert {path: world.text(path) for path in world} == expected
        replay.advance(world, session)
    third = read(repository.path, into="third", previous=second)
    assert len(third.streams()) == len(second.streams()) == 2
    assert list(third.sessions()) == list(second.sessions())


def test_a_reading_that_brings_only_merges_is_remembered(new_repository: NewRepository, read: Read) -> None:
    repository = new_repository()
    repository.commit("one", a_py="1\n")
    repository.git("branch", "side")
    first = read(repository.path, into="first")
    repository.git("checkout", "-q", "--orphan", "lonely")
    repository.git("checkout", "-q", "main")
    repository.git("commit", "-q", "--allow-empty", "-m", "nothing", GIT_COMMITTER_DATE="1700000100 +0000")
    second = read(repository.path, into="second", previous=first)
    assert second.streams()[-1].state["head"] == Git.open(repository.path).head()
    assert second.streams()[-1].sessions == 0
    repository.commit("two", a_py="2\n")
    third = read(repository.path, into="third", previous=second)
    assert [session.intent for session in third.sessions()] == ["one", "two"]
    assert third.streams()[-1].state["commits"] == 1


def test_a_rewritten_history_is_not_continued(new_repository: NewRepository, read: Read) -> None:
    repository = new_repository()
    repository.commit("one", a_py="1\n")
    repository.commit("two", a_py="2\n")
    first = read(repository.path, into="first")
    repository.git("reset", "-q", "--hard", "HEAD~1")
    repository.commit("other", a_py="3\n")
    assert not can_continue(Git.open(repository.path), first, "repository")
    with pytest.raises(InputError, match="rewritten") as caught:
        read(repository.path, into="second", previous=first)
    assert caught.value.hint


def test_several_repositories_stand_side_by_side_in_time_order(new_repository: NewRepository, read: Read) -> None:
    one, two = new_repository("one"), new_repository("two")
    for step in range(3):
        one.commit(f"one {step}", a_py=f"{step}\n")
        two.commit(f"two {step}", a_py=f"two {step}\n")
    sessions = read(one.path, two.path)
    times = [session.time for session in sessions.sessions()]
    assert times == sorted(times)
    assert [session.intent for session in sessions.sessions("two")] == ["two 0", "two 1", "two 2"]
    assert sessions.summary()["sources"]["git"]["files"] == 2
    assert sessions.summary()["sources"]["git"]["events"] == {"note": 6, "edit": 6, "commit": 6}


def test_the_same_history_gives_the_same_artifact(new_repository: NewRepository, read: Read) -> None:
    repository = new_repository()
    grow(repository, random.Random(1), 10)
    assert read(repository.path, into="one").hash == read(repository.path, into="two").hash


def test_shallow_partial_and_empty_repositories_are_refused_with_a_way_out(
    new_repository: NewRepository, read: Read, tmp_path: Path
) -> None:
    repository = new_repository()
    repository.git("config", "uploadpack.allowFilter", "true")
    repository.commit(a_py="1\n")
    repository.commit(a_py="2\n")
    repository.git("clone", "-q", "--depth", "1", f"file://{repository.path}", str(tmp_path / "shallow"))
    repository.git(
        "clone", "-q", "--no-checkout", "--filter=blob:none", f"file://{repository.path}", str(tmp_path / "part")
    )
    for path, words in (
        (tmp_path / "shallow", "shallow"),
        (tmp_path / "part", "partial clone"),
        (new_repository("empty").path, "no commits yet"),
    ):
        with pytest.raises(InputError, match=words) as caught:
            read(path, into="out")
        assert caught.value.hint
        assert not artifacts.is_finished(tmp_path / "out")


def test_a_single_line_of_200_mb_is_passed_over(new_repository: NewRepository, read: Read) -> None:
    repository = new_repository()
    repository.git("config", "core.compression", "1")
    repository.write("wide.txt", b"x" * 200_000_000)
    repository.commit(a_py="1\n")
    sessions = read(repository.path)
    assert dropped(sessions) == {"large_file": 1}
    assert [event.path for session in sessions.sessions() for event in session.edits] == ["a.py"]


def test_a_difference_that_would_take_hours_is_left_out(new_repository: NewRepository, read: Read) -> None:
    repository = new_repository()
    repository.commit(a_txt="x\ny\n" * 60_000, b_py="1\n")
    repository.commit(a_txt="y\nx\n" * 60_000, b_py="2\n")
    sessions = read(repository.path)
    assert dropped(sessions) == {"huge_commit": 1, "too_repetitive": 1}


def test_identities_are_all_people_of_the_history(new_repository: NewRepository) -> None:
    repository = new_repository()
    repository.commit(
        "x\n\nCo-authored-by: Joan Clarke <j@bletchley.example>", author="Grace <g@navy.example>", a_py="1\n"
    )
    found = identities(Git.open(repository.path), GitHistoryConfig())
    assert {(identity.name, identity.email) for identity in found} == {
        ("Grace", "g@navy.example"),
        ("Ada Lovelace", "ada@analytical.example"),
        ("Joan Clarke", "j@bletchley.example"),
    }


def test_a_write_that_fails_leaves_no_artifact_and_names_the_file(
    new_repository: NewRepository, read: Read, tmp_path: Path
) -> None:
    repository = new_repository()
    repository.commit(a_py="1\n")
    repository.write("odd\nname", "x")
    repository.commit(a_py="2\n")
    counting = FailingOperations(0, errno.ENOSPC)
    with files.using(counting):
        expected = list(read(repository.path, into="count").sessions())
    for number in range(1, len(counting.performed) + 1):
        with files.using(FailingOperations(number, errno.ENOSPC)):
            error = failure(lambda: read(repository.path, into="fail"))
        if error is None:
            # The last steps only tidy up: what was read is whole.
            assert list(Sessions.open(tmp_path / "fail").sessions()) == expected
        else:
            assert str(tmp_path) in error.message
            assert error.hint
        if number % 5 == 0:
            assert list(read(repository.path, into="fail").sessions()) == expected


def failure(work: Callable[[], object]) -> StorageError | None:
    try:
        work()
    except StorageError as error:
        return error
    return None
