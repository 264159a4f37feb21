import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from apprentice.core.errors import InputError
from apprentice.repository.git import Git, is_ignored

NewRepository = Callable[..., Any]


def test_history_comes_newest_first_with_parents(new_repository: NewRepository) -> None:
    repository = new_repository()
    first = repository.commit(a_py="1\n")
    second = repository.commit(a_py="2\n")
    git = Git.open(repository.path)
    assert [(link.commit, link.parents) for link in git.commits(git.head())] == [(second, (first,)), (first, ())]
    assert [link.commit for link in git.commits(second, without=first)] == [second]


def test_differences_are_told_commit_by_commit_also_where_there_are_none(new_repository: NewRepository) -> None:
    repository = new_repository()
    first = repository.commit(a_py="one\ntwo\nthree\nfour\n")
    same = repository.commit("Nothing")
    repository.git("mv", "a.py", "b.py")
    moved = repository.commit(b_py="one\ntwo\nthree\nfour\nfive\n")
    git = Git.open(repository.path)
    pairs = [(first, None), (same, first), (moved, same)]
    added, nothing, renamed = git.diffs(pairs, renames=True)
    assert [(change.status, change.path) for change in added] == [("A", b"a.py")]
    assert nothing == []
    assert [(change.status, change.old_path, change.path) for change in renamed] == [("R", b"a.py", b"b.py")]
    assert sorted(change.status for change in list(git.diffs(pairs, renames=False))[2]) == ["A", "D"]


def test_objects_are_read_up_to_a_size_and_told_apart_from_missing_ones(new_repository: NewRepository) -> None:
    repository = new_repository()
    repository.commit(small_txt="hello\n", large_txt="x" * 5000)
    git = Git.open(repository.path)
    ids = {entry.path: entry.id for entry in git.tree(git.head())}
    with git.objects() as objects:
        assert objects.read(ids[b"large.txt"], max_bytes=100).data is None
        assert objects.read(ids[b"large.txt"], max_bytes=100).size == 5000
        assert objects.read(ids[b"small.txt"], max_bytes=100).data == b"hello\n"
        assert objects.read("1" * 40, max_bytes=100).missing
        assert objects.read(git.head(), max_bytes=10_000).missing
        assert objects.read(git.head(), kind="commit", max_bytes=10_000).data is not None


def test_bare_repositories_work_trees_and_sha256_are_read(new_repository: NewRepository, tmp_path: Path) -> None:
    repository = new_repository()
    head = repository.commit(a_py="1\n")
    repository.git("clone", "-q", "--bare", ".", str(tmp_path / "copy.git"))
    bare = Git.open(tmp_path / "copy.git")
    assert (bare.head(), bare.name) == (head, "copy")
    repository.git("worktree", "add", "-q", str(tmp_path / "beside"), "-b", "beside")
    assert Git.open(tmp_path / "beside").head() == head
    long = new_repository("long", "--object-format=sha256")
    assert long.commit(a_py="1\n") == Git.open(long.path).head()
    assert [entry.path for entry in Git.open(long.path).tree(Git.open(long.path).head())] == [b"a.py"]


def test_names_of_commits_are_resolved_and_peeled(new_repository: NewRepository) -> None:
    repository = new_repository()
    head = repository.commit(a_py="1\n")
    repository.git("tag", "-a", "v1", "-m", "first")
    git = Git.open(repository.path)
    assert git.resolve("v1") == git.resolve("main") == git.resolve(head[:10]) == git.resolve("HEAD") == head


@pytest.mark.parametrize(
    "name",
    ["-n1", "--output=/tmp/x", "", "main..HEAD", "HEAD:a.py", "no-such", "a b", "a\nb", "\x1b[31m", "main^{/x}", "@{"],
)
def test_what_is_no_name_of_a_commit_is_refused(new_repository: NewRepository, name: str) -> None:
    repository = new_repository()
    repository.commit(a_py="1\n")
    with pytest.raises(InputError, match="commit") as caught:
        Git.open(repository.path).resolve(name)
    assert "\x1b" not in caught.value.message
    assert caught.value.hint


def test_ancestry_is_answered_also_for_commits_that_are_not_there(new_repository: NewRepository) -> None:
    repository = new_repository()
    first = repository.commit(a_py="1\n")
    second = repository.commit(a_py="2\n")
    git = Git.open(repository.path)
    assert git.is_ancestor(first, second)
    assert not git.is_ancestor(second, first)
    assert not git.is_ancestor("1" * 40, second)


def test_what_is_no_repository_is_named_with_a_way_out(new_repository: NewRepository, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    repository = new_repository()
    repository.commit(a_py="1\n")
    (repository.path / "src").mkdir()
    half = tmp_path / "half"
    (half / ".git").mkdir(parents=True)
    cases = {
        tmp_path / "file": "is a file",
        tmp_path / "nothing": "there is nothing at",
        tmp_path / "folder": "not a git repository",
        repository.path / "src": "not a git repository",
        repository.path / "a.py" / "b": "cannot be read",
        half: "not a git repository",
    }
    for path, words in cases.items():
        with pytest.raises(InputError, match=words) as caught:
            Git.open(path)
        assert str(path) in caught.value.message
        assert caught.value.hint or "cannot be read" in words


def test_a_repository_without_commits_says_so(new_repository: NewRepository) -> None:
    with pytest.raises(InputError, match="no commits yet"):
        Git.open(new_repository().path).head()


def test_a_repository_without_permission_says_so(new_repository: NewRepository, tmp_path: Path) -> None:
    repository = new_repository()
    repository.commit(a_py="1\n")
    locked = repository.path / ".git"
    locked.chmod(0)
    repository.path.chmod(0)
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(65534)
    try:
        with pytest.raises(InputError, match="no permission") as caught:
            Git.open(repository.path)
    finally:
        if is_root:
            os.seteuid(0)
        repository.path.chmod(0o755)
        locked.chmod(0o755)
    assert caught.value.hint


def test_shallow_clones_are_known(new_repository: NewRepository, tmp_path: Path) -> None:
    repository = new_repository()
    repository.commit(a_py="1\n")
    repository.commit(a_py="2\n")
    repository.git("clone", "-q", "--depth", "1", f"file://{repository.path}", str(tmp_path / "shallow"))
    assert Git.open(tmp_path / "shallow").is_shallow()
    assert not Git.open(repository.path).is_shallow()


def test_a_damaged_history_is_an_error_that_carries_what_git_says(new_repository: NewRepository) -> None:
    repository = new_repository()
    first = repository.commit(a_py="1\n")
    repository.commit(a_py="2\n")
    git = Git.open(repository.path)
    head = git.head()
    (repository.path / ".git" / "objects" / first[:2] / first[2:]).unlink()
    with pytest.raises(InputError, match=r"git rev-list.*failed"):
        list(git.commits(head))


def test_what_a_repository_leaves_out(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    (tmp_path / ".gitignore").write_text("notes/\n*.log\n")
    (tmp_path / ".git" / "info").mkdir(exist_ok=True)
    (tmp_path / ".git" / "info" / "exclude").write_text("mine.txt\n")
    found = {name: is_ignored(tmp_path, tmp_path / name) for name in ("notes/a", "b.log", "mine.txt", "c.py", "[n]otes", ":(top)x", "*")}
    assert [name for name, ignored in found.items() if ignored] == ["notes/a", "b.log", "mine.txt"]
    # A file that git has is one of its files, whatever is ignored.
    (tmp_path / "kept.log").write_text("x\n")
    subprocess.run(["git", "-C", tmp_path, "add", "--force", "kept.log"], check=True)
    assert not is_ignored(tmp_path, tmp_path / "kept.log")
    with pytest.raises(InputError):
        is_ignored(tmp_path / "nowhere", tmp_path / "a")
