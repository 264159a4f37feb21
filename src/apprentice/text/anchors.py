"""Finding many literal texts in one pass, whatever their case: words --Anchors.find()--> where each one stands."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

import ahocorasick  # pyrefly: ignore[missing-import]  (compiled, without stubs)

Value = TypeVar("Value")


class Anchors(Generic[Value]):
    """An Aho-Corasick automaton over bytes. Only ASCII letters are folded."""

    def __init__(self, words: dict[bytes, Value]) -> None:
        self._automaton = ahocorasick.Automaton()
        for word, value in words.items():
            # Latin-1 gives one character a byte, so places are places in the bytes.
            self._automaton.add_word(word.lower().decode("latin-1"), (len(word), value))
        self._empty = not words
        if words:
            self._automaton.make_automaton()

    def find(self, data: bytes) -> Iterator[tuple[int, int, Value]]:
        """(start, end, value) of every word in `data`, overlaps included."""
        if self._empty:
            return
        for last, (length, value) in self._automaton.iter(data.lower().decode("latin-1")):
            yield last + 1 - length, last + 1, value
