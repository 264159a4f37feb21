"""The native mixture against the one in numpy: the same places, shares, probabilities and drafts, however an index has grown."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apprentice.kernels.native import Library
from apprentice.memory.gate import SOURCES, Gate
from apprentice.memory.index import Document, Index
from apprentice.memory.mixture import MemoryMixture, Source
from apprentice.memory.native import NativeMixture

VOCABULARY = 9
TEXT = st.lists(st.integers(0, VOCABULARY - 1), max_size=60)


def model(seed: int) -> np.ndarray:
    logits = np.random.default_rng(seed).normal(size=VOCABULARY) * 3
    return (logits - np.log(np.exp(logits).sum())).astype(np.float32)


def assert_same(library: Library, sources: Sequence[Source | None], context: list[int], tokens: Sequence[int]) -> None:
    ours, theirs = NativeMixture(sources, context, Gate.default(), library), MemoryMixture(sources, context, Gate.default())
    for step, token in enumerate([*tokens, 0]):
        for found, expected in zip(ours.opinions(), theirs.opinions(), strict=True):
            if expected is None:
                assert found is None
                continue
            assert found is not None
            assert (found.best, found.length, found.count) == (expected.best, expected.length, expected.count)
            assert list(found.shares) == list(expected.shares)
            assert list(found.shares.values()) == pytest.approx(list(expected.shares.values()), rel=1e-12)
            for name in ("tokens", "lengths", "documents", "positions"):
                np.testing.assert_array_equal(getattr(found.matches, name), getattr(expected.matches, name))
        np.testing.assert_allclose(ours.mix(model(step)), theirs.mix(model(step)), atol=2e-6)
        assert ours.draft(5) == theirs.draft(5)
        ours.advance(token)
        theirs.advance(token)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(TEXT, max_size=4), min_size=4, max_size=4), TEXT, st.lists(st.integers(0, VOCABULARY - 1), max_size=6))
def test_it_is_the_reference(library: Library, texts: list[list[list[int]]], context: list[int], tokens: list[int]) -> None:
    sources: list[Source | None] = []
    for number, documents in enumerate(texts):
        index = Index()
        for at, text in enumerate(documents):
            index.add(text, first=at, group=at % 2)
        sources.append(Source(index.view(), 1 if number == 1 else None) if documents else None)
    assert_same(library, sources, context, tokens)


def test_many_segments_removed_documents_and_groups_that_are_left_out(library: Library) -> None:
    random = np.random.default_rng(0)
    index = Index()
    for size in (20_000, 6_000, 3_000, 900, 40, 7):
        index.add(random.integers(0, VOCABULARY, size), group=size % 3)
    for _ in range(30):
        index.remove(index.add(random.integers(0, VOCABULARY, 200), group=1))
    assert len(index.view().segments) > 2
    sources: list[Source | None] = [Source(index.view(), without) for without in (None, 0, 1)]
    sources += [None] * (len(SOURCES) - 3)
    context = random.integers(0, VOCABULARY, 50).tolist()
    assert_same(library, sources, context, random.integers(0, VOCABULARY, 20).tolist())


def test_a_view_does_not_see_what_is_added_or_removed_later(library: Library) -> None:
    index = Index()
    index.add_all([Document(np.array([1, 2, 3, 4, 5] * 9, np.int32))])
    sources: list[Source | None] = [Source(index.view()), None, None, None]
    mixture = NativeMixture(sources, [1, 2, 3], Gate.default(), library)
    before = mixture.mix(model(1)).copy()
    for number in range(200):
        index.add([1, 2, 3, 7, number % VOCABULARY])
    again = NativeMixture(sources, [1, 2, 3], Gate.default(), library)
    np.testing.assert_array_equal(again.mix(model(1)), before)


def test_the_models_own_array_is_left_alone_and_impossible_tokens_can_be_heard(library: Library) -> None:
    index = Index()
    index.add([1, 2, 3])
    log_probs_V = np.full(VOCABULARY, -np.inf, np.float32)
    log_probs_V[5] = 0.0
    before = log_probs_V.copy()
    mixed_V = NativeMixture([Source(index.view()), None, None, None], [1, 2], Gate.default(), library).mix(log_probs_V)
    np.testing.assert_array_equal(log_probs_V, before)
    assert np.isfinite(mixed_V[[3, 5]]).all()
    assert np.exp(mixed_V).sum() == pytest.approx(1)
