from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from apprentice.core.errors import InternalError
from apprentice.core.fakes import ByteTokenizer
from apprentice.examples.checks.likelihood import likelihood, marked_tokens
from apprentice.text.edits import END_MARK, Span, join, render_target

LN2 = math.log(2)
END_CHARS = len("\n" + END_MARK)


def _bpe() -> tokenizers.Tokenizer:
    """A byte-level BPE that merges across the borders of changes, as real ones do."""
    model = tokenizers.Tokenizer(tokenizers.models.BPE())
    model.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=600, show_progress=False, initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet()
    )
    model.train_from_iterator(["f(a, b)\n    return x\n>>>>>>> after", "f(a)", "x = f(a, b)):\n"] * 50, trainer)
    return model


BPE = _bpe()


def _slow(target: str, spans: Sequence[Span], tokens: Sequence[tuple[int, int]], log_probs: Sequence[float]) -> tuple[float, int]:
    """Character by character, no prefix sums."""
    changed = {i for span in spans if span.kind == "changed" for i in range(span.start, span.end)}
    bits = 0.0
    for (start, end), log_prob in zip(tokens, log_probs, strict=True):
        if any(i in changed for i in range(start, end)):
            bits -= log_prob / LN2
    return bits, len(changed)


def test_by_hand_one_changed_word_of_byte_tokens() -> None:
    target, spans = join(render_target(["f(a)"], ["f(a, b)"]))
    assert target == "\nf(a, b)\n>>>>>>> after"
    _, offsets = ByteTokenizer().encode_with_offsets(target)
    log_probs = [-LN2 * (i + 1) for i in range(len(offsets))]
    found = likelihood(spans, offsets, log_probs)
    # Characters 4, 5, 6 (", b") are changed: bits 5 + 6 + 7.
    assert (found.changed_bits, found.changed_chars) == (pytest.approx(18.0), 3)
    assert found.target_bits == pytest.approx(sum(range(1, len(target) + 1)))
    assert found.target_chars == 8 + END_CHARS == len(target)


def test_a_token_that_straddles_a_border_counts_whole() -> None:
    spans = [Span(0, 3, "copied"), Span(3, 5, "changed"), Span(5, 9, "copied"), Span(9, 12, "end")]
    offsets = [(0, 2), (2, 4), (4, 7), (7, 12)]
    found = likelihood(spans, offsets, [-1 * LN2, -2 * LN2, -4 * LN2, -8 * LN2])
    assert (found.changed_bits, found.changed_chars) == (pytest.approx(6.0), 2)


def test_a_token_of_changed_text_and_end_mark_counts_whole_and_the_end_mark_alone_does_not() -> None:
    spans = [Span(0, 2, "changed"), Span(2, 6, "end")]
    found = likelihood(spans, [(0, 1), (1, 4), (4, 6)], [-1 * LN2, -2 * LN2, -4 * LN2])
    assert (found.changed_bits, found.changed_chars, found.target_bits) == (pytest.approx(3.0), 2, pytest.approx(7.0))


def test_bytes_of_one_character_count_all_and_the_character_counts_once() -> None:
    target, spans = join(render_target(["s = 'a'"], ["s = 'a😀ü'"]))
    _, offsets = ByteTokenizer().encode_with_offsets(target)
    found = likelihood(spans, offsets, [-LN2] * len(offsets))
    assert found.changed_chars == 2
    assert found.changed_bits == pytest.approx(4 + 2)
    assert found.target_chars == len(target)


def test_a_pure_deletion_adds_to_neither_side() -> None:
    target, spans = join(render_target(["a", "b"], []))
    _, offsets = ByteTokenizer().encode_with_offsets(target)
    found = likelihood(spans, offsets, [-LN2] * len(offsets))
    assert found.is_pure_deletion
    assert (found.changed_bits, found.changed_chars) == (0.0, 0)
    assert found.target_bits == pytest.approx(END_CHARS)


def test_a_deletion_inside_a_line_is_a_pure_deletion_too() -> None:
    _, spans = join(render_target(["x = f(a, b)"], ["x = f(a)"]))
    assert not any(span.kind == "changed" for span in spans)


def test_a_pure_insertion_is_all_changed_but_the_end_mark() -> None:
    target, spans = join(render_target([], ["import os", ""]))
    assert [(s.kind, target[s.start : s.end]) for s in spans] == [("changed", "\nimport os\n"), ("end", "\n" + END_MARK)]


def test_indentation_carried_over_is_not_changed() -> None:
    target, spans = join(render_target(["    return a"], ["    return b"]))
    assert [target[s.start : s.end] for s in spans if s.kind == "changed"] == ["b"]


def test_offsets_that_leave_out_blanks_give_them_to_the_token_behind() -> None:
    # " foo" reported as (1, 4), as tokenizers with trimmed offsets do; the blank alone is changed.
    spans = [Span(0, 1, "changed"), Span(1, 4, "copied")]
    assert marked_tokens(spans, [(1, 4)]) == [True]


@pytest.mark.parametrize("bad", [math.nan, -math.inf, 0.5])
def test_a_number_that_is_no_log_probability_is_refused(bad: float) -> None:
    with pytest.raises(InternalError):
        likelihood([Span(0, 1, "changed")], [(0, 1)], [bad])


_LINES = st.lists(st.text(alphabet="ab(), =xyz\tü😀é\u0301", max_size=8), max_size=4)


@settings(max_examples=200, deadline=None)
@given(old=_LINES, new=_LINES, seed=st.integers(0, 99))
def test_equals_the_slow_reference_on_real_merges(old: list[str], new: list[str], seed: int) -> None:
    target, spans = join(render_target(old, new))
    encoding = BPE.encode(target, add_special_tokens=False)
    log_probs = [-((i * 37 + seed) % 11) / 3 for i in range(len(encoding.ids))]
    found = likelihood(spans, encoding.offsets, log_probs)
    bits, chars = _slow(target, spans, encoding.offsets, log_probs)
    assert (found.changed_bits, found.changed_chars) == (pytest.approx(bits), chars)
    assert found.target_bits == pytest.approx(-sum(log_probs) / LN2)


def test_the_bpe_of_these_tests_does_merge_across_borders() -> None:
    target, spans = join(render_target(["f(a)"], ["f(a, b)"]))
    encoding = BPE.encode(target, add_special_tokens=False)
    borders = {span.start for span in spans}
    assert any(start < border < end for border in borders for start, end in encoding.offsets)
