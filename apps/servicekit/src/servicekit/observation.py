"""Pure ASGI middleware: request id, log and metrics of every request."""

import logging
import time
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from servicekit import metrics

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

log = logging.getLogger("request")
HEADER = b"x-request-id"
QUIET = frozenset({"/livez", "/readyz", "/health", "/metrics"})
"""Asked every few seconds by machines; only their failures are worth a line."""
MAX_ID_BYTES = 128


class Observed:
    """An ASGI app whose requests are counted, timed and logged.

    Args:
        app: the app.
        service: name of the service, for the metrics.
        trust_request_id: take over the id that the caller sends; only behind a gateway of our own.
    """

    def __init__(self, app: App, service: str, *, trust_request_id: bool) -> None:
        self.app = app
        self.service = service
        self.trust_request_id = trust_request_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = self.request_id(scope)
        scope["request_id"] = request_id
        status = 500
        started = time.perf_counter()

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = [pair for pair in message.get("headers", []) if pair[0].lower() != HEADER]
                message["headers"] = [*headers, (HEADER, request_id.encode())]
            await send(message)

        loud = scope["path"] not in QUIET
        about = {"method": scope["method"], "url": scope["path"], "request_id": request_id}
        if loud:
            log.info(
                "Request started", extra=about | {"remote": remote(scope), "user_agent": header(scope, b"user-agent")}
            )
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
            metrics.DURATION.labels(metrics.method_label(scope["method"]), endpoint, str(status)).observe(duration_s)
            if loud or status >= 500:
                outcome = {"endpoint": endpoint, "status": status, "duration": round(duration_s, 6)}
                log.info("Request completed", extra=about | outcome)

    def request_id(self, scope: Scope) -> str:
        """The caller's id where it is trusted and sane, else a new one."""
        given = header(scope, HEADER) if self.trust_request_id else ""
        return (
            given
            if given and len(given) <= MAX_ID_BYTES and given.isascii() and given.isprintable()
            else str(uuid.uuid4())
        )


def header(scope: Scope, name: bytes) -> str:
    """A request header, or the empty string."""
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), "")


def remote(scope: Scope) -> str:
    """Address of the peer."""
    return scope["client"][0] if scope.get("client") else ""


def template(scope: Scope) -> str:
    """The route's template, of which there are few; never the path, of which there is no end."""
    route = scope.get("route")
    return scope.get("route_template") or getattr(route, "path", None) or "unmatched"
