"""A connection to an instance: HTTP/1.1 as a protocol of asyncio's, one exchange at a time.

Not a client library: beside uvicorn, aiohttp took more than half of the gateway's time (docs/benchmarks.md has the figures).
"""

import asyncio
from collections import deque
from collections.abc import Callable
from http import HTTPStatus
from itertools import chain
from math import inf
from typing import Any, cast

import httptools
from servicekit.bodies import content_length
from servicekit.http1 import BODILESS, Corked

Headers = list[tuple[bytes, bytes]]
READ_AHEAD_BYTES = 64 * 1024
"""Of an answer that the client takes more slowly than the instance gives it; then the instance has to wait. One read more may come on top,
up to 256 KiB: that is what a client holds that reads nothing."""
HEAD_LIMIT_BYTES = 64 * 1024
VERSIONS = ("1.1", "1.0")
FOREVER = inf
"""A deadline while it is the client who is waited for."""
CLOSED_EARLY = "the instance closed the connection before its answer was whole"


class UpstreamError(Exception):
    """The instance did not answer as it should."""


class NotSent(UpstreamError):  # noqa: N818 - says what happened
    """No connection was made, so nothing was sent."""


class Broken(UpstreamError):  # noqa: N818
    """The connection was lost, or what came over it is not HTTP."""


class Stale(Broken):
    """A connection that was kept had been given up by the instance: nothing of an answer came (RFC 9112, section 9.3.1)."""


class TimedOut(UpstreamError):  # noqa: N818
    """The answer, or its next piece, did not come in time."""


class Connection(asyncio.Protocol):
    """A connection, used for one exchange after the other.

    The instance's answer is in `status` and `headers` (names in lower case) once `head` has returned.
    """

    def __init__(self) -> None:
        self.transport: Corked | None = None
        self.status = 0
        self.headers: Headers = []
        self.length: int | None = None
        """Of the body, where the instance has said it; to HEAD, of that of GET."""
        self.deadline = 0.0
        """Loop time at which the exchange fails."""
        self.started = 0.0
        self.idle_since = 0.0
        self.busy = False
        self.sent = False
        """Whether the whole request was sent: the rest of a body would be read as the next request."""
        self.reusable = False
        self.surplus = False
        """Whether the instance has sent more than its answer may have."""
        self.done = True
        self._used = self._kept = False
        """Whether there was an exchange on it at all, and before this one."""
        self._parser: Any = None
        self._chunks: deque[bytes] = deque()
        self._ahead_bytes = 0
        self._paused = False
        self._overhead_bytes = 0
        """Received since the last piece of a body: heads, framing, trailers."""
        self._to_end = self._in_trailers = False
        self._error: Exception | None = None
        self._headless = False
        self.heard: Callable[[], None] | None = None
        """Called once there is something to hear, in place of waiting for it; until it is taken away."""
        self._waiter: asyncio.Future[None] | None = None
        self._writable: asyncio.Event | None = None

    # What the gateway asks for.

    def start(self, head: bytes, *, headless: bool, whole: bool, now: float) -> None:
        """Send a request's head, with its body where that is already here.

        Args:
            head: what is sent.
            headless: whether the answer has no body whatever its headers say, as to HEAD.
            whole: whether that is all of the request.
            now: loop time.
        """
        if self._parser is None or not self.reusable:
            self._parser = httptools.HttpResponseParser(self)
        self.status = 0
        self.headers, self.length = [], None
        self.started = now
        self.busy, self.done, self.reusable, self.surplus = True, False, False, False
        self._kept, self._used = self._used, True
        self.heard = None
        self.sent = whole
        self._headless = headless
        self._overhead_bytes = 0
        self._to_end = self._in_trailers = False
        self._error = None
        self._chunks.clear()  # of an answer that nobody wanted
        self._ahead_bytes = 0
        self._read_on()
        self.write(head)

    def write(self, data: bytes) -> None:
        """Send more."""
        if self.transport is None or self.transport.is_closing():
            self.fail(self._closed_early())
        else:
            self.transport.write(data)

    async def drained(self) -> None:
        """Return when more may be written."""
        if self._writable:
            await self._writable.wait()

    async def head(self) -> None:
        """Return when status and headers are there.

        Raises:
            UpstreamError: they will not come.
            ClientGone: nobody waits for them any more.
        """
        while not self.status:
            await self._wait()

    async def chunk(self) -> bytes:
        """The next piece of the body; empty at its end.

        Raises:
            UpstreamError: the rest will not come.
            ClientGone: nobody waits for it any more.
        """
        while not self._chunks:
            if self.done:
                return b""
            await self._wait()
        piece = self._chunks.popleft() if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
        self._ahead_bytes = 0
        self._read_on()
        return piece

    async def whole(self) -> bytes:
        """The whole body."""
        while not self.done:
            await self._wait()
        return self.taken()

    def _closed_early(self) -> Broken:
        return (
            Stale(CLOSED_EARLY) if self._kept and not self._overhead_bytes and not self.status else Broken(CLOSED_EARLY)
        )

    def fail(self, error: Exception) -> None:
        """End the exchange, and the connection with it."""
        if self._error is None:
            self._error = error
        self.reusable = False
        self.close()
        self._wake()

    def close(self) -> None:
        """End the connection."""
        if self.transport is not None:
            self.transport.abort()

    @property
    def failed(self) -> bool:
        """Whether the answer, or its rest, will not come."""
        return self._error is not None

    def taken(self) -> bytes:
        """The body, which is whole."""
        body = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
        self._ahead_bytes = 0
        return body

    @property
    def alive(self) -> bool:
        """Whether it can be used once more."""
        return self.transport is not None and not self.transport.is_closing()

    def _read_on(self) -> None:
        if self._paused and self.transport:
            self._paused = False
            self.transport.resume_reading()

    async def _wait(self) -> None:
        if self._error:
            raise self._error
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None
        if self._error and not self.done:
            raise self._error

    def _wake(self) -> None:
        if self.heard:
            self.heard()
        elif self._waiter and not self._waiter.done():
            self._waiter.set_result(None)

    # What asyncio tells.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is open."""
        self.transport = Corked(cast("asyncio.Transport", transport))

    def connection_lost(self, exc: Exception | None) -> None:
        """It is closed: the end of an answer that says no length, too early for any other."""
        self.transport = None
        if not self.done and self.status and self._to_end and exc is None and self._error is None:
            self.done = True
        elif not self.done and self._error is None:
            self._error = self._closed_early()
        if self._writable:
            self._writable.set()
        self._wake()

    def data_received(self, data: bytes) -> None:
        """More of the answer."""
        if self.done:  # nobody asked
            self.close()
            return
        self._overhead_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self.done and self._in_trailers:  # the answer is whole, and its trailers are not wanted
                self._finish()
            if not self.done:
                known = error.__context__
                self.fail(known if isinstance(known, Broken) else Broken(f"the answer is not HTTP: {error}"))
                return
            self._exceed()
        if self._overhead_bytes > HEAD_LIMIT_BYTES and not self.done:
            self.fail(Broken("the head or the trailers of the answer are too large"))
            return
        if self._ahead_bytes > READ_AHEAD_BYTES and not self._paused and self.transport:
            self._paused = True
            self.transport.pause_reading()
        if (self._waiter is not None or self.heard) and (self.status or self.done):
            self._wake()

    def _exceed(self) -> None:
        """Use the connection no more: what comes after the answer would be read as the next one."""
        self.surplus, self.reusable = True, False

    def pause_writing(self) -> None:
        """The instance takes a body more slowly than the client gives it."""
        self._writable = asyncio.Event()

    def resume_writing(self) -> None:
        """It has caught up."""
        if self._writable:
            self._writable.set()
            self._writable = None

    # What the parser tells.

    def on_message_begin(self) -> None:
        """Notice an answer that was not asked for."""
        if self.done:
            self._exceed()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep one header; those after the body, trailers, are dropped."""
        if not self.status:
            self.headers.append((name.lower(), value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        """Note the head of an answer; that of an interim one is not the one that is waited for.

        Raises:
            Broken: there is no such answer.
        """
        if self.done:
            return
        status = self._parser.get_status_code()
        if not 100 <= status <= 599 or status == HTTPStatus.SWITCHING_PROTOCOLS:
            raise Broken(f"the answer has status {status}")
        if self._parser.get_http_version() not in VERSIONS:
            raise Broken("the answer is not HTTP/1.1")
        if status < 200:
            self.headers = []
            return
        if self._overhead_bytes > HEAD_LIMIT_BYTES and sum(map(len, chain(*self.headers))) > HEAD_LIMIT_BYTES:
            raise Broken("the head of the answer is too large")
        self.length, chunked = framing(self.headers)
        self.status = status
        if self._headless:
            self._finish()
        elif status in BODILESS:
            declared = chunked or self.length
            self.length = None
            self._finish()
            if declared and status != HTTPStatus.NOT_MODIFIED:
                self._exceed()
        else:
            self._to_end = self.length is None and not chunked

    def on_chunk_header(self) -> None:
        """Notice a body where there may be none, and that this may be the last chunk: that has no bytes, and trailers after it."""
        self._in_trailers = True
        if self.done:
            self._exceed()

    def on_body(self, body: bytes) -> None:
        """Keep a piece of the body."""
        self._in_trailers = False
        if self.done:
            self._exceed()
        else:
            self._chunks.append(body)
            self._ahead_bytes += len(body)
            self._overhead_bytes = 0

    def on_message_complete(self) -> None:
        """Note the end of the answer, unless it was an interim one."""
        if self.status:
            self._finish()

    def _finish(self) -> None:
        if not self.done:
            self.done = True
            self.reusable = bool(self._parser.should_keep_alive())
            if self._headless:  # it may wait for the body of which the headers speak
                self._parser = None


def framing(given: Headers) -> tuple[int | None, bool]:
    """Return the length that an answer's headers give its body, and whether it comes in chunks (RFC 9112, section 6.3).

    Raises:
        Broken: they contradict each other, or name a transfer coding that is not read here.
    """
    length: int | None = None
    codings: list[bytes] = []
    for name, value in given:
        if name == b"content-length":
            if length is not None:
                raise Broken("the answer has no clear Content-Length")
            try:
                length = content_length(value)
            except ValueError as error:
                raise Broken(f"the answer has no clear length: {error}") from error
        elif name == b"transfer-encoding":
            codings.append(value.strip(b" \t").lower())
    if codings and (length is not None or codings != [b"chunked"]):
        raise Broken("the answer has no clear Transfer-Encoding")
    return length, bool(codings)
