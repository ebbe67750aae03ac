"""The gateway's proxy as a process would run it, on loopback, before instances with scripted behaviour."""

import asyncio
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from types import SimpleNamespace
from typing import Any, cast

import pytest
from api_gateway.directory import Directory
from api_gateway.discovery import Instance
from api_gateway.forwarded import Peers
from api_gateway.limits import RateLimits
from api_gateway.proxy import Proxy
from api_gateway.routes import Route, RouteTable
from api_gateway.service import UpstreamService
from api_gateway.settings import Routing
from servicekit.asgi import Receive, Scope, Send
from servicekit.bodies import refuse
from servicekit.observation import Observed
from servicekit.problems import Kind, Problem
from servicekit.serving import Server, configured
from servicekit.settings import Auth, Cache
from servicekit.spans import Spans
from servicekit.tokens import Verifier

Behaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Gateway = Callable[..., Awaitable[int]]


def answering(status: int = 200, body: bytes = b"ok") -> Behaviour:
    """Return an instance that answers every request alike."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await head(reader):
            writer.write(b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n%b" % (status, len(body), body))

    return serve


async def head(reader: asyncio.StreamReader) -> bytes:
    """Return the head of the next request; nothing at the end of the connection."""
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return b""


async def own(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve none of the gateway's own endpoints."""
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return
    await refuse(Problem(Kind(404, "not-found", "Not Found"), "no such path"), send)


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    async with gateways() as start:
        yield start


@asynccontextmanager
async def gateways() -> AsyncGenerator[Gateway]:
    """Yield a function that starts a gateway before instances, with a verifier where tokens matter, and returns its port."""
    async with AsyncExitStack() as stack:

        async def start(
            *behaviours: Behaviour,
            verifier: Verifier | None = None,
            spans: Spans | None = None,
            trusted: str = "",
            **terms: Any,
        ) -> int:
            instances: list[Instance] = []
            for number, behaviour in enumerate(behaviours):
                server = await asyncio.start_server(closing(behaviour), "127.0.0.1", 0)
                stack.callback(server.close)
                instances.append(Instance(str(number), "127.0.0.1", server.sockets[0].getsockname()[1]))
            service = UpstreamService("s")
            service.set_instances(instances)
            route = Route.model_validate({"prefix": "/s", "service": "s", "auth": "none"} | terms)
            directory = SimpleNamespace(table=RouteTable((route,)), services={"s": service}, tick=service.tick)
            verifier = verifier or Verifier(Auth(required=False))
            peers = Peers(Routing(trusted=trusted).networks())
            proxy = Proxy(own, cast("Directory", directory), verifier, peers, RateLimits(Cache()))
            await proxy.open()
            stack.push_async_callback(proxy.close)
            return await serve(stack, Observed(proxy, "api-gateway", spans=spans))

        yield start


def closing(behaviour: Behaviour) -> Behaviour:
    """Return a behaviour that also closes the connection."""

    async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await behaviour(reader, writer)
        except ConnectionError:
            pass
        finally:
            writer.close()

    return run


async def nothing() -> None:
    """Do nothing: there is no registry to join or to leave."""


async def serve(stack: AsyncExitStack, app: Observed) -> int:
    """Serve an app as the services do, and return its port."""
    server = Server(configured(app, "127.0.0.1", 0), nothing, nothing)
    task = asyncio.create_task(server.serve())

    async def stop() -> None:
        # At once: there is no client to drain, and a graceful shutdown takes a fifth of a second.
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        server.servers[0].close()
        for connection in server.server_state.connections:
            connection.transport.abort()

    stack.push_async_callback(stop)
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.01)
    return server.servers[0].sockets[0].getsockname()[1]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the number of exchanges with instances that misbehave."""
    if tried := getattr(sys.modules.get("tests.process.gateway.misbehaving"), "tried", 0):
        terminalreporter.write_line(f"{tried} exchanges with instances that misbehave")
