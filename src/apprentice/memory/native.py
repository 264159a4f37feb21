"""The memory's mixture in native code: the work of `MemoryMixture`, some microseconds a token.

    context --look in each source's segments--> Opinion --mix over the vocabulary--> log-probabilities

`index.py` and `mixture.py` are the reference that this is held against, and what runs where nothing was compiled. Indexes grow
in Python; here they are read as they lie in numpy's memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import POINTER, Structure, byref, c_char_p, c_double, c_int, c_int32, c_int64, c_void_p, memmove, sizeof
from typing import Any

import numpy as np

from apprentice.kernels.native import Library, Signatures
from apprentice.memory.gate import SOURCES, Gate
from apprentice.memory.index import MAX_MATCH, REMOVED, Matches, View
from apprentice.memory.mixture import HIT_DECAY, MIN_DRAFT_MATCH, PLACES, REGION, Opinion, Source

MAX_SEGMENTS = 64


class CSegment(Structure):
    """`Segment` of memory.h."""

    _fields_ = [  # noqa: RUF012 - of ctypes
        ("backwards", c_void_p), ("keys", c_void_p), ("documents", c_void_p), ("places", c_void_p), ("count", c_int64),
    ]  # fmt: skip


class CPlace(Structure):
    """`Place` of memory.h."""

    _fields_ = [("token", c_int32), ("length", c_int32), ("document", c_int32), ("position", c_int32)]  # noqa: RUF012


class COpinion(Structure):
    """`Opinion` of memory.h."""

    _fields_ = [  # noqa: RUF012 - of ctypes
        ("num_places", c_int32), ("num_tokens", c_int32), ("places", CPlace * PLACES), ("tokens", c_int32 * PLACES),
        ("shares", c_double * PLACES), ("best", c_int32), ("length", c_int32), ("count", c_int32),
    ]  # fmt: skip


SIGNATURES: Signatures = {
    "apprentice_memory_look": (c_int, c_void_p, c_int64, c_void_p, c_int64, c_void_p, c_int64, POINTER(COpinion)),
    "apprentice_memory_mix": (c_int, c_char_p, c_void_p, c_int64, c_int64, c_void_p, c_void_p, c_void_p, c_int64, c_void_p),
}


class _Look:
    """One source, as native code reads it."""

    def __init__(self, source: Source) -> None:
        self.view = source.view
        parts = [segment.arrays for segment in source.view.segments]
        self.segments = (CSegment * len(parts))(*(
            CSegment(*(array.ctypes.data for array in arrays), len(arrays[1])) for arrays in parts
        ))  # fmt: skip
        self.groups = source.view.groups
        self.without = REMOVED if source.without_group is None else source.without_group
        self.arguments = (self.segments, len(parts), self.groups.ctypes.data, self.without)


class NativeMixture:
    """Implements `core.protocols.Mixture`. `sources`: one for each of `gate.SOURCES`, None where it has no say."""

    def __init__(self, sources: Sequence[Source | None], context: Sequence[int], gate: Gate, library: Library) -> None:
        self._functions, self._variant = library.bind(SIGNATURES), library.variant.encode()
        self._looks = [None if source is None else _Look(source) for source in sources]
        self._weights_SF = np.ascontiguousarray(gate.weights_SF, np.float64)
        self._hits_S = np.zeros(len(SOURCES))
        self._text = (c_int32 * MAX_MATCH)(*context[-MAX_MATCH:][::-1])
        self._size = min(len(context), MAX_MATCH)
        self._opinions = (COpinion * len(SOURCES))()
        self._is_known = False

    def look(self) -> Any:
        """The opinions of all sources on the token that comes next, as COpinion."""
        if not self._is_known:
            for look, opinion in zip(self._looks, self._opinions, strict=True):
                if look is not None:
                    found = self._functions.apprentice_memory_look(*look.arguments, self._text, self._size, byref(opinion))
                    assert found >= 0
            self._is_known = True
        return self._opinions

    def opinions(self) -> list[Opinion | None]:
        """The same as in `MemoryMixture`, for whoever wants to look at them."""
        return [_in_python(opinion) if opinion.num_places else None for opinion in self.look()]

    def mix(self, log_probs_V: np.ndarray) -> np.ndarray:
        opinions = self.look()
        if not any(opinion.num_places for opinion in opinions):
            return log_probs_V
        x_V = np.ascontiguousarray(log_probs_V, np.float32)
        mixed_V = np.empty_like(x_V)
        failed = self._functions.apprentice_memory_mix(
            self._variant, opinions, len(SOURCES), REGION, self._weights_SF.ctypes.data, self._hits_S.ctypes.data, x_V.ctypes.data,
            len(x_V), mixed_V.ctypes.data,
        )  # fmt: skip
        assert not failed
        return mixed_V

    def advance(self, token_id: int) -> None:
        for source, opinion in enumerate(self.look()):
            if opinion.num_places:
                hit = 1.0 if opinion.best == token_id else -1.0
                self._hits_S[source] = HIT_DECAY * self._hits_S[source] + (1 - HIT_DECAY) * hit
        memmove(byref(self._text, sizeof(c_int32)), self._text, (MAX_MATCH - 1) * sizeof(c_int32))
        self._text[0] = token_id
        self._size = min(self._size + 1, MAX_MATCH)
        self._is_known = False

    def draft(self, max_tokens: int) -> list[int]:
        """How the text went on at the place with the longest match."""
        strongest: tuple[int, float, COpinion, View] | None = None
        for look, opinion in zip(self._looks, self.look(), strict=True):
            if look is not None and opinion.num_places:
                share = max(opinion.shares[: opinion.num_tokens])
                if strongest is None or (opinion.length, share) > strongest[:2]:
                    strongest = (opinion.length, share, opinion, look.view)
        if strongest is None or strongest[0] < MIN_DRAFT_MATCH:
            return []
        _, _, opinion, view = strongest
        place = next(place for place in opinion.places[: opinion.num_places] if place.token == opinion.best)
        return view.following(place.document, place.position, max_tokens)


def _in_python(opinion: COpinion) -> Opinion:
    shares = dict(zip(opinion.tokens[: opinion.num_tokens], opinion.shares[: opinion.num_tokens], strict=True))
    places = opinion.places[: opinion.num_places]
    columns = ([getattr(place, name) for place in places] for name in ("token", "length", "document", "position"))
    matches = Matches(*(np.array(column, np.int32) for column in columns))
    return Opinion(shares, opinion.best, opinion.length, opinion.count, matches)
