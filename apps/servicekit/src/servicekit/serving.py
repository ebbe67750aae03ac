"""Serving of an app: one process, one event loop, and an ordered shutdown."""

import asyncio
import gc
import resource
from collections.abc import Awaitable, Callable
from socket import (
    AF_INET6,
    AI_PASSIVE,
    IPPROTO_IPV6,
    IPV6_V6ONLY,
    SO_REUSEADDR,
    SOCK_STREAM,
    SOL_SOCKET,
    getaddrinfo,
    socket,
)
from typing import cast

import uvicorn

from servicekit import background
from servicekit.asgi import App
from servicekit.http1 import KEEP_ALIVE_S, Protocol
from servicekit.settings import SettingsError, refuse

DRAIN_S = 25
"""Seconds for requests in flight at shutdown; less than the pod's grace period minus its preStop."""
SETTLE_S = 1.0
"""Seconds for callers to learn of the shutdown before the listener closes; meanwhile every response closes its connection."""


class Server(uvicorn.Server):
    """uvicorn with hooks: one once it listens, and one between SIGTERM and the closing of the listener."""

    def __init__(
        self, config: uvicorn.Config, join: Callable[[], Awaitable[None]], leave: Callable[[], Awaitable[None]]
    ) -> None:
        super().__init__(config)
        self.join = join
        self.leave = leave

    async def startup(self, sockets: list[socket] | None = None) -> None:
        """Start to listen, and then join the registry."""
        asyncio.get_running_loop().set_exception_handler(background.on_lost)
        await super().startup(sockets)
        # Objects that exist by now are permanent: collecting them repeatedly would cause pauses.
        gc.collect()
        gc.freeze()
        if not self.should_exit:
            await self.join()

    async def on_tick(self, counter: int) -> bool:
        """Expire connections once a second."""
        if counter % 10 == 0:
            now = asyncio.get_running_loop().time()
            for connection in cast("list[Protocol]", list(self.server_state.connections)):
                connection.expire(now)
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        """Leave the registry first, then stop listening and drain."""
        await self.leave()
        # A new list: uvicorn passes the list itself to requests in progress.
        self.server_state.default_headers = [*self.server_state.default_headers, (b"connection", b"close")]
        await asyncio.sleep(SETTLE_S)
        await super().shutdown(sockets)


def serve(
    app: App,
    host: str,
    port: int,
    join: Callable[[], Awaitable[None]],
    leave: Callable[[], Awaitable[None]],
    protocol: type[Protocol] = Protocol,
) -> None:
    """Serve until SIGTERM or SIGINT; exit with code 2 if the port cannot be bound.

    Args:
        app: ASGI app.
        host: address to listen on.
        port: port to listen on.
        join: function called once the server listens.
        leave: function called before the listener closes.
        protocol: protocol class of connections.
    """
    allow_descriptors()
    try:
        sockets = bound(host, port)
    except SettingsError as error:
        refuse(error)
    Server(configured(app, host, port, protocol), join, leave).run(sockets)


def bound(host: str, port: int) -> list[socket]:
    """Return sockets bound to every address of a host; they do not listen yet.

    Raises:
        SettingsError: the port cannot be bound, or the host has no address on this machine.
    """
    sockets: list[socket] = []
    try:
        found = getaddrinfo(host, port, type=SOCK_STREAM, flags=AI_PASSIVE)
        # localhost resolves to ::1 too, whether or not the system has IPv6.
        usable = [each for each in found if each[0] != AF_INET6 or has_ipv6()] or found
        for family, kind, protocol, _, address in dict.fromkeys(usable):
            sockets.append(socket(family, kind, protocol))
            sockets[-1].setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
            if family == AF_INET6:
                sockets[-1].setsockopt(IPPROTO_IPV6, IPV6_V6ONLY, 1)  # as asyncio does: 0.0.0.0 is a separate setting
            sockets[-1].bind(address)
    except OSError as error:
        for each in sockets:
            each.close()
        raise SettingsError(f"server.port: cannot listen on port {port} of server.host: {error.strerror}") from error
    return sockets


def has_ipv6() -> bool:
    """Return whether this system has an IPv6 address."""
    try:
        with socket(AF_INET6, SOCK_STREAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def allow_descriptors() -> None:
    """Raise the limit of open files, and so of connections, to the system's maximum.

    The soft limit of 1,024 that systemd and containers start with is for programs that use select(2)
    (https://0pointer.net/blog/file-descriptor-limits.html); idle connections of one client would use it up for all.
    """
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def configured(app: App, host: str, port: int, protocol: type[Protocol] = Protocol) -> uvicorn.Config:
    """Return uvicorn's configuration for an app."""
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        loop="uvloop",
        http=protocol,
        access_log=False,  # requests are logged by Observed
        log_config=None,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=DRAIN_S,
    )
