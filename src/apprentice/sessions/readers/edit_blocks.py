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

from collections.abc import Iterator, Sequence

from apprentice.sessions.conversation import Change
from apprentice.text import blocks


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


def _joined(lines: Sequence[str]) -> str:
    return "".join(line + "\n" for line in lines)
