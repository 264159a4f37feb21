"""One of the processes of `readers.workers`: jobs from stdin, answers to stdout, each a line of JSON."""

from __future__ import annotations

import os
import queue
import sys
import threading
from pathlib import Path

import msgspec

from apprentice.core import files
from apprentice.core.errors import StorageError
from apprentice.sessions.readers.files import APART, read_one
from apprentice.sessions.readers.told import Recorder
from apprentice.sessions.readers.workers import Done, Job, Look, Read, Start
from apprentice.sessions.remembered import Remembering, SecondLook
from apprentice.text.redaction import Redactor, rescan


class Worker:
    """Does jobs, one after the other."""

    def __init__(self, start: Start) -> None:
        self._policy = start.policy()
        self._redactor = Remembering(Redactor(self._policy))

    def do(self, job: Job) -> Done:
        """A storage that fails is the answer, not the end."""
        try:
            return self._read(job) if isinstance(job, Read) else self._look(job)
        except StorageError as error:
            return Done(error=error.message, hint=error.hint)

    def _read(self, job: Read) -> Done:
        reader = next(make for make in APART if make.source == job.source)()
        with files.open_write(Path(job.target)) as stream:
            recorder = Recorder(self._redactor, stream)
            for session in read_one(reader, Path(job.path), recorder):
                recorder.add_session(session)
            recorder.finish()
        return Done(ids=getattr(reader, "latest", []))

    def _look(self, job: Look) -> Done:
        found = rescan(Path(job.folder), SecondLook(self._policy, share=job.share, shares=job.shares), known=job.known)
        return Done(findings=[(str(finding.path), finding.line, finding.kind) for finding in found])


def main() -> None:
    """Ends with its standard input, whatever it does just then: whoever started it is gone."""
    jobs: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(jobs,), daemon=True).start()
    worker = Worker(msgspec.json.decode(jobs.get(), type=Start))
    decoder = msgspec.json.Decoder(Job)
    while True:
        sys.stdout.buffer.write(msgspec.json.encode(worker.do(decoder.decode(jobs.get()))) + b"\n")
        sys.stdout.buffer.flush()


def _listen(jobs: queue.SimpleQueue[bytes]) -> None:
    for line in sys.stdin.buffer:
        jobs.put(line)
    os._exit(1)


if __name__ == "__main__":
    main()
