from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from apprentice.core.fakes import ByteTokenizer
from apprentice.core.protocols import Generator, Request
from apprentice.model import generator as generator_module
from apprentice.model import presets
from apprentice.model.generator import TorchGenerator, TorchLanguageModel, fast_precision
from apprentice.model.transformer import Transformer
from apprentice.text.decoding import Feed

TOKENIZER = ByteTokenizer(eos=())
PROMPTS = [list(range(40, 40 + n)) for n in (3, 30, 1, 170)]


class Drafting:
    """A mixture that leaves the model alone and drafts from a list."""

    def __init__(self, guess: Sequence[int]) -> None:
        self.guess, self.at = list(guess), 0

    def mix(self, log_probs_V: np.ndarray) -> np.ndarray:
        return log_probs_V

    def advance(self, token_id: int) -> None:
        self.at += 1

    def draft(self, max_tokens: int) -> list[int]:
        return self.guess[self.at : self.at + max_tokens]


@pytest.fixture
def debug_model() -> Transformer:
    """One whose every token is a byte."""
    return Transformer(presets.debug(vocab_size=256)).initialize(0, std=0.1)


@pytest.fixture
def generator(debug_model: Transformer) -> TorchGenerator:
    return TorchGenerator(debug_model, TOKENIZER)


@torch.no_grad()
def greedy_by_hand(model: Transformer, prompt: Sequence[int], count: int) -> list[int]:
    """Everything computed anew for each token."""
    ids = list(prompt)
    for _ in range(count):
        ids.append(int(model(torch.tensor([ids]))[0, -1].argmax()))
    return ids[len(prompt) :]


def test_it_is_a_generator(generator: TorchGenerator) -> None:
    assert isinstance(generator, Generator)


def test_greedy_generation_in_a_batch_is_that_of_full_passes(
    debug_model: Transformer, generator: TorchGenerator
) -> None:
    samples = generator.generate([Request(prompt_ids=prompt, max_tokens=12) for prompt in PROMPTS])
    for prompt, sample in zip(PROMPTS, samples, strict=True):
        assert sample.token_ids == greedy_by_hand(debug_model, prompt, 12)
        assert sample.experts_used is None


@pytest.mark.parametrize("wrong_every", [0, 2, 5])
def test_greedy_output_is_the_same_with_drafts_in_fewer_steps(generator: TorchGenerator, wrong_every: int) -> None:
    (plain,) = generator.generate([Request(prompt_ids=PROMPTS[1], max_tokens=40)])
    guess = list(plain.token_ids)
    if wrong_every:
        guess[::wrong_every] = [(i + 1) % 256 for i in guess[::wrong_every]]
    (drafted,) = generator.generate([Request(prompt_ids=PROMPTS[1], max_tokens=40, mixture=Drafting(guess))])
    assert drafted.token_ids == plain.token_ids
    assert drafted.steps < plain.steps
    assert np.allclose(drafted.log_probs, plain.log_probs, atol=1e-4)


@torch.no_grad()
def test_scores_are_the_log_probabilities_of_a_full_pass(debug_model: Transformer, generator: TorchGenerator) -> None:
    targets = [[7, 8, 9], [1], list(range(20)), [5, 6]]
    scores = generator.score(PROMPTS, targets)
    for prompt, target, score in zip(PROMPTS, targets, scores, strict=True):
        log_probs = debug_model(torch.tensor([prompt + target]))[0].log_softmax(-1)
        expected = [float(log_probs[len(prompt) + i - 1, token]) for i, token in enumerate(target)]
        assert np.allclose(score.model_log_probs, expected, atol=1e-4)
        assert score.mixture_log_probs is None


def test_generated_log_probs_are_the_scores_of_what_was_generated(generator: TorchGenerator) -> None:
    (sample,) = generator.generate([Request(prompt_ids=PROMPTS[1], max_tokens=8, temperature=1.0, seed=5)])
    (score,) = generator.score([PROMPTS[1]], [sample.token_ids])
    assert np.allclose(sample.log_probs, score.model_log_probs, atol=1e-4)


def test_long_texts_read_in_bfloat16_differ_by_rounding_only(debug_model: Transformer) -> None:
    exact = TorchGenerator(debug_model, TOKENIZER).score(PROMPTS, PROMPTS)
    rounded = TorchGenerator(debug_model, TOKENIZER, reading="bfloat16").score(PROMPTS, PROMPTS)
    for prompt, a, b in zip(PROMPTS, exact, rounded, strict=True):
        assert (a.model_log_probs != b.model_log_probs) == (2 * len(prompt) > generator_module.LONG_FEED)
        assert np.allclose(a.model_log_probs, b.model_log_probs, atol=0.1)
    assert fast_precision() in ("float32", "bfloat16")


def test_drafts_and_neighbours_leave_what_follows_a_bfloat16_prompt_as_it_is(debug_model: Transformer) -> None:
    generator = TorchGenerator(debug_model, TOKENIZER, reading="bfloat16")
    requests = [Request(prompt_ids=prompt, max_tokens=20) for prompt in PROMPTS]
    plain = [generator.generate([request])[0].token_ids for request in requests]
    assert [sample.token_ids for sample in generator.generate(requests)] == plain
    drafting = [Request(prompt_ids=p, max_tokens=20, mixture=Drafting(t)) for p, t in zip(PROMPTS, plain, strict=True)]
    assert [sample.token_ids for sample in generator.generate(drafting)] == plain


def test_a_prompt_longer_than_a_chunk_is_read_in_parts(debug_model: Transformer) -> None:
    model = TorchLanguageModel(debug_model)
    length = generator_module.CHUNK_TOKENS + 50
    tokens = [i * 7 % 256 for i in range(length)]
    cache = model.new_cache(length)
    (in_parts,) = model.forward([Feed(tokens, 60, cache)])
    (at_once,) = model.forward([Feed(tokens, 60)])
    assert cache.length == length
    assert in_parts.log_probs_TV.shape == (60, debug_model.config.vocab_size)
    assert np.allclose(in_parts.log_probs_TV, at_once.log_probs_TV, atol=1e-4)


def test_a_neighbour_in_the_batch_changes_nothing_but_rounding(debug_model: Transformer) -> None:
    model = TorchLanguageModel(debug_model)
    (alone,) = model.forward([Feed(PROMPTS[1], 5)])
    beside = model.forward([Feed(PROMPTS[3], 1), Feed(PROMPTS[1], 5), Feed(PROMPTS[0], 3)])
    assert np.allclose(beside[1].log_probs_TV, alone.log_probs_TV, atol=1e-5)


class Counting(Transformer):
    """Writes down how many tokens go through it at once."""

    def hidden(self, tokens_BT: torch.Tensor, **rest: Any) -> torch.Tensor:
        self.__dict__.setdefault("fed", []).append(tokens_BT.shape[1])
        return super().hidden(tokens_BT, **rest)


def test_a_prompt_read_again_is_taken_over_and_changes_nothing(debug_model: Transformer) -> None:
    """Bit for bit, with another length of reply, with something else in between and after a shorter prompt."""
    requests = [Request(prompt_ids=PROMPTS[i], max_tokens=n, temperature=1.0, seed=n) for i, n in ((3, 9), (3, 30), (1, 9), (3, 9))]
    expected = [TorchGenerator(debug_model, TOKENIZER, reading="bfloat16").generate([request])[0] for request in requests]
    counting = Counting(presets.debug(vocab_size=256)).initialize(0, std=0.1)
    generator = TorchGenerator(counting, TOKENIZER, reading="bfloat16")
    for request, sample in zip(requests, expected, strict=True):
        found = generator.generate([request])[0]
        assert (found.token_ids, found.log_probs) == (sample.token_ids, sample.log_probs)
    assert [count for count in counting.__dict__["fed"] if count > 1] == [170, 30, 170]
