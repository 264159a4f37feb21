"""The `evaluation` artifact: every sample kept, and what they say together.

    evaluation/  samples.jsonl  partial.jsonl  timings.jsonl  table.json  latency.json  differences.json  summary.json  manifest.json

    with evaluation(folder, parents=..., config=...) as work:
        run = Evaluation(work.samples, ...)
        work.finish(Comparison(run.run(budget_s), ...), run.rows())

Left without `finish` (a kill, an error), the folder stays unfinished; the same call goes on with its rows.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec

from apprentice.core import artifacts, files
from apprentice.core.errors import InputError
from apprentice.eval.comparison import Comparison
from apprentice.eval.measures import METRICS
from apprentice.eval.samples import PARTIAL, TIMINGS, Row, Samples

KIND = "evaluation"
VERSION = 1


@dataclass(frozen=True, slots=True)
class EvaluationWork:
    """An evaluation in the making."""

    samples: Samples
    writer: artifacts.ArtifactWriter

    def finish(
        self, comparison: Comparison, rows: Sequence[Row], *, seed: int | None = None, extra: Mapping[str, Any] | None = None
    ) -> artifacts.Manifest:
        """Write the results and the manifest. `rows` are those that the comparison was made of."""
        self.samples.finish(rows)
        table = [asdict(row) for row in comparison.table()]
        timed = [row for row in table if row["metric"].startswith("latency")]
        differences = [
            {**asdict(found), "estimate": found.estimate.as_list()}
            for metric in METRICS for found in comparison.differences(metric)
        ]  # fmt: skip
        files.write_json(self.writer.path("table.json"), [row for row in table if row not in timed])
        files.write_json(self.writer.path("latency.json"), timed)
        files.write_json(self.writer.path("differences.json"), differences)
        files.write_json(self.writer.path("summary.json"), comparison.summary())
        counts = {f"rows_{arm}": sum(row.arm == arm for row in rows) for arm in comparison.arms}
        return self.writer.finish(
            seed=seed, counts={**comparison.heldout(), **counts}, extra=extra, volatile=(TIMINGS, PARTIAL, "latency.json")
        )


@contextlib.contextmanager
def evaluation(
    folder: Path, *, parents: Mapping[str, str], config: Mapping[str, Any], reuse: Iterable[Path] = ()
) -> Iterator[EvaluationWork]:
    """Begin or go on with an evaluation. `config` without the time budget: a run that goes on has less time left."""
    with artifacts.create(folder, kind=KIND, version=VERSION, resume=True, parents=parents, config=config) as writer:
        yield EvaluationWork(Samples(folder, reuse=reuse), writer)


def read_summary(folder: Path) -> dict[str, Any]:
    """Raises: InputError where there is no finished evaluation."""
    return _read(folder, "summary.json", dict[str, Any])


def read_table(folder: Path) -> list[dict[str, Any]]:
    """Rows {arm, metric, value, low, high, examples, commits}. Raises: InputError."""
    return _read(folder, "table.json", list[dict[str, Any]]) + _read(folder, "latency.json", list[dict[str, Any]])


def _read(folder: Path, name: str, kind: Any) -> Any:
    artifacts.read(folder, kind=KIND)
    try:
        return msgspec.json.decode((folder / name).read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError) as error:
        raise InputError(f"`{folder / name}` cannot be read: {error}", hint="make it again with `apprentice eval`") from error
