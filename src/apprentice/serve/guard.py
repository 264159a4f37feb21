"""The wall in front of the server: who may talk to it, from where, and how much.

A server on loopback is reachable by every web page that the developer opens: by a form (no preflight), by a script whose
host name was rebound to 127.0.0.1, by a plain cross-origin request. So the Host must be one that we answer to, an Origin
must be allowed by name, and a POST must be JSON, which no form can send. A body is counted while it is read.

Lessons of CVE-2024-28224 (rebinding) and CVE-2025-63389 (management without login).
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from apprentice.serve.errors import ApiError

LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, kw_only=True, slots=True)
class GuardConfig:
    """Who may talk to the server."""

    allowed_hosts: tuple[str, ...] = LOOPBACK_HOSTS
    """Host names without port that requests may be addressed to."""
    allowed_origins: tuple[str, ...] = ()
    """Origins of web pages that may call, such as `https://tool.example`."""
    api_key: str | None = None
    """What `Authorization: Bearer` must bring, at least 16 characters; None asks for nothing."""
    max_body_bytes: int = 8 * 2**20
    """Of a request, 1 KiB to 1 GiB."""

    def __post_init__(self) -> None:
        if not 1024 <= self.max_body_bytes <= 2**30:
            raise ValueError("max_body_bytes must be 1024 to 2**30")
        if self.api_key is not None and len(self.api_key) < 16:
            raise ValueError("api_key must have at least 16 characters")


class Guard:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp, config: GuardConfig) -> None:
        self._app, self._config = app, config
        self._hosts = frozenset(host.lower() for host in config.allowed_hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            self._check(scope["method"], scope["path"], Headers(scope=scope))
        except ApiError as error:
            await error.response()(scope, receive, send)
            return
        await self._app(scope, _Counted(receive, self._config.max_body_bytes), send)

    def _check(self, method: str, path: str, headers: Headers) -> None:
        """Raises: ApiError where the request must not go on."""
        hosts = headers.getlist("host")
        if len(hosts) != 1 or host_name(hosts[0]) not in self._hosts:
            raise ApiError(403, "this server does not answer to that host name; start it with `--allow-host NAME`", code="host_not_allowed")
        origin = headers.get("origin")
        if origin is not None and origin not in self._config.allowed_origins:
            raise ApiError(403, "web pages of this origin may not call this server", code="origin_not_allowed")
        key = self._config.api_key
        if key is not None and path != "/health" and method != "OPTIONS":
            given = headers.get("authorization", "").removeprefix("Bearer ")
            if not hmac.compare_digest(given.encode(), key.encode()):
                raise ApiError(401, "Incorrect API key provided", code="invalid_api_key")
        if method == "POST" and headers.get("content-type", "").split(";")[0].strip().lower() != "application/json":
            raise ApiError(415, "send the body as `Content-Type: application/json`")
        length = headers.get("content-length", "0")
        if not length.isascii() or not length.isdigit():
            raise ApiError(400, "`Content-Length` is no number")
        if len(length) > 12 or int(length) > self._config.max_body_bytes:
            raise _too_large(self._config.max_body_bytes)


class _Counted:
    """Receives a body up to a bound, whatever its `Content-Length` said."""

    def __init__(self, receive: Receive, bound: int) -> None:
        self._receive, self._bound, self._seen = receive, bound, 0

    async def __call__(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._seen += len(message.get("body", b""))
            if self._seen > self._bound:
                raise _too_large(self._bound)
        return message


def host_name(host: str) -> str:
    """`localhost:8000` -> `localhost`, `[::1]:8000` -> `::1`."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower()


def is_loopback(hosts: Sequence[str]) -> bool:
    """Whether only this machine can reach them."""
    return all(host in LOOPBACK_HOSTS or host.startswith("127.") for host in hosts)


def _too_large(bound: int) -> ApiError:
    return ApiError(413, f"the body is larger than {bound // 1024} KiB", code="request_too_large")
