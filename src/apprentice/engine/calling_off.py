"""A request that nobody wants any more, called off while it waits or while its prompt is read.

    asked for --line for room--> admitted --prompt, chunk by chunk--> first token --steps--> sample
                 looked at here               and here                 (from here on `on_token` says it at every token)

A prompt of thousands of tokens takes seconds, in which an editor has moved on and a client has closed its connection. What
was read of it until then stays among the beginnings of prompts (`engine.native`, `engine.cache`): who types on is answered sooner,
also where no prompt was ever read to its end. The sequence's own pages are free at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from apprentice.text.decoding import Feed, Output, SequenceCache

IsWanted = Callable[[], bool]
"""Asked from the thread that computes: whether to go on."""

LOOK_S = 0.1
"""How often somebody who waits in line looks whether it still wants to."""


class CalledOff(Exception):
    """Nobody wants what is being computed."""


def check(is_wanted: IsWanted | None) -> None:
    """Raises: CalledOff. None: whoever asked waits for the end."""
    if is_wanted is not None and not is_wanted():
        raise CalledOff


class _Model(Protocol):
    @property
    def max_positions(self) -> int: ...
    def new_cache(self, capacity: int) -> SequenceCache: ...
    def forward(self, feeds: Sequence[Feed], is_wanted: IsWanted | None = None) -> list[Output]: ...


class WhileWanted:
    """A model as one call of the decoding loop sees it (`text.decoding.LanguageModel`), to be called off between chunks."""

    def __init__(self, model: _Model, is_wanted: IsWanted) -> None:
        self._model, self._is_wanted = model, is_wanted

    @property
    def max_positions(self) -> int:
        return self._model.max_positions

    def new_cache(self, capacity: int) -> SequenceCache:
        return self._model.new_cache(capacity)

    def forward(self, feeds: Sequence[Feed]) -> list[Output]:
        """Raises: CalledOff."""
        return self._model.forward(feeds, self._is_wanted)
