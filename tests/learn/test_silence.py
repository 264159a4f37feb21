from __future__ import annotations

import math
import random
from dataclasses import replace
from pathlib import Path

import pytest

from apprentice.core import artifacts, files
from apprentice.core.errors import ConfigError, InputError
from apprentice.examples.kinds.asked import Asked
from apprentice.learn import loading, report
from apprentice.learn.stages.silence import Silence, Told, described, judge, outcome, outcomes
from apprentice.repository.prompt import Place
from apprentice.serve import silence
from apprentice.serve.silence import FACTS, FILE, FOLDER, KIND, VERSION, Decision, Outcome
from apprentice.serve.suggestions import Suggestion


def _told(count: int = 400) -> list[Told]:
    """The surer, the righter; every second one where nothing was to be done, of which a half says nothing."""
    chance = random.Random(0)
    found: list[Told] = []
    for number in range(count):
        sureness, is_silent = chance.uniform(-3, 0), number % 2 == 1
        facts = tuple(1.0 if name == "bias" else sureness if name == "mixture" else 0.0 for name in FACTS)
        is_right = not is_silent and chance.random() < math.exp(sureness)
        made = None if is_silent and chance.random() < 0.5 else Outcome("line", facts, is_right)
        found.append(Told(f"commit-{number // 8}", is_silent, made))
    return found


def test_what_is_said_of_a_decision_adds_up() -> None:
    told = _told()
    found = judge(told, start=Decision({kind: [0.0] * len(FACTS) for kind in silence.KINDS}))
    assert (found.requests, found.silent) == (400, 200)
    assert found.offered == len(outcomes(told))
    assert found.right == sum(one.is_right for one in outcomes(told))
    assert found.brier[0] is not None
    assert found.even[0] is not None
    assert found.brier[0] < found.even[0]
    assert found.precision[0] is not None
    assert found.precision[0] > found.right / found.offered
    assert found.noise[0] is not None
    assert found.noise_before[0] is not None
    assert found.noise[0] < found.noise_before[0]
    share, precision, _ = found.curve[-1]
    assert share == 1
    assert precision == pytest.approx(found.right / found.offered)
    assert [point[2] for point in found.curve] == sorted((point[2] for point in found.curve), reverse=True)


def test_without_a_request_there_is_nothing_to_say() -> None:
    found = judge([])
    assert (found.requests, found.offered, found.curve) == (0, 0, [])
    assert found.brier == [None, None, None]
    assert Decision.fit(outcomes([])).weights == Decision.default().weights


def test_a_region_repeated_is_no_outcome() -> None:
    asked = Asked("edit", Place("a.py", ["x = 1", "y = 2"], 0, 1), "", ("x = 3",), False)
    made = Suggestion(path="a.py", start_line=0, end_line=1, new=("x = 3",), confidence=0.5, tokens=3, steps=1, is_shown=True, kind="lines")
    assert outcome(asked, made) == Outcome("lines", (), True)
    assert outcome(replace(asked, is_silent=True), made) == Outcome("lines", (), False)
    assert outcome(asked, replace(made, new=("x = 1  ",))) is None
    assert outcome(asked, None) is None


def test_a_run_without_a_decision_has_the_shipped_one(tmp_path: Path) -> None:
    assert silence.load(tmp_path / FOLDER).weights == Decision.default().weights
    decision = Decision.fit([Outcome("line", tuple([1.0] * len(FACTS)), True)] * 50)
    for version in (VERSION, VERSION + 1):
        folder = tmp_path / f"{version}"
        with artifacts.create(folder, kind=KIND, version=version, parents={}, config={}) as writer:
            files.write_json(writer.path(FILE), decision.to_dict())
            writer.finish()
    assert silence.load(tmp_path / f"{VERSION}").weights["line"] == pytest.approx(decision.weights["line"], abs=1e-5)
    assert silence.load(tmp_path / f"{VERSION + 1}").weights == Decision.default().weights


@pytest.mark.parametrize("text", ["{", "[]", '{"weights": {}}'])
def test_a_damaged_decision_is_an_error_whose_remedy_works(tmp_path: Path, text: str) -> None:
    """A run that is finished is not made again, so learning would not mend it."""
    folder = tmp_path / FOLDER
    with artifacts.create(folder, kind=KIND, version=VERSION, parents={}, config={}) as writer:
        files.write_text(writer.path(FILE), text)
        writer.finish()
    with pytest.raises(InputError) as caught:
        silence.load(folder)
    assert f"remove the folder `{FOLDER}`" in str(caught.value.hint)
    files.remove_tree(folder)
    assert silence.load(folder).weights == Decision.default().weights


def test_the_report_shows_what_the_chances_are_worth(tmp_path: Path) -> None:
    found = judge(_told())
    report.write(
        tmp_path / "index.html", {"heldout": {"examples": 1, "commits": 1}, "differences": {}}, claim="", curve=[], samples=[],
        provenance={}, silence=found,
    )  # fmt: skip
    page = (tmp_path / "index.html").read_text()
    assert "When it is silent" in page
    assert page.count("<figure>") == 1
    said = described(Silence(Decision.default(), found, ""))
    assert said["requests"] == 400
    assert "curve" not in said


@pytest.mark.parametrize("show_from", [-0.1, 1.1, math.nan])
def test_what_is_no_chance_is_refused(tmp_path: Path, show_from: float) -> None:
    with pytest.raises(ConfigError, match="chance"):
        loading.load(None, tmp_path, show_from=show_from)
