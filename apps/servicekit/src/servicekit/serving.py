"""Runs a service: one process, one event loop, and an order in which to leave."""

import gc
from collections.abc import Awaitable, Callable
from socket import socket

import uvicorn

from servicekit.observation import App

KEEP_ALIVE_S = 75
"""Longer than the gateway keeps an idle connection, so that it is never the service that closes one in use."""
DRAIN_S = 25
"""For requests in flight; below the pod's grace period less its preStop."""


class Server(uvicorn.Server):
    """uvicorn, with something to do between SIGTERM and the closing of the listener."""

    def __init__(self, config: uvicorn.Config, leave: Callable[[], Awaitable[None]]) -> None:
        super().__init__(config)
        self.leave = leave

    async def startup(self, sockets: list[socket] | None = None) -> None:
        """Start, and from then on spare the garbage collector what is there for good: each look at it would be a pause."""
        await super().startup(sockets)
        gc.collect()
        gc.freeze()

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        """Leave the registry first, then stop listening and drain."""
        await self.leave()
        await super().shutdown(sockets)


def serve(app: App, host: str, port: int, leave: Callable[[], Awaitable[None]]) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        app: the ASGI app.
        host: address to listen on.
        port: to listen on.
        leave: called before the listener closes.
    """
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        loop="uvloop",
        http="httptools",
        access_log=False,  # requests are logged by Observed
        log_config=None,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=DRAIN_S,
    )
    Server(config, leave).run()
