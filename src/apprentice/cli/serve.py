"""`apprentice serve`: the model behind an OpenAI-compatible API, or as the language server of an editor."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import cyclopts

if TYPE_CHECKING:
    from apprentice.learn.loading import Loaded

KEY_VARIABLE = "APPRENTICE_API_KEY"
Flag = cyclopts.Parameter(negative="")


def serve(
    *,
    model: Path | None = None,
    adapter: Path | None = None,
    out: Path | None = None,
    host: str = "127.0.0.1",
    port: int = 8311,
    cache_bits: Literal[16, 8] = 16,
    allow_host: tuple[str, ...] = (),
    allow_origin: tuple[str, ...] = (),
    lsp: Annotated[bool, Flag] = False,
    record: Annotated[bool, Flag] = False,
    show_from: float = 0.25,
) -> None:
    """Answer over HTTP as OpenAI's API does, or an editor that starts it. An API key is taken from APPRENTICE_API_KEY.

    What `apprentice learn` puts in the model's place meanwhile is served from then on.

    Parameters
    ----------
    model
        Folder of a model, in place of the one that was learned here.
    adapter
        Folder of a LoRA adapter in PEFT's layout, to be used beside the weights of `--model`.
    out
        Folder of the runs, in place of `.apprentice` here or above.
    host
        Address to listen on; one that other machines reach needs an API key.
    port
        Port to listen on; 0 takes a free one.
    cache_bits
        Of the keys and values of a conversation: with 8, twice as much text fits the same memory.
    allow_host
        Further name under which the server is reached; may be given several times.
    allow_origin
        Web page that may call; may be given several times.
    lsp
        Be the language server of the editor that starts this command: completions and next edits over standard input and output.
    record
        With `--lsp`: write down your edits in this project and what becomes of the suggestions, without secrets, in
        `.apprentice/recorded`; nothing is written down without it.
    show_from
        Chance of being right, 0 to 1, from which on an editor that asks by itself is shown a suggestion; 0 shows them all.
    """
    from apprentice.core.errors import ConfigError
    from apprentice.engine.model import EngineConfig
    from apprentice.learn import loading

    if record and not lsp:
        raise ConfigError("`--record` goes with `--lsp`", hint="over HTTP nothing is recorded")
    if lsp:
        config = EngineConfig(cache_bits=cache_bits)
        loaded = loading.load(model, out, config=config, adapter=adapter, show_from=show_from)
        _serve_editor(loaded, model, out, record)
        return
    from apprentice.serve import server
    from apprentice.serve.served import Slot

    config = server.ServeConfig(
        host=host, port=port, api_key=os.environ.get(KEY_VARIABLE) or None, allowed_hosts=allow_host, allowed_origins=allow_origin
    )
    engine = EngineConfig(cache_bits=cache_bits)
    slot = Slot(loading.load(model, out, config=engine, adapter=adapter, show_from=show_from).served())
    if model is None:
        loading.follow(slot, out, config=engine, say=_say, show_from=show_from)
    server.serve(slot, config, on_ready=lambda url: print(f"serving {slot.model.name} at {url}", file=sys.stderr, flush=True))


def _serve_editor(loaded: Loaded, model: Path | None, out: Path | None, record: bool) -> None:
    import signal

    from apprentice.cli.common import version
    from apprentice.learn import loading, recording
    from apprentice.serve.lsp import server
    from apprentice.serve.lsp.editor import AssistantSlot

    recorder = None
    if record:
        recorder = recording.recorder(Path.cwd(), out)
        _say(f"recording edits and the outcomes of suggestions into {recorder.folder}")
    slot = AssistantSlot(loaded.assistant())
    if model is None:
        loading.watch(
            lambda: slot.assistant.fingerprint, lambda newer: slot.replace(newer.assistant()), out, say=_say, show_from=loaded.show_from
        )
    if sys.stdin.isatty():
        _say("waiting for an editor on standard input; how to set one up: docs/guides/editors.md")
    # The thread that reads standard input cannot be woken: an interrupt ends it all. What was recorded is on disk.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # Only messages may go out: whatever else is printed goes where errors go.
    with os.fdopen(os.dup(1), "wb") as stdout:
        os.dup2(2, 1)
        server.serve(
            slot, sys.stdin.buffer, stdout, recorder=recorder, uncommitted=loading.uncommitted,
            rejected=recording.rejected(Path.cwd(), out), version=version(),
        )  # fmt: skip
    if recorder is not None:
        _say(recorder.summary())


def _say(message: str) -> None:
    from apprentice.core.text_safety import terminal_safe

    print(terminal_safe(message), file=sys.stderr, flush=True)
