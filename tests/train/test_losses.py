"""The loss in chunks against torch's own, values and gradients; small batches against one large one."""

import numpy as np
import pytest
import torch

from apprentice.train import losses
from apprentice.train.packing import CHANGED, LossWeights, PackingConfig, collate, pack


def _grad(tensor):
    """A copy of the gradient, which is then gone."""
    assert tensor.grad is not None
    gradient, tensor.grad = tensor.grad.clone(), None
    return gradient


def _case(count=300, width=24, words=500):
    random = torch.Generator().manual_seed(0)
    x = torch.randn(count, width, generator=random).requires_grad_()
    head = torch.nn.Linear(width, words, bias=False)
    with torch.no_grad():
        head.weight.normal_(generator=random)
    targets = torch.randint(0, words, (count,), generator=random)
    weights = torch.rand(count, generator=random)
    return x, head, targets, weights


def test_chunks_give_the_loss_and_gradients_of_cross_entropy():
    x, head, targets, weights = _case()
    losses.reference_nll(head(x), targets, weights).backward()
    wanted = (_grad(x), _grad(head.weight))
    value = losses.weighted_nll(x, head, targets, weights)
    value.backward()
    assert value.item() == pytest.approx(losses.reference_nll(head(x), targets, weights).item(), rel=1e-6)
    torch.testing.assert_close(_grad(x), wanted[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(_grad(head.weight), wanted[1], rtol=1e-4, atol=1e-4)


def test_a_factor_behind_the_loss_reaches_the_gradients():
    x, head, targets, weights = _case()
    losses.weighted_nll(x, head, targets, weights).backward()
    whole = _grad(x)
    (losses.weighted_nll(x, head, targets, weights) / 4).backward()
    torch.testing.assert_close(_grad(x), whole / 4)


def test_bfloat16_products_stay_within_their_precision():
    x, head, targets, weights = _case()
    exact = losses.weighted_nll(x, head, targets, weights)
    exact.backward()
    wanted = _grad(x)
    rough = losses.weighted_nll(x, head, targets, weights, matmul=torch.bfloat16)
    rough.backward()
    assert rough.item() == pytest.approx(exact.item(), rel=5e-3)
    # 8 bits of mantissa, and logits of size 20 move by up to 0.06 before the softmax.
    assert ((_grad(x) - wanted).norm() / wanted.norm()).item() < 0.03


def test_a_frozen_head_gets_no_gradient_and_x_does():
    x, head, targets, weights = _case()
    head.weight.requires_grad_(False)
    losses.weighted_nll(x, head, targets, weights).backward()
    assert head.weight.grad is None
    assert _grad(x).abs().sum() > 0


def test_a_head_that_is_no_plain_product_takes_the_plain_way():
    x, head, targets, weights = _case()
    swapped = torch.nn.Sequential(head)
    assert losses.weighted_nll(x, swapped, targets, weights).item() == pytest.approx(
        losses.weighted_nll(x, head, targets, weights).item(), rel=1e-6
    )


def _gradients(model, batches, table):
    total = losses.total_weight(batches, table)
    value = 0.0
    for batch in batches:
        loss = losses.batch_loss(model, batch, table, total, matmul=torch.float32)
        loss.backward()
        value += loss.item()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    return value, gradients


@pytest.mark.parametrize("form", ["stream", "rows"])
def test_eight_accumulated_batches_of_one_equal_one_batch_of_eight(debug_model, make_rows, tokenizer, form):
    table = LossWeights().table()
    sequences = pack(make_rows(24), tokenizer, PackingConfig(form=form, sequence_tokens=1100))[:8]
    assert len(sequences) == 8
    assert len({len(s) for s in sequences}) > 1
    one_by_one = _gradients(debug_model, [collate([s]) for s in sequences], table)
    at_once = _gradients(debug_model, [collate(sequences)], table)
    assert one_by_one[0] == pytest.approx(at_once[0], rel=1e-5)
    for name, gradient in at_once[1].items():
        torch.testing.assert_close(one_by_one[1][name], gradient, rtol=1e-3, atol=1e-6)


def test_packed_rows_have_the_loss_of_rows_alone(debug_model, make_rows, tokenizer):
    table = LossWeights().table()
    rows = make_rows(5)
    config = PackingConfig(form="rows", sequence_tokens=16384)
    packed = collate(pack(rows, tokenizer, config))
    assert packed.segments_BT is not None
    alone = [collate(pack([row], tokenizer, config)) for row in rows]
    total = losses.total_weight([packed], table)
    with torch.no_grad():
        together = losses.batch_loss(debug_model, packed, table, total, matmul=torch.float32).item()
        apart = sum(losses.batch_loss(debug_model, b, table, total, matmul=torch.float32).item() for b in alone)
    assert together == pytest.approx(apart, rel=1e-5)


def test_the_likelihood_of_changed_tokens_is_that_of_all_logits(debug_model, make_rows, tokenizer):
    batch = collate(pack(make_rows(3), tokenizer, PackingConfig(sequence_tokens=8192)))
    nll, at = losses.changed_nll(debug_model, batch, matmul=torch.float32)
    assert at.tolist() == (batch.kinds_BT[0, 1:] == CHANGED).tolist()
    tokens = torch.from_numpy(batch.token_ids_BT)
    with torch.no_grad():
        wanted = -debug_model(tokens)[0, :-1].log_softmax(-1)[range(len(at)), tokens[0, 1:]].numpy()[at]
    np.testing.assert_allclose(nll, wanted, rtol=1e-4)


def test_a_batch_without_changed_tokens_says_so(debug_model, make_rows, tokenizer):
    batch = collate(pack(make_rows(1), tokenizer, PackingConfig()))
    batch.kinds_BT[batch.kinds_BT == CHANGED] = 0
    assert len(losses.changed_nll(debug_model, batch, matmul=torch.float32)[0]) == 0


def _soft(count=300, width=24, words=500):
    random = torch.Generator().manual_seed(3)
    rows = torch.where(torch.rand(count, generator=random) < 0.4, torch.arange(count), -1)
    rows[rows >= 0] = torch.arange(int((rows >= 0).sum()))
    states = torch.randn(int((rows >= 0).sum()), width, generator=random)
    return losses.Soft(rows, states, torch.randn(words, width, generator=random))


def test_chunks_give_the_loss_and_gradients_where_another_model_is_meant():
    x, head, targets, weights = _case()
    soft = _soft()
    reference = losses.reference_nll(head(x), targets, weights, soft)
    reference.backward()
    wanted = (_grad(x), _grad(head.weight))
    value = losses.weighted_nll(x, head, targets, weights, soft=soft)
    value.backward()
    assert value.item() == pytest.approx(reference.item(), rel=1e-6)
    assert value.item() != pytest.approx(losses.weighted_nll(x, head, targets, weights).item(), rel=1e-4)
    torch.testing.assert_close(_grad(x), wanted[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(_grad(head.weight), wanted[1], rtol=1e-4, atol=1e-4)


def test_a_model_that_says_what_is_meant_is_not_moved():
    x, head, targets, weights = _case(count=40)
    soft = losses.Soft(torch.arange(40), x.detach(), head.weight.detach())
    losses.weighted_nll(x, head, targets, weights, soft=soft).backward()
    assert _grad(x).abs().max() < 1e-5
    assert _grad(head.weight).abs().max() < 1e-4
