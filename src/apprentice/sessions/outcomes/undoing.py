"""What undid an edit within its session: git commands, and the removal of files that the session made.

    git checkout -- PATH, git restore PATH   the file as it was
    git checkout ., git reset --hard         all files
    git stash                                all files, unless they are taken out again
    git clean -f, rm PATH                    files that are new

Only what was not committed before is undone so. A command is read as text: it may have run in another folder or have been left
alone by its shell, so its word is taken with less confidence than lines that stand in a commit.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

from apprentice.sessions.events import Command

MAX_DOINGS = 1000
"""Of one session; later ones are not looked at."""
_MAX_COMMAND = 10_000
_SEPARATORS = frozenset(("&&", "||", ";", "|", "&", "\n", "(", ")"))
_GIT_VALUES = frozenset(("-C", "-c", "--git-dir", "--work-tree", "--namespace"))
"""Options of git itself with a value of their own."""
_REFERENCE = re.compile(r"HEAD|@")
_REDIRECTION = re.compile(r"\d?[<>]")
_MENTIONS = re.compile(r"\bgit\b|\brm\b")


@dataclass(frozen=True, slots=True)
class Act:
    """What a command did to the files of the session."""

    kind: Literal["commit", "restore", "stash", "unstash", "remove"]
    paths: tuple[str, ...] = ()
    """Of which files; none for all."""
    only_files: bool = False
    """A path may be the name of a branch instead: it stands for a file if it is one, and for no folder."""

    def is_about(self, path: str) -> bool:
        """Whether it did it to this file."""
        return not self.paths or any(_covers(named, path, self.only_files) for named in self.paths)

    @property
    def confidence(self) -> float:
        """That the file was undone."""
        return 0.5 if self.kind == "stash" else 0.9 if self.paths else 0.7


@dataclass(frozen=True, slots=True)
class Doing:
    """An act and where it stands in the session."""

    position: int
    event: Command
    act: Act


def doings(events: Sequence[object]) -> list[Doing]:
    """Everything that the session's commands did to files, in order."""
    found: list[Doing] = []
    for position, event in enumerate(events):
        if isinstance(event, Command) and event.exit_code in (0, None):
            found += [Doing(position, event, act) for act in acts(event.command)]
            if len(found) >= MAX_DOINGS:
                break
    return found[:MAX_DOINGS]


def undone_by(found: Sequence[Doing], position: int, path: str, *, is_new: bool) -> Doing | None:
    """What undid the edit that stands at `position`. `is_new`: the session made the file."""
    unstashed = max((number for number, doing in enumerate(found) if doing.act.kind == "unstash"), default=-1)
    for number, doing in enumerate(found):
        if doing.position < position:
            continue
        if doing.act.kind == "commit":
            return None
        if doing.act.kind == "unstash" or not doing.act.is_about(path):
            continue
        if doing.act.kind == "stash" and number < unstashed:
            continue
        if doing.act.kind != "remove" or is_new:
            return doing
    return None


def acts(command: str) -> Iterator[Act]:
    """What a shell command does to files, as far as it is read here."""
    if not _MENTIONS.search(command[:_MAX_COMMAND]):
        return
    for words in _commands(command[:_MAX_COMMAND]):
        act = _git(words[1:]) if words[0] == "git" else _rm(words[1:]) if words[0] == "rm" else None
        if act is not None:
            yield act


def _commands(command: str) -> Iterator[list[str]]:
    """The words of each command of a line; what a here-document holds is none."""
    lexer = shlex.shlex(command.partition("<<")[0], posix=True, punctuation_chars=";&|()\n")
    lexer.whitespace, lexer.whitespace_split, lexer.commenters = " \t\r", True, "#"
    words: list[str] = []
    try:
        for word in lexer:
            if word in _SEPARATORS or (word and not word.strip(";&|()\n")):
                if words:
                    yield words
                words = []
            else:
                words.append(word)
    except ValueError:
        # A quotation without an end: what stood in front of it is read. That of `commit -m "$(cat <<'EOF'` goes on in the
        # here-document.
        if words[:1] == ["git"] and "commit" in words:
            yield words
        return
    if words:
        yield words


def _git(words: Sequence[str]) -> Act | None:
    at = 0
    while at < len(words) and words[at].startswith("-"):
        at += 2 if words[at] in _GIT_VALUES else 1
    if at >= len(words):
        return None
    name, rest = words[at], list(words[at + 1 :])
    match name:
        case "commit":
            return None if "--dry-run" in rest else Act("commit")
        case "checkout":
            return _checkout(rest)
        case "restore":
            return _restore(rest)
        case "reset":
            named = [word for word in rest if not word.startswith("-")]
            return Act("restore") if "--hard" in rest and all(_REFERENCE.fullmatch(word) for word in named) else None
        case "stash":
            return _stash(rest)
        case "clean":
            forced = any(re.fullmatch(r"-[a-zA-Z]*f[a-zA-Z]*|--force", word) for word in rest)
            dry = any(re.fullmatch(r"-[a-zA-Z]*n[a-zA-Z]*|--dry-run", word) for word in rest)
            return Act("remove", tuple(_plain(rest))) if forced and not dry else None
        case "rm":
            return None if {"--cached", "--dry-run", "-n"}.intersection(rest) else Act("remove", tuple(_plain(rest)) or ("",))
        case _:
            return None


def _checkout(rest: list[str]) -> Act | None:
    if any(word in ("-b", "-B", "--orphan", "-p", "--patch", "-t", "--track") for word in rest):
        return None
    if "--" in rest:
        named = rest[rest.index("--") + 1 :]
        return _restored(named) if named else None
    named = [word for word in _plain(rest) if not _REFERENCE.fullmatch(word)]
    return _restored(named, only_files=True) if named else None


def _restore(rest: list[str]) -> Act | None:
    if any(word in ("-p", "--patch") for word in rest):
        return None
    if any(word in ("--staged", "-S") for word in rest) and not any(word in ("--worktree", "-W") for word in rest):
        return None
    named = [word for i, word in enumerate(rest) if i == 0 or rest[i - 1] not in ("-s", "--source")]
    return _restored(_plain(named)) if _plain(named) else None


def _restored(named: Sequence[str], *, only_files: bool = False) -> Act:
    is_all = any(word in (".", "./", ":/", "*") for word in named)
    return Act("restore") if is_all else Act("restore", tuple(named), only_files)


def _stash(rest: list[str]) -> Act | None:
    name = rest[0] if rest and not rest[0].startswith("-") else "push"
    if name in ("pop", "apply", "branch"):
        return Act("unstash")
    if name not in ("push", "save"):
        return None
    if name == "save":
        return Act("stash")
    named = rest[rest.index("--") + 1 :] if "--" in rest else [word for i, word in enumerate(rest[1:]) if rest[i] not in ("-m", "--message")]
    return Act("stash", tuple(_plain(named)))


def _rm(rest: Sequence[str]) -> Act | None:
    return Act("remove", tuple(_plain(rest)) or ("",))


def _plain(words: Sequence[str]) -> list[str]:
    return [word for word in words if not word.startswith("-") and not _REDIRECTION.match(word)]


def _covers(named: str, path: str, only_files: bool) -> bool:
    wanted = [part for part in re.split(r"[/\\]+", named) if part not in ("", ".")]
    parts = [part for part in re.split(r"[/\\]+", path) if part not in ("", ".")]
    if not wanted or ".." in wanted:
        return False
    if named.startswith("/"):
        return wanted[-len(parts) :] == parts if not path.startswith("/") else parts[: len(wanted)] == wanted
    if len(wanted) <= len(parts) and all(fnmatchcase(a, b) for a, b in zip(parts[-len(wanted) :], wanted, strict=True)):
        return True
    # A folder, named from wherever the command ran.
    folders = range(len(parts) - len(wanted))
    return not only_files and any(parts[at : at + len(wanted)] == wanted for at in folders)
