"""A connection to an instance: HTTP/1.1 as an asyncio protocol, one exchange at a time.

Not a client library: next to uvicorn, aiohttp took more than half of the gateway's time (docs/benchmarks.md has the figures).
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
"""Bytes of a response that are buffered when the client reads more slowly than the instance sends; then reading from the instance pauses.
One more read may be added, up to 256 KiB: that is the buffer of a client that reads nothing."""
HEAD_LIMIT_BYTES = 64 * 1024
VERSIONS = ("1.1", "1.0")
FOREVER = inf
"""Deadline while the exchange waits for the client."""
CLOSED_EARLY = "the instance closed the connection before its answer was whole"


class UpstreamError(Exception):
    """Error for an instance that did not respond as it should."""


class NotSent(UpstreamError):  # noqa: N818 - says what happened
    """Error for a connection that could not be made, so that nothing was sent."""


class Broken(UpstreamError):  # noqa: N818
    """Error for a lost connection, or data that is not HTTP."""


class Stale(Broken):
    """Error for a reused connection that the instance had closed before it sent any of the response (RFC 9112, section 9.3.1)."""


class TimedOut(UpstreamError):  # noqa: N818
    """Error for a response, or its next piece, that did not arrive in time."""


class Connection(asyncio.Protocol):
    """A connection, used for one exchange after another.

    The instance's response is in `status` and `headers` (names in lower case) once `head` has returned.
    """

    def __init__(self) -> None:
        self.transport: Corked | None = None
        self.status = 0
        self.headers: Headers = []
        self.length: int | None = None
        """Bytes of the body, if the instance has declared them; for HEAD, those of the GET response."""
        self.deadline = 0.0
        """Loop time at which the exchange fails."""
        self.started = 0.0
        self.idle_since = 0.0
        self.busy = False
        self.sent = False
        """True if the whole request was sent: the rest of a body would be read as the next request."""
        self.reusable = False
        self.surplus = False
        """True if the instance has sent more than its response may have."""
        self.done = True
        self._used = self._kept = False
        """True if there was an exchange on the connection at all, and whether there was one before the current one."""
        self._parser: Any = None
        self._chunks: deque[bytes] = deque()
        self._ahead_bytes = 0
        self._paused = False
        self._overhead_bytes = 0
        """Bytes received since the last piece of a body: heads, framing, trailers."""
        self._to_end = self._in_trailers = False
        self._error: Exception | None = None
        self._headless = False
        self.heard: Callable[[], None] | None = None
        """Callback that replaces waiting: called on every progress of the response until it is removed."""
        self._waiter: asyncio.Future[None] | None = None
        self._writable: asyncio.Event | None = None

    # Methods for the gateway.

    def start(self, head: bytes, *, headless: bool, whole: bool, now: float) -> None:
        """Send a request's head, and its body if that has been read already.

        Args:
            head: bytes to send.
            headless: whether the response has no body whatever its headers say, as for HEAD.
            whole: whether `head` is the whole request.
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
        self._chunks.clear()  # of a response that was abandoned
        self._ahead_bytes = 0
        self._read_on()
        self.write(head)

    def write(self, data: bytes) -> None:
        """Send more bytes of the request."""
        if self.transport is None or self.transport.is_closing():
            self.fail(self._closed_early())
        else:
            self.transport.write(data)

    async def drained(self) -> None:
        """Return when more may be written."""
        if self._writable:
            await self._writable.wait()

    async def head(self) -> None:
        """Return when status and headers have arrived.

        Raises:
            UpstreamError: they will not arrive.
            ClientGone: the client no longer waits for them.
        """
        while not self.status:
            await self._wait()

    async def chunk(self) -> bytes:
        """Return the next piece of the body; empty at its end.

        Raises:
            UpstreamError: the rest will not arrive.
            ClientGone: the client no longer waits for it.
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
        """Return the whole body."""
        while not self.done:
            await self._wait()
        return self.taken()

    def _closed_early(self) -> Broken:
        return (
            Stale(CLOSED_EARLY) if self._kept and not self._overhead_bytes and not self.status else Broken(CLOSED_EARLY)
        )

    def fail(self, error: Exception) -> None:
        """End the exchange and its connection."""
        if self._error is None:
            self._error = error
        self.reusable = False
        self.close()
        self._wake()

    def close(self) -> None:
        """Close the connection."""
        if self.transport is not None:
            self.transport.abort()

    @property
    def failed(self) -> bool:
        """Return whether the exchange failed, so that no more of the response will arrive."""
        return self._error is not None

    def taken(self) -> bytes:
        """Return the complete body, and empty the buffer."""
        body = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
        self._ahead_bytes = 0
        return body

    @property
    def alive(self) -> bool:
        """Return whether the connection can be used for another exchange."""
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

    # Callbacks of asyncio.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport of the new connection."""
        self.transport = Corked(cast("asyncio.Transport", transport))

    def connection_lost(self, exc: Exception | None) -> None:
        """Handle the closing of the connection: the end of a response without a length, a failure of any other response."""
        self.transport = None
        if not self.done and self.status and self._to_end and exc is None and self._error is None:
            self.done = True
        elif not self.done and self._error is None:
            self._error = self._closed_early()
        if self._writable:
            self._writable.set()
        self._wake()

    def data_received(self, data: bytes) -> None:
        """Parse more of the response."""
        if self.done:  # no request is waiting for a response
            self.close()
            return
        self._overhead_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self.done and self._in_trailers:  # the response is complete, and its trailers are not needed
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
        """Stop reusing the connection: bytes after the response would be read as the next one."""
        self.surplus, self.reusable = True, False

    def pause_writing(self) -> None:
        """Pause sending the body: the instance reads it more slowly than the client sends it."""
        self._writable = asyncio.Event()

    def resume_writing(self) -> None:
        """Resume sending the body."""
        if self._writable:
            self._writable.set()
            self._writable = None

    # Callbacks of the parser.

    def on_message_begin(self) -> None:
        """Detect a response that was not requested."""
        if self.done:
            self._exceed()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep one header; trailers, which come after the body, are dropped."""
        if not self.status:
            self.headers.append((name.lower(), value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        """Record the head of a final response; interim responses are skipped.

        Raises:
            Broken: the head is not one of a valid response.
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
        """Detect a body where none is allowed. This may be the last chunk, which has no bytes and is followed by trailers."""
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
        """Record the end of the response, unless it was an interim one."""
        if self.status:
            self._finish()

    def _finish(self) -> None:
        if not self.done:
            self.done = True
            self.reusable = bool(self._parser.should_keep_alive())
            if self._headless:  # the parser may wait for the body that the headers declare
                self._parser = None


def framing(given: Headers) -> tuple[int | None, bool]:
    """Return the body length that a response's headers declare, and whether the body is chunked (RFC 9112, section 6.3).

    Raises:
        Broken: they contradict each other, or name an unsupported transfer coding.
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
