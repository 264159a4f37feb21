"""Editors' settings: what is written into them, what stays, and the way back."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apprentice.core.errors import ConfigError, InputError
from apprentice.serve import clients, jsonc

URL = "http://127.0.0.1:8311"
ZED = """// mine
{
  "theme": "One", // with a "}" in it
  /* and { here */
  "edit_predictions": {
    "disabled_globs": ["**/.env*"],
    "provider": "zed",
  },
  "vim_mode": true,
}
"""


def plain(text: str) -> Any:
    """JSON with comments and commas at the end, read another way."""
    text = re.sub(r'("(?:\\.|[^"\\])*")|//[^\n]*|/\*.*?\*/', lambda found: found[1] or "", text, flags=re.DOTALL)
    return json.loads(re.sub(r",(\s*[}\]])", r"\1", text))


def plan(name: str, home: Path, url: str = URL, *, has_key: bool = False) -> list[clients.Change]:
    return clients.plan(name, clients.Folders(home, home / ".config"), clients.Server(url, has_key=has_key))


def connect(name: str, home: Path, *, has_key: bool = False) -> list[clients.Change]:
    changes = plan(name, home, has_key=has_key)
    clients.write(name, changes, home / "kept")
    return changes


def test_zed_keeps_comments_and_other_settings(tmp_path: Path) -> None:
    path = tmp_path / ".config/zed/settings.json"
    path.parent.mkdir(parents=True)
    path.write_text(ZED)
    (change,) = connect("zed", tmp_path)
    text = path.read_text()
    settings = plain(text)
    assert settings["edit_predictions"]["provider"] == "open_ai_compatible_api"
    assert settings["edit_predictions"]["open_ai_compatible_api"]["api_url"] == URL + "/v1/completions"
    assert settings["edit_predictions"]["disabled_globs"] == ["**/.env*"]
    assert (settings["theme"], settings["vim_mode"]) == ("One", True)
    assert '// with a "}" in it' in text
    assert "/* and { here */" in text
    assert '-    "provider": "zed",' in change.diff()
    assert plan("zed", tmp_path) == []
    assert clients.undo("zed", tmp_path / "kept") == [path]
    assert path.read_text() == ZED


@pytest.mark.parametrize("name", clients.CLIENTS)
def test_where_nothing_was_there_is_nothing_again(tmp_path: Path, name: str) -> None:
    changes = connect(name, tmp_path)
    assert changes
    assert all(URL in change.path.read_text() for change in changes)
    clients.undo(name, tmp_path / "kept")
    assert not any(change.path.exists() for change in changes)


@pytest.mark.parametrize("name", clients.CLIENTS)
def test_a_key_is_named_and_not_written(tmp_path: Path, name: str) -> None:
    written = [change.path.read_text() for change in connect(name, tmp_path, has_key=True)]
    named = {"zed": "", "continue": f"apiKey: ${{{{ secrets.{clients.KEY} }}}}", "llama.vim": f"'api_key': ${clients.KEY}"}[name]
    assert written
    assert all(named in text for text in written)
    assert plan(name, tmp_path, has_key=True) == []
    # Without one, as everybody has it.
    changes = plan(name, tmp_path)
    assert bool(changes) == (name != "zed")
    assert all(clients.KEY not in change.after for change in changes)
    assert name in clients.KEY_PLACES


@pytest.mark.parametrize(
    ("before", "indent"),
    [("name: Mine\nmodels:\n  - name: A\n    provider: ollama\nrules: []\n", "  "), ("models:\n- name: A\n", ""), ("name: Mine\n", "  ")],
)
def test_continue_gets_one_more_model(tmp_path: Path, before: str, indent: str) -> None:
    path = tmp_path / ".continue/config.yaml"
    path.parent.mkdir()
    path.write_text(before)
    connect("continue", tmp_path)
    text = path.read_text()
    assert f"models:\n{indent}- name: Apprentice\n{indent}  provider: openai\n" in text
    assert all(line in text for line in before.splitlines())
    assert plan("continue", tmp_path) == []


def test_llama_vim_is_set_up_for_the_editors_that_are_used(tmp_path: Path) -> None:
    (tmp_path / ".config/nvim").mkdir(parents=True)
    (change,) = connect("llama.vim", tmp_path)
    assert change.path == tmp_path / ".config/nvim/plugin/apprentice.vim"
    assert f"'endpoint_fim': '{URL}/infill'" in change.after
    # A key that newer versions warn of at every start is not in what they read.
    assert "'endpoint':" not in change.after
    # And of the user's own the newer versions would make `endpoint_fim`, in place of ours.
    assert """'v:key !=# "endpoint"'""" in change.after


def test_a_file_that_was_changed_since_is_left_alone(tmp_path: Path) -> None:
    connect("llama.vim", tmp_path)
    path = tmp_path / ".vim/plugin/apprentice.vim"
    path.write_text(path.read_text() + '" mine\n')
    with pytest.raises(InputError, match="was changed since"):
        clients.undo("llama.vim", tmp_path / "kept")
    assert path.read_text().endswith('" mine\n')


def test_undo_goes_back_to_before_the_first_time(tmp_path: Path) -> None:
    connect("llama.vim", tmp_path)
    clients.write("llama.vim", plan("llama.vim", tmp_path, "http://other:1"), tmp_path / "kept")
    assert clients.undo("llama.vim", tmp_path / "kept", dry_run=True) == [tmp_path / ".vim/plugin/apprentice.vim"]
    assert (tmp_path / ".vim/plugin/apprentice.vim").exists()
    clients.undo("llama.vim", tmp_path / "kept")
    assert not (tmp_path / ".vim/plugin/apprentice.vim").exists()


def test_what_was_changed_between_two_times_comes_back(tmp_path: Path) -> None:
    connect("zed", tmp_path)
    path = tmp_path / ".config/zed/settings.json"
    path.write_text(ZED)
    connect("zed", tmp_path)
    clients.undo("zed", tmp_path / "kept")
    assert path.read_text() == ZED


def test_what_was_changed_and_still_has_our_part_is_left_alone(tmp_path: Path) -> None:
    connect("zed", tmp_path)
    path = tmp_path / ".config/zed/settings.json"
    changed = path.read_text().replace("{", '{\n  "theme": "One",', 1)
    path.write_text(changed)
    with pytest.raises(InputError, match="could not take our part out"):
        clients.write("zed", plan("zed", tmp_path, "http://other:1"), tmp_path / "kept")
    assert path.read_text() == changed


def test_undo_after_writing_was_interrupted(tmp_path: Path) -> None:
    for folder in (".config/nvim", ".vim"):
        (tmp_path / folder).mkdir(parents=True)
    first, second = connect("llama.vim", tmp_path)
    second.path.unlink()
    clients.undo("llama.vim", tmp_path / "kept")
    assert not first.path.exists()


def test_links_modes_and_line_breaks_stay(tmp_path: Path) -> None:
    mine = tmp_path / "dotfiles" / "zed.json"
    mine.parent.mkdir()
    mine.write_bytes(ZED.replace("\n", "\r\n").encode())
    mine.chmod(0o600)
    path = tmp_path / ".config/zed/settings.json"
    path.parent.mkdir(parents=True)
    path.symlink_to(mine)
    connect("zed", tmp_path)
    assert path.is_symlink()
    assert mine.stat().st_mode & 0o777 == 0o600
    written = mine.read_bytes()
    assert written.count(b"\n") == written.count(b"\r\n") > ZED.count("\n")
    assert (tmp_path / "kept").stat().st_mode & 0o777 == 0o700
    clients.undo("zed", tmp_path / "kept")
    assert mine.read_bytes() == ZED.replace("\n", "\r\n").encode()


def test_continue_gets_another_address_in_the_same_place(tmp_path: Path) -> None:
    path = tmp_path / ".continue/config.yaml"
    path.parent.mkdir()
    path.write_text("models:\n  - name: A\n    provider: ollama\nrules: []")
    connect("continue", tmp_path)
    (change,) = plan("continue", tmp_path, "http://other:1")
    assert change.after == path.read_text().replace(URL, "http://other:1")


@pytest.mark.parametrize("text", ["models: [{name: A}]\n", '"models":\n  - name: A\n', "{models: []}\n"])
def test_a_list_in_another_style_is_left_to_its_owner(tmp_path: Path, text: str) -> None:
    path = tmp_path / ".continue/config.yaml"
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(InputError, match="not a list with an entry a line"):
        plan("continue", tmp_path)


def test_continue_with_old_settings_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / ".continue").mkdir()
    (tmp_path / ".continue/config.json").write_text("{}")
    with pytest.raises(InputError, match="no longer read"):
        plan("continue", tmp_path)


def test_settings_of_comments_only_and_a_key_twice() -> None:
    assert plain(jsonc.set_key("// mine", ["a"], 1)) == {"a": 1}
    assert jsonc.set_key('{"a": 1, "a": 2}', ["a"], 3) == '{"a": 1, "a": 3}'


def test_bad_settings_and_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"`emacs` is no client.*") as refused:
        plan("emacs", tmp_path)
    assert all(f"`{name}`" in (refused.value.hint or "") for name in clients.CLIENTS)
    with pytest.raises(InputError, match="not connected from here"):
        clients.undo("zed", tmp_path)
    path = tmp_path / ".config/zed/settings.json"
    path.parent.mkdir(parents=True)
    for text in ("[]", '{"a": ', '{"a" 1}', "{", '{"edit_predictions": 1}', "{1: 2}"):
        path.write_text(text)
        with pytest.raises(InputError, match=r"settings\.json"):
            plan("zed", tmp_path)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=9,
)


@given(st.dictionaries(st.sampled_from(["a", "b", 'c"{', "//d"]), VALUES, max_size=4), st.integers(0, 3), VALUES)
def test_a_key_is_set_and_the_rest_stays(settings: dict[str, Any], indent: int, value: Any) -> None:
    found = json.loads(jsonc.set_key(json.dumps(settings, indent=indent or None), ["a"], value))
    assert found == settings | {"a": value}
    if not isinstance(settings.get("b"), dict) and "b" in settings:
        return
    found = json.loads(jsonc.set_key(json.dumps(settings, indent=indent or None), ["b", "x"], value))
    assert found == settings | {"b": settings.get("b", {}) | {"x": value}}


@given(st.text(alphabet='{}[]",:/*\\ \nab1', max_size=30))
def test_any_text_is_set_or_refused(text: str) -> None:
    try:
        jsonc.set_key(text, ["a", "b"], 1)
    except InputError:
        return


@pytest.mark.parametrize("url", [URL, f"{URL}/", f"{URL}/v1", f"{URL}/v1/"])
@pytest.mark.parametrize("name", clients.CLIENTS)
def test_the_address_that_serve_says_is_taken_too(tmp_path: Path, name: str, url: str) -> None:
    assert [change.after for change in plan(name, tmp_path, url)] == [change.after for change in plan(name, tmp_path)]
