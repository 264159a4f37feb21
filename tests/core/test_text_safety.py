import time
import unicodedata

import pytest

from apprentice.core.text_safety import shorten, terminal_safe


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("plain\ttext\n", "plain\ttext\n"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07a\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "alink"),
        ("\x1b]52;c;c2VjcmV0\x07clipboard", "clipboard"),
        ("\x1bPq#0\x1b\\sixel", "sixel"),
        ("\x1b(0\x1bc", ""),
        ("\x1b]0;never ended", "\\x1b]0;never ended"),
        ("\x1b", "\\x1b"),
        ("\x9b31m", "\\x9b31m"),
        ("back\x08space\rreturn", "back\\x08space\\x0dreturn"),
        ("dos\r\nlines", "dos\nlines"),
        ("if admin\u202e:", "if admin\\u202e:"),
        ("a\u200bb\u2028c\U000e0041", "a\\u200bb\\u2028c\\U000e0041"),
        ("\udcff", "\\udcff"),
        ("Grüße 日本 \U0001f468\u200d\U0001f469", "Grüße 日本 \U0001f468\u200d\U0001f469"),
    ],
)
def test_unsafe_characters_are_removed_or_shown(text: str, safe: str) -> None:
    assert terminal_safe(text) == safe


def test_no_control_character_at_all_gets_through() -> None:
    shown = terminal_safe("".join(map(chr, range(0x3000))), single_line=True)
    kept = {unicodedata.category(c) for c in shown if unicodedata.bidirectional(c) in ("LRE", "RLE", "LRO", "RLO", "PDF")}
    assert kept == set()
    assert not [c for c in shown if unicodedata.category(c) in ("Cc", "Zl", "Zp")]


def test_sequences_hidden_in_sequences_do_not_come_out_whole() -> None:
    assert "\x1b" not in terminal_safe("\x1b\x1b[0m[31m \x1b[3\x1b[0m1m")


def test_hostile_text_takes_linear_time() -> None:
    started = time.process_time()
    for text in ("\x1b]" * 200_000, "\x1b[" * 200_000, "\x1bP" * 200_000, "\x1b[0" + "0" * 400_000):
        terminal_safe(text)
    assert time.process_time() - started < 5


def test_one_line_of_a_given_width() -> None:
    assert shorten("a\nb" + "c" * 100, 10) == "a\\nbccc..."
    assert shorten("ab", 10) == "ab"
