"""Persons and private machines in text."""

from __future__ import annotations

import pytest

from apprentice.text.people import Known, People

KNOWN = Known(
    names=frozenset({"Ada Lovelace", "Björk Guðmundsdóttir", "rich"}),
    emails=frozenset({"ada@analytical.example", "root@localhost"}),
    hosts=frozenset({"ada-laptop-7", "box"}), logins=frozenset({"runner"}), homes=frozenset({"/data/people/ada", "/root"}),
)  # fmt: skip


def found(text: str, known: Known = KNOWN) -> list[tuple[str, str]]:
    data = text.encode()
    return [(data[start:end].decode(), kind) for start, end, kind in People(known).find(data)]


@pytest.mark.parametrize(("text", "hit"), [
    ("by Ada Lovelace, 1843", ("Ada Lovelace", "person")),
    ("ADA LOVELACE", ("ADA LOVELACE", "person")),
    ("(Björk Guðmundsdóttir)", ("Björk Guðmundsdóttir", "person")),
    ("<ada@analytical.example>", ("ada@analytical.example", "email")),
    ("mail jane.doe+x@corp.co.uk now", ("jane.doe+x@corp.co.uk", "email")),
    ("/home/jdoe/src", ("jdoe", "user")),
    ("C:\\Users\\jdoe\\x", ("jdoe", "user")),
    ("C:\\\\Users\\\\jdoe\\\\x", ("jdoe", "user")),
    ("/home/runner/work", ("runner", "user")),
    ("C:\\Users\\Ada King\\x", ("Ada King", "user")),
    ("/mnt/c/Users/Ada King/x", ("Ada King", "user")),
    ("C:\\Users\\Ada King\\new", ("Ada King", "user")),
    ("C:\\\\Users\\\\Ada King\\\\x", ("Ada King", "user")),
    ('"in C:\\\\Users\\\\jdoe and then\\nfoo"', ("jdoe", "user")),
    ("ls /Users/jdoe src/main.py", ("jdoe", "user")),
    ('"/Users/jdoe and then\\nfoo"', ("jdoe", "user")),
    ("c:\\users\\jdoe", ("jdoe", "user")),
    ("/home/josé/x", ("josé", "user")),
    ("read /Users/jdoe/.claude/projects/-Users-jdoe-dev-app/x.jsonl", ("jdoe", "user")),
    ("~/.claude/projects/-home-jdoe-app", ("jdoe", "user")),
    (".claude\\projects\\C--Users-jdoe-app", ("jdoe", "user")),
    ("on ada-laptop-7:", ("ada-laptop-7", "host")),
    ("/data/people/ada/x", ("/data/people/ada", "home")),
])  # fmt: skip
def test_persons_are_found(text: str, hit: tuple[str, str]) -> None:
    assert hit in found(text)


@pytest.mark.parametrize("text", [
    "import rich", "x@self.weight", "q @ k.T", "@app.route('/x')", "git@github.com:owner/name.git", "me@example.com",
    "a@b.test", "user@host", "icon@2x.png", "pkg@1.2.3", "Ada Lovelacey", "sandbox", "/root/x", "/home/user/x", "x@setup.py",
    "/home/$USER/x", "class='-home-page'", "/projects/-home-user-app", "/Users/user and/or",
])  # fmt: skip
def test_code_is_nobody(text: str) -> None:
    assert found(text) == []


def test_every_name_of_a_way_is_found() -> None:
    assert found("/Users/jdoe/.claude/projects/-Users-jdoe-app") == [("jdoe", "user"), ("jdoe", "user")]


def test_a_known_login_is_somebody_even_if_it_is_a_common_one() -> None:
    assert found("/home/runner/x", Known()) == []
    assert found("/home/runner/x") == [("runner", "user")]
