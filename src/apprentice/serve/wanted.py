"""Generating only as long as somebody listens: what is asked of a generator that can be called off, and of one that cannot.

The engine looks between two chunks of a prompt whether it is still wanted (`engine.calling_off`); any other `Generator` notices at
its next token, by `on_token`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

from apprentice.core.protocols import Generator, Request, Sample

OnToken = Callable[[int, int, str], bool]


@runtime_checkable
class CanBeCalledOff(Protocol):
    """A generator that also stops before the first token."""

    def generate_while(
        self, requests: Sequence[Request], is_wanted: Callable[[], bool], *, on_token: OnToken | None = None
    ) -> list[Sample]:
        """As `generate`; once `is_wanted` says no, all samples may be empty and `cancelled`."""
        ...


def generate_while(
    generator: Generator, requests: Sequence[Request], is_wanted: Callable[[], bool], *, on_token: OnToken
) -> list[Sample]:
    """`on_token` says no as well where nobody listens."""
    if isinstance(generator, CanBeCalledOff):
        return generator.generate_while(requests, is_wanted, on_token=on_token)
    return generator.generate(requests, on_token=on_token)
