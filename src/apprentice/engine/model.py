"""The decoder in numpy: tokens of several sequences in, next-token log-probabilities out (`text.decoding.LanguageModel`).

    token ids --embed--> x_ND --[ + attention(norm(x)), + mlp(norm(x)) ] x layers--> norm --head--> log-probabilities

All sequences' tokens stand below each other in one x_ND, without padding; only attention looks at one sequence at a
time. Three kinds of work are told apart:

  step    one token and perhaps a draft of each sequence. Every row goes through the matrices ALONE (`kernels.products`),
          so its numbers do not depend on how many others there are: a draft never changes a greedy answer, nor does a
          neighbour in the batch, bit for bit.
  prompt  one sequence in chunks that always end at the same places (multiples of CHUNK_TOKENS), matrix products.
  scoring several sequences at once, nothing kept.

Speed of a step is the speed of memory: all weights are read once in float32. `engine.native` reads the packed 4-bit
weights; this is the reference that it is held against, what runs where nothing could be compiled, and what calibration
observes.

Letters: N rows (tokens of all sequences), T tokens of one sequence, S tokens seen, D residual width, K key heads, G
query heads of one key head, H = K G, E head size, F width of the MLP, O outputs of any matrix, V vocabulary.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from apprentice.core import machine
from apprentice.core.errors import InputError
from apprentice.engine import calling_off
from apprentice.engine.cache import Cache, PrefixStore
from apprentice.engine.calling_off import CalledOff, IsWanted
from apprentice.engine.loader import Layer, Weights
from apprentice.kernels import nvfp4
from apprentice.kernels.products import Workers, product, use_one_blas_thread
from apprentice.model import rope
from apprentice.model.adapter_files import LowRank
from apprentice.model.config import parameter_shapes
from apprentice.text.decoding import MAX_DRAFT, Feed, Output

STEP_TOKENS = 1 + MAX_DRAFT
"""Most tokens of one sequence that count as a step."""
CHUNK_TOKENS = 128
QUERY_BLOCK = 256
HEAD_ROWS = 64
"""Rows of log-probabilities computed at once in prompts and scoring."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineConfig:
    """What the engine may use."""

    max_sequences: int = 16
    """Sequences worked on at a time, 1 to 256."""
    prefix_cache_mib: int = 256
    """Memory for beginnings of earlier prompts, 0 to 65536 MiB."""
    threads: int = 0
    """Threads that compute, 1 to 1024; 0 = one for each core that this process may use."""
    cache_mib: int = 0
    """Memory for keys and values of the native backend, 0 to 1048576 MiB, beside `prefix_cache_mib`; 0 = for `max_sequences`
    sequences of the longest kind, at most half of the free memory. It is taken as it is needed."""
    cache_bits: Literal[16, 8] = 16
    """Of keys and values in the native backend: with 8 and a scale for each token and key head, half of the memory."""
    backend: Literal["auto", "native", "numpy"] = "auto"
    """What computes: `auto` takes the native operators where they are compiled, else numpy."""
    activations: Literal["own", "nvfp4"] = "own"
    """`nvfp4`: numpy rounds what quantized matrices read as Blackwell's tensor cores have it (W4A4), to see what that costs."""

    def __post_init__(self) -> None:
        if not 1 <= self.max_sequences <= 256:
            raise ValueError("max_sequences must be 1 to 256")
        if not 0 <= self.prefix_cache_mib <= 65536:
            raise ValueError("prefix_cache_mib must be 0 to 65536")
        if not 0 <= self.threads <= 1024:
            raise ValueError("threads must be 0 to 1024")
        if not 0 <= self.cache_mib <= 1048576:
            raise ValueError("cache_mib must be 0 to 1048576")
        if self.cache_bits not in (16, 8):
            raise ValueError("cache_bits must be 16 or 8")
        if self.backend not in ("auto", "native", "numpy"):
            raise ValueError("backend must be auto, native or numpy")
        if self.activations not in ("own", "nvfp4") or (self.activations == "nvfp4" and self.backend != "numpy"):
            raise ValueError("activations must be own, or nvfp4 with the backend numpy")


DEFAULTS = EngineConfig()


@dataclass(frozen=True, slots=True)
class _Piece:
    """Rows [start, end) of x_ND: tokens of one sequence that go on behind `past` earlier ones."""

    start: int
    end: int
    past: int
    cache: Cache | None


Observer = Callable[[tuple[str, ...], np.ndarray], None]
"""Is told (names of the modules that read it, an input x_ND) during a forward pass."""


class NumpyModel:
    """Weights that compute. Safe to use from several threads."""

    def __init__(self, weights: Weights, config: EngineConfig = DEFAULTS) -> None:
        self.weights, self.config = weights, weights.config
        self._input_scales = weights.input_scales if config.activations == "nvfp4" else {}
        if config.activations == "nvfp4" and not self._input_scales:
            hint = "quantize it with `apprentice model quantize --activations --calibrate EXAMPLES`"
            raise InputError("the checkpoint has no scales of activations", hint=hint)
        self.observer: Observer | None = None
        self._unadapted: list[Layer] | None = None
        use_one_blas_thread()
        self._workers = Workers(config.threads or machine.cores())
        weakref.finalize(self, self._workers.close)
        self._prefixes = PrefixStore(config.prefix_cache_mib * 2**20, CHUNK_TOKENS)
        self._cos_sin = rope.cos_sin(self.config, min(1024, self.config.max_positions))

    def adapt(self, corrections: Mapping[str, LowRank]) -> None:
        """Adds these corrections to the weights, in place of any before; none: the weights alone. Nobody may be generating."""
        if self._unadapted is not None:
            self.weights.layers[:] = self._unadapted
            self._unadapted = None
        if corrections:
            self._unadapted = list(self.weights.layers)
            rows = {name.removesuffix(".weight"): shape[0] for name, shape in parameter_shapes(self.config).items()}
            for index, layer in enumerate(self.weights.layers):
                self.weights.layers[index] = _adapted(layer, f"model.layers.{index}.", corrections, rows)
        self._prefixes.clear()

    @property
    def max_positions(self) -> int:
        return self.config.max_positions

    @contextlib.contextmanager
    def admitted(self, lengths: Sequence[int], is_wanted: IsWanted | None = None) -> Iterator[int]:
        """How many of these sequences may be in work at a time: memory is taken as it is needed, without a bound."""
        yield max(len(lengths), 1)

    def new_cache(self, capacity: int) -> Cache:
        return Cache(self.config, capacity)

    def forward(self, feeds: Sequence[Feed], is_wanted: IsWanted | None = None) -> list[Output]:
        """`is_wanted`: asked before each chunk of a prompt. Raises: CalledOff."""
        steps = [i for i, feed in enumerate(feeds) if feed.cache is not None and len(feed.token_ids) <= STEP_TOKENS]
        scored = [i for i, feed in enumerate(feeds) if feed.cache is None]
        outputs: dict[int, Output] = {}
        with np.errstate(over="ignore"):
            for exact, together in ((True, steps), (False, scored)):
                if together:
                    outputs |= zip(together, self._together([feeds[i] for i in together], exact), strict=True)
            for i, feed in enumerate(feeds):
                if i not in outputs:
                    outputs[i] = Output(self._prompt(feed, is_wanted))
        return [outputs[i] for i in range(len(feeds))]

    def _together(self, feeds: Sequence[Feed], exact: bool) -> list[Output]:
        """One pass over all feeds."""
        pieces: list[_Piece] = []
        token_ids: list[int] = []
        wanted: list[int] = []
        at = 0
        for feed in feeds:
            cache = _own(feed.cache)
            pieces.append(_Piece(at, at + len(feed.token_ids), 0 if cache is None else cache.length, cache))
            token_ids += feed.token_ids
            at += len(feed.token_ids)
            wanted += range(at - feed.num_outputs, at)
        hidden_ND = self._hidden(token_ids, pieces, exact)
        log_probs_NV = self._log_probs(hidden_ND[wanted], exact)
        cuts = np.cumsum([feed.num_outputs for feed in feeds])[:-1]
        return [Output(part) for part in np.split(log_probs_NV, cuts)]

    def _prompt(self, feed: Feed, is_wanted: IsWanted | None) -> np.ndarray:
        """Log-probabilities of the last tokens of a prompt, fed chunk by chunk."""
        cache = _own(feed.cache)
        assert cache is not None
        token_ids, at = feed.token_ids, 0
        cache.reserve(len(token_ids))
        is_start = cache.length == 0
        if is_start:
            at = self._prefixes.restore(token_ids[: len(token_ids) - feed.num_outputs], cache)
        kept: list[np.ndarray] = []
        try:
            while at < len(token_ids):
                calling_off.check(is_wanted)
                end = min(len(token_ids), at + CHUNK_TOKENS - cache.length % CHUNK_TOKENS)
                hidden_TD = self._hidden(token_ids[at:end], [_Piece(0, end - at, cache.length, cache)], exact=False)
                first = max(len(token_ids) - feed.num_outputs - at, 0)
                kept.append(hidden_TD[first:])
                at = end
        except CalledOff:
            if is_start:
                self._prefixes.keep(token_ids[:at], cache)
            raise
        if is_start:
            self._prefixes.keep(token_ids, cache)
        # The row that is sampled from goes the way that rows of steps go.
        return self._log_probs(np.concatenate(kept), exact=feed.num_outputs <= STEP_TOKENS)

    def layer_by_layer(self, sequences: Sequence[Sequence[int]]) -> Iterator[int]:
        """Reads sequences, one layer of all of them each time it is asked, and gives that layer's number: for an `observer`,
        which may replace a matrix whose input it is told."""
        return self.go_on(self.embed([token_id for sequence in sequences for token_id in sequence]), [len(s) for s in sequences])

    def go_on(self, x_ND: np.ndarray, lengths: Sequence[int], first: int = 0) -> Iterator[int]:
        """Changes what goes into layer `first`, of whole sequences of these lengths, into what comes out of it and of all
        behind it, one each time it is asked."""
        ends = np.cumsum(lengths).tolist()
        pieces = [_Piece(start, end, 0, None) for start, end in zip([0, *ends], ends, strict=False)]
        return self._layers(x_ND, pieces, exact=False, first=first)

    def predict(self, x_ND: np.ndarray) -> np.ndarray:
        """Log-probabilities [N, V] out of what the last layer gives."""
        return self._log_probs(self._norm(x_ND, self.weights.norm_D), exact=False)

    def _hidden(self, token_ids: Sequence[int], pieces: Sequence[_Piece], exact: bool) -> np.ndarray:
        """Normed hidden states [N, D]; the caches are longer by the tokens afterwards."""
        x_ND = self.embed(token_ids)
        for piece in pieces:
            if piece.cache is not None:
                piece.cache.reserve(piece.end - piece.start)
        for _ in self._layers(x_ND, pieces, exact):
            pass
        for piece in pieces:
            if piece.cache is not None:
                piece.cache.length += piece.end - piece.start
        return self._norm(x_ND, self.weights.norm_D)

    def embed(self, token_ids: Sequence[int]) -> np.ndarray:
        """What goes into the first layer [N, D]. Raises: InputError where a token is none of the model's."""
        ids_N = np.asarray(token_ids, np.int64)
        if ids_N.size and (ids_N.min() < 0 or ids_N.max() >= self.config.vocab_size):
            raise InputError(f"a token id is not in 0 to {self.config.vocab_size - 1}", hint="is it the model's own tokenizer?")
        return self.weights.embedding_VD[ids_N]

    def _layers(self, x_ND: np.ndarray, pieces: Sequence[_Piece], exact: bool, first: int = 0) -> Iterator[int]:
        """Changes x_ND, layer by layer."""
        positions_N = np.concatenate([np.arange(piece.past, piece.past + piece.end - piece.start) for piece in pieces])
        cos_NE, sin_NE = self._rope(positions_N)
        for index in range(first, len(self.weights.layers)):
            layer = self.weights.layers[index]
            x_ND += self._attention(index, layer, self._norm(x_ND, layer.input_norm_D), cos_NE, sin_NE, pieces, exact)
            x_ND += self._mlp(index, layer, self._norm(x_ND, layer.mlp_norm_D), exact)
            yield index

    def _attention(
        self, index: int, layer: Layer, x_ND: np.ndarray, cos_NE: np.ndarray, sin_NE: np.ndarray,
        pieces: Sequence[_Piece], exact: bool,
    ) -> np.ndarray:
        c = self.config
        x_ND = self._read(index, "self_attn.q_proj self_attn.k_proj self_attn.v_proj", x_ND)
        qkv_NO = self._product(x_ND, layer.qkv_OD, layer.qkv_bias_O, exact)
        heads = c.num_heads + c.num_kv_heads
        qk_NHE = qkv_NO[:, : heads * c.head_size].reshape(len(x_ND), heads, c.head_size)
        if layer.q_norm_E is not None and layer.k_norm_E is not None:
            q_NHE = self._norm(qk_NHE[:, : c.num_heads], layer.q_norm_E)
            qk_NHE = np.concatenate([q_NHE, self._norm(qk_NHE[:, c.num_heads :], layer.k_norm_E)], axis=1)
        qk_NHE = _rotate(qk_NHE, cos_NE, sin_NE)
        qk_NHE[:, : c.num_heads] *= np.float32(c.head_size**-0.5)
        v_NKE = qkv_NO[:, heads * c.head_size :].reshape(len(x_ND), c.num_kv_heads, c.head_size)
        y_NHE = np.empty((len(x_ND), c.num_heads, c.head_size), np.float32)
        for piece in pieces:
            rows = slice(piece.start, piece.end)
            k_KSE, v_KSE = qk_NHE[rows, c.num_heads :].transpose(1, 0, 2), v_NKE[rows].transpose(1, 0, 2)
            if piece.cache is not None:
                all_k_KSE, all_v_KSE = piece.cache.layer(index)
                end = piece.past + piece.end - piece.start
                all_k_KSE[:, piece.past : end], all_v_KSE[:, piece.past : end] = k_KSE, v_KSE
                k_KSE, v_KSE = all_k_KSE[:, :end], all_v_KSE[:, :end]
            _attend(qk_NHE[rows, : c.num_heads], k_KSE, v_KSE, piece.past, y_NHE[rows], 1 if exact else QUERY_BLOCK)
        y_NQ = y_NHE.reshape(len(x_ND), -1)
        y_NQ = self._read(index, "self_attn.o_proj", y_NQ)
        return self._product(y_NQ, layer.output_DQ, layer.output_bias_D, exact)

    def _mlp(self, index: int, layer: Layer, x_ND: np.ndarray, exact: bool) -> np.ndarray:
        x_ND = self._read(index, "mlp.gate_proj mlp.up_proj", x_ND)
        both_NF = self._product(x_ND, layer.gate_up_FD, layer.gate_up_bias_F, exact)
        gate_NF, up_NF = both_NF[:, : self.config.intermediate_size], both_NF[:, self.config.intermediate_size :]
        inner_NF = np.negative(gate_NF)
        np.exp(inner_NF, out=inner_NF)
        inner_NF += 1
        np.divide(gate_NF, inner_NF, out=inner_NF)
        inner_NF *= up_NF
        inner_NF = self._read(index, "mlp.down_proj", inner_NF)
        return self._product(inner_NF, layer.down_DF, layer.down_bias_D, exact)

    def _log_probs(self, hidden_ND: np.ndarray, exact: bool) -> np.ndarray:
        logits_NV = np.empty((len(hidden_ND), self.config.vocab_size), np.float32)
        step = len(hidden_ND) if exact else HEAD_ROWS
        for start in range(0, len(hidden_ND), max(step, 1)):
            part_NV = logits_NV[start : start + step]
            product(self._workers, hidden_ND[start : start + step], self.weights.head_VD, part_NV, each_row=exact)
            part_NV -= part_NV.max(axis=1, keepdims=True)
            part_NV -= np.log(np.exp(part_NV).sum(axis=1, keepdims=True, dtype=np.float64)).astype(np.float32)
        return logits_NV

    def _product(
        self, x_ND: np.ndarray, weight_OD: np.ndarray, bias_O: np.ndarray | None, exact: bool
    ) -> np.ndarray:
        """x W^T + b -> [N, O]. `exact`: each row by itself."""
        out_NO = np.empty((len(x_ND), len(weight_OD)), np.float32)
        product(self._workers, x_ND, weight_OD, out_NO, each_row=exact)
        if bias_O is not None:
            out_NO += bias_O
        return out_NO

    def _norm(self, x: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """RMSNorm over the last axis."""
        factor = np.vecdot(x, x)
        factor *= np.float32(1 / x.shape[-1])
        factor += np.float32(self.config.norm_epsilon)
        np.sqrt(factor, out=factor)
        normed = x / factor[..., None]
        normed *= weight
        return normed

    def _rope(self, positions_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Cosines and sines [N, 1, E / 2]."""
        needed = int(positions_N.max()) + 1
        if needed > len(self._cos_sin[0]):
            # Replaced as a whole: another thread sees the old table or the new one.
            self._cos_sin = rope.cos_sin(self.config, min(max(needed, 2 * len(self._cos_sin[0])), self.config.max_positions))
        cos_SE, sin_SE = self._cos_sin
        return cos_SE[positions_N, None], sin_SE[positions_N, None]

    def _read(self, index: int, names: str, x_ND: np.ndarray) -> np.ndarray:
        """What these modules get to read of an input."""
        modules = tuple(f"model.layers.{index}.{name}" for name in names.split())
        if self.observer is not None:
            self.observer(modules, x_ND)
        scale = self._input_scales.get(modules[0])
        if any(self._input_scales.get(module) != scale for module in modules):
            hint = "leave all of them in higher precision, or none: they read the same input"
            raise InputError(f"`{modules[0]}` and what is fused with it have different input scales", hint=hint)
        return x_ND if scale is None else nvfp4.rounded(x_ND, scale)


def _rotate(x_NHE: np.ndarray, cos_NE: np.ndarray, sin_NE: np.ndarray) -> np.ndarray:
    """Rotary positions: planes are (i, i + E / 2)."""
    half = x_NHE.shape[-1] // 2
    first, second = x_NHE[..., :half], x_NHE[..., half:]
    rotated = np.empty_like(x_NHE)
    np.multiply(first, cos_NE, out=rotated[..., :half])
    rotated[..., :half] -= second * sin_NE
    np.multiply(second, cos_NE, out=rotated[..., half:])
    rotated[..., half:] += first * sin_NE
    return rotated


def _attend(
    q_THE: np.ndarray, k_KSE: np.ndarray, v_KSE: np.ndarray, past: int, out_THE: np.ndarray, block: int
) -> None:
    """Causal attention of T tokens behind `past` others, `block` queries at a time. q carries the factor of the scores."""
    count, num_heads, size = q_THE.shape
    num_kv_heads = len(k_KSE)
    group = num_heads // num_kv_heads
    for start in range(0, count, block):
        end = min(start + block, count)
        n, seen = end - start, past + end
        q_KME = q_THE[start:end].reshape(n, num_kv_heads, group, size).transpose(1, 2, 0, 3).reshape(num_kv_heads, -1, size)
        scores_KMS = np.matmul(q_KME, k_KSE[:, :seen].transpose(0, 2, 1))
        if n > 1:
            above_NN = np.triu(np.full((n, n), -np.inf, np.float32), 1)
            scores_KMS.reshape(num_kv_heads, group, n, seen)[..., seen - n :] += above_NN
        scores_KMS -= scores_KMS.max(axis=-1, keepdims=True)
        np.exp(scores_KMS, out=scores_KMS)
        scores_KMS /= scores_KMS.sum(axis=-1, keepdims=True)
        y_KME = np.matmul(scores_KMS, v_KSE[:, :seen])
        y_KGNE = y_KME.reshape(num_kv_heads, group, n, size)
        out_THE[start:end] = y_KGNE.transpose(2, 0, 1, 3).reshape(n, num_heads, size)


def _adapted(layer: Layer, at: str, corrections: Mapping[str, LowRank], rows: Mapping[str, int]) -> Layer:
    """The layer with the corrections added to a copy of those matrices that have some. `rows`: of each module."""
    stacks = {
        "qkv_OD": [f"{at}self_attn.{name}_proj" for name in "qkv"], "output_DQ": [f"{at}self_attn.o_proj"],
        "gate_up_FD": [f"{at}mlp.{name}_proj" for name in ("gate", "up")], "down_DF": [f"{at}mlp.down_proj"],
    }  # fmt: skip
    changed: dict[str, np.ndarray] = {}
    for field, modules in stacks.items():
        if any(module in corrections for module in modules):
            changed[field] = getattr(layer, field).copy()
            parts = np.split(changed[field], np.cumsum([rows[module] for module in modules])[:-1])
            for module, part_OI in zip(modules, parts, strict=True):
                if module in corrections:
                    part_OI += corrections[module].product()
    return replace(layer, **changed)


def _own(cache: object) -> Cache | None:
    assert cache is None or isinstance(cache, Cache)
    return cache
