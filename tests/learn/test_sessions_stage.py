"""Reading into the artifact of a run: again, and only what is new."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.conftest import GitRepository
from tests.sessions.readers.test_specstory import HEAD, agent, user

from apprentice.core import artifacts, files
from apprentice.core.errors import InputError
from apprentice.core.progress import Silent
from apprentice.learn.config import LearnConfig
from apprentice.learn.sources import Source
from apprentice.learn.stages import sessions as stage
from apprentice.sessions.bundle import export_bundle
from apprentice.sessions.forget import Whose
from apprentice.sessions.policy import Policy
from apprentice.sessions.store import Sessions


def test_a_repository_that_is_named_after_a_person(new_repository: Callable[..., GitRepository], tmp_path: Path) -> None:
    repository = new_repository("Grace Hopper")
    repository.commit("one", author="Grace Hopper <grace@example.org>", a_py="1\n")

    def read() -> Sessions:
        return stage.read([Source("git", repository.path, "")], tmp_path / "sessions", LearnConfig(), Policy(), Silent())

    first = read()
    assert "Hopper" not in first.folder.joinpath("manifest.json").read_text()
    assert "Hopper" not in repr(list(first.sessions()))
    # It is found again under the name that it has there: nothing is read, then only the new commit.
    assert read().manifest.hash == first.manifest.hash
    repository.commit("two", author="Grace Hopper <grace@example.org>", a_py="2\n")
    streams = read().streams()
    assert [stream.sessions for stream in streams] == [1, 1]
    assert streams[0].repository == streams[1].repository == first.repositories()[0]


def test_a_branch_that_is_merged_late_stands_where_its_time_is(new_repository: Callable[..., GitRepository], tmp_path: Path) -> None:
    repository, target = new_repository("project"), tmp_path / "sessions"

    def read() -> list[str]:
        sessions = stage.read([Source("git", repository.path, "")], target, LearnConfig(), Policy(), Silent())
        return [session.intent for session in sessions.sessions()]

    repository.commit("one", a_py="1\n")
    repository.git("checkout", "-q", "-b", "side")
    repository.commit("aside", b_py="1\n")
    repository.git("checkout", "-q", "-")
    repository.commit("two", a_py="2\n")
    assert read() == ["one", "two"]
    repository.commit("three", a_py="3\n")
    assert read() == ["one", "two", "three"]
    # Only what is new was read.
    assert len(Sessions.open(target).streams()) == 2
    repository.git("merge", "-q", "-m", "Merge", "side")
    assert read() == ["one", "aside", "two", "three"]
    assert len(Sessions.open(target).streams()) == 1


def test_what_a_killed_reading_left_is_not_taken_and_goes(new_repository: Callable[..., GitRepository], tmp_path: Path) -> None:
    repository, target = new_repository("project"), tmp_path / "sessions"
    repository.commit("one", author="Grace Hopper <grace@example.org>", a_py="1\n")
    left = [target.with_name(f"sessions.{name}") for name in ("next", "again", "told", "old")]

    def read() -> Sessions:
        return stage.read([Source("git", repository.path, "")], target, LearnConfig(), Policy(), Silent())

    first = read()
    # Killed before it was looked through once more: it is read again, whatever it says.
    files.rename(target, left[0])
    manifest = json.loads((left[0] / "manifest.json").read_text())
    files.write_json(left[0] / "manifest.json", manifest | {"created": "never"})
    for folder in left[1:3]:
        files.make_folder(folder)
        files.write_text(folder / "000000", "words of somebody")
    again = read()
    assert (again.hash, again.manifest.created == "never") == (first.hash, False)
    assert not any(folder.exists() for folder in left)
    # Killed between the two steps of a swap: the new one is whole.
    files.rename(target, left[3])
    shutil.copytree(left[3], left[0])
    files.write_json(left[0] / "manifest.json", manifest | {"created": "whole"})
    assert read().manifest.created == "whole"
    for folder in left:
        files.make_folder(folder)
        files.write_text(folder / "000000", "words of somebody")
    with pytest.raises(InputError, match="nothing of that source"):
        stage.forget(target, Whose(source="claude_code"))
    assert not any(folder.exists() for folder in left)


def test_talks_of_one_tool_from_two_places_are_in_order_and_told_once(tmp_path: Path) -> None:
    ours, theirs, bundle = tmp_path / "ours", tmp_path / "theirs", tmp_path / "team.sessions"

    def talk(folder: Path, day: int) -> None:
        files.make_folder(folder)
        text = (HEAD + user("go") + agent("done")).replace("id-1", f"id-{day}").replace("2026-01-02", f"2026-01-0{day}")
        (folder / f"{day}.md").write_text(text)

    def read(*sources: Path, into: str) -> Sessions:
        return stage.read([Source("sessions", path, "") for path in sources], tmp_path / into, LearnConfig(), Policy(), Silent())

    for day in (1, 3):
        talk(theirs, day)
    for day in (1, 2):
        talk(ours, day)
    # Whatever a bundle is called.
    export_bundle(read(theirs, into="first"), bundle)
    talks = list(read(bundle, ours, into="second").talks())
    assert [session.id.partition("id-")[2][:1] for session in talks] == ["1", "2", "3"]
    # One that went on since is another one.
    (ours / "1.md").write_text((ours / "1.md").read_text() + user("more").replace("2026-01-02", "2026-01-01"))
    assert [session.id.partition("id-")[2][:1] for session in read(bundle, ours, into="third").talks()] == ["1", "1", "2", "3"]


def test_a_bundle_and_then_the_repository_of_the_same_name(new_repository: Callable[..., GitRepository], tmp_path: Path) -> None:
    repository, bundle, target = new_repository("engine"), tmp_path / "team.zst", tmp_path / "sessions"
    repository.commit("one", a_py="1\n")

    def read(*sources: Source) -> Sessions:
        return stage.read(sources, target, LearnConfig(), Policy(), Silent())

    ours, theirs = Source("git", repository.path, ""), Source("sessions", bundle, "")
    export_bundle(read(ours), bundle)
    for sources, names in (([theirs], ["engine"]), ([ours], ["engine"]), ([ours, theirs], ["engine", "engine-2"])):
        assert read(*sources).repositories() == names


def test_only_files_that_stayed_as_they_were_need_no_second_look(tmp_path: Path) -> None:
    for folder, texts in (("before", {"a": "1", "b": "1", "c": "1"}), ("after", {"a": "1", "b": "2", "d": "1"})):
        with artifacts.create(tmp_path / folder, kind="sessions", version=1) as artifact:
            for name, text in texts.items():
                files.write_text(artifact.path(name), text)
            artifact.finish()
    assert stage.as_before(tmp_path / "before", tmp_path / "after") == {"a"}
