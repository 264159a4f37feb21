"""The arm `copy`: no model, only the nearest earlier edit made again. What learning must beat to be worth its time.

    region + lines around it --nearest by edit distance (rapidfuzz)--> an earlier edit --its change applied--> replacement

Nearness compares the old lines and the lines around them, the same path being no condition. If the earlier edit
replaced words that also stand in this region, those are replaced; if not, its new lines are taken as they are.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from rapidfuzz import process

from apprentice.eval.arms import Answer, Limits
from apprentice.eval.replay import View
from apprentice.eval.samples import EDIT, LINE
from apprentice.examples.kinds.completion import Cursor
from apprentice.text.edits import END_MARK, Edit

NEARBY_LINES = 3
MAX_CANDIDATES = 5_000
"""Latest edits that are looked at."""
MAX_CHARS = 1_500
"""Of the text that is compared."""
_WORD = re.compile(r"\w+|\s+|[^\w\s]")


@dataclass(frozen=True, kw_only=True, slots=True)
class CopyArm:
    """See the top of this file. It ranks by similarity, so it has no confidence."""

    name: str = "copy"
    version: str = "copy-1"
    measures: tuple[str, ...] = (LINE, EDIT)

    def line(self, view: View, cursor: Cursor, limits: Limits) -> Answer:
        new = predict(view.moment.edit, view.moment.lines, view.earlier)
        for line in new or ():
            if line.startswith(cursor.line_start) and line[len(cursor.line_start) :].strip():
                return Answer(text=line[len(cursor.line_start) :], finished=True)
        return Answer(text="", finished=True)

    def edit(self, view: View, limits: Limits) -> Answer:
        new = predict(view.moment.edit, view.moment.lines, view.earlier)
        if new is None:
            return Answer(text="")
        return Answer(text="".join("\n" + line for line in new) + "\n" + END_MARK, finished=True)


def predict(edit: Edit, lines: Sequence[str], earlier: Sequence[Edit]) -> list[str] | None:
    """The replacement for `edit`'s region in `lines` that the nearest earlier edit suggests. `edit.new` is not looked
    at, nor is anything else that only the finished edit knows."""
    end = edit.start_line + len(edit.old)
    above, below = lines[max(0, edit.start_line - NEARBY_LINES) : edit.start_line], lines[end : end + NEARBY_LINES]
    candidates = earlier[max(0, len(earlier) - MAX_CANDIDATES) :][::-1]
    if not candidates:
        return None
    texts = [_compared(e.above[max(0, len(e.above) - NEARBY_LINES) :], e.old, e.below[:NEARBY_LINES]) for e in candidates]
    similarity = process.cdist([_compared(above, edit.old, below)], texts)[0]
    return transfer(candidates[int(similarity.argmax())], edit.old)


def transfer(earlier: Edit, old: Sequence[str]) -> list[str]:
    """The earlier edit's change, made to other old lines."""
    if tuple(old) == earlier.old:
        return list(earlier.new)
    text, replaced = "\n".join(old), False
    before, after = (_WORD.findall("\n".join(part)) for part in (earlier.old, earlier.new))
    for tag, i1, i2, j1, j2 in difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        was = "".join(before[i1:i2])
        if tag in ("replace", "delete") and was.strip() and was in text:
            text, replaced = text.replace(was, "".join(after[j1:j2])), True
    return text.split("\n") if replaced else list(earlier.new)


def _compared(above: Sequence[str], old: Sequence[str], below: Sequence[str]) -> str:
    return "\n".join([*above, "<", *old, ">", *below])[:MAX_CHARS]
