"""A checkpoint to what the native decoder reads: matrices in its layouts, in one piece of memory, with no float copy.

    Checkpoint --plan: a kind and a place for each matrix--> one arena --fill, several layers at a time--> PackedModel
    the same   --plan--> one arena <--what an earlier start packed and balanced (`engine.stored_packing`)--> PackedModel

Kinds follow the file. NVFP4 codes go from the mapped file into tiles as they are, and so do those of MXFP4, whose powers of
two become scales of NVFP4. BF16 stays BF16, everything else is
float32. In a quantized checkpoint all that is not in four bits, embedding, head and matrices that those would hurt, is rounded to 8
with a scale for each 64 values; a tied head is the embedding, once. q, k, v stand in one matrix; so do gate and up, 16 rows of each
in turn.

What a quantized matrix reads and its weights are `balanced` (`engine.balance`) once the decoder has seen how large inputs are.

Matrices that were quantized apart may have different global scales; then each output has a factor. If only some of the
parts of a matrix are quantized the whole is in 8 bits. Names and layouts of the structures are those of
`kernels/native/c_decoder.h`.

Letters: V vocabulary, D residual width, F width of the MLP, E head size.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from ctypes import POINTER, Structure, c_float, c_int, c_int32, c_int64, c_void_p, cast
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeVar

import numpy as np

from apprentice.core import machine
from apprentice.engine import balance
from apprentice.engine.loader import ROOM_BESIDE_WEIGHTS_BYTES, Checkpoint
from apprentice.engine.stored_packing import Contents
from apprentice.kernels import mxfp4, nvfp4, tiles
from apprentice.kernels.formats import Packed
from apprentice.kernels.native import Library, Signatures
from apprentice.model import rope
from apprentice.model.adapter_files import LowRank
from apprentice.model.config import ModelConfig

NVFP4, INT8, BF16, FLOAT = 0, 2, 3, 4
GATE_UP = 2
"""Its number in a layer."""
LANES = tiles.LANES
LARGEST = np.finfo(np.float32).max
PART_VALUES = 1 << 21
"""Of a matrix that is widened to be rounded, at a time."""
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"

_T = TypeVar("_T")

SIGNATURES: Signatures = {
    "apprentice_decoder_matrix_bytes": (c_int64, c_int, c_int64, c_int64),
    "apprentice_decoder_matrix_clear": (c_int, c_int, c_int64, c_int64, c_void_p),
    "apprentice_decoder_matrix_fill": (
        c_int, c_int, c_int64, c_int64, c_void_p, c_void_p, c_int64, c_int64, c_int, c_void_p,
    ),
}  # fmt: skip


class CMatrix(Structure):
    """`Matrix` of decoder_pass.h."""

    _fields_ = [
        ("kind", c_int32), ("outputs", c_int64), ("inputs", c_int64), ("data", c_void_p), ("factor", c_float),
        ("factors", c_void_p), ("bias", c_void_p),
    ]  # fmt: skip


class CAdapter(Structure):
    """`Adapter` of decoder_pass.h."""

    _fields_ = [("rank", c_int64), ("narrow", c_void_p), ("wide", c_void_p)]  # noqa: RUF012 - of ctypes


class CLayer(Structure):
    """`Layer` of decoder_pass.h."""

    _fields_ = [
        ("input_norm", c_void_p), ("qkv", CMatrix), ("q_norm", c_void_p), ("k_norm", c_void_p), ("output", CMatrix),
        ("mlp_norm", c_void_p), ("gate_up", CMatrix), ("down", CMatrix),
    ]  # fmt: skip


class CModel(Structure):
    """`ApprenticeModel` of c_decoder.h."""

    _fields_ = [
        ("hidden", c_int64), ("heads", c_int64), ("kv_heads", c_int64), ("head_size", c_int64), ("inner", c_int64),
        ("vocab", c_int64), ("max_positions", c_int64), ("num_layers", c_int64), ("cache_bits", c_int64),
        ("epsilon", c_float), ("rope_factor", c_float), ("frequencies", c_void_p), ("embedding", CMatrix),
        ("embedding_factors", c_void_p),
        ("layers", POINTER(CLayer)), ("norm", c_void_p), ("head", CMatrix),
    ]  # fmt: skip


@dataclass(slots=True)
class _Matrix:
    """What a matrix has besides its place in the arena."""

    factor: np.float32
    factors_O: np.ndarray | None
    bias_O: np.ndarray | None


@dataclass(slots=True)
class PackedModel:
    """What `apprentice_decoder_new` takes, and the memory that it points to."""

    model: CModel
    num_bytes: int
    """Of all matrices."""
    is_quantized: bool
    layers: list[balance.Layer]
    norm_D: np.ndarray
    places: list[np.ndarray]
    """uint8, the memory of each matrix: four a layer, then the head."""
    embedding_factors_D: np.ndarray
    """What rows of an embedding in tiles are multiplied by."""
    arena: np.ndarray
    """uint8, all of `places`."""
    matrices: list[_Matrix]
    """In the order of `places`."""
    kept: list[Any] = field(default_factory=list)
    """Everything that must outlive the decoder."""


@dataclass(slots=True)
class PackedAdapter:
    """What `apprentice_decoder_adapt` takes, and the memory that it points to."""

    adapters: Any
    """CAdapter, four for each layer."""
    kept: list[np.ndarray]


@dataclass(frozen=True, slots=True)
class _Plan:
    """A matrix to be: parts of the checkpoint below each other."""

    modules: tuple[str, ...]
    """Names without `.weight`."""
    kind: int
    outputs: int
    inputs: int
    is_woven: bool = False

    def places(self, checkpoint: Checkpoint) -> Iterator[tuple[str, int, np.ndarray]]:
        """Module, first output, all outputs of each part."""
        first = 0
        for module in self.modules:
            rows = np.arange(checkpoint.shape(module + ".weight")[0])
            outputs = first + (rows // LANES * 2 * LANES + rows % LANES if self.is_woven else rows)
            yield module, first, outputs
            first += LANES if self.is_woven else len(rows)


def pack(
    library: Library, checkpoint: Checkpoint, *, cache_bits: Literal[16, 8] = 16, memory_bytes: int | None = None,
    contents: Contents | None = None,
) -> PackedModel:
    """`cache_bits`: of keys and values. `contents`: of this checkpoint: then nothing is packed. Raises: InputError
    naming file and tensor, or what memory it would take (`memory_bytes`: that may be used; None = that is free); KeyError or ValueError for contents of
    another model."""
    return _Packer(library, checkpoint).pack(cache_bits, memory_bytes, contents)


def contents_of(packed: PackedModel, factors: Sequence[balance.Factors]) -> dict[str, np.ndarray]:
    """All that packing and balancing found out beside the arena, by name, float32."""
    contents = {"norm": packed.norm_D, "embedding_factors": packed.embedding_factors_D}
    for number, matrix in enumerate(packed.matrices):
        contents[f"matrices.{number}.factor"] = np.array([matrix.factor], np.float32)
        for name, array in (("factors", matrix.factors_O), ("bias", matrix.bias_O)):
            if array is not None:
                contents[f"matrices.{number}.{name}"] = array
    for index, (layer, found) in enumerate(zip(packed.layers, factors, strict=True)):
        at = f"layers.{index}."
        contents |= {at + "input_norm": layer.input_norm_D, at + "mlp_norm": layer.mlp_norm_D}
        contents |= {at + "qkv": found.qkv_D, at + "gate_up": found.gate_up_D, at + "down": found.down_F}
    return contents


def factors_in(contents: Contents, config: ModelConfig) -> list[balance.Factors]:
    """What `balanced` gave. Raises: KeyError, ValueError for contents of another model."""
    sizes = {"qkv": config.hidden_size, "gate_up": config.hidden_size, "down": config.intermediate_size}
    return [
        balance.Factors(*(_shaped(contents, f"layers.{index}.{name}", size) for name, size in sizes.items()))
        for index in range(config.num_layers)
    ]


def _shaped(contents: Contents, name: str, size: int) -> np.ndarray:
    array = contents.arrays[name]
    if array.shape != (size,):
        raise ValueError(f"`{name}` has shape {array.shape}, not ({size},)")
    return array


def balanced(
    library: Library, checkpoint: Checkpoint, packed: PackedModel, sizes: np.ndarray
) -> list[balance.Factors]:
    """Moves powers of two between inputs and weights of a quantized model in place: for each layer what inputs are divided by,
    for `pack_adapter`. `sizes`: [layers (2 D + F) + D], of inputs, as the decoder observes them. Nobody may be computing."""
    return _Packer(library, checkpoint).balanced(packed, sizes)


class _Packer:
    """One packing."""

    def __init__(self, library: Library, checkpoint: Checkpoint) -> None:
        self._functions, self._checkpoint = library.bind(SIGNATURES), checkpoint
        self._kept: list[Any] = []
        self._biases: dict[tuple[str, ...], np.ndarray] = {}

    def pack(self, cache_bits: int, memory_bytes: int | None, contents: Contents | None) -> PackedModel:
        config, plans = self._checkpoint.config, self._plans()
        is_quantized = any(plan.kind == NVFP4 for plan in plans)
        plans += self._end_plans(is_quantized)
        sizes = [-(-self._num_bytes(plan) // 64) * 64 for plan in plans]
        rows_bytes = 0 if is_quantized else 4 * config.vocab_size * config.hidden_size
        num_bytes = sum(sizes) + rows_bytes
        self._checkpoint.check_memory(num_bytes + ROOM_BESIDE_WEIGHTS_BYTES, memory_bytes, "packed")
        # One piece, large enough for huge pages: numpy tells the system that they are welcome.
        arena = self._keep(tiles.aligned(sum(sizes)))
        starts = np.cumsum([0, *sizes]).tolist()
        if contents is None:
            with ThreadPoolExecutor(min(machine.cores(), 8)) as workers:
                matrices = list(workers.map(self._matrix, plans, (arena[start:] for start in starts)))
        else:
            contents.fill(arena)
            matrices = [self._known(contents, number, plan) for number, plan in enumerate(plans)]
        self._biases |= {plan.modules: matrix.bias_O for plan, matrix in zip(plans, matrices, strict=True) if matrix.bias_O is not None}
        c_matrices = [self._c_matrix(*parts) for parts in zip(plans, matrices, (arena[start:] for start in starts), strict=False)]
        places = [arena[start : start + size] for start, size in zip(starts, map(self._num_bytes, plans), strict=False)]
        parts = [self._parts_of_layer(index, plans, places) for index in range(config.num_layers)]
        layers = self._keep((CLayer * config.num_layers)())
        for index in range(config.num_layers):
            layers[index] = self._layer(index, parts[index], c_matrices[4 * index : 4 * index + 4])
        norm_D, embedding_factors_D = self._vector("model.norm.weight"), np.ones(config.hidden_size, np.float32)
        radians, factor = rope.frequencies(config)
        model = CModel(
            hidden=config.hidden_size, heads=config.num_heads, kv_heads=config.num_kv_heads, head_size=config.head_size,
            inner=config.intermediate_size, vocab=config.vocab_size, max_positions=config.max_positions,
            num_layers=config.num_layers, cache_bits=cache_bits, epsilon=config.norm_epsilon, rope_factor=factor,
            frequencies=self._floats(radians),
            embedding=c_matrices[-1] if is_quantized else self._rows(), embedding_factors=embedding_factors_D.ctypes.data,
            layers=cast(layers, POINTER(CLayer)), norm=norm_D.ctypes.data, head=c_matrices[4 * config.num_layers],
        )  # fmt: skip
        if contents is not None:
            width = config.hidden_size
            norm_D[...], embedding_factors_D[...] = _shaped(contents, "norm", width), _shaped(contents, "embedding_factors", width)
            for index, part in enumerate(parts):
                part.input_norm_D[...] = _shaped(contents, f"layers.{index}.input_norm", width)
                part.mlp_norm_D[...] = _shaped(contents, f"layers.{index}.mlp_norm", width)
        return PackedModel(
            model, num_bytes, is_quantized, parts, norm_D, places, embedding_factors_D, arena, matrices, self._kept
        )

    def balanced(self, packed: PackedModel, sizes: np.ndarray) -> list[balance.Factors]:
        config = self._checkpoint.config
        hidden, inner = config.hidden_size, config.intermediate_size
        of_layers = sizes[: -hidden].reshape(config.num_layers, 2 * hidden + inner)
        of_matrices = np.split(of_layers, [hidden, 2 * hidden], axis=1)
        with ThreadPoolExecutor(min(machine.cores(), 8)) as workers:
            factors = list(workers.map(balance.balance_layer, packed.layers, *of_matrices))
            factors = list(workers.map(self._balance_kept, range(config.num_layers), itertools.repeat(packed), factors, *of_matrices[:2]))
        plan = self._end_plans(is_quantized=True)[0]
        if plan.kind == INT8:
            factors_D = self._balance_int8(plan, packed.places[4 * config.num_layers], sizes[-hidden:], packed.norm_D)
            if config.tie_embeddings:
                packed.embedding_factors_D /= factors_D
        return factors

    def _balance_kept(
        self, index: int, packed: PackedModel, factors: balance.Factors, qkv_sizes_D: np.ndarray, gate_up_sizes_D: np.ndarray
    ) -> balance.Factors:
        """The same for matrices of a layer that are in 8 bits and read what a norm gives."""
        plans, places, layer = self._layer_plans(index), packed.places[4 * index : 4 * index + 4], packed.layers[index]
        if plans[0].kind != NVFP4:
            factors = replace(factors, qkv_D=self._balance_int8(plans[0], places[0], qkv_sizes_D, layer.input_norm_D))
        if plans[GATE_UP].kind != NVFP4:
            gate_up_D = self._balance_int8(plans[GATE_UP], places[GATE_UP], gate_up_sizes_D, layer.mlp_norm_D)
            factors = replace(factors, gate_up_D=gate_up_D)
        return factors

    def _balance_int8(self, plan: _Plan, data: np.ndarray, sizes_D: np.ndarray, norm_D: np.ndarray) -> np.ndarray:
        """Makes a matrix in 8 bits anew, with what its inputs, as large as this, are divided by in the norm before it."""
        factors_D = np.exp2(balance.channel_powers(sizes_D), dtype=np.float32)
        self._matrix(replace(plan, kind=INT8), data, factors_D)
        norm_D /= factors_D
        return factors_D

    def _parts_of_layer(self, index: int, plans: Sequence[_Plan], places: Sequence[np.ndarray]) -> balance.Layer:
        """What balancing changes."""
        at = f"model.layers.{index}."
        tiles_or_none = [
            place.reshape(-1, -(-plan.inputs // tiles.GROUP), tiles.TILE_BYTES) if plan.kind == NVFP4 else None
            for plan, place in zip(plans[4 * index : 4 * index + 4], places[4 * index : 4 * index + 4], strict=True)
        ]
        qkv, _, gate_up, down = tiles_or_none
        return balance.Layer(
            self._vector(at + "input_layernorm.weight"), self._vector(at + "post_attention_layernorm.weight"),
            qkv, gate_up, down, self._biases.get(plans[4 * index + 2].modules),
        )  # fmt: skip

    def _plans(self) -> list[_Plan]:
        """Four a layer."""
        plans = [plan for index in range(self._checkpoint.config.num_layers) for plan in self._layer_plans(index)]
        if any(plan.kind == NVFP4 for plan in plans):
            plans = [plan if plan.kind == NVFP4 else replace(plan, kind=INT8) for plan in plans]
        return plans

    def _layer_plans(self, index: int) -> list[_Plan]:
        config, at = self._checkpoint.config, f"model.layers.{index}."
        hidden, queries = config.hidden_size, config.num_heads * config.head_size
        stacked = queries + 2 * config.num_kv_heads * config.head_size
        gate_up = tuple(f"{at}mlp.{name}_proj" for name in ("gate", "up"))
        return [
            self._plan(tuple(f"{at}self_attn.{name}_proj" for name in "qkv"), stacked, hidden),
            self._plan((f"{at}self_attn.o_proj",), hidden, queries),
            self._plan(gate_up, 2 * (-(-config.intermediate_size // LANES) * LANES), hidden, is_woven=True),
            self._plan((f"{at}mlp.down_proj",), hidden, config.intermediate_size),
        ]

    def _end_plans(self, is_quantized: bool) -> list[_Plan]:
        """The head, then the embedding where that is another matrix that goes into the arena."""
        config = self._checkpoint.config
        names = [EMBEDDING] if config.tie_embeddings else [HEAD, EMBEDDING] if is_quantized else [HEAD]
        modules = [name.removesuffix(".weight") for name in names]
        plans = [self._plan((module,), config.vocab_size, config.hidden_size) for module in modules]
        if not is_quantized:
            return plans
        is_kept = [plan.kind == NVFP4 and name == HEAD for plan, name in zip(plans, names, strict=True)]
        return [plan if kept else replace(plan, kind=INT8) for plan, kept in zip(plans, is_kept, strict=True)]

    def _plan(self, modules: tuple[str, ...], outputs: int, inputs: int, *, is_woven: bool = False) -> _Plan:
        names = [module + ".weight" for module in modules]
        kind = FLOAT
        if all(self._checkpoint.is_packed(name) for name in names):
            kind = NVFP4
        elif all(self._checkpoint.is_bfloat16(name) for name in names):
            kind = BF16
        return _Plan(modules, kind, outputs, inputs, is_woven)

    def _num_bytes(self, plan: _Plan) -> int:
        num_bytes = self._functions.apprentice_decoder_matrix_bytes(plan.kind, plan.outputs, plan.inputs)
        assert num_bytes > 0, plan
        return num_bytes

    def _matrix(self, plan: _Plan, data: np.ndarray, factors_K: np.ndarray | None = None) -> _Matrix:
        """Fills `data`. `factors_K`: of the inputs of a matrix that is rounded here, into its weights."""
        at = c_void_p(data.ctypes.data)
        self._functions.apprentice_decoder_matrix_clear(plan.kind, plan.outputs, plan.inputs, at)
        divisors_O, bias_O = np.ones(plan.outputs, np.float32), np.zeros(plan.outputs, np.float32)
        has_bias = False
        filled: list[np.ndarray] = []
        for module, first, outputs in plan.places(self._checkpoint):
            for rows, weights, scales in self._parts(plan, module + ".weight", divisors_O, outputs):
                if factors_K is not None:
                    with np.errstate(over="ignore"):
                        # What is near the end of float32 stays there: an infinite scale would make all outputs no numbers.
                        weights = np.clip(weights * factors_K, -LARGEST, LARGEST)
                failed = self._functions.apprentice_decoder_matrix_fill(
                    plan.kind, plan.outputs, plan.inputs, weights.ctypes.data,
                    None if scales is None else scales.ctypes.data, len(weights), first + (2 * rows if plan.is_woven else rows),
                    plan.is_woven, at,
                )  # fmt: skip
                assert not failed, module
            filled.append(divisors_O[outputs])
            if module + ".bias" in self._checkpoint:
                has_bias, bias_O[outputs] = True, self._checkpoint.read(module + ".bias")
        is_one_scale = len(np.unique(np.concatenate(filled))) == 1
        factors_O = None if is_one_scale else divisors_O[0] / divisors_O
        return _Matrix(np.float32(1) / divisors_O[0], factors_O, bias_O if has_bias else None)

    def _known(self, contents: Contents, number: int, plan: _Plan) -> _Matrix:
        """As an earlier start made it."""
        at = f"matrices.{number}."
        factors_O, bias_O = (
            _shaped(contents, at + name, plan.outputs) if at + name in contents.arrays else None for name in ("factors", "bias")
        )
        return _Matrix(np.float32(_shaped(contents, at + "factor", 1)[0]), factors_O, bias_O)

    def _c_matrix(self, plan: _Plan, matrix: _Matrix, data: np.ndarray) -> CMatrix:
        factors, bias = (None if array is None else self._floats(array) for array in (matrix.factors_O, matrix.bias_O))
        return CMatrix(
            kind=plan.kind, outputs=plan.outputs, inputs=plan.inputs, data=c_void_p(data.ctypes.data), factor=matrix.factor,
            factors=factors, bias=bias,
        )  # fmt: skip

    def _parts(
        self, plan: _Plan, name: str, divisors_O: np.ndarray, outputs: np.ndarray
    ) -> Iterator[tuple[int, np.ndarray, np.ndarray | None]]:
        """First row, weights, scales of pieces of a tensor as `apprentice_decoder_matrix_fill` takes them."""
        if plan.kind == NVFP4:
            packed = _in_tiles(self._checkpoint.packed(name))
            divisors_O[outputs] = packed.global_scale
            yield 0, np.ascontiguousarray(packed.codes), np.ascontiguousarray(packed.scales)
        elif plan.kind == BF16:
            yield 0, np.ascontiguousarray(self._checkpoint.bfloat16(name)), None
        else:
            step = max(PART_VALUES // plan.inputs // LANES * LANES, 2 * LANES)
            for row in range(0, len(outputs), step):
                yield row, self._checkpoint.read(name, rows=slice(row, row + step)), None

    def _layer(self, index: int, parts: balance.Layer, matrices: Sequence[CMatrix]) -> CLayer:
        at = f"model.layers.{index}.self_attn."
        qkv, output, gate_up, down = matrices
        norms = [at + name for name in ("q_norm.weight", "k_norm.weight")]
        q_norm, k_norm = (self._vector(name).ctypes.data if name in self._checkpoint else None for name in norms)
        return CLayer(
            input_norm=parts.input_norm_D.ctypes.data, qkv=qkv, q_norm=q_norm, k_norm=k_norm, output=output,
            mlp_norm=parts.mlp_norm_D.ctypes.data, gate_up=gate_up, down=down,
        )  # fmt: skip

    def _rows(self) -> CMatrix:
        """The embedding as it is stored, row below row."""
        config = self._checkpoint.config
        is_bfloat16 = self._checkpoint.is_bfloat16(EMBEDDING)
        rows_VD = self._checkpoint.bfloat16(EMBEDDING).copy() if is_bfloat16 else self._checkpoint.read(EMBEDDING)
        return CMatrix(
            kind=BF16 if is_bfloat16 else FLOAT, outputs=config.vocab_size, inputs=config.hidden_size, factor=1,
            data=self._keep(rows_VD).ctypes.data,
        )  # fmt: skip

    def _vector(self, name: str) -> np.ndarray:
        """A norm's weights."""
        return self._keep(self._checkpoint.read(name))

    def _floats(self, array: np.ndarray) -> int:
        return self._keep(np.ascontiguousarray(array, np.float32)).ctypes.data

    def _keep(self, kept: _T) -> _T:
        self._kept.append(kept)
        return kept


def pack_adapter(
    library: Library, config: ModelConfig, corrections: Mapping[str, LowRank], factors: Sequence[balance.Factors] = ()
) -> PackedAdapter:
    """Corrections as they stand beside the stacked matrices: of q, k and v one of three times the rank, in which each reads
    its own part. `factors`: of each layer of a model that is `balanced`."""
    functions = library.bind(SIGNATURES)
    kept: list[np.ndarray] = []
    adapters = (CAdapter * (4 * config.num_layers))()
    for index in range(config.num_layers):
        for number, (names, rows) in enumerate(_stacks(config, index)):
            parts = [(corrections[name], outputs) for name, outputs in zip(names, rows, strict=True) if name in corrections]
            if not parts:
                continue
            a_RI = np.ascontiguousarray(np.concatenate([part.a_RI for part, _ in parts]), np.float32)
            read = (factors[index].qkv_D, None, factors[index].gate_up_D, factors[index].down_F)[number] if factors else None
            if read is not None:
                a_RI = a_RI * read
            rank, inputs = a_RI.shape
            num_outputs = -(-(1 + max(int(outputs.max()) for outputs in rows)) // LANES) * LANES
            wide_RO = np.zeros((rank, num_outputs), np.float32)
            at = 0
            for part, outputs in parts:
                wide_RO[at : at + len(part.a_RI), outputs] = np.float32(part.scale) * part.b_OR.T
                at += len(part.a_RI)
            if factors and number == GATE_UP:
                wide_RO /= balance.outputs_of_up(factors[index].down_F, num_outputs)
            narrow = tiles.aligned(functions.apprentice_decoder_matrix_bytes(FLOAT, rank, inputs))
            place = c_void_p(narrow.ctypes.data)
            functions.apprentice_decoder_matrix_clear(FLOAT, rank, inputs, place)
            failed = functions.apprentice_decoder_matrix_fill(FLOAT, rank, inputs, a_RI.ctypes.data, None, rank, 0, False, place)
            assert not failed
            kept += [narrow, wide_RO]
            adapters[4 * index + number] = CAdapter(rank=rank, narrow=place, wide=wide_RO.ctypes.data)
    return PackedAdapter(adapters, kept)


def _stacks(config: ModelConfig, index: int) -> Iterator[tuple[list[str], list[np.ndarray]]]:
    """Modules of each stacked matrix of a layer, and which outputs are each one's."""
    at = f"model.layers.{index}."
    queries, keys = config.num_heads * config.head_size, config.num_kv_heads * config.head_size
    ends = np.cumsum([0, queries, keys, keys])
    yield [f"{at}self_attn.{name}_proj" for name in "qkv"], [np.arange(a, b) for a, b in itertools.pairwise(ends.tolist())]
    yield [f"{at}self_attn.o_proj"], [np.arange(config.hidden_size)]
    rows = np.arange(config.intermediate_size)
    woven = rows // LANES * 2 * LANES + rows % LANES
    # The last 16 of `up` may be fewer: the matrix is as large as if they were not.
    yield [f"{at}mlp.gate_proj", f"{at}mlp.up_proj"], [woven, woven + LANES]
    yield [f"{at}mlp.down_proj"], [np.arange(config.hidden_size)]


def _in_tiles(packed: Packed) -> nvfp4.Packed:
    """The same matrix in NVFP4 with no negative scale, which nobody writes but a file may hold: their sign goes to the codes."""
    if isinstance(packed, mxfp4.Packed):
        return mxfp4.as_nvfp4(packed)
    is_negative = packed.scales >= 0x80
    if not is_negative.any():
        return packed
    flips = np.repeat(np.where(is_negative, np.uint8(0x88), np.uint8(0)), nvfp4.BLOCK // 2, axis=1)
    return nvfp4.Packed(packed.codes ^ flips, packed.scales & np.uint8(0x7F), packed.global_scale)
