"""Editors' settings for our server: what would be written, writing it, and taking it back.

    name, url --plan()--> changes of files, shown as a diff --write()--> files, and what they were --undo()--> as before

What the files were is kept in `~/.cache/apprentice/connect/NAME.json`. A file that was changed since is not overwritten.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from apprentice.core import files
from apprentice.core.errors import ConfigError, InputError
from apprentice.serve import jsonc
from apprentice.serve.served import ALIAS

MAX_OUTPUT_TOKENS = 96

_CONTINUE = """name: Local
version: 1.0.0
schema: v1
models:
{model}"""
_CONTINUE_MODEL = """{indent}- name: Apprentice
{indent}  provider: openai
{indent}  model: {name}
{indent}  apiBase: {url}/v1
{indent}  apiKey: none
{indent}  useLegacyCompletionsEndpoint: true
{indent}  roles:
{indent}    - autocomplete
"""
_VIM = """" Written by `apprentice connect llama.vim`.
let g:llama_config = extend(get(g:, 'llama_config', {{}}), {{'endpoint': '{url}/infill', 'endpoint_fim': '{url}/infill'}})
"""


@dataclass(frozen=True, slots=True)
class Change:
    """A file as it is and as it would be."""

    path: Path
    before: str | None
    """None where there is none."""
    after: str

    def diff(self) -> str:
        """Unified; empty where nothing changes."""
        before, after = (self.before or "").splitlines(keepends=True), self.after.splitlines(keepends=True)
        return "".join(difflib.unified_diff(before, after, str(self.path), str(self.path)))


def plan(name: str, home: Path, url: str) -> list[Change]:
    """What connecting a client would change; nothing where it is connected. `url`: of the server, without a path.

    Raises: ConfigError for an unknown name, InputError for settings that cannot be read."""
    if name not in CLIENTS:
        raise ConfigError(f"`{name}` is no client that can be connected", hint="use one of " + ", ".join(f"`{one}`" for one in CLIENTS))
    return [change for change in CLIENTS[name](home, url.rstrip("/")) if change.after != change.before]


def write(name: str, changes: Sequence[Change], kept: Path) -> None:
    """Writes the files; what they were is kept for `undo`, of several times the first."""
    known = _kept(kept, name)
    for change in changes:
        earlier = known.get(str(change.path))
        known[str(change.path)] = [earlier[0] if earlier else change.before, change.after]
    files.make_folder(kept)
    files.write_json(kept / f"{name}.json", known)
    for change in changes:
        files.make_folder(change.path.parent)
        files.write_text(change.path, change.after)


def undo(name: str, kept: Path) -> list[Path]:
    """Puts back what was there before. Raises: InputError where nothing is kept, or a file was changed since: then nothing is done."""
    known = _kept(kept, name)
    if not known:
        raise InputError(f"`{name}` was not connected from here", hint="take the settings out by hand")
    for path, (_, after) in known.items():
        if _read(Path(path)) != after:
            raise InputError(f"`{path}` was changed since it was written", hint="take our part out by hand")
    for path, (before, _) in known.items():
        if before is None:
            files.remove_file(Path(path))
        else:
            files.write_text(Path(path), before)
    files.remove_file(kept / f"{name}.json")
    return [Path(path) for path in known]


def _zed(home: Path, url: str) -> list[Change]:
    path = home / ".config" / "zed" / "settings.json"
    before = _read(path)
    server = {"api_url": f"{url}/v1/completions", "model": ALIAS, "prompt_format": "qwen", "max_output_tokens": MAX_OUTPUT_TOKENS}
    try:
        after = jsonc.set_key(before or "", ["edit_predictions", "open_ai_compatible_api"], server)
        after = jsonc.set_key(after, ["edit_predictions", "provider"], "open_ai_compatible_api")
    except InputError as error:
        raise InputError(f"{path}: {error.message}", hint=error.hint) from None
    return [Change(path, before, after)]


def _continue(home: Path, url: str) -> list[Change]:
    path = home / ".continue" / "config.yaml"
    before = _read(path)
    if before is None or not before.strip():
        return [Change(path, before, _CONTINUE.format(model=_CONTINUE_MODEL.format(indent="  ", name=ALIAS, url=url)))]
    if f"apiBase: {url}/v1\n" in before:
        return [Change(path, before, before)]
    lines = before.splitlines(keepends=True)
    at = next((number for number, line in enumerate(lines) if line.rstrip() == "models:"), None)
    if at is None:
        if any(line.startswith("models:") for line in lines):
            raise InputError(f"{path}: `models` is not a list with an entry a line", hint="add the model by hand: docs/guides/editors.md")
        more = "models:\n" + _CONTINUE_MODEL.format(indent="  ", name=ALIAS, url=url)
        return [Change(path, before, before.rstrip("\n") + "\n" + more)]
    first = next((line for line in lines[at + 1 :] if line.strip() and not line.lstrip().startswith("#")), "")
    indent = first[: len(first) - len(first.lstrip())] if first.lstrip().startswith("- ") else "  "
    lines.insert(at + 1, _CONTINUE_MODEL.format(indent=indent, name=ALIAS, url=url))
    return [Change(path, before, "".join(lines))]


def _llama_vim(home: Path, url: str) -> list[Change]:
    """A file of its own, which is read before the plugin: for Neovim, Vim, or both, as they are used here."""
    folders = [folder for folder in (home / ".config" / "nvim", home / ".vim") if folder.is_dir()] or [home / ".vim"]
    paths = [folder / "plugin" / "apprentice.vim" for folder in folders]
    return [Change(path, _read(path), _VIM.format(url=url)) for path in paths]


CLIENTS: dict[str, Callable[[Path, str], list[Change]]] = {"zed": _zed, "continue": _continue, "llama.vim": _llama_vim}


def _kept(folder: Path, name: str) -> dict[str, list[str | None]]:
    path = folder / f"{name}.json"
    if not path.is_file():
        return {}
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"`{path}` cannot be read: {error}", hint="remove it; the settings are then changed by hand") from error


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8") if path.is_file() else None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"`{path}` cannot be read: {error}", hint="is it the client's settings?") from error
