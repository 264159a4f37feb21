"""What SWE-agent's editors showed and changed, out of the commands and what they print.

    [File: /repository/a.py (1997 lines total)]         a window: printed by `open`, `goto`, `create`, `edit`, `insert`, ...
    (1456 more lines above)
    1457:    x = 1

    edit 3:5 / NEW / end_of_edit                        lines 3 to 5; without numbers those between the cursors
    edit 'OLD' 'NEW'                                    once in the window
    insert 'NEW' [LINE]                                 behind a line, or at the end
    str_replace_editor str_replace PATH --old_str 'OLD' --new_str 'NEW'; also create, insert, view, undo_edit

An edit has its place and the lines that it replaced where a window showed them, and both texts of the file where a window showed
it whole or the assistant had made it; else only that the file was changed is known. What a command of a shell may have changed is
forgotten.
"""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from apprentice.sessions.conversation import MAX_TEXT, Change, Use
from apprentice.text.edits import split_lines

T = TypeVar("T")

_HEAD = re.compile(r"^\[File: ([^\n]{1,1000}) \((\d{1,7}) lines total\)\]$", re.MULTILINE)
_NUMBERED = re.compile(r"(\d{1,7}):(.*)")
_MORE = re.compile(r"\(\d{1,7} more lines? (?:above|below)\)")
_SNIPPET = re.compile(r"^ *(\d{1,7})\t(.*)$", re.MULTILINE)
_EDIT_LINES = re.compile(r"edit(?: +(\d{1,7}):(\d{1,7}))?[ \t]*\n(.*\n|)end_of_edit\s*", re.DOTALL)
_REFUSED = re.compile(
    r"introduced new syntax error|have NOT been applied|edit was not applied|No changes were made|No replacement was performed"
    r"|Found more than one occurrence|No file open"
)
_MAX_COMMAND = 100_000
"""Characters: a longer one may have changed anything."""
_MAX_FILES = 1000
"""That are known at a time, the latest."""
_VIEWS = ("open", "goto", "scroll_up", "scroll_down")
_EDITS = ("create", "edit", "insert")
_TEXT_EDITORS = ("str_replace_editor", "str_replace_based_edit_tool")
_DONE = ("has been edited", "created successfully", "undone successfully")
_MAY_CHANGE = re.compile(
    r"\bgit +(?:stash|checkout|reset|apply|revert|restore|clean|pull|merge)\b|\b(?:patch|black|isort|ruff|autopep8)\b"
    r"|\b(?:sed|perl) +-\w*i|-exec\b|-delete\b"
)
"""Files that it does not name."""


@dataclass(frozen=True, slots=True)
class _Window:
    """Lines of a file by their 0-based numbers."""

    path: str
    total: int
    lines: dict[int, str]
    cursors: tuple[int, int] | None = None
    """First and last line between them."""

    @property
    def whole(self) -> str | None:
        """The file, if every line of it was shown."""
        if len(self.lines) != self.total or any(number not in self.lines for number in range(self.total)):
            return None
        return _joined([self.lines[number] for number in range(self.total)])

    def between(self, first: int, last: int) -> list[str] | None:
        """Lines, the last included."""
        if not self.lines or last - first > len(self.lines):
            return None
        found = [self.lines[number] for number in range(first, last + 1) if number in self.lines]
        return found if len(found) == last + 1 - first else None


class Windows:
    """Of one session, in the order in which its commands ran."""

    def __init__(self, root: str) -> None:
        """`root`: folder of the repository, where known; paths are told within it."""
        self._root = root
        self._windows: dict[str, _Window] = {}
        self._texts: dict[str, str] = {}

    def use(self, command: str, arguments: str, output: str, folder: str) -> Use | None:
        """The use of an editor, or None for any other command. `arguments`: as the call shall have them."""
        name = command.split(None, 1)[0]
        call: dict[str, Any] = {"name": name, "arguments": arguments, "result": output}
        if name in _TEXT_EDITORS and (words := _split(command)) is not None and len(words) > 2:
            return self._use_text_editor(call, words[1], self._path(words[2], folder), _options(words[3:]), output)
        if name in _EDITS and _REFUSED.search(output):
            return Use(**call, kind="edit", failed=True)
        window = _window(output)
        if window is None:
            self._forget(command)
            return None
        path = self._path(window.path, folder)
        before = self._windows.pop(path, None)
        _remember(self._windows, path, window)
        if name in _VIEWS:
            asked = [int(word) for word in (_split(command) or [])[1:] if word.isdecimal() and len(word) < 8]
            return Use(**call, kind="read", path=path, line=asked[-1] - 1 if asked else min(window.lines, default=0))
        if name not in _EDITS:
            return None
        return Use(**call, kind="edit", changes=(_change(command, name, path, before, window),))

    def _use_text_editor(self, call: dict[str, Any], task: str, path: str, options: dict[str, str], output: str) -> Use:
        if task == "view":
            first = options.get("view_range", "")
            return Use(**call, kind="read", path=path, line=int(first) - 1 if first.isdecimal() and len(first) < 8 else 0)
        if not any(words in output for words in _DONE):
            return Use(**call, kind="edit", failed=True)
        known = self._texts.pop(path, None)
        self._windows.pop(path, None)
        change = _text_change(task, path, options, known, output)
        if change.creates or change.before is not None:
            _remember(self._texts, path, change.new)
        return Use(**call, kind="edit", changes=(change,))

    def _path(self, path: str, folder: str) -> str:
        full = posixpath.normpath(posixpath.join(folder or self._root, path))
        return full.removeprefix(self._root.rstrip("/") + "/") if self._root else full

    def _forget(self, command: str) -> None:
        everything = len(command) > _MAX_COMMAND or _MAY_CHANGE.search(command) is not None
        for known in (self._windows, self._texts):
            for path in [path for path in known if everything or posixpath.basename(path) in command]:
                del known[path]


def _remember(known: dict[str, T], path: str, value: T) -> None:
    """As the newest."""
    known[path] = value
    if len(known) > _MAX_FILES:
        del known[next(iter(known))]


def _window(output: str) -> _Window | None:
    head = _HEAD.search(output)
    if head is None:
        return None
    lines: dict[int, str] = {}
    cursors: tuple[int, int] | None = None
    first = last = -1
    for line in output[head.end() + 1 :].split("\n"):
        if (numbered := _NUMBERED.fullmatch(line)) is not None:
            last = int(numbered[1]) - 1
            first = last if first < 0 else first
            lines[last] = numbered[2]
        elif line == "<<<<< START CURSOR >>>>>":
            first = -1
        elif line == "<<<<< END CURSOR >>>>>":
            cursors = (first, last)
        elif _MORE.fullmatch(line) is None:
            break
    return _Window(head[1], int(head[2]), lines, cursors)


def _change(command: str, name: str, path: str, before: _Window | None, after: _Window) -> Change:
    """What one of the commands that print a window has changed."""
    if name == "create":
        return Change(path=path, old="", new=after.whole or "\n", creates=True)
    if before is None:
        return Change(path=path, old="", new="")
    if before.whole is not None and after.whole is not None:
        return Change(path=path, old=before.whole, new=after.whole, before=before.whole)
    if (found := _EDIT_LINES.fullmatch(command)) is not None:
        first, last = (int(found[1]) - 1, int(found[2]) - 1) if found[1] else before.cursors or (0, -1)
        old = before.between(first, last)
        return Change(path=path, old="", new="") if not old else Change(path=path, old=_joined(old), new=found[3], line=first)
    words = _split(command) or [name]
    if name == "insert" and len(words) > 1:
        line = int(words[2]) if len(words) > 2 and words[2].isdecimal() and len(words[2]) < 8 else before.total
        return Change(path=path, old="", new=words[1].removesuffix("\n") + "\n", line=line)
    if name == "edit" and len(words) == 3 and words[1]:
        return _replaced(path, before, words[1], words[2])
    return Change(path=path, old="", new="")


def _replaced(path: str, before: _Window, old: str, new: str) -> Change:
    """Whole lines, where the window shows the text once."""
    text = _joined([before.lines[number] for number in sorted(before.lines)])
    at = text.find(old)
    if at < 0 or text.find(old, at + 1) >= 0:
        return Change(path=path, old=old, new=new)
    start, end = text.rfind("\n", 0, at) + 1, text.find("\n", max(at, at + len(old) - 1)) + 1
    line = min(before.lines) + text.count("\n", 0, at)
    return Change(path=path, old=text[start:end], new=text[start:at] + new + text[at + len(old) : end], line=line)


def _text_change(task: str, path: str, options: dict[str, str], known: str | None, output: str) -> Change:
    """What the editor that is given texts has changed."""
    old, new = options.get("old_str", ""), options.get("new_str", "")
    number = options.get("insert_line", "")
    if task == "create":
        return Change(path=path, old="", new=options.get("file_text", ""), creates=True)
    if task == "insert" and number.isdecimal() and len(number) < 8:
        line, added = int(number), new.removesuffix("\n") + "\n"
        if known is None:
            return Change(path=path, old="", new=added, line=line)
        lines = split_lines(known)
        return Change(path=path, old=known, new=_joined(lines[:line]) + added + _joined(lines[line:]), before=known)
    if task == "str_replace" and known is not None and known.count(old) == 1:
        return Change(path=path, old=known, new=known.replace(old, new), before=known)
    if task == "str_replace":
        return _placed(path, old, new, output)
    return Change(path=path, old="", new="")


def _placed(path: str, old: str, new: str, output: str) -> Change:
    """Whole lines, where the snippet that is printed of the changed file shows the new text once. The editor expands tabs."""
    shown = _SNIPPET.findall(output)
    text, wanted = "\n".join(line for _, line in shown), new.expandtabs()
    at = text.find(wanted)
    if not wanted.strip() or at < 0 or text.find(wanted, at + 1) >= 0:
        return Change(path=path, old=old, new=new)
    head, tail = text[text.rfind("\n", 0, at) + 1 : at], text[at + len(wanted) :].split("\n")[0]
    line = int(shown[text.count("\n", 0, at)][0]) - 1
    return Change(path=path, old=f"{head}{old}{tail}\n", new=f"{head}{new}{tail}\n", line=line)


def _split(command: str) -> list[str] | None:
    """Words of a shell's command."""
    if len(command) > MAX_TEXT:
        return None
    try:
        return shlex.split(command)
    except ValueError:
        return None


def _options(words: Sequence[str]) -> dict[str, str]:
    return {word[2:]: value for word, value in zip(words, words[1:], strict=False) if word.startswith("--")}


def _joined(lines: Sequence[str]) -> str:
    return "".join(line + "\n" for line in lines)
