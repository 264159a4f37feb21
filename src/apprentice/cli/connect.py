"""`apprentice connect`: an editor's settings for our server, shown, written, and taken back."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Annotated

import cyclopts

from apprentice.cli.common import JsonFlag, print_next, print_result

Flag = cyclopts.Parameter(negative="")
URL = "http://127.0.0.1:8311"
"""Of `apprentice serve` as it is."""


def connect(
    name: str = "", /, *, url: str = URL, with_key: Annotated[bool, Flag] = False,
    dry_run: Annotated[bool, Flag] = False, undo: Annotated[bool, Flag] = False, home: Path = Path("~"), json: JsonFlag = False,
) -> None:  # fmt: skip
    """Set an editor up for suggestions of `apprentice serve`.

    Parameters
    ----------
    name
        `zed`, `continue`, or `llama.vim` for Vim and Neovim.
    url
        Where the server answers.
    with_key
        It asks for a key. The key is not written: you are told where the editor looks for it.
    dry_run
        Show what would be written, and write nothing.
    undo
        Put back what was there before.
    home
        Folder of the settings.
    """
    from apprentice.core.errors import ConfigError
    from apprentice.core.text_safety import terminal_safe
    from apprentice.model.base import cache_folder
    from apprentice.serve import clients

    if not name:
        raise ConfigError("which editor shall be connected?", hint=clients.HINT)
    kept = cache_folder() / "connect"
    if undo:
        paths = [str(path) for path in clients.undo(name, kept, dry_run=dry_run)]
        said = "would be as before" if dry_run else "as before"
        value = {"restored": list[str]() if dry_run else paths, "files": paths}
        print_result(value, json_output=json, text=lambda: "\n".join(terminal_safe(f"{said}: {path}", single_line=True) for path in paths))
        return
    config = os.environ.get("XDG_CONFIG_HOME") if home == Path("~") else None
    home = home.expanduser()
    changes = clients.plan(name, clients.Folders(home, Path(config) if config else home / ".config"), clients.Server(url, has_key=with_key))
    if not dry_run:
        clients.write(name, changes, kept)
    value: dict[str, object] = {"written": not dry_run, "files": [{"path": str(change.path), "diff": change.diff()} for change in changes]}
    shown = "".join(change.diff() for change in changes) or f"{name} is connected to {url} already"
    if with_key:
        value["key"] = clients.KEY_PLACES[name]
        shown += f"\nthe key: {clients.KEY_PLACES[name]}"
    print_result(value, json_output=json, text=lambda: terminal_safe(shown).rstrip("\n"))
    options = f" --url {shlex.quote(url)}" * (url != URL) + " --with-key" * with_key
    if not json and (dry_run or url == URL):
        print_next(f"apprentice connect {name}{options}" if dry_run else "apprentice serve")
