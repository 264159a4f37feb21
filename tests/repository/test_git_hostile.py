"""Repositories that name programs in every place where git would run one: none may ever run.

Each trap makes the marker file. Where plain git falls into a trap, a control shows that the trap works.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from apprentice.core.errors import InputError
from apprentice.repository.git import Git
from apprentice.repository.process import GitProcess

NewRepository = Callable[..., Any]


def read_everything(path: Path) -> None:
    git = Git.open(path)
    head = git.head()
    git.is_shallow(), git.resolve("HEAD"), git.is_ancestor(head, head)
    links = list(git.commits(head))
    pairs = [(link.commit, link.parents[0] if link.parents else None) for link in links]
    list(git.diffs(pairs, renames=True)), list(git.diffs(pairs, renames=False))
    with git.objects() as objects:
        for entry in git.tree(head):
            objects.read(entry.id, max_bytes=1 << 20)


def plain_git(path: Path, *arguments: str) -> None:
    environment = {"PATH": os.environ["PATH"], "HOME": str(path), "GIT_CONFIG_NOSYSTEM": "1"}
    subprocess.run(["git", *arguments], cwd=path, env=environment, capture_output=True, check=False, timeout=30)


@pytest.fixture
def trapped(new_repository: NewRepository, tmp_path: Path) -> tuple[Path, Path]:
    """A repository full of traps, and the marker file that any of them makes."""
    marker = tmp_path / "marker"
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\ntouch '{marker}'\ncat 2>/dev/null\n")
    program.chmod(0o755)
    repository = new_repository()
    repository.commit(a_py="print(1)\n", b_bin=b"\0\1")
    repository.write(".gitattributes", "* diff=evil filter=evil merge=evil\n")
    repository.write("a.py", "print(2)\n")
    repository.commit("Second")
    included = tmp_path / "included"
    included.write_text(f"[core]\n\tpager = {program}\n")
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    for folder in (hooks, repository.path / ".git" / "hooks"):
        for name in (
            "post-index-change",
            "reference-transaction",
            "post-checkout",
            "fsmonitor-watchman",
            "pre-auto-gc",
        ):
            (folder / name).write_text(program.read_text())
            (folder / name).chmod(0o755)
    (repository.path / ".git" / "info" / "attributes").write_text("* diff=evil filter=evil\n")
    with (repository.path / ".git" / "config").open("a") as config:
        config.write(
            f"""
[core]
    fsmonitor = {program}
    hooksPath = {hooks}
    pager = {program}
    editor = {program}
    sshCommand = {program}
    gitProxy = {program}
    askPass = {program}
    alternateRefsCommand = {program}
    attributesFile = {repository.path}/.gitattributes
[include]
    path = {included}
[alias]
    rev-parse = !{program}
    rev-list = !{program}
    cat-file = !{program}
    diff-tree = !{program}
    ls-tree = !{program}
[diff]
    external = {program}
[diff "evil"]
    command = {program}
    textconv = {program}
    cachetextconv = false
[filter "evil"]
    clean = {program}
    smudge = {program}
    process = {program}
    required = true
[merge "evil"]
    driver = {program}
[gpg]
    program = {program}
[gpg "ssh"]
    program = {program}
[log]
    showSignature = true
[credential]
    helper = !{program}
[uploadpack]
    packObjectsHook = {program}
[pager]
    log = {program}
    rev-list = {program}
[trailer "evil"]
    command = {program}
[interactive]
    diffFilter = {program}
"""
        )
    return repository.path, marker


@pytest.mark.parametrize("command", [("status",), ("log", "-p"), ("diff", "HEAD~1")])
def test_plain_git_falls_into_the_traps(trapped: tuple[Path, Path], command: tuple[str, ...]) -> None:
    path, marker = trapped
    (path / "a.py").write_text("print(3)\n")
    plain_git(path, *command)
    assert marker.exists()


def test_no_program_that_a_repository_configures_is_run(trapped: tuple[Path, Path]) -> None:
    path, marker = trapped
    read_everything(path)
    read_everything(path / ".git")
    assert not marker.exists()


def test_programs_named_in_our_own_environment_are_not_run(trapped: tuple[Path, Path], tmp_path: Path) -> None:
    path, marker = trapped
    program = str(tmp_path / "program")
    names = ("GIT_EXTERNAL_DIFF", "GIT_PAGER", "GIT_SSH_COMMAND", "GIT_ASKPASS", "GIT_EDITOR", "GIT_PROXY_COMMAND")
    environment = {
        **os.environ,
        **dict.fromkeys(names, program),
        "GIT_DIR": str(tmp_path / "elsewhere"),
        "GIT_TRACE": str(marker),
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "core.fsmonitor",
        "GIT_CONFIG_VALUE_0": program,
    }
    code = (
        "import sys; from pathlib import Path; from apprentice.repository.git import Git\n"
        "git = Git.open(Path(sys.argv[1])); print(len(list(git.commits(git.head()))), len(list(git.tree(git.head()))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.stdout.strip(), done.stderr) == ("2 3", "")
    assert not marker.exists()


@pytest.mark.parametrize("url", ["ext::sh -c touch% {marker}", "ssh://host/path", "file://{origin}"])
def test_a_missing_object_is_never_fetched(new_repository: NewRepository, tmp_path: Path, url: str) -> None:
    repository = new_repository("origin")
    repository.git("config", "uploadpack.allowFilter", "true")
    repository.commit(a_py="print(1)\n")
    clone = tmp_path / "clone"
    repository.git("clone", "-q", "--no-checkout", "--filter=blob:none", f"file://{repository.path}", str(clone))
    marker, program = tmp_path / "marker", tmp_path / "program"
    program.write_text(f"#!/bin/sh\ntouch '{marker}'\n")
    program.chmod(0o755)
    settings = {
        "remote.origin.url": url.format(marker=marker, origin=repository.path),
        "remote.origin.uploadpack": str(program),
        "core.sshCommand": str(program),
        "protocol.allow": "always",
        "protocol.ext.allow": "always",
    }
    for name, value in settings.items():
        subprocess.run(["git", "-C", str(clone), "config", name, value], check=True, timeout=30)
    git = Git.open(clone)
    entry = next(git.tree(git.head()))
    with git.objects() as objects:
        assert objects.read(entry.id, max_bytes=1000).missing
    with pytest.raises(InputError):
        git.resolve(entry.id)
    assert not marker.exists()
    plain_git(clone, "cat-file", "-p", entry.id)
    assert marker.exists()


def test_replaced_commits_and_grafts_change_nothing(new_repository: NewRepository) -> None:
    repository = new_repository()
    first = repository.commit(a_py="1\n")
    second = repository.commit(a_py="2\n")
    third = repository.commit(a_py="3\n")
    repository.git("replace", third, first)
    (repository.path / ".git" / "info" / "grafts").write_text(f"{third}\n")
    git = Git.open(repository.path)
    assert [link.commit for link in git.commits(git.head())] == [third, second, first]


@pytest.mark.parametrize(
    "branch", ["$(touch${IFS}marker)", ";touch${IFS}marker", "--upload-pack=touch", "-x", "`id`", "é\u202e"]
)
def test_hostile_branch_names_are_only_names(new_repository: NewRepository, branch: str) -> None:
    repository = new_repository()
    head = repository.commit(a_py="1\n")
    repository.git("update-ref", "--no-deref", "HEAD", head)
    repository.git("update-ref", f"refs/heads/{branch}", head)
    (repository.path / ".git" / "HEAD").write_text(f"ref: refs/heads/{branch}\n")
    git = Git.open(repository.path)
    assert git.head() == head
    assert git.resolve(f"refs/heads/{branch}") == head
    assert not list(repository.path.rglob("marker"))


def test_hostile_file_names_come_through_as_they_are(new_repository: NewRepository) -> None:
    names = [
        "-rf",
        "$(touch marker)",
        "a\nb",
        "\x1b]0;owned\x07",
        "tab\tname",
        '"quoted"',
        ":(glob)*",
        "\u202egnp.exe",
        "a -> b",
    ]
    repository = new_repository()
    for name in names:
        repository.write(name, "x\n")
    repository.commit()
    git = Git.open(repository.path)
    assert {entry.path.decode() for entry in git.tree(git.head())} == set(names)
    changes = next(iter(git.diffs([(git.head(), None)], renames=True)))
    assert {change.path.decode() for change in changes} == set(names)
    assert not (repository.path / "marker").exists()


def test_a_configuration_that_git_cannot_read_is_an_error_without_escapes(new_repository: NewRepository) -> None:
    repository = new_repository()
    repository.commit(a_py="1\n")
    (repository.path / ".git" / "config").write_text("[core\x1b[31m\n\x07")
    with pytest.raises(InputError, match="config") as caught:
        Git.open(repository.path)
    assert "\x1b" not in caught.value.message


def test_the_repository_that_is_read_is_the_one_that_was_named(new_repository: NewRepository) -> None:
    outer = new_repository("outer")
    outer.commit(a_py="1\n")
    inner = outer.path / "inner"
    inner.mkdir()
    with pytest.raises(InputError, match="not a git repository"):
        Git.open(inner)


def test_a_process_that_goes_silent_is_stopped(new_repository: NewRepository) -> None:
    repository = new_repository()
    repository.commit(a_py="1\n")
    environment = {"GIT_DIR": str(repository.path / ".git")}
    with (
        GitProcess(["cat-file", "--batch"], environment, silence_s=0.2) as process,
        pytest.raises(InputError, match=r"git cat-file.* gave no answer"),
    ):
        process.read_until(b"\n")


def test_a_record_without_end_is_refused(new_repository: NewRepository) -> None:
    repository = new_repository()
    repository.commit(a_py="x" * 100_000)
    environment = {"GIT_DIR": str(repository.path / ".git")}
    with (
        GitProcess(["cat-file", "-p", "HEAD:a.py"], environment) as process,
        pytest.raises(InputError, match="more than 1000 bytes"),
    ):
        process.read_until(b"\n", limit=1000)
