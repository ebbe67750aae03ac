"""WebSockets (RFC 6455): once both sides have agreed on one, the gateway relays bytes in both directions without interpreting them."""

import asyncio
import socket
from http import HTTPStatus
from typing import Any, cast

import httptools
from prometheus_client import Gauge
from servicekit.http1 import limit_unsent

from api_gateway.connection import HEAD_LIMIT_BYTES, Broken, Headers, NotSent, TimedOut
from api_gateway.upstream import CONNECT_TIMEOUT_S, Upstream

CLOSE_S = 10.0
"""Seconds for a side to read the rest after the other one has closed."""
OPEN = Gauge("gateway_websockets", "WebSockets that are open")


class End(asyncio.Protocol):
    """One side of a tunnel: bytes that arrive here are written to the other side, no faster than it accepts them."""

    def __init__(self) -> None:
        self.other: End | None = None
        self.transport: asyncio.Transport | None = None
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.early = b""
        """Bytes that arrived before there was another side."""
        self.news = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport of the new connection."""
        self.transport = cast("asyncio.Transport", transport)
        limit_unsent(transport)
        peer: socket.socket = transport.get_extra_info("socket")
        peer.setsockopt(
            socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1
        )  # idle tunnels stay open, but dead peers are detected

    def data_received(self, data: bytes) -> None:
        """Write bytes to the other side, or keep them until there is one."""
        if self.other and self.other.transport:
            self.other.transport.write(data)
        else:
            self.early += data
            self.news.set()
            if len(self.early) > HEAD_LIMIT_BYTES and self.transport:
                self.transport.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's
        """Close the other side as well."""
        self.transport = None
        self.news.set()
        if not self.closed.done():
            self.closed.set_result(None)
        if self.other and self.other.transport:
            self.other.end()

    def end(self) -> None:
        """Close the connection once its peer has read the rest, within CLOSE_S: it may itself wait for the side that is gone."""
        if self.transport:
            self.transport.close()
            asyncio.get_running_loop().call_later(CLOSE_S, close, self)

    def pause_writing(self) -> None:
        """Pause reading from the other side."""
        if self.other and self.other.transport:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        """Resume reading from the other side."""
        if self.other and self.other.transport:
            self.other.transport.resume_reading()

    async def head(self) -> tuple[int, Headers]:
        """Return status and headers of the response, after any interim ones; bytes that came after it are left in `early`.

        Raises:
            Broken: the bytes are not a response.
        """
        while True:
            while b"\r\n\r\n" not in self.early:
                if self.transport is None or len(self.early) > HEAD_LIMIT_BYTES:
                    raise Broken("the instance closed the connection, or sent no head of an answer")
                self.news.clear()
                await self.news.wait()
            head, _, self.early = self.early.partition(b"\r\n\r\n")
            status, given = parsed(head + b"\r\n\r\n")
            if status >= HTTPStatus.OK or status == HTTPStatus.SWITCHING_PROTOCOLS:
                return status, given

    def join(self, other: "End") -> None:
        """Connect two sides, and pass on bytes that arrived early."""
        self.other, other.other = other, self
        for end, to in ((self, other), (other, self)):
            if end.early and to.transport:
                to.transport.write(end.early)
                end.early = b""
        for end in (self, other):
            if end.transport is None:
                end.connection_lost(None)


class Reading:
    """Parser callbacks that collect headers."""

    def __init__(self) -> None:
        self.headers: Headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header."""
        self.headers.append((name.lower(), value.rstrip(b" \t")))


def parsed(head: bytes) -> tuple[int, Headers]:
    """Return status and headers of a response.

    Raises:
        Broken: the bytes are not a response.
    """
    reading = Reading()
    parser: Any = httptools.HttpResponseParser(reading)
    try:
        parser.feed_data(head)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError as error:
        raise Broken("the answer is not HTTP") from error
    return parser.get_status_code(), reading.headers


async def connect(upstream: Upstream, request: bytes, timeout_s: float) -> tuple[End, int, Headers]:
    """Request a WebSocket from an instance; return the open side, and the response's status and headers.

    Args:
        upstream: instance.
        request: head of the request.
        timeout_s: seconds for the response.

    Raises:
        UpstreamError: there is no response.
    """
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            _, end = await loop.create_connection(End, upstream.instance.address, upstream.instance.port)
    except (OSError, TimeoutError, ValueError) as error:  # ValueError: an invalid address
        raise NotSent(f"{upstream.instance.id} cannot be reached: {type(error).__name__}") from error
    try:
        assert end.transport  # noqa: S101 - just made
        end.transport.write(request)
        async with asyncio.timeout(timeout_s):
            status, headers = await end.head()
    except TimeoutError as error:
        close(end)
        raise TimedOut(f"{upstream.instance.id} did not answer in time") from error
    except BaseException:
        close(end)
        raise
    return end, status, headers


def close(end: End) -> None:
    """Close a side."""
    if end.transport:
        end.transport.abort()


async def last(one: End, other: End) -> None:
    """Join two sides, and return when both are closed."""
    OPEN.inc()
    try:
        one.join(other)
        await asyncio.gather(one.closed, other.closed)
    finally:
        OPEN.dec()
        close(one)
        close(other)


def accepted(status: int, headers: Headers) -> bool:
    """Return whether a response opens a WebSocket."""
    upgrades = [value.lower() for name, value in headers if name == b"upgrade"]
    return status == HTTPStatus.SWITCHING_PROTOCOLS and upgrades == [b"websocket"]
