import errno
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from apprentice.core import files
from apprentice.core.errors import InputError, StorageError
from apprentice.core.fakes import FailingOperations


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*"))


def test_a_written_file_holds_what_was_written_and_leaves_nothing_else(tmp_path: Path) -> None:
    files.write_text(tmp_path / "a.txt", "one\r\ntwo\n")
    assert (tmp_path / "a.txt").read_bytes() == b"one\r\ntwo\n"
    assert names(tmp_path) == ["a.txt"]


def test_json_is_readable_and_equal_for_equal_values(tmp_path: Path) -> None:
    files.write_json(tmp_path / "a.json", {"ä": [1, 2.5]})
    files.write_json(tmp_path / "b.json", {"ä": [1, 2.5]})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"ä": [1, 2.5]}
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_numbers_that_json_does_not_have_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        files.write_json(tmp_path / "a.json", {"loss": float("nan")})


def fail_while_writing(path: Path, error: Exception) -> None:
    with files.open_write(path) as stream:
        stream.write(b"new" * 1_000_000)
        raise error


def test_a_block_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    files.write_text(path, "old")
    with pytest.raises(KeyError):
        fail_while_writing(path, KeyError())
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a"]


def test_an_error_of_the_callers_own_reading_is_not_blamed_on_the_written_file(tmp_path: Path) -> None:
    with pytest.raises(ConnectionResetError):
        fail_while_writing(tmp_path / "a", ConnectionResetError(errno.ECONNRESET, "reset by peer"))


def test_a_stream_can_tell_where_it_is_and_may_be_closed_by_a_library(tmp_path: Path) -> None:
    with files.open_write(tmp_path / "a") as stream:
        stream.write(b"head")
        assert stream.tell() == 4
        stream.seek(0)
        stream.write(b"H")
        stream.close()
    assert (tmp_path / "a").read_bytes() == b"Head"


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EACCES])
def test_after_any_failing_operation_a_file_is_old_or_new(tmp_path: Path, code: int, persistent: bool) -> None:
    path, big = tmp_path / "a", b"n" * (3 << 20)
    files.write_bytes(path, b"old")
    clean = FailingOperations(0, code)
    with files.using(clean):
        files.write_bytes(path, big)
    assert len(clean.performed) >= 6
    for n in range(1, len(clean.performed) + 1):
        files.write_bytes(path, b"old")
        with files.using(FailingOperations(n, code, persistent=persistent)), pytest.raises(StorageError) as caught:
            files.write_bytes(path, big)
        assert path.read_bytes() in (b"old", big)
        assert str(path) in caught.value.message
        assert caught.value.hint
        if not persistent:
            assert names(tmp_path) == ["a"]
        files.remove_leftovers(tmp_path)
        assert names(tmp_path) == ["a"]


def test_a_full_disk_is_named_with_the_space_that_is_left(tmp_path: Path) -> None:
    with files.using(FailingOperations(1, errno.ENOSPC)), pytest.raises(StorageError) as caught:
        files.write_text(tmp_path / "a", "x")
    assert caught.value.message == f"cannot write `{tmp_path / 'a'}`: No space left on device"
    assert "MiB left" in (caught.value.hint or "")
    assert caught.value.exit_code == 2


def test_a_missing_folder_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no/a"):
        files.write_text(tmp_path / "no" / "a", "x")


def test_lines_are_appended_whole(tmp_path: Path) -> None:
    path = tmp_path / "log"
    assert list(files.read_lines(path)) == []
    files.append_line(path, "one")
    files.append_line(path, "zwei\u2028ü")
    assert list(files.read_lines(path)) == ["one", "zwei\u2028ü"]
    with pytest.raises(ValueError, match="line break"):
        files.append_line(path, "a\nb")


@pytest.mark.parametrize("torn", ["half a li", "x" * 200_000])
def test_a_torn_line_is_not_read_and_gives_way_to_the_next(tmp_path: Path, torn: str) -> None:
    path = tmp_path / "log"
    path.write_text("one\n" + torn)
    assert list(files.read_lines(path)) == ["one"]
    files.append_line(path, "two")
    assert path.read_text() == "one\ntwo\n"


def test_after_any_failing_append_the_line_is_there_or_not(tmp_path: Path) -> None:
    path = tmp_path / "log"
    for n in range(1, 4):
        path.write_text("one\n")
        with files.using(FailingOperations(n, errno.ENOSPC)), pytest.raises(StorageError):
            files.append_line(path, "two")
        assert path.read_text() == "one\n"


def test_folders_are_made_with_their_parents_and_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    assert files.make_folder(tmp_path / "a" / "b").is_dir()
    files.make_folder(tmp_path / "a" / "b")
    files.write_text(tmp_path / "file", "")
    with pytest.raises(StorageError, match="file"):
        files.make_folder(tmp_path / "file")
    with pytest.raises(StorageError, match="file"):
        files.make_folder(tmp_path / "file" / "below")


def test_a_removed_tree_takes_no_linked_file_with_it(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("x")
    tree = tmp_path / "tree"
    files.make_folder(tree / "deep")
    (tree / "deep" / "link").symlink_to(outside)
    (tree / "file").write_text("x")
    files.remove_tree(tree)
    assert not tree.exists()
    assert (outside / "kept").exists()
    files.remove_tree(tree)


def test_an_interrupted_removal_never_leaves_a_manifest_behind(tmp_path: Path) -> None:
    for n in range(2, 7):
        tree = tmp_path / str(n)
        files.make_folder(tree / "a")
        for name in ("a/x", "b", "manifest.json"):
            (tree / name).write_text("x")
        with files.using(FailingOperations(n, errno.EIO)), pytest.raises(StorageError):
            files.remove_tree(tree)
        assert not (tree / "manifest.json").exists()


def test_a_rename_replaces_and_a_copy_is_equal(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(os.urandom(100_000))
    (tmp_path / "b").write_text("old")
    files.copy_file(tmp_path / "a", tmp_path / "c")
    files.rename(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == (tmp_path / "c").read_bytes()
    assert names(tmp_path) == ["b", "c"]


HOLD = """
import sys
from pathlib import Path
from apprentice.core import files
with files.lock(Path(sys.argv[-1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_lock_names_its_holder_and_dies_with_it(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert isinstance(other.stdout, io.TextIOBase)
        assert other.stdout.readline() == "held\n"
        with pytest.raises(InputError, match=str(other.pid)) as caught, files.lock(tmp_path):
            pass
        assert f"kill {other.pid}" in (caught.value.hint or "")
        other.kill()
    with files.lock(tmp_path):
        pass
