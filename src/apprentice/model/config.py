"""The shape of a decoder, read from and written to the `config.json` of a Hugging Face folder. No torch here.

    config.json of Llama (SmolLM2), Qwen2/2.5, Qwen3  <-->  ModelConfig

The three families are one decoder with a few switches: biases on q, k and v (Qwen2), a norm on each query and key
(Qwen3). A config file comes from outside: every number has a bound, so that no later multiplication of two of them can
ask for absurd memory unnoticed, and what this decoder does not compute (sliding windows, other activations, custom
code) is refused by name instead of being computed wrongly.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from apprentice.core.errors import DAMAGED_HINT, HostileInputError, InputError

Architecture = Literal["llama", "qwen2", "qwen3"]

CLASS_NAMES: dict[Architecture, str] = {
    "llama": "LlamaForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}
MAX_JSON_BYTES = 64 * 2**20
OTHER_ARCHITECTURE_HINT = (
    "this decoder reads Llama/SmolLM2, Qwen2/2.5 and Qwen3 checkpoints; choose a base of one of these families"
)

_T = TypeVar("_T")
_UPPER_BOUNDS = {
    "vocab_size": 2**22,
    "hidden_size": 2**17,
    "intermediate_size": 2**20,
    "num_layers": 1024,
    "num_heads": 1024,
    "num_kv_heads": 1024,
    "head_size": 1024,
    "max_positions": 2**26,
}
_SETTINGS_OF_ROPE = {
    "default": (),
    "linear": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
    "yarn": ("factor",),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class RopeScaling:
    """How rotary frequencies are stretched beyond the trained context: the keys of transformers' `rope_scaling`."""

    rope_type: Literal["linear", "llama3", "yarn"]
    factor: float
    """Trained context times factor = new context, above 0."""
    original_max_position_embeddings: int | None = None
    """Context of the pre-training in tokens; None = `max_positions`."""
    low_freq_factor: float = 1.0
    """llama3: wavelengths longer than context / low are stretched in full."""
    high_freq_factor: float = 4.0
    """llama3: wavelengths shorter than context / high are left alone."""
    beta_fast: float = 32.0
    """yarn: rotations within the context from which a frequency is left alone."""
    beta_slow: float = 1.0
    """yarn: rotations below which a frequency is stretched in full."""
    attention_factor: float | None = None
    """yarn: factor on queries and keys; None = 0.1 ln(factor) + 1."""
    mscale: float | None = None
    """yarn: used with mscale_all_dim to derive attention_factor."""
    mscale_all_dim: float | None = None
    truncate: bool = True
    """yarn: round the borders of the ramp to whole dimensions."""

    def __post_init__(self) -> None:
        if not 0 < self.factor <= 4096:
            raise InputError(f"rope scaling factor {self.factor} is not in (0, 4096]")
        if self.rope_type == "llama3" and not 0 < self.low_freq_factor < self.high_freq_factor:
            raise InputError("rope scaling needs 0 < low_freq_factor < high_freq_factor")
        if self.rope_type == "yarn" and not 0 < self.beta_slow < self.beta_fast:
            raise InputError("rope scaling needs 0 < beta_slow < beta_fast")


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """Shape and constants of a decoder."""

    architecture: Architecture
    vocab_size: int
    """Rows of the embedding; may exceed the tokenizer's."""
    hidden_size: int
    """Width of the residual stream."""
    intermediate_size: int
    """Width of the gated MLP."""
    num_layers: int
    num_heads: int
    """Query heads."""
    num_kv_heads: int
    """Key and value heads, a divisor of num_heads."""
    head_size: int
    """Width of a head, even."""
    max_positions: int
    """Longest sequence in tokens."""
    rope_theta: float = 10000.0
    rope_scaling: RopeScaling | None = None
    norm_epsilon: float = 1e-6
    tie_embeddings: bool = True
    """The output head is the embedding."""
    qkv_bias: bool = False
    output_bias: bool = False
    """Bias on the attention's output projection."""
    mlp_bias: bool = False
    qk_norm: bool = False
    """RMSNorm over each query and key head."""
    bos_id: int | None = None
    eos_ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name, bound in _UPPER_BOUNDS.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= bound:
                raise InputError(f"{name} is {value!r}, not a whole number from 1 to {bound}")
        if self.num_heads % self.num_kv_heads:
            raise InputError(f"num_kv_heads {self.num_kv_heads} does not divide num_heads {self.num_heads}")
        if self.head_size % 2:
            raise InputError(f"head_size {self.head_size} is odd")
        if not 0 < self.rope_theta <= 1e12:
            raise InputError(f"rope_theta {self.rope_theta} is not in (0, 1e12]")
        if not 0 < self.norm_epsilon < 0.1:
            raise InputError(f"norm_epsilon {self.norm_epsilon} is not in (0, 0.1)")

    @property
    def num_parameters(self) -> int:
        """All parameters, a tied head counted once."""
        return sum(_product(shape) for shape in parameter_shapes(self).values())


def parameter_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Every tensor of a checkpoint with its shape, under the names that Hugging Face folders use."""
    hidden, inner = config.hidden_size, config.intermediate_size
    queries, keys = config.num_heads * config.head_size, config.num_kv_heads * config.head_size
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (config.vocab_size, hidden)}
    for layer in range(config.num_layers):
        at = f"model.layers.{layer}."
        shapes[at + "input_layernorm.weight"] = (hidden,)
        for name, rows in (("q", queries), ("k", keys), ("v", keys)):
            shapes[at + f"self_attn.{name}_proj.weight"] = (rows, hidden)
            if config.qkv_bias:
                shapes[at + f"self_attn.{name}_proj.bias"] = (rows,)
        shapes[at + "self_attn.o_proj.weight"] = (hidden, queries)
        if config.output_bias:
            shapes[at + "self_attn.o_proj.bias"] = (hidden,)
        if config.qk_norm:
            shapes[at + "self_attn.q_norm.weight"] = (config.head_size,)
            shapes[at + "self_attn.k_norm.weight"] = (config.head_size,)
        shapes[at + "post_attention_layernorm.weight"] = (hidden,)
        for name, rows, columns in (("gate", inner, hidden), ("up", inner, hidden), ("down", hidden, inner)):
            shapes[at + f"mlp.{name}_proj.weight"] = (rows, columns)
            if config.mlp_bias:
                shapes[at + f"mlp.{name}_proj.bias"] = (rows,)
    shapes["model.norm.weight"] = (hidden,)
    if not config.tie_embeddings:
        shapes["lm_head.weight"] = (config.vocab_size, hidden)
    return shapes


def read_config(folder: Path) -> ModelConfig:
    """The config of a Hugging Face folder. Raises: InputError naming the file and what is wrong in it."""
    path = folder / "config.json"
    data = read_json(path)
    try:
        return from_hugging_face(data)
    except InputError as error:
        raise type(error)(f"{path}: {error.message}", hint=error.hint or DAMAGED_HINT) from None


def read_json(path: Path) -> dict[str, Any]:
    """An object out of a JSON file of bounded size."""
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise HostileInputError(f"{path}: more than {MAX_JSON_BYTES // 2**20} MiB of JSON", hint=DAMAGED_HINT)
        data = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}", hint="is this a Hugging Face model folder?") from None
    except (ValueError, RecursionError):
        raise InputError(f"{path}: not valid JSON", hint=DAMAGED_HINT) from None
    if not isinstance(data, dict):
        raise InputError(f"{path}: not a JSON object", hint=DAMAGED_HINT)
    return data


def from_hugging_face(data: dict[str, Any]) -> ModelConfig:
    """The keys of a `config.json` -> ModelConfig."""
    if "auto_map" in data:
        raise HostileInputError(
            "`auto_map` asks to run code that comes with the checkpoint", hint=OTHER_ARCHITECTURE_HINT
        )
    architecture = known_architecture(data.get("model_type"))
    _refuse_what_is_not_computed(data)
    hidden, heads = _whole(data, "hidden_size"), _whole(data, "num_attention_heads")
    theta, scaling = _rope(data)
    default_head = hidden // heads if heads > 0 else 0
    attention_bias = _get(data, "attention_bias", bool, False)
    return ModelConfig(
        architecture=architecture,
        vocab_size=_whole(data, "vocab_size"),
        hidden_size=hidden,
        intermediate_size=_whole(data, "intermediate_size"),
        num_layers=_whole(data, "num_hidden_layers"),
        num_heads=heads,
        num_kv_heads=_whole(data, "num_key_value_heads", heads),
        head_size=_whole(data, "head_dim", 128 if architecture == "qwen3" else default_head),
        max_positions=_whole(data, "max_position_embeddings", 2048 if architecture == "llama" else 32768),
        rope_theta=theta,
        rope_scaling=scaling,
        norm_epsilon=float(_get(data, "rms_norm_eps", (int, float), 1e-6)),
        tie_embeddings=_get(data, "tie_word_embeddings", bool, False),
        qkv_bias=architecture == "qwen2" or attention_bias,
        output_bias=architecture != "qwen2" and attention_bias,
        mlp_bias=architecture == "llama" and _get(data, "mlp_bias", bool, False),
        qk_norm=architecture == "qwen3",
        bos_id=_get(data, "bos_token_id", int, None),
        eos_ids=_token_ids(data.get("eos_token_id")),
    )


def known_architecture(name: object) -> Architecture:
    """Raises: InputError for an architecture that this decoder does not compute."""
    for known in CLASS_NAMES:
        if name == known:
            return known
    raise InputError(f"architecture {name!r:.80} is not supported", hint=OTHER_ARCHITECTURE_HINT)


def to_hugging_face(config: ModelConfig, *, dtype: str = "float32") -> dict[str, Any]:
    """A `config.json` that transformers, vLLM and llama.cpp's converter read."""
    rope: dict[str, Any] = {"rope_type": "default"}
    if config.rope_scaling is not None:
        fields = {k: v for k, v in asdict(config.rope_scaling).items() if v is not None}
        keep = {"rope_type", *_SETTINGS_OF_ROPE[config.rope_scaling.rope_type], "original_max_position_embeddings"}
        if config.rope_scaling.rope_type == "yarn":
            keep |= {"beta_fast", "beta_slow", "attention_factor", "mscale", "mscale_all_dim", "truncate"}
        rope = {k: v for k, v in fields.items() if k in keep}
    data: dict[str, Any] = {
        "architectures": [CLASS_NAMES[config.architecture]],
        "model_type": config.architecture,
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.head_size,
        "max_position_embeddings": config.max_positions,
        "rope_theta": config.rope_theta,
        "rope_scaling": rope if config.rope_scaling else None,
        "rope_parameters": {**rope, "rope_theta": config.rope_theta},
        "rms_norm_eps": config.norm_epsilon,
        "hidden_act": "silu",
        "tie_word_embeddings": config.tie_embeddings,
        "bos_token_id": config.bos_id,
        "eos_token_id": _one_or_many(config.eos_ids),
        "torch_dtype": dtype,
        "dtype": dtype,
        "use_cache": True,
    }
    if config.architecture != "qwen2":
        data["attention_bias"] = config.qkv_bias
    if config.architecture == "llama":
        data["mlp_bias"] = config.mlp_bias
    else:
        data["use_sliding_window"] = False
    return data


def _refuse_what_is_not_computed(data: dict[str, Any]) -> None:
    if data.get("hidden_act", "silu") not in ("silu", "swish"):
        raise InputError(
            f"hidden_act {data['hidden_act']!r} is not supported, only `silu`", hint=OTHER_ARCHITECTURE_HINT
        )
    layer_types = data.get("layer_types") or []
    if data.get("use_sliding_window") or (isinstance(layer_types, list) and "sliding_attention" in layer_types):
        raise InputError("sliding-window attention is not supported", hint=OTHER_ARCHITECTURE_HINT)
    if _get(data, "pretraining_tp", int, 1) != 1:
        raise InputError("pretraining_tp other than 1 is not supported")


def _rope(data: dict[str, Any]) -> tuple[float, RopeScaling | None]:
    """Both spellings: `rope_theta` + `rope_scaling`, and the newer `rope_parameters`."""
    newer, older = _get(data, "rope_parameters", dict, None), _get(data, "rope_scaling", dict, None)
    settings = newer or older or {}
    theta = float(_get(settings, "rope_theta", (int, float), _get(data, "rope_theta", (int, float), 10000.0)))
    kind = settings.get("rope_type", settings.get("type", "default"))
    if kind not in _SETTINGS_OF_ROPE:
        raise InputError(f"rope type {kind!r} is not supported, only {', '.join(_SETTINGS_OF_ROPE)}")
    if _get(settings, "partial_rotary_factor", (int, float), 1.0) != 1.0:
        raise InputError("partial rotary embeddings are not supported", hint=OTHER_ARCHITECTURE_HINT)
    if kind == "default":
        return theta, None
    for name in _SETTINGS_OF_ROPE[kind]:
        if name not in settings:
            raise InputError(f"rope scaling of type {kind!r} lacks {name!r}")
    known = {name: settings[name] for name in RopeScaling.__slots__ if settings.get(name) is not None}
    for name, value in known.items():
        if name not in ("rope_type", "truncate"):
            _get(settings, name, (int, float), None)
            known[name] = int(value) if name == "original_max_position_embeddings" else float(value)
    known["rope_type"] = kind
    return theta, RopeScaling(**known)


def _get(data: dict[str, Any], name: str, kind: type[_T] | tuple[type, ...], default: Any) -> Any:
    value = data.get(name)
    if value is None:
        return default
    wrong_bool = isinstance(value, bool) and kind is not bool
    if wrong_bool or not isinstance(value, kind):
        raise InputError(f"{name!r} is {value!r:.80}, which is no {getattr(kind, '__name__', 'number')}")
    return value


def _whole(data: dict[str, Any], name: str, default: int | None = None) -> int:
    value = _get(data, name, int, default)
    if value is None:
        raise InputError(f"{name!r} is missing")
    return value


def _token_ids(value: Any) -> tuple[int, ...]:
    values = value if isinstance(value, list) else [] if value is None else [value]
    if len(values) > 64 or any(isinstance(x, bool) or not isinstance(x, int) for x in values):
        raise InputError(f"'eos_token_id' is {value!r:.80}, not one or a few token ids")
    return tuple(values)


def _one_or_many(ids: tuple[int, ...]) -> int | list[int] | None:
    return None if not ids else ids[0] if len(ids) == 1 else list(ids)


def _product(shape: tuple[int, ...]) -> int:
    total = 1
    for size in shape:
        total *= size
    return total
