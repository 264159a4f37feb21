"""Who is let in."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from apprentice.core.errors import ConfigError, InputError
from apprentice.serve.guard import GuardConfig
from apprentice.serve.server import ServeConfig, listening

Start = Callable[..., Any]
BODY = {"model": "debug", "prompt": "x", "max_tokens": 1}


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"host": "attacker.example"}, 403, "host_not_allowed"),
        ({"host": "127.0.0.1.attacker.example:8311"}, 403, "host_not_allowed"),
        ({"host": ""}, 403, "host_not_allowed"),
        ({"host": "LOCALHOST:1"}, 200, None),
        ({"host": "[::1]:9"}, 200, None),
        ({"origin": "https://attacker.example"}, 403, "origin_not_allowed"),
        ({"origin": "null"}, 403, "origin_not_allowed"),
        ({"content-type": "text/plain"}, 415, None),
        ({"content-type": "application/x-www-form-urlencoded"}, 415, None),
        ({"content-type": "application/json; charset=utf-8"}, 200, None),
    ],
)
def test_hosts_origins_and_forms(headers: dict[str, str], status: int, code: str | None, start: Start) -> None:
    answer = httpx.post(start().url + "/completions", json=BODY, headers=headers)
    assert answer.status_code == status
    if status != 200:
        assert answer.json()["error"]["code"] == code


def test_an_allowed_origin_may_call_and_is_told_so(start: Start) -> None:
    url = start(ServeConfig(port=0, allowed_origins=("https://tool.example",))).url
    origin = {"origin": "https://tool.example"}
    # OpenAI's client for browsers says more of itself than the usual headers.
    asked = {"access-control-request-method": "POST", "access-control-request-headers": "authorization,content-type,x-stainless-lang"}
    before = httpx.options(url + "/completions", headers={**origin, **asked})
    answer = httpx.post(url + "/completions", json=BODY, headers=origin)
    assert before.status_code == answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == "https://tool.example"
    assert httpx.post(url + "/completions", json=BODY, headers={"origin": "https://other.example"}).status_code == 403


def test_a_key_is_asked_for_where_one_is_set(start: Start) -> None:
    key = "0123456789abcdef"
    url = start(ServeConfig(port=0, api_key=key)).url
    for wrong in ({}, {"authorization": "Bearer x"}, {"authorization": f"Bearer {key}x"}):
        answer = httpx.post(url + "/completions", json=BODY, headers=wrong)
        assert answer.status_code == 401
        assert answer.json()["error"]["code"] == "invalid_api_key"
    assert httpx.post(url + "/completions", json=BODY, headers={"authorization": f"Bearer {key}"}).status_code == 200
    assert httpx.get(url.removesuffix("/v1") + "/health").status_code == 200


def test_bodies_are_bounded_whether_they_say_their_length_or_not(start: Start) -> None:
    url = start().url
    large = b'{"model": "' + b"x" * (9 * 2**20) + b'"}'
    headers = {"content-type": "application/json"}
    said = httpx.post(url + "/completions", content=large, headers=headers)
    unsaid = httpx.post(url + "/completions", content=iter([large[: 2**20]] * 9), headers=headers)
    assert said.status_code == unsaid.status_code == 413


def test_no_server_on_a_network_without_a_key() -> None:
    for host in ("0.0.0.0", "192.168.1.5", "::"):  # noqa: S104 - refused is what is tested
        with pytest.raises(ConfigError, match="no API key"):
            ServeConfig(host=host)
        ServeConfig(host=host, api_key="0123456789abcdef")
    with pytest.raises(ConfigError, match="shorter than 16"):
        ServeConfig(api_key="short")
    with pytest.raises(ConfigError, match="port"):
        ServeConfig(port=65536)
    with pytest.raises(ValueError, match="max_body_bytes"):
        GuardConfig(max_body_bytes=5)


def test_an_address_in_use_is_named_with_the_fix() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"cannot listen on 127.0.0.1:{port}") as caught, listening(ServeConfig(port=port)):
            pass
    assert "--port" in (caught.value.hint or "")
