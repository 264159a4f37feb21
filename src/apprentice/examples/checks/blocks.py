"""Whether an answer's search/replace blocks make the edits that were made: scored on the excerpts that the prompt showed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from apprentice.examples.conversation import Excerpt
from apprentice.text.blocks import Block, BlockError, apply, parse, place_of


@dataclass(frozen=True, slots=True)
class BlocksScore:
    """One answer."""

    valid: bool
    """It has blocks, and all of them fit the excerpts."""
    exact: bool
    """All excerpts and new files are what they became, and nothing else was changed."""
    right: int
    """Excerpts and new files that are what they became, of those that changed."""
    changed: int


def score_blocks(generated: str, expected: str, shown: Sequence[Excerpt]) -> BlocksScore:
    """`expected`: the answer that was learned from or held out. Raises: BlockError where that itself does not fit."""
    wanted = _after(list(parse(expected)), shown)
    changed = [key for key, lines in wanted.items() if lines != _before(key, shown)]
    try:
        blocks = list(parse(generated))
        got = _after(blocks, shown)
    except BlockError:
        return BlocksScore(False, False, 0, len(changed))
    right = sum(got.get(key) == wanted[key] for key in changed)
    return BlocksScore(bool(blocks), bool(blocks) and got == wanted, right, len(changed))


_Key = tuple[str, int]
"""Path and number of the excerpt; -1 of a new file."""


def _after(blocks: Sequence[Block], shown: Sequence[Excerpt]) -> dict[_Key, list[str]]:
    """Each block in the first excerpt of its file in which its old lines stand."""
    found: dict[_Key, list[str]] = {(part.path, number): list(part.lines) for number, part in enumerate(shown)}
    for block in blocks:
        keys = [key for key in found if key[0] == block.path]
        if not block.old:
            if keys:
                raise BlockError(f"{block.path}: a block without old lines, but the file has some")
            found[block.path, -1] = list(block.new)
            continue
        key = next((key for key in keys if place_of(found[key], block.old) is not None), None)
        if key is None:
            raise BlockError(f"{block.path}: the old lines do not stand in what was shown")
        found[key] = apply({block.path: found[key]}, [block])[block.path]
    return found


def _before(key: _Key, shown: Sequence[Excerpt]) -> list[str] | None:
    return None if key[1] < 0 else list(shown[key[1]].lines)
