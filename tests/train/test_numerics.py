"""Numerics are measured, applied and taken back."""

import math
from typing import Any, cast

import pytest
import torch

from apprentice.train import numerics
from apprentice.train.numerics import ARITHMETIC, Numerics


def _loss(model):
    tokens = torch.arange(64)[None]

    def loss_of(matmul):
        return model.hidden(tokens).square().mean()

    return loss_of


def test_the_measured_choice_is_the_fastest_that_was_tried(debug_model):
    chosen = numerics.measure(debug_model, _loss(debug_model), threads=1)
    assert chosen.seconds
    # Rounded to a ten-thousandth, two may be as fast.
    assert chosen.seconds[f"{chosen.arithmetic} x 1"] == min(chosen.seconds.values())
    assert chosen.threads == 1
    assert chosen.peak_gflops > 0.1
    assert all(p.grad is None for p in debug_model.parameters())


def test_what_is_given_is_not_varied(debug_model):
    chosen = numerics.measure(debug_model, _loss(debug_model), arithmetic="fp32-onednn", threads=1)
    assert list(chosen.seconds) == ["fp32-onednn x 1"]


def test_at_the_limit_no_further_candidate_is_begun(debug_model):
    assert len(numerics.measure(debug_model, _loss(debug_model), limit_s=0.0).seconds) == 1


def test_arithmetic_that_changes_the_loss_is_refused():
    best = (0.1, Numerics(arithmetic="bf16", threads=1))
    losses = {"bf16": 3.0, "fp32": 2.0, "fp32-onednn": 2.0}
    seconds = {"bf16 x 1": 0.1, "fp32 x 1": 0.3, "fp32-onednn x 1": 0.2}
    refused = numerics.refuse_imprecise(best, losses, seconds)
    assert refused == (0.2, Numerics(arithmetic="fp32-onednn", threads=1))
    assert numerics.refuse_imprecise(best, losses | {"bf16": 2.01}, seconds) == best
    assert numerics.refuse_imprecise(best, {"bf16": 3.0}, seconds) == best
    nan = losses | {"bf16": math.nan}
    assert numerics.refuse_imprecise(best, nan, seconds)[1].arithmetic == "fp32-onednn"


@pytest.mark.parametrize("name", ARITHMETIC)
def test_the_process_is_as_before_after_the_block(name):
    def look():
        return torch.get_num_threads(), cast(Any, torch.backends.mkldnn).matmul.fp32_precision

    before = look()
    with numerics.applied(Numerics(arithmetic=name, threads=1)):
        assert torch.get_num_threads() == 1
    assert look() == before


def test_fixed_numerics_are_the_same_every_time_and_take_what_is_given():
    assert numerics.fixed() == numerics.fixed()
    assert numerics.fixed("fp32", 3) == Numerics(arithmetic="fp32", threads=3)


def test_the_allocator_can_be_tuned_twice():
    numerics.tune_process()
    numerics.tune_process()
    numerics.trim_memory()
    assert torch.ones(1000, 1000).sum().item() == 1e6
