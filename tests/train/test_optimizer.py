"""The schedule by progress, and AdamW against its formula."""

import math

import pytest
import torch
from torch import nn

from apprentice.train.optimizer import Optimizer, OptimizerConfig, learning_rate


def test_the_rate_rises_falls_and_ends():
    config = OptimizerConfig(lr=1.0, warmup=0.1, final_lr=0.2)
    assert [learning_rate(config, p) for p in (0.0, 0.05, 0.1, 0.55, 1.0)] == pytest.approx([0.0, 0.5, 1.0, 0.6, 0.2])


def test_without_warmup_the_rate_starts_at_its_height():
    assert learning_rate(OptimizerConfig(lr=1.0, warmup=0.0), 0.0) == 1.0


def _parameters():
    random = torch.Generator().manual_seed(0)
    return {
        "matrix": nn.Parameter(torch.randn(5, 4, generator=random)), "vector": nn.Parameter(torch.randn(6, generator=random)),
        "frozen": nn.Parameter(torch.ones(2), requires_grad=False),
    }


def test_steps_follow_the_formula_of_adamw():
    config = OptimizerConfig(weight_decay=0.1, max_grad_norm=0.5, beta2=0.99)
    parameters = _parameters()
    expected = {name: p.detach().clone().double() for name, p in parameters.items()}
    means = {name: torch.zeros_like(p) for name, p in expected.items()}
    squares = {name: torch.zeros_like(p) for name, p in expected.items()}
    optimizer = Optimizer(parameters.items(), config)
    for step in range(1, 6):
        random = torch.Generator().manual_seed(step)
        for name in ("matrix", "vector"):
            parameters[name].grad = torch.randn(parameters[name].shape, generator=random)
        raw = {}
        for name in ("matrix", "vector"):
            gradient = parameters[name].grad
            assert gradient is not None
            raw[name] = gradient.double()
        norm = torch.cat([g.flatten() for g in raw.values()]).norm()
        lr = 0.01 * step
        assert optimizer.step(lr) == pytest.approx(norm.item(), rel=1e-5)
        for name, gradient in raw.items():
            gradient = gradient * min(1.0, 0.5 / norm.item())
            means[name] = 0.9 * means[name] + 0.1 * gradient
            squares[name] = 0.99 * squares[name] + 0.01 * gradient**2
            decay = 0.1 if name == "matrix" else 0.0
            update = (means[name] / (1 - 0.9**step)) / ((squares[name] / (1 - 0.99**step)).sqrt() + 1e-8)
            expected[name] = expected[name] * (1 - lr * decay) - lr * update
    for name, parameter in parameters.items():
        torch.testing.assert_close(parameter.detach().double(), expected[name], rtol=1e-4, atol=1e-5)


def test_a_gradient_that_is_no_number_changes_nothing():
    parameters = _parameters()
    before = parameters["matrix"].detach().clone()
    optimizer = Optimizer(parameters.items(), OptimizerConfig())
    parameters["matrix"].grad = torch.full((5, 4), float("nan"))
    assert math.isnan(optimizer.step(0.1))
    assert torch.equal(parameters["matrix"], before)


def test_a_loaded_state_goes_on_as_if_nothing_had_been():
    def gradients(parameters, step):
        for name in ("matrix", "vector"):
            parameters[name].grad = torch.randn(parameters[name].shape, generator=torch.Generator().manual_seed(step))

    straight, first = _parameters(), _parameters()
    whole, part = Optimizer(straight.items(), OptimizerConfig()), Optimizer(first.items(), OptimizerConfig())
    for step in range(6):
        gradients(straight, step)
        whole.step(0.01)
        if step < 3:
            gradients(first, step)
            part.step(0.01)
    state = {name: tensor.clone() for name, tensor in part.state().items()}
    resumed = Optimizer(first.items(), OptimizerConfig())
    resumed.load(state)
    for step in range(3, 6):
        gradients(first, step)
        resumed.step(0.01)
    assert all(torch.equal(straight[name], first[name]) for name in straight)


@pytest.mark.parametrize("bad", [{"lr": 0.0}, {"lr": 2.0}, {"warmup": 1.0}, {"beta2": 1.5}, {"max_grad_norm": 0.0}])
def test_values_out_of_range_are_refused(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        OptimizerConfig(**bad)
