"""How likely a model finds what a developer wrote, token by token.

An evaluation keeps sums of log-probabilities, not each: a model that is at hand is asked again. It sees the prompt of the examples
and no memory, so for an arm without one the sum is its likelihood as long as prompts have not changed since.
"""

from __future__ import annotations

from apprentice.core.protocols import Generator, Tokenizer
from apprentice.examples.example import Example
from apprentice.learn.browse.site import LogProbs


def developer_log_probs(generator: Generator, tokenizer: Tokenizer) -> LogProbs:
    """Asks once for each example."""
    known: dict[str, list[tuple[str, float]]] = {}

    def ask(example: Example) -> list[tuple[str, float]]:
        if example.id not in known:
            token_ids, offsets = tokenizer.encode_with_offsets(example.target)
            score = generator.score([tokenizer.encode(example.prompt)], [token_ids])[0]
            known[example.id] = _pieces(example.target, offsets, score.model_log_probs)
        return known[example.id]

    return ask


def _pieces(text: str, offsets: list[tuple[int, int]], log_probs: list[float]) -> list[tuple[str, float]]:
    """Tokens that share a character are one piece, with the sum of their log-probabilities."""
    pieces: list[tuple[int, int, float]] = []
    for (start, end), log_prob in zip(offsets, log_probs, strict=True):
        if pieces and start < pieces[-1][1]:
            first, last, sum_so_far = pieces[-1]
            pieces[-1] = (first, max(last, end), sum_so_far + log_prob)
        else:
            pieces.append((start, end, log_prob))
    return [(text[start:end], log_prob) for start, end, log_prob in pieces]
