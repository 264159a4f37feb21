from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest

from apprentice.core.fakes import ByteTokenizer, ScriptedGenerator
from apprentice.core.protocols import Mixture
from apprentice.repository.prompt import Place
from apprentice.serve.silence import FACTS, Decision
from apprentice.serve.suggestions import Suggester
from apprentice.text.edits import join, render_target

LINES = ["def add(a, b):", "    return a", ""]
TOKENIZER = ByteTokenizer()
PLACE = Place("a.py", LINES, 1, 2)


class Remembering:
    """A memory that has no opinion and one resemblance."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []

    def mixture(self, **where: Any) -> Mixture:
        self.asked.append(where)
        return Same()

    def explain(self, **where: Any) -> Sequence[Any]:
        self.asked.append(where)
        return ["b.py:3"]


class Same:
    """Leaves the model's opinion as it is."""

    def mix(self, log_probs_V: Any) -> Any:
        return log_probs_V

    def advance(self, token_id: int) -> None:
        pass

    def draft(self, max_tokens: int) -> list[int]:
        return []


def said(*new: str) -> str:
    return join(render_target(tuple(LINES[1:2]), new))[0]


def suggester(*replies: str, **options: Any) -> Suggester:
    return Suggester(ScriptedGenerator(TOKENIZER, replies, log_prob=-0.01), TOKENIZER, **options)


def test_an_edit_is_the_replacement_that_was_written() -> None:
    suggestion = suggester(said("    return a + b")).edit(PLACE)
    assert suggestion is not None
    assert (suggestion.path, suggestion.start_line, suggestion.end_line) == ("a.py", 1, 2)
    assert suggestion.new == ("    return a + b",)
    assert suggestion.confidence == pytest.approx(math.exp(-0.01 * suggestion.tokens))


def test_what_is_no_replacement_is_no_suggestion() -> None:
    assert suggester("words without an end").edit(PLACE) is None


def test_a_line_keeps_what_stands_before_and_behind_the_cursor() -> None:
    suggestion = suggester("a + b\nnever this").line(PLACE, "    return ", "  # sum")
    assert suggestion.new == ("    return a + b  # sum",)


@pytest.mark.parametrize(
    ("generated", "rest", "line"),
    [
        ("a + b", "", "f(a + b"),
        ("a, b)", ")", "f(a, b)"),
        ("a, b):", ")", "f(a, b):)"),
        ("a, b)", "):", "f(a, b):"),
        ("a, b)  # sum", ")  # sum", "f(a, b)  # sum"),
        ("foo", "or bar", "f(fooor bar"),
        (">>>>>>> after", "", "f("),
        ("# a.py, below the edit", "", "f("),
        ("# a.py", ")", "f()"),
    ],
)
def test_a_line_does_not_repeat_what_stands_behind_the_cursor_nor_say_parts_of_the_prompt(
    generated: str, rest: str, line: str
) -> None:
    assert suggester(generated).line(PLACE, "f(", rest).new == (line,)


def test_a_line_that_stays_as_it_is_is_not_shown() -> None:
    here = PLACE.lines[PLACE.start_line]
    assert not suggester("<<<<<<< before").line(PLACE, here).is_shown
    assert not suggester(here[-4:]).line(PLACE, here[:-4]).is_shown


def test_the_memory_is_asked_about_the_place_and_explains_only_when_asked_why() -> None:
    memory = Remembering()
    plain = suggester(said("    return b"), memory=memory).edit(PLACE)
    assert plain is not None
    assert plain.resembles == ()
    assert [(asked["path"], asked["start_line"], asked["end_line"]) for asked in memory.asked] == [("a.py", 1, 2)]
    why = suggester(said("    return b"), memory=memory).edit(PLACE, why=True)
    assert why is not None
    assert why.resembles == ("b.py:3",)
    assert memory.asked[-1]["new_text"] == "    return b"


def test_without_a_memory_nothing_resembles() -> None:
    assert suggester("b").line(PLACE, "    return ", why=True).resembles == ()


def test_what_is_not_likely_enough_to_be_right_is_not_shown() -> None:
    chances: list[float] = []
    for show_from, is_shown in ((0.0, True), (1.0, False)):
        found = suggester(said("    return a + b"), decision=Decision.default(), show_from=show_from).edit(PLACE)
        assert found is not None
        assert found.is_shown is is_shown
        assert found.kind == "lines"
        assert len(found.facts) == len(FACTS)
        chances.append(found.chance or 0.0)
    assert chances[0] == chances[1]
    assert 0 < chances[0] < 1


def test_the_region_repeated_is_silence_however_likely_it_is() -> None:
    found = suggester(said("    return a"), decision=Decision.default(), show_from=0.0).edit(PLACE)
    assert found is not None
    assert not found.is_shown


def test_the_rest_of_a_line_is_decided_on_too_and_without_a_decision_everything_new_is_shown() -> None:
    assert suggester("b").line(PLACE, "    return ").is_shown
    found = suggester("b", decision=Decision.default(), show_from=0.0).line(PLACE, "    return ")
    assert found.is_shown
    assert found.kind == "line"
