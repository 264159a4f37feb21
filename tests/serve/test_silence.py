from __future__ import annotations

import dataclasses
import json
import math
import random

import pytest

from apprentice.core.errors import InputError
from apprentice.core.protocols import Sample
from apprentice.serve.silence import FACTS, KINDS, MAX_WEIGHT, Decision, Outcome, Shown, facts
from apprentice.text.edits import Edit

LINES = ["import os", "", "def area(width, height):", "    return width * height", "", "print(area(1, 2))"]
SAMPLE = Sample(token_ids=[1, 2, 3], text="", log_probs=[-0.1, -0.4, -0.1], model_log_probs=[-0.2, -2.0, -0.1], finish_reason="stop")


def _facts(new: list[str], recent: list[Edit] | None = None, *, sample: Sample = SAMPLE, line: int = 5) -> dict[str, float]:
    shown = Shown("a.py", LINES, line, line + 1, new, is_line=False)
    return dict(zip(FACTS, facts(shown, sample, recent or []), strict=True))


def _decision(**weights: float) -> Decision:
    return Decision({kind: [weights.get(name, 0.0) for name in FACTS] for kind in KINDS})


def test_facts_are_as_computed_by_hand() -> None:
    found = _facts(["print(area(1, 2, 3))"])
    assert found["bias"] == 1
    assert found["model"] == pytest.approx(-2.3 / 5)
    assert found["model_first"] == pytest.approx(-0.1)
    assert found["mixture"] == pytest.approx(-0.6 / 5)
    assert found["mixture_mean"] == pytest.approx(-0.2)
    assert found["mixture_lowest"] == pytest.approx(-0.2)
    assert found["grown"] == pytest.approx(math.log1p(3) / 3)
    assert found["new_words"] == pytest.approx(math.log1p(1))
    assert found["new_words_recent"] == found["gone_words_recent"] == found["undoes"] == 0
    assert found["distance"] == pytest.approx(math.log1p(200) / 3)


def test_a_suggestion_follows_an_edit_that_made_the_same_of_the_same() -> None:
    renamed = Edit("a.py", 2, ("def area(width, height):",), ("def surface(width, height):",))
    follows = _facts(["print(surface(1, 2))"], [renamed])
    assert follows["new_words_recent"] == follows["gone_words_recent"] == follows["follows"] == 1
    assert follows["distance"] == pytest.approx(math.log1p(3) / 3)
    other = _facts(["print(volume(1, 2))"], [renamed])
    assert other["gone_words_recent"] == 1
    assert other["follows"] == 0


def test_a_suggestion_that_takes_the_last_edit_back_says_so() -> None:
    made = Edit("a.py", 5, ("print(area(2, 1))",), ("print(area(1, 2))",))
    assert _facts(["print(area(2, 1))"], [made])["undoes"] == 1
    assert _facts(["print(area(2, 1))"], [dataclasses.replace(made, path="b.py")])["undoes"] == 0


def test_facts_are_bounded_whatever_is_suggested() -> None:
    silent = Sample(token_ids=[], text="", log_probs=[], model_log_probs=[], finish_reason="stop")
    texts: list[list[str]] = [[], [""], ["x" * 100_000] * 50, [f"w{i}" for i in range(5000)]]
    for new in texts:
        for sample in (silent, dataclasses.replace(SAMPLE, log_probs=[-1e9] * 3, model_log_probs=[-math.inf] * 3)):
            for line in (0, len(LINES)):
                found = _facts(new, sample=sample, line=line)
                assert all(math.isfinite(value) and abs(value) <= 30 for value in found.values())
                assert 0 <= _decision(**dict.fromkeys(FACTS, MAX_WEIGHT)).chance("lines", tuple(found.values())) <= 1


def test_kinds_are_told_apart() -> None:
    here = ("a.py", LINES, 1, 2)
    assert Shown(*here, ["x"], is_line=True).kind == "line"
    assert Shown(*here, ["x"], is_line=False).kind == "lines"
    assert Shown(*here, [], is_line=False).kind == "deletion"


def test_a_fit_finds_the_chances_that_made_the_outcomes() -> None:
    chance = random.Random(0)
    truth = _decision(bias=-1.0, mixture=2.0, follows=1.5)
    outcomes: list[Outcome] = []
    for _ in range(6000):
        found = tuple(1.0 if name == "bias" else chance.uniform(-1, 1) for name in FACTS)
        outcomes.append(Outcome("lines", found, chance.random() < truth.chance("lines", found)))
    fitted = Decision.fit(outcomes, start=_decision(), prior=0.1)
    for name, value in zip(FACTS, fitted.weights["lines"], strict=True):
        assert value == pytest.approx({"bias": -1.0, "mixture": 2.0, "follows": 1.5}.get(name, 0.0), abs=0.2)
    mean = sum(fitted.chance("lines", outcome.facts) for outcome in outcomes) / len(outcomes)
    assert mean == pytest.approx(sum(outcome.is_right for outcome in outcomes) / len(outcomes), abs=0.002)
    # Of the other kinds nothing was seen.
    assert fitted.weights["line"] == _decision().weights["line"]


def test_few_outcomes_move_a_decision_little_and_none_not_at_all() -> None:
    start = Decision.default()
    assert Decision.fit([]).weights == start.weights
    found = (1.0, *[0.0] * (len(FACTS) - 1))
    distances = [
        abs(Decision.fit([Outcome("line", found, True)] * count).weights["line"][0] - start.weights["line"][0]) for count in (1, 10, 100)
    ]
    assert distances[0] < 0.2
    assert distances[0] < distances[1] < distances[2]


def test_the_shipped_decision_trusts_what_is_sure_and_follows_more() -> None:
    decision = Decision.default()
    for kind in ("line", "lines"):
        sure = _facts(["print(surface(1, 2))"], sample=dataclasses.replace(SAMPLE, log_probs=[-0.01] * 3, model_log_probs=[-0.01] * 3))
        doubtful = _facts(["print(surface(1, 2))"], sample=dataclasses.replace(SAMPLE, log_probs=[-2.0] * 9, model_log_probs=[-2.0] * 9))
        assert decision.chance(kind, tuple(sure.values())) > decision.chance(kind, tuple(doubtful.values()))
    renamed = Edit("a.py", 2, ("def area(width, height):",), ("def surface(width, height):",))
    new = ["print(surface(1, 2))"]
    chances = [decision.chance("lines", tuple(_facts(new, recent).values())) for recent in ([], [renamed])]
    assert chances[1] > chances[0]


def test_a_decision_survives_being_stored_and_refuses_what_is_none() -> None:
    decision = Decision.default()
    stored = json.loads(json.dumps(decision.to_dict()))
    assert Decision.from_dict(stored).weights == decision.weights
    for broken in ({}, {"weights": {}}, {"weights": {**stored["weights"], "line": {}}}, {"weights": [1]}):
        with pytest.raises(InputError):
            Decision.from_dict(broken)
    for value in (math.nan, math.inf, 1e9):
        row = {**stored["weights"]["line"], "bias": value}
        with pytest.raises(InputError):
            Decision.from_dict({"weights": {**stored["weights"], "line": row}})
