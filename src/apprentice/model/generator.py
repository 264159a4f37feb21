"""The torch model as a `Generator`: what evaluation and chat use before a model is quantized.

The decoding loop is `text.decoding`; this file gives it the arithmetic. All sequences of a step are packed into one
row, so the big matrix products see every token once, without padding, and only attention goes sequence by sequence.
The head is computed at the asked places only. A long prompt goes through in chunks, which bounds memory.

Many tokens at once (prompts, scoring) may go through the layers in BF16, twice as fast where the CPU has instructions
for it (`fast_precision`). A token's log-probability then differs by 0.02 or so, to either side: the mean over 6,000
tokens of code moved by 0.0002 with a standard error of 0.0005. The head stays float32, because a logit of 20 in BF16 is
off by 0.06. Tokens that are generated go through in float32, and how a sequence is computed depends on it alone.

The last prompt that was read alone is kept: the next one, if it is the same to the last token, takes over what was
computed, so that nothing depends on whether it was. A model with and without its memory is asked one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from apprentice.core import machine
from apprentice.core.protocols import Mixture, Request, Sample, Score, Tokenizer
from apprentice.model.attention import Cache, Piece
from apprentice.model.transformer import Transformer
from apprentice.text import decoding
from apprentice.text.decoding import Feed, Output

LONG_FEED = 1 + decoding.MAX_DRAFT
"""A feed of more tokens is read, not generated: a generated token and the draft behind it are at most this many."""
CHUNK_TOKENS = 2048
"""Tokens that go through the layers at once."""

Precision = Literal["float32", "bfloat16"]


def fast_precision() -> Precision:
    """What this CPU multiplies fastest in."""
    return "float32" if {"avx512_bf16", "amx_bf16"}.isdisjoint(machine.look().flags) else "bfloat16"


class TorchGenerator:
    """A Transformer, whose weights stay as they are, and its tokenizer. Implements `core.protocols.Generator`."""

    def __init__(
        self, model: Transformer, tokenizer: Tokenizer, *, max_sequences: int = 16, reading: Precision = "float32"
    ) -> None:
        """`reading`: the precision of the layers where many tokens go through them at once."""
        self._tokenizer, self._max_sequences = tokenizer, max_sequences
        self._model = TorchLanguageModel(model, reading=reading)

    def generate(
        self, requests: Sequence[Request], *, on_token: Callable[[int, int, str], bool] | None = None
    ) -> list[Sample]:
        return decoding.generate(
            self._model, self._tokenizer, requests, on_token=on_token, max_sequences=self._max_sequences
        )

    def score(
        self,
        prompts: Sequence[Sequence[int]],
        targets: Sequence[Sequence[int]],
        *,
        mixtures: Sequence[Mixture | None] | None = None,
    ) -> list[Score]:
        return decoding.score(self._model, prompts, targets, mixtures=mixtures, tokens_per_forward=CHUNK_TOKENS)


class TorchLanguageModel:
    """Implements `text.decoding.LanguageModel`."""

    def __init__(self, model: Transformer, *, reading: Precision = "float32") -> None:
        self._model, self._low = model, reading == "bfloat16"
        self._last: tuple[Feed, Output] | None = None

    @property
    def max_positions(self) -> int:
        return self._model.config.max_positions

    def new_cache(self, capacity: int) -> Cache:
        return self._model.new_cache(capacity)

    @torch.inference_mode()
    def forward(self, feeds: Sequence[Feed]) -> list[Output]:
        first = feeds[0]
        if len(feeds) > 1 or first.cache is None or first.cache.length or len(first.token_ids) <= LONG_FEED:
            return self._compute(feeds)
        first = first._replace(token_ids=list(first.token_ids))
        if self._last is not None and self._last[0][:2] == first[:2]:
            _cache(first).copy_from(_cache(self._last[0]), len(first.token_ids))
            return [self._last[1]]
        (output,) = self._compute(feeds)
        # What follows is put behind the prompt in this cache, and leaves the prompt itself as it is.
        self._last = first, output
        return [output]

    def _compute(self, feeds: Sequence[Feed]) -> list[Output]:
        outputs: list[Output | None] = [None] * len(feeds)
        for low in (True, False):
            at = [i for i, feed in enumerate(feeds) if low == (self._low and len(feed.token_ids) > LONG_FEED)]
            for i, output in zip(at, self._forward([feeds[i] for i in at], low), strict=True):
                outputs[i] = output
        return [output for output in outputs if output is not None]

    def _forward(self, feeds: Sequence[Feed], low: bool) -> list[Output]:
        if not feeds:
            return []
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            x_ND = torch.cat([self._hidden(chunk) for chunk in _chunks(feeds)])
        log_probs_NV = self._model.logits(x_ND.to(self._model.lm_head.weight.dtype)).float().log_softmax(-1)
        return [Output(rows_TV.numpy()) for rows_TV in log_probs_NV.split([feed.num_outputs for feed in feeds])]

    def _hidden(self, feeds: Sequence[Feed]) -> Tensor:
        """Hidden states at the places that are answered for, [N, D]."""
        tokens: list[int] = []
        pieces: list[Piece] = []
        wanted: list[int] = []
        for feed in feeds:
            start, end = len(tokens), len(tokens) + len(feed.token_ids)
            tokens += feed.token_ids
            pieces.append(Piece(0, start, end, None if feed.cache is None else _cache(feed)))
            wanted += range(end - feed.num_outputs, end)
        x_TD = self._model.hidden(torch.tensor([tokens]), pieces=pieces)[0]
        return x_TD[torch.tensor(wanted, dtype=torch.long)]


def _chunks(feeds: Sequence[Feed]) -> list[list[Feed]]:
    """Feeds that go through the layers together, in order, CHUNK_TOKENS at most. A longer one that is kept is cut."""
    chunks: list[list[Feed]] = [[]]
    filled = 0
    for feed in feeds:
        for part in _parts(feed):
            if chunks[-1] and filled + len(part.token_ids) > CHUNK_TOKENS:
                chunks.append([])
                filled = 0
            chunks[-1].append(part)
            filled += len(part.token_ids)
    return chunks


def _parts(feed: Feed) -> list[Feed]:
    size = len(feed.token_ids)
    if feed.cache is None or size <= CHUNK_TOKENS:
        return [feed]
    first_output = size - feed.num_outputs
    parts = []
    for start in range(0, size, CHUNK_TOKENS):
        end = min(start + CHUNK_TOKENS, size)
        parts.append(Feed(feed.token_ids[start:end], max(0, end - max(start, first_output)), feed.cache))
    return parts


def _cache(feed: Feed) -> Cache:
    assert isinstance(feed.cache, Cache)
    return feed.cache
