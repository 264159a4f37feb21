"""One forward pass equals another: with a cache, packed, in blocks."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from apprentice.model import attention, rope
from apprentice.model.attention import Piece, attend, find_pieces
from apprentice.model.presets import debug
from apprentice.model.transformer import Transformer, rotate


def some_tokens(model: Transformer, length: int, rows: int = 2) -> torch.Tensor:
    return torch.randint(0, model.config.vocab_size, (rows, length), generator=torch.Generator().manual_seed(3))


@torch.no_grad()
@pytest.mark.parametrize("cuts", [[50, 51, 60, 200], [1, 2, 3, 130, 200], [200]])
def test_reading_in_pieces_with_a_cache_equals_reading_at_once(model: Transformer, cuts: list[int]) -> None:
    tokens_BT = some_tokens(model, 200)
    expected = model(tokens_BT)
    caches = [model.new_cache(200) for _ in range(2)]
    parts, start = [], 0
    for end in cuts:
        parts.append(model.hidden(tokens_BT[:, start:end], cache=caches))
        start = end
    assert torch.allclose(model.logits(torch.cat(parts, 1)), expected, atol=1e-5)
    assert [cache.length for cache in caches] == [200, 200]


@torch.no_grad()
def test_a_truncated_cache_goes_on_as_if_nothing_had_been_behind(model: Transformer) -> None:
    tokens_BT = some_tokens(model, 90, rows=1)
    cache = model.new_cache(120)
    model.hidden(tokens_BT[:, :60], cache=[cache])
    model.hidden(some_tokens(model, 60, rows=1).flip(1), cache=[cache])
    cache.truncate(60)
    rest = model.hidden(tokens_BT[:, 60:], cache=[cache])
    assert torch.allclose(rest, model.hidden(tokens_BT)[:, 60:], atol=1e-5)


def test_a_cache_never_holds_more_than_its_capacity(debug_model: Transformer) -> None:
    cache = debug_model.new_cache(10)
    with pytest.raises(ValueError, match="10 tokens cannot hold 11"):
        debug_model.hidden(some_tokens(debug_model, 11, rows=1), cache=[cache])


@torch.no_grad()
def test_packed_sequences_do_not_see_each_other(model: Transformer) -> None:
    tokens_BT = some_tokens(model, 200)
    segments_BT = torch.zeros(2, 200, dtype=torch.long)
    segments_BT[0, 70:] = 1
    segments_BT[1, 130:150], segments_BT[1, 150:] = 4, 1
    packed = model.hidden(tokens_BT, segments_BT=segments_BT)
    for row, start, end in ((0, 0, 70), (0, 70, 200), (1, 0, 130), (1, 130, 150), (1, 150, 200)):
        alone = model.hidden(tokens_BT[row : row + 1, start:end])[0]
        assert torch.allclose(packed[row, start:end], alone, atol=1e-5)


@torch.no_grad()
def test_sequences_with_caches_can_share_a_row(debug_model: Transformer) -> None:
    tokens_BT = some_tokens(debug_model, 40)
    caches = [debug_model.new_cache(40) for _ in range(2)]
    debug_model.hidden(tokens_BT[:1, :30], cache=caches[:1])
    mixed = torch.cat([tokens_BT[:1, 30:], tokens_BT[1:]], 1)
    pieces = [Piece(0, 0, 10, caches[0]), Piece(0, 10, 50, caches[1])]
    together = debug_model.hidden(mixed, pieces=pieces)[0]
    assert torch.allclose(together[:10], debug_model.hidden(tokens_BT)[0, 30:], atol=1e-5)
    assert torch.allclose(together[10:], debug_model.hidden(tokens_BT)[1], atol=1e-5)


@torch.no_grad()
def test_positions_can_be_given(debug_model: Transformer) -> None:
    tokens_BT = some_tokens(debug_model, 20)
    positions_BT = torch.arange(100, 120)[None].expand(2, -1)
    shifted = debug_model.hidden(tokens_BT, positions_BT=positions_BT)
    assert torch.allclose(shifted, debug_model.hidden(tokens_BT), atol=1e-4), "rotary positions are relative"
    stretched = debug_model.hidden(tokens_BT, positions_BT=2 * positions_BT)
    assert not torch.allclose(stretched, shifted, atol=1e-3)


def test_runs_of_equal_numbers_are_pieces() -> None:
    pieces = find_pieces(torch.tensor([[0, 0, 1], [2, 0, 0]]))
    assert [(p.row, p.start, p.end) for p in pieces] == [(0, 0, 2), (0, 2, 3), (1, 0, 1), (1, 1, 3)]


def queries_and_keys(length: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(1)

    def make(heads: int) -> torch.Tensor:
        return torch.randn(2, length, heads, 16, dtype=torch.float64, generator=random).to(dtype).requires_grad_()

    return make(6), make(2), make(2)


def plain_attention(q_BTHE: torch.Tensor, k_BTKE: torch.Tensor, v_BTKE: torch.Tensor) -> torch.Tensor:
    """The formula, head by head."""
    length, group = q_BTHE.shape[1], q_BTHE.shape[2] // k_BTKE.shape[2]
    k_BTHE, v_BTHE = k_BTKE.repeat_interleave(group, 2), v_BTKE.repeat_interleave(group, 2)
    scores = torch.einsum("bthe,bshe->bhts", q_BTHE, k_BTHE) / 4
    scores = scores.masked_fill(torch.ones(length, length, dtype=torch.bool).triu(1), -torch.inf)
    return torch.einsum("bhts,bshe->bthe", scores.softmax(-1), v_BTHE)


@pytest.mark.parametrize("length", [1, 5, attention.BLOCK_TOKENS, attention.BLOCK_TOKENS + 1, 300])
def test_blocked_attention_and_its_gradients_are_those_of_the_formula(length: int) -> None:
    inputs = queries_and_keys(length, torch.float64)
    ours, expected = attend(*inputs, layer=0, pieces=None), plain_attention(*inputs)
    assert torch.allclose(ours, expected, atol=1e-12)
    weight = torch.randn(ours.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    for a, b in zip(
        torch.autograd.grad((ours * weight).sum(), inputs),
        torch.autograd.grad((expected * weight).sum(), inputs),
        strict=True,
    ):
        assert torch.allclose(a, b, atol=1e-12)


def test_long_sequences_give_the_same_through_the_fused_operator() -> None:
    inputs = queries_and_keys(attention.MAX_BLOCKED_TOKENS + 8, torch.float32)
    assert torch.allclose(attend(*inputs, layer=0, pieces=None), plain_attention(*inputs), atol=1e-5)


def test_bfloat16_products_change_gradients_by_rounding_only(debug_model: Transformer) -> None:
    tokens_BT = some_tokens(debug_model, 150)

    def gradient() -> torch.Tensor:
        debug_model.zero_grad()
        logits = debug_model.logits(debug_model.hidden(tokens_BT))[:, :-1]
        functional.cross_entropy(logits.flatten(0, 1).float(), tokens_BT[:, 1:].flatten()).backward()
        return torch.cat([p.grad.flatten() for p in debug_model.parameters() if p.grad is not None])

    exact = gradient()
    with torch.autocast("cpu", torch.bfloat16):
        rounded = gradient()
    assert (rounded - exact).norm() < 0.03 * exact.norm()


def test_initial_weights_depend_on_the_seed_alone() -> None:
    first, again, other = (Transformer(debug()).initialize(seed) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not torch.equal(first.embed_tokens.weight, other.embed_tokens.weight)


def test_rotation_turns_each_plane_by_position_times_frequency() -> None:
    config = debug()
    radians, factor = rope.frequencies(config)
    assert factor == 1.0
    assert radians[0] == 1.0
    cos_SE, sin_SE = (torch.from_numpy(table) for table in rope.cos_sin(config, 8))
    x = torch.zeros(1, 1, 1, config.head_size)
    x[..., 2] = 1.0
    turned = rotate(
        x, torch.cat([cos_SE, cos_SE], -1)[5].view(1, 1, 1, -1), torch.cat([-sin_SE, sin_SE], -1)[5].view(1, 1, 1, -1)
    )
    angle = 5 * radians[2]
    assert turned[0, 0, 0, 2] == pytest.approx(float(np.cos(angle)), abs=1e-6)
    assert turned[0, 0, 0, 2 + config.head_size // 2] == pytest.approx(float(np.sin(angle)), abs=1e-6)
