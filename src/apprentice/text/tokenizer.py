"""Text to token ids and back, for the checkpoint at hand; also the small byte tokenizer of the `debug` preset.

    folder (tokenizer.json, tokenizer_config.json, generation_config.json) --load()--> Tokenizer --save()--> folder

The work is done by Rust's `tokenizers`; this module decides what counts as a special token. Plain text never becomes
one, whatever it contains: the engine underneath is built WITHOUT the added tokens, so that `<|im_end|>` in a file is
ten ordinary characters. Only `encode_pieces` (rendered chat templates) lets named parts of a text be special tokens;
it cuts the text at them just as `tokenizers` does, so the ids are those of transformers.

Bytes are the truth when decoding: `token_bytes` gives the bytes of a token and `decode` joins them, which is exact for
byte-level BPE (SmolLM2, Qwen, Llama 3) and for SentencePiece with byte fallback (Llama 2, TinyLlama). For the latter
the invisible space that their normalizer puts in front of every text is left out of plain text, because code that goes
on in the middle of a line has none.

Deliberately absent: training a tokenizer, WordPiece and Unigram models, tokenizer code out of a checkpoint.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import tokenizers

from apprentice.core import files
from apprentice.core.errors import DAMAGED_HINT, HostileInputError, InputError
from apprentice.text import token_formats

MAX_FILE_BYTES = 128 * 2**20
"""Of a tokenizer.json; the largest in use (Gemma's) has 33 MB."""
"""A table of tokens is allocated up to the largest id, so a made-up id must not decide its size."""
CHUNK_CHARS = 1 << 16
"""Longer texts are cut between lines and encoded as a batch: linear time, all cores."""

_END_TOKENS = ("<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|eom_id|>", "<|end_of_text|>", "</s>")
_LINE_BORDER = re.compile(r"(?<=[!-~])\n(?=[!-~])")
_WORD = re.compile(r"\s*\S+|\s+")
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_NAMED = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token")


class Tokenizer:
    """A checkpoint's tokenizer. Implements `core.protocols.Tokenizer`; safe to share between threads."""

    def __init__(self, state: Mapping[str, Any], *, config: Mapping[str, Any] | None = None,
                 eos_ids: Iterable[int] = ()) -> None:
        """`state`: the content of tokenizer.json; `config`: that of tokenizer_config.json.
        Raises: InputError where it is no BPE tokenizer."""
        self._state = dict(state)
        self.config: dict[str, Any] = dict(config or {})
        self.special_tokens: dict[str, int] = {}
        """Content -> id of every added token, whether the checkpoint calls it special or not."""
        self._added: dict[str, dict[str, Any]] = {}
        for token in self._state.get("added_tokens") or ():
            self.special_tokens[token["content"]] = token["id"]
            self._added[token["content"]] = token
        self._plain = _engine(token_formats.for_plain_text(self._state))
        self._bytes = token_formats.token_table(self._state, token_formats.MAX_TOKEN_ID)
        self._byte_level = token_formats.is_byte_level(self._state)
        named = [self.special_tokens.get(text) for text in (self.named_tokens().get("eos_token"), *_END_TOKENS) if text]
        self.eos_ids: tuple[int, ...] = tuple(dict.fromkeys([*eos_ids, *(i for i in named if i is not None)]))
        self._encode_short = lru_cache(maxsize=1 << 15)(self._encode_to_tuple)
        self.beginning_ids = token_formats.beginning(self._state)
        """What the checkpoint's own tokenizer puts in front of a text, such as Llama's `<|begin_of_text|>`: a plain prompt wants it."""

    @classmethod
    def load(cls, folder: Path) -> Tokenizer:
        """Raises: InputError naming the file that is missing or broken."""
        path = folder / "tokenizer.json"
        if not path.is_file():
            raise InputError(
                f"{folder}: no tokenizer.json",
                hint="give a Hugging Face model folder that has one; old folders get it from "
                "`transformers.AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)`",
            )
        state = _read_json(path)
        config = _read_json(folder / "tokenizer_config.json", missing_ok=True)
        template = folder / "chat_template.jinja"
        if template.is_file() and template.stat().st_size <= 2**20:
            config["chat_template"] = template.read_text(encoding="utf-8")
        eos_ids: list[int] = []
        for name in ("generation_config.json", "config.json"):
            value = _read_json(folder / name, missing_ok=True).get("eos_token_id")
            eos_ids += [i for i in (value if isinstance(value, list) else [value]) if isinstance(i, int)]
        try:
            return cls(state, config=config, eos_ids=eos_ids)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise InputError(f"{path}: not a usable tokenizer: {error}", hint=DAMAGED_HINT) from error

    @classmethod
    def from_bpe(
        cls, vocab: Mapping[str, int], merges: Sequence[tuple[str, str]], specials: Mapping[str, int],
        pre_tokenizer: str, *, config: Mapping[str, Any] | None = None, eos_ids: Iterable[int] = (),
    ) -> Tokenizer:
        """A byte-level BPE tokenizer. `vocab` in GPT-2's printable alphabet of bytes; `pre_tokenizer` by the name that
        GGUF files use (`smollm`, `qwen2`, `llama-bpe`, `gpt-2`). Raises: InputError for an unknown name."""
        return cls(token_formats.bpe_state(vocab, merges, specials, pre_tokenizer), config=config, eos_ids=eos_ids)

    @classmethod
    def byte_level(cls, specials: Sequence[str] = token_formats.SMOLLM2_SPECIALS) -> Tokenizer:
        """The `debug` tokenizer: SmolLM2's special tokens with their ids, then 256 single bytes, no merges."""
        ids = {content: i for i, content in enumerate(specials)}
        vocab = ids | {symbol: len(ids) + byte for byte, symbol in enumerate(token_formats.BYTE_SYMBOLS)}
        config = {
            "bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "pad_token": "<|im_end|>",
            "chat_template": token_formats.CHATML_TEMPLATE,
        }
        config = {key: value for key, value in config.items() if key == "chat_template" or value in ids}
        return cls.from_bpe(vocab, [], ids, "smollm", config=config)

    @property
    def vocab_size(self) -> int:
        """The largest id plus one. A model may have more rows than that; no text reaches them."""
        return len(self._bytes)

    @property
    def chat_template(self) -> str | None:
        """The checkpoint's own template: the one named `default` where it has several."""
        template = self.config.get("chat_template")
        if isinstance(template, list):
            named = {entry.get("name"): entry.get("template") for entry in template if isinstance(entry, dict)}
            template = named.get("default")
        return template if isinstance(template, str) else None

    def named_tokens(self) -> dict[str, str]:
        """`bos_token`, `eos_token`, ... -> content, as templates see them."""
        named = {}
        for name in _NAMED:
            value = self.config.get(name)
            content = value.get("content") if isinstance(value, dict) else value
            if isinstance(content, str):
                named[name] = content
        return named

    def special_id(self, content: str) -> int | None:
        return self.special_tokens.get(content)

    def encode(self, text: str) -> list[int]:
        if len(text) <= 200:
            return list(self._encode_short(text))
        if len(text) <= CHUNK_CHARS:
            return list(self._encode_to_tuple(text))
        encoded = self.encode_batch(_chunks(text) if self._byte_level else [text])
        return [i for ids in encoded for i in ids]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` of each text, on all cores."""
        return [e.ids for e in self._plain.encode_batch_fast([_sound(text) for text in texts], add_special_tokens=False)]

    def encode_with_offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Ids and, for each, [start, end) in characters of `text`. Tokens that share a character both cover it."""
        chunks = list(_chunks(text)) if self._byte_level and len(text) > CHUNK_CHARS else [text]
        ids: list[int] = []
        offsets: list[tuple[int, int]] = []
        at = 0
        encoded = self._plain.encode_batch([_sound(chunk) for chunk in chunks], add_special_tokens=False)
        for chunk, encoding in zip(chunks, encoded, strict=True):
            ids += encoding.ids
            offsets += [(start + at, end + at) for start, end in encoding.offsets] if at else encoding.offsets
            at += len(chunk)
        return ids, offsets

    def encode_marked(self, text: str) -> list[int]:
        """For text in which special tokens count, such as a template's own output without anything from outside."""
        return self.encode_pieces([(text, True)])[0]

    def encode_pieces(self, pieces: Iterable[tuple[str, bool]]) -> tuple[list[int], list[tuple[int, int]]]:
        """Ids and their [start, end) in characters of the joined text. Only in pieces marked True are special tokens
        recognized; around them the text is one, as if it had been joined first."""
        joined = list(pieces)
        text = "".join(piece for piece, _ in joined)
        ids: list[int] = []
        offsets: list[tuple[int, int]] = []
        at = 0
        for start, end, content in self._specials_in(joined):
            self._extend(ids, offsets, text, at, start)
            ids.append(self.special_tokens[content])
            offsets.append((start, end))
            at = end
        self._extend(ids, offsets, text, at, len(text))
        return ids, offsets

    def decode(self, token_ids: Sequence[int]) -> str:
        """Special tokens are shown by their names; bytes that are no UTF-8 as U+FFFD."""
        return b"".join(map(self.token_bytes, token_ids)).decode("utf-8", errors="replace")

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes that a token stands for: empty for an id without a token."""
        return self._bytes[token_id] if 0 <= token_id < len(self._bytes) else b""

    def is_special(self, token_id: int) -> bool:
        return token_id in self._special_ids

    def is_control(self, content: str) -> bool:
        """Whether the checkpoint marks this added token as special (`<|im_end|>`), unlike `<think>` or `<tool_call>`."""
        return bool(self._added.get(content, {}).get("special"))

    @property
    def merges_tokens(self) -> bool:
        """Whether a token can be longer than a byte."""
        return bool(self._state["model"].get("merges"))

    def words(self, text: str) -> list[tuple[int, int]]:
        """[start, end) of the stretches that no token crosses, in characters."""
        if self._plain.pre_tokenizer is None:
            return [match.span() for match in _WORD.finditer(text)]
        return [place for _, place in self._plain.pre_tokenizer.pre_tokenize_str(_sound(text))]

    def save(self, folder: Path) -> None:
        """Writes tokenizer.json and tokenizer_config.json."""
        files.make_folder(folder)
        files.write_text(folder / "tokenizer.json", json.dumps(self._state, ensure_ascii=False))
        config = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False} | self.config
        files.write_text(folder / "tokenizer_config.json", json.dumps(config, ensure_ascii=False, indent=2) + "\n")

    @cached_property
    def _special_ids(self) -> frozenset[int]:
        return frozenset(self.special_tokens.values())

    @cached_property
    def _special_pattern(self) -> re.Pattern[str] | None:
        """Leftmost, then longest, with the white space that some tokens swallow."""
        parts = []
        for content in sorted(self._added, key=len, reverse=True):
            token = self._added[content]
            before, after = r"\s*" if token.get("lstrip") else "", r"\s*" if token.get("rstrip") else ""
            parts.append(f"{before}({re.escape(content)}){after}")
        return re.compile("|".join(parts)) if parts else None

    def _specials_in(self, pieces: Iterable[tuple[str, bool]]) -> Iterable[tuple[int, int, str]]:
        at = 0
        for piece, marked in pieces:
            if marked and self._special_pattern is not None:
                for match in self._special_pattern.finditer(piece):
                    yield at + match.start(), at + match.end(), match[match.lastindex or 0]
            at += len(piece)

    @cached_property
    def _in_templates(self) -> tokenizers.Tokenizer | None:
        """SentencePiece models are trained with a space in front of what follows a special token."""
        return None if self._byte_level else _engine(token_formats.without_added_tokens(self._state))

    def _extend(self, ids: list[int], offsets: list[tuple[int, int]], text: str, start: int, end: int) -> None:
        if start < end:
            if self._in_templates is not None and (start == 0 or token_formats.prepends_everywhere(self._state)):
                encoding = self._in_templates.encode(_sound(text[start:end]), add_special_tokens=False)
                more, places = encoding.ids, encoding.offsets
            else:
                more, places = self.encode_with_offsets(text[start:end])
            ids += more
            offsets += [(a + start, b + start) for a, b in places]

    def _encode_to_tuple(self, text: str) -> tuple[int, ...]:
        return tuple(self._plain.encode_batch_fast([_sound(text)], add_special_tokens=False)[0].ids)


class StreamDecoder:
    """Ids one at a time to text, never half a character."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token_id: int) -> str:
        """The text that has become certain."""
        return self._decoder.decode(self._tokenizer.token_bytes(token_id))

    def finish(self) -> str:
        """What is left: U+FFFD where the last character is incomplete."""
        return self._decoder.decode(b"", final=True)


def _engine(state: Mapping[str, Any]) -> tokenizers.Tokenizer:
    try:
        return tokenizers.Tokenizer.from_str(json.dumps(state, ensure_ascii=False))
    except Exception as error:  # noqa: BLE001 - the binding raises bare Exception
        raise InputError(f"the tokenizer cannot be built: {error}", hint=DAMAGED_HINT) from error


def _chunks(text: str) -> list[str]:
    """Pieces of about CHUNK_CHARS, cut behind a line break that stands alone between visible ASCII characters: there
    every byte-level pre-tokenizer cuts too, so the ids are the same."""
    chunks: list[str] = []
    start = 0
    while len(text) - start > CHUNK_CHARS:
        border = _LINE_BORDER.search(text, start + CHUNK_CHARS)
        if border is None:
            break
        chunks.append(text[start : border.end()])
        start = border.end()
    return [*chunks, text[start:]]


def _sound(text: str) -> str:
    """Half of a UTF-16 pair (JSON lets it in) is no character: one U+FFFD, so that places stay."""
    return text if text.isascii() else _LONE_SURROGATE.sub("\ufffd", text)


def _read_json(path: Path, *, missing_ok: bool = False) -> dict[str, Any]:
    if missing_ok and not path.is_file():
        return {}
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise HostileInputError(
                f"{path}: larger than {MAX_FILE_BYTES >> 20} MiB, no tokenizer is", hint=DAMAGED_HINT
            )
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}", hint=DAMAGED_HINT) from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON: {error}", hint=DAMAGED_HINT) from error
    if not isinstance(value, dict):
        raise InputError(f"{path}: not a JSON object", hint=DAMAGED_HINT)
    return value
