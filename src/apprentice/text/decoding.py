"""One decoding loop for every model: requests in, samples out; prompts and targets in, log-probabilities out.

    Request --admit--> prompt fed --choose--> token --feed token + draft--> choose ... --stop--> Sample

A model takes part by two methods (`LanguageModel`): `new_cache(capacity)` makes the memory of ONE sequence, and
`forward(feeds)` appends tokens to several sequences at once and gives back next-token log-probabilities. Sequences are
ragged: a step can feed a prompt of 900 tokens, one token and a draft of five to three of them, and no model needs
padding. Everything else is here and has no arithmetic of a model in it: sampling, mixtures, healing, drafts, stop
texts and ids, streaming, seeds.

Drafts are checked, not trusted: at each place the token is chosen from the true distribution exactly as it would be
without a draft, with the same random number, and the draft is followed as long as it agrees. So a draft changes the
number of forward passes and nothing else (up to rounding: a forward of six tokens need not round as six of one do).

An end-of-reply id of the tokenizer ends a generation like an id in `Request.stop_ids`.
"""

from __future__ import annotations

import codecs
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from apprentice.core.errors import InputError
from apprentice.core.protocols import Mixture, Request, Sample, Score, Tokenizer
from apprentice.text.healing import PrefixConstraint

MAX_DRAFT = 16
"""Most tokens of a draft checked in one step."""

OnToken = Callable[[int, int, str], bool]


class SequenceCache(Protocol):
    """What a model remembers of one sequence."""

    @property
    def length(self) -> int:
        """Tokens fed so far."""
        ...

    def truncate(self, length: int) -> None:
        """Forget everything behind the first `length` tokens."""
        ...


class Feed(NamedTuple):
    """Tokens that one sequence goes on with."""

    token_ids: Sequence[int]
    num_outputs: int
    """How many of the LAST fed tokens to answer for, 1 to len(token_ids)."""
    cache: SequenceCache | None = None
    """The sequence to append to; None for one that starts here and is not kept."""


class Output(NamedTuple):
    """The answer to a Feed."""

    log_probs_TV: np.ndarray
    """float32 [num_outputs, vocabulary]: natural log-probabilities of the token after each of them."""
    experts_used_T: np.ndarray | None = None
    """Experts computed for each of them, summed over layers; None for a dense model."""


class LanguageModel(Protocol):
    """What decoding needs of a model."""

    @property
    def max_positions(self) -> int:
        """Longest sequence that the model can read, in tokens."""
        ...

    def new_cache(self, capacity: int) -> SequenceCache:
        """An empty sequence that will never hold more than `capacity` tokens."""
        ...

    def forward(self, feeds: Sequence[Feed]) -> list[Output]:
        """An Output for each feed, in order."""
        ...


def generate(
    model: LanguageModel,
    tokenizer: Tokenizer,
    requests: Sequence[Request],
    *,
    on_token: OnToken | None = None,
    max_sequences: int = 16,
) -> list[Sample]:
    """A sample for each request, in order; at most `max_sequences` are in work at a time."""
    sequences = [_Sequence(i, request, tokenizer, model.max_positions) for i, request in enumerate(requests)]
    waiting = iter(sequences)
    working: list[_Sequence] = []
    while True:
        working = [sequence for sequence in working if sequence.finish_reason is None]
        for sequence in _take(waiting, max_sequences - len(working)):
            sequence.open(model)
            if sequence.finish_reason is None:
                working.append(sequence)
        if not working:
            return [sequence.sample() for sequence in sequences]
        outputs = model.forward([sequence.next_feed() for sequence in working])
        for sequence, output in zip(working, outputs, strict=True):
            sequence.take(output, on_token)


def score(
    model: LanguageModel,
    prompts: Sequence[Sequence[int]],
    targets: Sequence[Sequence[int]],
    *,
    mixtures: Sequence[Mixture | None] | None = None,
    tokens_per_forward: int = 2048,
    outputs_per_forward: int = 512,
) -> list[Score]:
    """log p(target | prompt), token by token. Several sequences share a forward pass up to the two limits."""
    mixtures = mixtures or [None] * len(prompts)
    feeds = [_scoring_feed(model, p, t) for p, t in zip(prompts, targets, strict=True)]
    scores = [Score(model_log_probs=[], mixture_log_probs=None if mixture is None else []) for mixture in mixtures]
    for batch in batches(feeds, tokens_per_forward, outputs_per_forward):
        outputs = model.forward([feeds[i] for i in batch])
        for i, output in zip(batch, outputs, strict=True):
            scores[i] = score_target(output.log_probs_TV, targets[i], mixtures[i])
    return scores


def _scoring_feed(model: LanguageModel, prompt: Sequence[int], target: Sequence[int]) -> Feed:
    if not prompt:
        raise InputError("cannot score after an empty prompt", hint="give at least one token")
    tokens = [*prompt, *target[:-1]]
    if len(tokens) > model.max_positions:
        raise InputError(
            f"prompt and target have {len(tokens)} tokens, the model reads {model.max_positions}",
            hint="shorten the prompt or take a base with a longer context",
        )
    return Feed(tokens, len(target))


def score_target(log_probs_TV: np.ndarray, target: Sequence[int], mixture: Mixture | None) -> Score:
    """The target's log-probabilities out of the rows that predict its tokens. The mixture is advanced over it."""
    by_model = log_probs_TV[np.arange(len(target)), np.asarray(target, dtype=np.int64)]
    if mixture is None:
        return Score(model_log_probs=by_model.tolist())
    by_mixture = []
    for row_V, token_id in zip(log_probs_TV, target, strict=True):
        by_mixture.append(float(mixture.mix(row_V)[token_id]))
        mixture.advance(token_id)
    return Score(model_log_probs=by_model.tolist(), mixture_log_probs=by_mixture)


def batches(feeds: Sequence[Feed], max_tokens: int, max_outputs: int) -> Iterator[list[int]]:
    """Indices of feeds that go through the model together, longest first: within both limits or alone. None is empty."""
    batch: list[int] = []
    tokens = outputs = 0
    for i in sorted((i for i, feed in enumerate(feeds) if feed.num_outputs), key=lambda i: -len(feeds[i].token_ids)):
        if batch and (tokens + len(feeds[i].token_ids) > max_tokens or outputs + feeds[i].num_outputs > max_outputs):
            yield batch
            batch = []
            tokens = outputs = 0
        batch.append(i)
        tokens += len(feeds[i].token_ids)
        outputs += feeds[i].num_outputs
    if batch:
        yield batch


def choose(
    log_probs_V: np.ndarray, *, temperature: float, random: np.random.Generator, top_p: float = 1.0, min_p: float = 0.0
) -> int:
    """The next token: the likeliest at temperature 0, else drawn from those that are at least `min_p` times as likely as
    the likeliest, and of them from the smallest set that holds `top_p` of their weight."""
    if temperature <= 0:
        return int(np.argmax(log_probs_V))
    weights_V = np.exp((log_probs_V - log_probs_V.max()) / np.float32(max(temperature, 1e-6)), dtype=np.float32)
    if min_p > 0:
        weights_V[weights_V < min_p] = 0
    ids_N = _nucleus(weights_V, top_p) if top_p < 1 else np.flatnonzero(weights_V)
    cumulated_N = np.cumsum(weights_V[ids_N], dtype=np.float64)
    drawn = int(np.searchsorted(cumulated_N, random.random() * cumulated_N[-1], side="right"))
    return int(ids_N[min(drawn, len(ids_N) - 1)])


def _nucleus(weights_V: np.ndarray, top_p: float) -> np.ndarray:
    """Ids of the smallest set that holds `top_p` of the weight, the heaviest first. The heaviest weighs 1."""
    wanted = top_p * float(weights_V.sum(dtype=np.float64))
    # Sorting a whole vocabulary would take longer than a small model's step.
    for least in (1e-2, 1e-4, 0.0):
        ids_N = np.flatnonzero(weights_V >= least)
        if least == 0 or float(weights_V[ids_N].sum(dtype=np.float64)) >= wanted:
            break
    ids_N = ids_N[np.argsort(-weights_V[ids_N], kind="stable")]
    return ids_N[: int(np.searchsorted(np.cumsum(weights_V[ids_N], dtype=np.float64), wanted)) + 1]


class TextStream:
    """Token ids -> text as it becomes certain: whole characters only, nothing that may turn out to be a stop text."""

    def __init__(self, tokenizer: Tokenizer, stop_texts: Sequence[str] = (), skip: int = 0) -> None:
        """`skip`: characters at the start that are not shown (what a healed prompt has in front of the cursor)."""
        if any(not stop for stop in stop_texts):
            raise InputError("a stop text is empty", hint="leave it out")
        self._tokenizer, self._stop_texts, self._skip = tokenizer, tuple(stop_texts), skip
        self._characters = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._held = ""
        self._texts: list[str] = []
        self.stopped = False

    def push(self, token_id: int) -> str:
        """The text that this token makes certain."""
        return self._certain(self._characters.decode(self._tokenizer.token_bytes(token_id)))

    def finish(self) -> str:
        """The text held back, once no more tokens come."""
        if self.stopped:
            return ""
        new = self._certain(self._characters.decode(b"", final=True))
        held, self._held = ("", "") if self.stopped else (self._held, "")
        self._texts.append(held)
        return new + held

    @property
    def text(self) -> str:
        """All text given out so far."""
        return "".join(self._texts)

    def _certain(self, new: str) -> str:
        skipped = min(self._skip, len(new))
        self._skip -= skipped
        text = self._held + new[skipped:]
        places = [at for at in (text.find(stop) for stop in self._stop_texts) if at >= 0]
        if places:
            self.stopped = True
            text, self._held = text[: min(places)], ""
        else:
            keep = len(text) - self._possible_stop(text)
            text, self._held = text[:keep], text[keep:]
        self._texts.append(text)
        return text

    def _possible_stop(self, text: str) -> int:
        """Length of the longest end of `text` that a stop text starts with."""
        longest = min(len(text), max((len(stop) for stop in self._stop_texts), default=1) - 1)
        for length in range(longest, 0, -1):
            if any(stop.startswith(text[-length:]) for stop in self._stop_texts):
                return length
        return 0


@dataclass(slots=True)
class _Chosen:
    token_id: int
    log_prob: float
    model_log_prob: float
    top: dict[int, float]


class _Sequence:
    """One request in work: what was chosen, what is to be fed next, and the text so far."""

    def __init__(self, index: int, request: Request, tokenizer: Tokenizer, max_positions: int) -> None:
        if not request.prompt_ids:
            raise InputError("cannot continue an empty prompt", hint="give at least one token")
        room = max_positions - len(request.prompt_ids)
        if room < 1:
            raise InputError(
                f"the prompt has {len(request.prompt_ids)} tokens, the model reads {max_positions} with its reply",
                hint="shorten the prompt or take a base with a longer context",
            )
        self.index, self.request = index, request
        self.finish_reason: str | None = None
        self._max_tokens = min(request.max_tokens, room)
        self._random = np.random.default_rng(request.seed)
        self._stop_ids = frozenset(request.stop_ids) | frozenset(tokenizer.eos_ids)
        self._stream = TextStream(tokenizer, request.stop_texts, skip=len(request.must_start_with))
        self._constraint = PrefixConstraint(tokenizer, request.must_start_with) if request.must_start_with else None
        self._cache: SequenceCache | None = None
        self._chosen: list[_Chosen] = []
        self._counts: Counter[int] = Counter()
        self._experts: list[int] = []
        self._draft: list[int] = []
        self._draft_limit = 4
        self._steps = 0

    def open(self, model: LanguageModel) -> None:
        if self._max_tokens < 1:
            self.finish_reason = "length"
            return
        self._cache = model.new_cache(len(self.request.prompt_ids) + self._max_tokens + MAX_DRAFT)

    def next_feed(self) -> Feed:
        assert self._cache is not None
        if not self._chosen:
            return Feed(self.request.prompt_ids, 1, self._cache)
        self._draft = self._propose()
        return Feed([self._chosen[-1].token_id, *self._draft], 1 + len(self._draft), self._cache)

    def take(self, output: Output, on_token: OnToken | None) -> None:
        """Chooses as many tokens as the output is good for."""
        assert self._cache is not None
        self._steps += 1
        start = self._cache.length - len(output.log_probs_TV)
        for row, log_probs_V in enumerate(output.log_probs_TV):
            chosen = self._choose(log_probs_V)
            self._accept(chosen, on_token)
            if output.experts_used_T is not None:
                self._experts.append(int(output.experts_used_T[row]))
            agreed = row < len(self._draft) and chosen.token_id == self._draft[row]
            if self.finish_reason is not None or not agreed:
                self._adapt(row)
                self._cache.truncate(start + row + 1)
                break
        self._draft = []
        if self.finish_reason is not None:
            self._cache = None

    def sample(self) -> Sample:
        assert self.finish_reason is not None
        return Sample(
            token_ids=[c.token_id for c in self._chosen],
            text=self._stream.text,
            log_probs=[c.log_prob for c in self._chosen],
            model_log_probs=[c.model_log_prob for c in self._chosen],
            finish_reason=self.finish_reason,
            top_log_probs=[c.top for c in self._chosen] if self.request.top_log_probs else [],
            steps=self._steps,
            experts_used=self._experts[: len(self._chosen)] or None,
        )

    def _propose(self) -> list[int]:
        limit = min(self._draft_limit, self._max_tokens - len(self._chosen) - 1)
        if self.request.mixture is None or not self.request.use_draft or limit < 1:
            return []
        return list(self.request.mixture.draft(limit))[:limit]

    def _adapt(self, agreed: int) -> None:
        """A draft that agreed in full may be longer next time, one that agreed nowhere shorter."""
        if self._draft and agreed == len(self._draft):
            self._draft_limit = min(2 * self._draft_limit, MAX_DRAFT)
        elif self._draft and agreed == 0:
            self._draft_limit = max(self._draft_limit // 2, 1)

    def _choose(self, model_log_probs_V: np.ndarray) -> _Chosen:
        request = self.request
        mixed_V = model_log_probs_V if request.mixture is None else request.mixture.mix(model_log_probs_V)
        model_V = model_log_probs_V
        allowed = None if self._constraint is None or self._constraint.done else self._constraint.allowed()
        if allowed is not None:
            mixed_V, model_V = _only(mixed_V, allowed), _only(model_V, allowed)
        if not np.isfinite(mixed_V.max()):
            raise InputError("the model gave no finite probabilities", hint="the checkpoint is damaged or overflowed")
        token_id = choose(
            self._penalized(mixed_V), temperature=request.temperature, top_p=request.top_p, min_p=request.min_p,
            random=self._random,
        )  # fmt: skip
        top = _top(mixed_V, request.top_log_probs) if request.top_log_probs else {}
        return _Chosen(token_id, float(mixed_V[token_id]), float(model_V[token_id]), top)

    def _penalized(self, log_probs_V: np.ndarray) -> np.ndarray:
        request = self.request
        if not self._counts or not (request.presence_penalty or request.frequency_penalty):
            return log_probs_V
        ids, counts = (np.array(list(part)) for part in (self._counts.keys(), self._counts.values()))
        penalized_V = log_probs_V.copy()
        penalized_V[ids] -= (request.presence_penalty + request.frequency_penalty * counts).astype(np.float32)
        return penalized_V

    def _accept(self, chosen: _Chosen, on_token: OnToken | None) -> None:
        if chosen.token_id in self._stop_ids:
            self._end("stop", chosen.token_id, "", on_token)
            return
        self._chosen.append(chosen)
        self._counts[chosen.token_id] += 1
        if self._constraint is not None:
            self._constraint.advance(chosen.token_id)
        if self.request.mixture is not None:
            self.request.mixture.advance(chosen.token_id)
        text = self._stream.push(chosen.token_id)
        if self._stream.stopped:
            self._end("stop", chosen.token_id, text, on_token)
        elif len(self._chosen) == self._max_tokens:
            self._end("length", chosen.token_id, text, on_token)
        elif on_token is not None and not on_token(self.index, chosen.token_id, text):
            self.finish_reason = "cancelled"

    def _end(self, reason: str, token_id: int, text: str, on_token: OnToken | None) -> None:
        text += self._stream.finish()
        self.finish_reason = "stop" if self._stream.stopped else reason
        if on_token is not None and (text or reason == "length"):
            on_token(self.index, token_id, text)


def _only(log_probs_V: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """The distribution given that one of `allowed` comes next."""
    kept = log_probs_V[allowed].astype(np.float64)
    top = kept.max(initial=-np.inf)
    total = top + np.log(np.exp(kept - top).sum())
    limited_V = np.full_like(log_probs_V, -np.inf)
    limited_V[allowed] = kept - total
    return limited_V


def _top(log_probs_V: np.ndarray, count: int) -> dict[int, float]:
    ids = np.argpartition(-log_probs_V, min(count, len(log_probs_V) - 1))[:count]
    return {int(i): float(log_probs_V[i]) for i in ids[np.argsort(-log_probs_V[ids], kind="stable")]}


def _take(waiting: Iterator[_Sequence], count: int) -> list[_Sequence]:
    taken = []
    for _ in range(count):
        sequence = next(waiting, None)
        if sequence is None:
            break
        taken.append(sequence)
    return taken
