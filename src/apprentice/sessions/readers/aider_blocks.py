"""The lines of a talk with Aider, by who wrote them: `aider` says what each kind looks like, and what becomes of it.

Aider ends its own lines with two blanks, which tells them from Markdown of the assistant; a talk that has lost them is read as
if it had no such Markdown. A formatter takes them at the ends of paragraphs only, and makes a paragraph of each line that was
typed: those are one prompt again. Text of the tool that has line breaks runs on without a mark.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

_LAUNCH = re.compile(r"> (?:\S*[/\\])?aider(?:\.exe)? .*")
_GREETING = "> Aider v"
_BREAK = "  "
"""Line break of Markdown, at the end of Aider's lines."""
_COMMANDS = ("/", "!")

_Kind = Literal["typed", "notice", "words"]


@dataclass(slots=True)
class Block:
    """Lines that belong together, without their marks."""

    offset: int
    kind: _Kind
    lines: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "\n".join(self.lines).strip()


def blocks_of(lines: Sequence[tuple[int, str]]) -> list[Block]:
    """What was typed, what the tool said and what the assistant wrote, in order."""
    pairs = list(zip(lines, [*(text for _, text in lines[1:]), ""], strict=False))
    trimmed, formatted = _lost(pairs)
    blocks: list[Block] = []
    launches = runs_on = False
    blank = True
    for ((offset, text), below), is_ended in zip(pairs, _ended(pairs), strict=True):
        last: _Kind = blocks[-1].kind if blocks else "notice"
        kind = _kind(text, trimmed)
        # In front of what was typed the tool leaves a line blank.
        if kind == "typed" and ((formatted and _is_in_reply(blocks)) or (last == "words" and not blank)):
            kind = "words"
        if launches:
            # The command line may hold a whole prompt; it is told again, as what was typed.
            launches = kind != "typed" and not text.startswith(_GREETING)
        else:
            launches = kind == "words" and len(blocks) < 2 and last == "notice" and _LAUNCH.fullmatch(text) is not None
        is_notice = is_ended and text.startswith("> ") if blank else _goes_on(last, text)
        goes_on = launches or (kind == "words" and (runs_on or is_notice))
        runs_on = goes_on and not ((text.endswith(_BREAK) or trimmed) and (not below or _kind(below, trimmed) != "words"))
        if goes_on:
            kind, text = "notice", f"> {text.removeprefix('> ')}"
        if blocks and last == kind and (kind != "typed" or not blank or (formatted and not blocks[-1].lines[0].startswith(_COMMANDS))):
            blocks[-1].lines.append(_unmarked(text, kind))
        elif text.strip():
            blocks.append(Block(offset, kind, [_unmarked(text, kind)]))
        blank = not text
    return blocks


def _kind(text: str, trimmed: bool) -> _Kind:
    if text.endswith(_BREAK) or trimmed:
        if text.startswith("####") and text[4:5] in ("", " "):
            return "typed"
        if text.startswith(">") and text[1:2] in ("", " "):
            return "notice"
    return "words"


def _lost(pairs: Sequence[tuple[tuple[int, str], str]]) -> tuple[bool, bool]:
    """Whether the blanks at the ends of lines are lost, and whether it was a formatter that took them, at the ends of paragraphs."""
    marked = [(text, below) for (_, text), below in pairs if text.startswith(("#### ", "> "))]
    kept = [below for text, below in marked if text.endswith(_BREAK)]
    formatted = bool(kept) and all(kept) and any(text.startswith("#### ") and not text.endswith(_BREAK) for text, _ in marked)
    return formatted or not kept, formatted


def _ended(pairs: Sequence[tuple[tuple[int, str], str]]) -> list[bool]:
    """Of each line, whether its paragraph ends in the blanks of the tool."""
    ended: list[bool] = []
    for (_, text), below in reversed(pairs):
        ended.append(ended[-1] if below.strip() else text.endswith(_BREAK) and not text.isspace())
    return ended[::-1]


def _is_in_reply(blocks: Sequence[Block]) -> bool:
    """Whether a heading is the assistant's: the tool says something behind a reply, but where that was interrupted, in front of it."""
    return bool(blocks) and blocks[-1].kind == "words" and not any(block.lines[-1].startswith("^C") for block in blocks[-2:-1])


def _goes_on(last: _Kind, text: str) -> bool:
    """Whether a line without a mark, directly behind one that has one, is the tool's too."""
    return bool(text) and (last == "notice" or (last == "typed" and text.startswith("> ")))


def _unmarked(text: str, kind: _Kind) -> str:
    if kind == "words":
        return text
    return text.removeprefix("####" if kind == "typed" else ">").removeprefix(" ").removesuffix(_BREAK)
