"""What is remembered changes nothing."""

from __future__ import annotations

from apprentice.sessions.remembered import Remembering, SecondLook
from apprentice.text.redaction import RedactionPolicy, Redactor

OURS = RedactionPolicy(vendor_rules=False)


class Counting:
    """A scanner that counts what it is asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def redact(self, text: str) -> tuple[str, dict[str, int]]:
        self.asked.append(text)
        return text.replace("hunter2", "<secret>"), {"word": 1}


def test_a_long_text_that_comes_again_is_searched_once_and_counted_each_time() -> None:
    scanner = Counting()
    remembering = Remembering(scanner)
    text = "hunter2 " + "x" * 2000
    assert [remembering.redact(text) for _ in range(3)] == [("<secret> " + "x" * 2000, {"word": 1})] * 3
    assert scanner.asked == [text]


def test_what_is_remembered_stays_below_its_bound() -> None:
    scanner = Counting()
    remembering = Remembering(scanner, max_bytes=10_000)
    texts = [f"{number} " + "x" * 1000 for number in range(20)]
    for text in (*texts, texts[0]):
        remembering.redact(text)
    assert len(scanner.asked) == 21
    assert remembering._bytes <= 10_000


def test_a_second_look_finds_what_a_redactor_finds_however_often_it_is_asked() -> None:
    texts = [b'password = "kX9#mQ2$vL7!pR4"', b"nothing here", b"nothing here", b'password = "kX9#mQ2$vL7!pR4"', b"x" * 100]
    look, redactor = SecondLook(OURS), Redactor(OURS)
    assert [look.find(text) for text in texts] == [redactor.find(text) for text in texts]
    assert look.find(texts[0])


def test_the_shares_of_a_second_look_find_together_what_one_finds() -> None:
    texts = [f'password_{number} = "kX9#mQ2$vL7!pR{number}"'.encode() for number in range(40)]
    shares = [SecondLook(OURS, share=share, shares=3) for share in range(3)]
    found = [[bool(look.find(text)) for look in shares] for text in texts]
    assert all(sum(row) == 1 for row in found)
    assert all(any(row[share] for row in found) for share in range(3))
