"""Previews against the real thing."""

import dataclasses

import pytest

from apprentice.model import weights
from apprentice.model.transformer import Transformer
from apprentice.train.loop import LoopConfig
from apprentice.train.packing import PackingConfig
from apprentice.train.preview import PROCESS_GIB, preview
from apprentice.train.sft import SftConfig


def test_a_budget_becomes_steps(debug_base):
    config = SftConfig(threads=1, arithmetic="fp32", packing=PackingConfig(sequence_tokens=512))
    found = preview(debug_base, config, budget_s=60.0)
    assert found.parameters == sum(p.numel() for p in weights.load(debug_base).parameters())
    assert found.step_s >= 0
    assert found.steps is not None
    assert found.tokens == 512 * found.steps
    assert preview(debug_base, config, steps=7, budget_s=60.0).steps == 7
    assert preview(debug_base, config).steps is None


def test_more_is_dearer(tmp_path, debug_base, debug_model):
    wide = Transformer(dataclasses.replace(debug_model.config, hidden_size=512, intermediate_size=2048, num_layers=8))
    weights.save(wide.initialize(0), tmp_path / "wide")
    plain = SftConfig(threads=1, arithmetic="fp32")
    long = SftConfig(threads=1, arithmetic="fp32", packing=PackingConfig(sequence_tokens=4096))
    adapters = SftConfig(threads=1, arithmetic="fp32", weights="lora")
    found = [preview(tmp_path / "wide", config, steps=3) for config in (plain, long, adapters)]
    assert found[1].memory_gib > found[0].memory_gib > found[2].memory_gib > PROCESS_GIB
    tokens = [(one.tokens or 0) // 3 for one in found]
    assert tokens[1] == 4096 > 5 * tokens[0] == 5 * tokens[2]
    # A step takes as long as its tokens at the speed that was measured, which differs from one moment to the next.
    assert [one.step_s * one.tokens_per_s for one in found] == pytest.approx(tokens, rel=0.05)
    assert preview(debug_base, plain).memory_gib < found[0].memory_gib


def test_accumulating_costs_time_and_no_memory(tmp_path, debug_model):
    wide = Transformer(dataclasses.replace(debug_model.config, hidden_size=256, num_layers=8))
    weights.save(wide.initialize(0), tmp_path / "wide")
    one, four = (preview(tmp_path / "wide", SftConfig(threads=1, loop=LoopConfig(accumulate=n)), steps=3) for n in (1, 4))
    assert four.memory_gib == one.memory_gib
    assert one.tokens is not None
    assert four.tokens is not None
    assert four.tokens == 4 * one.tokens
    assert four.step_s * four.tokens_per_s == pytest.approx(four.tokens / 3, rel=0.1)
