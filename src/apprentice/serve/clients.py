"""Editors' settings for our server: what would be written, writing it, and taking it back.

    name, folders, server --plan()--> changes of files, shown as a diff --write()--> files, and what they were --undo()--> as before

What the files were is kept in `~/.cache/apprentice/connect/NAME.json`. A file that was changed since is not overwritten. A server's key is
never written: settings name where the editor finds it, and `KEY_PLACES` says how it comes there.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from apprentice.core import files
from apprentice.core.errors import ConfigError, InputError
from apprentice.serve import jsonc
from apprentice.serve.requests import ALIAS

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
{indent}  apiKey: {key}
{indent}  useLegacyCompletionsEndpoint: true
{indent}  roles:
{indent}    - autocomplete
"""
_VIM = """" Written by `apprentice connect llama.vim`.
" Without `show_info`, unless you set it: times are shown behind every line, also where nothing is suggested.
let g:llama_config = extend(extend({{'show_info': 0}}, filter(copy(get(g:, 'llama_config', {{}})), 'v:key !=# "endpoint"')), {{'endpoint_fim': '{url}/infill'{key}}})
" An `endpoint` of yours would take the place of ours. Versions before `endpoint_fim` have their own `endpoint` by then; newer ones would warn of it at every start.
autocmd VimEnter * if has_key(g:llama_config, 'endpoint') | let g:llama_config.endpoint = g:llama_config.endpoint_fim | endif
"""

KEY = "APPRENTICE_API_KEY"
"""The variable that `serve` takes its key from."""
KEY_PLACES = {
    "zed": "start Zed with ZED_OPEN_AI_COMPATIBLE_EDIT_PREDICTION_API_KEY set to the server's key",
    "continue": f"put `{KEY}=` and the server's key into ~/.continue/.env",
    "llama.vim": f"start the editor with {KEY} set to the server's key",
}

_MARK = ALIAS.lower()
"""In every part of ours."""


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


@dataclass(frozen=True, slots=True)
class Server:
    """Whom a client shall ask."""

    url: str
    """As it is or as `serve` says it, with `/v1`."""
    has_key: bool = False

    @property
    def root(self) -> str:
        return self.url.rstrip("/").removesuffix("/v1").rstrip("/")


@dataclass(frozen=True, slots=True)
class Folders:
    """Where clients keep their settings."""

    home: Path
    config: Path
    """`$XDG_CONFIG_HOME`, or `.config` in the home."""


def plan(name: str, folders: Folders, server: Server) -> list[Change]:
    """What connecting a client would change; nothing where it is connected.

    Raises: ConfigError for an unknown name, InputError for settings that cannot be read."""
    if name not in CLIENTS:
        raise ConfigError(f"`{name}` is no client that can be connected", hint=HINT)
    changes: list[Change] = []
    for path, edit in CLIENTS[name](folders):
        # Settings are often links to where people keep theirs.
        path = path.resolve()
        before = _read(path)
        try:
            after = edit((before or "").replace("\r\n", "\n"), server)
        except InputError as error:
            raise InputError(f"{path}: {error.message}", hint=error.hint) from None
        if before is not None and "\r\n" in before:
            after = after.replace("\n", "\r\n")
        if after != before:
            changes.append(Change(path, before, after))
    return changes


def write(name: str, changes: Sequence[Change], kept: Path) -> None:
    """Writes the files; what they were is kept for `undo`: of several times the first, unless a file was changed between.

    Raises: InputError for a file that was changed and still has our part in it: nobody knows what it was without."""
    known = _kept(kept, name)
    for change in changes:
        earlier = known.get(str(change.path))
        if earlier is not None and change.before not in (None, *earlier) and _MARK in (change.before or "").lower():
            raise InputError(
                f"`{change.path}` was changed since `{name}` was connected, so that `--undo` could not take our part out again",
                hint="take our part out by hand, then connect again",
            )
    for change in changes:
        earlier = known.get(str(change.path))
        first = earlier[0] if earlier is not None and earlier[1] == change.before else change.before
        known[str(change.path)] = [first, change.after]
    files.make_folder(kept)
    # Settings may have keys in them.
    kept.chmod(0o700)
    files.write_json(kept / f"{name}.json", known)
    for change in changes:
        files.make_folder(change.path.parent)
        _write(change.path, change.after)


def undo(name: str, kept: Path, *, dry_run: bool = False) -> list[Path]:
    """Puts back what was there before; with `dry_run` only says which files those are. Raises: InputError where nothing is kept, or a file
    was changed since: then nothing is done."""
    known = _kept(kept, name)
    if not known:
        raise InputError(f"`{name}` was not connected from here", hint="take the settings out by hand")
    for path, versions in known.items():
        # As it was before: writing was interrupted.
        if _read(Path(path)) not in versions:
            raise InputError(f"`{path}` was changed since it was written", hint="take our part out by hand")
    if dry_run:
        return [Path(path) for path in known]
    for path, (before, _) in known.items():
        if before is not None:
            _write(Path(path), before)
        elif Path(path).is_file():
            files.remove_file(Path(path))
    files.remove_file(kept / f"{name}.json")
    return [Path(path) for path in known]


Edit = Callable[[str, Server], str]
"""A file's text -> the text as it should be."""


def _zed(folders: Folders) -> list[tuple[Path, Edit]]:
    return [(folders.config / "zed" / "settings.json", _zed_settings)]


def _zed_settings(before: str, server: Server) -> str:
    value = {"api_url": f"{server.root}/v1/completions", "model": ALIAS, "prompt_format": "qwen", "max_output_tokens": MAX_OUTPUT_TOKENS}
    after = jsonc.set_key(before, ["edit_predictions", "open_ai_compatible_api"], value)
    return jsonc.set_key(after, ["edit_predictions", "provider"], "open_ai_compatible_api")


def _continue(folders: Folders) -> list[tuple[Path, Edit]]:
    path = folders.home / ".continue" / "config.yaml"
    old = next((one for name in ("config.json", "config.ts") if (one := path.with_name(name)).is_file()), None)
    if old is not None and not path.is_file():
        raise InputError(f"Continue is set up in `{old}`, which it would no longer read", hint="move it to config.yaml first")
    return [(path, _continue_config)]


def _continue_config(before: str, server: Server) -> str:
    key = f"${{{{ secrets.{KEY} }}}}" if server.has_key else "none"
    model = _CONTINUE_MODEL.format(indent="  ", name=ALIAS, url=server.root, key=key)
    if not before.strip():
        return _CONTINUE.format(model=model)
    lines = before.splitlines(keepends=True)
    lines[-1] = lines[-1].rstrip("\n") + "\n"
    at = next((number for number, line in enumerate(lines) if re.fullmatch(r"models:\s*(#.*)?", line.rstrip())), None)
    if at is None:
        if any(re.match(r"""["']?models["']?\s*:|[{\[]""", line) for line in lines):
            raise InputError("`models` is not a list with an entry a line", hint="add the model by hand: docs/guides/editors.md")
        return "".join(lines) + "models:\n" + model
    indent, start, end = _own_block(lines, at)
    lines[start:end] = [_CONTINUE_MODEL.format(indent=indent, name=ALIAS, url=server.root, key=key)]
    return "".join(lines)


def _own_block(lines: Sequence[str], at: int) -> tuple[str, int, int]:
    """What the entries of `models` are indented by, and the lines of ours: none, in front of the others, where it is missing."""
    entries = [number for number in range(at + 1, len(lines)) if lines[number].lstrip().startswith("- ")]
    first = next((number for number in range(at + 1, len(lines)) if lines[number].strip() and not lines[number].lstrip().startswith("#")), -1)
    if first not in entries:
        return "  ", at + 1, at + 1
    indent = lines[first][: len(lines[first]) - len(lines[first].lstrip())]
    for number in entries:
        if lines[number].rstrip() == f"{indent}- name: Apprentice":
            end = number + 1
            while end < len(lines) and lines[end].startswith(f"{indent}  "):
                end += 1
            return indent, number, end
    return indent, at + 1, at + 1


def _llama_vim(folders: Folders) -> list[tuple[Path, Edit]]:
    """A file of its own, which is read before the plugin: for Neovim, Vim, or both, as they are used here."""
    vim = folders.home / ".vim"
    found = [folder for folder in (folders.config / "nvim", vim) if folder.is_dir()] or [vim]
    return [(folder / "plugin" / "apprentice.vim", _vim_plugin) for folder in found]


def _vim_plugin(_: str, server: Server) -> str:
    return _VIM.format(url=server.root, key=f", 'api_key': ${KEY}" if server.has_key else "")


CLIENTS: dict[str, Callable[[Folders], list[tuple[Path, Edit]]]] = {"zed": _zed, "continue": _continue, "llama.vim": _llama_vim}
HINT = (
    "one of `zed`, `continue` (VS Code, JetBrains) and `llama.vim` (Vim, Neovim); an editor that starts a language server is set up "
    "by hand: docs/guides/editors.md"
)


def _kept(folder: Path, name: str) -> dict[str, list[str | None]]:
    path = folder / f"{name}.json"
    if not path.is_file():
        return {}
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"`{path}` cannot be read: {error}", hint="remove it; the settings are then changed by hand") from error


def _read(path: Path) -> str | None:
    """With the line breaks that it has."""
    try:
        return path.read_bytes().decode("utf-8") if path.is_file() else None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"`{path}` cannot be read: {error}", hint="is it the client's settings?") from error


def _write(path: Path, text: str) -> None:
    """Who may read it stays."""
    mode = path.stat().st_mode & 0o777 if path.is_file() else None
    files.write_bytes(path, text.encode("utf-8"))
    if mode is not None:
        path.chmod(mode)
