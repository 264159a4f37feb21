"""Redaction: what must not be written is not, and ordinary code is left alone."""

from __future__ import annotations

import base64
import gzip
import json
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apprentice.text import planted
from apprentice.text.people import Known
from apprentice.text.redaction import RedactionPolicy, Redactor

SOURCES = Path(__file__).parents[2] / "src" / "apprentice"
KEEPS = '''\
import hashlib
EMPTY = "da39a3ee5e6b4b0d3255bfef95601890afd80709"
ID = uuid.UUID("123e4567-e89b-12d3-a456-426614174000")
SRI = "sha512-z4PhNX7vuL3xVChQ1m2AB9Yg5AULVxXcg/SpIdNs6c5H0NE8XYXysP+DGNKHfuwvY7kxvUdBeoGlODJ6+SfaPg=="
def check(password: str, token: str | None = None, secret_key: bytes = b"") -> bool: ...
password = get_password("user")
token = tokens[index + 1]
api_key = os.environ["API_KEY"]
pad_token = "<|endoftext|>"
SECRET_KEY = "${SECRET_KEY}"
password_field = "password"
auth = HTTPBasicAuth(user, password=settings.PASSWORD)
key = sorted(items, key=lambda item: item.name)
url = f"https://{user}:{password}@{host}/x"
assert parse("https://user:pass@host/") == parse(text)
class Wav2Vec2FeatureExtractor: ...
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
data = "aGVsbG8gd29ybGQsIHRoaXMgaXMgb3JkaW5hcnkgdGV4dA=="
ssh = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ5xHq0eXb1v2v3T9Vw3Q8rK4yWm1d2ZkqYtX0aBcDeF"
See https://github.com/owner/name/blob/aa9eb5f757ceff461e6e996f12c89e5d9b583b01/Lib/os.py
'''


@pytest.fixture(scope="module")
def redactor() -> Redactor:
    return Redactor()


@pytest.fixture(scope="module")
def our_rules() -> Redactor:
    return Redactor(RedactionPolicy(vendor_rules=False))


def leaks(secret: str, redacted: str) -> list[str]:
    return [trace for trace in planted.traces(secret) if len(trace) >= 8 and trace in redacted]


@pytest.mark.parametrize("vendor", planted.VENDOR_KEYS)
def test_no_vendors_key_survives_any_disguise(redactor: Redactor, vendor: str) -> None:
    for seed in range(3):
        secret = planted.VENDOR_KEYS[vendor](random.Random(seed))
        for disguise, hide in planted.DISGUISES.items():
            redacted, counts = redactor.redact(hide(secret))
            assert not leaks(secret, redacted), (disguise, redacted)
            assert counts


@pytest.mark.parametrize("vendor", planted.VENDOR_KEYS)
def test_our_own_rules_know_the_vendors_too(our_rules: Redactor, vendor: str) -> None:
    secret = planted.VENDOR_KEYS[vendor](random.Random(9))
    for disguise, hide in planted.DISGUISES.items():
        assert not leaks(secret, our_rules.redact(hide(secret))[0]), disguise


@pytest.mark.parametrize("wrapping", planted.WRAPPINGS)
def test_no_value_behind_a_telling_name_survives(redactor: Redactor, wrapping: str) -> None:
    for seed in range(40):
        secret, text = planted.environment_secret(random.Random(seed))
        redacted, _ = redactor.redact(planted.WRAPPINGS[wrapping](text))
        assert not leaks(secret, redacted), (text, redacted)


@pytest.mark.parametrize("template", [
    '{lower} = (\n    "{a}"\n    "{b}"\n)\n', '{lower} = "{a}" + \\\n      "{b}"\n', '{name}={a}\\\n{b}\n',
    '{lower}: >-\n  {a}\n  {b}\n', 'const {lower} = "{a}" +\n  "{b}";\n', '+{lower} = (\n+    "{a}"\n+    "{b}"\n+)\n',
])  # fmt: skip
def test_no_value_split_over_lines_survives(redactor: Redactor, template: str) -> None:
    for seed in range(20):
        r = random.Random(seed)
        name, secret = r.choice(planted.NAMES), planted.draw(r, planted.BASE62, r.choice((20, 32, 40)))
        first, second = planted.split_in_two(secret)
        redacted, _ = redactor.redact(template.format(name=name, lower=name.lower(), a=first, b=second))
        assert not leaks(secret, redacted), redacted


@pytest.mark.parametrize("wrapping", planted.WRAPPINGS)
@pytest.mark.parametrize("name", ["RSA ", "", "EC ", "OPENSSH ", "ENCRYPTED "])
def test_no_line_of_a_private_key_survives(redactor: Redactor, name: str, wrapping: str) -> None:
    key = planted.private_key(random.Random(4), name)
    text = planted.WRAPPINGS[wrapping](f"x = 1\n{key}\ny = 2\n")
    redacted, _ = redactor.redact(text)
    assert not any(leaks(line, redacted) for line in key.splitlines()[1:-2]), redacted


@pytest.mark.parametrize("template", [
    'key = """{}"""\n', "-----ignored-----\n{}", "    {}\n", "ssh: |\n{}\n", "{}\r\n",
])  # fmt: skip
def test_a_private_key_without_its_end_is_taken_whole(redactor: Redactor, template: str) -> None:
    key = planted.private_key(random.Random(5)).rsplit("\n", 1)[0]
    redacted, _ = redactor.redact(template.format(key))
    assert not any(line in redacted for line in key.splitlines()[1:-1])


def test_ordinary_code_is_left_alone(redactor: Redactor) -> None:
    assert redactor.redact(KEEPS) == (KEEPS, {})


def test_our_own_sources_are_left_alone(redactor: Redactor) -> None:
    for path in sorted(set(SOURCES.rglob("*.py")) - {SOURCES / "text" / "planted.py"}):
        text = path.read_text(encoding="utf-8")
        assert redactor.redact(text) == (text, {}), path


@pytest.mark.parametrize("make", [
    lambda r: planted.private_key(r), lambda r: planted.environment_secret(r)[1],
    *(lambda r, f=f: f(planted.VENDOR_KEYS["github"](r)) for f in planted.DISGUISES.values()),
])  # fmt: skip
def test_lines_stay_and_a_second_time_changes_nothing(
    redactor: Redactor, make: Callable[[random.Random], str]
) -> None:
    for seed in range(10):
        text = make(random.Random(seed))
        redacted, _ = redactor.redact(text)
        assert redacted.count("\n") == text.count("\n")
        assert redactor.redact(redacted) == (redacted, {})


def test_the_same_text_is_redacted_the_same_wherever_it_stands(redactor: Redactor) -> None:
    line = f'token = "{planted.VENDOR_KEYS["gitlab"](random.Random(0))}"\n'
    alone, _ = redactor.redact(line)
    other = planted.VENDOR_KEYS["github"](random.Random(0))
    assert redactor.redact(f"x = '{other}'\n{line}")[0].endswith(alone)


def test_kinds_are_counted(redactor: Redactor) -> None:
    r = random.Random(0)
    text = f"{planted.VENDOR_KEYS['github'](r)}\n{planted.VENDOR_KEYS['github'](r)}\npostgres://a:{planted.draw(r, planted.BASE62, 12)}@h/x"
    assert redactor.redact(text)[1] == {"github-pat": 2, "password-in-url": 1}


def test_known_persons_are_replaced() -> None:
    known = Known(names=frozenset({"Ada Lovelace"}), emails=frozenset({"ada@analytical.example"}))
    redactor = Redactor(RedactionPolicy(known=known, vendor_rules=False))
    assert redactor.redact("Ada Lovelace <ada@analytical.example>")[0] == "<person> <<email>>"
    plain = Redactor(RedactionPolicy(known=known, persons=False, vendor_rules=False))
    assert plain.redact("Ada Lovelace")[0] == "Ada Lovelace"


def test_marks_that_ask_scanners_to_look_away_are_ignored(redactor: Redactor) -> None:
    secret = planted.VENDOR_KEYS["npm"](random.Random(1))
    for mark in ("# kingfisher:ignore", "# gitleaks:allow", "# noqa: S105  # pragma: allowlist secret"):
        assert secret not in redactor.redact(f'token = "{secret}"  {mark}\n')[0]


def test_a_placeholder_in_the_text_protects_nothing(redactor: Redactor) -> None:
    secret = planted.VENDOR_KEYS["npm"](random.Random(2))
    assert secret not in redactor.redact(f"<secret:{secret}>\n<secret:x>{secret}<secret:x>")[0]


@pytest.mark.parametrize("text", ["1\t" * 3_000, "\x1b[" * 2_000 + "1m" * 2_000])
def test_numbers_and_colours_inside_each_other_are_survived(our_rules: Redactor, text: str) -> None:
    secret = "password = 'kX9#mQ2$vL7!pR4'"
    assert our_rules.redact(f"{text}\n{secret}\n")[0] == f"{text}\npassword = '<secret:password>'\n"


def test_packed_texts_inside_packed_texts_end_somewhere(our_rules: Redactor) -> None:
    text = b"nothing is said here "
    for _ in range(3):
        text = base64.b64encode(gzip.compress(b" ".join([text] * (1_000_000 // len(text)))))
    assert our_rules.redact(text.decode()) == (text.decode(), {})
    packed = base64.b64encode(gzip.compress(b"password = 'kX9#mQ2$vL7!pR4'\n")).decode()
    assert our_rules.redact(packed)[1] == {"password": 1}


def test_a_password_of_a_connection_string_is_no_folder(our_rules: Redactor) -> None:
    assert our_rules.redact("Server=db;UID=sa;PWD=MyPassw0rd1;")[0] == "Server=db;UID=sa;PWD=<secret:password>;"
    for kept in ("PWD=/builds/project-4711", "docker run -v $PWD:/src x", "OLDPWD=/builds/project-4711", "export PWD=$(pwd)"):
        assert our_rules.redact(kept) == (kept, {})


def test_phone_numbers_in_groups_and_rows_of_digits(our_rules: Redactor) -> None:
    for said in ("call +49 30 7712 9934 today", "tel: +493077129934", "(+1 212 771-9934)", "phone +49(30)77129934"):
        assert "<phone>" in our_rules.redact(said)[0]
    for kept in ("x = +31415926535897932384626433832795028841", "a +4930771299341234567890 b", "tel +49 30 7712 9934x"):
        assert our_rules.redact(kept) == (kept, {})


@given(st.text(max_size=300))
@settings(max_examples=150, deadline=None)
def test_any_text_is_survived(text: str) -> None:
    redacted, counts = Redactor(RedactionPolicy(vendor_rules=False)).redact(text)
    assert redacted == text or counts


def test_halves_of_character_pairs_are_survived(redactor: Redactor) -> None:
    # What is stored has to be text.
    assert redactor.redact("a\ud800b") == ("a?b", {})


@pytest.mark.parametrize("text", [
    "password=" * 20_000, "://a:" * 40_000, "-----BEGIN RSA PRIVATE KEY-----" * 4_000, "\\" * 200_000, "%41" * 60_000,
    "A" * 300_000, "aB3" * 100_000, "token = (" * 20_000, "&#65;" * 40_000, "a@" * 100_000, '"\n"' * 60_000,
    "ghp_\n" * 40_000, "eyJ" * 60_000, "password = '" + "x" * 200_000, "aB3dE5fG7hI9jK1lM2nO4pQ6\n" * 8_000,
    json.dumps(json.dumps(json.dumps("\\\"\n" * 20_000))), "{'kty'" * 20_000, "/home/a" * 30_000, "$6$" * 60_000,
    ("x +" + "1" * 70 + " ") * 1_500, "cookie " * 30_000, "password = 'x'" + " " * 20_000 + "x", "aB3dE5fG" * 6 + " " * 200_000 + "x",
    ("aB3dE5fG7hI9jK1lM2nO4pQ6\n" + " " * 44 + "~ ") * 10_000, "kty" * 60_000, "| password " * 30_000, "1\t" * 100_000,
    "password: |\n" + "+" * 1_000_000 + " x",
])  # fmt: skip
def test_hostile_text_costs_linear_time(our_rules: Redactor, text: str) -> None:
    started = time.process_time()
    our_rules.redact(text)
    assert time.process_time() - started < 20
