"""A git process that can be trusted to end: no inherited environment, bounded output, a limit on silence.

Everything that git may read of the user's or the machine's configuration is switched off, as is everything that would
start another program: hooks, monitors, pagers, external diffs, text conversions, credential helpers, transports. Reads
wait at most `silence_s` for the next byte, then the process is killed and the reader told which command hung.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import subprocess
import threading
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType

from apprentice.core.errors import InputError, MissingPieceError
from apprentice.core.text_safety import shorten

SILENCE_S = 120.0
"""Longest wait for the next byte of a git process, in seconds."""
DAMAGED_REPOSITORY = "check the repository with `git fsck`"
_CHUNK = 1 << 18

_SAFE_CONFIG = (
    "core.fsmonitor=false",
    "core.hooksPath=" + os.devnull,
    "core.pager=cat",
    "core.editor=false",
    "core.askPass=false",
    "core.sshCommand=false",
    "core.gitProxy=false",
    "core.attributesFile=" + os.devnull,
    "core.excludesFile=" + os.devnull,
    "core.alternateRefsCommand=false",
    "core.commitGraph=false",
    "core.bigFileThreshold=1m",
    "core.quotePath=false",
    "credential.helper=",
    "diff.external=",
    "diff.orderFile=" + os.devnull,
    "diff.renameLimit=400",
    "gpg.program=false",
    "log.showSignature=false",
    "protocol.allow=never",
    "submodule.recurse=false",
    "safe.directory=*",
)

_SAFE_ENVIRONMENT = {
    "LC_ALL": "C",
    "HOME": os.devnull,
    "XDG_CONFIG_HOME": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_SYSTEM": os.devnull,
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_GRAFT_FILE": os.devnull,
    "GIT_ALLOW_PROTOCOL": "",
    "GIT_PAGER": "cat",
    "GIT_ASKPASS": "false",
    "GIT_SSH_COMMAND": "false",
    "GIT_LITERAL_PATHSPECS": "1",
    "GIT_FLUSH": "1",
}
_KEPT_ENVIRONMENT = ("PATH", "SYSTEMROOT", "TMPDIR", "TEMP", "TMP", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")


def command(arguments: Sequence[str]) -> list[str]:
    """The whole command line of a hardened call."""
    settings = [part for setting in _SAFE_CONFIG for part in ("-c", setting)]
    return ["git", "--no-pager", "--no-replace-objects", *settings, *arguments]


def environment(extra: Mapping[str, str]) -> dict[str, str]:
    """The whole environment of a hardened call: nothing of ours but the search path and the temporary folder."""
    kept = {name: os.environ[name] for name in _KEPT_ENVIRONMENT if name in os.environ}
    return {**kept, **_SAFE_ENVIRONMENT, **extra}


class GitProcess:
    """One running git command with buffered, bounded reads of its output. A context manager: leaving it ends it."""

    def __init__(
        self, arguments: Sequence[str], extra_environment: Mapping[str, str], *, silence_s: float = SILENCE_S
    ) -> None:
        self.name = "git " + next((word for word in arguments if not word.startswith("-")), "")
        self._silence_s = silence_s
        self._complaint = bytearray()
        self._buffer = bytearray()
        self._at = 0
        self._feeder: threading.Thread | None = None
        try:
            self._process = subprocess.Popen(
                command(arguments),
                env=environment(extra_environment),
                cwd=os.sep,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,
            )
        except FileNotFoundError as error:
            raise MissingPieceError(
                "`git` is not installed", hint="install git, for example `apt-get install git`"
            ) from error
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._stdin, self._stdout, self._stderr = self._process.stdin, self._process.stdout, self._process.stderr
        self._listener = threading.Thread(target=self._listen, name=f"listen to {self.name}", daemon=True)
        self._listener.start()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._stdout, selectors.EVENT_READ)

    def __enter__(self) -> GitProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process, whatever it is doing."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._listener.join(5.0)
        if self._feeder is not None:
            self._feeder.join(5.0)
        for stream in (self._stdin, self._stdout, self._stderr):
            with contextlib.suppress(OSError):
                stream.close()
        self._selector.close()

    def send(self, data: bytes) -> None:
        """Write a request. A process that has ended shows at the next read."""
        with contextlib.suppress(BrokenPipeError):
            view = memoryview(data)
            while view:
                view = view[self._stdin.write(view) :]

    def feed(self, requests: Iterable[bytes]) -> None:
        """Write all requests from a thread of their own, then close the input."""

        def run() -> None:
            with contextlib.suppress(OSError, ValueError):
                for data in requests:
                    self.send(data)
                self._stdin.close()

        self._feeder = threading.Thread(target=run, name=f"feed {self.name}", daemon=True)
        self._feeder.start()

    def end_input(self) -> None:
        with contextlib.suppress(OSError):
            self._stdin.close()

    def read_until(self, end: bytes, limit: int = 1 << 20) -> bytes | None:
        """Bytes up to `end`, which is swallowed; None at the end of the output. Raises: InputError over `limit` bytes."""
        searched = self._at
        while True:
            found = self._buffer.find(end, searched)
            if found >= 0:
                taken = bytes(self._buffer[self._at : found])
                self._advance(found + len(end))
                return taken
            searched = max(self._at, len(self._buffer) - len(end) + 1)
            if len(self._buffer) - self._at > limit:
                raise InputError(f"`{self.name}` wrote a record of more than {limit} bytes", hint=DAMAGED_REPOSITORY)
            shift = self._at
            if not self._fill():
                if len(self._buffer) > self._at:
                    raise self.failure("its output ends within a record")
                return None
            searched -= shift - self._at

    def read_exactly(self, size: int) -> bytes:
        """The next `size` bytes."""
        while len(self._buffer) - self._at < size:
            if not self._fill():
                raise self.failure("its output ends early")
        taken = bytes(self._buffer[self._at : self._at + size])
        self._advance(self._at + size)
        return taken

    def read_rest(self, limit: int) -> bytes:
        """Everything up to the end of the output. Raises: InputError over `limit` bytes."""
        while self._fill():
            if len(self._buffer) - self._at > limit:
                raise InputError(f"`{self.name}` wrote more than {limit} bytes", hint=DAMAGED_REPOSITORY)
        return self.read_exactly(len(self._buffer) - self._at)

    def skip(self, size: int) -> None:
        """Throw the next `size` bytes away without holding them."""
        while size > 0:
            step = min(size, len(self._buffer) - self._at)
            self._advance(self._at + step)
            size -= step
            if size > 0 and not self._fill():
                raise self.failure("its output ends early")

    def finish(self) -> int:
        """Wait for the end; the exit code."""
        self.end_input()
        try:
            return self._process.wait(self._silence_s)
        except subprocess.TimeoutExpired as error:
            raise self._hung() from error

    def failure(self, what: str) -> InputError:
        """An error that carries what git said."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1.0)
        return InputError(f"`{self.name}` failed: {self.complaint() or what}")

    def complaint(self) -> str:
        """The last words of the process on its error stream, one printable line."""
        if self._process.poll() is not None:
            self._listener.join()
        text = bytes(self._complaint).decode("utf-8", "replace").strip()
        line = text.splitlines()[-1] if text else ""
        return shorten(line.removeprefix("fatal: "), 500)

    def _listen(self) -> None:
        while data := self._stderr.read(4096):
            self._complaint = (self._complaint + data)[-4096:]

    def _advance(self, to: int) -> None:
        self._at = to
        if self._at == len(self._buffer):
            self._buffer.clear()
            self._at = 0

    def _fill(self) -> bool:
        if self._at > _CHUNK:
            del self._buffer[: self._at]
            self._at = 0
        if not self._selector.select(self._silence_s):
            raise self._hung()
        data = self._stdout.read(_CHUNK)
        if not data:
            return False
        self._buffer += data
        return True

    def _hung(self) -> InputError:
        self._process.kill()
        return InputError(
            f"`{self.name}` gave no answer for {self._silence_s:.0f} s and was stopped",
            hint=DAMAGED_REPOSITORY,
        )
