"""The time a run has used, over all its resumes, and what is left of its budget.

Each tick adds a line to `clock.jsonl`: the stage and the seconds it took since the last tick. Ticks come with the
progress of every stage, at most one in TICK_S, so that a run that was killed knows what it had used up.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from pathlib import Path

from apprentice.core import files
from apprentice.core.protocols import ProgressSink

TICK_S = 10.0


class Clock:
    """Also a progress sink: it passes everything on and ticks."""

    def __init__(self, path: Path, budget_s: float, progress: ProgressSink) -> None:
        self._path, self._progress = path, progress
        self.budget_s = budget_s
        self.stages: defaultdict[str, float] = defaultdict(float)
        """Stage -> seconds, earlier tries included."""
        for line in files.read_lines(path):
            row = json.loads(line)
            self.stages[str(row["stage"])] += float(row["seconds"])
        self._name = "start"
        self._last = time.monotonic()

    @property
    def used_s(self) -> float:
        """Seconds used by the run."""
        return sum(self.stages.values()) + time.monotonic() - self._last

    @property
    def left_s(self) -> float:
        """Seconds left of the budget; negative when it is overdrawn."""
        return self.budget_s - self.used_s

    def enter(self, name: str) -> None:
        """A stage of the run begins; the one before is charged for the time until now."""
        self.tick()
        self._name = name

    def forgive(self) -> None:
        """Do not charge the present stage for the time since the last tick."""
        self._last = time.monotonic()

    def tick(self) -> None:
        """Charge the present stage for the time since the last tick."""
        now = time.monotonic()
        seconds, self._last = now - self._last, now
        self.stages[self._name] += seconds
        files.append_line(self._path, json.dumps({"stage": self._name, "seconds": round(seconds, 3)}))

    def stage(self, name: str, total: int | None = None, unit: str = "") -> None:
        self._progress.stage(name, total, unit)

    def advance(self, amount: int = 1, detail: str = "") -> None:
        self._progress.advance(amount, detail)
        if time.monotonic() - self._last > TICK_S:
            self.tick()

    def note(self, message: str) -> None:
        self._progress.note(message)
