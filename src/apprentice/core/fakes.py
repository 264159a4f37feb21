"""Stand-ins that tests use in place of models and disks, so that nothing need be patched.

`ByteTokenizer` and `ScriptedGenerator` satisfy the Protocols of `core.protocols`; `FailingOperations` plugs into
`core.files.using` and makes the N-th file operation fail. They ship with the package, for authors of extensions test too.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from apprentice.core.files import Operations
from apprentice.core.protocols import Mixture, Request, Sample, Score, Tokenizer

if TYPE_CHECKING:
    import numpy as np
    from _typeshed import ReadableBuffer

SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


class ByteTokenizer:
    """A token is a byte of UTF-8; special tokens follow from id 256 on."""

    def __init__(self, specials: Sequence[str] = SPECIALS, eos: Sequence[str] = ("<|endoftext|>", "<|im_end|>")) -> None:
        self._specials = {content: 256 + i for i, content in enumerate(specials)}
        self._contents = {token_id: content for content, token_id in self._specials.items()}
        self._eos_ids = tuple(self._specials[content] for content in eos if content in self._specials)

    @property
    def vocab_size(self) -> int:
        return 256 + len(self._specials)

    @property
    def eos_ids(self) -> tuple[int, ...]:
        return self._eos_ids

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def encode_with_offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        offsets = [(i, i + 1) for i, character in enumerate(text) for _ in character.encode()]
        return self.encode(text), offsets

    def decode(self, token_ids: Sequence[int]) -> str:
        return b"".join(self.token_bytes(i) for i in token_ids).decode(errors="replace")

    def token_bytes(self, token_id: int) -> bytes:
        return self._contents[token_id].encode() if token_id in self._contents else bytes([token_id])

    def special_id(self, content: str) -> int | None:
        return self._specials.get(content)


class ScriptedGenerator:
    """Says what it is told to. `replies` are used in turn (the last one again and again), or computed from the request.

    `score` gives every token `log_prob` (default: uniform over the vocabulary), or what a function of (prompt, target) says.
    The requests and scored pairs are kept for a test to look at."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        replies: Sequence[str] | Callable[[Request], str] = ("",),
        *,
        log_prob: float | Callable[[Sequence[int], Sequence[int]], list[float]] | None = None,
    ) -> None:
        self.requests: list[Request] = []
        self.scored: list[tuple[list[int], list[int]]] = []
        self._tokenizer, self._replies, self._log_prob = tokenizer, replies, log_prob

    def generate(
        self, requests: Sequence[Request], *, on_token: Callable[[int, int, str], bool] | None = None
    ) -> list[Sample]:
        samples = []
        for index, request in enumerate(requests):
            reply = self._reply(request)
            self.requests.append(request)
            samples.append(self._sample(index, request, reply, on_token))
        return samples

    def score(
        self,
        prompts: Sequence[Sequence[int]],
        targets: Sequence[Sequence[int]],
        *,
        mixtures: Sequence[Mixture | None] | None = None,
    ) -> list[Score]:
        scores = []
        for prompt, target, mixture in zip(prompts, targets, mixtures or [None] * len(prompts), strict=True):
            self.scored.append((list(prompt), list(target)))
            own = self._log_prob(prompt, target) if callable(self._log_prob) else [self._flat()] * len(target)
            mixed = None if mixture is None else [self._mixed(mixture, i, p) for i, p in zip(target, own, strict=True)]
            scores.append(Score(model_log_probs=own, mixture_log_probs=mixed))
        return scores

    def _reply(self, request: Request) -> str:
        if callable(self._replies):
            return self._replies(request)
        return self._replies[min(len(self.requests), len(self._replies) - 1)]

    def _sample(
        self, index: int, request: Request, reply: str, on_token: Callable[[int, int, str], bool] | None
    ) -> Sample:
        text, reason = reply, "stop"
        for stop in request.stop_texts:
            text = text.split(stop)[0]
        token_ids: list[int] = []
        prefix = self._tokenizer.encode(request.must_start_with)
        for token_id in [*prefix, *self._tokenizer.encode(text)]:
            if len(token_ids) == request.max_tokens:
                reason = "length"
                break
            token_ids.append(token_id)
            if request.mixture is not None:
                request.mixture.advance(token_id)
            shown = "" if len(token_ids) <= len(prefix) else self._tokenizer.decode([token_id])
            if on_token is not None and not on_token(index, token_id, shown):
                reason = "cancelled"
                break
        flat = [self._flat()] * len(token_ids)
        return Sample(
            token_ids=token_ids,
            text=self._tokenizer.decode(token_ids[len(prefix) :]),
            log_probs=flat,
            model_log_probs=list(flat),
            finish_reason=reason,
            steps=len(token_ids),
        )

    def _flat(self) -> float:
        return self._log_prob if isinstance(self._log_prob, int | float) else -math.log(self._tokenizer.vocab_size)

    def _mixed(self, mixture: Mixture, token_id: int, log_prob: float) -> float:
        """The mixture's opinion where the model gives `token_id` its probability and shares out the rest evenly."""
        mixed = float(mixture.mix(_spread(self._tokenizer.vocab_size, token_id, log_prob))[token_id])
        mixture.advance(token_id)
        return mixed


class FailingOperations(Operations):
    """File operations of which the `fail_at`-th (from 1; 0: none) fails with `code`. A failing write writes half first.

    `performed` lists (operation, path), so that a first run with `fail_at=0` tells how many there are; `sites` lists, for
    the same operations, the line of code outside `core` that asked for it. With `persistent=True` every later operation
    fails too, clean-up included: what a crash would leave."""

    def __init__(self, fail_at: int, code: int, *, persistent: bool = False) -> None:
        self.performed: list[tuple[str, Path]] = []
        self.sites: list[str] = []
        self.failed = False
        self._fail_at, self._code, self._persistent = fail_at, code, persistent

    def _check(self, operation: str, path: Path) -> None:
        self.performed.append((operation, path))
        self.sites.append(_caller())
        if len(self.performed) == self._fail_at or (self._persistent and self.failed):
            self.failed = True
            raise OSError(self._code, os.strerror(self._code), str(path))

    def open(self, path: Path, flags: int) -> int:
        self._check("open", path)
        return super().open(path, flags)

    def write(self, descriptor: int, data: ReadableBuffer, path: Path) -> int:
        try:
            self._check("write", path)
        except OSError:
            view = memoryview(data)
            super().write(descriptor, view[: len(view) // 2], path)
            raise
        return super().write(descriptor, data, path)

    def truncate(self, descriptor: int, size: int, path: Path) -> None:
        self._check("truncate", path)
        super().truncate(descriptor, size, path)

    def fsync(self, descriptor: int, path: Path) -> None:
        self._check("fsync", path)
        super().fsync(descriptor, path)

    def rename(self, source: Path, target: Path) -> None:
        self._check("rename", target)
        super().rename(source, target)

    def unlink(self, path: Path) -> None:
        self._check("unlink", path)
        super().unlink(path)

    def mkdir(self, path: Path) -> None:
        self._check("mkdir", path)
        super().mkdir(path)

    def rmdir(self, path: Path) -> None:
        self._check("rmdir", path)
        super().rmdir(path)


def _caller() -> str:
    """`train/checkpoints.py:120`: the nearest line on the stack that is neither in `core` nor in the standard library."""
    core = Path(__file__).parent
    frame = sys._getframe(1)
    while frame.f_back is not None:
        path = Path(frame.f_code.co_filename)
        if path.parent != core and path.name != "contextlib.py":
            break
        frame = frame.f_back
    return f"{Path(frame.f_code.co_filename).parent.name}/{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"


def _spread(vocab_size: int, token_id: int, log_prob: float) -> np.ndarray:
    import numpy as np

    rest = max(1.0 - math.exp(log_prob), 1e-9) / max(vocab_size - 1, 1)
    log_probs_V = np.full(vocab_size, math.log(rest), np.float32)
    log_probs_V[token_id] = log_prob
    return log_probs_V
