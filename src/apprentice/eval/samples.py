"""One row for each example and arm, on disk as soon as it is there, so that a killed run goes on where it stopped.

    working.jsonl  (appended row by row; a torn last line is not read and is cut off by the next append)
        --finish()-->  samples.jsonl  (sorted, without timings; what the results are made of)
                       partial.jsonl  (commits that not every arm finished)
                       timings.jsonl  (outside the artifact's hash, as is partial.jsonl)

A row belongs to a measure, an arm, a version of that arm (weights, memory, prompt) and an example; a row of another
version is never taken for this one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from apprentice.core import files

WORKING, SAMPLES, PARTIAL, TIMINGS = "working.jsonl", "samples.jsonl", "partial.jsonl", "timings.jsonl"
LIKELIHOOD, LINE, EDIT = MEASURES = ("likelihood", "line", "edit")


class Row(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one arm did at one place. Fields of other measures keep their defaults."""

    measure: str
    """`likelihood`, `line` or `edit`."""
    arm: str
    version: str
    """Of the arm: its weights, memory, prompt."""
    example: str
    """The moment's key."""
    commit: str
    order: int
    """Place in the history."""
    path: str = ""
    seconds: float = 0.0
    error: str = ""
    """Why there is no answer (a server that failed, say). It counts as a wrong one."""

    changed_bits: float = 0.0
    changed_chars: int = 0
    target_bits: float = 0.0
    target_chars: int = 0

    text: str = ""
    """What was generated: a line's rest, or a replacement in our form."""
    tokens: int = 0
    steps: int = 0
    """Forward passes."""
    exact: bool = False
    confidence: float | None = None
    """Natural log of the product of the model's own token probabilities, where they are known."""
    valid: bool = False
    delta_chrf: float = 0.0
    reversed_chars: int = 0
    moved_chars: int = 0

    @property
    def key(self) -> tuple[str, str, str, str]:
        return (self.measure, self.arm, self.version, self.example)


class Samples:
    """The rows of one evaluation folder."""

    def __init__(self, folder: Path, *, reuse: Iterable[Path] = ()) -> None:
        """`reuse`: folders of earlier evaluations whose rows are taken over when they are asked for. What failed is asked again."""
        self._folder = folder
        self._earlier = {row.key: row for other in reuse for row in read(other, partial=True) if not row.error}
        self._rows = {row.key: row for row in read(folder) if not row.error}

    def find(self, measure: str, arm: str, version: str, example: str) -> Row | None:
        """The row, if it was made before; one of an earlier evaluation becomes one of this."""
        key = (measure, arm, version, example)
        if key not in self._rows and key in self._earlier:
            self.add(self._earlier[key])
        return self._rows.get(key)

    def add(self, row: Row) -> None:
        """On disk when this returns."""
        files.append_line(self._folder / WORKING, msgspec.json.encode(row).decode())
        self._rows[row.key] = row

    def rows(self) -> list[Row]:
        """All rows, in an order that does not depend on the order in which they were made."""
        return sorted(self._rows.values(), key=_place)

    def finish(self, rows: Iterable[Row]) -> None:
        """Settle these rows into the files of a finished artifact. The others, of commits that not every arm finished,
        are kept beside them, for a longer evaluation to go on from."""
        settled = sorted(rows, key=_place)
        keys = {row.key for row in settled}
        rest = [row for row in self.rows() if row.key not in keys]
        timings = [{"measure": r.measure, "arm": r.arm, "version": r.version, "example": r.example, "seconds": r.seconds}
                   for r in [*settled, *rest]]  # fmt: skip
        files.write_bytes(self._folder / TIMINGS, _lines(timings))
        for name, kept in ((PARTIAL, rest), (SAMPLES, settled)):
            files.write_bytes(self._folder / name, _lines(msgspec.structs.replace(row, seconds=0.0) for row in kept))
        files.remove_file(self._folder / WORKING)


def read(folder: Path, *, partial: bool = False) -> Iterator[Row]:
    """The rows of a finished or unfinished evaluation; nothing where there is none. `partial`: those of commits that not
    every arm finished too. Lines that are no rows are passed over: they are made again."""
    seconds = {tuple(key): value for *key, value in _timings(folder / TIMINGS)}
    decoder = msgspec.json.Decoder(Row)
    for name in (*((PARTIAL,) if partial else ()), SAMPLES, WORKING):
        for line in _whole_lines(folder / name):
            try:
                row = decoder.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue
            yield msgspec.structs.replace(row, seconds=row.seconds or seconds.get(row.key, 0.0))


def _place(row: Row) -> tuple[str, int, str, str, str]:
    return row.measure, row.order, row.example, row.arm, row.version


def _timings(path: Path) -> Iterator[tuple[str, str, str, str, float]]:
    for line in _whole_lines(path):
        row = msgspec.json.decode(line)
        yield row["measure"], row["arm"], row["version"], row["example"], row["seconds"]


def _whole_lines(path: Path) -> list[bytes]:
    """Bytes, because a line may be torn inside a character."""
    return path.read_bytes().split(b"\n")[:-1] if path.exists() else []


def _lines(rows: Iterable[object]) -> bytes:
    return b"".join(msgspec.json.encode(row) + b"\n" for row in rows)
