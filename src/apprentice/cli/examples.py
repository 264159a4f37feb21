"""`apprentice examples`: what a model is trained on, with the tokens that carry loss marked."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from apprentice.cli.common import JsonFlag, print_result

_STRONG, _WEAK, _END = "\033[1;32m", "\033[2m", "\033[0m"


def show(folder: Path, /, *, split: str = "train", kind: str | None = None, newest: int = 2, json: JsonFlag = False) -> None:
    """Show examples: prompt, target, and what carries loss.

    Parameters
    ----------
    folder
        Folder of examples.
    split
        One of `train`, `valid`, `gate`, `test`.
    kind
        Only `next_edit` or only `completion`.
    newest
        How many examples.
    """
    from collections import deque

    import msgspec

    from apprentice.core.errors import ConfigError
    from apprentice.examples import store
    from apprentice.examples.split import SPLITS

    if split not in SPLITS:
        raise ConfigError(f"`{split}` is no split", hint=f"one of {', '.join(SPLITS)}")
    latest = list(deque(store.read(folder, split, kind=kind), maxlen=newest))
    value = {"examples": [msgspec.to_builtins(example) for example in latest]}
    colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    print_result(value, json_output=json, text=lambda: "\n\n".join(_example(example, colour) for example in latest))


def _example(example: object, colour: bool) -> str:
    """Text that carries full loss stands in «», or in colour on a terminal; the windows, which carry little, are plain."""
    from apprentice.core.text_safety import terminal_safe
    from apprentice.examples.example import Example
    from apprentice.train.packing import LossWeights

    assert isinstance(example, Example)
    weights = LossWeights()
    whole = example.prompt + example.target
    parts = [f"== {example.kind} of {example.edit.path}, commit {example.commit[:12]}\n"]
    for start, end, kind in example.spans:
        text = terminal_safe(whole[start:end])
        strong = getattr(weights, kind) >= 0.5
        if colour:
            parts.append(f"{_STRONG if strong else _WEAK}{text}{_END}")
        else:
            parts.append(f"«{text}»" if strong else text)
    return "".join(parts)
