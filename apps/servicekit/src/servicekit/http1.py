"""HTTP/1.1 based on uvicorn's, with what uvicorn lacks.

That is limits of heads, timeouts of slow clients, responses sent in one write, and responses without a task if the app has them immediately. A
test lists the private names of uvicorn that are used here, and pyproject.toml pins its minor version.
"""

import asyncio
import logging
import re
import socket
import urllib.parse
from collections.abc import Callable
from http import HTTPStatus
from itertools import starmap
from math import inf
from typing import Any, TypeVar, cast

import httptools
import uuid_utils
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from servicekit.asgi import Headers, Scope
from servicekit.bodies import encoded
from servicekit.problems import HEAD_TOO_LARGE, MALFORMED, REQUEST_TIMEOUT, TARGET_TOO_LONG, Kind, Problem, internal

log = logging.getLogger(__name__)
KEEP_ALIVE_S = 75
"""Seconds for which an idle connection is kept: longer than the gateway keeps it, so that the service never closes one in use."""
HEAD_S = 10.0
"""Seconds for the head of a request, from its first byte, or from when the connection was made."""
STALL_S = 60.0
"""Seconds for a client to read more of a response that waits for it."""
LINGER_S = 2.0
"""Seconds for a client to read a refusal while it is still sending: closing the connection earlier would reset it
(RFC 9112, section 9.6)."""
TARGET_LIMIT_BYTES = 8 * 1024
"""Maximum bytes of path and query together: the default of nginx, Apache and h2o."""
HEAD_LIMIT_BYTES = 32 * 1024
"""Maximum bytes of the names and values of a head, and of a request's trailers."""
FIELD_BYTES = 4
"""Bytes of a field in addition to its name and value: a colon, a space and the end of its line."""
FIELDS_LIMIT = 100
PIPELINE_LIMIT = 32
"""Maximum requests of one connection that wait for those before them: one packet could hold thousands."""
GATHER_S = 0.01
GATHER_BYTES = 16 * 1024
"""Bytes of a body that are passed to the app without waiting up to GATHER_S for more. Reading and waking the app is the cost of a piece, and
a client may send one for each byte."""
CORK_BYTES = 64 * 1024
UNSENT_BYTES = 64 * 1024
"""Bytes that the kernel keeps for a peer that it cannot send to yet. Without a limit it takes up to net.ipv4.tcp_wmem's 4 MiB for each, which count
towards the memory of the pod, and copies them while everything else waits."""
BODILESS = (204, 304)
SCHEMES = (b"http", b"https")
TOO_MANY = Kind(429, "too-many-at-once", "Too many requests at once")
NOT_IMPLEMENTED = Kind(501, "method-not-implemented", "The method is not implemented")
REQUEST_LINE = re.compile(rb"[\w!#$%&'*+.^`|~-]+ [!-~]+ HTTP/1\.[01]\r\n")
"""Pattern of a request line as in RFC 9112, section 3, with any method."""
UNKNOWN_VERSION = Kind(505, "http-version-not-supported", "The version of HTTP is not supported")


_outbox: list["Corked"] = []


def write_all() -> None:
    """Send the buffered bytes of every transport."""
    for transport in _outbox:
        transport.flush()
    _outbox.clear()


def limit_unsent(transport: asyncio.BaseTransport) -> None:
    """Limit the bytes that the kernel keeps for the peer of a connection to UNSENT_BYTES (tcp(7), TCP_NOTSENT_LOWAT)."""
    connection: socket.socket = transport.get_extra_info("socket")
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)


class Corked:
    """A transport that buffers writes until the end of the event loop's iteration, and then sends them in one go, together with all others.

    A system call is most of the cost of a small response, and waking the reader on the other side is most of the system call. Writes in quick
    succession wake it only once.

    Args:
        transport: transport of the connection.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self.raw = transport
        limit_unsent(transport)
        self._unsent: list[bytes] = []
        self._unsent_bytes = 0
        self._loop = asyncio.get_running_loop()
        self.is_closing = transport.is_closing

    def write(self, data: bytes) -> None:
        """Send bytes at the end of the event loop's iteration."""
        if not self._unsent:
            if not _outbox:
                self._loop.call_soon(write_all)
            _outbox.append(self)
        self._unsent.append(data)
        self._unsent_bytes += len(data)
        if self._unsent_bytes > CORK_BYTES:  # the transport has to know, so that it can pause writing
            self.flush()

    def close(self) -> None:
        """Send the buffered bytes, and close."""
        self.flush()
        self.raw.close()

    def flush(self) -> None:
        """Send the buffered bytes."""
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
    """A request and its response.

    An app with `at_once(scope, cycle)` may handle the request without a task: it returns True, and later calls `respond` with the whole response,
    or `go_on` to be called as any ASGI app after all.
    """

    protocol: "Protocol"

    async def run_asgi(self, app: Any) -> None:
        """Call the app.

        A response that it leaves unfinished closes the connection, which informs the client (RFC 9112, section 8). The app logs the cause, as a
        rule a failed peer.
        """
        try:
            await app(self.scope, self.receive, self.send)
        except asyncio.CancelledError:  # the server stops, and has logged that it no longer waits
            pass
        except Exception:
            log.exception("Unexpected error")
        finally:
            self.on_response = lambda: None
        if not self.response_complete and not self.disconnected:
            self.disconnected = True
            self.transport.close()

    async def send(self, message: Any) -> None:
        """Send a part of the response. Its Date is the current time (RFC 9110, section 6.6.1), and not that of the request's head."""
        if not self.response_started:
            self.default_headers = self.protocol.server_state.default_headers
        await super().send(message)

    def respond(self, status: int, headers: Headers, body: bytes) -> None:
        """Send the whole response."""
        lines = [STATUS_LINE[status]]
        for name, value in self.protocol.server_state.default_headers:
            lines += (name, b": ", value, b"\r\n")
            if name == b"connection":
                self.keep_alive = False
        framed = status in BODILESS or self.scope["method"] == "HEAD"
        if framed:  # RFC 9110, sections 6.4.1 and 9.3.2
            body = b""
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
    """A request for a WebSocket (RFC 6455).

    An app that has `upgrades` finds `scope["take"]`; after it has sent a 101, it may call `take(protocol)`, which hands the connection over to
    another protocol.
    """

    early = b""
    """Bytes of the other protocol that the client has sent already."""

    async def send(self, message: Any) -> None:
        """Send a part of the response."""
        if message["type"] == "http.response.start" and message["status"] == HTTPStatus.SWITCHING_PROTOCOLS:
            lines = [STATUS_LINE[101], b"connection: upgrade\r\n"]
            for name, value in message["headers"]:
                lines += (name, b": ", value, b"\r\n")
            self.response_started = self.response_complete = True
            self.transport.write(b"".join([*lines, b"\r\n"]))
        else:
            await super().send(message)

    def take(self, protocol: asyncio.BaseProtocol) -> None:
        """Hand the connection over to another protocol."""
        transport = cast("Corked", self.transport)
        transport.flush()
        raw = transport.raw
        self.protocol.connections.discard(self.protocol)
        raw.set_protocol(protocol)
        protocol.connection_made(raw)
        if self.early:
            cast("asyncio.Protocol", protocol).data_received(self.early)
        self.flow.resume_reading()


class Protocol(HttpToolsProtocol):
    """A client's connection."""

    url = b""
    head_limit_bytes = HEAD_LIMIT_BYTES
    fields_limit = FIELDS_LIMIT
    head_since = 0.0
    """Loop time since when a head is awaited; infinite while a request is being served."""
    idle_since = inf
    stalled_since = inf
    refused_since = inf
    """Loop time since when nothing more is read."""
    closing_since = inf
    """Loop time since when the connection closes once its client has read the rest."""
    _has_method = False
    """True if the method of the request that is being read is known."""
    _in_body = False
    """True if the head of the request that is being read is complete, and its body is not."""
    _trailers_bytes = 0
    _packet = b""
    """Packet that is being read."""
    _first = True
    """True if no head was read from the packet yet."""
    _unread_bytes = 0
    """Bytes received, in whole packets, since the current request began or its last piece of body arrived. No head, trailers or chunk extensions
    are larger than that, so most need not be measured. An extension within a single packet, at most some 300 KB, is accepted: nothing of it is
    kept."""
    _gathering = False
    """True if more of a body is awaited before the app gets it."""
    _last_answer = b""
    """Response to a refused request, kept while earlier requests are being served."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Prepare the connection of a new client."""
        super().connection_made(cast("asyncio.Transport", Corked(cast("asyncio.Transport", transport))))
        self.head_since = self.loop.time()
        own: Any = self
        self._app = own.app
        self._at_once: AtOnce | None = getattr(self._app, "at_once", None)

    def data_received(self, data: bytes) -> None:
        """Read bytes of the client. Every limit of a request is enforced here and in the parser's callbacks."""
        if self.refused_since != inf:
            return
        self._packet, self._first = data, True
        self._unread_bytes += len(data)
        while data:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                data = self._after_upgrade(data[upgrade.args[0] :])
            except httptools.HttpParserError as error:
                self._has_method = self._has_method or isinstance(error, httptools.HttpParserInvalidURLError)
                self._refuse(problem_of(error, self._packet if self._first else b""))
                return
            else:
                break
        self._packet = b""
        if self._in_body:
            self._hand_over()
        if self._unread_bytes > TARGET_LIMIT_BYTES + self.head_limit_bytes:
            self._refuse(self._too_large())

    def _after_upgrade(self, rest: bytes) -> bytes:
        """Return the bytes to parse after the head of a request for an upgrade: none if the upgrade is accepted."""
        if isinstance(self.cycle, Upgrade):
            self.cycle.early = rest
            return b""
        return self._without_upgrade() + rest

    def _without_upgrade(self) -> bytes:
        """Return the head that was just read, for a new parser and without its Upgrade, which may be ignored (RFC 9110, section 7.8).

        The parser skips the body of a request for an upgrade, and would take it for the next request.
        """
        parser: Any = self.parser
        lines = [parser.get_method(), b" ", self.url, b" HTTP/", parser.get_http_version().encode(), b"\r\n"]
        for name, value in self.headers:
            if name != b"upgrade":
                lines += (name, b": ", value, b"\r\n")
        self.parser = self._new_parser()
        return b"".join([*lines, b"\r\n"])

    def on_message_begin(self) -> None:
        """Reset the state for a new request."""
        self.head_since, self.idle_since = self.loop.time(), inf
        self._in_body = self._has_method = False
        self._trailers_bytes, self._unread_bytes = 0, len(self._packet)
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Append a piece of the target."""
        self._has_method = True
        if len(self.url) + len(url) > TARGET_LIMIT_BYTES:
            raise Problem(TARGET_TOO_LONG, f"path and query may have {TARGET_LIMIT_BYTES} bytes at most")
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header field, or drop a trailer, since trailers are not used (RFC 9110, section 6.5.1)."""
        if self._in_body:
            if name.lower() in (
                b"connection",
                b"proxy-connection",
            ):  # the parser would obey it, and the response would not announce it
                raise Problem(MALFORMED, "a trailer does not end a connection")
            self._trailers_bytes += size_bytes(name, value)
            if self._trailers_bytes > self.head_limit_bytes:
                raise self._too_large()
            return
        name, value = (
            name.lower(),
            value.rstrip(b" \t"),
        )  # not part of a value (RFC 9110, section 5.5); the parser strips only leading whitespace
        if name == b"expect":  # a list (RFC 9110, section 10.1.1)
            self.expect_100_continue = b"100-continue" in map(bytes.strip, value.lower().split(b","))
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Start to serve a request with a complete head. A copy of uvicorn's method, without the parts that are not needed here."""
        first, self.head_since, self._first = self._first, inf, False
        large = self._unread_bytes > self.head_limit_bytes and sum(starmap(size_bytes, self.headers))
        if large > self.head_limit_bytes or len(self.headers) > self.fields_limit:
            raise self._too_large()
        self._unread_bytes = 0
        parser: Any = self.parser
        scope = cast("dict[str, Any]", self.scope)
        version = parser.get_http_version()
        scope["method"] = method = parser.get_method().decode("ascii")
        scope["http_version"] = version
        if method == "CONNECT":
            raise Problem(NOT_IMPLEMENTED, "CONNECT is for proxies: there are no tunnels here")
        if version != "1.1":
            check_version(version, self.headers, self._packet)
        self._read_target(scope)
        before = cast("Cycle | None", self.cycle)
        unanswered = before is not None and not before.response_complete
        waits = unanswered or not first
        if parser.should_upgrade():
            if not waits and self._takes_upgrade():
                self._upgrade()
            return
        if len(self.pipeline) >= PIPELINE_LIMIT:
            raise Problem(TOO_MANY, f"send {PIPELINE_LIMIT} requests at most without waiting for an answer")
        self._in_body = True
        self.cycle = cycle = self._cycle(Cycle, keep_alive=version != "1.0" and parser.should_keep_alive())
        if not waits:
            self._start_asgi_task(cycle, self._app)
            return
        self.flow.pause_reading()
        self.pipeline.appendleft((cycle, self._app))
        if not unanswered:
            self.loop.call_soon(self._next)

    def _read_target(self, scope: dict[str, Any]) -> None:
        """Set the path and the query of a request's scope.

        Raises:
            Problem: the target is not a path, or has no valid host before it.
        """
        url: Any = httptools.parse_url(self.url)
        # RFC 9110, section 4.2.3: the empty path of an absolute form is the path /.
        raw_path = url.path or (b"/" if url.schema is not None else b"")
        if not raw_path or not raw_path.isascii() or b"#" in self.url:
            raise Problem(MALFORMED, "the target of a request is a path")
        if url.schema is not None:
            self._take_host(url)
        scope["raw_path"] = raw_path
        path = raw_path.decode("ascii")
        scope["path"] = urllib.parse.unquote(path) if "%" in path else path
        scope["query_string"] = query = url.query or b""
        scope["target"] = raw_path + b"?" + query if b"?" in self.url else raw_path

    def _take_host(self, url: Any) -> None:
        """Replace the Host field by the host of a target in absolute form (RFC 9112, section 3.2.2).

        Raises:
            Problem: the target has another scheme, or a user's name (RFC 9110, section 4.2.4).
        """
        if url.schema.lower() not in SCHEMES or url.userinfo is not None:
            raise Problem(MALFORMED, "the target of a request is a path, or http://host/path")
        host = re.split(rb"[/?]", self.url.partition(b"://")[2], maxsplit=1)[0]
        own = [index for index, (name, _) in enumerate(self.headers) if name == b"host"]
        if len(own) == 1:  # several are kept, and refused
            self.headers[own[0]] = (b"host", host)

    def on_body(self, body: bytes) -> None:
        """Append a piece of the body."""
        self._unread_bytes = 0
        if not self.cycle.response_complete:
            self.cycle.body += body

    def _hand_over(self) -> None:
        """Pass the available body to the app; if it is small, pause reading for a moment, and pass it together with what follows."""
        size_bytes = 0 if self.cycle.response_complete else len(self.cycle.body)
        if size_bytes > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        if size_bytes >= GATHER_BYTES:
            self.cycle.message_event.set()
        elif size_bytes and not self._gathering:
            self._gathering = True
            self.flow.pause_reading()
            self.loop.call_later(GATHER_S, self._gathered)

    def _gathered(self) -> None:
        """Pass the gathered body to the app, and resume reading."""
        self._gathering = False
        if self.cycle.body:
            self.cycle.message_event.set()
        if self._in_body and not self.pipeline and not self.transport.is_closing():
            self.flow.resume_reading()

    def on_message_complete(self) -> None:
        """Signal the end of the request to the app, unless the parser stops at an upgrade."""
        if self._in_body:
            self._in_body = False
            cycle = self.cycle
            if not cycle.response_complete:
                cycle.more_body = False
                cycle.message_event.set()

    def _too_large(self) -> Problem:
        detail = f"there may be {self.fields_limit} header fields at most, of {self.head_limit_bytes} bytes together"
        return Problem(HEAD_TOO_LARGE, detail)

    def _new_parser(self) -> httptools.HttpRequestParser:
        parser = httptools.HttpRequestParser(self)
        parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's
        return parser

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

    def _takes_upgrade(self) -> bool:
        """Return whether a request asks for a WebSocket as in RFC 6455, section 4.1, and the app accepts any."""
        if not getattr(self._app, "upgrades", False):
            return False
        scope, fields = cast("Scope", self.scope), dict(self.headers)
        handshake = scope["method"] == "GET" and scope["http_version"] == "1.1"
        bodiless = b"content-length" not in fields and b"transfer-encoding" not in fields
        return handshake and bodiless and fields[b"upgrade"].lower() == b"websocket"

    def _upgrade(self) -> None:
        """Ask the app for a WebSocket; nothing more is read until it takes over the connection."""
        self.flow.pause_reading()
        self.cycle = cycle = self._cycle(Upgrade, keep_alive=False)
        cast("dict[str, Any]", self.scope)["take"] = cycle.take
        self.start_task(cycle)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        if self._at_once is None or not self._at_once(cast("Scope", cycle.scope), cast("Cycle", cycle)):
            super()._start_asgi_task(cycle, app)

    def start_task(self, cycle: Cycle) -> None:
        """Serve a request in a task."""
        super()._start_asgi_task(cycle, self._app)

    def on_response_complete(self) -> None:
        """Go on to the next request after a response. `expire` checks idle connections, so that no response needs a timer."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline or self._last_answer:
            self.loop.call_soon(self._next)
        else:
            self.idle_since = self.loop.time()

    def _next(self) -> None:
        """Start the next request that waits: one in each iteration of the event loop, so that a connection with many does not delay others."""
        if self.transport.is_closing():
            return
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self._last_answer:
            self._end(self._last_answer)

    def _refuse(self, problem: Problem) -> None:
        """Respond to the request that is being read with a problem, after the requests before it, and stop reading.

        The beginning of the next request is unknown.
        """
        self.refused_since, self.head_since = self.loop.time(), inf
        cycle = cast("Cycle | None", self.cycle)
        answer = self._answer(problem)
        if self._in_body and cycle is not None and not self.pipeline:  # it is being served
            cycle.disconnected, cycle.waiting_for_100_continue = True, False
            cycle.message_event.set()
            self._end(b"" if cycle.response_started else answer)
        elif cycle is None or (cycle.response_complete and not self.pipeline):
            self._end(answer)
        else:
            if self._in_body:  # it is queued, and is refused in its turn
                self.pipeline.popleft()
            self._last_answer = answer

    def _answer(self, problem: Problem) -> bytes:
        """Return the response to a request that no app has seen, and log it here, since no other code does."""
        request_id = str(uuid_utils.uuid7())
        about = {"request_id": request_id, "status": problem.kind.status, "reason": problem.detail}
        about["remote"] = self._remote()
        parser: Any = self.parser
        method = parser.get_method().decode("ascii") if self._has_method else None
        about |= {"method": method} if method else {}
        about |= {"url": self.url.partition(b"?")[0].decode("ascii", "backslashreplace")} if self.url else {}
        log.warning("A request was refused before it was read", extra=about)
        status, headers, body = encoded(problem)
        if method == "HEAD":
            body = b""
        lines = [STATUS_LINE[status]]
        ours = [(b"x-request-id", request_id.encode()), (b"connection", b"close")]
        for name, value in [*self.server_state.default_headers, *headers, *ours]:
            lines += (name, b": ", value, b"\r\n")
        return b"".join([*lines, b"\r\n", body])

    def _remote(self) -> str:
        """Return the address of the client, as the app determines it from the part of the head that was read."""
        find: Callable[[Scope, dict[bytes, bytes]], str] | None = getattr(self._app, "remote", None)
        headers = cast("Headers | None", self.headers) or []
        if find:
            return find({"client": self.client, "headers": headers}, dict(headers))
        return self.client[0] if self.client else ""

    def _end(self, answer: bytes) -> None:
        """Send a last response, and close the connection once the client has read it."""
        transport = cast("Corked", self.transport)
        transport.write(answer)
        transport.flush()
        self.refused_since = self.loop.time()
        self.flow.resume_reading()
        if not transport.is_closing():
            transport.raw.write_eof()

    def shutdown(self) -> None:
        """Close a connection that serves no request, when the server stops."""
        if self.refused_since != inf and not self._last_answer:
            self.transport.close()
        else:
            super().shutdown()

    def pause_writing(self) -> None:
        """Record that the client reads a response more slowly than it is sent."""
        self.stalled_since = self.loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        """Record that the client has caught up."""
        self.stalled_since = inf
        super().resume_writing()

    def expire(self, now: float) -> None:
        """Close the connection if its client takes too long."""
        if self.transport.is_closing():
            self.closing_since = min(self.closing_since, now)
        if now - min(self.stalled_since, self.closing_since) > STALL_S:
            self.transport.abort()
        elif self.transport.is_closing():
            return
        elif now - self.refused_since > LINGER_S and not self._last_answer:
            self.transport.close()
        elif now - self.head_since > HEAD_S:
            self._refuse(Problem(REQUEST_TIMEOUT, f"its head did not come within {HEAD_S:g} s"))
        elif now - self.idle_since > KEEP_ALIVE_S:
            self.transport.close()


def size_bytes(name: bytes, value: bytes) -> int:
    """Return the bytes of a field in a head."""
    return len(name) + len(value) + FIELD_BYTES


class ServiceProtocol(Protocol):
    """The gateway's connection to a service, with room for what the gateway adds to a head of the maximum size.

    It adds Host once more, as X-Forwarded-Host, and some short fields.
    """

    head_limit_bytes = 2 * HEAD_LIMIT_BYTES + 8 * 1024
    fields_limit = FIELDS_LIMIT + 20


def check_version(version: str, headers: Headers, packet: bytes) -> None:
    """Refuse an unsupported version, and chunks in HTTP/1.0, which has none (RFC 9112, sections 2.3 and 6.1).

    Args:
        version: version that the parser has read.
        headers: headers of the request.
        packet: packet with the end of its head; the parser reads RTSP/1.0 as HTTP/1.0.

    Raises:
        Problem: 505 or 400.
    """
    if version != "1.0" or b" RTSP/1.0\r\n" in packet:
        raise Problem(UNKNOWN_VERSION, "send HTTP/1.1")
    if any(name == b"transfer-encoding" for name, _ in headers):
        raise Problem(MALFORMED, "HTTP/1.0 has no chunks: send Content-Length")


def problem_of(error: httptools.HttpParserError, packet: bytes) -> Problem:
    """Return the problem for a request that cannot be parsed.

    Args:
        error: error of the parser.
        packet: packet that begins with the request; empty if it begins with another one, since the parser does not report its position.
    """
    cause = error.__context__ if isinstance(error, httptools.HttpParserCallbackError) else error
    if isinstance(cause, Problem):
        return cause
    if isinstance(cause, httptools.HttpParserInvalidMethodError):
        kind = NOT_IMPLEMENTED if REQUEST_LINE.match(packet) else MALFORMED  # RFC 9110, section 9.1
        return Problem(kind, "the method is not one that is known here")
    if isinstance(cause, httptools.HttpParserInvalidURLError):
        return Problem(MALFORMED, "the target of a request is a path")
    if isinstance(cause, httptools.HttpParserError):
        return Problem(MALFORMED, str(cause))
    log.error("Unexpected error", exc_info=cause)
    return internal()
