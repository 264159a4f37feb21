from pathlib import Path

import pytest

from apprentice.core.errors import ConfigError
from apprentice.sessions import policy as policies
from apprentice.sessions.events import Author
from apprentice.sessions.policy import Policy

DEVELOPER = Author(kind="developer", person="person-1")
CLAUDE, OURS = Author(kind="assistant", agent="claude"), Author(kind="assistant", agent="ours")
BOT = Author(kind="tool", agent="dependabot")


def test_by_default_only_developers_are_learned_from() -> None:
    assert [Policy().may_learn(author) for author in (DEVELOPER, CLAUDE, OURS, BOT)] == [True, False, False, False]


def test_one_assistant_can_be_named() -> None:
    policy = Policy(learn_from=("developer", "assistant:ours"))
    assert [policy.may_learn(author) for author in (DEVELOPER, CLAUDE, OURS, BOT)] == [True, False, True, False]


@pytest.mark.parametrize("entry", ["everybody", "", "assistant:", "developer:ada", "claude"])
def test_an_entry_that_names_nobody_is_refused(entry: str) -> None:
    with pytest.raises(ConfigError, match="nobody") as caught:
        Policy(learn_from=(entry,))
    assert caught.value.hint


def test_an_empty_list_is_refused() -> None:
    with pytest.raises(ConfigError, match="nobody"):
        Policy(learn_from=())


def test_the_manifest_gets_the_policy_and_the_terms_of_its_sources() -> None:
    described = Policy().describe(["git", "git", "unknown"])
    assert described["learn_from"] == ["developer"]
    assert [terms["source"] for terms in described["terms"]] == ["git"]


def test_what_is_asked_for_comes_before_the_file_and_the_file_before_the_default(tmp_path: Path) -> None:
    assert policies.chosen((), tmp_path) == Policy()
    (tmp_path / policies.FILE).write_text('learn_from = ["developer", "assistant:ours"]\n')
    assert policies.chosen((), tmp_path).learn_from == ("developer", "assistant:ours")
    assert policies.chosen(("developer",), tmp_path) == Policy()


@pytest.mark.parametrize("text", ["learn_form = []", 'learn_from = ["everybody"]', "learn_from = 1", "learn_from ="])
def test_a_policy_that_cannot_be_read_names_its_file(tmp_path: Path, text: str) -> None:
    (tmp_path / policies.FILE).write_text(text)
    with pytest.raises(ConfigError, match=r"policy\.toml|everybody"):
        policies.chosen((), tmp_path)
