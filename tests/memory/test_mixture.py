"""The mixture is a distribution, moves on token by token, and drafts what stood at the most similar place."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apprentice.memory.gate import FEATURES, SOURCES, Gate
from apprentice.memory.index import Document, Index
from apprentice.memory.mixture import MemoryMixture, Recorder, Source, opinion

VOCABULARY = 12


def sources(*documents: list[int] | None) -> list[Source | None]:
    """One document for each source; None for a source without a say."""
    found: list[Source | None] = []
    for tokens in [*documents, *[None] * (len(SOURCES) - len(documents))]:
        index = Index()
        index.add_all([Document(np.array(tokens or [], np.int32))])
        found.append(None if tokens is None else Source(index.view()))
    return found


def some_model(seed: int) -> np.ndarray:
    logits = np.random.default_rng(seed).normal(size=VOCABULARY) * 3
    return (logits - np.log(np.exp(logits).sum())).astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, VOCABULARY - 1), max_size=40), min_size=4, max_size=4),
    st.lists(st.integers(0, VOCABULARY - 1), max_size=40),
    st.integers(0, 99),
)
def test_the_mixture_sums_to_one(documents, context, seed):
    mixture = MemoryMixture(sources(*documents), context, Gate.default())
    for step in range(3):
        mixed = mixture.mix(some_model(seed + step))
        assert mixed.dtype == np.float32
        assert np.exp(mixed.astype(np.float64)).sum() == pytest.approx(1, abs=1e-5)
        mixture.advance((seed + step) % VOCABULARY)


def test_the_model_may_rule_tokens_out():
    log_probs = np.full(VOCABULARY, -np.inf, np.float32)
    log_probs[5] = 0.0
    mixed = MemoryMixture(sources([1, 2, 3]), [1, 2], Gate.default()).mix(log_probs)
    assert np.isfinite(mixed[[3, 5]]).all()
    assert np.exp(mixed).sum() == pytest.approx(1)


def test_without_a_match_the_model_speaks_alone():
    model = some_model(0)
    mixture = MemoryMixture(sources([1, 2, 3], None), [7], Gate.default())
    assert (mixture.mix(model) == model).all()
    assert mixture.draft(5) == []


def test_a_long_match_raises_what_came_next_there():
    model = some_model(1)
    text = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
    mixed = MemoryMixture(sources(None, text), text[:8], Gate.default()).mix(model)
    assert mixed[9] > model[9]
    assert mixed[4] < model[4]


def test_the_models_own_array_is_left_alone():
    model = some_model(2)
    before = model.copy()
    MemoryMixture(sources([1, 2, 3]), [1, 2], Gate.default()).mix(model)
    assert (model == before).all()


def test_moving_on_token_by_token_equals_starting_at_the_end():
    rng = np.random.default_rng(3)
    documents = [rng.integers(0, VOCABULARY, 400).tolist() for _ in SOURCES]
    text = rng.integers(0, VOCABULARY, 60).tolist()
    moving = MemoryMixture(sources(*documents), text[:20], Gate.default())
    for token in text[20:]:
        moving.advance(token)
    fresh = MemoryMixture(sources(*documents), text, Gate.default())
    ours, theirs = (mixture.opinions() for mixture in (moving, fresh))
    assert [o and o.shares for o in ours] == [o and o.shares for o in theirs]
    assert moving.draft(8) == fresh.draft(8)


def test_being_right_earns_trust_and_being_wrong_loses_it():
    text = list(range(10))
    weights = np.zeros((len(SOURCES), len(FEATURES)))
    weights[:, FEATURES.index("recent_hits")] = 1.0
    trusted, doubted = (MemoryMixture(sources(text), [0, 1], Gate(weights)) for _ in range(2))
    trusted.advance(2)
    doubted.advance(11)
    doubted.advance(2)
    model = some_model(4)
    assert trusted.mix(model)[3] > doubted.mix(model)[3]


def test_a_longer_match_outvotes_many_short_ones():
    index = Index()
    for _ in range(9):
        index.add([2, 5])
    index.add([0, 1, 2, 6])
    said = opinion(index.view().nearest([0, 1, 2], 64))
    assert said is not None
    assert (said.best, said.length, said.count) == (6, 3, 1)
    assert 0 < said.shares[5] < said.shares[6]
    assert sum(said.shares.values()) == pytest.approx(1)


def test_the_draft_goes_on_where_the_longest_match_stood():
    mixture = MemoryMixture(sources([1, 2, 9, 9], [0, 1, 2, 3, 4, 5]), [0, 1, 2], Gate.default())
    assert mixture.draft(2) == [3, 4]
    assert mixture.draft(99) == [3, 4, 5]
    assert mixture.draft(2) == [3, 4]


def test_a_match_of_one_token_is_no_draft():
    assert MemoryMixture(sources([1, 2, 3]), [9, 1], Gate.default()).draft(4) == []


def test_records_give_back_the_mixtures_own_log_probabilities():
    rng = np.random.default_rng(5)
    documents = [rng.integers(0, VOCABULARY, 200).tolist() for _ in SOURCES]
    text = rng.integers(0, VOCABULARY, 25).tolist()
    recorder = Recorder(sources(*documents), [1, 2], Gate.default())
    mixture = MemoryMixture(sources(*documents), [1, 2], Gate.default())
    mixed = []
    for step, token in enumerate(text):
        model = some_model(step)
        assert recorder.mix(model) is model
        mixed.append(mixture.mix(model)[token])
        recorder.advance(token)
        mixture.advance(token)
    assert len(recorder.records) == len(text)
    assert Gate.default().log_probs(recorder.records) == pytest.approx(mixed, abs=1e-4)


def test_tokens_that_no_model_was_asked_about_are_not_recorded():
    recorder = Recorder(sources([1, 2, 3]), [1], Gate.default())
    assert len(recorder.records) == 0
    recorder.advance(2)
    recorder.mix(some_model(0))
    recorder.advance(3)
    assert len(recorder.records) == 1
