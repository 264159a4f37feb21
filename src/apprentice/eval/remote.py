"""A model behind an OpenAI-compatible URL, asked for completions of text.

What it answers is text from outside, and what it fails at is data: after `attempts` tries the reason stands in the row
and the run goes on. Redirects are not followed (a server must not send our prompts elsewhere), answers are bounded.
"""

from __future__ import annotations

import http.client
import math
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import msgspec

from apprentice.core.errors import ConfigError
from apprentice.eval.arms import Answer

MAX_ANSWER_BYTES = 4 << 20


class _LogProbs(msgspec.Struct):
    token_logprobs: list[float | None] | None = None


class _Choice(msgspec.Struct):
    text: str
    finish_reason: str | None = None
    logprobs: _LogProbs | None = None


class _Usage(msgspec.Struct):
    completion_tokens: int = 0


class _Reply(msgspec.Struct):
    """What is read of an answer; the rest is left alone."""

    choices: list[_Choice]
    usage: _Usage | None = None


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


@dataclass(frozen=True, kw_only=True, slots=True)
class Completions:
    """`POST {url}/completions`, greedy. Implements `eval.arms.Complete`."""

    url: str
    """Up to and with the version: `http://localhost:8000/v1`."""
    model: str
    api_key: str = ""
    timeout_s: float = 120.0
    attempts: int = 3
    """1 or more."""
    sleep: Callable[[float], None] = time.sleep

    def __post_init__(self) -> None:
        if urlsplit(self.url).scheme not in ("http", "https") or not urlsplit(self.url).hostname:
            raise ConfigError(f"`{self.url}` is no URL of a server", hint="for example `http://localhost:8000/v1`")
        if self.attempts < 1:
            raise ConfigError("attempts must be 1 or more")

    def __call__(self, prompt: str, max_tokens: int, stop: Sequence[str]) -> Answer:
        body = {"model": self.model, "prompt": prompt, "max_tokens": max_tokens, "temperature": 0, "stop": list(stop),
                "logprobs": 1}  # fmt: skip
        reason = ""
        for attempt in range(self.attempts):
            if attempt:
                self.sleep(min(2.0**attempt, 10.0))
            try:
                return _answer(self._post(body))
            except (OSError, http.client.HTTPException, ValueError, msgspec.MsgspecError) as error:
                reason = f"{type(error).__name__}: {error}"[:200]
                if isinstance(error, urllib.error.HTTPError) and 400 <= error.code < 500 and error.code != 429:
                    break
        return Answer(text="", error=reason)

    def _post(self, body: dict[str, Any]) -> _Reply:
        headers = {"Content-Type": "application/json"}
        if self.api_key:
            headers["Authorization"] = f"Bearer {self.api_key}"
        request = urllib.request.Request(self.url.rstrip("/") + "/completions", msgspec.json.encode(body), headers)
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=self.timeout_s) as response:
            raw = response.read(MAX_ANSWER_BYTES + 1)
        if len(raw) > MAX_ANSWER_BYTES:
            raise ValueError("the answer is too long")
        return msgspec.json.decode(raw, type=_Reply)


def _answer(reply: _Reply) -> Answer:
    if not reply.choices:
        raise ValueError("the answer holds no choice")
    choice = reply.choices[0]
    log_probs = [x for x in (choice.logprobs.token_logprobs if choice.logprobs else None) or [] if x is not None]
    return Answer(
        text=choice.text,
        tokens=reply.usage.completion_tokens if reply.usage else len(log_probs),
        confidence=math.fsum(log_probs) if log_probs and all(math.isfinite(x) for x in log_probs) else None,
        finished=choice.finish_reason == "stop",
    )
