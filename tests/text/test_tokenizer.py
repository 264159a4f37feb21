"""The tokenizer against the `tokenizers` library itself, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from apprentice.core.errors import HostileInputError, InputError
from apprentice.core.fakes import ByteTokenizer
from apprentice.text import token_formats
from apprentice.text import tokenizer as module
from apprentice.text.tokenizer import StreamDecoder, Tokenizer

CODE = 'def größe(x):\n    return [x*12345, "日本", \'it\\\'s\']\n\n\n\t# ok 🙂\r\n' * 3
TEXTS = st.text() | st.lists(st.sampled_from(["\n", "  ", "def ", "it's", "é", "🙂", "x1", "\r\n", "<|im_end|>", "("])).map("".join)


def reference(tokenizer: Tokenizer, folder: Path) -> tokenizers.Tokenizer:
    tokenizer.save(folder)
    return tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))


@pytest.mark.parametrize("text", [CODE, "", " ", "\n\n\ndef", "a\x00b", "x" * 300, "12345 6", "<think>", "ﬁ ½ \u0301"])
def test_ids_equal_those_of_the_library_without_its_added_tokens(bpe: Tokenizer, tmp_path: Path, text: str) -> None:
    state = json.loads(reference(bpe, tmp_path).to_str())
    plain = tokenizers.Tokenizer.from_str(json.dumps(state | {"added_tokens": []}))
    assert bpe.encode(text) == plain.encode(text, add_special_tokens=False).ids


def test_marked_ids_equal_those_of_the_library(bpe: Tokenizer, tmp_path: Path) -> None:
    text = "<|im_start|>user\nHi <think>there</think> é<|im_end|>\n<|im_start|><|im_end|>  x<|im_"
    assert bpe.encode_marked(text) == reference(bpe, tmp_path).encode(text, add_special_tokens=False).ids


@given(TEXTS)
@settings(max_examples=200, deadline=None)
def test_byte_level_text_survives_the_round_trip(text: str) -> None:
    tokenizer = Tokenizer.byte_level()
    assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize("text", [CODE, "<|im_end|> is ten characters", "a\u2028b"])
def test_text_survives_the_round_trip(bpe: Tokenizer, text: str) -> None:
    assert bpe.decode(bpe.encode(text)) == text


def test_plain_text_never_becomes_a_special_token(bpe: Tokenizer) -> None:
    for content, token_id in bpe.special_tokens.items():
        ids = bpe.encode(f"a{content}b {content}")
        assert token_id not in ids
        assert not any(bpe.is_special(i) for i in ids)


def test_only_marked_pieces_hold_special_tokens(bpe: Tokenizer) -> None:
    end = bpe.special_id("<|im_end|>")
    ids, _ = bpe.encode_pieces([("<|im_end|>", False), ("<|im_end|>", True), ("<|im_", True), ("end|>", True)])
    assert ids.count(end or -1) == 1
    assert bpe.decode(ids) == "<|im_end|>" * 3


def test_offsets_cover_the_text_in_characters(bpe: Tokenizer) -> None:
    ids, offsets = bpe.encode_with_offsets(CODE)
    assert ids == bpe.encode(CODE)
    assert offsets[0][0] == 0
    assert offsets[-1][1] == len(CODE)
    for token_id, (start, end) in zip(ids, offsets, strict=True):
        assert bpe.token_bytes(token_id).decode(errors="ignore") in CODE[start:end]


def test_long_text_is_encoded_in_pieces_to_the_same_ids(bpe: Tokenizer) -> None:
    text = "".join(f"def f{i}(x):{chr(10) * (1 + i % 4)}    return 'ü{i}'\n" for i in range(6000))
    assert len(text) > 2 * module.CHUNK_CHARS
    whole = bpe.encode_batch([text])[0]
    assert bpe.encode(text) == whole
    ids, offsets = bpe.encode_with_offsets(text)
    assert ids == whole
    assert all(a[1] <= b[1] for a, b in zip(offsets, offsets[1:], strict=False))
    assert text[slice(*offsets[-2])] + text[slice(*offsets[-1])] in text[-20:]


def test_half_of_a_character_pair_counts_as_one_character(bpe: Tokenizer) -> None:
    ids, offsets = bpe.encode_with_offsets("a\ud800b")
    assert bpe.decode(ids) == "a\ufffdb"
    assert offsets[-1] == (2, 3)


def test_streamed_text_is_never_half_a_character(bpe: Tokenizer) -> None:
    stream = StreamDecoder(bpe)
    parts = [stream.push(i) for i in bpe.encode("日本 🙂 é")]
    assert "\ufffd" not in "".join(parts)
    assert "".join(parts) + stream.finish() == "日本 🙂 é"


def test_a_broken_stream_ends_in_a_replacement_character() -> None:
    tokenizer = Tokenizer.byte_level()
    stream = StreamDecoder(tokenizer)
    assert stream.push(tokenizer.encode("é")[0]) == ""
    assert stream.finish() == "\ufffd"


def test_the_debug_tokenizer_has_the_special_ids_of_smollm2() -> None:
    tokenizer = Tokenizer.byte_level()
    assert tokenizer.vocab_size == 17 + 256
    assert tokenizer.special_id("<|im_end|>") == 2
    assert tokenizer.eos_ids == (2, 0)
    assert len(tokenizer.encode("aé")) == 3


def test_the_debug_tokenizer_agrees_with_the_fake() -> None:
    tokenizer, fake = Tokenizer.byte_level(), ByteTokenizer()
    assert tokenizer.encode_with_offsets(CODE)[1] == fake.encode_with_offsets(CODE)[1]


def test_a_saved_tokenizer_comes_back_the_same(bpe: Tokenizer, tmp_path: Path) -> None:
    bpe.save(tmp_path)
    again = Tokenizer.load(tmp_path)
    assert again.encode(CODE) == bpe.encode(CODE)
    assert again.special_tokens == bpe.special_tokens
    assert again.eos_ids == bpe.eos_ids
    assert again.named_tokens()["eos_token"] == "<|im_end|>"


def test_end_tokens_come_from_every_file_that_names_them(tmp_path: Path) -> None:
    Tokenizer.byte_level().save(tmp_path)
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [7, 2]}')
    (tmp_path / "config.json").write_text('{"eos_token_id": 9}')
    assert Tokenizer.load(tmp_path).eos_ids == (7, 2, 9, 0)


def test_the_chat_template_may_stand_in_a_file_of_its_own(tmp_path: Path) -> None:
    Tokenizer.byte_level().save(tmp_path)
    (tmp_path / "chat_template.jinja").write_text("{{ messages }}")
    assert Tokenizer.load(tmp_path).chat_template == "{{ messages }}"


def test_ids_without_a_token_decode_to_nothing() -> None:
    tokenizer = Tokenizer.byte_level()
    assert tokenizer.decode([-1, 10**9, *tokenizer.encode("x")]) == "x"


def test_sentencepiece_text_has_no_space_in_front_but_chats_do() -> None:
    vocab = {"<unk>": 0, "<s>": 1, "</s>": 2} | {f"<0x{byte:02X}>": 3 + byte for byte in range(256)}
    vocab |= {piece: 259 + i for i, piece in enumerate(("▁", "h", "i", "hi", "▁hi"))}
    state: dict[str, Any] = {
        "version": "1.0", "added_tokens": [
            {"id": i, "content": content, "special": True, "single_word": False, "lstrip": False, "rstrip": False,
             "normalized": False} for content, i in (("<unk>", 0), ("<s>", 1), ("</s>", 2))
        ],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
        "pre_tokenizer": None, "post_processor": None, "decoder": None,
        "model": {"type": "BPE", "vocab": vocab, "merges": [["h", "i"], ["▁", "hi"]], "unk_token": "<unk>",
                  "fuse_unk": True, "byte_fallback": True},
    }  # fmt: skip
    tokenizer = Tokenizer(state)
    assert tokenizer.encode("hi") == [vocab["hi"]]
    assert tokenizer.decode(tokenizer.encode(" hi é")) == " hi é"
    full = tokenizers.Tokenizer.from_str(json.dumps(state))
    assert tokenizer.encode_marked("<s>hi</s>") == full.encode("<s>hi</s>", add_special_tokens=False).ids


def test_a_folder_without_a_tokenizer_is_named_with_the_fix(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no tokenizer\.json") as caught:
        Tokenizer.load(tmp_path)
    assert caught.value.hint


@pytest.mark.parametrize("content", [
    "", "[]", "{", '{"model": {}}', '{"model": {"type": "Unigram", "vocab": [["a", 0.0]]}}', "[" * 100_000,
    '{"model": {"type": "BPE", "vocab": {"a": "b"}, "merges": []}}',
    '{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [["b", "c"]]}}',
    '{"added_tokens": [5], "model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}}',
])  # fmt: skip
def test_broken_files_are_input_errors(tmp_path: Path, content: str) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(InputError):
        Tokenizer.load(tmp_path)


def test_an_id_out_of_range_allocates_nothing(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text('{"model": {"type": "BPE", "vocab": {"a": 4000000000}, "merges": []}}')
    with pytest.raises(HostileInputError, match="token ids"):
        Tokenizer.load(tmp_path)


def test_an_unknown_pre_tokenizer_is_named() -> None:
    with pytest.raises(InputError, match="gibberish"):
        Tokenizer.from_bpe({"a": 0}, [], {}, "gibberish")


def test_every_byte_has_its_own_symbol() -> None:
    assert len(set(token_formats.BYTE_SYMBOLS)) == 256
    assert token_formats.BYTE_SYMBOLS[ord(" ")] == "Ġ"
    assert token_formats.BYTE_SYMBOLS[ord("\n")] == "Ċ"


def test_what_a_checkpoint_puts_in_front_of_a_text_is_known() -> None:
    """Llama's way: a sequence of processors, one of which has a template."""
    state = Tokenizer.byte_level()._state
    single = [{"SpecialToken": {"id": "<|im_start|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "<|im_end|>"}}]
    specials = {"<|im_start|>": {"id": "<|im_start|>", "ids": [1], "tokens": ["<|im_start|>"]}}
    template = {"type": "TemplateProcessing", "single": single, "pair": [], "special_tokens": specials}
    assert Tokenizer({**state, "post_processor": template}).beginning_ids == (1,)
    assert Tokenizer({**state, "post_processor": {"type": "Sequence", "processors": [{"type": "ByteLevel"}, template]}}).beginning_ids == (1,)
    assert Tokenizer({**state, "post_processor": {"type": "ByteLevel"}}).beginning_ids == ()
    assert Tokenizer(state).beginning_ids == ()
    with pytest.raises((ValueError, KeyError)):
        Tokenizer({**state, "post_processor": {**template, "special_tokens": {"<|im_start|>": {"ids": ["x"]}}}})
