"""`apprentice connect` as it is typed: shown first, then written, and what to do next."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from apprentice.model.base import CACHE_VARIABLE


def apprentice(*words: object, cache: Path) -> subprocess.CompletedProcess[str]:
    """In a process of its own: what is kept for `--undo` lies in the cache that its environment names."""
    command = [sys.executable, "-m", "apprentice", *map(str, words)]
    return subprocess.run(command, env={**os.environ, CACHE_VARIABLE: str(cache)}, capture_output=True, text=True, check=False)


def test_a_dry_run_writes_nothing_and_says_how_to_go_on(tmp_path: Path) -> None:
    words = ("connect", "continue", "--home", tmp_path / "home")
    shown = apprentice(*words, "--dry-run", cache=tmp_path)
    assert "+    apiBase: http://127.0.0.1:8311/v1" in shown.stdout
    assert shown.stderr.endswith("next: apprentice connect continue\n")
    far = apprentice(*words, "--dry-run", "--url", "http://far:1", "--with-key", cache=tmp_path)
    assert far.stderr.endswith("next: apprentice connect continue --url http://far:1 --with-key\n")
    assert not (tmp_path / "home").exists()
    written = apprentice(*words, cache=tmp_path)
    assert written.stderr.endswith("next: apprentice serve\n")
    assert (tmp_path / "home/.continue/config.yaml").is_file()
    assert apprentice(*words, "--undo", cache=tmp_path).returncode == 0
    assert not (tmp_path / "home/.continue/config.yaml").exists()


def test_where_a_key_goes_is_said(tmp_path: Path) -> None:
    words = ("connect", "continue", "--home", tmp_path / "home", "--url", "http://far:1", "--with-key")
    done = apprentice(*words, cache=tmp_path)
    assert "the key: put `APPRENTICE_API_KEY=`" in done.stdout
    # It runs on another machine.
    assert "next:" not in done.stderr
    assert ".continue/.env" in json.loads(apprentice(*words, "--json", cache=tmp_path).stdout)["key"]


def test_an_unknown_editor_is_told_which_there_are(tmp_path: Path) -> None:
    done = apprentice("connect", "emacs", "--home", tmp_path, cache=tmp_path)
    assert done.returncode != 0
    assert "`zed`, `continue`" in done.stderr
