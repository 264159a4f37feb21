import pytest

from apprentice.sessions.authors import Identity
from apprentice.sessions.commits import parse_commit

USUAL = (
    b"tree 1\nparent 2\nauthor Ada <ada@x.example> 1700000000 +0100\ncommitter Grace <g@x.example> 1700000060 +0000\n"
    b"gpgsig -----BEGIN PGP SIGNATURE-----\n \n author Eve <e@x.example> 1 +0000\n -----END PGP SIGNATURE-----\n\nSay why\n\nAnd how\n"
)


def test_a_commit_is_taken_apart_and_its_signature_is_no_header() -> None:
    facts = parse_commit(USUAL)
    assert facts.author == Identity("Ada", "ada@x.example")
    assert facts.committer == Identity("Grace", "g@x.example")
    assert (facts.authored, facts.committed) == (1_700_000_000, 1_700_000_060)
    assert facts.message == "Say why\n\nAnd how"


@pytest.mark.parametrize(
    ("header", "message", "text"),
    [
        (b"encoding iso-8859-1\n", "Gr\u00fc\u00dfe".encode("latin-1"), "Gr\u00fc\u00dfe"),
        (
            b"encoding cp1251\n",
            "\u041f\u0440\u0438\u0432\u0435\u0442".encode("cp1251"),
            "\u041f\u0440\u0438\u0432\u0435\u0442",
        ),
        (b"encoding hex\n", b"\xff\xfe", "\u00ff\u00fe"),
        (b"encoding no-such-thing\n", b"\xe9", "\u00e9"),
        (b"", b"\xe9", "\u00e9"),
        (b"encoding iso-8859-1\n", "\u00fc".encode(), "\u00fc"),
    ],
)
def test_messages_are_decoded_whatever_the_header_says(header: bytes, message: bytes, text: str) -> None:
    assert parse_commit(b"author A <a> 1 +0000\n" + header + b"\n" + message).message == text


@pytest.mark.parametrize(
    "data", [b"", b"\n\n", b"author\n\n", b"author <>\n", b"\xff" * 100, b"author A <a 1\n\nx", b"author A <a> nan\n\n"]
)
def test_anything_is_a_commit_of_some_kind(data: bytes) -> None:
    facts = parse_commit(data)
    assert facts.authored == 0.0
    facts.message.encode()


@pytest.mark.parametrize("clock", [b"-1", b"99999999999", b"999999999999999999999999"])
def test_a_clock_that_is_far_off_says_nothing(clock: bytes) -> None:
    assert parse_commit(b"author A <a> " + clock + b" +0000\n\nx").authored == 0.0
