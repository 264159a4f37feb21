"""`apprentice examples`: what a model is trained on, with the tokens that carry loss marked."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import cyclopts

from apprentice.cli.common import JsonFlag, check_newest, check_out, print_next, print_result

if TYPE_CHECKING:
    from apprentice.examples.conversation import Conversation

_STRONG, _WEAK, _END = "\033[1;32m", "\033[2m", "\033[0m"


def make(
    sessions: Path = Path(".apprentice/sessions"), /, *, out: Path, base: str = "default", learn_from: tuple[str, ...] = (),
    max_tokens: int | None = None, silent_places: Annotated[bool, cyclopts.Parameter(negative="")] = False, json: JsonFlag = False,
) -> None:  # fmt: skip
    """Make examples of sessions: edits, completions, conversations, pairs.

    Parameters
    ----------
    sessions
        Folder of sessions.
    out
        Folder to write: `examples` and `conversations` in it.
    base
        The model they are for: its tokenizer sizes the prompts.
    learn_from
        Whose words carry loss, as for `learn`; may be given several times.
    max_tokens
        Of a conversation, most. The default fits the sequences of the default recipe; for a larger model take more.
    silent_places
        Also places where nothing was to be done, into `silent_places` in the folder.
    """
    from apprentice.core.errors import ConfigError
    from apprentice.core.progress import Progress
    from apprentice.examples.conversations import ConversationsConfig
    from apprentice.learn.opening import weights_hash
    from apprentice.learn.stages import conversations as conversations_stage
    from apprentice.learn.stages import examples as examples_stage
    from apprentice.learn.stages import silent_places as silent_stage
    from apprentice.model import base as bases
    from apprentice.sessions import policy as policies
    from apprentice.sessions.policy import Policy
    from apprentice.sessions.store import Sessions
    from apprentice.text.tokenizer import Tokenizer

    try:
        config = ConversationsConfig() if max_tokens is None else ConversationsConfig(max_tokens=max_tokens)
    except ValueError:
        raise ConfigError(f"conversations of {max_tokens} tokens hold nothing", hint="name 64 or more with `--max-tokens`") from None
    for name in ("examples", "conversations", "silent_places"):
        check_out(out / name, sessions)
    read = Sessions.open(sessions)
    policy = policies.chosen(learn_from, sessions.parent)
    names = () if policy == Policy() else policy.learn_from
    with Progress() as progress:
        folder = bases.resolve(None if base == "default" else base, progress=progress)
        tokenizer, parents = Tokenizer.load(folder), {"sessions": read.hash, "base": weights_hash(folder)}
        edits = examples_stage.write(
            out / "examples", read, tokenizer, policy, progress, config=examples_stage.config_for(read), parents=parents, learn_from=names
        )
        talks = conversations_stage.write(
            out / "conversations", read, out / "examples", tokenizer, policy, progress, parents={**parents, "examples": edits.hash},
            learn_from=names, config=config,
        )  # fmt: skip
        made = {"examples": edits, "conversations": talks}
        if silent_places:
            made["silent_places"] = silent_stage.write(
                out / "silent_places", read, out / "examples", tokenizer, policy, progress, parents={**parents, "examples": edits.hash},
                learn_from=names,
            )  # fmt: skip
    value: dict[str, Any] = {name: manifest.counts for name, manifest in made.items()}
    value["dropped"] = {name: manifest.dropped for name, manifest in made.items()}
    print_result(value, json_output=json, text=lambda: "\n".join(_made(value)))
    if not json:
        print_next(f"apprentice examples show {shlex.quote(str(out / 'conversations'))}")


def _made(value: dict[str, Any]) -> Iterator[str]:
    from apprentice.core.text_safety import terminal_safe

    for name in value["dropped"]:
        yield f"{name}: " + (", ".join(f"{key} {count:,}" for key, count in value[name].items()) or "none")
    for name, dropped in value["dropped"].items():
        yield from (terminal_safe(f"  left out of {name}: {reason} {count:,}") for reason, count in dropped.items())


def show(folder: Path, /, *, split: str = "train", kind: str | None = None, newest: int = 2, json: JsonFlag = False) -> None:
    """Show examples: prompt, target, and what carries loss.

    Parameters
    ----------
    folder
        Folder of examples or of conversations.
    split
        One of `train`, `valid`, `gate`, `test`.
    kind
        Only one kind: `next_edit`, `completion`, `silence`, `turn`, `debugging`, `refactoring`, `intent`.
    newest
        How many examples.
    """
    from collections import deque

    import msgspec

    from apprentice.core import artifacts
    from apprentice.core.errors import ConfigError
    from apprentice.examples import conversation_store, store
    from apprentice.examples.split import SPLITS

    if split not in SPLITS:
        raise ConfigError(f"`{split}` is no split", hint=f"one of {', '.join(SPLITS)}")
    check_newest(newest)
    found = artifacts.read(folder)
    kinds = sorted({name.removeprefix(f"{one}_") for name in found.counts for one in SPLITS if name.startswith(f"{one}_")} - {"commits"})
    if kind is not None and kind not in kinds:
        raise ConfigError(f"`{folder}` has nothing of the kind `{kind}`", hint=f"it has {', '.join(kinds) or 'nothing'}")
    reader = conversation_store.read if found.kind == conversation_store.KIND else store.read
    latest = list(deque(reader(folder, split, kind=kind), maxlen=newest))
    value = {"examples": [msgspec.to_builtins(example) for example in latest]}
    colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    print_result(value, json_output=json, text=lambda: "\n\n".join(_example(example, colour) for example in latest))


def _example(example: object, colour: bool) -> str:
    """Text that carries full loss stands in «», or in colour on a terminal; the windows, which carry little, are plain."""
    from apprentice.core.text_safety import terminal_safe
    from apprentice.examples.conversation import Conversation
    from apprentice.examples.example import Example
    from apprentice.train.packing import LossWeights

    if isinstance(example, Conversation):
        return _conversation(example, colour)
    assert isinstance(example, Example)
    weights = LossWeights()
    whole = example.prompt + example.target
    title = f"== {example.kind} of {example.edit.path}, commit {example.commit[:12]}"
    parts = [terminal_safe(title, single_line=True) + "\n"]
    for start, end, kind in example.spans:
        text = terminal_safe(whole[start:end])
        strong = getattr(weights, kind) >= 0.5
        if colour:
            parts.append(f"{_STRONG if strong else _WEAK}{text}{_END}")
        else:
            parts.append(f"«{text}»" if strong else text)
    return "".join(parts)


def _conversation(row: Conversation, colour: bool) -> str:
    """Its messages; the last, with its calls, is learned from."""
    from apprentice.core.text_safety import terminal_safe

    parts = [terminal_safe(f"== {row.kind} of {row.source}, {row.commit[:12] or row.session}, written by {row.agent or row.author}")]
    for message in (*row.prompt, *row.target):
        calls = [f"{call.function.name}({call.function.arguments})" for call in message.tool_calls]
        text = terminal_safe("\n".join(filter(None, (message.content, *calls))))
        if message is not row.target[0]:
            parts.append(f"[{message.role}]\n{_WEAK}{text}{_END}" if colour else f"[{message.role}]\n{text}")
        else:
            parts.append(f"[{message.role}]\n{_STRONG}{text}{_END}" if colour else f"[{message.role}]\n«{text}»")
    return "\n".join(parts)
