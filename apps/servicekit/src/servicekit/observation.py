"""Pure ASGI middleware: request id, trace, log and metrics of every request."""

import logging
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson
import uuid_utils

from servicekit import logs, metrics
from servicekit.asgi import App, Headers, Message, Receive, Scope, Send
from servicekit.bodies import encoded, refuse
from servicekit.caching import remembered
from servicekit.problems import internal
from servicekit.tracing import Trace, continued, current

if TYPE_CHECKING:
    from servicekit.spans import Spans

log = logging.getLogger(__name__)
AtOnce = Callable[[Scope, Any, "Answer"], bool]
HEADER = b"x-request-id"
WELL_FORMED = re.compile(rb"[A-Za-z0-9._-]{1,64}").fullmatch
"""Matches the ids of callers that are kept: UUIDs, and others that are short and need no quoting anywhere."""
QUIET = frozenset({"/livez", "/readyz", "/health", "/health/details", "/metrics"})
"""Asked every few seconds by machines; only their failures are worth a line."""
MAX_AGENT = 512
MAX_ADDRESS = 64
MAX_SUBJECT = 128
CLIENT_CLOSED = 499
"""nginx's status for a client that left before it was answered; no answer has it, only logs and metrics."""


@dataclass(slots=True)
class Seen:
    """A request that has come."""

    started: float
    request_id: str
    trace: Trace | None
    """None for those that are quiet."""
    fields: dict[str, str]
    """What every line about it says."""
    about: bytes
    """The same, encoded."""


class Observed:
    """An ASGI app with counts, times, traces and logs of its requests, and answers for its errors.

    The app finds the request's id in `scope["request_id"]`, its trace in `scope["trace"]` and when it came in `scope["started"]`; once it
    knows it, it sets `scope["subject"]` by `identify`.

    Args:
        app: the app; if it has `at_once`, see `serving.Cycle`.
        service: name of the service, for the metrics.
        client: finds a client's address, where the app is what clients reach.
        behind_gateway: whether only the gateway reaches the app: then the ids and client addresses that it sends are taken over.
        spans: exports spans; None where only ids are wanted.
    """

    def __init__(
        self,
        app: App,
        service: str,
        *,
        client: Callable[[Scope], str] | None = None,
        behind_gateway: bool = False,
        spans: "Spans | None" = None,
    ) -> None:
        self.app = app
        self.service = service
        self.client = client or peer
        self.behind_gateway = behind_gateway
        self.spans = spans
        self.upgrades: bool = getattr(app, "upgrades", False)
        self._at_once: AtOnce | None = getattr(app, "at_once", None)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, self._closing(send) if scope["type"] == "lifespan" else send)
            return
        status = 0
        seen: Seen = scope.get("seen") or self._begin(scope)

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = with_id(message.get("headers", ()), seen)
            await send(message)

        logs.current.set(seen.fields)
        if seen.trace and seen.trace.span:
            current.set(seen.trace)
        try:
            await self.app(scope, receive, send_with_id)
            status = status or CLIENT_CLOSED  # an app ends without an answer only when the client has left
        except Exception as error:  # noqa: BLE001 - whatever it is, it is answered
            self.report(seen, error)
            if not status:
                await refuse(internal(), send_with_id)
        finally:
            self.end(scope, seen, status or 500)

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
        respond = Answer(self, scope, cycle, seen)
        try:
            return self._at_once(scope, cycle, respond)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is answered
            respond.fail(error)
            return True

    def report(self, seen: Seen, error: Exception) -> None:
        """Log and count an unexpected error."""
        metrics.ERRORS.labels(self.service, type(error).__name__).inc()
        log.error("Unexpected error", exc_info=error, extra=seen.fields)

    def end(self, scope: Scope, seen: Seen, status: int) -> None:
        """Record that a request is over."""
        metrics.active -= 1
        duration_s = time.perf_counter() - seen.started
        endpoint, method = template(scope), scope["method"]
        span = seen.trace and seen.trace.span
        exemplar = {"trace_id": seen.trace.trace_id} if seen.trace and span else None
        metrics.observe(method, endpoint, status, duration_s, exemplar)
        if seen.trace or status >= 500:
            outcome = f',"endpoint":{quoted(endpoint)},"status":{status},"duration":{duration_s:.6f}'
            if subject := scope.get("subject"):
                outcome += f',"subject":{quoted(subject)}'
            logs.event(time.time(), "Request completed", seen.about + outcome.encode())
        if span and self.spans:
            self.spans.end(span, method, endpoint, status)

    def _begin(self, scope: Scope) -> Seen:
        started = scope["started"] = time.perf_counter()
        method, path, headers = scope["method"], scope["path"], dict(scope["headers"])
        given = headers.get(HEADER)
        known = given.decode() if given and WELL_FORMED(given) else None
        request_id = scope["request_id"] = known if known and self.behind_gateway else str(uuid_utils.uuid7())
        trace = scope["trace"] = None if path in QUIET else self.trace(headers, method, path)
        fields = {"method": method, "url": path, "request_id": request_id}
        if known and not self.behind_gateway:
            fields["client_request_id"] = known
        if trace:
            fields |= {"trace_id": trace.trace_id, "span_id": trace.span_id}
        about = logs.members(fields)
        if trace:
            agent = headers.get(b"user-agent", b"")[:MAX_AGENT].decode("latin-1")
            by = f',"remote":{quoted(self.remote(scope, headers))},"user_agent":{quoted(agent)}'
            logs.event(time.time(), "Request started", about + by.encode())
        metrics.active += 1
        return Seen(started, request_id, trace, fields, about)

    def remote(self, scope: Scope, headers: dict[bytes, bytes]) -> str:
        """Return the address of a request's client, as the lines about it say it."""
        return (forwarded(headers) if self.behind_gateway else "") or self.client(scope)

    def trace(self, headers: dict[bytes, bytes], method: str, path: str) -> Trace:
        """The request's trace, which the caller may have begun."""
        header = headers.get(b"traceparent", b"").decode("latin-1")
        return self.spans.start(header, method, path) if self.spans else continued(header)


@dataclass(slots=True)
class Answer:
    """Answers a request that has no task. What fails on the way is answered and recorded like an error in a task."""

    observed: Observed
    scope: Scope
    cycle: Any
    seen: Seen

    def __call__(self, status: int, headers: Headers, body: bytes) -> None:
        """Answer with status, headers and the whole body."""
        try:
            self.cycle.respond(status, with_id(headers, self.seen), body)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is answered
            self.fail(error)
        else:
            self.observed.end(self.scope, self.seen, status)

    def fail(self, error: Exception) -> None:
        """Answer with 500, where nothing was answered yet."""
        self.observed.report(self.seen, error)
        if self.cycle.response_started:
            self.cycle.transport.close()
        else:
            status, headers, body = encoded(internal())
            self.cycle.respond(status, with_id(headers, self.seen), body)
        self.observed.end(self.scope, self.seen, 500)


def with_id(headers: Iterable[tuple[bytes, bytes]], seen: Seen) -> Headers:
    """Headers of an answer with the request's id, and no other."""
    passed = [pair for pair in headers if pair[0].lower() != HEADER]
    passed.append((HEADER, seen.request_id.encode()))
    return passed


def identify(scope: Scope, claims: dict[str, Any] | None) -> None:
    """Record the subject of the token that a request has brought, for the line about its end."""
    if claims and (subject := claims.get("sub")):
        # JSON may hold half of a surrogate pair, which no line can.
        scope["subject"] = str(subject)[:MAX_SUBJECT].encode(errors="replace").decode()


@remembered(4096, MAX_AGENT)
def quoted(text: str) -> str:
    """A text as JSON."""
    return orjson.dumps(text).decode()


def peer(scope: Scope) -> str:
    """Return the address of the peer."""
    return scope["client"][0] if scope.get("client") else ""


def forwarded(headers: dict[bytes, bytes]) -> str:
    """Return the client's address as the gateway says it: the first in X-Forwarded-For."""
    return headers.get(b"x-forwarded-for", b"").partition(b",")[0][:MAX_ADDRESS].decode("latin-1")


def template(scope: Scope) -> str:
    """The route's template, of which there are few; never the path, of which there is no end."""
    route = scope.get("route")
    return scope.get("route_template") or getattr(route, "path", None) or "unmatched"
