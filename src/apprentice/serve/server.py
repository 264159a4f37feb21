"""Runs the application: an address taken, uvicorn on it, and a word when it answers.

Loopback by default. An address that other machines reach needs an API key: there is no server without one on a network.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import uvicorn

from apprentice.core.errors import ConfigError, InputError
from apprentice.serve.app import MAX_WAITING, create_app
from apprentice.serve.guard import GuardConfig, is_loopback
from apprentice.serve.served import Slot

DEFAULT_PORT = 8311


@dataclass(frozen=True, kw_only=True, slots=True)
class ServeConfig:
    """Where to listen, and to whom."""

    host: str = "127.0.0.1"
    """Address or name; one that other machines reach needs an API key."""
    port: int = DEFAULT_PORT
    """0 to 65535; 0 takes a free one."""
    api_key: str | None = None
    """At least 16 characters; None = no key asked for, on loopback only."""
    allowed_hosts: tuple[str, ...] = ()
    """Further names under which the server is reached, without port."""
    allowed_origins: tuple[str, ...] = ()
    """Web pages that may call, such as `https://tool.example`."""

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ConfigError(f"port {self.port} is not in 0 to 65535", hint="0 takes any free port")
        if self.api_key is not None and len(self.api_key) < 16:
            raise ConfigError("the API key is shorter than 16 characters", hint="make one: `openssl rand -hex 24`")
        if self.api_key is None and not is_loopback([self.host]):
            raise ConfigError(
                f"other machines can reach {self.host}, and no API key is set",
                hint="give a key (`openssl rand -hex 24` makes one), or listen on 127.0.0.1",
            )


def serve(slot: Slot, config: ServeConfig, *, on_ready: Callable[[str], None] = lambda url: None) -> None:
    """Serves until interrupted. `on_ready` gets the base URL (up to and with `/v1`) once requests are answered.

    Raises: InputError where the address cannot be taken."""
    with listening(config) as taken:
        server = Server(slot, config, taken, on_ready)
        # Being interrupted is how a server ends well; uvicorn passes the signal on after its clean-up.
        with contextlib.suppress(KeyboardInterrupt):
            server.run(sockets=[taken])


@contextlib.contextmanager
def listening(config: ServeConfig) -> Iterator[socket.socket]:
    """The address, taken. Raises: InputError."""
    with contextlib.ExitStack() as stack:
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(config.host, config.port, type=socket.SOCK_STREAM)[0]
            taken = stack.enter_context(socket.socket(family, kind, protocol))
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            taken.bind(address)
        except OSError as error:
            raise InputError(
                f"cannot listen on {config.host}:{config.port}: {error.strerror}", hint="choose another port with `--port`"
            ) from None
        yield taken


def base_url(taken: socket.socket) -> str:
    """What a client is given as `base_url`."""
    host, port = taken.getsockname()[:2]
    return f"http://[{host}]:{port}/v1" if ":" in host else f"http://{host}:{port}/v1"


class Server(uvicorn.Server):
    """uvicorn with our application. `should_exit = True` ends it."""

    def __init__(
        self, slot: Slot, config: ServeConfig, taken: socket.socket, on_ready: Callable[[str], None], *,
        max_waiting: int = MAX_WAITING,
    ) -> None:
        self._url, self._on_ready = base_url(taken), on_ready
        guard = GuardConfig(allowed_origins=config.allowed_origins, api_key=config.api_key)
        guard = replace(guard, allowed_hosts=(*guard.allowed_hosts, config.host, *config.allowed_hosts))
        super().__init__(
            uvicorn.Config(
                create_app(slot, guard, max_waiting=max_waiting), log_level="warning", access_log=False, server_header=False, proxy_headers=False,
                http="h11", ws="none", lifespan="on", timeout_keep_alive=15, limit_concurrency=512,
                h11_max_incomplete_event_size=64 * 1024, timeout_graceful_shutdown=5,
            )
        )  # fmt: skip

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_ready(self._url)
