"""Pure ASGI middleware: request id, trace, log and metrics of every request."""

import logging
import re
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
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
"""Pattern of the callers' ids that are kept: UUIDs, and others that are short and need no quoting anywhere."""
QUIET = frozenset({"/livez", "/readyz", "/health", "/health/details", "/metrics"})
"""Paths that machines request every few seconds; only their failures are logged."""
MAX_AGENT = 512
MAX_ADDRESS = 64
MAX_SUBJECT = 128
CLIENT_CLOSED = 499
"""Status for a client that disconnected before the response, as in nginx; it appears in logs and metrics only."""


@dataclass(slots=True)
class Seen:
    """A request that is being observed."""

    started: float
    request_id: str
    trace: Trace | None
    """Trace of the request; None for paths in QUIET."""
    fields: dict[str, str]
    """Fields of every log line about the request."""
    about: bytes
    """Encoded form of the fields."""
    id_field: tuple[bytes, bytes]
    """Id of the request, as a header field."""
    waited_s: float = 0.0
    """Seconds spent waiting for the client: for more of its body, and until it has read more of the response."""


class Observed:
    """ASGI middleware that counts, times, traces and logs requests, and responds to errors.

    The app finds the request's id in `scope["request_id"]`, and as a header field in `scope["id_field"]`, its trace in `scope["trace"]` and
    its start in `scope["started"]`; once it knows the subject, it sets `scope["subject"]` by calling `identify`.

    Args:
        app: wrapped app; for its `at_once`, see `http1.Cycle`. The headers of responses sent that way have no X-Request-ID.
        service: name of the service, for the metrics.
        client: function that returns a client's address, for an app that clients reach directly.
        behind_gateway: whether only the gateway reaches the app, so that its request ids and client addresses are trusted.
        spans: recorder of spans; None if only ids are wanted.
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
            with waiting(seen):
                await send(message)

        whole = False

        async def receive_body() -> Message:
            nonlocal whole
            if whole:  # after that, the only message is the client's disconnect
                return await receive()
            with waiting(seen):
                message = await receive()
            whole = not message.get("more_body", False)
            return message

        logs.current.set(seen.fields)
        if seen.trace and seen.trace.span:
            current.set(seen.trace)
        try:
            await self.app(scope, receive_body, send_with_id)
            status = status or CLIENT_CLOSED  # an app ends without a response only if the client has disconnected
        except Exception as error:  # noqa: BLE001 - any error gets a response
            self.report(seen, error)
            if not status:
                await refuse(internal(), send_with_id)
        finally:
            self.end(scope, seen, status or 500)

    def _closing(self, send: Send) -> Send:
        """Return a send channel that exports the last spans before the end of the app is reported: after that, a signal ends the process."""

        async def close(message: Message) -> None:
            if self.spans and message["type"] == "lifespan.shutdown.complete":
                self.spans.close()
            await send(message)

        return close

    def at_once(self, scope: Scope, cycle: Any) -> bool:
        """Serve a request without a task, if the app can; return False otherwise."""
        if self._at_once is None:
            return False
        seen = scope["seen"] = self._begin(scope)
        respond = Answer(self, scope, cycle, seen)
        try:
            return self._at_once(scope, cycle, respond)
        except Exception as error:  # noqa: BLE001 - any error gets a response
            respond.fail(error)
            return True

    def report(self, seen: Seen, error: Exception) -> None:
        """Log and count an unexpected error."""
        metrics.ERRORS.labels(self.service, type(error).__name__).inc()
        log.error("Unexpected error", exc_info=error, extra=seen.fields)

    def end(self, scope: Scope, seen: Seen, status: int) -> None:
        """Record the end of a request."""
        metrics.active -= 1
        duration_s = time.perf_counter() - seen.started
        endpoint, method = template(scope), scope["method"]
        span = seen.trace and seen.trace.span
        exemplar = {"trace_id": seen.trace.trace_id} if seen.trace and span else None
        # The service is judged by its own time: a slow client is not its fault.
        metrics.observe(method, endpoint, status, duration_s - seen.waited_s, exemplar)
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
        id_field = scope["id_field"] = (HEADER, request_id.encode())
        trace = scope["trace"] = None if path in QUIET else self.trace(headers, method, path)
        fields = {"method": method, "url": path, "request_id": request_id}
        if known and not self.behind_gateway:
            fields["client_request_id"] = known
        if trace:
            fields["trace_id"], fields["span_id"] = trace.trace_id, trace.span_id
        about = logs.members(fields)
        if trace:
            agent = headers.get(b"user-agent", b"")[:MAX_AGENT].decode("latin-1")
            logs.event(time.time(), "Request started", about + sender(f"{self.remote(scope, headers)}\n{agent}"))
        metrics.active += 1
        return Seen(started, request_id, trace, fields, about, id_field)

    def remote(self, scope: Scope, headers: dict[bytes, bytes]) -> str:
        """Return the address of a request's client, for log lines."""
        return (forwarded(headers) if self.behind_gateway else "") or self.client(scope)

    def trace(self, headers: dict[bytes, bytes], method: str, path: str) -> Trace:
        """Return the request's trace, which the caller may have begun."""
        header = headers.get(b"traceparent", b"").decode("latin-1")
        return self.spans.start(header, method, path) if self.spans else continued(header)


@contextmanager
def waiting(seen: Seen) -> Generator[None]:
    """Count the time within the context as spent waiting for the client."""
    since = time.perf_counter()
    try:
        yield
    finally:
        seen.waited_s += time.perf_counter() - since


@dataclass(slots=True)
class Answer:
    """Callback that responds to a request without a task. Errors are answered and recorded as in a task."""

    observed: Observed
    scope: Scope
    cycle: Any
    seen: Seen

    def __call__(self, status: int, headers: Headers, body: bytes) -> None:
        """Respond with status, headers and the whole body."""
        try:
            headers.append(self.seen.id_field)
            self.cycle.respond(status, headers, body)
        except Exception as error:  # noqa: BLE001 - any error gets a response
            self.fail(error)
        else:
            self.observed.end(self.scope, self.seen, status)

    def fail(self, error: Exception) -> None:
        """Respond with 500, if no response was started."""
        self.observed.report(self.seen, error)
        if self.cycle.response_started:
            self.cycle.transport.close()
        else:
            status, headers, body = encoded(internal())
            self.cycle.respond(status, with_id(headers, self.seen), body)
        self.observed.end(self.scope, self.seen, 500)


def with_id(headers: Iterable[tuple[bytes, bytes]], seen: Seen) -> Headers:
    """Return the headers of a response with the request's id, replacing any other id."""
    passed = [pair for pair in headers if pair[0] != HEADER]
    passed.append(seen.id_field)
    return passed


def identify(scope: Scope, claims: dict[str, Any] | None) -> None:
    """Record the subject of a request's token, for the log line about its end."""
    if claims and (subject := claims.get("sub")):
        known = str(subject)[:MAX_SUBJECT]
        # JSON may hold half of a surrogate pair, which a log line cannot.
        scope["subject"] = known if known.isascii() else known.encode(errors="replace").decode()


@remembered(4096, MAX_AGENT)
def quoted(text: str) -> str:
    """Return a text as JSON."""
    return orjson.dumps(text).decode()


@remembered(1024, MAX_ADDRESS + MAX_AGENT)
def sender(lines: str) -> bytes:
    """Return an address and a user agent, separated by a newline in the text, as members of a JSON line."""
    address, _, agent = lines.partition("\n")
    return b"," + orjson.dumps({"remote": address, "user_agent": agent})[1:-1]


def peer(scope: Scope) -> str:
    """Return the address of the peer."""
    return scope["client"][0] if scope.get("client") else ""


def forwarded(headers: dict[bytes, bytes]) -> str:
    """Return the client's address from the gateway: the first in X-Forwarded-For."""
    return headers.get(b"x-forwarded-for", b"").partition(b",")[0][:MAX_ADDRESS].decode("latin-1")


def template(scope: Scope) -> str:
    """Return the route's template, one of few; never the path, since the number of paths is unlimited."""
    route = scope.get("route")
    return scope.get("route_template") or getattr(route, "path", None) or "unmatched"
