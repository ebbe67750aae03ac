"""Runs a service: one process, one event loop, and an order in which to leave."""

import asyncio
import gc
from collections.abc import Awaitable, Callable
from socket import socket
from typing import Any, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from servicekit.observation import App

KEEP_ALIVE_S = 75
"""Longer than the gateway keeps an idle connection, so that it is never the service that closes one in use."""
DRAIN_S = 25
"""For requests in flight; below the pod's grace period less its preStop."""
SETTLE_S = 1.0
"""For callers to hear of the leaving before the listener closes; meanwhile every answer ends its connection."""


CORK_BYTES = 64 * 1024


class Corked:
    """A transport that sends what is written while the event loop does one round in one go.

    uvicorn writes head and body of an answer one after the other; a system call is what a small answer costs most.

    Args:
        transport: the connection's.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._unsent: list[bytes] = []
        self._unsent_bytes = 0
        self._loop = asyncio.get_running_loop()

    def write(self, data: bytes) -> None:
        """Send bytes, soon."""
        if not self._unsent:
            self._loop.call_soon(self._send)
        self._unsent.append(data)
        self._unsent_bytes += len(data)
        if self._unsent_bytes > CORK_BYTES:  # the transport has to know, so that it can say stop
            self._send()

    def close(self) -> None:
        """Send what is left, and close."""
        self._send()
        self._transport.close()

    def _send(self) -> None:
        if self._unsent and not self._transport.is_closing():
            self._transport.write(b"".join(self._unsent))
        self._unsent.clear()
        self._unsent_bytes = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class Protocol(HttpToolsProtocol):
    """uvicorn's, on a corked transport."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        super().connection_made(cast("asyncio.Transport", Corked(cast("asyncio.Transport", transport))))


class Server(uvicorn.Server):
    """uvicorn, with something to do once it listens, and between SIGTERM and the closing of the listener."""

    def __init__(
        self, config: uvicorn.Config, join: Callable[[], Awaitable[None]], leave: Callable[[], Awaitable[None]]
    ) -> None:
        super().__init__(config)
        self.join = join
        self.leave = leave

    async def startup(self, sockets: list[socket] | None = None) -> None:
        """Start to listen, and then join the registry."""
        await super().startup(sockets)
        # What is there by now is there for good: looking at it again and again would be pauses.
        gc.collect()
        gc.freeze()
        if not self.should_exit:
            await self.join()

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        """Leave the registry first, then stop listening and drain."""
        await self.leave()
        # A new list: uvicorn hands the list itself to requests that are being served.
        self.server_state.default_headers = [*self.server_state.default_headers, (b"connection", b"close")]
        await asyncio.sleep(SETTLE_S)
        await super().shutdown(sockets)


def serve(
    app: App, host: str, port: int, join: Callable[[], Awaitable[None]], leave: Callable[[], Awaitable[None]]
) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        app: the ASGI app.
        host: address to listen on.
        port: to listen on.
        join: called once it listens.
        leave: called before the listener closes.
    """
    Server(configured(app, host, port), join, leave).run()


def configured(app: App, host: str, port: int) -> uvicorn.Config:
    """How uvicorn serves an app."""
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        loop="uvloop",
        http=Protocol,
        access_log=False,  # requests are logged by Observed
        log_config=None,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=DRAIN_S,
    )
