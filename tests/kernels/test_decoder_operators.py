"""The decoder's operators beside its matrices, each variant against float64."""

from __future__ import annotations

from ctypes import c_char_p, c_float, c_int, c_int64, c_void_p
from typing import Any

import numpy as np
import pytest

from apprentice.kernels.native import Library, Signatures

SIGNATURES: Signatures = {
    "apprentice_operator_norm": (c_int, c_char_p, c_void_p, c_void_p, c_float, c_int64, c_void_p),
    "apprentice_operator_rotate": (c_int, c_char_p, c_void_p, c_void_p, c_void_p, c_int64),
    "apprentice_operator_gate": (c_int, c_char_p, c_void_p, c_void_p, c_int64, c_void_p),
    "apprentice_operator_add": (c_int, c_char_p, c_void_p, c_void_p, c_int64),
    "apprentice_operator_log_softmax": (c_int, c_char_p, c_void_p, c_int64, c_void_p, c_void_p),
    "apprentice_operator_remember": (
        c_int, c_char_p, c_int, c_void_p, c_void_p, c_int64, c_int64, c_void_p, c_void_p,
    ),
    "apprentice_operator_attend": (
        c_int, c_char_p, c_int, c_void_p, *[c_int64] * 6, c_void_p, c_int64, c_void_p, c_void_p, c_void_p,
    ),
}  # fmt: skip
SIZES = (1, 2, 15, 16, 17, 31, 64, 100, 576, 1541)
PAGE = 64
UNIT = 2.0**-24
"""A float32 operation is off by at most this much of its result."""


class Operators:
    """One variant, called with arrays; results are checked for writes behind their end."""

    def __init__(self, library: Library, variant: str) -> None:
        self._functions, self._variant = library.bind(SIGNATURES), variant.encode()

    def __call__(self, name: str, *arguments: Any) -> None:
        raw = [a.ctypes.data_as(c_void_p) if isinstance(a, np.ndarray) else a for a in arguments]
        assert getattr(self._functions, f"apprentice_operator_{name}")(self._variant, *raw) == 0


@pytest.fixture
def call(library: Library, variant: str) -> Operators:
    return Operators(library, variant)


def guarded(count: int) -> np.ndarray:
    """Room for `count` floats and a few more that nobody may touch."""
    return np.full(count + 20, 7.25, np.float32)


def result(room: np.ndarray, count: int) -> np.ndarray:
    np.testing.assert_array_equal(room[count:], 7.25)
    return room[:count].astype(np.float64)


def numbers(count: int, seed: int, scale: float = 1.0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(count) * scale).astype(np.float32)


@pytest.mark.parametrize("size", SIZES)
def test_norm_divides_by_the_root_of_the_mean_square(size: int, call: Operators) -> None:
    for scale in (1e-3, 1.0, 300.0):
        x, weight, y = numbers(size, 1, scale), numbers(size, 2), guarded(size)
        call("norm", x, weight, 1e-5, size, y)
        exact = x / np.sqrt(np.mean(x.astype(np.float64) ** 2) + np.float32(1e-5)) * weight.astype(np.float64)
        # The sum of squares is rounded size / 32 + 6 times, half of which reaches the root; then four roundings.
        np.testing.assert_allclose(result(y, size), exact, rtol=(size / 64 + 7) * UNIT)


@pytest.mark.parametrize("size", [2, 6, 16, 32, 34, 64, 80, 128, 256])
def test_rotation_turns_each_plane_by_its_angle(size: int, call: Operators) -> None:
    x, angles, half = numbers(size, 3), numbers(size // 2, 4, 10.0), size // 2
    cos, sin, room = np.cos(angles), np.sin(angles), guarded(size)
    room[:size] = x
    call("rotate", room, cos, sin, size)
    turned = (x[:half] + 1j * x[half:].astype(np.float64)) * (cos + 1j * sin.astype(np.float64))
    np.testing.assert_allclose(result(room, size), [*turned.real, *turned.imag], atol=4 * UNIT * np.abs(x).max() * 1.5)


@pytest.mark.parametrize("size", SIZES)
def test_the_gate_is_silu_over_the_whole_range_of_floats(size: int, call: Operators) -> None:
    gate, up, y = numbers(size, 5, 30.0), numbers(size, 6), guarded(size)
    gate[: min(size, 8)] = [0, -0.0, 88.5, -88.5, 1e4, -1e4, 1e-30, -3e38][: min(size, 8)]
    call("gate", gate, up, size, y)
    with np.errstate(over="ignore", under="ignore"):
        exact = gate.astype(np.float64) / (1 + np.exp(-gate.astype(np.float64))) * up
    # e^-x within 4 units of itself and the power of two; below 1e-36 it is the absolute size that counts.
    np.testing.assert_allclose(result(y, size), exact, rtol=8 * UNIT, atol=1e-36)


def test_the_exponential_is_within_a_millionth(call: Operators) -> None:
    """Seen through 1 / (1 + e^-x) at large x and through the sum of a softmax."""
    for start in (-100.0, -87.0, -20.0, -1.0, -1e-3):
        x = np.linspace(start, 0, 4099, dtype=np.float32)
        for index in (0, 1, 1000, 4000, 4097):
            pair, log_sum, y = np.array([0, x[index]], np.float32), np.zeros(1), guarded(2)
            call("log_softmax", pair, 2, log_sum, y)
            assert np.expm1(log_sum[0]) == pytest.approx(np.exp(np.float64(x[index])), rel=1e-6, abs=1e-7)
    gate = -np.linspace(1, 87, 5000, dtype=np.float32)
    y = guarded(5000)
    call("gate", gate, np.ones(5000, np.float32), 5000, y)
    exact = gate / (1 + np.exp(-gate.astype(np.float64)))
    np.testing.assert_allclose(result(y, 5000), exact, rtol=1e-6)


def test_numbers_that_are_none_are_not_hidden(call: Operators) -> None:
    for bad in (np.nan, np.inf, -np.inf):
        x = numbers(40, 7)
        x[21] = bad
        y, log_sum = guarded(40), np.zeros(1)
        with np.errstate(invalid="ignore"):
            call("norm", x, np.ones(40, np.float32), 1e-5, 40, y)
            assert np.isnan(result(y, 40)[21])
        call("log_softmax", x, 40, log_sum, y)
        assert np.isfinite(log_sum[0]) == (bad == -np.inf)
        call("gate", x, np.ones(40, np.float32), 40, y)
        assert np.isnan(y[21]) if np.isnan(bad) else not 1e-30 < abs(y[21]) < 1e30


@pytest.mark.parametrize("size", SIZES)
def test_addition_is_exact_to_a_rounding(size: int, call: Operators) -> None:
    x, y = numbers(size, 8), numbers(size, 9)
    room = guarded(size)
    room[:size] = x
    call("add", room, y, size)
    np.testing.assert_array_equal(result(room, size), x + y)


@pytest.mark.parametrize("size", [*SIZES, 1024, 1025, 49152])
def test_log_probabilities_add_up(size: int, call: Operators) -> None:
    for scale in (0.0, 1.0, 20.0, 1e4):
        x, y, log_sum = numbers(size, 10, scale), guarded(size), np.zeros(1)
        call("log_softmax", x, size, log_sum, y)
        most = float(x.max())
        exact = most + np.log(np.exp(x.astype(np.float64) - most).sum())
        # Sums of 64 terms a lane, each term within 2^-22; then a double.
        assert log_sum[0] == pytest.approx(exact, abs=2e-6, rel=1e-7)
        np.testing.assert_allclose(result(y, size), x - exact, atol=2e-6, rtol=2 * UNIT)


class Head:
    """Keys and values of one key head in pages, and as floats."""

    def __init__(self, call: Operators, head_size: int, count: int, seed: int, in_bytes: bool = False) -> None:
        self.size, self.count, self.in_bytes, self._call = head_size, count, in_bytes, call
        rng = np.random.default_rng(seed)
        self.keys = rng.standard_normal((count, head_size)).astype(np.float32)
        self.values = (rng.standard_normal((count, head_size)) * 3).astype(np.float32)
        wide = -(-head_size // 16) * 16
        # What nobody has written yet is no number.
        block = wide * PAGE // 2 + 2 * PAGE if in_bytes else wide * PAGE
        # On whole cache lines, as the decoder's pages are.
        room = np.full(-(-count // PAGE) * 2 * block + 32, 0x7E00, np.uint16)
        start = -room.ctypes.data % 64 // 2
        self.pages = room[start : start + -(-count // PAGE) * 2 * block].reshape(-1, 2, block)
        if in_bytes:
            self.pages[..., -2 * PAGE :].view(np.float32)[...] = np.nan
        for at in range(count):
            self.remember(at, self.keys[at], self.values[at])

    def remember(self, at: int, key: np.ndarray, value: np.ndarray) -> None:
        page = self.pages[at // PAGE]
        self._call("remember", self.in_bytes, key, value, self.size, at % PAGE, page[0], page[1])

    def stored(self) -> tuple[np.ndarray, np.ndarray]:
        """Keys and values as they were rounded, float64."""
        if not self.in_bytes:
            return self.keys.astype(np.float16).astype(np.float64), self.values.astype(np.float16).astype(np.float64)
        scales = [np.abs(x).max(axis=1, keepdims=True) / np.float32(127) for x in (self.keys, self.values)]
        keys, values = (
            np.rint(x * (np.float32(1) / s)) * s.astype(np.float64) for x, s in zip((self.keys, self.values), scales, strict=True)
        )  # fmt: skip
        return keys, values


def attended(
    call: Operators, head: Head, q: np.ndarray, position: int, first: int = 0, end: int = 1 << 30
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(weighted values, largest scores, sums) for q [rows, group, E]."""
    rows, group, size = q.shape
    y, most, total = (guarded(count) for count in (q.size, rows * group, rows * group))
    call("attend", head.in_bytes, q, rows, group, size, position, first, end, head.pages, len(head.pages), y, most, total)
    of_heads = [result(room, rows * group).reshape(rows, group) for room in (most, total)]
    return result(y, q.size).reshape(q.shape), of_heads[0], of_heads[1]


def expected(head: Head, q: np.ndarray, position: int) -> np.ndarray:
    """In float64, with keys and values as they are stored."""
    keys, values = head.stored()
    y = np.empty(q.shape)
    for row in range(len(q)):
        scores = q[row].astype(np.float64) @ keys[: position + row + 1].T
        weights = np.exp(scores - scores.max(axis=1, keepdims=True))
        y[row] = weights @ values[: position + row + 1] / weights.sum(axis=1, keepdims=True)
    return y


@pytest.mark.parametrize("in_bytes", [False, True])
@pytest.mark.parametrize(("head_size", "group"), [(64, 3), (16, 2), (128, 7), (24, 1), (80, 4), (6, 9), (256, 8)])
def test_attention_is_that_of_the_formula(head_size: int, group: int, in_bytes: bool, call: Operators) -> None:
    for seen in (1, 2, 15, 16, 17, 63, 64, 65, 200, 517):
        head = Head(call, head_size, seen, seed=seen, in_bytes=in_bytes)
        q = numbers(group * head_size, 11, head_size**-0.5).reshape(1, group, head_size)
        y, _, total = attended(call, head, q, seen - 1)
        # A score of size 4 is off by at most E roundings of its terms; the weights by as much, and the sum over tokens. Where a
        # value lies between two codes, float32 may round it to the other one.
        atol = 3e-5 if not in_bytes else 0.02 if seen < 3 else 2e-3
        np.testing.assert_allclose(y / total[..., None], expected(head, q, seen - 1), atol=atol)


def test_halves_are_rounded_to_the_nearest_even(call: Operators) -> None:
    bits = np.arange(0, 0x7C00, 7, dtype=np.uint16)
    exact = bits.view(np.float16).astype(np.float32)
    above = exact * np.float32(1.0004)
    between = (exact.astype(np.float64) + (bits + np.uint16(1)).view(np.float16).astype(np.float64)) / 2
    special = np.array([0.0, -0.0, 65504, 65519.9, 65520, 1e30, -1e30, np.inf, -np.inf, 6e-8, 2.9e-8, 3e-8, 1e-45])
    for x in (exact, -exact, above, between.astype(np.float32), special.astype(np.float32)):
        keys, values = (np.zeros(1008 * PAGE, np.uint16) for _ in range(2))
        for start in range(0, len(x), 1000):
            part = x[start : start + 1000]
            call("remember", False, part, part, len(part), 21, keys, values)
            with np.errstate(over="ignore"):
                halves = part.astype(np.float16).view(np.uint16)
            np.testing.assert_array_equal(keys[16 * len(part) + 5 :: 16][: len(part)], halves)
            padded = values.reshape(-1, PAGE, 16)[:, 21].reshape(-1)[: len(part)]
            np.testing.assert_array_equal(padded, halves)


@pytest.mark.parametrize("in_bytes", [False, True])
@pytest.mark.parametrize(("head_size", "group"), [(64, 3), (32, 5), (24, 1), (128, 2)])
def test_a_row_attends_the_same_alone_and_with_others_bit_for_bit(
    head_size: int, group: int, in_bytes: bool, call: Operators
) -> None:
    for past, rows in ((0, 17), (60, 9), (130, 5), (511, 4)):
        head = Head(call, head_size, past + rows, seed=past, in_bytes=in_bytes)
        q = numbers(rows * group * head_size, 12, 0.3).reshape(rows, group, head_size)
        together = attended(call, head, q, past)
        for row in range(rows):
            alone = attended(call, head, np.ascontiguousarray(q[row : row + 1]), past + row)
            for whole, part in zip(together, alone, strict=True):
                np.testing.assert_array_equal(whole[row], part[0])
        atol = 0.02 if in_bytes else 3e-5
        np.testing.assert_allclose(together[0] / together[2][..., None], expected(head, q, past), atol=atol)


@pytest.mark.parametrize("in_bytes", [False, True])
def test_later_tokens_have_no_influence_even_if_they_are_infinite(in_bytes: bool, call: Operators) -> None:
    head = Head(call, 64, 80, seed=3, in_bytes=in_bytes)
    q = numbers(4 * 2 * 64, 13, 0.3).reshape(4, 2, 64)
    before = attended(call, head, q, 70)
    for at in range(74, 80):
        wild = np.full(64, np.inf, np.float32)
        head.remember(at, wild, wild)
    for one, other in zip(before, attended(call, head, q, 70), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("in_bytes", [False, True])
def test_parts_of_the_past_add_up_to_the_whole(in_bytes: bool, call: Operators) -> None:
    head = Head(call, 64, 300, seed=4, in_bytes=in_bytes)
    q = numbers(3 * 3 * 64, 14, 0.5).reshape(3, 3, 64)
    whole, _, whole_sum = attended(call, head, q, 297)
    parts = [attended(call, head, q, 297, first, first + 128) for first in (0, 128, 256)]
    most = np.max([part[1] for part in parts], axis=0)
    factors = [np.exp(part[1] - most) for part in parts]
    y = np.sum([part[0] * factor[..., None] for part, factor in zip(parts, factors, strict=True)], axis=0)
    total = np.sum([part[2] * factor for part, factor in zip(parts, factors, strict=True)], axis=0)
    np.testing.assert_allclose(y / total[..., None], whole / whole_sum[..., None], atol=1e-5)
    unseen = attended(call, head, q, 126, 128, 256)
    assert np.isinf(unseen[1][:2]).all()
    np.testing.assert_array_equal(unseen[2][:2], 0)
    np.testing.assert_array_equal(unseen[0][:2], 0)
    np.testing.assert_array_equal(unseen[2][2], 1)


def test_one_very_large_score_takes_all(call: Operators) -> None:
    head = Head(call, 64, 200, seed=5)
    head.keys[150] = 60
    head.remember(150, head.keys[150], head.values[150])
    q = np.full((1, 1, 64), 1.0, np.float32)
    y, most, total = attended(call, head, q, 199)
    np.testing.assert_array_equal(y[0, 0], head.values[150].astype(np.float16))
    assert (most[0, 0], total[0, 0]) == (60 * 64, 1)


def test_bytes_keep_a_127th_of_the_largest_and_say_where_a_value_is_no_number(call: Operators) -> None:
    for key in (numbers(64, 20), np.zeros(64, np.float32), np.full(64, 1e-44, np.float32), numbers(64, 21, 1e30)):
        head = Head(call, 64, 3, seed=6, in_bytes=True)
        head.remember(1, key, key)
        codes = head.pages[0, 1].view(np.int8)[: 64 * PAGE].reshape(4, PAGE, 16)[:, 1].reshape(-1)
        scale = head.pages[0, 1, -2 * PAGE :].view(np.float32)[1]
        assert np.abs(codes * scale - key).max() <= max(np.abs(key).max() / 254 * 1.001, 1e-38)
        np.testing.assert_array_equal(head.pages[0, 0].view(np.int8)[1 : 64 * 16 : 16], codes)
    for bad in (np.nan, np.inf, -np.inf):
        key = numbers(64, 22)
        key[30] = bad
        head.remember(1, key, key)
        y, _, _ = attended(call, head, numbers(64, 23).reshape(1, 1, 64), 2)
        assert np.isnan(y).all()
