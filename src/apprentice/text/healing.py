"""Token healing: completing from the middle of a token.

    text up to the cursor --heal()--> shorter text that ends at a border of tokens + text the output must start with
    that text --PrefixConstraint--> the tokens that may come next, until it has been said

A prompt that is cut at a cursor often ends in tokens that no training text has there (`retur` is two tokens, `return`
one), and a model continues such a prompt badly. So the prompt is cut back to the last place that more text cannot
move, and decoding is held to tokens that spell what was cut off; the last of them may run on past the cursor.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from apprentice.core.protocols import Tokenizer as AnyTokenizer
from apprentice.text.tokenizer import Tokenizer

MAX_HEALED_CHARS = 64
"""A longer last word (a long literal) is left as it is: each of its tokens would cost a step of decoding."""
_LOOK_BACK_CHARS = 4096


def heal(tokenizer: AnyTokenizer, prompt_text: str) -> tuple[str, str]:
    """(the prompt to give to the model, what its output must start with). Joined they are `prompt_text`.

    `heal(smollm2, "x = 1\nretur") == ("x = 1\n", "retur")`. Text without a border inside stays whole, because an
    empty prompt is none."""
    if not isinstance(tokenizer, Tokenizer) or not tokenizer.merges_tokens:
        return prompt_text, ""
    # Started at a line's beginning, so that the words found are those of the whole text.
    start = prompt_text.rfind("\n", 0, max(len(prompt_text) - _LOOK_BACK_CHARS, 0)) + 1
    cut = start + _finished(tokenizer, prompt_text[start:])
    if cut == 0 or len(prompt_text) - cut > MAX_HEALED_CHARS:
        return prompt_text, ""
    return prompt_text[:cut], prompt_text[cut:]


def before_healing(lines: Sequence[str], line: int, line_start: str, must_start_with: str) -> tuple[int, str]:
    """Where generation really starts: (line, what stands on it in front), for a cursor behind `line_start` on `line`.
    Healing cuts back over blanks and line breaks, and what is cut off is generated again: nobody may take it for said."""
    tail, *broken = must_start_with.split("\n")
    if not broken:
        return line, line_start[: len(line_start) - len(tail)]
    line -= len(broken)
    if line < 0:
        return 0, ""
    return line, lines[line][: len(lines[line]) - len(tail)]


def _finished(tokenizer: Tokenizer, text: str) -> int:
    """Where the last word begins; white space at the end goes together, for one more character can regroup it."""
    at = len(text)
    for start, end in reversed(tokenizer.words(text)):
        if at < len(text) and text[start:end].strip():
            break
        at = start
        if text[start:end].strip():
            break
    return at


class PrefixConstraint:
    """Keeps one generation to tokens that spell a given text. The last token may go beyond it."""

    def __init__(self, tokenizer: AnyTokenizer, text: str) -> None:
        self._tokenizer = tokenizer
        self._rest = text.encode("utf-8", errors="replace")

    @property
    def done(self) -> bool:
        return not self._rest

    def allowed(self) -> np.ndarray | None:
        """Ids that may come next, ascending; None when everything may."""
        return None if self.done else _index(self._tokenizer).compatible(self._rest)

    def advance(self, token_id: int) -> None:
        """Raises: ValueError for a token that was not allowed."""
        if self.done:
            return
        said = self._tokenizer.token_bytes(token_id)
        if not said or not (self._rest.startswith(said) or said.startswith(self._rest)):
            raise ValueError(f"token {token_id} does not spell what the output must start with")
        self._rest = self._rest[len(said) :]


class _TokenIndex:
    """Ordinary tokens sorted by their bytes: those that start with some bytes stand side by side."""

    def __init__(self, tokenizer: AnyTokenizer) -> None:
        entries = []
        for token_id in range(tokenizer.vocab_size):
            said = tokenizer.token_bytes(token_id)
            # A special token's name is not something that it spells.
            if said and tokenizer.special_id(said.decode("utf-8", errors="replace")) != token_id:
                entries.append((said, token_id))
        entries.sort()
        self._bytes = [said for said, _ in entries]
        self._ids = np.array([token_id for _, token_id in entries], dtype=np.int64)
        self._longest = max(map(len, self._bytes), default=0)

    def compatible(self, rest: bytes) -> np.ndarray:
        low = bisect.bisect_left(self._bytes, rest)
        # No byte of UTF-8 is 0xFF, so this bound lies behind every token that starts with `rest`.
        high = bisect.bisect_left(self._bytes, rest + b"\xff", lo=low)
        found = [self._ids[low:high]]
        for length in range(1, min(len(rest) - 1, self._longest) + 1):
            at = bisect.bisect_left(self._bytes, rest[:length])
            end = bisect.bisect_right(self._bytes, rest[:length], lo=at)
            found.append(self._ids[at:end])
        return np.unique(np.concatenate(found))


@lru_cache(maxsize=4)
def _index(tokenizer: AnyTokenizer) -> _TokenIndex:
    return _TokenIndex(tokenizer)
