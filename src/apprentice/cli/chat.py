"""`apprentice chat`: talk to the model that was learned."""

from __future__ import annotations

import sys
from pathlib import Path

from apprentice.cli.common import JsonFlag, print_next, print_result


def chat(
    message: str | None = None,
    /,
    *,
    model: Path | None = None,
    adapter: Path | None = None,
    out: Path | None = None,
    max_tokens: int = 256,
    temperature: float = 0.0,
    seed: int = 0,
    schema: Path | None = None,
    json: JsonFlag = False,
) -> None:
    """Talk to the model: one message, or a conversation until an empty line.

    Parameters
    ----------
    message
        What to say; without it, lines are read from the terminal.
    model
        Folder of a model, in place of the one that was learned here.
    adapter
        Folder of a LoRA adapter in PEFT's layout, to be used beside the weights of `--model`.
    out
        Folder of the runs, in place of `.apprentice` here or above.
    max_tokens
        Most tokens of a reply.
    temperature
        0 takes the likeliest token each time.
    seed
        Of the sampling.
    schema
        File with a JSON schema that every reply is held to.
    """
    from apprentice.core.protocols import Request
    from apprentice.core.text_safety import terminal_safe
    from apprentice.learn import loading
    from apprentice.learn.config import check_seed
    from apprentice.text import chat as rendering
    from apprentice.text import grammar
    from apprentice.text.lookup import PromptLookup

    check_seed(seed)
    loaded = loading.load(model, out, memory=False, adapter=adapter)
    messages: list[dict[str, str]] = []
    form = None if schema is None else grammar.of_schema_file(schema)

    def reply(said: str, *, stream: bool) -> str:
        messages.append({"role": "user", "content": said})
        prompt = rendering.render(loaded.engine.tokenizer, None, messages, add_generation_prompt=True)
        held = None if form is None else grammar.Grammar(loaded.engine.tokenizer, form)
        request = Request(
            prompt_ids=prompt.token_ids, max_tokens=max_tokens, temperature=temperature, seed=seed,
            mixture=PromptLookup(prompt.token_ids, held),
        )  # fmt: skip

        def show(index: int, token_id: int, text: str) -> bool:
            if stream:
                print(terminal_safe(text), end="", flush=True)
            return True

        text = loaded.engine.generate([request], on_token=show)[0].text
        messages.append({"role": "assistant", "content": text})
        return text

    if message is not None:
        text = reply(message, stream=not json)
        if json:
            print_result({"reply": text}, json_output=True, text=str)
        else:
            print()
            print_next("apprentice serve")
        return
    while said := _ask():
        reply(said, stream=True)
        print("\n")


def _ask() -> str:
    """A line of the user; empty at the end."""
    if sys.stdin.isatty():
        print("> ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip()
