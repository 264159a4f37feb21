"""What stands inside a tokenizer.json: building one from a vocabulary and merges, and reading out the bytes of tokens.

GPT-2's alphabet of bytes: printable bytes stand for themselves, the others for characters from U+0100 on, so that a
vocabulary is made of visible characters (`Ġ` is a space, `Ċ` a line break).

Sources: encoder.py of GPT-2 for the alphabet; the tokenizer.json files of SmolLM2, Qwen2.5 and Llama 3 for the
pre-tokenizers, which GGUF files name only (`tokenizer.ggml.pre`).
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from apprentice.core.errors import DAMAGED_HINT, HostileInputError, InputError

MAX_TOKEN_ID = 2**22

SMOLLM2_SPECIALS = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<repo_name>", "<reponame>", "<file_sep>", "<filename>",
    "<gh_stars>", "<issue_start>", "<issue_comment>", "<issue_closed>", "<jupyter_start>", "<jupyter_text>",
    "<jupyter_code>", "<jupyter_output>", "<jupyter_script>", "<empty_output>",
)

CHATML_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def _byte_symbols() -> list[str]:
    visible = {*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = (chr(0x100 + i) for i in range(256))
    return [chr(byte) if byte in visible else next(others) for byte in range(256)]


BYTE_SYMBOLS: Sequence[str] = _byte_symbols()
"""The visible character for each byte."""
_SYMBOL_BYTES = {symbol: byte for byte, symbol in enumerate(BYTE_SYMBOLS)}
_BYTE_FALLBACK = re.compile(r"<0x([0-9A-F]{2})>")

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_GPT4_SPLIT = (
    _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}DIGITS| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _byte_level(*, use_regex: bool) -> dict[str, Any]:
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": use_regex}


def _split(pattern: str) -> list[dict[str, Any]]:
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return [split, _byte_level(use_regex=False)]


_PRE_TOKENIZERS: dict[str, list[dict[str, Any]]] = {
    "smollm": [{"type": "Digits", "individual_digits": True}, _byte_level(use_regex=True)],
    "gpt-2": [_byte_level(use_regex=True)],
    "qwen2": _split(_GPT4_SPLIT.replace("DIGITS", "")),
    "llama-bpe": _split(_GPT4_SPLIT.replace("DIGITS", "{1,3}")),
}


def bpe_state(
    vocab: Mapping[str, int], merges: Sequence[tuple[str, str]], specials: Mapping[str, int], pre_tokenizer: str
) -> dict[str, Any]:
    """The content of a tokenizer.json. Raises: InputError for an unknown pre-tokenizer."""
    if pre_tokenizer not in _PRE_TOKENIZERS:
        raise InputError(
            f"unknown pre-tokenizer `{pre_tokenizer}`", hint=f"known are: {', '.join(sorted(_PRE_TOKENIZERS))}"
        )
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    by_id = sorted(specials.items(), key=lambda item: item[1])
    return {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [{"id": i, "content": content} | flags for content, i in by_id],
        "normalizer": {"type": "NFC"} if pre_tokenizer == "qwen2" else None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": _PRE_TOKENIZERS[pre_tokenizer]},
        "post_processor": None,
        "decoder": _byte_level(use_regex=True),
        "model": {
            "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
            "ignore_merges": pre_tokenizer == "llama-bpe",
            "vocab": dict(vocab), "merges": [list(pair) for pair in merges],
        },
    }


def beginning(state: Mapping[str, Any]) -> tuple[int, ...]:
    """Ids that a tokenizer's post-processor puts in front of one text."""
    processor = state.get("post_processor") or {}
    found: list[int] = []
    for one in processor.get("processors") or [processor]:
        if one.get("type") != "TemplateProcessing":
            continue
        for piece in itertools.takewhile(lambda piece: "SpecialToken" in piece, one["single"]):
            found += one["special_tokens"][piece["SpecialToken"]["id"]]["ids"]
    if not all(isinstance(token_id, int) and 0 <= token_id < MAX_TOKEN_ID for token_id in found[:8]) or len(found) > 8:
        raise ValueError("what the post-processor puts in front is no list of tokens")
    return tuple(found)


def is_byte_level(state: Mapping[str, Any]) -> bool:
    """Whether the vocabulary is written in GPT-2's alphabet of bytes."""
    return "ByteLevel" in _types(state.get("pre_tokenizer")) or "ByteLevel" in _types(state.get("decoder"))


def without_added_tokens(state: Mapping[str, Any]) -> dict[str, Any]:
    """The same tokenizer without added tokens, truncation and padding. Raises: InputError where it is no BPE."""
    model = state.get("model")
    if not isinstance(model, dict) or model.get("type", "BPE") != "BPE" or not isinstance(model.get("vocab"), dict):
        raise InputError("the tokenizer is no byte-pair encoding", hint="use a Llama, Qwen or SmolLM checkpoint")
    bare: dict[str, Any] = {**state, "added_tokens": [], "post_processor": None, "truncation": None, "padding": None}
    return bare | {"model": {**model, "dropout": None}}


def for_plain_text(state: Mapping[str, Any]) -> dict[str, Any]:
    """`without_added_tokens`, and nothing put in front of a text. Raises: InputError where it is no BPE."""
    bare = without_added_tokens(state)
    if not is_byte_level(state):
        bare |= {key: _without_prefix(state.get(key)) for key in ("normalizer", "pre_tokenizer")}
    return bare


def prepends_everywhere(state: Mapping[str, Any]) -> bool:
    """Whether each stretch between special tokens, not only the first, gets a space in front."""
    return "Prepend" in _types(state.get("normalizer")) or '"always"' in json.dumps(state.get("pre_tokenizer"))


def token_table(state: Mapping[str, Any], max_id: int) -> list[bytes]:
    """The bytes of each id; empty where there is no token. Raises: HostileInputError for ids out of range."""
    vocab: dict[str, int] = state["model"]["vocab"]
    added = {token["content"]: token["id"] for token in state.get("added_tokens") or ()}
    ids = [*vocab.values(), *added.values()]
    if not ids or not all(isinstance(i, int) and 0 <= i < max_id for i in ids):
        raise HostileInputError(f"the tokenizer has token ids outside 0 to {max_id - 1}, or none", hint=DAMAGED_HINT)
    table = [b""] * (max(ids) + 1)
    as_bytes = _from_symbols if is_byte_level(state) else _from_pieces
    for token, token_id in vocab.items():
        table[token_id] = as_bytes(token)
    for content, token_id in added.items():
        table[token_id] = content.encode("utf-8", errors="replace")
    return table


def _from_symbols(token: str) -> bytes:
    try:
        return bytes(_SYMBOL_BYTES[symbol] for symbol in token)
    except KeyError:
        return token.encode("utf-8", errors="replace")


def _from_pieces(token: str) -> bytes:
    fallback = _BYTE_FALLBACK.fullmatch(token)
    return bytes([int(fallback[1], 16)]) if fallback else token.replace("\u2581", " ").encode("utf-8", errors="replace")


def _types(part: Any) -> set[str]:
    if not isinstance(part, dict):
        return set()
    inner = [x for key in ("pretokenizers", "normalizers", "decoders") for x in part.get(key) or ()]
    return {part.get("type", ""), *(name for x in inner for name in _types(x))}


def _without_prefix(part: Any) -> Any:
    if not isinstance(part, dict):
        return part
    if part.get("type") == "Prepend":
        return None
    if part.get("type") == "Metaspace":
        return {**part, "prepend_scheme": "never", "add_prefix_space": False}
    for key in ("normalizers", "pretokenizers"):
        if key in part:
            return {**part, key: [kept for x in part[key] if (kept := _without_prefix(x)) is not None]}
    return part
