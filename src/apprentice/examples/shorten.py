"""Long texts in a prompt: the beginning and the end, and how much was left out between them."""

from __future__ import annotations

from apprentice.core.protocols import Tokenizer

_CHARS_PER_TOKEN = 16
"""No text of a prompt has more: cut first, so that a huge one is never tokenized."""


def shortened(text: str, tokenizer: Tokenizer, max_tokens: int, *, end: float = 0.5) -> str:
    """At most about `max_tokens` of a text, in whole lines where it has lines; `end`: the share that its end gets."""
    if len(text) <= max_tokens or (len(text) <= _CHARS_PER_TOKEN * max_tokens and len(tokenizer.encode(text)) <= max_tokens):
        return text
    tail = _beginning(text[: -_CHARS_PER_TOKEN * max_tokens - 1 : -1], tokenizer, round(end * max_tokens))[::-1]
    head = _beginning(text, tokenizer, max_tokens - round(end * max_tokens))
    left_out = len(text) - len(head) - len(tail)
    return f"{head}\n[... {left_out:,} characters left out ...]\n{tail}".strip("\n") if left_out > 0 else text


def _beginning(text: str, tokenizer: Tokenizer, max_tokens: int) -> str:
    """As many lines as fit; a part of the first one where that alone does not."""
    low, high = 0, min(len(text), _CHARS_PER_TOKEN * max_tokens)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if len(tokenizer.encode(text[:middle])) <= max_tokens else (low, middle - 1)
    at = text.rfind("\n", 0, low + 1)
    return text[: at if at > 0 else low]
