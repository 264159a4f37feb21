from typing import Any

import pytest

from apprentice.core.errors import ConfigError
from apprentice.learn.config import LearnConfig, parse_budget
from apprentice.learn.run import asked


@pytest.mark.parametrize(
    ("text", "seconds"), [("10m", 600), ("1h30m", 5400), ("90s", 90), ("2h", 7200), (" 5m ", 300), ("1h1m1s", 3661)]
)
def test_a_budget_is_read_as_people_write_it(text: str, seconds: float) -> None:
    assert parse_budget(text) == seconds


@pytest.mark.parametrize("text", ["", "10", "m", "ten minutes", "-5m", "1.5h", "30m1h", "10m x", "1e9s"])
def test_what_is_no_budget_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ConfigError, match="no budget of time") as caught:
        parse_budget(text)
    assert "`10m`" in str(caught.value.hint)


@pytest.mark.parametrize(
    "options", [{"budget_s": 9}, {"steps": 0}, {"eval_commits": 0}, {"limit_commits": 0}, {"weights": "some"}]
)
def test_values_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        LearnConfig(**options)


def test_steps_take_the_decision_from_the_clock() -> None:
    assert LearnConfig().by_clock
    assert not LearnConfig(steps=1).by_clock


def test_runs_of_before_there_was_a_policy_to_choose_are_the_same_runs() -> None:
    assert "learn_from" not in asked(LearnConfig())
    assert asked(LearnConfig(learn_from=("assistant:ours",)))["learn_from"] == ["assistant:ours"]
