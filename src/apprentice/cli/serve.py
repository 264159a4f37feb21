"""`apprentice serve`: the model behind an OpenAI-compatible API."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Literal

KEY_VARIABLE = "APPRENTICE_API_KEY"


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
) -> None:
    """Answer over HTTP as OpenAI's API does. An API key is taken from APPRENTICE_API_KEY.

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
    """
    from apprentice.core.text_safety import terminal_safe
    from apprentice.engine.model import EngineConfig
    from apprentice.learn import loading
    from apprentice.serve import server
    from apprentice.serve.served import Slot

    config = server.ServeConfig(
        host=host, port=port, api_key=os.environ.get(KEY_VARIABLE) or None, allowed_hosts=allow_host, allowed_origins=allow_origin
    )
    engine = EngineConfig(cache_bits=cache_bits)
    slot = Slot(loading.load(model, out, config=engine, adapter=adapter).served())
    if model is None:
        loading.follow(slot, out, config=engine, say=lambda message: print(terminal_safe(message), file=sys.stderr, flush=True))
    server.serve(slot, config, on_ready=lambda url: print(f"serving {slot.model.name} at {url}", file=sys.stderr, flush=True))
