"""The language server of `apprentice serve --lsp`: LSP 3.18 over standard input and output, on pygls.

    bytes --pygls--> message --Protocol--> Editor --> answer

pygls frames and dispatches messages, cancels requests and negotiates what both sides can do. Documents are ours (`documents`), and
so is the answer to what is no message (`protocol`).
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence
from typing import BinaryIO

from lsprotocol import types

from apprentice.serve.lsp import protocol
from apprentice.serve.lsp.editor import AssistantSlot, Editor, Uncommitted
from apprentice.serve.lsp.recording import Recorder
from apprentice.text.edits import Edit

NAME = "apprentice"


def build(
    slot: AssistantSlot, *, recorder: Recorder | None = None, uncommitted: Uncommitted | None = None, rejected: Sequence[Sequence[Edit]] = (),
    version: str = "0",
) -> tuple[protocol.Server, Editor]:  # fmt: skip
    """A server that has not begun. `rejected`: the edits of each suggestion of earlier sessions that does not come again, oldest first."""
    server = protocol.Server(NAME, version)
    editor = Editor(server, slot, recorder=recorder, uncommitted=uncommitted, rejected=rejected)
    for method, handler in {
        types.INITIALIZE: editor.initialize, types.INITIALIZED: editor.initialized, types.TEXT_DOCUMENT_DID_SAVE: editor.save,
        protocol.INLINE_EDIT: editor.edit, protocol.DID_SHOW_COMPLETION: editor.show, protocol.DID_SHOW_INLINE_EDIT: editor.show,
        protocol.DID_PARTIALLY_ACCEPT: editor.accept_partly, protocol.DID_FOCUS: editor.focus,
        types.SHUTDOWN: editor.shut_down,
    }.items():  # fmt: skip
        server.feature(method)(functools.partial(handler))
    server.feature(types.TEXT_DOCUMENT_INLINE_COMPLETION, types.InlineCompletionOptions())(functools.partial(editor.complete))
    # In the place of pygls' own, which keep documents whose lines also end at form feeds.
    for method, handler in {
        types.TEXT_DOCUMENT_DID_OPEN: editor.open, types.TEXT_DOCUMENT_DID_CHANGE: editor.change, types.TEXT_DOCUMENT_DID_CLOSE: editor.close,
    }.items():  # fmt: skip
        server.protocol.fm.add_builtin_feature(method, handler)
    server.command(protocol.ACCEPT)(functools.partial(editor.accept))
    server.command(protocol.REJECT)(functools.partial(editor.reject))
    return server, editor


def serve(
    slot: AssistantSlot, stdin: BinaryIO, stdout: BinaryIO, *, recorder: Recorder | None = None, uncommitted: Uncommitted | None = None,
    rejected: Sequence[Sequence[Edit]] = (), version: str = "0",
) -> None:  # fmt: skip
    """Serves one editor until it ends the session or goes away."""
    # It logs what it receives and sends, with every error.
    logging.getLogger("pygls").setLevel(logging.CRITICAL + 1)
    server, editor = build(slot, recorder=recorder, uncommitted=uncommitted, rejected=rejected, version=version)
    try:
        server.start_io(stdin, stdout)
    finally:
        editor.finish()
