"""The fast leaves against the plain ones."""

import pytest
import torch
from torch import nn

from apprentice.model import presets
from apprentice.model.transformer import Attention, Transformer
from apprentice.train.leaves import BLOCK_TOKENS, LONGEST, BlockAttention, MixedLinear, block_attention, swapped


def _attention(q, k, v):
    """The definition, with every key head repeated for its query heads."""
    group = q.shape[2] // k.shape[2]
    k, v = k.repeat_interleave(group, 2), v.repeat_interleave(group, 2)
    scores = torch.einsum("bthe,bshe->bhts", q, k) / q.shape[-1] ** 0.5
    scores = scores.masked_fill(torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1), -torch.inf)
    return torch.einsum("bhts,bshe->bthe", scores.softmax(-1), v)


def _grad(tensor):
    """A copy of the gradient, which is then gone."""
    assert tensor.grad is not None
    gradient, tensor.grad = tensor.grad.clone(), None
    return gradient


@pytest.mark.parametrize("tokens", [1, 5, BLOCK_TOKENS, BLOCK_TOKENS + 1, 2 * BLOCK_TOKENS + 37])
@pytest.mark.parametrize("heads", [(9, 3), (4, 4), (6, 1)])
def test_blocks_give_the_attention_of_the_definition(tokens, heads):
    random = torch.Generator().manual_seed(tokens)
    q, k, v = (torch.randn(2, tokens, h, 16, generator=random).requires_grad_() for h in (heads[0], heads[1], heads[1]))
    wanted = _attention(q, k, v)
    upstream = torch.randn(wanted.shape, generator=random)
    gradients = torch.autograd.grad((wanted * upstream).sum(), (q, k, v))
    found = block_attention(q, k, v, torch.float32)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    for mine, theirs in zip(torch.autograd.grad((found * upstream).sum(), (q, k, v)), gradients, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-4)


def test_a_mixed_product_is_the_product_within_bfloat16():
    plain = nn.Linear(64, 48)
    x = torch.randn(3, 10, 64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    plain(x).square().sum().backward()
    wanted = [_grad(x), _grad(plain.weight), _grad(plain.bias)]
    plain.__class__ = MixedLinear
    plain(x).square().sum().backward()
    for mine, theirs in zip([_grad(x), _grad(plain.weight), _grad(plain.bias)], wanted, strict=True):
        assert mine.dtype == torch.float32
        assert ((mine - theirs).norm() / theirs.norm()).item() < 0.02


@pytest.mark.parametrize(("matmul", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.05)])
@pytest.mark.parametrize("segments", [False, True])
def test_a_model_with_swapped_leaves_computes_the_same(debug_model, matmul, tolerance, segments):
    tokens = torch.randint(0, 273, (2, 300), generator=torch.Generator().manual_seed(2))
    numbers = torch.tensor([[0] * 100 + [1] * 200, [0] * 300]) if segments else None
    with torch.no_grad():
        wanted = debug_model.logits(debug_model.hidden(tokens, segments_BT=numbers))
        with swapped(debug_model, matmul):
            found = debug_model.logits(debug_model.hidden(tokens, segments_BT=numbers))
    assert (found - wanted).abs().max().item() < tolerance * wanted.abs().max().item()


def test_names_weights_and_kinds_come_back_after_the_block(debug_model):
    before = {name: (type(module), id(module)) for name, module in debug_model.named_modules()}
    names = [name for name, _ in debug_model.named_parameters()]
    with swapped(debug_model, torch.bfloat16):
        kinds = {type(module) for module in debug_model.modules()}
        assert MixedLinear in kinds
        assert Attention not in kinds
        assert type(debug_model.lm_head) is nn.Linear
        assert [name for name, _ in debug_model.named_parameters()] == names
    assert {name: (type(module), id(module)) for name, module in debug_model.named_modules()} == before


def test_sequences_longer_than_the_longest_keep_flash_attention():
    model = Transformer(presets.debug()).initialize(0)
    layer = model.layers[0].get_submodule("self_attn")
    x = torch.randn(1, LONGEST + 1, 64, generator=torch.Generator().manual_seed(3))
    cos, sin = model._tables(torch.zeros(1, LONGEST + 1, dtype=torch.long), None, None)
    with torch.no_grad():
        wanted = layer(x, cos, sin, None)
        layer.__class__ = BlockAttention
        assert torch.equal(layer(x, cos, sin, None), wanted)
