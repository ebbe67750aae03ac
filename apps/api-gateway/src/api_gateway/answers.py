"""Complete the headers of every response of a route, whether a service sent it or the gateway refused the request."""

from servicekit.asgi import Headers, Message, Scope, Send

from api_gateway import cors
from api_gateway.routes import Route

CACHING = frozenset({b"cache-control", b"expires"})
NOT_STORED = (b"cache-control", b"no-store")
"""Header added to a response that has no caching header. Without one, caches may store responses heuristically, such as every 200 and 404
(RFC 9111, section 4.2.2; RFC 9110, section 15.1). An API's responses are for one client and change; a service that wants one cached says so."""


def completed(route: Route, scope: Scope, status: int, headers: Headers) -> Headers:
    """Complete the headers of a response, and return them."""
    # A 101 cannot be stored; a 304 carries the headers that the 200 would have had (RFC 9110, section 15.4.5).
    if status != 101 and not any_caching(headers):
        headers.append(NOT_STORED)
    return cors.shared(route, scope, headers)


def any_caching(headers: Headers) -> bool:
    """Return whether a response says how long it may be cached."""
    for name, _ in headers:  # noqa: SIM110 - any() takes twice as long
        if name in CACHING:
            return True
    return False


def completing(route: Route, scope: Scope, send: Send) -> Send:
    """Return a send channel that completes the headers of a response."""

    async def send_completed(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = completed(route, scope, message["status"], list(message.get("headers", ())))
        await send(message)

    return send_completed
