"""HTTP/1.1 as uvicorn speaks it, with three things that it lacks: an end to clients that take too long, answers sent in one go, and answers
without a task where the app has them at once."""

import asyncio
import urllib.parse
from collections.abc import Callable
from http import HTTPStatus
from math import inf
from typing import Any, TypeVar, cast

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from servicekit.observation import Headers, Scope

KEEP_ALIVE_S = 75
"""Longer than the gateway keeps an idle connection, so that it is never the service that closes one in use."""
HEAD_S = 10.0
"""For the head of a request, from its first byte, or from when the connection was made."""
STALL_S = 60.0
"""For a client to take more of an answer that waits for it."""
CORK_BYTES = 64 * 1024
BODILESS = (204, 304)
TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


_outbox: list["Corked"] = []


def write_all() -> None:
    """Send what waits on every transport."""
    for transport in _outbox:
        transport.flush()
    _outbox.clear()


class Corked:
    """A transport that sends once the event loop has done its round, in one go, right after what waits on all others.

    A system call is what a small answer costs most, and most of that is to wake who waits for it on the other side: one write after the
    other, they wake it once.

    Args:
        transport: the connection's.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self.raw = transport
        self._unsent: list[bytes] = []
        self._unsent_bytes = 0
        self._loop = asyncio.get_running_loop()
        self.is_closing = transport.is_closing

    def write(self, data: bytes) -> None:
        """Send bytes, soon."""
        if not self._unsent:
            if not _outbox:
                self._loop.call_soon(write_all)
            _outbox.append(self)
        self._unsent.append(data)
        self._unsent_bytes += len(data)
        if self._unsent_bytes > CORK_BYTES:  # the transport has to know, so that it can say stop
            self.flush()

    def close(self) -> None:
        """Send what is left, and close."""
        self.flush()
        self.raw.close()

    def flush(self) -> None:
        """Send what waits."""
        unsent = self._unsent
        if unsent:
            if not self.is_closing():
                self.raw.write(unsent[0] if len(unsent) == 1 else b"".join(unsent))
            unsent.clear()
            self._unsent_bytes = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.raw, name)


C = TypeVar("C", bound="Cycle")
AtOnce = Callable[[Scope, "Cycle"], bool]


class Cycle(RequestResponseCycle):
    """A request and its answer. An app with `at_once(scope, cycle, respond)` may keep the request without a task: it returns True, and
    later calls `respond` with the whole answer, or `go_on` to be called as any ASGI app after all."""

    protocol: "Protocol"

    def respond(self, status: int, headers: Headers, body: bytes) -> None:
        """Answer with all there is to it, and be done."""
        lines = [STATUS_LINE[status]]
        for name, value in self.default_headers:
            lines += (name, b": ", value, b"\r\n")
            if name == b"connection":
                self.keep_alive = False
        framed = status in BODILESS or self.scope["method"] == "HEAD"
        for name, value in headers:
            lines += (name, b": ", value, b"\r\n")
            framed = framed or name == b"content-length"
        if not framed:
            lines.append(b"content-length: %d\r\n" % len(body))
        if not self.keep_alive:
            lines.append(b"connection: close\r\n")
        lines += (b"\r\n", body)
        self.response_started = self.response_complete = True
        if self.disconnected:
            return
        self.transport.write(b"".join(lines))
        if not self.keep_alive:
            self.transport.close()
        self.on_response()

    def go_on(self) -> None:
        """Call the app as any ASGI app."""
        self.protocol.start_task(self)


class Upgrade(Cycle):
    """A request for a WebSocket (RFC 6455). An app that has `upgrades` finds `scope["take"]`; when it has sent a 101 it may take over the
    connection by that: `take(protocol)` makes it another protocol's."""

    async def send(self, message: Any) -> None:
        """Send a part of the answer."""
        if message["type"] == "http.response.start" and message["status"] == HTTPStatus.SWITCHING_PROTOCOLS:
            lines = [STATUS_LINE[101], b"connection: upgrade\r\n"]
            for name, value in message["headers"]:
                lines += (name, b": ", value, b"\r\n")
            self.response_started = self.response_complete = True
            self.transport.write(b"".join([*lines, b"\r\n"]))
        else:
            await super().send(message)

    def take(self, protocol: asyncio.BaseProtocol) -> None:
        """Make the connection another protocol's."""
        transport = cast("Corked", self.transport)
        transport.flush()
        raw = transport.raw
        self.protocol.connections.discard(self.protocol)
        raw.set_protocol(protocol)
        protocol.connection_made(raw)
        self.flow.resume_reading()


class Protocol(HttpToolsProtocol):
    """A client's connection."""

    head_since = 0.0
    """Loop time since when a head is waited for; infinite while a request is being served."""
    idle_since = inf
    stalled_since = inf

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        super().connection_made(cast("asyncio.Transport", Corked(cast("asyncio.Transport", transport))))
        self.head_since = self.loop.time()
        own: Any = self
        self._app = own.app
        self._at_once: AtOnce | None = getattr(self._app, "at_once", None)

    def on_message_begin(self) -> None:
        """The first bytes of a request."""
        self.head_since, self.idle_since = self.loop.time(), inf
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The head is there. As uvicorn's, less what we have no use for."""
        self.head_since = inf
        parser: Any = self.parser
        scope = cast("dict[str, Any]", self.scope)
        version = parser.get_http_version()
        scope["method"] = parser.get_method().decode("ascii")
        scope["http_version"] = version
        url = httptools.parse_url(self.url)
        scope["raw_path"] = raw_path = url.path
        path = raw_path.decode("ascii")
        scope["path"] = urllib.parse.unquote(path) if "%" in path else path
        scope["query_string"] = url.query or b""
        if parser.should_upgrade() and self._should_upgrade():
            return
        before = cast("Cycle | None", self.cycle)
        keep_alive = version != "1.0" and parser.should_keep_alive()
        self.cycle = cycle = self._cycle(Cycle, keep_alive=keep_alive)
        if before is None or before.response_complete:
            self._start_asgi_task(cycle, self._app)
        else:  # pipelined
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, self._app))

    def _cycle(self, kind: type[C], *, keep_alive: bool) -> C:
        cycle = kind(
            scope=self.scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=keep_alive,
            on_response=self.on_response_complete,
        )
        cycle.protocol = self
        return cycle

    def _should_upgrade_to_ws(self) -> bool:
        before = cast("Cycle | None", self.cycle)
        return getattr(self._app, "upgrades", False) and (before is None or before.response_complete)

    def handle_websocket_upgrade(self) -> None:
        """The client asks for a WebSocket; nothing more is read until somebody takes the connection."""
        self.flow.pause_reading()
        cycle = self._cycle(Upgrade, keep_alive=False)
        self.cycle = cycle
        cast("dict[str, Any]", self.scope)["take"] = cycle.take
        self.start_task(cycle)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        if self._at_once is None or not self._at_once(cast("Scope", cycle.scope), cast("Cycle", cycle)):
            super()._start_asgi_task(cycle, app)

    def start_task(self, cycle: Cycle) -> None:
        """Serve a request in a task."""
        super()._start_asgi_task(cycle, self._app)

    def on_response_complete(self) -> None:
        """The answer is written: on to the next request. Idle connections are looked at by `expire`, without a timer for each answer."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        else:
            self.idle_since = self.loop.time()

    def pause_writing(self) -> None:
        """The client takes an answer more slowly than it comes."""
        self.stalled_since = self.loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        """It has caught up."""
        self.stalled_since = inf
        super().resume_writing()

    def expire(self, now: float) -> None:
        """Close the connection if its client takes too long."""
        if self.transport.is_closing():
            return
        if now - self.stalled_since > STALL_S:
            self.transport.abort()
        elif now - self.head_since > HEAD_S:
            self.transport.write(TOO_SLOW)
            self.transport.close()
        elif now - self.idle_since > KEEP_ALIVE_S:
            self.transport.close()
