"""What packages expect of objects that they are handed: the wiring between them, and nothing else.

`Generator` is implemented by the torch model, the native engine and any OpenAI-compatible URL; `Mixture` by the
memory. Token ids are plain lists of int at this boundary; arrays are numpy. Log-probabilities are natural logarithms.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np


class Tokenizer(Protocol):
    """`text.tokenizer.Tokenizer`. Plain text never becomes a special token."""

    @property
    def vocab_size(self) -> int: ...
    @property
    def eos_ids(self) -> tuple[int, ...]:
        """Ids that end a reply (for SmolLM2: `<|im_end|>` and `<|endoftext|>`)."""
        ...

    def encode(self, text: str) -> list[int]: ...
    def encode_with_offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Ids and, for each, [start, end) in characters of `text`."""
        ...

    def decode(self, token_ids: Sequence[int]) -> str: ...
    def special_id(self, content: str) -> int | None: ...
    def token_bytes(self, token_id: int) -> bytes:
        """The bytes of UTF-8 that a token stands for, maybe part of a character; a special token's name."""
        ...


class Mixture(Protocol):
    """A second opinion on the next token for ONE prompt, told of each token as it is chosen."""

    def mix(self, log_probs_V: np.ndarray) -> np.ndarray:
        """The model's next-token log-probabilities -> the mixture's (float32, same shape, a new array or the same)."""
        ...

    def advance(self, token_id: int) -> None:
        """`token_id` was chosen (or given): the state moves on by one token."""
        ...

    def draft(self, max_tokens: int) -> list[int]:
        """A guess at the next tokens for speculative decoding; empty where there is none. Does not change the state."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """One generation. Sampling is greedy at temperature 0."""

    prompt_ids: Sequence[int]
    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    """Of the likeliest tokens as many as hold this part of the probability; at most 1."""
    min_p: float = 0.0
    """Tokens that are at least this part as likely as the likeliest, 0 to 1."""
    presence_penalty: float = 0.0
    """Taken off the log-probability of every token that the reply already has."""
    frequency_penalty: float = 0.0
    """The same for each time that the reply has it."""
    seed: int | None = None
    stop_texts: tuple[str, ...] = ()
    """Generation ends when the decoded text contains one; it is cut off the text."""
    stop_ids: tuple[int, ...] = ()
    """Generation ends when one of these is chosen; it is kept in neither ids nor text."""
    must_start_with: str = ""
    """Token healing: tokens are chosen so that the output starts with this text (what stands between the last safe
    token border and the cursor, see `text.healing`). It is part of `token_ids` and cut off `text`."""
    mixture: Mixture | None = None
    use_draft: bool = True
    """Let `mixture.draft` propose tokens. Changes the speed, never the result."""
    top_log_probs: int = 0
    """How many alternatives to report for each token, 0 to 20."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """One model output."""

    token_ids: list[int]
    text: str
    log_probs: list[float]
    """Of each token under the distribution that was sampled from (the mixture's, where there is one), at temperature 1."""
    model_log_probs: list[float]
    """Of each token under the model alone: what confidence is computed from."""
    finish_reason: str
    """`stop`, `length` or `cancelled`."""
    top_log_probs: list[dict[int, float]] = field(default_factory=list)
    steps: int = 0
    """Forward passes used: fewer than tokens when drafts were accepted."""
    experts_used: list[int] | None = None
    """Experts computed for each token, summed over layers; None for a dense model."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """Log-probabilities of given target tokens, in order."""

    model_log_probs: list[float]
    mixture_log_probs: list[float] | None = None
    """Under the mixture, where one was given."""


@runtime_checkable
class Generator(Protocol):
    """Something that continues token sequences."""

    def generate(
        self, requests: Sequence[Request], *, on_token: Callable[[int, int, str], bool] | None = None
    ) -> list[Sample]:
        """A sample for each request, in order. `on_token(request index, token id, new text)` is called as text becomes
        certain (never half a character, never part of a stop text); returning False cancels that request."""
        ...

    def score(
        self, prompts: Sequence[Sequence[int]], targets: Sequence[Sequence[int]], *,
        mixtures: Sequence[Mixture | None] | None = None,
    ) -> list[Score]:
        """log p(target | prompt), token by token. A mixture is advanced over the targets only: it was built knowing
        its prompt."""
        ...


class SecretScanner(Protocol):
    """`text.redaction`: finds what must not be written."""

    def redact(self, text: str) -> tuple[str, dict[str, int]]:
        """The text with every finding replaced by a stable placeholder, and counts by kind of finding."""
        ...


class ProgressSink(Protocol):
    """`core.progress.Progress`, or a silent stand-in."""

    def stage(self, name: str, total: int | None = None, unit: str = "") -> None: ...
    def advance(self, amount: int = 1, detail: str = "") -> None: ...
    def note(self, message: str) -> None: ...


class TextSource(Protocol):
    """Content-addressed texts: where examples and the memory find whole files."""

    def text(self, text_id: str) -> str: ...
    def __contains__(self, text_id: object) -> bool: ...


TokenStream = Iterator[int]
