import contextlib
import errno
import json
from pathlib import Path
from typing import Any

import pytest

from apprentice.core import artifacts, files
from apprentice.core.errors import HostileInputError, InputError, InternalError, StorageError
from apprentice.core.fakes import FailingOperations


def make(folder: Path, text: str = "rows", **changes: Any) -> artifacts.Manifest:
    given: dict[str, Any] = {"kind": "examples", "version": 1, "parents": {"sessions": "ab"}, "config": {"window": (1, 2)}}
    with artifacts.create(folder, **{**given, **changes}) as writer:
        files.write_text(writer.path("train/a.jsonl"), text)
        files.write_text(writer.path("log.jsonl"), str(folder))
        return writer.finish(seed=7, counts={"train": 1}, dropped={"generated": 2}, volatile=["log.*"])


def test_a_manifest_reads_back_as_written(tmp_path: Path) -> None:
    manifest = make(tmp_path / "a")
    assert artifacts.read(tmp_path / "a", kind="examples") == manifest
    assert manifest.counts == {"train": 1}
    assert manifest.dropped == {"generated": 2}
    assert sorted(manifest.files) == ["log.jsonl", "train/a.jsonl"]
    assert artifacts.verify(tmp_path / "a") == []


def test_equal_content_has_an_equal_hash_whatever_the_clock_and_the_place(tmp_path: Path) -> None:
    assert make(tmp_path / "a").hash == make(tmp_path / "b").hash


@pytest.mark.parametrize(
    "change", [{"text": "other"}, {"kind": "memory"}, {"version": 2}, {"parents": {}}, {"config": {"window": (1, 3)}}]
)
def test_any_change_of_content_or_origin_changes_the_hash(tmp_path: Path, change: dict[str, Any]) -> None:
    assert make(tmp_path / "a").hash != make(tmp_path / "b", **change).hash


def test_a_stage_is_stale_when_version_parents_or_config_differ(tmp_path: Path) -> None:
    manifest = make(tmp_path / "a")
    assert manifest.made_from(version=1, parents={"sessions": "ab"}, config={"window": (1, 2)})
    assert not manifest.made_from(version=2, parents={"sessions": "ab"}, config={"window": (1, 2)})
    assert not manifest.made_from(version=1, parents={"sessions": "cd"}, config={"window": (1, 2)})
    assert not manifest.made_from(version=1, parents={"sessions": "ab"}, config={})


def interrupted(folder: Path, *, resume: bool = False, config: dict[str, Any] | None = None) -> list[str]:
    """What an interrupted run found in the folder."""
    found: list[str] = []
    with contextlib.suppress(KeyboardInterrupt):
        with artifacts.create(folder, kind="examples", version=1, config=config or {"a": 1}, resume=resume) as writer:
            found += sorted(path.name for path in folder.iterdir() if path.name != artifacts.UNFINISHED)
            assert writer.resumed == bool(found)
            files.write_text(writer.path("part"), "x")
            raise KeyboardInterrupt
    return found


def test_an_unfinished_artifact_is_resumed_only_with_the_same_inputs(tmp_path: Path) -> None:
    interrupted(tmp_path)
    assert not artifacts.is_finished(tmp_path)
    assert interrupted(tmp_path, resume=True) == ["part"]
    assert interrupted(tmp_path, resume=True, config={"a": 2}) == []
    assert interrupted(tmp_path) == []


def test_a_finished_artifact_is_made_anew_not_added_to(tmp_path: Path) -> None:
    make(tmp_path)
    assert interrupted(tmp_path, resume=True) == []
    assert not artifacts.is_finished(tmp_path)


def test_an_error_names_the_folder_and_the_command(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no `sessions` artifact at") as caught:
        artifacts.read(tmp_path / "none", kind="sessions")
    assert "apprentice sessions read" in (caught.value.hint or "")
    with pytest.raises(InputError, match="has no `manifest.json`"):
        artifacts.read(tmp_path, kind="sessions")
    interrupted(tmp_path)
    with pytest.raises(InputError, match="unfinished"):
        artifacts.read(tmp_path)
    make(tmp_path)
    with pytest.raises(InputError, match="is a `examples` artifact, not a `memory` artifact"):
        artifacts.read(tmp_path, kind="memory")


@pytest.mark.parametrize("content", ["", "[]", '{"kind": 1}', "\x00", '{"format": 99, "kind": "x", "version": 1, "hash": ""}'])
def test_a_damaged_manifest_is_an_error_that_names_it(tmp_path: Path, content: str) -> None:
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(InputError, match="manifest.json"):
        artifacts.read(tmp_path)


def test_an_oversized_manifest_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "manifest.json").open("wb") as stream:
        stream.truncate(artifacts.MAX_MANIFEST_BYTES + 1)
    with pytest.raises(HostileInputError, match="larger than"):
        artifacts.read(tmp_path)


def test_verify_finds_changed_missing_and_added_files(tmp_path: Path) -> None:
    make(tmp_path)
    (tmp_path / "log.jsonl").write_text("changed")
    (tmp_path / "train" / "a.jsonl").unlink()
    (tmp_path / "new").write_text("x")
    assert artifacts.verify(tmp_path) == [
        "`log.jsonl` was changed", "`new` is not in the manifest", "`train/a.jsonl` is missing"
    ]  # fmt: skip


def test_verify_finds_a_manifest_that_was_changed(tmp_path: Path) -> None:
    make(tmp_path)
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "parents": {"sessions": "another"}}))
    assert artifacts.verify(tmp_path) == ["the content hash does not belong to the manifest"]


@pytest.mark.parametrize("name", ["../a", "/a", "a/../../b", "", "manifest.json"])
def test_no_data_file_lies_outside_its_artifact(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="no name of a data file"):
        artifacts.ArtifactWriter(tmp_path, "examples", 1, {}, {}).path(name)


def test_forgetting_to_finish_is_our_own_error(tmp_path: Path) -> None:
    with pytest.raises(InternalError, match="finish"), artifacts.create(tmp_path, kind="examples", version=1):
        pass


def test_after_any_failing_operation_an_artifact_is_whole_or_unfinished(tmp_path: Path) -> None:
    clean = FailingOperations(0, errno.ENOSPC)
    with files.using(clean):
        whole = make(tmp_path / "clean")
    for n in range(1, len(clean.performed) + 1):
        folder = tmp_path / str(n)
        with files.using(FailingOperations(n, errno.ENOSPC)), pytest.raises(StorageError):
            make(folder)
        if artifacts.is_finished(folder):
            assert artifacts.read(folder).hash == whole.hash
            assert artifacts.verify(folder) == []
        assert make(folder).hash == whole.hash


def test_who_begins_anew_in_a_folder_that_it_holds_goes_on_holding_it(tmp_path: Path) -> None:
    make(tmp_path / "a")
    with files.lock(tmp_path / "a"):
        assert make(tmp_path / "a", version=2).version == 2
        with pytest.raises(InputError, match="is in use by"), files.lock(tmp_path / "a"):
            pass
    assert sorted(artifacts.read(tmp_path / "a").files) == ["log.jsonl", "train/a.jsonl"]
