"""WebSockets (RFC 6455): once both sides have agreed on one, the gateway hands bytes to and fro, whatever they mean."""

import asyncio
import socket
from http import HTTPStatus
from typing import Any, cast

import httptools
from prometheus_client import Gauge

from api_gateway.connection import HEAD_LIMIT_BYTES, Broken, Headers, NotSent, TimedOut
from api_gateway.upstream import CONNECT_TIMEOUT_S, Upstream

OPEN = Gauge("gateway_websockets", "WebSockets that are open")


class End(asyncio.Protocol):
    """One end of a tunnel: what comes here leaves at the other end, no faster than it is taken there."""

    def __init__(self) -> None:
        self.other: End | None = None
        self.transport: asyncio.Transport | None = None
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.early = b""
        """What came before there was another end."""
        self.news = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is open."""
        self.transport = cast("asyncio.Transport", transport)
        peer: socket.socket = transport.get_extra_info("socket")
        peer.setsockopt(
            socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1
        )  # silence is no end, but who is gone shall be noticed

    def data_received(self, data: bytes) -> None:
        """Bytes from here."""
        if self.other and self.other.transport:
            self.other.transport.write(data)
        else:
            self.early += data
            self.news.set()
            if len(self.early) > HEAD_LIMIT_BYTES and self.transport:
                self.transport.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's
        """It is closed, and so is the other end."""
        self.transport = None
        self.news.set()
        if not self.closed.done():
            self.closed.set_result(None)
        if self.other and self.other.transport:
            self.other.transport.close()

    def pause_writing(self) -> None:
        """Nothing more is taken here for a while."""
        if self.other and self.other.transport:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        """It is again."""
        if self.other and self.other.transport:
            self.other.transport.resume_reading()

    async def head(self) -> tuple[int, Headers]:
        """Return status and headers of the answer, which interim ones may precede; what came after it is left in `early`.

        Raises:
            Broken: it is no answer.
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
        """Be the other end of an end, and hand over what came early."""
        self.other, other.other = other, self
        for end, to in ((self, other), (other, self)):
            if end.early and to.transport:
                to.transport.write(end.early)
                end.early = b""
        for end in (self, other):
            if end.transport is None:
                end.connection_lost(None)


class Reading:
    """Collects the headers that a parser finds."""

    def __init__(self) -> None:
        self.headers: Headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        """One of them."""
        self.headers.append((name.lower(), value.rstrip(b" \t")))


def parsed(head: bytes) -> tuple[int, Headers]:
    """Status and headers of an answer.

    Raises:
        Broken: it is none.
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
    """Ask an instance for a WebSocket; the open end, and its answer's status and headers.

    Args:
        upstream: the instance.
        request: the head of the request.
        timeout_s: for the answer.

    Raises:
        UpstreamError: there is no answer.
    """
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            _, end = await loop.create_connection(End, upstream.instance.address, upstream.instance.port)
    except (OSError, TimeoutError, ValueError) as error:  # ValueError: an address that is none
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
    """Close an end."""
    if end.transport:
        end.transport.abort()


async def last(one: End, other: End) -> None:
    """Join two ends, and return when they are closed."""
    OPEN.inc()
    try:
        one.join(other)
        await asyncio.gather(one.closed, other.closed)
    finally:
        OPEN.dec()
        close(one)
        close(other)


def accepted(status: int, headers: Headers) -> bool:
    """Whether an answer opens a WebSocket."""
    upgrades = [value.lower() for name, value in headers if name == b"upgrade"]
    return status == HTTPStatus.SWITCHING_PROTOCOLS and upgrades == [b"websocket"]
