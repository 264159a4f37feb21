"""Conversations of a sessions artifact in a form that other programs read, written as one file or as a folder of files.

    Sessions --talks()--> Session --turns()--> a form's document() --> PATH, all of it or nothing

Histories of repositories are no conversations: they are in bundles (`sessions/bundle.py`).
"""

from __future__ import annotations

import contextlib
import importlib
import itertools
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast

from apprentice.core import files
from apprentice.core.errors import InputError
from apprentice.core.folders import new_folder
from apprentice.sessions.events import Reply, Session
from apprentice.sessions.policy import Policy
from apprentice.sessions.store import Sessions
from apprentice.sessions.writers.turns import Turn, turns, untold

FORMS = {
    "messages": "apprentice.sessions.writers.messages",
    "atif": "apprentice.sessions.writers.atif",
    "traces": "apprentice.sessions.writers.traces",
}
"""Form -> the module that writes a conversation in it."""


class Form(Protocol):
    """What a form's module offers."""

    TOLD: tuple[type[Any], ...]
    """Events of turns that the form has a place for."""
    SUFFIX: str
    IS_FOLDER: bool
    """A file for each conversation, not one for all."""

    def document(self, session: Session, turns: Sequence[Turn], policy: Policy, /) -> bytes: ...


@dataclass(slots=True)
class Exported:
    """What was written."""

    conversations: int = 0
    replies: int = 0
    marked: int = 0
    """Replies that may be trained on."""
    bytes: int = 0
    left_out: dict[str, int] = field(default_factory=dict)
    """Type of event -> how many the form has no place for, or that repeat what a tool was called with."""


def export(
    sessions: Sessions, form: str, path: Path, policy: Policy, *, newest: int | None = None, max_bytes: int | None = None
) -> Exported:
    """Write the newest conversations (all by default). Raises: InputError where there are none, where the path is taken,
    or where it would be more than `max_bytes`; nothing is written then."""
    module = cast(Form, importlib.import_module(FORMS[form]))
    done = Exported()
    talks: Iterable[Session] = sessions.talks()
    documents = _documents(talks if newest is None else deque(talks, maxlen=newest), module, policy, done, max_bytes)
    with _folder(path) if module.IS_FOLDER else _file(path) as add:
        for document in documents:
            add(document, module.SUFFIX)
        if not done.conversations:
            raise InputError(f"`{sessions.folder}` holds no conversations", hint="read some: `apprentice sessions discover` shows where they are")
    return done


class _Add(Protocol):
    def __call__(self, document: bytes, suffix: str, /) -> object: ...


def _documents(
    talks: Iterable[Session], form: Form, policy: Policy, done: Exported, max_bytes: int | None
) -> Iterator[bytes]:
    for session in talks:
        told = [turn for turn in turns(session, policy) if isinstance(turn.event, form.TOLD)]
        done.left_out = dict(Counter(done.left_out) + untold(session, told))
        if not told:
            continue
        document = form.document(session, told, policy)
        done.conversations += 1
        done.replies += sum(isinstance(turn.event, Reply) for turn in told)
        done.marked += sum(turn.train for turn in told)
        done.bytes += len(document)
        if max_bytes is not None and done.bytes > max_bytes:
            raise InputError(f"the conversations have more than {max_bytes:,} bytes", hint="take fewer, for example `--newest 100`")
        yield document


@contextlib.contextmanager
def _file(path: Path) -> Iterator[_Add]:
    if path.is_dir():
        raise InputError(f"`{path}` is a folder", hint="name a file with `--to`")
    with files.open_write(path) as stream:
        yield lambda document, suffix: stream.write(document)


@contextlib.contextmanager
def _folder(path: Path) -> Iterator[_Add]:
    """Its files are numbered: an id comes from outside."""
    with new_folder(path) as folder:
        numbers = itertools.count(1)
        yield lambda document, suffix: files.write_bytes(folder / f"{next(numbers):05d}{suffix}", document)
