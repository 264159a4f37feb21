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

    *** Begin Patch                 `patched`: the form of OpenAI's models, in a tool's call or a fence
    *** Update File: a.py
    @@
    -old
    +new
    *** End Patch

    a.py                            `whole_files`: all that the file holds
    ```
    new
    ```

Whether such an edit was made, and in which file, only the tool knows. Nothing that is wrong here raises.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from apprentice.sessions.conversation import UNKNOWN_LINE, Change
from apprentice.text import blocks

PATCH_BEGINS = "*** Begin Patch"
UNKNOWN_PLACE = "undefined"
HUNK = re.compile(r"@@ -(?:\d{1,7}|undefined)(?:,\d{1,7}|,undefined)? \+(\d{1,7}|undefined)(?:,\d{1,7}|,undefined)? @@")
"""Some programs write that they do not know the place."""
_FILE = re.compile(r"\*\*\* (Update|Modify|Add|Delete) File: (\S.{0,1000})$")
_END = "*** End Patch"
_DRIVE = re.compile(r"/[A-Za-z]:[/\\]")


def search_blocks(text: str) -> Iterator[Change]:
    """A block without a path belongs to the file of the one before it; one that does not end is left out."""
    for block in blocks.parse(text):
        yield Change(path=block.path, old=_joined(block.old), new=_joined(block.new))


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


def patched(lines: Sequence[str]) -> Iterator[Change]:
    """What stands between the beginning and the end of a patch, each hunk of its own."""
    path, word, place = "", "", UNKNOWN_LINE
    held: list[str] = []
    for line in [*lines, _END]:
        heading = _FILE.match(line)
        if path and (heading is not None or line.startswith(("@@", _END))):
            old, new = (_joined([one[1:] for one in held if one[:1] in (sign, " ", "")]) for sign in "-+")
            if held or word == "Delete":
                yield Change(path=path, old=old, new=new, creates=word == "Add", line=0 if word == "Add" else place)
            held.clear()
        if line.startswith("@@"):
            hunk = HUNK.match(line)
            place = max(int(hunk[1]) - 1, 0) if hunk is not None and hunk[1] != UNKNOWN_PLACE else UNKNOWN_LINE
        if heading is not None:
            word, path, place = heading[1], heading[2].strip(), UNKNOWN_LINE
        elif line[:1] in ("+", "-", " ", ""):
            held.append(line)


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
        elif (fence := blocks.is_fence(line)) is not None:
            path, closing = blocks.named([above]), fence[1] or f"</{fence[2]}>"
            held.clear()


def is_same_path(one: str, other: str) -> bool:
    """Whether two paths may name one file: the tool's are those of the repository, the assistant's what it took them for."""
    one, other = with_slashes(one).removeprefix("./"), with_slashes(other).removeprefix("./")
    return bool(one) and bool(other) and (one == other or one.endswith("/" + other) or other.endswith("/" + one))


def with_slashes(path: str) -> str:
    """A path of Windows as git writes it."""
    return path.replace("\\", "/")


def without_root(path: str) -> str:
    """`/c:/...`, as URIs have paths of Windows, without the slash in front."""
    return path[1:] if _DRIVE.match(path) else path


def _joined(lines: Sequence[str]) -> str:
    return "".join(line + "\n" for line in lines)
