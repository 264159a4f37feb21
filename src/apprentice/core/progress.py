"""How far a run is, on stderr: a live line on a terminal, plain lines anywhere else.

    stage("train", 400, "steps") --> advance(1, "loss 1.23") ... --> train: 120/400 steps, 30%, loss 1.23, eta 2m10s

On a terminal rich keeps one line moving, so that nobody wonders whether anything happens. Without one (a pipe, a CI log,
TERM=dumb) a stage says that it begins and when it is done; between, a line follows after 1 s, and then at gaps that
grow from 1 s to 10 s, whether or not there was an advance: a log stays readable and a hang stays visible. NO_COLOR is
respected. The ETA is the mean rate of the stage so far.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

from apprentice.core.text_safety import terminal_safe

if TYPE_CHECKING:
    import rich.progress

FIRST_GAP_S = 1.0
LAST_GAP_S = 10.0


class Silent:
    """A progress sink that says nothing."""

    def stage(self, name: str, total: int | None = None, unit: str = "") -> None: ...
    def advance(self, amount: int = 1, detail: str = "") -> None: ...
    def note(self, message: str) -> None: ...
    def done(self) -> None: ...


class Progress:
    """A progress sink on a stream (stderr). Also a context manager, which ends the last stage.

    `live`: whether to draw on a terminal; found out when None."""

    def __init__(self, stream: TextIO | None = None, *, live: bool | None = None, first_gap_s: float = FIRST_GAP_S) -> None:
        stream = sys.stderr if stream is None else stream
        if live is None:
            live = stream.isatty() and os.environ.get("TERM", "") not in ("", "dumb")
        self._view: _Plain | _Live = _Live(stream) if live else _Plain(stream, first_gap_s)
        self._stage: _Stage | None = None

    def stage(self, name: str, total: int | None = None, unit: str = "") -> None:
        """A new stage begins and the one before is done."""
        self.done()
        self._stage = _Stage(name, total, unit)
        self._view.begin(self._stage)

    def advance(self, amount: int = 1, detail: str = "") -> None:
        """`amount` more of the stage's total is done."""
        if self._stage is None:
            self.stage("working")
        assert self._stage is not None
        self._stage.count += amount
        self._stage.detail = terminal_safe(detail, single_line=True) or self._stage.detail
        self._view.show(self._stage)

    def note(self, message: str) -> None:
        """A line that stays."""
        self._view.note(terminal_safe(message))

    def done(self) -> None:
        """The stage is done."""
        if self._stage is not None:
            self._view.end(self._stage)
            self._stage = None

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is None:
            self.done()
        else:
            self._view.close()


class _Stage:
    """One stage and what is known of it."""

    def __init__(self, name: str, total: int | None, unit: str) -> None:
        self.name, self.total, self.unit = name, total, unit
        self.count, self.detail, self.started = 0, "", time.monotonic()

    def line(self) -> str:
        parts = [part for part in (self.amount(), self.detail, self.eta()) if part]
        return f"{self.name}: {', '.join(parts) or duration(time.monotonic() - self.started)}"

    def amount(self) -> str:
        if self.total:
            return f"{self.count:,}/{self.total:,} {self.unit}".rstrip() + f", {min(100, 100 * self.count // self.total)}%"
        return f"{self.count:,} {self.unit}".rstrip() if self.count else ""

    def eta(self) -> str:
        elapsed = time.monotonic() - self.started
        if not self.total or not 0 < self.count < self.total:
            return ""
        return f"eta {duration(elapsed / self.count * (self.total - self.count))}"

    def end_line(self) -> str:
        count = f" {self.count:,} {self.unit}".rstrip() if self.count else ""
        detail = f", {self.detail}" if self.detail else ""
        return f"{self.name}:{count} done in {duration(time.monotonic() - self.started)}{detail}"


class _Plain:
    """Lines of text, also from a thread of its own when nothing advances."""

    def __init__(self, stream: TextIO, first_gap_s: float) -> None:
        self._stream, self._first_gap_s = stream, first_gap_s
        self._lock = threading.Lock()
        self._ended: threading.Event | None = None

    def begin(self, stage: _Stage) -> None:
        self._write(f"{stage.name}: " + (f"{stage.total:,} {stage.unit}".rstrip() if stage.total else "begins"))
        self._ended = threading.Event()
        threading.Thread(target=self._beat, args=(stage, self._ended), daemon=True).start()

    def show(self, stage: _Stage) -> None:
        pass

    def note(self, message: str) -> None:
        self._write(message)

    def end(self, stage: _Stage) -> None:
        self.close()
        self._write(stage.end_line())

    def close(self) -> None:
        if self._ended is not None:
            self._ended.set()

    def _beat(self, stage: _Stage, ended: threading.Event) -> None:
        gap_s = self._first_gap_s
        while not ended.wait(gap_s):
            self._write(stage.line())
            gap_s = min(gap_s * 1.25, self._first_gap_s * LAST_GAP_S / FIRST_GAP_S)

    def _write(self, line: str) -> None:
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        with self._lock:
            self._stream.write(line.encode(encoding, "backslashreplace").decode(encoding) + "\n")
            self._stream.flush()


class _Live:
    """A moving line on a terminal, by rich (imported when first drawn)."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._bars: rich.progress.Progress | None = None
        self._task: rich.progress.TaskID | None = None

    def begin(self, stage: _Stage) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        columns = (
            SpinnerColumn("line"),
            TextColumn("{task.description}", markup=False),
            BarColumn(30),
            TextColumn("{task.fields[line]}", markup=False),
            TimeElapsedColumn(),
        )
        self._bars = Progress(*columns, console=Console(file=self._stream), transient=True, refresh_per_second=4)
        self._task = self._bars.add_task(stage.name, total=stage.total, line="")
        self._bars.start()

    def show(self, stage: _Stage) -> None:
        if self._bars is not None and self._task is not None:
            line = stage.line().removeprefix(stage.name + ": ")
            self._bars.update(self._task, completed=stage.count, line=line)

    def note(self, message: str) -> None:
        if self._bars is None:
            print(message, file=self._stream)
        else:
            self._bars.console.print(message, markup=False, highlight=False)

    def end(self, stage: _Stage) -> None:
        self.close()
        print(stage.end_line(), file=self._stream)

    def close(self) -> None:
        if self._bars is not None:
            self._bars.stop()
        self._bars = self._task = None


def duration(seconds: float) -> str:
    """`duration(75) == "1m15s"`; below ten seconds with one digit behind the point."""
    if seconds < 9.95:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    if hours:
        return f"{hours}h{minutes:02}m"
    return f"{minutes}m{rest:02}s" if minutes else f"{rest}s"
