"""Pure ASGI middleware: request id, trace, log and metrics of every request."""

import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import uuid_utils

from servicekit import logs, metrics
from servicekit.tracing import Spans, Trace, continued

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

HEADER = b"x-request-id"
QUIET = frozenset({"/livez", "/readyz", "/health", "/health/details", "/metrics"})
"""Asked every few seconds by machines; only their failures are worth a line."""
MAX_ID_BYTES = 128


class Observed:
    """An ASGI app whose requests are counted, timed, traced and logged.

    The app finds the request's id in `scope["request_id"]` and its trace in `scope["trace"]`.

    Args:
        app: the app.
        service: name of the service, for the metrics.
        trusts: whether the id that the caller of a request sends is taken over: one of our own.
        spans: exports spans; None where only ids are wanted.
    """

    def __init__(self, app: App, service: str, *, trusts: Callable[[Scope], bool], spans: Spans | None = None) -> None:
        self.app = app
        self.service = service
        self.trusts = trusts
        self.spans = spans

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status = 500
        started = time.perf_counter()
        method, path, headers = scope["method"], scope["path"], dict(scope["headers"])
        loud = path not in QUIET
        request_id = scope["request_id"] = self.request_id(scope, headers.get(HEADER, b""))
        trace = scope["trace"] = self.trace(headers, method) if loud else None
        about = {"method": method, "url": path, "request_id": request_id}
        if trace:
            about["trace_id"] = trace.trace_id
            about["span_id"] = trace.span_id
            agent = headers.get(b"user-agent", b"").decode("latin-1")
            logs.event(time.time(), "Request started", about | {"remote": remote(scope), "user_agent": agent})

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                passed = [pair for pair in message.get("headers", ()) if pair[0].lower() != HEADER]
                passed.append((HEADER, request_id.encode()))
                message["headers"] = passed
            await send(message)

        metrics.ACTIVE.inc()
        try:
            await self.app(scope, receive, send_with_id)
        except Exception as error:
            metrics.ERRORS.labels(self.service, type(error).__name__).inc()
            raise
        finally:
            metrics.ACTIVE.dec()
            duration_s = time.perf_counter() - started
            endpoint = template(scope)
            metrics.observe(method, endpoint, status, duration_s)
            if loud or status >= 500:
                outcome = {"endpoint": endpoint, "status": status, "duration": round(duration_s, 6)}
                logs.event(time.time(), "Request completed", about | outcome)
            if trace and self.spans:
                self.spans.end(trace, method, endpoint, status)

    def request_id(self, scope: Scope, given: bytes) -> str:
        """The caller's id where it is trusted and sane, else a new one, which sorts by time (RFC 9562, UUIDv7)."""
        if given and len(given) <= MAX_ID_BYTES and self.trusts(scope):
            text = given.decode("latin-1")
            if text.isascii() and text.isprintable():
                return text
        return str(uuid_utils.uuid7())

    def trace(self, headers: dict[bytes, bytes], method: str) -> Trace:
        """The request's trace, which the caller may have begun."""
        header = headers.get(b"traceparent", b"").decode("latin-1")
        return self.spans.start(header, method) if self.spans else continued(header)


def remote(scope: Scope) -> str:
    """Address of the peer."""
    return scope["client"][0] if scope.get("client") else ""


def template(scope: Scope) -> str:
    """The route's template, of which there are few; never the path, of which there is no end."""
    route = scope.get("route")
    return scope.get("route_template") or getattr(route, "path", None) or "unmatched"
