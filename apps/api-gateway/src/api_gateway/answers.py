"""What every answer of a route has, whoever gave it: the service, or the gateway that refused the request."""

from servicekit.asgi import Headers, Message, Scope, Send

from api_gateway import cors
from api_gateway.routes import Route

CACHING = frozenset({b"cache-control", b"expires"})
NOT_STORED = (b"cache-control", b"no-store")
"""Where nothing is said, caches may keep answers by a heuristic, such as every 200 and 404 (RFC 9111, section 4.2.2; RFC 9110,
section 15.1). What an API answers is for one client and changes; a service that wants it kept says so."""


def completed(route: Route, scope: Scope, status: int, headers: Headers) -> Headers:
    """Return the headers of an answer, completed."""
    # 101 is no answer that could be kept; 304 changes what its cache knows of the answer that it has (RFC 9111, section 3.2).
    if status not in (101, 304) and not any(name.lower() in CACHING for name, _ in headers):
        headers = [*headers, NOT_STORED]
    return cors.shared(route, scope, headers)


def completing(route: Route, scope: Scope, send: Send) -> Send:
    """Return a channel that completes the headers of an answer."""

    async def send_completed(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = completed(route, scope, message["status"], list(message.get("headers", ())))
        await send(message)

    return send_completed
