import math
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from apprentice.core.errors import HostileInputError, InputError
from apprentice.model import base, gguf_folder, weights
from apprentice.model.config import ModelConfig, from_hugging_face
from apprentice.model.gguf import GgufFile
from apprentice.model.gguf_folder import gguf_name
from apprentice.model.presets import debug
from apprentice.model.transformer import Transformer
from apprentice.text.token_formats import BYTE_SYMBOLS
from apprentice.text.tokenizer import Tokenizer

SMALL: dict[str, Any] = {
    "vocab_size": 131, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 512,
}  # fmt: skip
F32, F16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, BF16 = 0, 1, 2, 3, 6, 7, 8, 30
Tensor = tuple[tuple[int, ...], int, bytes]


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def typed(value: Any) -> bytes:
    """A metadata value with its type."""
    if isinstance(value, bool):
        return struct.pack("<I?", 7, value)
    if isinstance(value, int):
        return struct.pack("<II", 4, value)
    if isinstance(value, float):
        return struct.pack("<If", 6, value)
    if isinstance(value, str):
        return struct.pack("<I", 8) + text(value)
    if isinstance(value[0], str):
        return struct.pack("<IIQ", 9, 8, len(value)) + b"".join(map(text, value))
    return struct.pack(f"<IIQ{len(value)}i", 9, 5, len(value), *value)


def gguf_bytes(metadata: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> bytes:
    """A GGUF file, version 3. Tensors: name -> (shape in numpy's order, type, data)."""
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata))
    head += b"".join(text(key) + typed(value) for key, value in metadata.items())
    data = b""
    for name, (shape, kind, raw) in tensors.items():
        head += text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape[::-1], kind, len(data))
        data += raw + bytes(-len(raw) % 32)
    return head + bytes(-len(head) % 32) + data


@pytest.fixture
def write(tmp_path: Path) -> Callable[[bytes], Path]:
    def write_bytes(content: bytes) -> Path:
        path = tmp_path / "x.gguf"
        path.write_bytes(content)
        return path

    return write_bytes


def loop_reference(kind: int, block: bytes) -> list[float]:
    """One block of 32 weights, weight by weight, as ggml's C code does it."""

    def half(at: int) -> float:
        return float(np.frombuffer(block[at : at + 2], np.float16)[0])

    scale, weights_of_block = half(0), []
    for i in range(32):
        if kind == Q8_0:
            weights_of_block.append(scale * struct.unpack_from("b", block, 2 + i)[0])
            continue
        codes = {Q4_0: 2, Q4_1: 4, Q5_0: 6, Q5_1: 8}[kind]
        code = block[codes + i % 16] >> (4 if i >= 16 else 0) & 15
        if kind in (Q5_0, Q5_1):
            (fifth,) = struct.unpack_from("<I", block, codes - 4)
            code |= (fifth >> i & 1) << 4
        offset = {Q4_0: -8 * scale, Q4_1: half(2), Q5_0: -16 * scale, Q5_1: half(2)}[kind]
        weights_of_block.append(scale * code + offset)
    return weights_of_block


@pytest.mark.parametrize(("kind", "size"), [(Q4_0, 18), (Q4_1, 20), (Q5_0, 22), (Q5_1, 24), (Q8_0, 34)])
def test_block_types_are_decoded_as_a_loop_over_weights_does(
    kind: int, size: int, write: Callable[[bytes], Path]
) -> None:
    random = np.random.default_rng(kind)
    raw = random.integers(0, 256, (4, size), np.uint8)
    raw[:, :2] = random.normal(size=(4, 1)).astype(np.float16).view(np.uint8)
    if kind in (Q4_1, Q5_1):
        raw[:, 2:4] = random.normal(size=(4, 1)).astype(np.float16).view(np.uint8)
    file = GgufFile(write(gguf_bytes({}, {"w": ((2, 64), kind, raw.tobytes())})))
    expected = np.array([loop_reference(kind, row.tobytes()) for row in raw]).reshape(2, 64)
    assert np.allclose(file.array("w"), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("kind", "dtype"), [(F32, "<f4"), (F16, "<f2")])
def test_plain_types_are_read(kind: int, dtype: str, write: Callable[[bytes], Path]) -> None:
    values = np.array([[1.5, -2.0, 0.25]], dtype)
    assert (
        GgufFile(write(gguf_bytes({}, {"w": ((1, 3), kind, values.tobytes())}))).array("w").tolist() == values.tolist()
    )


def test_metadata_of_every_type_is_read(write: Callable[[bytes], Path]) -> None:
    metadata = {"a": "text", "b": 7, "c": 0.5, "d": True, "e": ["x", "é"], "f": [1, -2]}
    assert GgufFile(write(gguf_bytes(metadata, {}))).metadata == metadata


HUGE = struct.pack("<Q", 2**62)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"GGUX" + bytes(40), "not a GGUF file"),
        (b"GGUF" + struct.pack("<IQQ", 9, 0, 0), "version 9"),
        (b"GGUF" + struct.pack("<I", 3) + HUGE + HUGE, "tensors"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + HUGE, "a string of"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 500) + b"short", "500 bytes are announced"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text("k") + struct.pack("<II", 9, 8) + HUGE, "a list of"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text("k") + struct.pack("<IIQ", 9, 5, 2**20), "announced"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text("k") + struct.pack("<IIQ", 9, 9, 1), "unsupported type 9"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text("k") + struct.pack("<I", 99), "unknown type 99"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1, 0) + text("w") + struct.pack("<I", 200), "200 dimensions"),
        (
            b"GGUF" + struct.pack("<IQQ", 3, 1, 0) + text("w") + struct.pack("<I3QIQ", 3, *[2**40] * 3, F32, 0),
            "behind the end",
        ),
        (
            b"GGUF" + struct.pack("<IQQ", 3, 1, 0) + text("w") + struct.pack("<IQIQ", 1, 32, F32, 2**40),
            "behind the end",
        ),
        (
            b"GGUF" + struct.pack("<IQQ", 3, 1, 0) + text("w") + struct.pack("<IQIQ", 1, 33, Q8_0, 0),
            "whole number of blocks",
        ),
        (b"GGUF" + struct.pack("<IQQ", 3, 1, 0) + text("w") + struct.pack("<IQIQ", 1, 32, F32, 1), "misaligned"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1, 0) + text("w") + struct.pack("<IQIQ", 1, 256, 12, 0), "type number 12"),
        (gguf_bytes({"general.alignment": 48}, {}), "alignment of 48"),
        (gguf_bytes({"general.alignment": "x"}, {}), "alignment of 'x'"),
    ],
)
def test_a_file_that_contradicts_itself_is_refused(
    content: bytes, message: str, write: Callable[[bytes], Path]
) -> None:
    with pytest.raises(InputError, match=rf"x\.gguf.*{message}"):
        GgufFile(write(content))


def test_every_truncation_of_a_file_is_refused_or_read_as_far_as_it_is_whole(write: Callable[[bytes], Path]) -> None:
    whole = gguf_bytes({"a": ["x", "y"], "b": 1}, {"w": ((2, 2), F32, bytes(16))})
    for length in range(len(whole) - 32 + 16):
        with pytest.raises(InputError):
            GgufFile(write(whole[:length]))


def planes_together(rows: np.ndarray, num_heads: int) -> np.ndarray:
    """What llama.cpp's converter does to Llama's query and key rows."""
    shape = rows.shape
    return rows.reshape(num_heads, 2, shape[0] // num_heads // 2, *shape[1:]).swapaxes(1, 2).reshape(shape)


def model_as_gguf(model: Transformer, **changes: Any) -> bytes:
    config = model.config
    metadata: dict[str, Any] = {
        "general.architecture": config.architecture,
        "general.name": "made up",
        **{
            f"{config.architecture}.{key}": value
            for key, value in {
                "block_count": config.num_layers, "context_length": config.max_positions,
                "embedding_length": config.hidden_size, "feed_forward_length": config.intermediate_size,
                "attention.head_count": config.num_heads, "attention.head_count_kv": config.num_kv_heads,
                "attention.key_length": config.head_size, "rope.freq_base": config.rope_theta,
                "attention.layer_norm_rms_epsilon": config.norm_epsilon,
            }.items()
        },
        "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *BYTE_SYMBOLS, "Ġt"],
        "tokenizer.ggml.token_type": [3, 3, 3, *[1] * 257],
        "tokenizer.ggml.merges": ["Ġ t"],
        "tokenizer.ggml.bos_token_id": 1, "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.chat_template": "{{ messages }}",
    }  # fmt: skip
    tensors: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        array = parameter.detach().numpy()
        if config.architecture == "llama" and "q_proj" in name:
            array = planes_together(array, config.num_heads)
        if config.architecture == "llama" and "k_proj" in name:
            array = planes_together(array, config.num_kv_heads)
        tensors[gguf_name(weights.folder_name(name))] = (array.shape, F32, array.tobytes())
    return gguf_bytes({key: value for key, value in (metadata | changes).items() if value is not None}, tensors)


def with_small_tokenizer(model: Transformer) -> bytes:
    """The tokenizer has no more tokens than the model has rows."""
    tokens = ["<|endoftext|>", "<|im_end|>", *BYTE_SYMBOLS[:100], '!"']
    kinds = [3, 3, *[1] * 101]
    names = ("tokens", "token_type", "merges")
    values = zip(names, (tokens, kinds, ['! "']), strict=True)
    return model_as_gguf(model, **{f"tokenizer.ggml.{name}": value for name, value in values})


@torch.no_grad()
@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
def test_a_converted_model_computes_what_the_original_computes(
    family: str, write: Callable[[bytes], Path], tmp_path: Path
) -> None:
    model = Transformer(from_hugging_face(SMALL | {"model_type": family, "tie_word_embeddings": family != "qwen3"}))
    for parameter in model.initialize(0, std=0.1).parameters():
        parameter.add_(0.05 * (parameter.ndim == 1)).copy_(parameter.bfloat16())
    gguf_folder.convert(write(with_small_tokenizer(model)), tmp_path / "folder")
    converted = weights.load(tmp_path / "folder")
    tokens_BT = torch.arange(40)[None]
    assert converted.config.qkv_bias == (family == "qwen2")
    assert torch.allclose(converted(tokens_BT), model(tokens_BT), atol=1e-5)


@pytest.fixture
def gguf_model() -> Transformer:
    return Transformer(debug()).initialize(0)


def test_the_tokenizer_of_a_gguf_is_written_beside_the_weights(
    gguf_model: Transformer, write: Callable[[bytes], Path], tmp_path: Path
) -> None:
    path = write(model_as_gguf(gguf_model))
    config = gguf_folder.convert(path, tmp_path / "folder")
    assert base.look(str(path), tmp_path / "cache") == config
    assert not (tmp_path / "cache").exists()
    tokenizer = Tokenizer.load(tmp_path / "folder")
    assert tokenizer.encode("a t<|im_end|>")[:2] == [3 + ord("a"), 3 + 256]
    assert tokenizer.encode_marked("<|im_end|>") == [2]
    assert set(tokenizer.eos_ids) == {0, 2}
    assert tokenizer.chat_template == "{{ messages }}"
    assert isinstance(config, ModelConfig)
    assert config.norm_epsilon == 1e-5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"general.architecture": "mamba"}, "mamba"),
        ({"llama.block_count": 3}, "missing"),
        ({"llama.block_count": None}, "block_count"),
        ({"llama.block_count": "x"}, "block_count"),
        ({"llama.embedding_length": 128}, "ask for"),
        ({"llama.rope.scaling.type": "linear"}, "rope scaling"),
        ({"llama.rope.freq_base": math.inf}, "rope_theta"),
        ({"tokenizer.ggml.model": "llama"}, "byte-level"),
        ({"tokenizer.ggml.pre": "unheard-of"}, "unheard-of"),
        ({"tokenizer.ggml.tokens": ["a"]}, "different lengths"),
        ({"tokenizer.ggml.tokens": [1, 2], "tokenizer.ggml.token_type": [1, 1]}, "no text"),
        ({"tokenizer.ggml.tokens": ["a"] * 260}, "twice"),
        ({"tokenizer.ggml.merges": None}, "merges"),
    ],
)
def test_metadata_that_cannot_be_used_are_refused_by_name(
    changes: dict[str, Any], message: str, gguf_model: Transformer, write: Callable[[bytes], Path], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        gguf_folder.convert(write(model_as_gguf(gguf_model, **changes)), tmp_path / "folder")
    assert not (tmp_path / "folder" / "model.safetensors").exists()


def test_tensors_that_do_not_fit_are_hostile(
    gguf_model: Transformer, write: Callable[[bytes], Path], tmp_path: Path
) -> None:
    with pytest.raises(HostileInputError):
        gguf_folder.convert(
            write(model_as_gguf(gguf_model, **{"llama.feed_forward_length": 2**19})), tmp_path / "folder"
        )
