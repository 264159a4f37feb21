"""A GGUF file -> a Hugging Face folder: config.json, model.safetensors (BF16), the tokenizer, a model card.

    llama.block_count, ...          -> config.json
    blk.3.attn_q.weight (Q4_1, ...) -> model.layers.3.self_attn.q_proj.weight
    tokenizer.ggml.*                -> tokenizer.json, tokenizer_config.json, generation_config.json

llama.cpp stores the rows of Llama's query and key projections in another order (rotary planes are neighbours there,
half a head apart here); they are put back. Weights are written as BF16: what quantization left is coarser than that.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from apprentice.core import files
from apprentice.core.errors import DAMAGED_HINT, HostileInputError, InputError
from apprentice.model import tensor_files
from apprentice.model.config import (
    ModelConfig,
    known_architecture,
    parameter_shapes,
    to_hugging_face,
)
from apprentice.model.gguf import GgufFile
from apprentice.text.tokenizer import Tokenizer

_NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_CONTROL, _USER_DEFINED = 3, 4


def convert(gguf_path: Path, folder: Path) -> ModelConfig:
    """Writes the folder. Raises: InputError naming the file and what is not supported in it."""
    source = GgufFile(gguf_path)
    config = read_config(source)
    shapes = parameter_shapes(config)
    for name, shape in shapes.items():
        place = source.tensors.get(gguf_name(name))
        if place is None or place.shape != shape:
            found = "missing" if place is None else f"of shape {place.shape}"
            raise HostileInputError(
                f"{gguf_path}: tensor `{gguf_name(name)}` is {found}, the metadata ask for {shape}", hint=DAMAGED_HINT
            )
    files.make_folder(folder)
    tokenizer = read_tokenizer(source, config)
    tensor_files.write(
        folder / "model.safetensors", {n: ("BF16", s) for n, s in shapes.items()}, _arrays(source, config)
    )
    files.write_json(folder / "config.json", to_hugging_face(config, dtype="bfloat16"))
    files.write_json(
        folder / "generation_config.json", {"bos_token_id": config.bos_id, "eos_token_id": list(tokenizer.eos_ids)}
    )
    tokenizer.save(folder)
    files.write_text(folder / "README.md", _card(source))
    return config


def read_config(source: GgufFile) -> ModelConfig:
    """The shape of the model out of the metadata."""
    try:
        architecture = known_architecture(source.metadata.get("general.architecture"))
    except InputError as error:
        raise InputError(f"{source.path}: {error.message}", hint=error.hint) from None
    if (
        "rope_freqs.weight" in source.tensors
        or source.metadata.get(f"{architecture}.rope.scaling.type", "none") != "none"
    ):
        raise InputError(
            f"{source.path}: rope scaling in GGUF files is not supported", hint="take the model's safetensors folder"
        )

    def get(name: str, kind: type, default: Any = None) -> Any:
        value = source.metadata.get(f"{architecture}.{name}", default)
        if value is None or isinstance(value, bool) or not isinstance(value, kind):
            raise InputError(
                f"{source.path}: metadata `{architecture}.{name}` is {value!r:.40}, which is no {kind.__name__}"
            )
        return value

    hidden, heads = get("embedding_length", int), get("attention.head_count", int)
    vocabulary = source.tensors.get("token_embd.weight")
    metadata = source.metadata
    bos, eos = metadata.get("tokenizer.ggml.bos_token_id"), metadata.get("tokenizer.ggml.eos_token_id")
    return ModelConfig(
        architecture=architecture,
        vocab_size=vocabulary.shape[0] if vocabulary else 0,
        hidden_size=hidden,
        intermediate_size=get("feed_forward_length", int),
        num_layers=get("block_count", int),
        num_heads=heads,
        num_kv_heads=get("attention.head_count_kv", int, heads),
        head_size=get("attention.key_length", int, hidden // heads if heads > 0 else 0),
        max_positions=get("context_length", int),
        rope_theta=float(get("rope.freq_base", float, 10000.0)),
        # The file holds float32: 9.999999747378752e-06 was written as 1e-05.
        norm_epsilon=float(f"{get('attention.layer_norm_rms_epsilon', float, 1e-5):.7g}"),
        tie_embeddings="output.weight" not in source.tensors,
        qkv_bias="blk.0.attn_q.bias" in source.tensors,
        output_bias="blk.0.attn_output.bias" in source.tensors,
        mlp_bias="blk.0.ffn_up.bias" in source.tensors,
        qk_norm="blk.0.attn_q_norm.weight" in source.tensors,
        bos_id=bos if isinstance(bos, int) else None,
        eos_ids=(eos,) if isinstance(eos, int) else (),
    )


def read_tokenizer(source: GgufFile, config: ModelConfig) -> Tokenizer:
    """The byte-level BPE tokenizer out of the metadata."""
    metadata = source.metadata
    if metadata.get("tokenizer.ggml.model") != "gpt2":
        raise InputError(
            f"{source.path}: tokenizer {metadata.get('tokenizer.ggml.model')!r:.40} is no byte-level BPE, as supported",
            hint="take the model's safetensors folder",
        )
    tokens, kinds, merges = (_list(source, f"tokenizer.ggml.{name}") for name in ("tokens", "token_type", "merges"))
    if len(tokens) != len(kinds) or not all(isinstance(x, str) for x in (tokens[0], merges[0])):
        raise HostileInputError(
            f"{source.path}: the tokenizer's lists are of different lengths or hold no text", hint=DAMAGED_HINT
        )
    if len(tokens) > config.vocab_size or len(set(tokens)) != len(tokens):
        raise HostileInputError(
            f"{source.path}: tokens are named twice or outnumber the embedding's rows", hint=DAMAGED_HINT
        )
    specials = {
        token: i for i, (token, kind) in enumerate(zip(tokens, kinds, strict=True)) if kind in (_CONTROL, _USER_DEFINED)
    }
    pairs = [(first, second) for first, _, second in (merge.partition(" ") for merge in merges)]
    names = {
        "bos_token": "bos_token_id",
        "eos_token": "eos_token_id",
        "unk_token": "unknown_token_id",
        "pad_token": "padding_token_id",
    }
    settings: dict[str, Any] = {"model_max_length": config.max_positions}
    for name, key in names.items():
        token_id = metadata.get(f"tokenizer.ggml.{key}")
        if isinstance(token_id, int) and token_id < len(tokens):
            settings[name] = tokens[token_id]
    template = metadata.get("tokenizer.chat_template")
    if isinstance(template, str):
        settings["chat_template"] = template
    return Tokenizer.from_bpe(
        {token: i for i, token in enumerate(tokens)},
        pairs,
        specials,
        metadata.get("tokenizer.ggml.pre", "gpt-2"),
        config=settings,
        eos_ids=config.eos_ids,
    )


def _list(source: GgufFile, key: str) -> list[Any]:
    value = source.metadata.get(key)
    if not isinstance(value, list) or not value:
        raise HostileInputError(f"{source.path}: metadata `{key}` is missing or no list", hint=DAMAGED_HINT)
    return value


def gguf_name(name: str) -> str:
    """A tensor's name in a Hugging Face folder -> in a GGUF file."""
    path, kind = name.removeprefix("model.").rsplit(".", 1)
    if path.startswith("layers."):
        _, layer, part = path.split(".", 2)
        return f"blk.{layer}.{_NAMES[part]}.{kind}"
    return {"embed_tokens": "token_embd", "norm": "output_norm", "lm_head": "output"}[path] + "." + kind


def _arrays(source: GgufFile, config: ModelConfig) -> Iterator[np.ndarray]:
    for name in parameter_shapes(config):
        array = source.array(gguf_name(name))
        if config.architecture == "llama" and ".q_proj." in name:
            array = _planes_apart(array, config.num_heads)
        elif config.architecture == "llama" and ".k_proj." in name:
            array = _planes_apart(array, config.num_kv_heads)
        yield tensor_files.to_bfloat16(array)


def _planes_apart(rows: np.ndarray, num_heads: int) -> np.ndarray:
    """Undoes llama.cpp's order of rows: (head, plane, half) -> (head, half, plane)."""
    shape = rows.shape
    return rows.reshape(num_heads, shape[0] // num_heads // 2, 2, *shape[1:]).swapaxes(1, 2).reshape(shape)


def _card(source: GgufFile) -> str:
    def say(key: str) -> str:
        return " ".join(str(source.metadata.get(key, "unknown")).split())[:200]

    return (
        f"---\nlicense: {say('general.license')}\n---\n# {say('general.name')}\n\n"
        f"Converted to BF16 from `{source.path.name}`, a GGUF file of organization {say('general.organization')}. "
        "Weights were quantized there: they are close to the published ones, not equal.\n"
    )
