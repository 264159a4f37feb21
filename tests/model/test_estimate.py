import dataclasses

import pytest
import torch

from apprentice.model import estimate, presets
from apprentice.model.estimate import GIB, Machine
from apprentice.model.transformer import Transformer

MACHINE = Machine(gflops=200.0)
SMOLLM2 = presets.smollm2_135m()


def test_forward_operations_are_twice_the_parameters_and_attention() -> None:
    hand_counted = 2 * (30 * (2 * 576 * 64 * 12 + 3 * 576 * 1536)) + 2 * 2 * 512 * 9 * 64 * 30
    assert estimate.forward_flops(SMOLLM2, 1, 1024, 0) == hand_counted
    head = estimate.forward_flops(SMOLLM2, 0, 1024, 1)
    assert head == 2 * 49152 * 576


def test_less_to_learn_takes_less_time_and_memory() -> None:
    seconds = [estimate.training_seconds(SMOLLM2, 10_000, 768, MACHINE, weights=w) for w in ("full", "upper")]
    assert seconds[0] > seconds[1]
    full, upper, lora = (estimate.training_bytes(SMOLLM2, 768, weights=w) for w in ("full", "upper", "lora"))
    assert full > upper
    assert full > lora


def test_memory_for_training_is_what_pilots_measured() -> None:
    assert 3.0 * GIB < estimate.training_bytes(SMOLLM2, 768, head_share=0.3) < 4.0 * GIB


def test_activations_are_those_that_backward_keeps() -> None:
    """Counted by hooks on a model of one more layer."""
    kept = []
    for num_layers in (2, 3):
        model = Transformer(dataclasses.replace(presets.debug(), num_layers=num_layers, hidden_size=128))
        own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
        seen: dict[int, int] = {}

        def note(tensor: torch.Tensor, seen: dict[int, int] = seen) -> torch.Tensor:
            seen[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            hidden = model.hidden(torch.zeros(1, 128, dtype=torch.long))
        kept.append(sum(size for place, size in seen.items() if place not in own))
        del hidden
    config = dataclasses.replace(presets.debug(), hidden_size=128)
    one_layer = [
        estimate.training_bytes(dataclasses.replace(config, num_layers=n), 128, head_share=0.0)
        - estimate.FLOAT * 4 * dataclasses.replace(config, num_layers=n).num_parameters
        for n in (2, 3)
    ]
    assert one_layer[1] - one_layer[0] == pytest.approx(kept[1] - kept[0], rel=0.3)


def test_generation_is_bound_by_reading_the_weights() -> None:
    full = estimate.generation_tokens_per_second(SMOLLM2, MACHINE)
    packed = estimate.generation_tokens_per_second(SMOLLM2, MACHINE, bits_per_weight=4.5)
    assert 30 < full < 40
    assert packed > 5 * full
    assert estimate.generation_tokens_per_second(SMOLLM2, MACHINE, batch=4) > 3 * full


def test_keys_and_values_take_46_kib_a_token() -> None:
    assert estimate.kv_cache_bytes(SMOLLM2, 1) == 46_080


def test_the_largest_base_within_time_and_memory_is_recommended() -> None:
    bases = presets.known_bases()
    much = estimate.largest_that_fits(bases, Machine(gflops=1e6, memory_gib=1e4), tokens=10**5, budget_s=3600)
    assert much == max(bases, key=lambda name: bases[name].num_parameters)
    some = estimate.largest_that_fits(bases, MACHINE, tokens=72_000, budget_s=1800)
    assert some is not None
    assert bases[some].num_parameters < 10**9
    assert estimate.largest_that_fits(bases, MACHINE, tokens=72_000, budget_s=1) is None


def test_a_scoring_run_is_estimated_without_backward() -> None:
    scoring = estimate.scoring_seconds(SMOLLM2, 10_000, 768, 0, MACHINE)
    training = estimate.training_seconds(SMOLLM2, 10_000, 768, MACHINE, head_share=0.0)
    assert training == pytest.approx(3 * scoring)
