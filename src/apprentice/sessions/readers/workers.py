"""Processes that read files, or look through what was written, beside the one that writes the store.

    Workers --a line of JSON: what to do--> `python -m apprentice.sessions.readers.worker` --a line: done--> Workers

Which process does what changes nothing in the result: answers are taken in the order of the files. At most AHEAD files a
process are read ahead, so the folder of what was told stays small. A process ends when the one that started it does.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import msgspec

import apprentice
from apprentice.core import files
from apprentice.core.errors import InternalError, StorageError
from apprentice.text.people import Known
from apprentice.text.redaction import Finding, RedactionPolicy

_CODE = Path(apprentice.__file__).resolve().parents[1]
_KNOWN = ("names", "emails", "logins", "hosts", "homes")
AHEAD = 3
MIN_BYTES = 32 << 20
"""With less to read, the start of processes takes longer than the reading."""


class Start(msgspec.Struct, kw_only=True):
    """The first line to a worker: what `RedactionPolicy` says."""

    names: list[str]
    emails: list[str]
    logins: list[str]
    hosts: list[str]
    homes: list[str]
    persons: bool
    vendor_rules: bool

    @classmethod
    def of(cls, policy: RedactionPolicy) -> Start:
        known = {name: sorted(getattr(policy.known, name)) for name in _KNOWN}
        return cls(**known, persons=policy.persons, vendor_rules=policy.vendor_rules)

    def policy(self) -> RedactionPolicy:
        known = Known(**{name: frozenset(getattr(self, name)) for name in _KNOWN})
        return RedactionPolicy(known=known, persons=self.persons, vendor_rules=self.vendor_rules)


class Read(msgspec.Struct, tag="read"):
    """Read a file of a tool; what it tells goes to `target`."""

    source: str
    path: str
    target: str


class Look(msgspec.Struct, tag="look"):
    """Look through a folder, one share of its texts."""

    folder: str
    known: list[str]
    share: int
    shares: int


Job = Read | Look


class Done(msgspec.Struct):
    """The answer: ids that were met, or findings as (path, line, kind)."""

    ids: list[int] = []
    findings: list[tuple[str, int, str]] = []
    error: str = ""
    hint: str | None = None
    """Of a storage that failed."""


@dataclass(frozen=True, slots=True)
class Told:
    """What one file tells."""

    path: Path
    ids: list[int]


class _Process:
    def __init__(self, start: Start) -> None:
        # `-P`: the folder at hand may be a repository that somebody else wrote, with a `queue.py` in it.
        command = [sys.executable, "-P", "-m", "apprentice.sessions.readers.worker"]
        # The same code as here, whatever is installed; and who stops this process need not stop that one: see `worker.main`.
        path = os.pathsep.join([str(_CODE), *filter(None, [os.environ.get("PYTHONPATH")])])
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": path}, start_new_session=True
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        self._asked: deque[Job] = deque()
        self._send(start)

    def ask(self, job: Job) -> None:
        self._asked.append(job)
        self._send(job)

    def answer(self) -> Done:
        """Of the question that was asked first of those without an answer."""
        line = self._stdout.readline()
        job = self._asked.popleft()
        if not line:
            raise self._ended(job)
        done = msgspec.json.decode(line, type=Done)
        if done.error:
            raise StorageError(done.error, hint=done.hint)
        return done

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        with contextlib.suppress(BrokenPipeError):
            # What it was not told any more.
            self._stdin.close()
        self._stdout.close()

    def _send(self, message: Start | Job) -> None:
        try:
            self._stdin.write(msgspec.json.encode(message) + b"\n")
            self._stdin.flush()
        except BrokenPipeError as error:
            raise self._ended(self._asked[0] if self._asked else None) from error

    def _ended(self, job: Job | None) -> InternalError:
        """Killed for its memory, as a rule: nothing that a file says ends it otherwise."""
        code = self._process.wait()
        at = "" if job is None else f" at `{job.path if isinstance(job, Read) else job.folder}`"
        how = f"by signal {-code}" if code < 0 else f"with {code}"
        return InternalError(f"a process that reads sessions ended {how}{at}", hint="run the same command again; name fewer sessions if memory is short")


class Workers:
    """A context manager; processes start when there is something to do."""

    def __init__(self, policy: RedactionPolicy, folder: Path, *, count: int) -> None:
        """`folder`: for what was told; it is this object's alone."""
        self._start, self._folder, self._count = Start.of(policy), folder, count
        self._processes: list[_Process] = []

    def __enter__(self) -> Workers:
        files.remove_tree(self._folder)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for process in self._processes:
            process.close()
        files.remove_tree(self._folder)

    def are_useful(self, size: int) -> bool:
        """For so many bytes."""
        return self._count > 1 and size >= MIN_BYTES

    def read(self, source: str, paths: Sequence[Path]) -> Iterator[Told]:
        """Each file in turn; what it told is there until the next one is asked for."""
        files.make_folder(self._folder)
        processes = self._started()
        asked: deque[tuple[_Process, Path]] = deque()
        number = 0
        while asked or number < len(paths):
            while number < len(paths) and len(asked) < AHEAD * len(processes):
                process, target = processes[number % len(processes)], self._folder / f"{number:06d}"
                process.ask(Read(source, str(paths[number]), str(target)))
                asked.append((process, target))
                number += 1
            process, target = asked.popleft()
            yield Told(target, process.answer().ids)
            files.remove_file(target)

    def look(self, folder: Path, known: Sequence[str]) -> list[Finding]:
        """What is still found in the files of a folder, `known` ones left out."""
        processes = self._started()
        for number, process in enumerate(processes):
            process.ask(Look(str(folder), list(known), number, len(processes)))
        found = [finding for process in processes for finding in process.answer().findings]
        return [Finding(Path(path), line, kind) for path, line, kind in sorted(found)]

    def _started(self) -> list[_Process]:
        while len(self._processes) < self._count:
            self._processes.append(_Process(self._start))
        return self._processes
