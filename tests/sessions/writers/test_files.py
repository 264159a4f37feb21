from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.sessions.writers.conftest import talk

from apprentice.core import artifacts
from apprentice.core import files as core_files
from apprentice.core.errors import InputError, StorageError
from apprentice.core.fakes import FailingOperations
from apprentice.core.progress import Silent
from apprentice.sessions.policy import Policy
from apprentice.sessions.readers import files as readers
from apprentice.sessions.store import KIND, VERSION, Sessions, SessionsWriter
from apprentice.sessions.writers import files
from apprentice.sessions.writers.files import FORMS
from apprentice.text.redaction import Redactor

Store = Callable[..., Sessions]


@pytest.mark.parametrize("form", FORMS)
def test_all_conversations_are_written_oldest_first(store: Store, tmp_path: Path, form: str) -> None:
    sessions = store(talk("a"), talk("b", agent="codex", start=1_700_000_100.0))
    policy = Policy(learn_from=("developer", "assistant:claude"))
    done = files.export(sessions, form, tmp_path / "out", policy)
    written = sorted((tmp_path / "out").iterdir()) if (tmp_path / "out").is_dir() else [tmp_path / "out"]
    assert (done.conversations, done.replies, done.marked) == (2, 6, 3)
    assert done.bytes == sum(path.stat().st_size for path in written)
    assert done.left_out["navigation"] == 2
    texts = [path.read_text(encoding="utf-8") for path in written]
    assert "".join(texts).index('"a"') < "".join(texts).index('"b"')
    if len(written) > 1:
        assert [path.stem for path in written] == ["00001", "00002"]
    assert files.export(sessions, form, tmp_path / "newest", policy, newest=1).marked == 0


@pytest.mark.parametrize("form", FORMS)
def test_nothing_is_left_where_it_would_be_too_large_or_there_is_nothing(store: Store, tmp_path: Path, form: str) -> None:
    with pytest.raises(InputError, match="more than 2,000 bytes"):
        files.export(store(talk("a"), talk("b")), form, tmp_path / "out", Policy(), max_bytes=2000)
    with pytest.raises(InputError, match="holds no conversations"):
        files.export(store(into="empty"), form, tmp_path / "out", Policy())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "sessions"]


@pytest.mark.parametrize("form", FORMS)
def test_a_disk_that_fills_up_leaves_nothing(store: Store, tmp_path: Path, form: str) -> None:
    sessions = store(talk("a"), talk("b"))
    counting = FailingOperations(0, errno.ENOSPC)
    with core_files.using(counting):
        files.export(sessions, form, tmp_path / "whole", Policy())
    places = [number for number, (operation, _) in enumerate(counting.performed, 1) if operation == "write"]
    for number in places:
        with core_files.using(FailingOperations(number, errno.ENOSPC)), pytest.raises(StorageError):
            files.export(sessions, form, tmp_path / "out", Policy())
        assert sorted(path.name for path in tmp_path.iterdir()) == ["sessions", "whole"]


def test_a_folder_that_is_there_is_not_written_over(store: Store, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("x")
    for form in ("atif", "traces"):
        with pytest.raises(InputError, match="is there already"):
            files.export(store(talk("a"), into=form), form, tmp_path / "out", Policy())
    with pytest.raises(InputError, match="is a folder"):
        files.export(store(talk("a")), "messages", tmp_path / "out", Policy())
    assert (tmp_path / "out" / "mine").read_text() == "x"


def test_exported_trajectories_are_found_and_read_into_a_store(store: Store, tmp_path: Path) -> None:
    sessions = store(talk("a"), talk("b", start=1_700_000_100.0))
    files.export(sessions, "atif", tmp_path / "out", Policy())
    found = readers.find([tmp_path / "out"])
    assert {source: len(paths) for source, paths in found.items()} == {"atif": 2}
    with artifacts.create(tmp_path / "again", kind=KIND, version=VERSION) as artifact, SessionsWriter(artifact, Redactor()) as writer:
        readers.read(found, writer, Silent())
        writer.finish(config={}, policy=Policy())
    again = Sessions.open(tmp_path / "again")
    assert [one.id for one in again.talks()] == ["a", "b"]
    assert [one.repository for one in again.talks()] == ["engine", "engine"]
    assert json.loads((tmp_path / "again" / "manifest.json").read_text())["extra"]["policy"]["terms"][0]["source"] == "atif"
