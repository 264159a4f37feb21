from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from apprentice.core.errors import ConfigError
from apprentice.eval.remote import Completions

Reply = tuple[int, bytes, dict[str, str]]


@contextmanager
def _server(replies: list[Reply], seen: list[tuple[str, dict[str, Any], str]]) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            seen.append((self.path, body, self.headers.get("Authorization", "")))
            code, data, headers = replies[min(len(seen), len(replies)) - 1]
            self.send_response(code)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            return

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1"
        finally:
            server.shutdown()
            thread.join()


def _reply(text: str, **choice: Any) -> bytes:
    return json.dumps({"choices": [{"text": text, "finish_reason": "stop", **choice}],
                       "usage": {"completion_tokens": 2}}).encode()  # fmt: skip


def _ask(replies: list[Reply], **values: Any) -> tuple[Any, list[tuple[str, dict[str, Any], str]]]:
    seen: list[tuple[str, dict[str, Any], str]] = []
    with _server(replies, seen) as url:
        answer = Completions(url=url, model="big", sleep=lambda seconds: None, timeout_s=10, **values)("prompt", 9, ("\n",))
    return answer, seen


def test_asks_greedily_and_reads_text_and_confidence() -> None:
    answer, seen = _ask([(200, _reply("ü", logprobs={"token_logprobs": [-0.5, -0.25]}), {})], api_key="k")
    assert (answer.text, answer.tokens, answer.confidence, answer.finished, answer.error) == ("ü", 2, -0.75, True, "")
    path, body, authorization = seen[0]
    assert (path, authorization) == ("/v1/completions", "Bearer k")
    assert body == {"model": "big", "prompt": "prompt", "max_tokens": 9, "temperature": 0, "stop": ["\n"], "logprobs": 1}


def test_without_log_probabilities_there_is_no_confidence() -> None:
    answer, _ = _ask([(200, _reply("x", logprobs=None, finish_reason="length"), {})])
    assert (answer.confidence, answer.finished) == (None, False)


def test_a_failing_server_is_asked_again_and_then_the_reason_is_kept() -> None:
    answer, seen = _ask([(500, b"", {}), (200, _reply("x"), {})])
    assert (answer.text, len(seen)) == ("x", 2)
    answer, seen = _ask([(500, b"", {})])
    assert "500" in answer.error
    assert (answer.text, len(seen)) == ("", 3)


def test_a_refusal_is_not_asked_again() -> None:
    answer, seen = _ask([(401, b"", {})])
    assert "401" in answer.error
    assert len(seen) == 1


@pytest.mark.parametrize("data", [b"no json", b"{}", b'{"choices": []}', b'{"choices": [{"text": null}], "usage": 3}', b"[1]"])
def test_an_answer_that_makes_no_sense_is_an_error_in_the_row(data: bytes) -> None:
    answer, _ = _ask([(200, data, {})], attempts=1)
    assert answer.error


def test_redirects_are_not_followed() -> None:
    answer, seen = _ask([(302, b"", {"Location": "http://127.0.0.1:1/elsewhere"})], attempts=1)
    assert "302" in answer.error
    assert len(seen) == 1


@pytest.mark.parametrize("url", ["file:///etc/passwd", "localhost:8000", "http://"])
def test_only_http_urls_are_servers(url: str) -> None:
    with pytest.raises(ConfigError):
        Completions(url=url, model="m")
