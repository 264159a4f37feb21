"""`apprentice show`: what an artifact is, and every sample of an evaluation as pages."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import cyclopts

from apprentice.cli.common import JsonFlag, print_result
from apprentice.core.errors import ConfigError, InputError
from apprentice.core.text_safety import terminal_safe

if TYPE_CHECKING:
    from apprentice.learn.browse.site import Browsed

Flag = Annotated[bool, cyclopts.Parameter(negative="")]


def show(
    folder: Path = Path(".apprentice"), other: Path | None = None, /, *, browse: Flag = False, to: Path | None = None,
    examples: Path | None = None, model: Path | None = None, json: JsonFlag = False,
) -> None:  # fmt: skip
    """Show an artifact: its kind, what it was made from, counts, what was left out; or the runs of a folder.

    Parameters
    ----------
    folder
        Folder of an artifact, of a run, or of runs; with `--browse` of an evaluation.
    other
        With `--browse`: another evaluation, to be compared with the first place by place.
    browse
        Write pages in which every sample of an evaluation can be looked at.
    to
        With `--browse`: the new folder for the pages.
    examples
        With `--browse`: folder of the examples that the evaluation was made of; `examples` beside it where not given.
    model
        With `--browse`: a model that says, token by token, how likely it finds what the developer wrote; takes a while.
    """
    if browse:
        _browse(folder, other, to, examples, model, json)
        return
    if extra := [name for name, given in (("OTHER", other), ("--to", to), ("--examples", examples), ("--model", model)) if given is not None]:
        raise ConfigError(f"`{extra[0]}` belongs to `--browse`", hint="add `--browse`, or leave it out")
    import msgspec

    from apprentice.core import artifacts

    if not artifacts.is_finished(folder) and folder.is_dir():
        inside = [path.parent for path in sorted(folder.glob("**/manifest.json"))]
        found = {}
        for path in inside:
            # Others have files of that name, too.
            with contextlib.suppress(InputError):
                found[str(path.relative_to(folder))] = artifacts.read(path)
        value = {name: {"kind": manifest.kind, "hash": manifest.hash} for name, manifest in found.items()}
        text = "\n".join(f"{name}: {manifest.kind} {manifest.hash[:12]}, {manifest.created}" for name, manifest in found.items())
        print_result(value, json_output=json, text=lambda: terminal_safe(text or f"no artifacts in {folder}"))
        return
    manifest = artifacts.read(folder)
    problems = artifacts.verify(folder)
    value = {**msgspec.to_builtins(manifest), "problems": problems}
    print_result(value, json_output=json, text=lambda: _text(manifest, problems))


def _browse(folder: Path, other: Path | None, to: Path | None, examples: Path | None, model: Path | None, json: bool) -> None:
    from dataclasses import asdict

    from apprentice.core.progress import Progress
    from apprentice.learn.browse import site

    if to is None:
        raise ConfigError("`--browse` needs a folder for its pages", hint="name a new one with `--to`")
    log_probs = None
    if model is not None:
        from apprentice.core.machine import share_cores

        share_cores()
        from apprentice.learn.browse.likely import developer_log_probs
        from apprentice.learn.opening import open_model
        from apprentice.text.tokenizer import Tokenizer

        tokenizer = Tokenizer.load(model)
        log_probs = developer_log_probs(open_model(model, tokenizer), tokenizer)
    with Progress() as progress:
        done = site.write(folder, to, examples=examples or folder.parent / "examples", other=other, progress=progress, log_probs=log_probs)
    print_result({"folder": str(to), **asdict(done)}, json_output=json, text=lambda: terminal_safe("\n".join(_browsed(to, done))))


def _browsed(to: Path, done: Browsed) -> list[str]:
    lines = [f"{to / 'index.html'}: {done.pages:,} pages, {done.samples:,} samples at {done.places:,} places"]
    if done.without_example:
        lines.append(f"places that the examples do not have: {done.without_example:,}")
    lines += [f"{name.replace('_', ' ')}: {count:,}" for name, count in done.compared.items()]
    return lines


def _text(manifest: object, problems: list[str]) -> str:
    from apprentice.core.artifacts import Manifest

    assert isinstance(manifest, Manifest)
    lines = [f"{manifest.kind} {manifest.hash}", f"made {manifest.created} by {manifest.code.get('commit', manifest.code.get('version', '?'))}"]
    lines += [f"from {role}: {parent}" for role, parent in manifest.parents.items()]
    lines += [f"{name}: {count:,}" for name, count in manifest.counts.items()]
    lines += [f"left out: {reason}: {count:,}" for reason, count in manifest.dropped.items()]
    lines += [f"redacted: {kind}: {count:,}" for kind, count in manifest.extra.get("redacted", {}).items()]
    lines += [f"{name}: {size.bytes:,} bytes" for name, size in manifest.files.items()]
    lines += [f"problem: {problem}" for problem in problems] or ["every file is what the manifest says"]
    return "\n".join(terminal_safe(line) for line in lines)
