"""Budgets become steps, the newest data is what is trained on, and the clock wins."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apprentice.core.errors import InputError
from apprentice.train import plan as plans
from apprentice.train.numerics import Numerics
from apprentice.train.packing import PackedSequence
from apprentice.train.plan import Course


def _sequences(count, length=100):
    zeros = np.zeros(length, np.int32)
    return [PackedSequence(np.full(length, i, np.int32), zeros.astype(np.uint8), zeros, zeros) for i in range(count)]


def _plan(sequences=None, heldout=(), **changes):
    settings: dict[str, Any] = {
        "numerics": Numerics(arithmetic="fp32", threads=1), "per_step": 1, "steps": None, "budget_s": None, "step_s": 1.0,
        "heldout_share": 0.1, "heldout_tokens": 1000, "heldout_points": 5, "max_rounds": 1, "order": "time", "seed": 0,
    }
    return plans.make(_sequences(10) if sequences is None else sequences, heldout, **{**settings, **changes})


def _walk(plan, *, left_s, durations):
    """The sequences of a run whose steps take so long, each step known by the one before."""
    course, numbers, step_s = Course(plan.num_steps), [], plan.step_s
    for took in durations:
        decision = plans.decide(plan, course, left_s=left_s, step_s=step_s)
        if decision is None:
            break
        decision.follow(course)
        numbers += [plan.order[place] for place in decision.places]
        left_s, step_s = left_s - took, took
    return numbers


def test_a_budget_trains_on_the_newest_sequences_in_their_order():
    plan = _plan(budget_s=4.5)
    assert plan.num_steps == 4
    assert plan.num_tokens == 400
    assert _walk(plan, left_s=4.5, durations=[1.0] * 9) == [6, 7, 8, 9]


def test_a_budget_beyond_the_data_ends_after_the_rounds_that_are_allowed():
    assert _walk(_plan(budget_s=1000.0), left_s=1000.0, durations=[1.0] * 40) == list(range(10))
    plan = _plan(budget_s=25.0, max_rounds=3)
    assert _walk(plan, left_s=25.0, durations=[1.0] * 40) == [5, 6, 7, 8, 9, *range(10), *range(10)]


def test_given_steps_win_and_no_clock_is_in_the_plan():
    plan = _plan(steps=12, budget_s=3.0, per_step=2)
    assert (plan.num_steps, plan.budget_s, len(plan.order)) == (12, None, 24)
    assert plan.order[-10:] == list(range(10))
    assert len(_walk(plan, left_s=0.0, durations=[1.0] * 20)) == 24


def test_held_out_sequences_are_the_newest_that_fit_the_share_of_the_budget():
    heldout = _sequences(30)
    plan = _plan(heldout=heldout, budget_s=60.0, step_s=1.0, heldout_share=0.1)
    # 6 s for 5 points at a third of a step for each sequence.
    assert plan.heldout == [27, 28, 29]
    assert plan.num_steps == 10
    assert _plan(heldout=heldout, steps=5, heldout_tokens=250).heldout == [28, 29]


def test_at_least_one_sequence_is_held_out():
    assert _plan(heldout=_sequences(3, length=5000), budget_s=1.0).heldout == [2]


def test_a_shuffled_order_is_the_same_for_the_same_seed():
    orders = [_plan(steps=10, order="shuffled", seed=seed).order for seed in (1, 1, 2)]
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0]) == list(range(10))
    newest = _walk(_plan(budget_s=4.0, order="shuffled", seed=1), left_s=4.0, durations=[1.0] * 9)
    assert sorted(newest) == [6, 7, 8, 9] != newest


def _decide(plan, course, **clock):
    decision = plans.decide(plan, course, **clock)
    assert decision is not None
    return decision


def test_a_run_with_given_steps_never_looks_at_the_clock():
    plan = _plan(steps=5)
    decision = _decide(plan, Course(3, step=2, used={0, 1}), left_s=-100.0, step_s=50.0)
    assert (decision.places, decision.remaining) == ([2], 3)


def test_a_run_behind_its_plan_skips_the_oldest_data_to_come():
    plan = _plan(budget_s=10.0)
    decision = _decide(plan, Course(8, step=2, used={0, 1}), left_s=4.0, step_s=1.0)
    assert (decision.places, decision.remaining) == ([6], 4)
    assert _walk(plan, left_s=10.0, durations=[1.0, 1.0, 2.0, *[2.0] * 9]) == [0, 1, 2, 7, 8, 9]


def test_a_run_ahead_of_its_plan_takes_up_older_data_that_it_had_left_out():
    plan = _plan(_sequences(20), budget_s=10.0, step_s=2.0)
    assert plan.num_steps == 5
    numbers = _walk(plan, left_s=10.0, durations=[2.0, *[1.0] * 20])
    assert numbers == [15, 16, 11, 12, 13, 14, 17, 18, 19]


def test_a_little_noise_changes_nothing_and_no_time_ends_the_run():
    plan = _plan(budget_s=10.0)
    assert _decide(plan, Course(10), left_s=9.5, step_s=1.0).places == [0]
    assert plans.decide(plan, Course(1, step=9, used=set(range(9))), left_s=0.0, step_s=1.0) is None
    assert plans.decide(plan, Course(0, step=10, used=set(range(10))), left_s=5.0, step_s=1.0) is None


@given(st.lists(st.floats(0.2, 3.0), min_size=200, max_size=200))
def test_the_schedule_reaches_its_end_however_the_clock_runs(durations):
    plan = _plan(_sequences(50), budget_s=50.0)
    course, left_s, middles, step_s = Course(plan.num_steps), 50.0, [], 1.0
    for took in durations:
        decision = plans.decide(plan, course, left_s=left_s, step_s=step_s)
        if decision is None:
            break
        middles.append(decision.midpoint(course))
        assert course.used.isdisjoint(decision.places)
        decision.follow(course)
        left_s, step_s = left_s - took, took
    assert 0 < len(middles) <= 50
    assert all(0 < p < 1 for p in middles)
    assert middles == sorted(middles)
    assert left_s > -3.0
    assert len(course.used) == len(middles)
    if course.remaining == 0:
        assert course.progress == pytest.approx(1.0)


def test_a_plan_reads_back_and_a_damaged_one_says_what_to_do(tmp_path):
    plan = _plan(budget_s=4.0)
    plans.write(tmp_path, plan)
    assert plans.read(tmp_path) == plan
    (tmp_path / plans.PLAN).write_text("{}")
    with pytest.raises(InputError, match=r"plan\.json"):
        plans.read(tmp_path)


def test_the_fingerprint_sees_every_token():
    sequences = _sequences(3)
    before = plans.fingerprint(sequences)
    assert plans.fingerprint(_sequences(3)) == before
    sequences[2].token_ids_T[99] += 1
    assert plans.fingerprint(sequences) != before
