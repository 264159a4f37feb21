"""An evaluation as its places: what was asked there, what the developer did, and each arm's sample.

    samples.jsonl (or working.jsonl), the examples it was made of --> Place --> value, verdict, pair with another evaluation's

A place belongs to one measure. How an arm did there is one number, its metric in that measure; two evaluations are compared place
by place, arm by arm, where they were asked the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from apprentice.core import artifacts
from apprentice.core.errors import InputError
from apprentice.eval import samples
from apprentice.eval.comparison import CLEARLY
from apprentice.eval.samples import EDIT, LIKELIHOOD, LINE, MEASURES, Row
from apprentice.eval.store import KIND
from apprentice.examples import store
from apprentice.examples.example import COMPLETION, NEXT_EDIT, Example

_KIND = {LIKELIHOOD: NEXT_EDIT, LINE: COMPLETION, EDIT: NEXT_EDIT}
BETTER, WORSE, EQUAL = VERDICTS = ("better", "worse", "equal")
RIGHT, WRONG = "right", "wrong"
_MAX_COUNT = 1 << 53


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """One measure's samples at one moment of the test."""

    measure: str
    moment: str
    commit: str
    order: int
    path: str
    example: Example | None
    """None where the examples do not have it."""
    rows: dict[str, Row] = field(default_factory=dict)
    """Arm -> its sample, in the order of their names."""
    others: dict[str, Row] = field(default_factory=dict)
    """The same of the evaluation that this one is compared with."""

    @property
    def start(self) -> str:
        """What stands in the line before the place, where a line is completed."""
        return self.example.prompt.rsplit("\n", 1)[-1] if self.example and self.measure == LINE else ""


def read_rows(folder: Path) -> list[Row]:
    """The samples of a finished or unfinished evaluation. Raises: InputError where there are none."""
    if artifacts.is_finished(folder):
        artifacts.read(folder, kind=KIND)
    rows = [row for row in samples.read(folder) if row.measure in MEASURES and _is_sane(row)]
    if not rows:
        raise InputError(f"`{folder}` holds no samples of an evaluation", hint="name the folder `evaluation` of a run, or one of `apprentice eval`")
    return rows


def read_examples(folder: Path, evaluation: Path) -> list[Example]:
    """The examples of the test. Raises: InputError where they are not there, or not those that the evaluation was made of."""
    if not artifacts.is_finished(folder):
        raise InputError(f"the examples are not in `{folder}`", hint="name their folder with `--examples`")
    if artifacts.is_finished(evaluation):
        wanted = artifacts.read(evaluation).parents.get("examples")
        if wanted not in (None, artifacts.read(folder).hash):
            raise InputError(f"`{evaluation}` was made of other examples than those in `{folder}`", hint="name their folder with `--examples`")
    return list(store.read(folder, "test"))


def _is_sane(row: Row) -> bool:
    """No count is larger than a float can be exact about."""
    return max(abs(number) for number in (row.order, row.changed_chars, row.target_chars, row.tokens)) < _MAX_COUNT


def places(rows: Iterable[Row], others: Iterable[Row], examples: Iterable[Example]) -> list[Place]:
    """The places of `rows` in the order of the history, measure by measure; of `others` what belongs to them."""
    known = {(example.kind, example.moment): example for example in examples}
    found: dict[tuple[str, str], Place] = {}
    for row in sorted(rows, key=lambda row: (MEASURES.index(row.measure), row.order, row.example, row.arm)):
        key = (row.measure, row.example)
        if key not in found:
            found[key] = Place(
                measure=row.measure, moment=row.example, commit=row.commit, order=row.order, path=row.path,
                example=known.get((_KIND[row.measure], row.example)),
            )  # fmt: skip
        found[key].rows[row.arm] = row
    for row in sorted(others, key=lambda row: row.arm):
        if (row.measure, row.example) in found:
            found[row.measure, row.example].others[row.arm] = row
    return list(found.values())


def value(row: Row) -> float | None:
    """How well an arm did: bits per changed character (of the whole target where nothing was added) of a likelihood, delta chrF of an
    edit, probability that the model gave its own line; None where it is not known."""
    if row.measure == LIKELIHOOD:
        bits, size = (row.changed_bits, row.changed_chars) if row.changed_chars else (row.target_bits, row.target_chars)
        return bits / size if size > 0 else None
    if row.measure == EDIT:
        return row.delta_chrf
    return None if row.confidence is None else math.exp(min(row.confidence, 0.0))


def outcome(row: Row) -> str:
    """`right` or `wrong`; empty for a likelihood, which is neither."""
    return "" if row.measure == LIKELIHOOD else RIGHT if row.exact and not row.error else WRONG


def worst_first(row: Row) -> tuple[float, float]:
    """Sorts by the measure: dear likelihoods first; wrong before right, and there the surest lines and the poorest edits first."""
    number = value(row)
    known = 0.0 if number is None else number
    return (float(outcome(row) == RIGHT), known if row.measure == EDIT else -known)


def verdict(row: Row, other: Row) -> str | None:
    """How `other` did beside `row`; None where they were not asked the same. Less than CLEARLY is equal."""
    if row.measure == LIKELIHOOD:
        here, there = value(row), value(other)
        if (row.changed_chars, row.target_chars) != (other.changed_chars, other.target_chars) or here is None or there is None:
            return None
        gain = here - there
    elif outcome(row) != outcome(other):
        return BETTER if outcome(other) == RIGHT else WORSE
    elif row.measure == LINE:
        return EQUAL
    else:
        gain = other.delta_chrf - row.delta_chrf
    return EQUAL if abs(gain) <= CLEARLY else BETTER if gain > 0 else WORSE
