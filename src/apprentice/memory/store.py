"""A memory on disk: the `memory/` artifact.

    Memory --save--> repository/, edits/ (tokens, sizes, order: .npy)  documents.json  gate.json  manifest.json --load--> Memory

Token ids are text: anyone who has the tokenizer can read the stored index, so it is written from redacted text only
and is as secret as the repository. The sorted order is stored too, so loading sorts nothing; since files come from
outside, it is held against the documents before it is used, as are all sizes before anything is allocated for them.
A memory belongs to its tokenizer: a fingerprint of it is stored, and another tokenizer is refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np

from apprentice.core import artifacts, files
from apprentice.core.errors import HostileInputError, InputError
from apprentice.core.protocols import Tokenizer
from apprentice.memory.gate import Gate
from apprentice.memory.index import NO_GROUP, Document, Index
from apprentice.memory.memory import Memory
from apprentice.memory.resemblance import Origin

T = TypeVar("T")
VERSION = 1
MAX_TOKENS = 1 << 28
MAX_JSON_BYTES = 1 << 30
_HINT = "make it again: `apprentice learn`"
_PROBE = "def main():\n    return [1, 23, 'né'] # x\n\n\tif  a == b_c:\n"


class _Origin(msgspec.Struct, frozen=True):
    path: str
    first_line: int
    provenance: dict[str, Any]


class _Documents(msgspec.Struct, frozen=True):
    """The content of `documents.json`: origins in the order of the documents."""

    tokenizer: str
    groups: list[str]
    """Paths; a document's group is the position of its path here."""
    repository: list[_Origin]
    edits: list[_Origin]


def save(
    memory: Memory, folder: Path, *, parents: Mapping[str, str] | None = None, config: Mapping[str, Any] | None = None
) -> artifacts.Manifest:
    """Write the artifact."""
    with artifacts.create(folder, kind="memory", version=VERSION, parents=parents, config=config) as writer:
        for name, index in (("repository", memory.repository), ("edits", memory.edits)):
            _write_index(writer, name, index)
        state = memory.state()
        documents = _Documents(
            fingerprint(memory.tokenizer),
            state.groups,
            [_Origin(o.path, o.first_line, o.provenance) for o in state.files],
            [_Origin(o.path, o.first_line, o.provenance) for o in state.edits],
        )
        files.write_bytes(writer.path("documents.json"), msgspec.json.encode(documents))
        files.write_json(writer.path("gate.json"), memory.gate.to_dict())
        return writer.finish(
            counts={
                "files": len(memory.repository.documents),
                "edits": len(memory.edits.documents),
                "repository_tokens": memory.repository.num_tokens,
                "edit_tokens": memory.edits.num_tokens,
            }
        )


def load(folder: Path, tokenizer: Tokenizer) -> Memory:
    """Raises: InputError where it is no memory or one of another tokenizer, HostileInputError where it contradicts
    itself."""
    artifacts.read(folder, kind="memory")
    documents = _read_json(folder / "documents.json", _Documents)
    if documents.tokenizer != fingerprint(tokenizer):
        raise InputError(f"{folder}: the memory was made with another tokenizer", hint=_HINT)
    gate = Gate.from_dict(_read_json(folder / "gate.json", dict[str, Any]))
    groups = {path: group for group, path in enumerate(documents.groups)}
    if len(groups) != len(documents.groups) or len({o.path for o in documents.repository}) != len(documents.repository):
        raise HostileInputError(f"{folder / 'documents.json'}: a path is listed twice", hint=_HINT)
    return Memory.restore(
        tokenizer,
        gate,
        groups,
        *_read_index(folder, "repository", documents.repository, groups, tokenizer.vocab_size),
        *_read_index(folder, "edits", documents.edits, groups, tokenizer.vocab_size),
    )


def fingerprint(tokenizer: Tokenizer) -> str:
    """Tells tokenizers apart by what they do: the size of the vocabulary and the ids of a probing text."""
    said = msgspec.json.encode([tokenizer.vocab_size, tokenizer.encode(_PROBE), tokenizer.encode(_PROBE * 2)])
    return hashlib.sha256(said).hexdigest()[:32]


def _write_index(writer: artifacts.ArtifactWriter, name: str, index: Index) -> None:
    keys = index.compact()
    documents = list(index.documents.values())
    tokens = np.concatenate([np.zeros(0, np.int32), *(document.tokens for document in documents)])
    sizes = np.array([[len(document.tokens), document.first] for document in documents], np.int32).reshape(-1, 2)
    for column, array in (("tokens", tokens), ("sizes", sizes), ("order", keys)):
        with files.open_write(writer.path(f"{name}/{column}.npy")) as stream:
            np.lib.format.write_array(stream, np.ascontiguousarray(array, "<i4"), allow_pickle=False)


def _read_index(
    folder: Path, name: str, origins: list[_Origin], groups: Mapping[str, int], vocab_size: int
) -> tuple[Index, dict[int, Origin]]:
    where = folder / name
    tokens, sizes, order = (_read_array(where / f"{column}.npy") for column in ("tokens", "sizes", "order"))
    if sizes.ndim != 2 or sizes.shape != (len(origins), 2) or tokens.ndim != 1 or order.ndim != 1:
        raise HostileInputError(f"{where}: arrays of wrong shapes", hint=_HINT)
    counted = sizes[:, 0].astype(np.int64)
    if (counted < 0).any() or counted.sum() != len(tokens) or (sizes[:, 1] < 0).any():
        raise HostileInputError(f"{where}: the documents' sizes do not add up", hint=_HINT)
    if len(tokens) and not 0 <= int(tokens.min()) <= int(tokens.max()) < vocab_size:
        raise HostileInputError(f"{where}: token ids outside of the vocabulary", hint=_HINT)
    index = Index()
    documents = [
        Document(tokens[end - size : end], first, groups.get(origin.path, NO_GROUP))
        for (size, first), end, origin in zip(sizes.tolist(), np.cumsum(counted).tolist(), origins, strict=True)
    ]
    try:
        numbers = index.restore(documents, order)
    except ValueError as error:
        raise HostileInputError(f"{where}: {error}", hint=_HINT) from None
    found = [Origin(origin.path, origin.first_line, origin.provenance) for origin in origins]
    return index, dict(zip(numbers, found, strict=True))


def _read_array(path: Path) -> np.ndarray:
    """An int32 array of at most MAX_TOKENS, in memory of its own: the file may change later."""
    try:
        if path.stat().st_size > 8 * MAX_TOKENS:
            raise HostileInputError(f"{path}: too large for a memory", hint=_HINT)
        array = np.load(path, mmap_mode="r", allow_pickle=False, max_header_size=10_000)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path}: cannot be read: {error}", hint=_HINT) from None
    if not isinstance(array, np.ndarray) or array.dtype != np.dtype("<i4") or array.size > MAX_TOKENS:
        raise HostileInputError(f"{path}: not an array of 32-bit integers", hint=_HINT)
    return np.array(array, np.int32)


def _read_json(path: Path, kind: type[T]) -> T:
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise HostileInputError(f"{path}: too large for a memory", hint=_HINT)
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}", hint=_HINT) from None
