"""Cross-origin requests of browsers (CORS, https://fetch.spec.whatwg.org/#http-cors-protocol), by route.

The route alone decides which origins may read its responses, refusals included. A service's own CORS headers are removed, because browsers
refuse two values of one header. The gateway answers preflights itself, since they cannot carry a token.
"""

from collections.abc import Iterable
from typing import Final

from servicekit.asgi import Headers, Scope

from api_gateway.routes import Cors, Route

PREFIX: Final = b"access-control-"
VARY: Final = (b"vary", b"Origin")
"""Header of every response that could differ for another origin, so that no cache serves it to that origin."""


def is_preflight(route: Route, scope: Scope) -> bool:
    """Return whether a request is a CORS preflight; any other OPTIONS request is treated like all others."""
    if route.cors is None or scope["method"] != "OPTIONS":
        return False
    names = {name for name, _ in scope["headers"]}
    return b"origin" in names and b"access-control-request-method" in names


def preflight(route: Route, scope: Scope) -> Headers:
    """Return the headers that answer a preflight: all that the route allows, whatever was asked; the browser compares."""
    assert route.cors  # noqa: S101 - checked by the caller
    methods = route.cors.methods or route.methods
    allowed = [
        (b"access-control-allow-methods", joined(sorted(methods))),
        (b"access-control-allow-headers", joined(route.cors.headers)),
        (b"access-control-max-age", b"%d" % route.cors.max_age_s),
    ]
    return allow(route.cors, scope, allowed)


def shared(route: Route, scope: Scope, headers: Headers) -> Headers:
    """Return the headers of a response with the route's CORS headers in place of the service's."""
    if route.cors is None:
        return headers
    kept = [pair for pair in headers if not pair[0].lower().startswith(PREFIX)]
    exposed = joined(route.cors.expose_headers)
    return kept + allow(route.cors, scope, [(b"access-control-expose-headers", exposed)] if exposed else [])


def allow(cors: Cors, scope: Scope, terms: Headers) -> Headers:
    """Return the headers that let the origin of a request read the response on these terms, if it is allowed to."""
    if "*" in cors.allow_origins:
        return [(b"access-control-allow-origin", b"*"), *terms]
    origins = [value for name, value in scope["headers"] if name == b"origin"]
    # Schemes and hosts are case-insensitive (RFC 6454, section 4); browsers send both in lower case.
    if len(origins) != 1 or origins[0].decode("latin-1").lower() not in cors.allow_origins:
        return [VARY]
    credentials = [(b"access-control-allow-credentials", b"true")] if cors.credentials else []
    return [VARY, (b"access-control-allow-origin", origins[0]), *credentials, *terms]


def joined(names: Iterable[str]) -> bytes:
    """Return names as the value of a header."""
    return ", ".join(names).encode()
