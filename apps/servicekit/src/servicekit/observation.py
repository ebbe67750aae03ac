"""Pure ASGI middleware: request id, trace, log and metrics of every request."""

import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson
import uuid_utils

from servicekit import logs, metrics
from servicekit.caching import remembered
from servicekit.tracing import Trace, continued, current

if TYPE_CHECKING:
    from servicekit.spans import Spans

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]
Respond = Callable[[int, Headers, bytes], None]
"""Answers with status, headers and the whole body."""
AtOnce = Callable[[Scope, Any, Respond], bool]

HEADER = b"x-request-id"
QUIET = frozenset({"/livez", "/readyz", "/health", "/health/details", "/metrics"})
"""Asked every few seconds by machines; only their failures are worth a line."""
MAX_ID_BYTES = 128
MAX_AGENT = 512
MAX_ADDRESS = 64


@dataclass(slots=True)
class Seen:
    """A request that has come."""

    started: float
    request_id: str
    trace: Trace | None
    """None for those that are quiet."""
    about: bytes
    """What every line about it says."""


class Observed:
    """An ASGI app whose requests are counted, timed, traced and logged.

    The app finds the request's id in `scope["request_id"]` and its trace in `scope["trace"]`.

    Args:
        app: the app; if it has `at_once`, see `serving.Cycle`.
        service: name of the service, for the metrics.
        trusts: whether the id that the caller of a request sends is taken over: one of our own.
        spans: exports spans; None where only ids are wanted.
    """

    def __init__(
        self, app: App, service: str, *, trusts: Callable[[Scope], bool], spans: "Spans | None" = None
    ) -> None:
        self.app = app
        self.service = service
        self.trusts = trusts
        self.spans = spans
        self.upgrades: bool = getattr(app, "upgrades", False)
        self._at_once: AtOnce | None = getattr(app, "at_once", None)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, self._closing(send) if scope["type"] == "lifespan" else send)
            return
        status = 500
        seen: Seen = scope.get("seen") or self._begin(scope)

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = with_id(message.get("headers", ()), seen)
            await send(message)

        if seen.trace and seen.trace.span:
            current.set(seen.trace)
        try:
            await self.app(scope, receive, send_with_id)
        except Exception as error:
            metrics.ERRORS.labels(self.service, type(error).__name__).inc()
            raise
        finally:
            self._end(scope, seen, status)

    def _closing(self, send: Send) -> Send:
        """Exports the last spans before it is told that the app has ended: after that the process ends by its signal."""

        async def close(message: Message) -> None:
            if self.spans and message["type"] == "lifespan.shutdown.complete":
                self.spans.close()
            await send(message)

        return close

    def at_once(self, scope: Scope, cycle: Any) -> bool:
        """Serve a request without a task, if the app can; else it is served as any other."""
        if self._at_once is None:
            return False
        seen = scope["seen"] = self._begin(scope)

        def respond(status: int, headers: Headers, body: bytes) -> None:
            cycle.respond(status, with_id(headers, seen), body)
            self._end(scope, seen, status)

        return self._at_once(scope, cycle, respond)

    def _begin(self, scope: Scope) -> Seen:
        metrics.active += 1
        started = time.perf_counter()
        method, path, headers = scope["method"], scope["path"], dict(scope["headers"])
        request_id = scope["request_id"] = self.request_id(scope, headers.get(HEADER, b""))
        trace = scope["trace"] = None if path in QUIET else self.trace(headers, method, path)
        about = {"method": method, "url": path, "request_id": request_id}
        if trace is None:
            return Seen(started, request_id, trace, logs.members(about))
        said = logs.members(about | {"trace_id": trace.trace_id, "span_id": trace.span_id})
        agent = headers.get(b"user-agent", b"")[:MAX_AGENT].decode("latin-1")
        logs.event(time.time(), "Request started", said + caller(remote(scope), agent))
        return Seen(started, request_id, trace, said)

    def _end(self, scope: Scope, seen: Seen, status: int) -> None:
        metrics.active -= 1
        duration_s = time.perf_counter() - seen.started
        endpoint, method = template(scope), scope["method"]
        span = seen.trace and seen.trace.span
        exemplar = {"trace_id": seen.trace.trace_id} if seen.trace and span else None
        metrics.observe(method, endpoint, status, duration_s, exemplar)
        if seen.trace or status >= 500:
            outcome = f',"endpoint":{quoted(endpoint)},"status":{status},"duration":{duration_s:.6f}'
            logs.event(time.time(), "Request completed", seen.about + outcome.encode())
        if span and self.spans:
            self.spans.end(span, method, endpoint, status)

    def request_id(self, scope: Scope, given: bytes) -> str:
        """The caller's id where it is trusted and sane, else a new one, which sorts by time (RFC 9562, UUIDv7)."""
        if given and len(given) <= MAX_ID_BYTES and self.trusts(scope):
            text = given.decode("latin-1")
            if text.isascii() and text.isprintable():
                return text
        return str(uuid_utils.uuid7())

    def trace(self, headers: dict[bytes, bytes], method: str, path: str) -> Trace:
        """The request's trace, which the caller may have begun."""
        header = headers.get(b"traceparent", b"").decode("latin-1")
        return self.spans.start(header, method, path) if self.spans else continued(header)


def with_id(headers: Iterable[tuple[bytes, bytes]], seen: Seen) -> Headers:
    """Headers of an answer with the request's id, and no other."""
    passed = [pair for pair in headers if pair[0].lower() != HEADER]
    passed.append((HEADER, seen.request_id.encode()))
    return passed


@remembered(1024, MAX_ADDRESS + MAX_AGENT)
def caller(address: str, agent: str) -> bytes:
    """Who asks, as members of a line; the same ones ask again."""
    return b"," + orjson.dumps({"remote": address, "user_agent": agent})[1:-1]


@remembered(1024, 256)
def quoted(text: str) -> str:
    """A text as JSON."""
    return orjson.dumps(text).decode()


def remote(scope: Scope) -> str:
    """Address of the peer."""
    return scope["client"][0] if scope.get("client") else ""


def template(scope: Scope) -> str:
    """The route's template, of which there are few; never the path, of which there is no end."""
    route = scope.get("route")
    return scope.get("route_template") or getattr(route, "path", None) or "unmatched"
