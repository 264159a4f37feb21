"""Which point of the held-out curve is kept."""

import math

import numpy as np
import pytest
import torch

from apprentice.train.heldout import MIN_EDITS, Curve, HeldOut, measure
from apprentice.train.packing import PackingConfig, pack


def _point(step, nats):
    return HeldOut(step=step, bits=sum(nats) / 100 / math.log(2), num_tokens=100, elapsed_s=0.0, seconds=1.0, nats=list(nats))


def _best_step(curve):
    best = curve.best()
    assert best is not None
    return best.step


def _noise(size, seed):
    return np.random.default_rng(seed).normal(size=200) * size


BASE = np.full(200, 2.0)


def test_an_empty_curve_has_no_best_point():
    assert Curve().best() is None
    assert Curve().stale() == 0


def test_a_later_point_within_the_noise_is_kept():
    curve = Curve([_point(0, BASE), _point(10, BASE - 0.5 + _noise(0.3, 1)), _point(20, BASE - 0.499 + _noise(0.3, 2))])
    assert _best_step(curve) == 20
    assert curve.stale() == 0


def test_a_later_point_that_is_clearly_worse_is_not():
    curve = Curve([_point(0, BASE), _point(10, BASE - 0.5 + _noise(0.3, 1)), _point(20, BASE - 0.2 + _noise(0.3, 2))])
    assert _best_step(curve) == 10
    assert curve.stale() == 1


def test_the_base_is_kept_when_all_training_harms():
    curve = Curve([_point(0, BASE), *(_point(step, BASE + 0.1 * step + _noise(0.1, step)) for step in (1, 2, 3))])
    assert _best_step(curve) == 0
    assert curve.stale() == 3


def test_few_edits_prove_nothing():
    for count, best in ((1, 10), (MIN_EDITS - 1, 10), (MIN_EDITS, 0)):
        curve = Curve([_point(0, [1.0] * count), _point(10, [1.5] * count)])
        assert _best_step(curve) == best


@pytest.mark.parametrize("seed", range(20))
def test_the_best_point_is_the_newest_or_was_the_best_before(seed):
    """Else its weights would be gone when they are wanted."""
    rng = np.random.default_rng(seed)
    curve, kept = Curve(), None
    for step in range(12):
        curve.points.append(_point(step, BASE + rng.normal() * 0.02 + _noise(0.3, 100 * seed + step)))
        best = curve.best()
        assert best is kept or best is curve.points[-1]
        kept = best


def test_a_measurement_sums_by_edit(debug_model, make_rows, tokenizer):
    rows = make_rows(6)
    sequences = pack(rows, tokenizer, PackingConfig(sequence_tokens=900))
    point = measure(debug_model, sequences, matmul=torch.float32, step=3, elapsed_s=1.0)
    assert point is not None
    assert (point.step, len(point.nats)) == (3, 6)
    assert point.bits == pytest.approx(sum(point.nats) / point.num_tokens / math.log(2))
    # Random weights know nothing: about a uniform guess among 273 tokens.
    assert point.bits == pytest.approx(np.log2(273), abs=0.6)


def test_without_changed_tokens_there_is_no_point(debug_model, make_rows, tokenizer):
    row = make_rows(1)[0]
    row.spans = [(a, b, "copied" if kind == "changed" else kind) for a, b, kind in row.spans]
    assert measure(debug_model, pack([row], tokenizer, PackingConfig()), matmul=torch.float32, step=0, elapsed_s=0.0) is None
