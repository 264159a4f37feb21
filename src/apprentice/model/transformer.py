"""The decoder: token ids -> hidden states -> logits.

Pre-norm RMSNorm, rotary positions, grouped-query attention, SwiGLU.

Letters: B rows, T tokens, D residual width, H query heads, K key heads, E head size, F width of the MLP, V vocabulary.

    tokens_BT --embed--> x_BTD --[ + attention(norm(x)), + mlp(norm(x)) ] x layers--> norm --> hidden --head--> logits

Modules carry the names of the tensors in Hugging Face folders (`layers.3.self_attn.q_proj.weight`), so that reading,
writing and adapters need no table of names. A leaf (`Linear`, `Mlp`) can be replaced by one with the same call: LoRA,
fake quantization and mixtures of experts are swapped in from outside and this file does not know about them.

`hidden` and `logits` are apart because the head is a fifth of the work of a small model and is only wanted at some
positions: training calls it where there is loss, scoring where there is a target, generation at the last token.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from apprentice.model import rope
from apprentice.model.attention import Cache, Piece, attend, find_pieces
from apprentice.model.config import ModelConfig


class RMSNorm(nn.Module):
    """x / rms(x) * weight."""

    def __init__(self, size: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        return functional.rms_norm(x, self.weight.shape, self.weight, self.epsilon)


class Attention(nn.Module):
    """Grouped-query attention with rotary positions."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.layer, self.head_size = layer, config.head_size
        queries, keys = config.num_heads * config.head_size, config.num_kv_heads * config.head_size
        self.q_proj = nn.Linear(config.hidden_size, queries, bias=config.qkv_bias)
        self.k_proj = nn.Linear(config.hidden_size, keys, bias=config.qkv_bias)
        self.v_proj = nn.Linear(config.hidden_size, keys, bias=config.qkv_bias)
        self.o_proj = nn.Linear(queries, config.hidden_size, bias=config.output_bias)
        self.q_norm = RMSNorm(config.head_size, config.norm_epsilon) if config.qk_norm else nn.Identity()
        self.k_norm = RMSNorm(config.head_size, config.norm_epsilon) if config.qk_norm else nn.Identity()

    def forward(self, x_BTD: Tensor, cos_BTE: Tensor, sin_BTE: Tensor, pieces: Sequence[Piece] | None) -> Tensor:
        per_head = (*x_BTD.shape[:2], -1, self.head_size)
        q_BTHE = rotate(self.q_norm(self.q_proj(x_BTD).view(per_head)), cos_BTE, sin_BTE)
        k_BTKE = rotate(self.k_norm(self.k_proj(x_BTD).view(per_head)), cos_BTE, sin_BTE)
        v_BTKE = self.v_proj(x_BTD).view(per_head)
        y_BTHE = attend(q_BTHE, k_BTKE, v_BTKE, self.layer, pieces)
        return self.o_proj(y_BTHE.flatten(2))


class Mlp(nn.Module):
    """SwiGLU: down(silu(gate(x)) * up(x))."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=config.mlp_bias)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=config.mlp_bias)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=config.mlp_bias)

    def forward(self, x_BTD: Tensor) -> Tensor:
        return self.down_proj(functional.silu(self.gate_proj(x_BTD)) * self.up_proj(x_BTD))


class Block(nn.Module):
    """One layer."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.norm_epsilon)
        self.self_attn = Attention(config, layer)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.norm_epsilon)
        self.mlp = Mlp(config)

    def forward(self, x_BTD: Tensor, cos_BTE: Tensor, sin_BTE: Tensor, pieces: Sequence[Piece] | None) -> Tensor:
        x_BTD = x_BTD + self.self_attn(self.input_layernorm(x_BTD), cos_BTE, sin_BTE, pieces)
        return x_BTD + self.mlp(self.post_attention_layernorm(x_BTD))


class Transformer(nn.Module):
    """A dense decoder with its weights."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Block(config, layer) for layer in range(config.num_layers))
        self.norm = RMSNorm(config.hidden_size, config.norm_epsilon)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        if config.tie_embeddings:
            self.lm_head.weight = self.embed_tokens.weight
        self._cos_sin = (torch.empty(0), torch.empty(0))

    def forward(self, tokens_BT: Tensor) -> Tensor:
        """Logits at every position, [B, T, V]."""
        return self.logits(self.hidden(tokens_BT))

    def hidden(
        self,
        tokens_BT: Tensor,
        *,
        positions_BT: Tensor | None = None,
        segments_BT: Tensor | None = None,
        cache: Sequence[Cache | None] | None = None,
        pieces: Sequence[Piece] | None = None,
    ) -> Tensor:
        """Normed hidden states, [B, T, D].

        Each row is one sequence, unless `segments_BT` numbers the sequences packed into it (a run of equal numbers is
        one; padding is a run of its own). `cache`: one for each row, to be continued and appended to. `pieces` says
        both at once, for sequences packed into a row that each go on from a cache. Positions count from the start of
        each sequence unless given."""
        if segments_BT is not None:
            assert cache is None
            assert pieces is None
            pieces = find_pieces(segments_BT)
        elif cache is not None:
            assert pieces is None
            pieces = [Piece(row, 0, tokens_BT.shape[1], one) for row, one in enumerate(cache)]
        cos_BTE, sin_BTE = self._tables(tokens_BT, positions_BT, pieces)
        for piece in pieces or ():
            if piece.cache is not None:
                piece.cache.reserve(piece.end - piece.start)
        x_BTD = self.embed_tokens(tokens_BT)
        for block in self.layers:
            x_BTD = block(x_BTD, cos_BTE, sin_BTE, pieces)
        for piece in pieces or ():
            if piece.cache is not None:
                piece.cache.advance(piece.end - piece.start)
        return self.norm(x_BTD)

    def logits(self, x_BTD: Tensor) -> Tensor:
        """Hidden states of any leading shape -> logits over the vocabulary."""
        return self.lm_head(x_BTD)

    def new_cache(self, capacity: int) -> Cache:
        """Room for one sequence of up to `capacity` tokens."""
        c = self.config
        return Cache(c.num_layers, c.num_kv_heads, c.head_size, capacity, self.norm.weight.dtype)

    @torch.no_grad()
    def initialize(self, seed: int, *, std: float = 0.02) -> Transformer:
        """Random weights, the same for the same seed."""
        random = torch.Generator().manual_seed(seed)
        for name, parameter in self.named_parameters():
            if name.endswith("norm.weight"):
                parameter.fill_(1.0)
            elif name.endswith("bias"):
                parameter.zero_()
            else:
                parameter.normal_(0.0, std, generator=random)
        return self

    def _tables(
        self, tokens_BT: Tensor, positions_BT: Tensor | None, pieces: Sequence[Piece] | None
    ) -> tuple[Tensor, Tensor]:
        """Cosines and signed sines of each position for all of a head, [B or 1, T, 1, E]."""
        if positions_BT is None:
            positions_BT = _positions(tokens_BT, pieces)
        needed = int(positions_BT.max()) + 1
        if needed > self._cos_sin[0].shape[0]:
            cos_SE, sin_SE = rope.cos_sin(self.config, max(needed, min(2048, self.config.max_positions)))
            cos, sin = torch.from_numpy(cos_SE), torch.from_numpy(sin_SE)
            self._cos_sin = (torch.cat([cos, cos], -1), torch.cat([-sin, sin], -1))
        cos_SE, sin_SE = self._cos_sin
        dtype = self.norm.weight.dtype
        return cos_SE[positions_BT].unsqueeze(2).to(dtype), sin_SE[positions_BT].unsqueeze(2).to(dtype)


def rotate(x_BTHE: Tensor, cos_BTE: Tensor, sin_BTE: Tensor) -> Tensor:
    """Rotary embedding: planes are (i, i + E/2); the first half of `sin` carries the minus sign."""
    half = x_BTHE.shape[-1] // 2
    return (x_BTHE * cos_BTE + torch.roll(x_BTHE, half, -1) * sin_BTE).to(x_BTHE.dtype)


def _positions(tokens_BT: Tensor, pieces: Sequence[Piece] | None) -> Tensor:
    if pieces is None:
        return torch.arange(tokens_BT.shape[1])[None]
    positions_BT = torch.zeros(tokens_BT.shape, dtype=torch.long)
    for piece in pieces:
        first = 0 if piece.cache is None else piece.cache.length
        positions_BT[piece.row, piece.start : piece.end] = torch.arange(first, first + piece.end - piece.start)
    return positions_BT
