"""Drafts from the text itself: what followed the last time that the same few tokens stood there.

    prompt + reply so far, its last KEY tokens --where else did they stand--> the tokens behind them, as a draft

Answers about code repeat code: a name, a line, a file with one change. A draft costs a step a little and saves several where
it is right; decoding checks it, so replies are what they would be without.

Source: Saxena 2023, "Prompt Lookup Decoding", https://github.com/apoorvumang/prompt-lookup-decoding.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from apprentice.core.protocols import Mixture

KEY = 3
"""Tokens that must be the same. With two, half of the drafts are wrong."""
LAST_TOKENS = 8192
"""Of a prompt that are looked at."""
BITS = 24
"""Of a token's id."""


class PromptLookup:
    """Proposes, and leaves the model's opinion as it is. Implements `core.protocols.Mixture`."""

    def __init__(self, prompt_ids: Sequence[int], inner: Mixture | None = None) -> None:
        """`inner`: what mixes, and whose drafts go first."""
        self._inner = inner
        self._ids: list[int] = list(prompt_ids[-LAST_TOKENS:])
        self._behind: dict[int, int] | None = None
        """Where the text goes on behind the last place of a key. Made when first asked for: a request may wait for long."""

    def mix(self, log_probs_V: np.ndarray) -> np.ndarray:
        return log_probs_V if self._inner is None else self._inner.mix(log_probs_V)

    def advance(self, token_id: int) -> None:
        if self._inner is not None:
            self._inner.advance(token_id)
        if self._behind is not None and len(self._ids) >= KEY:
            self._behind[_key(self._ids, len(self._ids))] = len(self._ids)
        self._ids.append(token_id)

    def draft(self, max_tokens: int) -> list[int]:
        if self._inner is not None and (drafted := self._inner.draft(max_tokens)):
            return drafted
        if self._behind is None:
            self._behind = {_key(self._ids, end): end for end in range(KEY, len(self._ids))}
        start = self._behind.get(_key(self._ids, len(self._ids)))
        return self._ids[start : start + max_tokens] if start is not None else []


def _key(ids: Sequence[int], end: int) -> int:
    """The KEY tokens in front of a place, as one number; fewer are no key."""
    if end < KEY:
        return -1
    first, second, third = ids[end - KEY : end]
    return first << 2 * BITS | second << BITS | third
