"""The objects that clients get, in OpenAI's form: whole replies, pieces of a stream, log-probabilities, usage."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from typing import Any

from apprentice.serve.generation import Choice
from apprentice.serve.served import ServedModel
from apprentice.serve.watching import Watched
from apprentice.text.tokenizer import Tokenizer


class Reply:
    """What all objects of one answer have in common."""

    def __init__(self, model: ServedModel, *, chat: bool, with_log_probs: bool) -> None:
        self._model, self._chat, self._with_log_probs = model, chat, with_log_probs
        self._id = ("chatcmpl-" if chat else "cmpl-") + secrets.token_hex(12)
        self._created = int(time.time())
        self._offsets: dict[int, int] = {}

    def whole(self, choices: Sequence[Choice], usage: dict[str, int]) -> dict[str, Any]:
        return self._object([self._whole_choice(index, choice) for index, choice in enumerate(choices)]) | {"usage": usage}

    def opening(self, index: int) -> dict[str, Any] | None:
        """The first object of a choice's stream, where there is one."""
        return self._piece(index, {"role": "assistant", "content": ""}, None, None) if self._chat else None

    def piece(self, index: int, text: str, tokens: Sequence[Watched]) -> dict[str, Any]:
        return self._piece(index, {"content": text} if self._chat else text, self._log_probs(index, tokens), None)

    def closing(self, index: int, reason: str, tokens: Sequence[Watched]) -> dict[str, Any]:
        return self._piece(index, {} if self._chat else "", self._log_probs(index, tokens), reason)

    def usage(self, usage: dict[str, int]) -> dict[str, Any]:
        """The last object of a stream that was asked for it."""
        return self._object([], is_piece=True) | {"usage": usage}

    def _whole_choice(self, index: int, choice: Choice) -> dict[str, Any]:
        log_probs = self._log_probs(index, choice.tokens)
        if self._chat:
            message = {"role": "assistant", "content": choice.text, "refusal": None}
            return {"index": index, "message": message, "logprobs": log_probs, "finish_reason": choice.reason}
        return {"index": index, "text": choice.text, "logprobs": log_probs, "finish_reason": choice.reason}

    def _piece(self, index: int, said: Any, log_probs: Any, reason: str | None) -> dict[str, Any]:
        choice = {"index": index, ("delta" if self._chat else "text"): said, "logprobs": log_probs, "finish_reason": reason}
        return self._object([choice], is_piece=True)

    def _object(self, choices: list[dict[str, Any]], *, is_piece: bool = False) -> dict[str, Any]:
        kind = "text_completion" if not self._chat else "chat.completion.chunk" if is_piece else "chat.completion"
        return {
            "id": self._id,
            "object": kind,
            "created": self._created,
            "model": self._model.name,
            "system_fingerprint": self._model.fingerprint,
            "choices": choices,
        }

    def _log_probs(self, index: int, tokens: Sequence[Watched]) -> dict[str, Any] | None:
        if not self._with_log_probs:
            return None
        tokenizer = self._model.tokenizer
        if self._chat:
            return {"content": [_chat_token(tokenizer, token) for token in tokens], "refusal": None}
        texts = [tokenizer.decode([token.token_id]) for token in tokens]
        offsets: list[int] = []
        for text in texts:
            offsets.append(self._offsets.get(index, 0))
            self._offsets[index] = offsets[-1] + len(text)
        return {
            "tokens": texts,
            # The first token of an echoed prompt stands behind nothing.
            "token_logprobs": [None if token.log_prob == NOT_KNOWN else min(token.log_prob, 0.0) for token in tokens],
            "top_logprobs": [_top_by_text(tokenizer, token) for token in tokens],
            "text_offset": offsets,
        }


NOT_KNOWN = 1.0
"""Stands for the log-probability of a token that has none: no real one is above 0."""


def usage(num_prompt: int, num_completion: int) -> dict[str, int]:
    return {
        "prompt_tokens": num_prompt,
        "completion_tokens": num_completion,
        "total_tokens": num_prompt + num_completion,
    }


def _chat_token(tokenizer: Tokenizer, token: Watched) -> dict[str, Any]:
    top = [_with_bytes(tokenizer, token_id, log_prob) for token_id, log_prob in token.top.items()]
    return _with_bytes(tokenizer, token.token_id, token.log_prob) | {"top_logprobs": top}


def _with_bytes(tokenizer: Tokenizer, token_id: int, log_prob: float) -> dict[str, Any]:
    said = tokenizer.token_bytes(token_id)
    return {"token": said.decode("utf-8", errors="replace"), "logprob": min(max(log_prob, -9999.0), 0.0), "bytes": list(said)}


def _top_by_text(tokenizer: Tokenizer, token: Watched) -> dict[str, float] | None:
    """Different tokens can read the same (parts of characters): the likelier counts."""
    if token.log_prob == NOT_KNOWN:
        return None
    top: dict[str, float] = {}
    for token_id, log_prob in token.top.items():
        top.setdefault(tokenizer.decode([token_id]), min(max(log_prob, -9999.0), 0.0))
    return top
