"""The decoder in native code: the work of `engine.model`, one call for all layers (`text.decoding.LanguageModel`).

    Checkpoint --engine.packing--> tiles --kernels/native/decoder.cpp: forward--> log-probabilities

Four bits a weight are read where numpy reads 32, activations are rounded to 8 bits in front of matrices of 4 and 8
bits (`engine.balance` makes them suit that), keys and values are kept as halves, or in 8 bits (`cache_bits`). The three
kinds of work are those of `engine.model`, with the same promises: in a step a row's numbers do not depend on the others,
so a draft or a neighbour changes no answer, bit for bit; and here they do not in prompts and scoring either, nor do they
depend on where a prompt is cut.

All sequences share one bounded stock of pages (`kernels/native/pages.h`). Prompts that begin like an earlier one take
its whole pages of 64 tokens and compute the rest: the same bits, less work. How long that takes tells what was asked
before, so a process must not be shared by people who may not know what the others ask.

Low-rank corrections (LoRA) stand beside the weights, in float32, and can be changed between requests (`adapt`).

Several threads may call: their steps are computed together, a prompt in chunks between which the others get their turn
(`engine.scheduler`). Python's lock is free meanwhile.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from ctypes import POINTER, byref, c_char_p, c_int, c_int64, c_void_p
from pathlib import Path
from typing import Any

import numpy as np

from apprentice.core import machine
from apprentice.core.errors import InputError, InternalError, UserError
from apprentice.engine import balance, calling_off, packing, stored_packing
from apprentice.engine.calling_off import CalledOff, IsWanted
from apprentice.engine.loader import Checkpoint
from apprentice.engine.model import CHUNK_TOKENS, DEFAULTS, STEP_TOKENS, EngineConfig
from apprentice.engine.scheduler import Room, Scheduler
from apprentice.engine.stored_packing import PackingStore
from apprentice.kernels.native import Library, Signatures
from apprentice.model.adapter_files import LowRank
from apprentice.model.config import ModelConfig
from apprentice.text.decoding import MAX_DRAFT, Feed, Output

PAGE_TOKENS = 64
MEMORY_SHARE = 0.5
"""Of the free memory that pages may fill where `cache_mib` does not say how much."""

_FULL, _TOKEN, _MEMORY = -2, -3, -4
SIGNATURES: Signatures = {
    "apprentice_decoder_page_bytes": (c_int64, POINTER(packing.CModel)),
    "apprentice_decoder_new": (c_void_p, POINTER(packing.CModel), c_char_p, c_int, c_int64, c_int64),
    "apprentice_decoder_free": (None, c_void_p),
    "apprentice_decoder_threads": (c_int, c_void_p),
    "apprentice_decoder_adapt": (c_int, c_void_p, c_void_p, c_int64),
    "apprentice_decoder_forward": (c_int, c_void_p, c_int64, *[c_void_p] * 4, c_int, c_void_p),
    "apprentice_decoder_observe": (c_int, c_void_p, c_void_p, c_int64, c_void_p),
    "apprentice_decoder_open": (c_int64, c_void_p),
    "apprentice_decoder_close": (c_int, c_void_p, c_int64),
    "apprentice_decoder_truncate": (c_int, c_void_p, c_int64, c_int64),
    "apprentice_decoder_restore": (c_int64, c_void_p, c_int64, c_void_p, c_int64),
    "apprentice_decoder_keep": (c_int, c_void_p, c_int64, c_void_p, c_int64),
    "apprentice_decoder_available_pages": (c_int64, c_void_p),
    "apprentice_decoder_kept_pages": (c_int64, c_void_p),
}


class NativeCache:
    """Keys and values of one sequence: its number in the decoder's stock of pages, given back with this object."""

    def __init__(self, decoder: _Decoder, scheduler: Scheduler[_Fed], capacity: int) -> None:
        self.length = 0
        self.capacity = capacity
        self.decoder, self.sequence = decoder, decoder.open()
        weakref.finalize(self, _close, decoder, scheduler, self.sequence)

    def truncate(self, length: int) -> None:
        """Forget everything behind the first `length` tokens."""
        assert 0 <= length <= self.length
        if length < self.length:
            self.decoder.truncate(self.sequence, length)
        self.length = length

    def check_room(self, count: int) -> None:
        """Raises: ValueError above the capacity."""
        if self.length + count > self.capacity:
            raise ValueError(f"a cache of {self.capacity} tokens cannot hold {self.length + count}")


_Fed = tuple[Feed, NativeCache | None]


class NativeModel:
    """Weights that compute. Safe to use from several threads."""

    def __init__(
        self, checkpoint: Checkpoint, library: Library, config: EngineConfig = DEFAULTS, *, variant: str = "",
        memory_bytes: int | None = None, store: PackingStore | None = None,
    ) -> None:
        """`variant`: of the operators; empty = the library's choice. `store`: where packed weights are looked for and kept."""
        self.config, self._library = checkpoint.config, library
        variant = variant or library.variant
        amounts: Any = {"cache_bits": config.cache_bits, "memory_bytes": memory_bytes}
        key = "" if store is None else stored_packing.key(checkpoint, library, variant, config.cache_bits)
        known = None if store is None else _known(library, checkpoint, store, key, amounts)
        packed, self._factors = known or (packing.pack(library, checkpoint, **amounts), [])
        self.num_bytes = packed.num_bytes
        self._decoder = _Decoder(library, packed, config, variant, self.config)
        if packed.is_quantized and known is None:
            self._factors = packing.balanced(library, checkpoint, packed, self._decoder.observe(self.config))
            if store is not None:
                store.write(key, checkpoint, packed.arena, packing.contents_of(packed, self._factors))
        self._scheduler: Scheduler[_Fed] = Scheduler(self._decoder.forward, lambda fed: fed[0].num_outputs)
        self._room = Room(self._decoder.max_pages)
        self._max_sequences = config.max_sequences

    @classmethod
    def load(cls, folder: Path, library: Library, config: EngineConfig = DEFAULTS, *, variant: str = "") -> NativeModel:
        """Raises: InputError naming the file that cannot be used."""
        return cls(Checkpoint(folder), library, config, variant=variant)

    def adapt(self, corrections: Mapping[str, LowRank]) -> None:
        """From now on with these corrections beside the weights, in place of any before; none: the weights alone. Nobody may be
        generating."""
        adapter = packing.pack_adapter(self._library, self.config, corrections, self._factors) if corrections else None
        self._decoder.adapt(adapter)

    @property
    def max_positions(self) -> int:
        """Of one sequence, in a cache that has nothing else."""
        return max(min(self.config.max_positions, self._room.size * PAGE_TOKENS - MAX_DRAFT), 1)

    @property
    def available_pages(self) -> int:
        """Pages of 64 tokens that sequences could still get."""
        return self._decoder.available_pages

    @property
    def kept_pages(self) -> int:
        """Pages that beginnings of earlier prompts hold."""
        return self._decoder.kept_pages

    def new_cache(self, capacity: int) -> NativeCache:
        return NativeCache(self._decoder, self._scheduler, capacity)

    @contextlib.contextmanager
    def admitted(self, lengths: Sequence[int], is_wanted: IsWanted | None = None) -> Iterator[int]:
        """Waits until the cache has room for sequences that will have these lengths, or as many of them as are ever in work at a
        time; gives how many that is. A thread that was admitted must not ask again before it is done. Raises: CalledOff."""
        pages = sorted((_pages(length + MAX_DRAFT) for length in lengths), reverse=True)
        count = min(len(pages), self._max_sequences)
        while count > 1 and sum(pages[:count]) > self._room.size:
            count -= 1
        with self._room.promised(min(sum(pages[:count]), self._room.size), is_wanted):
            yield max(count, 1)

    def forward(self, feeds: Sequence[Feed], is_wanted: IsWanted | None = None) -> list[Output]:
        """`is_wanted`: asked before each chunk of a prompt. Raises: CalledOff."""
        caches = [_own(feed.cache) for feed in feeds]
        steps: list[int] = []
        scored: list[int] = []
        for i, (feed, cache) in enumerate(zip(feeds, caches, strict=True)):
            if cache is None:
                scored.append(i)
            elif len(feed.token_ids) <= STEP_TOKENS:
                cache.check_room(len(feed.token_ids))
                steps.append(i)
        outputs: dict[int, Output] = {}
        for together, compute in ((steps, self._step), (scored, self._score)):
            if together:
                rows = compute([(feeds[i], caches[i]) for i in together])
                cuts = np.cumsum([feeds[i].num_outputs for i in together])[:-1]
                outputs |= {i: Output(part) for i, part in zip(together, np.split(rows, cuts), strict=True)}
        for i, (feed, cache) in enumerate(zip(feeds, caches, strict=True)):
            if i not in outputs:
                assert cache is not None
                outputs[i] = Output(self._prompt(feed, cache, is_wanted))
        return [outputs[i] for i in range(len(feeds))]

    def _step(self, feeds: Sequence[_Fed]) -> np.ndarray:
        return self._scheduler.step(feeds, [cache.sequence for _, cache in feeds if cache is not None])

    def _score(self, feeds: Sequence[_Fed]) -> np.ndarray:
        """Those that do not fit together are computed one after the other."""
        pages = sum(_pages(len(feed.token_ids)) for feed, _ in feeds)
        with self._room.promised(min(pages, self._room.size)):
            return self._scheduler.prompt(feeds)

    def _prompt(self, feed: Feed, cache: NativeCache, is_wanted: IsWanted | None) -> np.ndarray:
        """Log-probabilities of the last tokens of a prompt, fed chunk by chunk."""
        token_ids, start = feed.token_ids, cache.length
        cache.check_room(len(token_ids))
        first_output = len(token_ids) - feed.num_outputs
        tokens = self._decoder.checked(token_ids)
        if start == 0:
            cache.length = self._decoder.restore(cache.sequence, tokens[:first_output])
        kept: list[np.ndarray] = []
        try:
            while (at := cache.length - start) < len(token_ids):
                calling_off.check(is_wanted)
                end = min(len(token_ids), at + CHUNK_TOKENS - cache.length % CHUNK_TOKENS)
                chunk = Feed(token_ids[at:end], end - max(at, min(first_output, end)), cache)
                kept.append(self._scheduler.prompt([(chunk, cache)]))
        except (InputError, MemoryError):
            cache.truncate(start)
            raise
        except CalledOff:
            if start == 0:
                self._decoder.keep(cache.sequence, tokens[: cache.length])
            raise
        if start == 0:
            self._decoder.keep(cache.sequence, tokens)
        return np.concatenate(kept)


def _known(
    library: Library, checkpoint: Checkpoint, store: PackingStore, key: str, amounts: Mapping[str, Any]
) -> tuple[packing.PackedModel, list[balance.Factors]] | None:
    """What an earlier start packed, if any."""
    contents = store.read(key, checkpoint)
    if contents is None:
        return None
    try:
        packed = packing.pack(library, checkpoint, **amounts, contents=contents)
        return packed, packing.factors_in(contents, checkpoint.config)
    except (UserError, MemoryError):
        raise
    except Exception:  # noqa: BLE001 - whatever does not fit, weights can be packed anew
        store.forget(key)
        return None


class _Decoder:
    """The native object, and the memory that it reads."""

    def __init__(
        self, library: Library, packed: packing.PackedModel, config: EngineConfig, variant: str, shape: ModelConfig
    ) -> None:
        self._functions, self._packed, self._vocab_size = library.bind(SIGNATURES), packed, shape.vocab_size
        page_bytes = self._functions.apprentice_decoder_page_bytes(byref(packed.model))
        assert page_bytes > 0, "a model of wrong sizes"
        kept = config.prefix_cache_mib * 2**20 // page_bytes
        self.max_pages = _num_pages(config, shape, page_bytes) + kept
        self._adapter: packing.PackedAdapter | None = None
        handle = self._functions.apprentice_decoder_new(
            byref(packed.model), variant.encode(), config.threads or machine.cores(), self.max_pages, kept
        )
        if not handle:
            raise InternalError(f"the native decoder cannot be made, variant {variant}")
        self._handle = c_void_p(handle)
        self._tidying = threading.Lock()
        self._cut: dict[int, int] = {}
        """Sequence -> its length; of those and of `_ended` the decoder hears before it needs pages. Told at once, a caller would wait for
        whatever is being computed, and miss the next step."""
        self._ended: deque[int] = deque()
        finalizer = weakref.finalize(self, self._functions.apprentice_decoder_free, self._handle)
        # At the end of the process a thread may still be computing.
        finalizer.atexit = False  # pyrefly: ignore

    def adapt(self, packed: packing.PackedAdapter | None) -> None:
        """None: the weights alone."""
        adapters, count = (None, 0) if packed is None else (packed.adapters, len(packed.adapters))
        failed = self._functions.apprentice_decoder_adapt(self._handle, adapters, count)
        if failed == _MEMORY:
            raise MemoryError("no memory for an adapter")
        assert not failed
        # Not before nobody reads it any more.
        self._adapter = packed

    def observe(self, shape: ModelConfig) -> np.ndarray:
        """How large inputs are, in any unit: [layers (2 D + F) + D] (`engine.balance`)."""
        count = min(balance.TOKENS, shape.max_positions)
        # Far from each other, whatever the size of the vocabulary.
        tokens = (np.arange(1, count + 1, dtype=np.int64) * 0x9E3779B1 % shape.vocab_size).astype(np.int32)
        sizes = np.empty(shape.num_layers * (2 * shape.hidden_size + shape.intermediate_size) + shape.hidden_size, np.float32)
        status = self._functions.apprentice_decoder_observe(self._handle, tokens.ctypes.data, count, sizes.ctypes.data)
        if status == _MEMORY:
            raise MemoryError("no memory for a pass through the model")
        assert status == 0, status
        return sizes

    def open(self) -> int:
        sequence = self._functions.apprentice_decoder_open(self._handle)
        if sequence < 0:
            raise MemoryError("no memory for another sequence")
        return sequence

    def close(self, sequence: int) -> None:
        self._ended.append(sequence)

    def truncate(self, sequence: int, length: int) -> None:
        self._cut[sequence] = length

    def _tidy(self) -> None:
        with self._tidying:
            # Ended ones last: their numbers are given to others.
            num_ended = len(self._ended)
            while self._cut:
                sequence, length = self._cut.popitem()
                failed = self._functions.apprentice_decoder_truncate(self._handle, sequence, length)
                assert not failed
            for _ in range(num_ended):
                self._functions.apprentice_decoder_close(self._handle, self._ended.popleft())

    def restore(self, sequence: int, tokens: np.ndarray) -> int:
        """How many of these tokens (`checked`) the empty sequence holds now."""
        return self._functions.apprentice_decoder_restore(self._handle, sequence, tokens.ctypes.data, len(tokens))

    def keep(self, sequence: int, tokens: np.ndarray) -> None:
        self._functions.apprentice_decoder_keep(self._handle, sequence, tokens.ctypes.data, len(tokens))

    def checked(self, token_ids: Sequence[int]) -> np.ndarray:
        """As int32. Raises: InputError for one that the model does not have."""
        tokens = np.array(token_ids, np.int64)
        if tokens.size and (tokens.min() < 0 or tokens.max() >= self._vocab_size):
            raise InputError(
                f"a token id is not in 0 to {self._vocab_size - 1}", hint="is it the model's own tokenizer?"
            )
        return tokens.astype(np.int32)

    @property
    def available_pages(self) -> int:
        self._tidy()
        return self._functions.apprentice_decoder_available_pages(self._handle)

    @property
    def kept_pages(self) -> int:
        return self._functions.apprentice_decoder_kept_pages(self._handle)

    def forward(self, feeds: Sequence[_Fed], is_prompt: bool) -> np.ndarray:
        """float32 [all outputs, V]; the caches are longer by the tokens afterwards. Raises: InputError for tokens that the
        model does not have and where pages run out; nothing has changed then."""
        counts = np.array([len(feed.token_ids) for feed, _ in feeds], np.int64)
        wanted = np.array([feed.num_outputs for feed, _ in feeds], np.int64)
        sequences = np.array([-1 if cache is None else cache.sequence for _, cache in feeds], np.int64)
        tokens = self.checked([token_id for feed, _ in feeds for token_id in feed.token_ids])
        log_probs_NV = np.empty((int(wanted.sum()), self._vocab_size), np.float32)
        self._tidy()
        status = self._functions.apprentice_decoder_forward(
            self._handle, len(feeds), sequences.ctypes.data, counts.ctypes.data, wanted.ctypes.data, tokens.ctypes.data,
            is_prompt, log_probs_NV.ctypes.data,
        )  # fmt: skip
        if status == 0:
            for count, (_, cache) in zip(counts.tolist(), feeds, strict=True):
                if cache is not None:
                    cache.length += count
            return log_probs_NV
        if status == _FULL and is_prompt and len(feeds) > 1:
            return np.concatenate([self.forward([feed], True) for feed in feeds])
        if status == _FULL:
            raise InputError(
                f"the cache of {self.max_pages * PAGE_TOKENS} tokens is full",
                hint="work on fewer sequences at a time, or give more memory to the cache (`cache_mib`)",
            )
        if status == _MEMORY:
            raise MemoryError("no memory for a pass through the model")
        fed = f"{counts.tolist()} tokens of {sequences.tolist()}"
        raise InternalError(f"the native decoder refuses its input ({status}): {fed}")


def _num_pages(config: EngineConfig, shape: ModelConfig, page_bytes: int) -> int:
    """Pages for sequences. They are made when first needed, so a bound that is never reached costs nothing."""
    longest = _pages(shape.max_positions + MAX_DRAFT)
    if config.cache_mib:
        return max(config.cache_mib * 2**20 // page_bytes, 1)
    free = int(machine.look().memory_available_gib * 2**30 * MEMORY_SHARE) // page_bytes
    return max(min((config.max_sequences + 1) * longest, free), 1)


def _pages(num_tokens: int) -> int:
    return -(-num_tokens // PAGE_TOKENS)


def _close(decoder: _Decoder, scheduler: Scheduler[_Fed], sequence: int) -> None:
    decoder.close(sequence)
    scheduler.ended(sequence)


def _own(cache: object) -> NativeCache | None:
    assert cache is None or isinstance(cache, NativeCache)
    return cache
