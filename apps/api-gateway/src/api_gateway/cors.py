"""Cross-origin requests of browsers (CORS, https://fetch.spec.whatwg.org/#http-cors-protocol), by route.

Which origins may read a route's answers, refusals included, is the route's own word alone: what a service says of it is taken away, for
two values of one header are refused by every browser. A preflight is answered here, since it can have no token.
"""

from collections.abc import Iterable
from typing import Final

from servicekit.asgi import Headers, Scope

from api_gateway.routes import Cors, Route

PREFIX: Final = b"access-control-"
VARY: Final = (b"vary", b"Origin")
"""On every answer that could have been another for another origin, so that no cache gives one to it."""


def is_preflight(route: Route, scope: Scope) -> bool:
    """Return whether a browser asks what it may send; any other OPTIONS is a request like all others."""
    if route.cors is None or scope["method"] != "OPTIONS":
        return False
    names = {name for name, _ in scope["headers"]}
    return b"origin" in names and b"access-control-request-method" in names


def preflight(route: Route, scope: Scope) -> Headers:
    """Return the headers that answer a preflight: what the route allows, whatever was asked; the browser compares."""
    assert route.cors  # noqa: S101 - by who calls
    methods = route.cors.methods or route.methods
    allowed = [
        (b"access-control-allow-methods", joined(sorted(methods))),
        (b"access-control-allow-headers", joined(route.cors.headers)),
        (b"access-control-max-age", b"%d" % route.cors.max_age_s),
    ]
    return allow(route.cors, scope, allowed)


def shared(route: Route, scope: Scope, headers: Headers) -> Headers:
    """Return the headers of an answer with what the route says of origins, and nothing that the service does."""
    if route.cors is None:
        return headers
    kept = [pair for pair in headers if not pair[0].lower().startswith(PREFIX)]
    exposed = joined(route.cors.expose_headers)
    return kept + allow(route.cors, scope, [(b"access-control-expose-headers", exposed)] if exposed else [])


def allow(cors: Cors, scope: Scope, terms: Headers) -> Headers:
    """Return the headers that let the origin of a request read the answer on these terms, if it may."""
    if "*" in cors.allow_origins:
        return [(b"access-control-allow-origin", b"*"), *terms]
    origins = [value for name, value in scope["headers"] if name == b"origin"]
    # Schemes and hosts are equal whatever their case (RFC 6454, section 4); browsers send both in lower case.
    if len(origins) != 1 or origins[0].decode("latin-1").lower() not in cors.allow_origins:
        return [VARY]
    credentials = [(b"access-control-allow-credentials", b"true")] if cors.credentials else []
    return [VARY, (b"access-control-allow-origin", origins[0]), *credentials, *terms]


def joined(names: Iterable[str]) -> bytes:
    """Return names as the value of a header."""
    return ", ".join(names).encode()
