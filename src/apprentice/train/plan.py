"""The plan of a training run: written down before the first step, followed by every resumed one.

    sequences, budget or steps, a measured step --make()--> Plan --> plan.json

A budget becomes a number of steps after a short calibration. They train on the NEWEST sequences, in their order, since
old work says less about the next; where the budget reaches further than the data, whole rounds come last. Then the
clock wins over the plan (`decide`): if the machine turns slower or faster than the calibration was, the steps to come
are counted anew, and again the newest sequences that were not yet used are the ones they train on; the schedule, which
follows progress, runs to its end and the run ends in time. With given steps no clock is read at all, and the result is
the same bit for bit however often the run is killed.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import msgspec

from apprentice.core import files
from apprentice.core.errors import InputError
from apprentice.train.numerics import Numerics
from apprentice.train.packing import PackedSequence

PLAN = "plan.json"
SLACK = 0.1
"""A run may be off its plan by this part before the plan is changed: noise is no reason."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What will be done."""

    num_steps: int
    """Given, or expected."""
    budget_s: float | None
    """Seconds for steps, held-out measurements and checkpoints together; None: the steps were given."""
    order: list[int]
    """Numbers of the sequences that may be trained on, in the order of training; with given steps exactly those."""
    sequences_per_step: int
    sequence_tokens: int
    """Longest sequence."""
    num_tokens: int
    """Of the steps that are expected."""
    numerics: Numerics
    step_s: float
    """Calibrated seconds of a step; 0 where nothing was measured."""
    heldout: list[int]
    """Numbers of the held-out sequences that are measured."""
    fingerprint: str
    """Of the sequences: a resumed run must see the same."""


@dataclass(slots=True)
class Course:
    """Where a run is on its plan. Part of every checkpoint."""

    remaining: int
    """Steps to come."""
    step: int = 0
    progress: float = 0.0
    """Part of the schedule that is done."""
    used: set[int] = field(default_factory=set)
    """Places in `Plan.order` that were trained on."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What the next step does: read from the clock once, then written down, so that a resumed run repeats it."""

    places: list[int]
    """In `Plan.order`."""
    remaining: int
    """Steps still to come, this one included."""

    def midpoint(self, course: Course) -> float:
        """Progress in the middle of the step: neither the first nor the last step is one of rate 0."""
        return course.progress + (1 - course.progress) / self.remaining / 2

    def follow(self, course: Course) -> None:
        """Move on by this step."""
        course.progress += (1 - course.progress) / self.remaining
        course.step += 1
        course.remaining = self.remaining - 1
        course.used.update(self.places)


def make(
    sequences: Sequence[PackedSequence], heldout: Sequence[PackedSequence], *, numerics: Numerics, per_step: int,
    steps: int | None, budget_s: float | None, step_s: float, heldout_share: float, heldout_tokens: int,
    heldout_points: int, max_rounds: int, order: Literal["time", "shuffled"], seed: int,
) -> Plan:
    """`step_s`: seconds of one step of `per_step` mean sequences (ignored with `steps`). `heldout_share` of the budget
    is for `heldout_points` measurements of at most `heldout_tokens` each."""
    longest = max(len(sequence) for sequence in sequences)
    chosen = choose_heldout(heldout, heldout_tokens)
    if steps is None and budget_s is not None and heldout:
        # A forward pass takes about a third of a step.
        token_s = step_s / (per_step * longest) / 3
        chosen = choose_heldout(heldout, min(heldout_tokens, int(heldout_share * budget_s / heldout_points / token_s)))
        budget_for_steps = budget_s - heldout_points * token_s * sum(len(heldout[i]) for i in chosen)
    else:
        budget_for_steps = budget_s
    most = max_rounds * len(sequences) // per_step
    if steps is not None:
        num_steps = steps
    elif budget_for_steps is None:
        num_steps = most
    else:
        num_steps = min(most, int(budget_for_steps / max(step_s, 1e-9)))
    count = (most if steps is None else num_steps) * per_step
    places = _order(sequences, count)
    if order == "shuffled":
        # Still the newest, in another order.
        expected = places[count - num_steps * per_step :]
        random.Random(seed).shuffle(expected)
        places[count - num_steps * per_step :] = expected
    return Plan(
        num_steps=num_steps,
        budget_s=None if steps is not None else budget_s,
        order=places,
        sequences_per_step=per_step,
        sequence_tokens=longest,
        num_tokens=sum(len(sequences[i]) for i in places[count - num_steps * per_step :]),
        numerics=numerics,
        step_s=round(step_s, 4),
        heldout=chosen,
        fingerprint=fingerprint([*sequences, *heldout]),
    )


def decide(plan: Plan, course: Course, *, left_s: float, step_s: float) -> Decision | None:
    """The next step, or None where the run is over. `left_s`: seconds left for steps; `step_s`: what one takes."""
    unused = [place for place in range(len(plan.order)) if place not in course.used]
    remaining = course.remaining
    # Once the schedule has run to its end, more steps would be steps of rate 0.
    if plan.budget_s is not None and remaining > 0:
        possible = min(max(int(left_s / max(step_s, 1e-9)), 0), len(unused) // plan.sequences_per_step)
        if not (1 - SLACK) * remaining <= possible <= (1 + SLACK) * remaining or left_s <= 0:
            remaining = possible
    if remaining <= 0:
        return None
    newest = unused[max(0, len(unused) - remaining * plan.sequences_per_step) :]
    return Decision(newest[: plan.sequences_per_step], remaining)


def choose_heldout(heldout: Sequence[PackedSequence], max_tokens: int) -> list[int]:
    """Newest sequences first, as many as fit, at least one; in the order of time."""
    chosen: list[int] = []
    for i in reversed(range(len(heldout))):
        max_tokens -= len(heldout[i])
        if max_tokens < 0 and chosen:
            break
        chosen.append(i)
    return chosen[::-1]


def fingerprint(sequences: Sequence[PackedSequence]) -> str:
    """A hash of what would be trained on."""
    digest = hashlib.sha256()
    for sequence in sequences:
        for array in (sequence.token_ids_T, sequence.kinds_T, sequence.segments_T):
            digest.update(len(array).to_bytes(8, "little") + array.tobytes())
    return digest.hexdigest()[:32]


def write(folder: Path, plan: Plan) -> None:
    """Before training."""
    files.write_json(folder / PLAN, msgspec.to_builtins(plan))


def read(folder: Path) -> Plan | None:
    """The plan of an interrupted run, if there is one."""
    path = folder / PLAN
    if not path.exists():
        return None
    try:
        return msgspec.json.decode(path.read_bytes(), type=Plan)
    except (OSError, msgspec.DecodeError) as error:
        hint = f"remove `{folder}` to train from the start"
        raise InputError(f"`{path}` cannot be read: {error}", hint=hint) from error


def _order(sequences: Sequence[PackedSequence], count: int) -> list[int]:
    """The last `count` of as many whole rounds as it takes."""
    rounds = math.ceil(count / len(sequences)) if count else 0
    places: list[int] = []
    for _ in range(rounds):
        places += range(len(sequences))
    return places[len(places) - count :]
