"""What looks like a secret, by its characters alone."""

from __future__ import annotations

import random

import pytest

from apprentice.text.planted import BASE62, HEX, draw
from apprentice.text.secret_values import entropy, is_placeholder, looks_chosen, looks_random


def test_random_base62_looks_random_but_for_rare_draws() -> None:
    r = random.Random(1)
    for length, least in ((20, 0.9), (32, 0.97), (40, 0.98)):
        found = sum(looks_random(draw(r, BASE62, length).encode()) for _ in range(400))
        assert found >= least * 400, length


@pytest.mark.parametrize("value", [
    b"test_upsert_uses_pk_from_prior_insert_655", b"da39a3ee5e6b4b0d3255bfef95601890afd80709",
    b"123e4567-e89b-12d3-a456-426614174000", b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/",
    b"get_conditional_generation_model2", b"00000000000000000000", b"HTTP_502_BAD_GATEWAY_RESPONSE", b"1234567890123456789012",
])  # fmt: skip
def test_names_hashes_and_alphabets_do_not_look_random(value: bytes) -> None:
    assert not looks_random(value)


def test_hashes_of_any_length_do_not_look_random() -> None:
    r = random.Random(2)
    assert not any(looks_random(draw(r, HEX, length).encode()) for length in (32, 40, 64) for _ in range(100))


@pytest.mark.parametrize("value", [b"hunter2!", b"S3cr3tPass", b"p@ssw0rd-2024", b"xK9#mQ2$", b"korrekt-Pferd-7"])
def test_passwords_look_chosen(value: bytes) -> None:
    assert looks_chosen(value)


@pytest.mark.parametrize("value", [
    b"changeme", b"your-password-here", b"${PASSWORD}", b"<password>", b"{{ token }}", b"********", b"xxxxxxxx", b"None",
    b"settings.SECRET_KEY", b"my_password", b"get_password", b"/etc/secrets/token", b"https://host/x1", b"12345678",
    b"a sentence with 2 words", b"password", b"test_token", b"example-password", b"access_token_2", b"%(password)s",
])  # fmt: skip
def test_placeholders_names_and_paths_do_not_look_chosen(value: bytes) -> None:
    assert not looks_chosen(value)


def test_placeholders_of_our_own_are_placeholders() -> None:
    assert is_placeholder(b"<secret:github-token>")
    assert is_placeholder(b"<email>")


def test_entropy_of_a_fair_coin_is_one_bit() -> None:
    assert entropy(b"abab") == 1.0
    assert entropy(b"aaaa") == 0.0
