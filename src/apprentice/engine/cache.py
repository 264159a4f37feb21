"""What the engine remembers: keys and values of a sequence, and beginnings of prompts worth not computing twice.

`PrefixStore` serves editors: from one key stroke to the next a prompt keeps all but its end. Whole chunks of a prompt
are kept under a hash of all tokens up to their end, and copied into the next sequence that begins with the same tokens.
A chunk's numbers depend on those tokens and on nothing else (prompts are always cut at the same places), so a kept
chunk is bit for bit what would have been computed: answers do not depend on what was asked before. How long an answer
takes does, so a process must not be shared by people who may not know what the others ask.

Letters: L layers, K key heads, S tokens, E head size.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

from apprentice.model.config import ModelConfig

FIRST_CAPACITY = 256
"""Tokens a cache has room for at first; it doubles when full, up to its capacity."""


class Cache:
    """Keys and values of one sequence in all layers, float32."""

    def __init__(self, config: ModelConfig, capacity: int) -> None:
        self._shape = (config.num_layers, 2, config.num_kv_heads, config.head_size)
        self._capacity = capacity
        self.length = 0
        self._store_L2KSE = self._allocate(min(FIRST_CAPACITY, capacity))

    def truncate(self, length: int) -> None:
        """Forget everything behind the first `length` tokens."""
        assert 0 <= length <= self.length
        self.length = length

    def reserve(self, count: int) -> None:
        """Makes room for `count` more tokens. Raises: ValueError above the capacity."""
        needed, room = self.length + count, self._store_L2KSE.shape[3]
        if needed > self._capacity:
            raise ValueError(f"a cache of {self._capacity} tokens cannot hold {needed}")
        if needed > room:
            grown_L2KSE = self._allocate(min(max(needed, 2 * room), self._capacity))
            grown_L2KSE[:, :, :, : self.length] = self._store_L2KSE[:, :, :, : self.length]
            self._store_L2KSE = grown_L2KSE

    def layer(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Keys and values [K, S, E] of a layer, views to read and write."""
        store_2KSE = self._store_L2KSE[index]
        return store_2KSE[0], store_2KSE[1]

    def copy_out(self, start: int, end: int) -> np.ndarray:
        return self._store_L2KSE[:, :, :, start:end].copy()

    def copy_in(self, chunk_L2KSE: np.ndarray) -> None:
        """Appends tokens whose keys and values are known."""
        count = chunk_L2KSE.shape[3]
        self.reserve(count)
        self._store_L2KSE[:, :, :, self.length : self.length + count] = chunk_L2KSE
        self.length += count

    def _allocate(self, room: int) -> np.ndarray:
        layers, two, heads, size = self._shape
        return np.empty((layers, two, heads, room, size), np.float32)


class PrefixStore:
    """Chunks of prompts, least recently used ones dropped first, of one prompt those at its end: without its beginning the rest is of no use."""

    def __init__(self, max_bytes: int, chunk_tokens: int) -> None:
        self._max_bytes, self._chunk_tokens = max_bytes, chunk_tokens
        self._chunks: OrderedDict[bytes, np.ndarray] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def clear(self) -> None:
        """Forget them all."""
        with self._lock:
            self._chunks.clear()
            self._bytes = 0

    def restore(self, token_ids: Sequence[int], cache: Cache) -> int:
        """Fills an empty cache with the chunks known of this prompt; how many tokens that were."""
        keys = self._keys(token_ids)
        for key in keys:
            with self._lock:
                chunk = self._chunks.get(key)
            if chunk is None:
                break
            cache.copy_in(chunk)
        self._touch(keys)
        return cache.length

    def keep(self, token_ids: Sequence[int], cache: Cache) -> None:
        """Remembers the whole chunks of a prompt that has just been computed into `cache`."""
        keys, needed = self._keys(token_ids), 0
        for number, key in enumerate(keys):
            with self._lock:
                chunk = self._chunks.get(key)
            is_new = chunk is None
            if chunk is None:
                chunk = cache.copy_out(number * self._chunk_tokens, (number + 1) * self._chunk_tokens)
            needed += chunk.nbytes
            if needed > self._max_bytes:
                break
            with self._lock:
                if is_new and key not in self._chunks:
                    self._chunks[key] = chunk
                    self._bytes += chunk.nbytes
        self._touch(keys)
        with self._lock:
            while self._bytes > self._max_bytes:
                self._bytes -= self._chunks.popitem(last=False)[1].nbytes

    def _touch(self, keys: Sequence[bytes]) -> None:
        """Those of a prompt were just used, its beginning last of all."""
        with self._lock:
            for key in reversed(keys):
                if key in self._chunks:
                    self._chunks.move_to_end(key)

    def _keys(self, token_ids: Sequence[int]) -> list[bytes]:
        """The chain of hashes at the end of each whole chunk."""
        ids, key = np.asarray(token_ids, np.int64), b""
        keys: list[bytes] = []
        for start in range(0, len(ids) - self._chunk_tokens + 1, self._chunk_tokens):
            key = hashlib.sha256(key + ids[start : start + self._chunk_tokens].tobytes()).digest()
            keys.append(key)
        return keys
