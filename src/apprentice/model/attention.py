"""Causal attention over sequences of any length side by side, without padding and without masks of T x T where it can.

Letters: B rows, T tokens of a row, H query heads, K key heads, G = H / K, E head size, S tokens seen, N tokens of one
sequence.

A row of tokens holds one or several sequences one after the other (`Piece`s). Each attends to itself only, through a
call of its own: a block-diagonal mask would compute what it then throws away, and packing several prompts into one
row is how scoring avoids padding. A piece may go on from a `Cache`, the keys and values of one sequence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

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
        """Puts keys and values behind those of the layer; gives all of them. `advance` moves on after the last layer."""
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


def attend(
    q_BTHE: Tensor, k_BTKE: Tensor, v_BTKE: Tensor, layer: int, pieces: Sequence[Piece] | None
) -> Tensor:
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
    return functional.scaled_dot_product_attention(q_BHTE, k_BKTE, v_BKTE, is_causal=True, enable_gqa=True)


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
