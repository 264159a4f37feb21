"""Edits that an assistant wrote into Markdown, for a tool that looks for them there.

    a.py                            a path in front of the fence, or in it in front of the block
    ```python
    <<<<<<< SEARCH                  `search_blocks`: lines, and what they become; older: ORIGINAL, UPDATED
    old
    =======
    new
    >>>>>>> REPLACE
    ```

    ```diff                         `diff_blocks`: unified diffs; their line numbers are the assistant's guess, and not used
    --- a.py
    +++ a.py
    @@ ... @@
    -old
    +new
    ```

    a.py                            `whole_files`: all that the file holds
    ```
    new
    ```

Whether such an edit was made, and in which file, only the tool knows. Nothing that is wrong here raises.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from apprentice.sessions.conversation import Change

_SEARCH = re.compile(r"\s*<{5,9} (?:SEARCH|ORIGINAL)>?\s*")
_DIVIDER = re.compile(r"\s*={5,9}\s*")
_REPLACE = re.compile(r"\s*>{5,9} (?:REPLACE|UPDATED)\s*")
_FENCE = re.compile(r"(?:(`{3,})|</?(source|code|pre|codeblock|sourcecode)>).*")
_LINES_TO_PATH = 3


def search_blocks(text: str) -> Iterator[Change]:
    """A block without a path belongs to the file of the one before it; one that does not end is left out."""
    path, part = "", ""
    old: list[str] = []
    new: list[str] = []
    lines = text.split("\n")
    for number, line in enumerate(lines):
        if not part and _SEARCH.fullmatch(line):
            path, part = _named(lines[max(0, number - _LINES_TO_PATH) : number]) or path, "old"
            old.clear()
            new.clear()
        elif part == "old" and _DIVIDER.fullmatch(line):
            part = "new"
        elif part == "new" and _REPLACE.fullmatch(line):
            part = ""
            if path:
                yield Change(path=path, old=_joined(old), new=_joined(new))
        elif part:
            (old if part == "old" else new).append(line)


def diff_blocks(text: str) -> Iterator[Change]:
    """A hunk each."""
    path, is_new, inside = "", False, False
    old: list[str] = []
    new: list[str] = []
    lines = [*text.split("\n"), "```"]
    for above, line, below in zip(["", *lines], lines, [*lines[1:], ""], strict=False):
        is_head = inside and line.startswith("--- ") and below.startswith("+++ ")
        if is_head or line.startswith("```") or (inside and line.startswith("@@")):
            if path and old != new:
                yield Change(path=path, old=_joined(old), new=_joined(new), creates=is_new)
                is_new = False
            old.clear()
            new.clear()
            inside = line.startswith("```diff") if line.startswith("```") else inside
        elif inside and line.startswith("+++ ") and above.startswith("--- "):
            path, is_new = line[4:].split("\t")[0].strip(), above.startswith("--- /dev/null")
        elif inside and line[:1] in ("", " ", "-", "+"):
            old += [line[1:]] if line[:1] in ("", " ", "-") else []
            new += [line[1:]] if line[:1] in ("", " ", "+") else []


def whole_files(text: str) -> Iterator[Change]:
    """What stands in a fence behind a line with a path."""
    path, closing = "", ""
    held: list[str] = []
    for above, line in zip(["", *(lines := text.split("\n"))], lines, strict=False):
        if closing and line.startswith(closing):
            if path:
                yield Change(path=path, old="", new=_joined(held), creates=True)
            closing = ""
        elif closing:
            held.append(line)
        elif (fence := _FENCE.fullmatch(line)) is not None:
            path, closing = _named([above]), fence[1] or f"</{fence[2]}>"
            held.clear()


def is_same_path(one: str, other: str) -> bool:
    """Whether two paths may name one file: the tool's are those of the repository, the assistant's what it took them for."""
    one, other = with_slashes(one).removeprefix("./"), with_slashes(other).removeprefix("./")
    return bool(one) and bool(other) and (one == other or one.endswith("/" + other) or other.endswith("/" + one))


def with_slashes(path: str) -> str:
    """A path of Windows as git writes it."""
    return path.replace("\\", "/")


def _named(lines: Sequence[str]) -> str:
    """The path in the last of these lines that is no fence."""
    for line in reversed(lines):
        if not _FENCE.fullmatch(line.strip()):
            return line.strip().rstrip(":").lstrip("#").strip().strip("`*").replace("\\_", "_")
    return ""


def _joined(lines: Sequence[str]) -> str:
    return "".join(line + "\n" for line in lines)
