from __future__ import annotations

import pytest

from apprentice.examples.kinds.intent import telling


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("Read timeouts from the config (#123)\n", "Read timeouts from the config"),
        ("Keep the order of headers\n\nSigned-off-by: A <a@b.c>\nCo-authored-by: B <b@c.d>", "Keep the order of headers"),
        ("Raise on empty names\n\n\n\n* fixup\n\nFixes: #12", "Raise on empty names\n\n* fixup"),
        ("fix", ""),
        ("WIP: more", ""),
        ("Update version", ""),
        ("v1.2.3", ""),
        ("ok, continue please", ""),
        ("yes", ""),
        ("", ""),
        ("Signed-off-by: A <a@b.c>", ""),
        ("word " * 400, ""),
    ],
)
def test_words_that_tell_a_purpose_are_told_from_those_that_do_not(said: str, told: str) -> None:
    assert telling(said) == told
