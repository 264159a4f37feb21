from __future__ import annotations

import math

import pytest

from apprentice.examples.checks.line import confidence, first_line, is_exact


@pytest.mark.parametrize(
    ("generated", "rest", "exact"),
    [
        (", b)", ", b)", True),
        (", b)  \nmore", ", b) ", True),
        (", b)\r", ", b)", True),
        (" , b)", ", b)", False),
        ("", "x", False),
        ("\n, b)", ", b)", False),
        ("ü", "u\u0308", False),
    ],
)
def test_a_line_is_exact_up_to_its_trailing_blanks(generated: str, rest: str, exact: bool) -> None:
    assert is_exact(generated, rest) is exact


def test_only_line_feeds_end_a_line() -> None:
    assert first_line("a\u2028b\x0cc\nd") == "a\u2028b\x0cc"


def test_confidence_is_the_product_of_probabilities() -> None:
    assert math.exp(confidence([math.log(0.5), math.log(0.25)])) == pytest.approx(0.125)
    assert confidence([]) == -math.inf
