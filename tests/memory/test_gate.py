"""The gate: shares, fitting, and reading what lies on disk."""

import numpy as np
import pytest

from apprentice.core.errors import InputError
from apprentice.memory.gate import FEATURES, SOURCES, Gate, Records

NUM_SOURCES, NUM_FEATURES = len(SOURCES), len(FEATURES)


def made_up(num: int, *, seed: int = 0) -> Records:
    """Sources that are right when their first feature is high; the model gives every token 0.1."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(num, NUM_SOURCES, NUM_FEATURES)).astype(np.float32)
    present = rng.random((num, NUM_SOURCES)) < 0.7
    chances = np.where(present & (features[:, :, 1] > 0), 0.9, 0.0).astype(np.float32)
    return Records(features, present, chances, np.full(num, np.log(0.1), np.float32))


def test_shares_sum_to_one_and_a_source_without_a_match_has_none():
    records = made_up(50)
    for features, present in zip(records.features_NSF, records.present_NS, strict=True):
        shares = Gate.default().shares(features, present)
        assert shares.sum() == pytest.approx(1)
        assert not shares[1:][~present].any()
        assert (shares[1:][present] > 0).all()


def test_fitting_makes_the_records_likelier_and_unseen_ones_too():
    gate = Gate.fit(made_up(500), prior=0.1)
    fresh = made_up(500, seed=1)
    assert gate.log_probs(fresh).mean() > Gate.default().log_probs(fresh).mean() + 0.1
    assert (gate.weights_SF[:, 1] > 0.5).all()


def test_a_fit_is_a_maximum_in_every_direction():
    records, weights, prior, start = made_up(300), np.linspace(0.1, 1, 300), 2.0, Gate.default()

    def objective(weights_SF: np.ndarray) -> float:
        distance = ((weights_SF - start.weights_SF) ** 2).sum()
        return float((weights * Gate(weights_SF).log_probs(records)).sum() - prior * distance)

    best = Gate.fit(records, weights, start=start, prior=prior).weights_SF
    for source in range(NUM_SOURCES):
        for feature in range(NUM_FEATURES):
            for step in (-0.05, 0.05):
                moved = best.copy()
                moved[source, feature] += step
                assert objective(moved) < objective(best)


def test_no_records_and_a_strong_prior_leave_the_gate_as_it_was():
    start = Gate.default()
    assert Gate.fit(made_up(0), start=start) is start
    assert Gate.fit(made_up(20), start=start, prior=1e9).weights_SF == pytest.approx(start.weights_SF, abs=1e-4)


def test_a_gate_survives_being_written_and_read():
    gate = Gate.fit(made_up(100))
    assert Gate.from_dict(gate.to_dict()).weights_SF == pytest.approx(gate.weights_SF, abs=1e-5)


@pytest.mark.parametrize("broken", [{}, {"weights": []}, {"weights": {s: {f: "x" for f in FEATURES} for s in SOURCES}}])
def test_what_is_no_gate_is_refused(broken):
    with pytest.raises(InputError, match="not a gate"):
        Gate.from_dict(broken)


@pytest.mark.parametrize("weight", [1e6, float("nan"), float("inf")])
def test_weights_out_of_range_are_refused(weight):
    data = Gate.default().to_dict()
    data["weights"][SOURCES[0]][FEATURES[0]] = weight
    with pytest.raises(InputError, match="out of range"):
        Gate.from_dict(data)


def test_a_gate_of_another_shape_is_refused():
    with pytest.raises(ValueError, match="weights"):
        Gate(np.zeros((2, 2)))
