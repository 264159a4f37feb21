from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apprentice.core.errors import InputError
from apprentice.core.fakes import ByteTokenizer
from apprentice.core.protocols import Request
from apprentice.text import decoding
from apprentice.text.decoding import Feed, Output, TextStream, choose

TOKENIZER = ByteTokenizer()
END = TOKENIZER.eos_ids[0]


class FakeCache:
    def __init__(self, capacity: int) -> None:
        self.tokens: list[int] = []
        self.capacity = capacity

    @property
    def length(self) -> int:
        return len(self.tokens)

    def truncate(self, length: int) -> None:
        assert length <= len(self.tokens)
        del self.tokens[length:]


class FakeModel:
    """Next-token logits are a function of everything seen; counts its forward passes."""

    max_positions = 200

    def __init__(self, logits: Callable[[list[int]], np.ndarray]) -> None:
        self.logits, self.steps, self.widest, self.fed = logits, 0, 0, 0

    def new_cache(self, capacity: int) -> FakeCache:
        return FakeCache(capacity)

    def forward(self, feeds: Sequence[Feed]) -> list[Output]:
        self.steps += 1
        self.widest = max(self.widest, len(feeds))
        outputs = []
        for feed in feeds:
            cache = feed.cache or FakeCache(10**6)
            assert isinstance(cache, FakeCache)
            rows = []
            for token_id in feed.token_ids:
                cache.tokens.append(token_id)
                rows.append(self.logits(cache.tokens))
            assert cache.length <= cache.capacity
            self.fed += len(feed.token_ids)
            logits_TV = np.stack(rows[-feed.num_outputs :])
            log_probs_TV = logits_TV - np.log(np.exp(logits_TV).sum(-1, keepdims=True))
            outputs.append(Output(log_probs_TV.astype(np.float32)))
        return outputs


def noisy(seen: list[int]) -> np.ndarray:
    return np.random.default_rng([len(seen), *seen]).normal(0, 3, TOKENIZER.vocab_size)


def saying(text: str, after: int = 1) -> FakeModel:
    """Continues a prompt of `after` tokens with the text and then the end."""
    ids = [*TOKENIZER.encode(text), END]

    def logits(seen: list[int]) -> np.ndarray:
        logits_V = np.zeros(TOKENIZER.vocab_size)
        logits_V[ids[min(len(seen) - after, len(ids) - 1)]] = 20
        return logits_V

    return FakeModel(logits)


class FixedDraft:
    """A mixture that changes nothing and drafts from a text that may be wrong in places."""

    def __init__(self, text: str) -> None:
        self.ids, self.at = TOKENIZER.encode(text), 0

    def mix(self, log_probs_V: np.ndarray) -> np.ndarray:
        return log_probs_V

    def advance(self, token_id: int) -> None:
        self.at += 1

    def draft(self, max_tokens: int) -> list[int]:
        return self.ids[self.at : self.at + max_tokens]


def request(**changes: object) -> Request:
    return Request(**({"prompt_ids": [1], "max_tokens": 30} | changes))  # pyrefly: ignore[bad-argument-type]


def test_generation_ends_at_an_end_id_which_is_kept_out_of_ids_and_text() -> None:
    (sample,) = decoding.generate(saying("hello"), TOKENIZER, [request()])
    assert sample.text == "hello"
    assert sample.token_ids == TOKENIZER.encode("hello")
    assert sample.finish_reason == "stop"


def test_generation_ends_at_the_stop_ids_of_the_request() -> None:
    (sample,) = decoding.generate(saying("hello"), TOKENIZER, [request(stop_ids=(ord("o"),))])
    assert (sample.text, sample.finish_reason) == ("hell", "stop")


def test_a_stop_text_is_cut_off_and_its_tokens_are_kept() -> None:
    (sample,) = decoding.generate(saying("one\n\ntwo"), TOKENIZER, [request(stop_texts=("\n\n", "zzz"))])
    assert (sample.text, sample.finish_reason) == ("one", "stop")
    assert sample.token_ids == TOKENIZER.encode("one\n\n")


def test_length_limits_a_generation() -> None:
    (sample,) = decoding.generate(saying("hello"), TOKENIZER, [request(max_tokens=3)])
    assert (sample.text, sample.finish_reason) == ("hel", "length")


def test_the_context_of_the_model_limits_a_generation() -> None:
    (sample,) = decoding.generate(saying("x" * 500), TOKENIZER, [request(max_tokens=500)])
    assert len(sample.token_ids) == FakeModel.max_positions - 1


def test_a_prompt_as_long_as_the_context_is_refused() -> None:
    with pytest.raises(InputError, match="200 tokens"):
        decoding.generate(saying("x"), TOKENIZER, [request(prompt_ids=[1] * 200)])


def test_an_empty_prompt_is_refused() -> None:
    with pytest.raises(InputError, match="empty prompt"):
        decoding.generate(saying("x"), TOKENIZER, [request(prompt_ids=[])])


def test_streamed_text_joins_to_the_sample_and_never_shows_part_of_a_stop_text() -> None:
    shown: list[str] = []

    def on_token(index: int, token_id: int, text: str) -> bool:
        shown.append(text)
        return True

    text = "aé–𝄞 almost STO but STOP here"
    (sample,) = decoding.generate(
        saying(text), TOKENIZER, [request(max_tokens=90, stop_texts=("STOP",))], on_token=on_token
    )
    assert "".join(shown) == sample.text == "aé–𝄞 almost STO but "
    assert all("\ufffd" not in piece for piece in shown)


def test_text_held_back_is_shown_when_the_length_ends_it() -> None:
    shown: list[str] = []
    (sample,) = decoding.generate(
        saying("ab STO"),
        TOKENIZER,
        [request(max_tokens=6, stop_texts=("STOP",))],
        on_token=lambda index, token_id, text: bool(shown.append(text)) or True,
    )
    assert "".join(shown) == sample.text == "ab STO"


def test_a_cancelled_request_ends_and_its_neighbour_goes_on() -> None:
    requests = [request(), request()]
    samples = decoding.generate(saying("hello"), TOKENIZER, requests, on_token=lambda index, token_id, text: index == 1)
    assert [sample.finish_reason for sample in samples] == ["cancelled", "stop"]
    assert samples[1].text == "hello"


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("wrong", [0, 1, 3, 7])
def test_a_draft_changes_the_number_of_steps_and_nothing_else(temperature: float, wrong: int) -> None:
    plain = request(temperature=temperature, seed=3)
    (expected,) = decoding.generate(FakeModel(noisy), TOKENIZER, [plain])
    guess = list(expected.token_ids)
    if wrong:
        guess[wrong::wrong] = [(i + 1) % 256 for i in guess[wrong::wrong]]
    mixture = FixedDraft("")
    mixture.ids = guess
    model = FakeModel(noisy)
    (sample,) = decoding.generate(model, TOKENIZER, [request(temperature=temperature, seed=3, mixture=mixture)])
    assert sample.token_ids == expected.token_ids
    assert sample.log_probs == expected.log_probs
    assert sample.steps == model.steps
    assert sample.steps < expected.steps if wrong != 1 else sample.steps <= expected.steps


def test_without_use_draft_the_mixture_is_not_asked_for_one() -> None:
    (sample,) = decoding.generate(saying("hello"), TOKENIZER, [request(mixture=FixedDraft("hello"), use_draft=False)])
    assert sample.steps == 6


def test_the_same_seed_gives_the_same_sample_whatever_its_neighbours() -> None:
    mine = request(temperature=1.0, seed=3)
    (alone,) = decoding.generate(FakeModel(noisy), TOKENIZER, [mine])
    beside = decoding.generate(FakeModel(noisy), TOKENIZER, [request(temperature=1.0, seed=4), mine])
    assert beside[1].token_ids == alone.token_ids
    assert beside[0].token_ids != alone.token_ids


def test_no_more_sequences_are_in_work_than_asked_for_and_all_are_answered_in_order() -> None:
    model = saying("hello")
    samples = decoding.generate(model, TOKENIZER, [request(max_tokens=n) for n in (5, 1, 2, 3, 0)], max_sequences=2)
    assert [sample.text for sample in samples] == ["hello", "h", "he", "hel", ""]
    assert model.widest == 2


def test_healed_output_starts_with_the_given_text_which_is_cut_off() -> None:
    model = saying("return value")
    (sample,) = decoding.generate(model, TOKENIZER, [request(must_start_with="retur")])
    assert TOKENIZER.decode(sample.token_ids) == "return value"
    assert sample.text == "n value"
    (forced,) = decoding.generate(saying("xyz"), TOKENIZER, [request(must_start_with="ab")])
    assert TOKENIZER.decode(forced.token_ids) == "abz"
    assert forced.log_probs[0] == pytest.approx(0.0), "a byte that is the only one allowed is certain"


def test_log_probs_are_of_the_mixture_and_model_log_probs_of_the_model() -> None:
    class Surer(FixedDraft):
        def mix(self, log_probs_V: np.ndarray) -> np.ndarray:
            return np.full_like(log_probs_V, -np.log(len(log_probs_V)))

    (sample,) = decoding.generate(saying("h"), TOKENIZER, [request(mixture=Surer(""), max_tokens=1, top_log_probs=2)])
    assert sample.log_probs == pytest.approx([-np.log(TOKENIZER.vocab_size)])
    assert sample.model_log_probs[0] < -15 or sample.token_ids == TOKENIZER.encode("h")
    assert len(sample.top_log_probs[0]) == 2


def test_scores_are_those_of_one_sequence_at_a_time_whatever_the_batches() -> None:
    prompts = [[1, 2], [3], [4, 5, 6], [7]]
    targets: list[list[int]] = [[8, 9], [10, 11, 12], [], [13]]
    alone = [decoding.score(FakeModel(noisy), [p], [t])[0] for p, t in zip(prompts, targets, strict=True)]
    for limit in (1, 4, 100):
        together = decoding.score(FakeModel(noisy), prompts, targets, tokens_per_forward=limit)
        assert together == alone
    row = noisy([1, 2])
    assert alone[0].model_log_probs[0] == pytest.approx(float(row[8] - np.log(np.exp(row).sum())), abs=1e-5)


def test_a_mixture_is_advanced_over_the_target_when_scoring() -> None:
    mixture = FixedDraft("")
    (score,) = decoding.score(FakeModel(noisy), [[1, 2]], [[8, 9, 10]], mixtures=[mixture])
    assert mixture.at == 3
    assert score.mixture_log_probs == score.model_log_probs


def test_scoring_without_a_prompt_is_refused() -> None:
    with pytest.raises(InputError, match="empty prompt"):
        decoding.score(FakeModel(noisy), [[]], [[1]])


def test_top_p_keeps_the_smallest_set_that_holds_it() -> None:
    log_probs_V = np.log(np.array([0.1, 0.5, 0.4], dtype=np.float32))
    random = np.random.default_rng(0)
    drawn = {choose(log_probs_V, temperature=1.0, top_p=0.8, random=random) for _ in range(200)}
    assert drawn == {1, 2}
    assert {choose(log_probs_V, temperature=1.0, top_p=0.0, random=random) for _ in range(20)} == {1}


def test_min_p_leaves_out_what_is_unlikely_beside_the_likeliest() -> None:
    log_probs_V = np.log(np.array([0.1, 0.5, 0.4], dtype=np.float32))
    random = np.random.default_rng(0)
    assert {choose(log_probs_V, temperature=1.0, min_p=0.3, random=random) for _ in range(200)} == {1, 2}
    assert {choose(log_probs_V, temperature=9.0, min_p=1.0, random=random) for _ in range(20)} == {1}


@given(st.integers(0, 2**32), st.floats(0.0, 1.0), st.floats(0.2, 3.0))
@settings(max_examples=60, deadline=None)
def test_the_nucleus_is_that_of_a_whole_sort(seed: int, top_p: float, temperature: float) -> None:
    random = np.random.default_rng(seed)
    log_probs_V = (4 * random.standard_normal(500)).astype(np.float32)
    probs_V = np.exp((log_probs_V.astype(np.float64) - log_probs_V.max()) / temperature)
    order = np.argsort(-probs_V, kind="stable")
    cumulated = np.cumsum(probs_V[order]) / probs_V.sum()
    # Rounding may move the border by one.
    allowed = set(order[: int(np.searchsorted(cumulated, top_p + 1e-6)) + 1].tolist())
    drawn = {choose(log_probs_V, temperature=temperature, top_p=top_p, random=random) for _ in range(40)}
    assert drawn <= allowed


def test_penalties_are_taken_off_what_the_reply_has() -> None:
    def flat(seen: list[int]) -> np.ndarray:
        log_probs_V = np.full(TOKENIZER.vocab_size, -8.0, dtype=np.float32)
        log_probs_V[[40, 41, 42]] = -1.0, -1.3, -1.5
        return log_probs_V

    def reply(**penalties: float) -> list[int]:
        return decoding.generate(FakeModel(flat), TOKENIZER, [request(max_tokens=6, **penalties)])[0].token_ids

    assert reply() == [40] * 6
    assert reply(presence_penalty=1.0) == [40, 41, 42, 40, 40, 40]
    assert reply(frequency_penalty=1.0) == [40, 41, 42, 40, 41, 42]
    assert reply(frequency_penalty=-1.0) == [40] * 6


def test_sampling_follows_the_probabilities() -> None:
    log_probs_V = np.log(np.array([0.2, 0.5, 0.3], dtype=np.float32))
    random = np.random.default_rng(0)
    counts = np.bincount([choose(log_probs_V, temperature=1.0, top_p=1.0, random=random) for _ in range(4000)])
    assert counts / 4000 == pytest.approx([0.2, 0.5, 0.3], abs=0.03)


def test_a_model_without_finite_probabilities_is_an_error() -> None:
    with pytest.raises(InputError, match="finite"):
        decoding.generate(FakeModel(lambda seen: np.full(TOKENIZER.vocab_size, np.nan)), TOKENIZER, [request()])


def test_bytes_that_are_no_text_are_shown_at_the_end() -> None:
    stream = TextStream(TOKENIZER)
    assert stream.push(0xC3) == ""
    assert stream.finish() == "\ufffd"
    assert stream.text == "\ufffd"
