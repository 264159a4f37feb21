"""Leaves of the model that train faster on a CPU: products in bfloat16, attention in blocks of queries.

    with swapped(model, torch.bfloat16): ...      names and weights stay as they are, and come back as they were

`MixedLinear`: weights stay float32 (an update of 1e-4 would vanish in 8 bits of mantissa), the three products of
forward and backward run in bfloat16 with float32 accumulation inside. Where the CPU has AVX512-BF16 such a product
takes half the time. A whole step of a 135M model went from 88 to 150 tokens per CPU second with both leaves together,
its loss off by 4e-4 of itself (sequences of about 600, torch 2.13). Torch's autocast was not compared here.

`BlockAttention`: queries in blocks, each block against the keys up to its end (that leaves out nearly all that a causal
mask would throw away), as ordinary batched products; the query heads of a key head share one product. Torch's flash
attention for CPUs took 1.2 to 1.9 times as long in float32, and about twice to three times as long as these blocks in
bfloat16 (512 and 768 tokens, one thread). What it costs is
memory for the probabilities, T * T / 2 per head and layer, so longer sequences than LONGEST keep flash attention.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from apprentice.model.attention import Piece
from apprentice.model.transformer import Attention, Transformer, rotate

LONGEST = 1024
BLOCK_TOKENS = 128


class MixedLinear(nn.Linear):
    """A Linear whose products run in bfloat16."""

    def forward(self, input: Tensor) -> Tensor:
        y = mixed_product(input, self.weight)
        return y if self.bias is None else y + self.bias


def mixed_product(x: Tensor, weight: Tensor) -> Tensor:
    """x @ weight.T in bfloat16, forward and backward; in and out are float32."""
    # torch does not type `apply`.
    result: Tensor = cast(Any, _MixedProduct).apply(x, weight)
    return result


class _MixedProduct(torch.autograd.Function):
    @staticmethod
    def forward(*args: Any, **kwargs: Any) -> Tensor:
        ctx, x, weight = args
        x16, weight16 = x.reshape(-1, x.shape[-1]).to(torch.bfloat16), weight.to(torch.bfloat16)
        ctx.save_for_backward(x16, weight16)
        ctx.shape, ctx.dtype = x.shape, x.dtype
        return (x16 @ weight16.T).to(x.dtype).view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Tensor | None, ...]:
        (grad_y,) = grad_outputs
        x16, weight16 = ctx.saved_tensors
        grad_y16 = grad_y.reshape(-1, grad_y.shape[-1]).to(torch.bfloat16)
        grad_x = (grad_y16 @ weight16).to(ctx.dtype).view(ctx.shape) if ctx.needs_input_grad[0] else None
        grad_weight = (grad_y16.T @ x16).to(ctx.dtype) if ctx.needs_input_grad[1] else None
        return grad_x, grad_weight


class BlockAttention(Attention):
    """Attention without cache, in blocks of queries."""

    matmul = torch.float32

    def forward(self, x_BTD: Tensor, cos_BTE: Tensor, sin_BTE: Tensor, pieces: Sequence[Piece] | None) -> Tensor:
        if any(piece.cache is not None for piece in pieces or ()) or x_BTD.shape[1] > LONGEST:
            return super().forward(x_BTD, cos_BTE, sin_BTE, pieces)
        per_head = (*x_BTD.shape[:2], -1, self.head_size)
        q_BTHE = rotate(self.q_norm(self.q_proj(x_BTD).view(per_head)), cos_BTE, sin_BTE)
        k_BTKE = rotate(self.k_norm(self.k_proj(x_BTD).view(per_head)), cos_BTE, sin_BTE)
        v_BTKE = self.v_proj(x_BTD).view(per_head)
        parts = [(slice(None), slice(None))]
        if pieces is not None:
            parts = [(slice(p.row, p.row + 1), slice(p.start, p.end)) for p in pieces]
        heads = [block_attention(q_BTHE[at], k_BTKE[at], v_BTKE[at], self.matmul) for at in parts]
        y_BTHE = heads[0] if pieces is None else torch.cat([y.flatten(0, 1) for y in heads]).view(q_BTHE.shape)
        return self.o_proj(y_BTHE.flatten(2))


class MixedBlockAttention(BlockAttention):
    """The same with products in bfloat16."""

    matmul = torch.bfloat16


def block_attention(q_BTHE: Tensor, k_BTKE: Tensor, v_BTKE: Tensor, matmul: torch.dtype) -> Tensor:
    """Causal attention of whole sequences, [B, T, H, E]. G query heads share a key head."""
    batch, tokens, heads, size = q_BTHE.shape
    groups = k_BTKE.shape[2]
    q = (q_BTHE * size**-0.5).to(matmul).transpose(1, 2).reshape(batch * groups, heads // groups, tokens, size)
    k = k_BTKE.to(matmul).transpose(1, 2).reshape(batch * groups, tokens, size)
    v = v_BTKE.to(matmul).transpose(1, 2).reshape(batch * groups, tokens, size)
    blocks = []
    for start in range(0, tokens, BLOCK_TOKENS):
        end = min(start + BLOCK_TOKENS, tokens)
        rows = q[:, :, start:end].reshape(batch * groups, -1, size)
        scores = torch.bmm(rows, k[:, :end].transpose(1, 2))
        later = torch.full((end - start, end - start), -math.inf, dtype=matmul).triu_(1)
        scores.view(batch * groups, -1, end - start, end)[..., start:] += later
        mixed = torch.bmm(scores.softmax(-1), v[:, :end])
        blocks.append(mixed.view(batch, heads, end - start, size))
    return torch.cat(blocks, 2).transpose(1, 2).to(q_BTHE.dtype)


@contextlib.contextmanager
def swapped(model: Transformer, matmul: torch.dtype) -> Iterator[None]:
    """Within the block the model computes with these leaves. The head stays: `losses` has its own product."""
    mixed = matmul == torch.bfloat16
    before = [(module, type(module)) for module in model.modules()]
    try:
        for module, kind in before:
            if kind is Attention:
                module.__class__ = MixedBlockAttention if mixed else BlockAttention
            elif kind is nn.Linear and mixed and module is not model.lm_head:
                module.__class__ = MixedLinear
        yield
    finally:
        for module, kind in before:
            module.__class__ = kind


