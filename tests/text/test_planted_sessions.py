"""A small corpus of `benchmarks/corpus`: what is planted in session files is gone from what is written, harmless texts stay."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks import redaction
from benchmarks.corpus import searching
from benchmarks.corpus.disguises import NAMES, makes_sense
from benchmarks.corpus.values import PERSONAL, SECRETS

SEED, FIRST_SET = 3, 0


@pytest.fixture(scope="module")
def measured() -> tuple[redaction.Corpus, dict[str, list[int]]]:
    counts, _ = redaction.measure(SEED, FIRST_SET, each=1)
    return redaction.make_corpus(SEED, FIRST_SET, each=1), counts["ours"]


def test_every_kind_in_every_disguise_that_makes_sense_is_planted(measured) -> None:
    corpus, _ = measured
    planted = {(plant.kind, plant.disguise) for plant in corpus.plants}
    assert planted == {(kind, disguise) for kind in (*SECRETS, *PERSONAL) for disguise in NAMES if makes_sense(kind, disguise)}
    assert (len(SECRETS), len(PERSONAL)) == (20, 5)


def test_what_was_planted_is_not_found_afterwards(measured) -> None:
    _, counts = measured
    gone, planted = counts["recall"]
    assert planted - gone <= 0.005 * planted + 1
    assert counts.get("not passed on by a reader", [0, 0])[1] == 0


def test_little_else_is_replaced(measured) -> None:
    _, counts = measured
    planted, replaced = counts["precision"]
    assert planted >= 0.97 * replaced
    touched, harmless = counts["harmless texts touched"]
    assert touched <= 0.02 * harmless


def test_without_redaction_the_search_finds_everything(tmp_path: Path) -> None:
    corpus = redaction.make_corpus(SEED, FIRST_SET, each=1)
    redaction.read(corpus, tmp_path, SEED, redacted=False)
    left = redaction.left_over(corpus, tmp_path / "plain")
    assert [plant for plant in corpus.plants if not set(plant.value.pieces) & left] == []


@pytest.mark.parametrize("said", ["hunter2-Horse", "hunter2-\n  Horse", "aHVudGVyMi1Ib3JzZQ==", "hunter2%2DHorse", "68756e746572322d486f727365"])
def test_the_search_knows_disguises(said: str) -> None:
    search = searching.Search(["hunter2-Horse"], {"hunter2-Horse"})
    assert search.left(f"x = '{said}'") == {"hunter2-Horse"}
    assert search.left("x = 'hunter3'") == set()
