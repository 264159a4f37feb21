"""`apprentice train`: change a model's weights."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import cyclopts

from apprentice.cli.common import JsonFlag, check_out, print_next, print_result


def sft(
    recipe: Path | None = None,
    /,
    *,
    examples: Path,
    conversations: Path | None = None,
    silent_places: Path | None = None,
    out: Path,
    base: str = "default",
    steps: int | None = None,
    budget: str | None = None,
    set_: Annotated[tuple[str, ...], cyclopts.Parameter(name="--set", negative="")] = (),
    dry_run: Annotated[bool, cyclopts.Parameter(negative="")] = False,
    json: JsonFlag = False,
) -> None:
    """Fine-tune a base on examples. Killed at any moment, the same command goes on.

    Parameters
    ----------
    recipe
        TOML file over the defaults.
    examples
        Folder of examples.
    conversations
        Folder of conversations, as `examples make` writes them.
    silent_places
        Folder of places where nothing was to be done, as `examples make --silent-places` writes them: for `--set silence=0.1`.
    out
        Folder of the checkpoint to write.
    base
        Where the weights come from.
    steps
        Steps of training; wins over the budget.
    budget
        Time for training, such as `20m`.
    set_
        A key of the recipe, as `--set optimizer.lr=1e-4`; may be given several times.
    dry_run
        Print the resolved recipe with an estimate of memory and time, and do nothing.
    """
    from apprentice.core.machine import share_cores

    share_cores()
    from apprentice.core import config
    from apprentice.core.progress import Progress
    from apprentice.examples import store
    from apprentice.learn.config import parse_budget
    from apprentice.learn.opening import weights_hash
    from apprentice.learn.stages import answers
    from apprentice.learn.stages import conversations as talks
    from apprentice.model import base as bases
    from apprentice.text.tokenizer import Tokenizer
    from apprentice.train import sft as stage
    from apprentice.train.preview import preview

    budget_s = None if budget is None else parse_budget(budget)
    resolved = config.load(stage.SftConfig, recipe, set_)
    if dry_run:
        cost = preview(_at_hand(base), resolved, steps=steps, budget_s=budget_s)
        value = {"recipe": config.to_dict(resolved), "estimate": asdict(cost)}
        print_result(value, json_output=json, text=lambda: f"{config.resolved_toml(resolved)}\n{_estimate(cost)}")
        return
    check_out(out, examples, *(path for path in (conversations, silent_places, Path(base)) if path is not None and path.is_dir()))
    parents = _parents(examples, conversations, silent_places, shows_silence=resolved.silence > 0)
    with Progress() as progress:
        folder = bases.resolve(None if base == "default" else base, progress=progress)
        tokenizer, base_hash = Tokenizer.load(folder), weights_hash(folder)
        said = answers.of(folder, base_hash, tokenizer, progress=progress) if resolved.rehearsal else None
        parents |= {"base": base_hash, **({"answers": said.hash} if said else {})}
        made = stage.train(
            folder, list(store.read(examples, "train")), list(store.read(examples, "valid")), tokenizer, out,
            sft=resolved, parents=parents, progress=progress, steps=steps, budget_s=budget_s,
            answers=said.conversations if said else (),
            conversations=talks.to_learn(conversations, tokenizer, progress) if conversations else (),
            silent=list(store.read(silent_places, "train")) if silent_places else (),
        )  # fmt: skip
    value = {"counts": made.counts, **made.extra}
    print_result(value, json_output=json, text=lambda: "\n".join(f"{name}: {part}" for name, part in value.items()))
    if not json:
        print_next(f"apprentice model quantize {out} --out {out}-nvfp4")


def _at_hand(base: str) -> Path:
    """Who asks what training would cost wants nothing downloaded. Raises: ConfigError."""
    from apprentice.core.errors import ConfigError
    from apprentice.model import base as bases

    word = None if base == "default" else base
    if not bases.is_at_hand(word):
        raise ConfigError(f"the base `{base}` is not on this machine, so nothing can be said of it", hint="without `--dry-run` it is downloaded")
    return bases.resolve(word)


def _parents(examples: Path, conversations: Path | None, silent_places: Path | None, *, shows_silence: bool) -> dict[str, str]:
    """Content hashes of what is learned from. Raises: ConfigError, InputError."""
    from apprentice.core import artifacts
    from apprentice.core.errors import ConfigError, InputError
    from apprentice.examples import conversation_store, store
    from apprentice.learn.stages import conversations as talks
    from apprentice.learn.stages import silent_places as quiet

    if shows_silence != (silent_places is not None):
        raise ConfigError(
            "`silence` of the recipe and `--silent-places` go together",
            hint="`examples make --silent-places` makes a folder of them; `--set silence=0.1` says how many are shown",
        )
    edits = artifacts.read(examples, kind=store.KIND).hash
    besides = {talks.NAME: (conversations, conversation_store.KIND), quiet.NAME: (silent_places, store.KIND)}
    parents = {"examples": edits}
    for name, (folder, kind) in besides.items():
        if folder is None:
            continue
        made = artifacts.read(folder, kind=kind)
        if made.parents.get("examples") != edits:
            raise InputError(
                f"`{folder}` was not made beside `{examples}`: what these hold out may be learned from there",
                hint="make both with one `apprentice examples make --silent-places --out FOLDER`",
            )
        parents[name] = made.hash
    return parents


def _estimate(cost: Any) -> str:
    """In comments, so that the whole is a recipe still."""
    return "\n".join(f"# {name}: {value}" for name, value in asdict(cost).items())
