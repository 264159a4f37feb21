"""The index against a loop over every place."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apprentice.memory.index import MAX_MATCH, NO_GROUP, Document, Index, Matches

TOKENS = st.lists(st.integers(0, 3), max_size=50)
DOCUMENTS = st.lists(st.tuples(TOKENS, st.integers(0, 5), st.integers(NO_GROUP, 2)), max_size=12)


def agreement(context: list[int], document: list[int], position: int) -> int:
    length = 0
    while length < min(len(context), position, MAX_MATCH) and context[-1 - length] == document[position - 1 - length]:
        length += 1
    return length


def every_place(
    documents: dict[int, tuple[list[int], int, int]], context: list[int], without_group: int | None
) -> dict[tuple[int, int], int]:
    """(document, position) -> match length, of all places that agree at all."""
    found = {}
    for number, (tokens, first, group) in documents.items():
        for position in range(max(first, 1), len(tokens)):
            length = agreement(context, tokens, position)
            if length and (without_group is None or group != without_group):
                found[number, position] = length
    return found


def check(
    matches: Matches,
    documents: dict[int, tuple[list[int], int, int]],
    context: list[int],
    count: int,
    without_group: int | None = None,
) -> None:
    expected = every_place(documents, context, without_group)
    places = list(zip(matches.documents.tolist(), matches.positions.tolist(), strict=True))
    assert len(set(places)) == len(places)
    assert [expected[place] for place in places] == matches.lengths.tolist()
    assert matches.lengths.tolist() == sorted(expected.values(), reverse=True)[:count]
    assert [documents[number][0][position] for number, position in places] == matches.tokens.tolist()


@settings(max_examples=150, deadline=None)
@given(DOCUMENTS, TOKENS, st.integers(1, 8), st.sampled_from([None, 0, 1]), st.booleans(), st.data())
def test_finds_what_a_loop_over_every_place_finds(documents, context, count, without_group, at_once, data):
    index = Index()
    if at_once:
        numbers = index.add_all([Document(np.array(t, np.int32), first, group) for t, first, group in documents])
    else:
        numbers = [index.add(tokens, first=first, group=group) for tokens, first, group in documents]
    known = dict(zip(numbers, documents, strict=True))
    for number in data.draw(st.sets(st.sampled_from(numbers)) if numbers else st.just(set())):
        index.remove(number)
        del known[number]
    check(index.view().nearest(context, count, without_group=without_group), known, context, count, without_group)
    assert index.num_tokens == sum(len(tokens) for tokens, _, _ in known.values())


def test_growing_through_many_merges_finds_the_same_as_a_loop():
    rng = np.random.default_rng(0)
    index, known = Index(), {}
    for step in range(120):
        document = (rng.integers(0, 30, rng.integers(1, 120)).tolist(), 0, step % 7)
        known[index.add(document[0], group=document[2])] = document
        if step % 5 == 4:
            gone = int(rng.choice(list(known)))
            index.remove(gone)
            del known[gone]
    for _ in range(30):
        tokens = known[int(rng.choice(list(known)))][0]
        context = [*rng.integers(0, 30, 5).tolist(), *tokens[: rng.integers(0, len(tokens)) + 1]]
        check(index.view().nearest(context, 16, without_group=3), known, context, 16, 3)


def test_a_view_does_not_see_what_is_added_or_removed_later():
    index = Index()
    first = index.add([1, 2, 3])
    view = index.view()
    index.add([1, 2, 4])
    index.remove(first)
    assert view.nearest([1, 2], 9).tokens.tolist() == [3]
    assert index.view().nearest([1, 2], 9).tokens.tolist() == [4]


def test_a_copy_and_its_original_grow_apart():
    index = Index()
    first = index.add([1, 2, 3])
    twin = index.copy()
    index.remove(first)
    twin.add([1, 2, 5])
    index.add([1, 2, 4])
    assert index.view().nearest([1, 2], 9).tokens.tolist() == [4]
    assert sorted(twin.view().nearest([1, 2], 9).tokens.tolist()) == [3, 5]


def test_a_large_left_out_document_does_not_hide_the_others():
    index = Index()
    index.add([1, 2] * 1500, group=5)
    index.add([1, 2, 7])
    assert index.view().nearest([1, 2], 4, without_group=5).tokens.tolist() == [7]


def test_the_newest_document_comes_first_among_equals():
    index = Index()
    numbers = [index.add([1, 2, 10 + i]) for i in range(5)]
    matches = index.view().nearest([1, 2], 5)
    assert matches.documents.tolist() == numbers[::-1]
    assert matches.tokens.tolist() == [14, 13, 12, 11, 10]


def test_token_ids_of_large_vocabularies_are_kept_apart():
    index = Index()
    index.add([200_000, 1, 5])
    index.add([200_000 - 65_536, 1, 6])
    assert index.view().nearest([200_000, 1], 1).tokens.tolist() == [5]


def test_a_restored_index_finds_the_same_without_sorting():
    rng = np.random.default_rng(1)
    documents = [Document(rng.integers(0, 9, 60).astype(np.int32), 3, i % 2) for i in range(9)]
    index, restored = Index(), Index()
    index.remove(index.add_all(documents)[4])
    restored.restore(index.documents.values(), index.compact())
    for _ in range(20):
        context = rng.integers(0, 9, 6).tolist()
        ours, theirs = index.view().nearest(context, 12), restored.view().nearest(context, 12)
        assert ours.lengths.tolist() == theirs.lengths.tolist()
        assert ours.tokens.tolist() == theirs.tokens.tolist()


def test_keys_of_other_documents_are_refused():
    index = Index()
    index.add([1, 2, 3])
    keys = index.compact()
    for wrong in (keys[:1], keys + 100, keys * 0, -keys):
        with pytest.raises(ValueError, match="do not belong"):
            Index().restore([Document(np.array([1, 2, 3], np.int32))], wrong)


def test_following_goes_on_from_a_place_to_the_end():
    index = Index()
    number = index.add([4, 5, 6, 7])
    assert index.view().following(number, 2, 9) == [6, 7]
    index.remove(number)
    assert index.view().following(number, 2, 9) == []


def test_an_empty_index_and_an_empty_context_find_nothing():
    index = Index()
    assert len(index.view().nearest([1], 3)) == 0
    index.add([])
    index.add([1])
    assert len(index.view().nearest([1], 3)) == 0
    index.add([1, 1])
    assert len(index.view().nearest([], 3)) == 0
