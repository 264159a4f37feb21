"""The stock of cache pages: sequences never see each other's tokens, and no page is lost."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from ctypes import c_int, c_int64, c_void_p

import numpy as np
import pytest

from apprentice.kernels.native import Library, Signatures

SIGNATURES: Signatures = {
    "apprentice_pages_new": (c_void_p, c_int64, c_int64),
    "apprentice_pages_free": (None, c_void_p),
    "apprentice_pages_open": (c_int64, c_void_p),
    "apprentice_pages_close": (None, c_void_p, c_int64),
    "apprentice_pages_length": (c_int64, c_void_p, c_int64),
    "apprentice_pages_truncate": (None, c_void_p, c_int64, c_int64),
    "apprentice_pages_append": (c_int, c_void_p, c_int64, c_void_p, c_void_p, c_void_p),
    "apprentice_pages_read": (None, c_void_p, c_int64, c_void_p),
    "apprentice_pages_restore": (c_int64, c_void_p, c_int64, c_void_p, c_int64),
    "apprentice_pages_keep": (None, c_void_p, c_int64, c_void_p, c_int64),
    "apprentice_pages_available": (c_int64, c_void_p),
    "apprentice_pages_kept": (c_int64, c_void_p),
}
PAGE = 64


class Pages:
    """A stock in which each token's place holds the token."""

    def __init__(self, library: Library, limit: int, keep_limit: int) -> None:
        self._functions = library.bind(SIGNATURES)
        self._handle = c_void_p(self._functions.apprentice_pages_new(limit, keep_limit))
        weakref.finalize(self, self._functions.apprentice_pages_free, self._handle)

    def open(self, tokens: Sequence[int] = ()) -> int:
        sequence = self._functions.apprentice_pages_open(self._handle)
        assert not tokens or self.append({sequence: tokens})
        return sequence

    def close(self, sequence: int) -> None:
        self._functions.apprentice_pages_close(self._handle, sequence)

    def truncate(self, sequence: int, length: int) -> None:
        self._functions.apprentice_pages_truncate(self._handle, sequence, length)

    def append(self, tokens: dict[int, Sequence[int]]) -> bool:
        sequences, more = np.array(list(tokens), np.int64), np.array([len(part) for part in tokens.values()], np.int64)
        flat = np.array([token for part in tokens.values() for token in part], np.int32)
        return bool(
            self._functions.apprentice_pages_append(
                self._handle, len(tokens), sequences.ctypes.data, more.ctypes.data, flat.ctypes.data
            )
        )

    def tokens(self, sequence: int) -> list[int]:
        found = np.zeros(self._functions.apprentice_pages_length(self._handle, sequence), np.int32)
        self._functions.apprentice_pages_read(self._handle, sequence, found.ctypes.data)
        return found.tolist()

    def restore(self, sequence: int, tokens: Sequence[int]) -> int:
        flat = np.array(tokens, np.int32)
        return self._functions.apprentice_pages_restore(self._handle, sequence, flat.ctypes.data, len(flat))

    def keep(self, sequence: int, tokens: Sequence[int]) -> None:
        flat = np.array(tokens, np.int32)
        self._functions.apprentice_pages_keep(self._handle, sequence, flat.ctypes.data, len(flat))

    @property
    def available(self) -> int:
        return self._functions.apprentice_pages_available(self._handle)

    @property
    def kept(self) -> int:
        return self._functions.apprentice_pages_kept(self._handle)


def text(count: int, seed: int = 0) -> list[int]:
    return np.random.default_rng(seed).integers(0, 60000, count).tolist()


def test_tokens_stay_where_they_were_put(library: Library) -> None:
    pages = Pages(library, 10, 0)
    first, second = pages.open(text(100, 1)), pages.open(text(64, 2))
    assert pages.append({first: text(70, 3), second: text(1, 4)})
    assert pages.tokens(first) == text(100, 1) + text(70, 3)
    assert pages.tokens(second) == text(64, 2) + text(1, 4)
    assert pages.available == 10 - 3 - 2
    pages.close(first)
    pages.close(second)
    assert pages.available == 10


def test_a_full_stock_says_so_and_nothing_changes(library: Library) -> None:
    pages = Pages(library, 4, 0)
    first, second = pages.open(text(128, 1)), pages.open(text(60, 2))
    assert not pages.append({first: text(1, 3), second: text(5, 4)})
    assert not pages.append({second: text(200, 4)})
    assert (pages.tokens(first), pages.tokens(second), pages.available) == (text(128, 1), text(60, 2), 1)
    assert pages.append({first: text(1, 3), second: text(4, 4)})
    assert pages.available == 0
    pages.close(second)
    assert pages.append({first: text(64, 5)})


def test_truncated_tokens_give_their_pages_back(library: Library) -> None:
    pages = Pages(library, 4, 0)
    sequence = pages.open(text(250))
    pages.truncate(sequence, 65)
    assert (pages.tokens(sequence), pages.available) == (text(250)[:65], 2)
    pages.truncate(sequence, 0)
    assert (pages.tokens(sequence), pages.available) == ([], 4)


def test_a_prompt_that_begins_like_another_takes_its_whole_pages(library: Library) -> None:
    pages = Pages(library, 10, 10)
    prompt = text(200)
    first = pages.open(prompt)
    pages.keep(first, prompt)
    second = pages.open()
    assert pages.restore(second, prompt[:150] + [1, 2, 3]) == 128
    assert pages.tokens(second) == prompt[:128]
    assert (pages.available, pages.kept) == (10 - 4, 3)
    third = pages.open()
    assert pages.restore(third, [1, *prompt[1:]]) == 0
    assert pages.restore(third, prompt[64:]) == 0
    assert pages.restore(third, prompt[:63]) == 0


def test_kept_pages_outlive_their_sequence_and_make_room_when_needed(library: Library) -> None:
    pages = Pages(library, 4, 4)
    prompt = text(256)
    sequence = pages.open(prompt)
    pages.keep(sequence, prompt)
    pages.close(sequence)
    assert (pages.available, pages.kept) == (4, 4)
    other = pages.open(text(128, 1))
    assert pages.kept == 2
    # The beginning is worth more than the end.
    assert pages.restore(pages.open(), prompt) == 128
    assert pages.tokens(other) == text(128, 1)
    assert pages.available == 0


def test_the_least_recently_used_prefix_goes_first(library: Library) -> None:
    pages = Pages(library, 20, 3)
    prompts = [text(64, seed) for seed in range(4)]
    for prompt in prompts[:3]:
        pages.keep(pages.open(prompt), prompt)
    assert pages.restore(pages.open(), prompts[0]) == 64
    pages.keep(pages.open(prompts[3]), prompts[3])
    assert [pages.restore(pages.open(), prompt) for prompt in prompts] == [64, 0, 64, 64]


def test_a_prompt_longer_than_what_is_kept_keeps_its_beginning(library: Library) -> None:
    pages = Pages(library, 20, 3)
    prompt = text(6 * 64)
    pages.keep(pages.open(prompt), prompt)
    assert pages.restore(pages.open(), prompt) == 3 * 64


@pytest.mark.parametrize("cut", [64, 65, 100, 127])
def test_going_on_inside_a_shared_page_leaves_it_alone(library: Library, cut: int) -> None:
    pages = Pages(library, 10, 10)
    prompt = text(128)
    first = pages.open(prompt)
    pages.keep(first, prompt)
    second = pages.open()
    pages.restore(second, prompt)
    for sequence in (first, second):
        pages.truncate(sequence, cut)
    assert pages.append({first: text(3, 5)})
    assert pages.append({second: text(9, 6)})
    assert pages.tokens(first) == prompt[:cut] + text(3, 5)
    assert pages.tokens(second) == prompt[:cut] + text(9, 6)
    third = pages.open()
    assert pages.restore(third, prompt) == 128
    assert pages.tokens(third) == prompt


def test_copying_a_shared_page_needs_room_too(library: Library) -> None:
    pages = Pages(library, 2, 2)
    prompt = text(128)
    first = pages.open(prompt)
    pages.keep(first, prompt)
    second = pages.open()
    pages.restore(second, prompt)
    pages.truncate(second, 100)
    assert not pages.append({second: [1]})
    pages.close(first)
    # Even now: what is kept is shared with `second`, so that it cannot make room.
    assert not pages.append({second: [1]})
    pages.truncate(second, 64)
    assert pages.append({second: [1]})
    assert pages.tokens(second) == [*prompt[:64], 1]


@pytest.mark.parametrize("keep_limit", [0, 5, 40])
def test_whatever_happens_tokens_are_right_and_no_page_is_lost(library: Library, keep_limit: int) -> None:
    """Hundreds of random operations beside lists of tokens."""
    rng = np.random.default_rng(keep_limit)
    pages = Pages(library, 40, keep_limit)
    prompts = [text(64 * int(rng.integers(1, 5)), seed % 3) + text(40, seed) for seed in range(12)]
    expected: dict[int, list[int]] = {}
    refused = restored = 0
    for _ in range(700):
        action = rng.integers(10)
        if action < 3 or not expected:
            sequence, prompt = pages.open(), prompts[rng.integers(len(prompts))]
            at = pages.restore(sequence, prompt)
            restored += at > 0
            assert pages.tokens(sequence) == prompt[:at]
            expected[sequence] = prompt[:at]
            if pages.append({sequence: prompt[at:]}):
                expected[sequence] = prompt
                pages.keep(sequence, prompt)
            else:
                refused += 1
        else:
            chosen = rng.permutation(list(expected))[: rng.integers(1, 4)].tolist()
            if action < 7:
                more: dict[int, Sequence[int]] = {
                    sequence: text(int(rng.integers(1, 90)), int(rng.integers(1000))) for sequence in chosen
                }
                if pages.append(more):
                    expected |= {sequence: [*expected[sequence], *part] for sequence, part in more.items()}
                else:
                    refused += 1
            elif action == 7:
                length = int(rng.integers(len(expected[chosen[0]]) + 1))
                pages.truncate(chosen[0], length)
                expected[chosen[0]] = expected[chosen[0]][:length]
            else:
                pages.close(chosen[0])
                del expected[chosen[0]]
        for sequence, tokens in expected.items():
            assert pages.tokens(sequence) == tokens
        assert 0 <= pages.available <= 40
        assert pages.kept <= keep_limit
    for sequence in expected:
        pages.close(sequence)
    assert pages.available == 40
    assert refused > 10
    assert (restored > 10) == (keep_limit > 0)
