"""A reply that repeats its prompt takes fewer steps and is the same."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from apprentice.core.fakes import ByteTokenizer
from apprentice.core.protocols import Request
from apprentice.text import decoding
from apprentice.text.decoding import Feed, Output
from apprentice.text.lookup import KEY, PromptLookup

TOKENIZER = ByteTokenizer()
PROMPT = list(b"def one(value):\n    return value + 1\n\n\ndef one(")


class Cache:
    """The tokens seen."""

    def __init__(self) -> None:
        self.ids: list[int] = []

    @property
    def length(self) -> int:
        return len(self.ids)

    def truncate(self, length: int) -> None:
        del self.ids[length:]


class Repeats:
    """A model that mostly goes on as its text did after the same two tokens."""

    max_positions = 4096

    def __init__(self) -> None:
        self.steps = 0

    def new_cache(self, capacity: int) -> Cache:
        return Cache()

    def forward(self, feeds: Sequence[Feed]) -> list[Output]:
        self.steps += 1
        return [Output(self._rows(feed)) for feed in feeds]

    def _rows(self, feed: Feed) -> np.ndarray:
        assert isinstance(feed.cache, Cache)
        rows = []
        for token_id in feed.token_ids:
            ids = feed.cache.ids
            ids.append(token_id)
            row = np.random.default_rng(ids).standard_normal(TOKENIZER.vocab_size)
            places = [i for i in range(2, len(ids)) if ids[i - 2 : i] == ids[-2:]]
            if places:
                row[ids[places[-1]]] += 10
            rows.append(row - np.log(np.exp(row).sum()))
        return np.array(rows[-feed.num_outputs :], np.float32)


@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_a_reply_that_repeats_takes_fewer_steps_and_is_the_same(temperature: float) -> None:
    def reply(model: Repeats, mixture: PromptLookup | None) -> list[int]:
        request = Request(prompt_ids=PROMPT, max_tokens=80, temperature=temperature, seed=4, mixture=mixture)
        return decoding.generate(model, TOKENIZER, [request])[0].token_ids

    plain, drafting = Repeats(), Repeats()
    assert reply(drafting, PromptLookup(PROMPT)) == reply(plain, None)
    assert drafting.steps < 0.6 * plain.steps


def test_the_last_place_counts_and_the_end_is_no_place() -> None:
    lookup = PromptLookup([1, 2, 3, 7, 7, 1, 2, 3, 8, 9])
    assert lookup.draft(4) == []
    for token_id in (1, 2, 3):
        lookup.advance(token_id)
    assert lookup.draft(4) == [8, 9, 1, 2]
    assert lookup.draft(1) == [8]
    lookup.advance(5)
    assert lookup.draft(4) == []
    for token_id in (1, 2, 3):
        lookup.advance(token_id)
    assert lookup.draft(2) == [5, 1]


@pytest.mark.parametrize("size", range(KEY + 1))
def test_a_prompt_shorter_than_a_key_has_no_drafts_yet(size: int) -> None:
    lookup = PromptLookup([1] * size)
    assert lookup.draft(3) == []
    for _ in range(6):
        lookup.advance(1)
    assert lookup.draft(3)


def test_what_mixes_inside_has_its_say_and_its_drafts_first() -> None:
    class Inner:
        said: list[int]

        def __init__(self) -> None:
            self.said = []

        def mix(self, log_probs_V: np.ndarray) -> np.ndarray:
            return log_probs_V + 1

        def advance(self, token_id: int) -> None:
            self.said.append(token_id)

        def draft(self, max_tokens: int) -> list[int]:
            return [] if self.said else [5]

    inner = Inner()
    lookup = PromptLookup([1, 2, 3, 4, 1, 2], inner)
    assert lookup.mix(np.zeros(3)).tolist() == [1, 1, 1]
    assert lookup.draft(2) == [5]
    lookup.advance(3)
    assert inner.said == [3]
    assert lookup.draft(2) == [4, 1]
