from __future__ import annotations

import time
from typing import Any

import pytest

from apprentice.sessions.events import Author, Command, Provenance
from apprentice.sessions.outcomes.undoing import Act, acts, doings, undone_by

COMMON: dict[str, Any] = {
    "session_id": "s", "time": 1.0, "author": Author(kind="assistant", agent="claude"), "provenance": Provenance(source="x", file="f"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("command", "found"),
    [
        ("git checkout -- a.py b/c.py", [Act("restore", ("a.py", "b/c.py"))]),
        ("cd x && git checkout HEAD~1 -- a.py", [Act("restore", ("a.py",))]),
        ("git checkout .", [Act("restore")]),
        ("git checkout main", [Act("restore", ("main",), only_files=True)]),
        ("git checkout -b fix", []),
        ("git -C sub -c core.pager=cat restore a.py", [Act("restore", ("a.py",))]),
        ("git restore --source HEAD~1 a.py", [Act("restore", ("a.py",))]),
        ("git restore --staged a.py", []),
        ("git restore -p a.py", []),
        ("git reset --hard", [Act("restore")]),
        ("git reset --hard HEAD", [Act("restore")]),
        ("git reset --hard origin/main", []),
        ("git reset a.py", []),
        ("git stash push -m wip -- a.py", [Act("stash", ("a.py",))]),
        ("git stash && make test; git stash pop", [Act("stash"), Act("unstash")]),
        ("git clean -fd", [Act("remove")]),
        ("git clean -nfd", []),
        ("rm -f a.py 2>/dev/null", [Act("remove", ("a.py",))]),
        ("git rm --cached a.py", []),
        ("git rm -r --dry-run a.py", []),
        ("git stash push a.py", [Act("stash", ("a.py",))]),
        ("git stash push -q -m 'two words' a.py", [Act("stash", ("a.py",))]),
        ("git stash -m wip", [Act("stash")]),
        ("git stash save wip", [Act("stash")]),
        ("git add -A\ngit commit -m 'git reset --hard; git checkout .'", [Act("commit")]),
        ("git add a.py && git commit -m \"$(cat <<'EOF'\nFix\n\nCo-authored-by: x\nEOF\n)\"", [Act("commit")]),
        ("git -c user.name=x commit -F - <<'EOF'\nFix\nEOF", [Act("commit")]),
        ("echo 'git checkout .'", []),
        ("cat > run.sh <<EOF\ngit checkout .\nEOF", []),
        ("git checkout -- 'unfinished", []),
        ("(git checkout .)", [Act("restore")]),
        ("legit checkout .", []),
    ],
)
def test_a_shell_command_is_read_for_what_it_does_to_files(command: str, found: list[Act]) -> None:
    assert list(acts(command)) == found


@pytest.mark.parametrize(
    ("act", "path", "is_about"),
    [
        (Act("restore"), "/home/ada/x/a.py", True),
        (Act("restore", ("a.py",)), "/home/ada/x/a.py", True),
        (Act("restore", ("./x/a.py",)), "/home/ada/x/a.py", True),
        (Act("restore", ("y/a.py",)), "/home/ada/x/a.py", False),
        (Act("restore", ("x",)), "/home/ada/x/a.py", True),
        (Act("restore", ("x",), only_files=True), "/home/ada/x/a.py", False),
        (Act("restore", ("*.py",)), "/home/ada/x/a.py", True),
        (Act("restore", ("../a.py",)), "/home/ada/x/a.py", False),
        (Act("remove", ("/tmp/a.py",)), "/home/ada/tmp/a.py", False),
        (Act("remove", ("/home/ada/x",)), "/home/ada/x/a.py", True),
        (Act("remove", ("/home/ada/x/a.py",)), "x/a.py", True),
        (Act("remove", ("",)), "a.py", False),
    ],
)
def test_a_path_of_a_command_is_one_of_an_edit_where_their_ends_are_alike(act: Act, path: str, is_about: bool) -> None:
    assert act.is_about(path) is is_about


def test_a_stash_undoes_only_what_is_not_taken_out_again_and_a_removal_only_what_is_new() -> None:
    def undone(*commands: str, is_new: bool = False) -> str:
        events = [Command(id=str(number), command=command, exit_code=0, **COMMON) for number, command in enumerate(commands)]
        doing = undone_by(doings(events), -1, "/x/a.py", is_new=is_new)
        return "" if doing is None else doing.event.command

    assert undone("git stash") == "git stash"
    assert undone("git stash", "git stash pop") == ""
    assert undone("rm a.py") == ""
    assert undone("rm a.py", is_new=True) == "rm a.py"
    assert undone("git commit -m x", "git checkout .") == ""
    assert undone("git checkout .", "git commit -m x") == "git checkout ."


def test_a_command_that_failed_did_nothing_and_one_of_no_length_is_read_in_a_moment() -> None:
    failed = Command(id="0", command="git checkout .", exit_code=1, **COMMON)
    long = Command(id="1", command="git checkout . ; " * 100_000, exit_code=None, **COMMON)
    assert doings([failed]) == []
    assert len(doings([long] * 5)) == 1000


def test_many_stashes_are_looked_through_once_for_each_edit() -> None:
    commands = ["git stash"] * 999 + ["git stash pop"]
    found = doings([Command(id=str(number), command=command, exit_code=0, **COMMON) for number, command in enumerate(commands)])
    began = time.process_time()
    assert all(undone_by(found, -1, "a.py", is_new=False) is None for _ in range(500))
    # 0.1 s; 6 s where every stash looks for its end.
    assert time.process_time() - began < 2
