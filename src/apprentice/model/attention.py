"""Causal attention over sequences of any length side by side, without padding.

Letters: B rows, T tokens of a row, H query heads, K key heads, G = H / K, E head size, S tokens seen, N tokens of one
sequence.

A row of tokens holds one or several sequences one after the other (`Piece`s). Each attends to itself only, through a
call of its own: a block-diagonal mask would compute what it then throws away, and packing several prompts into one
row is how scoring avoids padding. A piece may go on from a `Cache`, the keys and values of one sequence.

On CPUs torch's fused attention reaches about half the speed of its matrix product. So sequences of ordinary length are
done here in blocks of queries, each against the keys up to its end: plain products and a softmax, forward and
backward (`_BlockedAttention`). Scores are computed and softened in float32, whatever the precision of the rest; a score
of 20 rounded to BF16 would be off by 0.06. Probabilities are kept for backward, which costs T^2 memory: longer
sequences go through the fused operator.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

BLOCK_TOKENS = 128
"""Queries done at once: small enough to skip most of what causality forbids, large enough for a fast product."""
MAX_BLOCKED_TOKENS = 1024
"""Sequences up to here are done in blocks."""
FIRST_CAPACITY = 64
"""Tokens a cache has room for at first; it doubles when full, up to its capacity."""


class Cache:
    """Keys and values of one sequence in all layers."""

    def __init__(self, num_layers: int, num_kv_heads: int, head_size: int, capacity: int, dtype: torch.dtype) -> None:
        self._shape = (num_layers, 2, num_kv_heads, head_size)
        self._capacity, self._dtype = capacity, dtype
        self._store_L2KSE = self._allocate(min(FIRST_CAPACITY, capacity))
        self.length = 0

    def truncate(self, length: int) -> None:
        """Forget everything behind the first `length` tokens."""
        assert 0 <= length <= self.length
        self.length = length

    def copy_from(self, other: Cache, length: int) -> None:
        """Become the first `length` tokens of another cache of the same model. Only an empty cache may."""
        assert self.length == 0
        assert length <= other.length
        self.reserve(length)
        self._store_L2KSE[:, :, :, :length] = other._store_L2KSE[:, :, :, :length]
        self.length = length

    def reserve(self, count: int) -> None:
        """Makes room for `count` more tokens."""
        needed, room = self.length + count, self._store_L2KSE.shape[3]
        if needed <= room:
            return
        if needed > self._capacity:
            raise ValueError(f"a cache of {self._capacity} tokens cannot hold {needed}")
        grown_L2KSE = self._allocate(min(max(needed, 2 * room), self._capacity))
        grown_L2KSE[:, :, :, : self.length] = self._store_L2KSE[:, :, :, : self.length]
        self._store_L2KSE = grown_L2KSE

    def append(self, layer: int, k_KNE: Tensor, v_KNE: Tensor) -> tuple[Tensor, Tensor]:
        """Puts keys and values behind those of the layer; gives all of them. After the last layer: `advance`."""
        end = self.length + k_KNE.shape[1]
        store_2KSE = self._store_L2KSE[layer]
        store_2KSE[0, :, self.length : end] = k_KNE
        store_2KSE[1, :, self.length : end] = v_KNE
        return store_2KSE[0, :, :end], store_2KSE[1, :, :end]

    def advance(self, count: int) -> None:
        self.length += count

    def _allocate(self, room: int) -> Tensor:
        layers, two, heads, size = self._shape
        return torch.empty(layers, two, heads, room, size, dtype=self._dtype)


@dataclass(frozen=True, slots=True)
class Piece:
    """Tokens [start, end) of a row are one sequence, or the continuation of the one in `cache`."""

    row: int
    start: int
    end: int
    cache: Cache | None = None


def find_pieces(segments_BT: Tensor) -> list[Piece]:
    """Runs of equal numbers, row by row."""
    pieces = []
    for row, numbers_T in enumerate(segments_BT):
        _, counts = torch.unique_consecutive(numbers_T, return_counts=True)
        at = 0
        for count in counts.tolist():
            pieces.append(Piece(row, at, at + count))
            at += count
    return pieces


def attend(q_BTHE: Tensor, k_BTKE: Tensor, v_BTKE: Tensor, layer: int, pieces: Sequence[Piece] | None) -> Tensor:
    """Causal attention -> [B, T, H, E]. Without `pieces` each row is one sequence."""
    if pieces is None:
        return _causal(q_BTHE.transpose(1, 2), k_BTKE.transpose(1, 2), v_BTKE.transpose(1, 2)).transpose(1, 2)
    outputs = []
    for piece in pieces:
        q_HNE = q_BTHE[piece.row, piece.start : piece.end].transpose(0, 1)
        k_KNE = k_BTKE[piece.row, piece.start : piece.end].transpose(0, 1)
        v_KNE = v_BTKE[piece.row, piece.start : piece.end].transpose(0, 1)
        if piece.cache is None or piece.cache.length == 0:
            if piece.cache is not None:
                piece.cache.append(layer, k_KNE, v_KNE)
            y_HNE = _causal(q_HNE[None], k_KNE[None], v_KNE[None])[0]
        else:
            y_HNE = _continued(q_HNE, *piece.cache.append(layer, k_KNE, v_KNE))
        outputs.append(y_HNE.transpose(0, 1))
    return torch.cat(outputs).view(q_BTHE.shape)


def _causal(q_BHTE: Tensor, k_BKTE: Tensor, v_BKTE: Tensor) -> Tensor:
    if q_BHTE.shape[2] > MAX_BLOCKED_TOKENS:
        return functional.scaled_dot_product_attention(q_BHTE, k_BKTE, v_BKTE, is_causal=True, enable_gqa=True)
    if torch.is_autocast_enabled("cpu"):
        dtype = torch.get_autocast_dtype("cpu")
        q_BHTE, k_BKTE, v_BKTE = q_BHTE.to(dtype), k_BKTE.to(dtype), v_BKTE.to(dtype)
    return _BlockedAttention.apply(q_BHTE, k_BKTE, v_BKTE)


class _BlockedAttention(torch.autograd.Function):
    """Letters besides those above: N = queries of a block, S = keys up to its end, X = B * K, M = G * N."""

    @staticmethod
    def forward(ctx: Any, q_BHTE: Tensor, k_BKTE: Tensor, v_BKTE: Tensor) -> Tensor:  # pyrefly: ignore[bad-override]
        rows, num_heads, length, size = q_BHTE.shape
        group = num_heads // k_BKTE.shape[1]
        k_XTE, v_XTE = k_BKTE.flatten(0, 1).contiguous(), v_BKTE.flatten(0, 1).contiguous()
        exact = torch.promote_types(q_BHTE.dtype, torch.float32)
        exact_k_XTE = k_XTE.to(exact) * (1 / math.sqrt(size))
        y_BHTE = torch.empty(rows, length, num_heads, size, dtype=q_BHTE.dtype).transpose(1, 2)
        kept = []
        with torch.autocast("cpu", enabled=False):
            for start, end in _blocks(length):
                q_XME = _grouped(q_BHTE[:, :, start:end], group)
                scores_XMS = torch.bmm(q_XME.to(exact), exact_k_XTE[:, :end].transpose(1, 2))
                _hide_later(scores_XMS, end - start, group)
                probs_XMS = scores_XMS.softmax(-1).to(q_BHTE.dtype)
                y_BHTE[:, :, start:end] = torch.bmm(probs_XMS, v_XTE[:, :end]).view(rows, num_heads, end - start, size)
                kept.append(probs_XMS)
        if any(ctx.needs_input_grad):
            ctx.save_for_backward(q_BHTE, k_XTE, v_XTE, y_BHTE, *kept)
        return y_BHTE

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q_BHTE, k_XTE, v_XTE, y_BHTE, *kept = ctx.saved_tensors
        dy_BHTE = gradients[0].to(q_BHTE.dtype)
        rows, num_heads, length, size = q_BHTE.shape
        num_kv_heads = k_XTE.shape[0] // rows
        group = num_heads // num_kv_heads
        # Through a softmax a gradient d becomes p * (d - sum p d), and that sum is also dy . y.
        exact = torch.promote_types(q_BHTE.dtype, torch.float32)
        along_BHT1 = (dy_BHTE.to(exact) * y_BHTE).sum(-1, keepdim=True).to(q_BHTE.dtype)
        dq_BHTE = torch.empty(rows, length, num_heads, size, dtype=q_BHTE.dtype).transpose(1, 2)
        dk_XTE, dv_XTE = torch.zeros_like(k_XTE), torch.zeros_like(v_XTE)
        for (start, end), probs_XMS in zip(_blocks(length), kept, strict=True):
            dy_XME = _grouped(dy_BHTE[:, :, start:end], group)
            dv_XTE[:, :end] += torch.bmm(probs_XMS.transpose(1, 2), dy_XME)
            dscores_XMS = torch.bmm(dy_XME, v_XTE[:, :end].transpose(1, 2))
            dscores_XMS.sub_(_grouped(along_BHT1[:, :, start:end], group)).mul_(probs_XMS)
            dq_BHTE[:, :, start:end] = torch.bmm(dscores_XMS, k_XTE[:, :end]).view(rows, num_heads, end - start, size)
            dk_XTE[:, :end] += torch.bmm(dscores_XMS.transpose(1, 2), _grouped(q_BHTE[:, :, start:end], group))
        scale = 1 / math.sqrt(size)
        shape = (rows, num_kv_heads, length, size)
        return dq_BHTE.mul_(scale), dk_XTE.mul_(scale).view(shape), dv_XTE.view(shape)


def _blocks(length: int) -> Iterator[tuple[int, int]]:
    """[start, end) of each block of queries."""
    return ((start, min(start + BLOCK_TOKENS, length)) for start in range(0, length, BLOCK_TOKENS))


def _grouped(x_BHNE: Tensor, group: int) -> Tensor:
    """The query heads of each key head behind each other, as if they were tokens: [X, M, E]."""
    rows, num_heads, count, size = x_BHNE.shape
    return x_BHNE.reshape(rows * num_heads // group, group * count, size)


def _hide_later(scores_XMS: Tensor, count: int, group: int) -> None:
    """Only the last `count` keys can be later than one of the queries."""
    later_NN = torch.ones(count, count, dtype=torch.bool).triu(1)
    scores_XMS.view(-1, group, count, scores_XMS.shape[-1])[..., -count:].masked_fill_(later_NN, -math.inf)


def _continued(q_HNE: Tensor, k_KSE: Tensor, v_KSE: Tensor) -> Tensor:
    """The last N of S tokens look back. The G query heads of a key head are put behind each other as if they were
    tokens, so that keys and values are read once and not G times."""
    num_heads, count, size = q_HNE.shape
    num_kv_heads, seen, _ = k_KSE.shape
    group = num_heads // num_kv_heads
    q_KME = q_HNE.reshape(num_kv_heads, group * count, size)
    mask_MS = None
    if count > 1:
        mask_NS = torch.ones(count, seen, dtype=torch.bool).tril(diagonal=seen - count)
        mask_MS = mask_NS.repeat(group, 1)
    y_KME = functional.scaled_dot_product_attention(q_KME[None], k_KSE[None], v_KSE[None], attn_mask=mask_MS)[0]
    return y_KME.reshape(num_heads, count, size)
