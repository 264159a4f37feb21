"""Tokenizers of the kinds in use, small and made here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from tokenizers import pre_tokenizers, trainers

from apprentice.text.token_formats import bpe_state
from apprentice.text.tokenizer import Tokenizer

SOURCES = Path(__file__).parents[2] / "src" / "apprentice" / "text"
CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
MARKS = ("<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")


def _state(pre_tokenizer: str) -> dict[str, Any]:
    trained = tokenizers.Tokenizer(tokenizers.models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=1200, initial_alphabet=sorted(alphabet), show_progress=False)
    trained.train_from_iterator([path.read_text() for path in sorted(SOURCES.glob("*.py"))], trainer)
    vocab = trained.get_vocab()
    merges = [(first, second) for first, second in json.loads(trained.to_str())["model"]["merges"]]
    specials = {content: len(vocab) + i for i, content in enumerate((*CONTROL, *MARKS))}
    state = bpe_state(vocab, merges, specials, pre_tokenizer)
    for token in state["added_tokens"]:
        token["special"] = token["content"] in CONTROL
    return state


@pytest.fixture(scope="session", params=["smollm", "qwen2", "llama-bpe", "gpt-2"])
def bpe(request: pytest.FixtureRequest) -> Tokenizer:
    """A byte-level BPE tokenizer with each of the pre-tokenizers."""
    config = {"eos_token": "<|im_end|>", "bos_token": "<|im_start|>"}
    return Tokenizer(_state(request.param), config=config)


@pytest.fixture(scope="session")
def qwen_like() -> Tokenizer:
    """Qwen's pre-tokenizer and its two kinds of added tokens."""
    return Tokenizer(_state("qwen2"), config={"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"})
