"""How surprised a model was by what the developer typed: the measures in bits (DESIGN 9).

    target text, its spans, tokens with offsets, natural log-probabilities --> Likelihood, to be summed over edits

*Bits per changed character*: -log2 p of the target's tokens that overlap a changed character, whole tokens, divided by
the number of changed Unicode characters. A token that straddles the border of a change counts whole: how far its bits
belong to the changed half cannot be told, and leaving it out would reward a tokenizer for merging across the border.
The end mark is no changed text; an edit without changed characters (a pure deletion) adds nothing to either side.
*Target bits per character*: all tokens of the target, the end mark among them, divided by all its characters.

Both are independent of the tokenizer, so that models of different families compare.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from apprentice.core.errors import InternalError
from apprentice.text.edits import Span


@dataclass(frozen=True, slots=True)
class Likelihood:
    """Numerators and denominators of one edit."""

    changed_bits: float
    changed_chars: int
    target_bits: float
    target_chars: int

    @property
    def is_pure_deletion(self) -> bool:
        """Nothing of the new text is new."""
        return self.changed_chars == 0


def likelihood(
    spans: Sequence[Span], offsets: Sequence[tuple[int, int]], log_probs: Sequence[float]
) -> Likelihood:
    """The measures of one target. `spans` cover it from character 0; `offsets` and `log_probs` are of its tokens.
    Raises: InternalError for a number that is no log-probability: it would poison every sum."""
    if len(offsets) != len(log_probs):
        raise InternalError(f"{len(log_probs)} log-probabilities for {len(offsets)} tokens of a target")
    marked = marked_tokens(spans, offsets)
    bits = [-log_prob / math.log(2) for log_prob in log_probs]
    if not all(math.isfinite(x) and x > -1e-3 for x in bits):
        raise InternalError("a model gave a log-probability that is not finite or above 0")
    return Likelihood(
        changed_bits=math.fsum(x for x, is_marked in zip(bits, marked, strict=True) if is_marked),
        changed_chars=sum(span.end - span.start for span in spans if span.kind == "changed"),
        target_bits=math.fsum(bits),
        target_chars=max((span.end for span in spans), default=0),
    )


def marked_tokens(spans: Sequence[Span], offsets: Sequence[tuple[int, int]]) -> list[bool]:
    """Which tokens overlap a changed character. Tokens that share a character (pieces of one emoji) both do; blanks
    that a tokenizer's offsets leave out belong to the token behind them."""
    size = max((span.end for span in spans), default=0)
    changed_before = [0] * (size + 1)
    for span in spans:
        for i in range(span.start, span.end):
            changed_before[i + 1] = int(span.kind == "changed")
    for i in range(size):
        changed_before[i + 1] += changed_before[i]
    marked: list[bool] = []
    previous_end = 0
    for start, end in offsets:
        start, end = min(start, previous_end), min(end, size)
        marked.append(end > start and changed_before[end] > changed_before[start])
        previous_end = max(previous_end, end)
    return marked
