"""`apprentice serve`: the model behind an OpenAI-compatible API."""

from __future__ import annotations

import os
import sys
from pathlib import Path

KEY_VARIABLE = "APPRENTICE_API_KEY"


def serve(
    *,
    model: Path | None = None,
    out: Path | None = None,
    host: str = "127.0.0.1",
    port: int = 8311,
    allow_host: tuple[str, ...] = (),
    allow_origin: tuple[str, ...] = (),
) -> None:
    """Answer over HTTP as OpenAI's API does. An API key is taken from APPRENTICE_API_KEY.

    Parameters
    ----------
    model
        Folder of a model, in place of the one that was learned here.
    out
        Folder of the runs, in place of `.apprentice` here or above.
    host
        Address to listen on; one that other machines reach needs an API key.
    port
        Port to listen on; 0 takes a free one.
    allow_host
        Further name under which the server is reached; may be given several times.
    allow_origin
        Web page that may call; may be given several times.
    """
    from apprentice.learn import loading
    from apprentice.serve import server
    from apprentice.serve.served import ServedModel

    config = server.ServeConfig(
        host=host, port=port, api_key=os.environ.get(KEY_VARIABLE) or None, allowed_hosts=allow_host, allowed_origins=allow_origin
    )
    loaded = loading.load(model, out)
    memory = loaded.memory
    served = ServedModel(
        name=loaded.name, generator=loaded.engine, tokenizer=loaded.engine.tokenizer,
        max_positions=loaded.engine.model.max_positions, max_threads=loaded.engine.max_threads, fingerprint=loaded.fingerprint,
        make_mixture=None if memory is None else loading.make_mixture(memory),
    )  # fmt: skip
    server.serve(served, config, on_ready=lambda url: print(f"serving {loaded.name} at {url}", file=sys.stderr, flush=True))
