"""Nothing is lost between rows and sequences, and nothing sees what it must not."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apprentice.core.fakes import ByteTokenizer
from apprentice.train.packing import (
    CHANGED,
    CONTEXT,
    KINDS,
    LossWeights,
    PackingConfig,
    collate,
    pack,
    row_tokens,
)

PIECES = st.lists(
    st.tuples(st.sampled_from(KINDS[1:]), st.text("ab \n\u00e9\u4e16", min_size=1, max_size=40)), min_size=1, max_size=8
)


def _row(prompt, target, kind="next_edit"):
    text, spans = "", []
    for name, piece in [*prompt, *target]:
        spans.append((len(text), len(text) + len(piece), name))
        text += piece
    border = sum(len(piece) for _, piece in prompt)
    return SimpleNamespace(kind=kind, prompt=text[:border], target=text[border:], spans=spans)


@settings(max_examples=200, deadline=None)
@given(
    rows=st.lists(st.tuples(PIECES, PIECES, st.sampled_from(["next_edit", "completion"])), min_size=1, max_size=8),
    length=st.integers(32, 120), form=st.sampled_from(["stream", "rows"]), seed=st.none() | st.integers(0, 9),
)
def test_sequences_hold_every_token_and_its_kind_once_and_in_order(rows, length, form, seed):
    config = PackingConfig(form=form, sequence_tokens=length)
    made = [_row(*row) for row in rows]
    expected = [row_tokens(row, ByteTokenizer(), config) for row in made]
    sequences = pack(made, ByteTokenizer(), config, seed=seed)

    token_ids = np.concatenate([s.token_ids_T for s in sequences])
    kinds = np.concatenate([s.kinds_T for s in sequences])
    numbers = np.concatenate([s.rows_T for s in sequences])
    own = kinds != CONTEXT
    assert token_ids[own].tolist() == np.concatenate([t.token_ids for t in expected]).tolist()
    assert kinds[own].tolist() == np.concatenate([t.kinds for t in expected]).tolist()
    assert numbers[own].tolist() == [i for i, t in enumerate(expected) for _ in t.token_ids]
    assert all(len(s) <= length for s in sequences)


@settings(max_examples=100, deadline=None)
@given(
    rows=st.lists(st.tuples(PIECES, PIECES), min_size=1, max_size=8), length=st.integers(32, 120),
    form=st.sampled_from(["stream", "rows"]),
)
def test_no_weight_is_lost_at_the_borders_of_sequences_and_batches(rows, length, form):
    config = PackingConfig(form=form, sequence_tokens=length)
    made = [_row(*row) for row in rows]
    table = LossWeights(copied=0.3, end=2.0).table()
    wanted = sum(table[row_tokens(row, ByteTokenizer(), config).kinds].sum() for row in made)
    batch = collate(pack(made, ByteTokenizer(), config))
    # The first token of a sequence is predicted from nothing.
    assert table[batch.kinds_BT[:, 1:]].sum() == pytest.approx(wanted, rel=1e-5)
    # Nor may a token be predicted from another segment.
    if batch.segments_BT is not None:
        crossing = batch.segments_BT[:, 1:] != batch.segments_BT[:, :-1]
        assert not (table[batch.kinds_BT[:, 1:]] * crossing).any()


def test_a_stream_is_one_segment_and_rows_are_apart(make_rows, tokenizer):
    rows = make_rows(6)
    stream = pack(rows, tokenizer, PackingConfig(sequence_tokens=4096))
    apart = pack(rows, tokenizer, PackingConfig(form="rows", sequence_tokens=32768))
    assert [s.segments_T.max() for s in stream] == [0]
    assert [sorted(set(s.segments_T.tolist())) for s in apart] == [[0, 1, 2, 3, 4, 5]]
    assert collate(stream).segments_BT is None


def test_padding_is_a_tail_without_loss(make_rows, tokenizer):
    sequences = pack(make_rows(5), tokenizer, PackingConfig(sequence_tokens=900))
    batch = collate(sequences)
    assert len(sequences) > 1
    for kinds_T, sequence in zip(batch.kinds_BT, sequences, strict=True):
        assert kinds_T[: len(sequence)].tolist() == sequence.kinds_T.tolist()
        assert (kinds_T[len(sequence) :] == CONTEXT).all()
    assert batch.num_tokens == sum(map(len, sequences))


def test_the_stream_leaves_out_latest_edits_and_far_lines(make_rows, tokenizer):
    row = make_rows(4)[-1]
    assert any(kind == "recent" for _, _, kind in row.spans)
    text = tokenizer.decode(row_tokens(row, tokenizer, PackingConfig(above_lines=2, below_lines=1)).token_ids.tolist())
    above = [row.prompt[a:b] for a, b, kind in row.spans if kind == "above"][-1].splitlines()
    below = [row.prompt[a:b] for a, b, kind in row.spans if kind == "below"][-1].splitlines()
    assert text.splitlines() == [
        "# src/made.py, below the edit", below[0], "# src/made.py", *above[-2:], "<<<<<<< before",
        *row.prompt.split("<<<<<<< before\n")[-1].splitlines(), *row.target.splitlines()[1:],
    ]


def test_without_lines_below_their_heading_goes_too(make_rows, tokenizer):
    row = make_rows(1)[0]
    text = tokenizer.decode(row_tokens(row, tokenizer, PackingConfig(below_lines=0)).token_ids.tolist())
    assert "below the edit" not in text
    assert text.startswith("# src/made.py\n")


def test_windows_are_bounded_by_tokens_too(make_rows, tokenizer):
    row = make_rows(1)[0]
    tokens = row_tokens(row, tokenizer, PackingConfig(above_lines=99, below_lines=99, window_tokens=60))
    for kind in ("above", "below"):
        assert 0 < (tokens.kinds == KINDS.index(kind)).sum() <= 60


def test_a_cursor_inside_a_line_stays_in_the_window(make_rows, tokenizer):
    row = make_rows(3, kind="completion")[-1]
    config = PackingConfig(above_lines=0, below_lines=0)
    text = tokenizer.decode(row_tokens(row, tokenizer, config).token_ids.tolist())
    assert text == "# src/made.py\n" + row.prompt.splitlines()[-1] + row.target + "\n"


def test_a_row_longer_than_a_sequence_goes_on_behind_a_repeated_stretch(make_rows, tokenizer):
    row = make_rows(1)[0]
    config = PackingConfig(sequence_tokens=100)
    sequences = pack([row], tokenizer, config)
    assert len(sequences) > 2
    whole = row_tokens(row, tokenizer, config).token_ids.tolist()
    for sequence in sequences[1:]:
        repeated = sequence.token_ids_T[1:][sequence.kinds_T[1:] == CONTEXT].tolist()
        text = sequence.token_ids_T[1:].tolist()
        assert len(repeated) >= 16
        assert any(whole[i : i + len(text)] == text for i in range(len(whole)))


def test_a_token_that_overlaps_a_changed_character_counts_as_changed():
    class PairTokenizer(ByteTokenizer):
        """Two characters are a token."""

        def encode_with_offsets(self, text):
            return [1] * ((len(text) + 1) // 2), [(i, min(i + 2, len(text))) for i in range(0, len(text), 2)]

    row = _row([("path", "ab")], [("copied", "a"), ("changed", "b"), ("copied", "cd"), ("end", "e"), ("copied", "f")])
    kinds = row_tokens(row, PairTokenizer(), PackingConfig(form="rows")).kinds
    assert [KINDS[k] for k in kinds] == ["path", "changed", "copied", "end"]


def test_seeds_cut_a_stream_at_different_places(make_rows, tokenizer):
    config = PackingConfig(sequence_tokens=800)
    first = {len(pack(make_rows(8), tokenizer, config, seed=seed)[0]) for seed in range(8)}
    assert len(first) > 1
    again = [pack(make_rows(8), tokenizer, config, seed=3)[0].token_ids_T.tolist() for _ in range(2)]
    assert again[0] == again[1]


def test_overlapping_or_unknown_spans_are_refused():
    for spans in ([(0, 3, "changed"), (2, 4, "copied")], [(0, 4, "nonsense")]):
        row = SimpleNamespace(kind="next_edit", prompt="ab", target="cd", spans=spans)
        with pytest.raises(ValueError, match="span"):
            row_tokens(row, ByteTokenizer(), PackingConfig())


def test_characters_without_a_span_are_context_and_carry_nothing():
    row = SimpleNamespace(kind="next_edit", prompt="abcd", target="ef", spans=[(4, 5, "changed")])
    tokens = row_tokens(row, ByteTokenizer(), PackingConfig(form="rows"))
    assert tokens.kinds.tolist() == [CONTEXT] * 4 + [CHANGED, CONTEXT]
    assert LossWeights().table()[CONTEXT] == 0


@pytest.mark.parametrize("bad", [{"changed": -1.0}, {"end": float("nan")}])
def test_weights_that_are_no_weights_are_refused(bad):
    with pytest.raises(ValueError, match="must be 0 or more"):
        LossWeights(**bad)
