from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from apprentice.examples.deduplicate import Change, change_of, duplicates
from apprentice.examples.split import SPLITS, TEST
from apprentice.text.edits import Edit


def _change(split: str, text: str, commit: str = "") -> Change:
    return Change(split, commit or f"{split}-{text[:8]}", tuple(text.split()))


def _words(seed: int, count: int = 40) -> str:
    source = random.Random(seed)
    return " ".join(f"w{source.randrange(500)}" for _ in range(count))


def test_an_exact_duplicate_goes_from_the_older_split() -> None:
    changes = [_change("train", _words(1)), _change("train", _words(2)), _change("test", _words(1))]
    assert duplicates(changes) == {0: "exact duplicates of test work"}


def test_a_near_duplicate_goes_from_the_older_split() -> None:
    text = _words(1)
    nearly = text.rsplit(" ", 2)[0] + " other words"
    for older in ("train", "valid", "gate"):
        assert duplicates([_change(older, text), _change("test", nearly)]) == {0: "near duplicates of test work"}


def test_within_a_split_the_first_stays() -> None:
    changes = [_change("train", _words(1), "c1"), _change("train", _words(2), "c1"), _change("train", _words(1), "c2")]
    assert duplicates(changes) == {2: "exact duplicates"}


def test_the_test_set_loses_only_repetitions_inside_one_commit() -> None:
    text = _words(1)
    nearly = text.rsplit(" ", 1)[0] + " other"
    changes = [_change("test", text, "c1"), _change("test", text, "c1"), _change("test", text, "c2"), _change("test", nearly)]
    assert duplicates(changes) == {1: "exact duplicates"}


def test_the_same_words_in_another_order_or_another_change_are_no_duplicate() -> None:
    changes = [_change("train", "a b c d e f g h"), _change("test", "h g f e d c b a"), _change("test", "a b")]
    assert duplicates(changes) == {}


def test_path_and_white_space_do_not_matter_but_old_and_new_are_told_apart() -> None:
    edit = Edit("a.py", 3, ("x = f( 1 )",), ("x = f(2)",), ("above",), ("below",))
    moved = Edit("b.py", 99, ("x = f(1)",), ("    x  =  f(2)",), ("above",), ("below",))
    undone = Edit("a.py", 3, edit.new, edit.old, edit.above, edit.below)
    assert change_of(edit, split="train", commit="1").words == change_of(moved, split="train", commit="1").words
    assert change_of(edit, split="train", commit="1").words != change_of(undone, split="train", commit="1").words


def test_many_equal_edits_take_no_quadratic_time() -> None:
    changes = [_change("train", _words(1), f"c{i}") for i in range(20_000)] + [_change("test", _words(2), "t")]
    assert len(duplicates(changes)) == 19_999


def _slow(changes: list[Change], threshold: float) -> set[int]:
    """Every pair compared; the same rules."""
    out: set[int] = set()
    kept: list[Change] = []
    for split in reversed(SPLITS):
        for i, change in enumerate(changes):
            if change.split != split:
                continue
            if split == TEST:
                twin = any(k.words == change.words and k.commit == change.commit for k in kept)
            else:
                twin = any(
                    k.words == change.words
                    or len(k.shingles & change.shingles) / len(k.shingles | change.shingles) >= threshold
                    for k in kept
                )
            if twin:
                out.add(i)
            else:
                kept.append(change)
    return out


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_the_index_finds_what_comparing_all_pairs_finds(seed: int) -> None:
    source = random.Random(seed)
    bases = [_words(seed + i).split() for i in range(6)]
    changes = []
    for i in range(40):
        words = list(source.choice(bases))
        for _ in range(source.choice([0, 1, 2, 5, 12])):
            words[source.randrange(len(words))] = f"v{source.randrange(9)}"
        changes.append(Change(source.choice(SPLITS), f"c{i % 7}", tuple(words)))
    assert set(duplicates(changes, threshold=0.8)) == _slow(changes, 0.8)
