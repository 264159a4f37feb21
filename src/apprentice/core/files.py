"""Every write of Apprentice: a file is either as it was or as it should be, never between.

    data --> hidden temporary file beside the target --> fsync --> rename over the target --> fsync of the folder

An interrupted write leaves the old file and perhaps a hidden `.NAME.tmp-...`, which `remove_leftovers` clears.
Appending (`append_line`) is the one exception: a line that was torn by a crash is cut off before the next is added,
and `read_lines` does not show it. Each primitive operation goes through one `Operations` object, so that a test can make
the N-th one fail for every N (the method of SQLite's tests): see `core.fakes.FailingOperations`.

An `OSError` comes out as `StorageError`, which names the file and what to do. Reading needs no such care and is done with
`pathlib`. Left out: Windows, where folders cannot be fsynced.
"""

from __future__ import annotations

import contextlib
import errno
import io
import itertools
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import filelock

from apprentice.core.errors import InputError, StorageError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_TEMPORARY = ".tmp-"
_LOCK, _HOLDER = ".lock", ".lock-holder.json"
_BUFFER_BYTES = 1 << 20
_numbers = itertools.count()


class Operations:
    """The primitive operations as the operating system does them."""

    def open(self, path: Path, flags: int) -> int:
        return os.open(path, flags | getattr(os, "O_CLOEXEC", 0), 0o666)

    def write(self, descriptor: int, data: ReadableBuffer, path: Path) -> int:
        return os.write(descriptor, data)

    def truncate(self, descriptor: int, size: int, path: Path) -> None:
        os.ftruncate(descriptor, size)

    def fsync(self, descriptor: int, path: Path) -> None:
        os.fsync(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        source.replace(target)

    def unlink(self, path: Path) -> None:
        path.unlink()

    def mkdir(self, path: Path) -> None:
        path.mkdir()

    def rmdir(self, path: Path) -> None:
        path.rmdir()


_operations = Operations()


@contextlib.contextmanager
def using(operations: Operations) -> Iterator[None]:
    """Let all writes of this process, in every thread, go through `operations`. For tests."""
    global _operations
    before, _operations = _operations, operations
    try:
        yield
    finally:
        _operations = before


@contextlib.contextmanager
def open_write(path: Path) -> Iterator[BinaryIO]:
    """A binary file for writing that takes the place of `path` when the block ends well, and vanishes otherwise."""
    temporary = path.with_name(f".{path.name}{_TEMPORARY}{os.getpid()}-{next(_numbers)}")
    with _storage_errors("write", path):
        raw = _Descriptor(_operations.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL), temporary, path)
    try:
        stream = io.BufferedWriter(raw, _BUFFER_BYTES)
        yield stream
        if not stream.closed:
            stream.flush()
        with _storage_errors("write", path):
            _operations.fsync(raw.descriptor, temporary)
            raw.release()
            _operations.rename(temporary, path)
            _fsync_folder(path.parent)
    except BaseException:
        raw.release()
        with contextlib.suppress(OSError):
            _operations.unlink(temporary)
        raise


def write_bytes(path: Path, data: ReadableBuffer) -> None:
    """Replace the file's content as a whole."""
    with open_write(path) as stream:
        stream.write(data)


def write_text(path: Path, text: str) -> None:
    """Replace the file's content as a whole, UTF-8, line breaks as they are."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Replace the file with readable JSON (keys in the order given, so equal values give equal bytes)."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def copy_file(source: Path, target: Path) -> None:
    """Copy the content."""
    with source.open("rb") as stream, open_write(target) as copy:
        shutil.copyfileobj(stream, copy, _BUFFER_BYTES)


def append_line(path: Path, text: str) -> None:
    """Add one line (without its line break), on disk when this returns. All of it or nothing."""
    if "\n" in text:
        raise ValueError("a line contains no line break")
    with _storage_errors("append to", path):
        descriptor = _operations.open(path, os.O_RDWR | os.O_CREAT)
        try:
            size = _whole_lines_size(descriptor)
            if size < os.fstat(descriptor).st_size:
                _operations.truncate(descriptor, size, path)
            os.lseek(descriptor, size, os.SEEK_SET)
            try:
                _write_all(descriptor, text.encode() + b"\n", path)
                _operations.fsync(descriptor, path)
            except OSError:
                with contextlib.suppress(OSError):
                    _operations.truncate(descriptor, size, path)
                raise
        finally:
            _close(descriptor)


def read_lines(path: Path) -> Iterator[str]:
    """The whole lines of a file made by `append_line`, without line breaks; none where there is no file."""
    if not path.exists():
        return
    # As bytes: a torn last line may end inside a character.
    with path.open("rb") as stream:
        for line in stream:
            if line.endswith(b"\n"):
                yield line[:-1].decode()


def make_folder(path: Path) -> Path:
    """Create a folder with its parents where missing."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    with _storage_errors("create", path):
        if path.exists() and not path.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
        for folder in reversed(missing):
            with contextlib.suppress(FileExistsError):
                _operations.mkdir(folder)
            _fsync_folder(folder.parent)
    return path


def rename(source: Path, target: Path) -> None:
    """Move within one file system; a file at the target is replaced."""
    with _storage_errors("rename to", target):
        _operations.rename(source, target)
        _fsync_folder(target.parent)
        if source.parent != target.parent:
            _fsync_folder(source.parent)


def remove_file(path: Path) -> None:
    """Remove a file or link, if it is there."""
    with _storage_errors("remove", path), contextlib.suppress(FileNotFoundError):
        _operations.unlink(path)


def remove_tree(path: Path, *, first: tuple[str, ...] = ("manifest.json",), keep_root: bool = False) -> None:
    """Remove a folder and all in it, never following links. The files named `first` at its top go first, so that an
    interrupted removal leaves no folder that looks finished. `keep_root`: the folder stays, and whoever holds its lock holds it still."""
    with _storage_errors("remove", path):
        if path.is_symlink() or path.is_file():
            _operations.unlink(path)
        elif path.exists():
            for name in first:
                with contextlib.suppress(FileNotFoundError):
                    _operations.unlink(path / name)
            _remove_below(path, kept=(_LOCK, _HOLDER) if keep_root else ())
            if not keep_root:
                _operations.rmdir(path)
            _fsync_folder(path if keep_root else path.parent)


def remove_leftovers(folder: Path) -> int:
    """Remove the temporary files that interrupted writes left under a folder; how many there were."""
    leftovers = [path for path in folder.rglob(f".*{_TEMPORARY}*") if not path.is_dir()]
    for path in leftovers:
        remove_file(path)
    return len(leftovers)


def is_temporary(path: Path) -> bool:
    """Whether the file is an unfinished write of this module."""
    return path.name.startswith(".") and _TEMPORARY in path.name


@contextlib.contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Hold a folder alone. Raises: InputError naming who holds it. The lock of a killed process is free at once."""
    make_folder(folder)
    holder = folder / _HOLDER
    guard = filelock.FileLock(folder / _LOCK, timeout=0)
    with _storage_errors("lock", folder):
        try:
            guard.acquire()
        except filelock.Timeout:
            raise _held(folder, holder) from None
    try:
        write_json(holder, {"process": os.getpid(), "command": _command(), "since": time.strftime("%Y-%m-%d %H:%M:%S")})
        yield
    finally:
        with contextlib.suppress(StorageError):
            remove_file(holder)
        guard.release()


class _Descriptor(io.RawIOBase):
    """The raw end of a buffered writer; each write is one operation."""

    def __init__(self, descriptor: int, temporary: Path, path: Path) -> None:
        self.descriptor, self._temporary, self._path = descriptor, temporary, path

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def write(self, data: ReadableBuffer, /) -> int:
        if self.descriptor < 0:
            # A buffer that outlives a failure is flushed once more when it is collected.
            return memoryview(data).nbytes
        with _storage_errors("write", self._path):
            return _operations.write(self.descriptor, data, self._temporary)

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        return os.lseek(self.descriptor, offset, whence)

    def tell(self) -> int:
        return os.lseek(self.descriptor, 0, os.SEEK_CUR)

    def release(self) -> None:
        if self.descriptor >= 0:
            _close(self.descriptor)
        self.descriptor = -1


@contextlib.contextmanager
def _storage_errors(action: str, path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise StorageError(f"cannot {action} `{path}`: {reason}", hint=_hint(error.errno, path)) from error


def _hint(code: int | None, path: Path) -> str:
    folder = path.parent
    if code in (errno.ENOSPC, errno.EDQUOT):
        return f"free some space ({_free_space(folder)} left in `{folder}`), then run the same command again"
    if code in (errno.EACCES, errno.EPERM):
        return f"make `{folder}` writable for you (see `ls -ld {folder}`), or choose another folder with `--out`"
    if code == errno.EROFS:
        return f"`{folder}` is on a read-only file system; choose another folder with `--out`"
    if code == errno.EIO:
        return f"the disk that holds `{folder}` reports errors; check it, then run the same command again"
    if code in (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP):
        return f"check the path `{path}`, or choose another folder with `--out`"
    return "run the same command again once this is mended; what was written before stays as it was"


def _free_space(folder: Path) -> str:
    try:
        return f"{shutil.disk_usage(folder).free / 2**20:,.0f} MiB"
    except OSError:
        return "an unknown amount"


def _fsync_folder(folder: Path) -> None:
    descriptor = _operations.open(folder, os.O_RDONLY)
    try:
        _operations.fsync(descriptor, folder)
    finally:
        _close(descriptor)


def _write_all(descriptor: int, data: bytes, path: Path) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[_operations.write(descriptor, rest, path) :]


def _whole_lines_size(descriptor: int) -> int:
    """The size of the file up to and with its last line break."""
    end = os.fstat(descriptor).st_size
    while end > 0:
        start = max(0, end - 65536)
        at = os.pread(descriptor, end - start, start).rfind(b"\n")
        if at >= 0:
            return start + at + 1
        end = start
    return 0


def _remove_below(folder: Path, kept: tuple[str, ...] = ()) -> None:
    for entry in sorted(folder.iterdir()):
        if entry.name in kept:
            continue
        if entry.is_dir() and not entry.is_symlink():
            _remove_below(entry)
            _operations.rmdir(entry)
        else:
            _operations.unlink(entry)


def _close(descriptor: int) -> None:
    with contextlib.suppress(OSError):
        os.close(descriptor)


def _command() -> str:
    """The program and its command words; not the rest, which may hold what is nobody's business."""
    return " ".join([Path(sys.argv[0]).name, *itertools.takewhile(lambda word: word.isalpha(), sys.argv[1:3])])


def _held(folder: Path, holder: Path) -> InputError:
    who, fix = "another process", "wait until it has ended"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        facts = json.loads(holder.read_text(encoding="utf-8"))
        who = f"`{facts['command']}` (process {int(facts['process'])}, since {facts['since']})"
        fix = f"wait until it has ended, or end it: `kill {int(facts['process'])}`"
    return InputError(f"`{folder}` is in use by {who}", hint=fix)
