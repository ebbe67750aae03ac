"""The routes: paths, the services that they lead to, and their terms. They are data, from a file."""

import re
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, Field, ValidationError, field_validator, model_validator
from servicekit.addresses import place
from servicekit.settings import Settings, SettingsError, named, parsed, wrong

Method = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
FILE = "routes.file"
"""Setting that names the file of routes, for errors."""
ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::[1-9]\d{0,4})?")


def origin(value: str) -> str:
    """Return an origin as browsers send it (RFC 6454, section 6.2), or `*`.

    Raises:
        ValueError: the value is not an origin.
    """
    if value == "*":
        return value
    wanted = "this is no origin: scheme://host or scheme://host:port, in lower case, no path, no default port, as https://app.example.com"
    default = {"http": ":80", "https": ":443"}.get(value.partition(":")[0])
    if not ORIGIN.fullmatch(value) or (default and value.endswith(default)):
        raise ValueError(wanted)
    place(value, wanted)
    return value


Origin = Annotated[str, AfterValidator(origin)]
Token = Annotated[str, Field(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")]
"""Name of a header (RFC 9110, section 5.1)."""


OWN = re.compile(r"/(?:livez|readyz|metrics|openapi\.json|(?:auth|docs|health)(?:/.*)?)")
"""Paths of the gateway's own endpoints, which routes would hide."""


def prefix(value: str) -> str:
    """Return a prefix that requests can have and that does not hide the gateway's own paths.

    Raises:
        ValueError: it is another one.
    """
    if {".", ".."} & set(value.split("/")):
        raise ValueError("no request matches a prefix with the segment . or .., which the gateway refuses in paths")
    if OWN.fullmatch(value):
        raise ValueError("the gateway itself answers there: choose another prefix")
    return value


Prefix = Annotated[str, Field(pattern=r"^(/[A-Za-z0-9._~-]+)+$"), AfterValidator(prefix)]
"""Prefix of a route's paths."""


class RateLimit(Settings):
    """The number of requests that one client may send in a window."""

    requests: int = Field(ge=1)
    per_s: int = Field(default=60, ge=1, le=3600)
    """Seconds of the window."""


class Cors(Settings):
    """The pages of other origins that may use a route from a browser (https://fetch.spec.whatwg.org/#http-cors-protocol)."""

    allow_origins: tuple[Origin, ...] = Field(min_length=1)
    """Origins that are allowed, exactly as given; `*`: all."""
    methods: frozenset[Method] | None = Field(default=None, min_length=1)
    """Methods that a preflight allows; absent: those of the route."""
    headers: tuple[Token, ...] = ("authorization", "content-type", "idempotency-key", "if-match", "if-none-match")
    """Headers that a page may send."""
    expose_headers: tuple[Token, ...] = (
        "etag",
        "link",
        "location",
        "ratelimit",
        "ratelimit-policy",
        "retry-after",
        "x-request-id",
    )
    """Headers that a page may read."""
    credentials: bool = False
    """True if the browser may add cookies and the like; tokens in Authorization do not need it."""
    max_age_s: int = Field(default=600, ge=0, le=86400)
    """Seconds for which a browser caches the response to a preflight."""

    @model_validator(mode="after")
    def credentials_are_for_named_origins(self) -> "Cors":
        """Refuse `*` with credentials, which no browser accepts for all: it would give every page the user's session."""
        if self.credentials and "*" in (*self.allow_origins, *self.headers, *self.expose_headers):
            raise ValueError("with credentials, name each origin and header in place of *")
        return self


class Route(Settings):
    """The terms of all requests at or below a path."""

    prefix: Prefix
    service: str = Field(min_length=1)
    """Name of the service in Consul."""
    methods: frozenset[Method] = Field(default=frozenset(get_args(Method)), min_length=1)
    auth: Literal["none", "optional", "required"] = "required"
    timeout_s: float = Field(default=30, gt=0, le=3600)
    """Seconds until the head of the response (or all of a buffered one), over all attempts; and between two pieces of its body."""
    attempts: int = Field(default=3, ge=1, le=3)
    """Maximum attempts at an idempotent request."""
    balance: Literal["least_busy", "round_robin", "consistent_hash"] = "least_busy"
    rate_limit: RateLimit | None = None
    cors: Cors | None = None

    @field_validator("methods")
    @classmethod
    def head_is_where_get_is(cls, methods: frozenset[Method]) -> frozenset[Method]:
        """Accept HEAD for every path that has GET (RFC 9110, section 9.1)."""
        return methods | frozenset[Method]({"HEAD"}) if "GET" in methods else methods

    @model_validator(mode="after")
    def cors_is_within_the_route(self) -> "Route":
        """Refuse a preflight that allows what the route then refuses."""
        if self.cors and self.cors.methods and not self.cors.methods <= self.methods:
            raise ValueError("cors.methods holds a method that the route does not take")
        return self

    @cached_property
    def template(self) -> str:
        """Return the name of the route in metrics and logs."""
        return f"{self.prefix}/{{path}}"


class Routes(Settings):
    """The routes file."""

    routes: tuple[Route, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def prefixes_are_unique(self) -> "Routes":
        """Refuse two routes for one path."""
        prefixes = [route.prefix for route in self.routes]
        if twice := {prefix for prefix in prefixes if prefixes.count(prefix) > 1}:
            raise ValueError(f"more than one route for {', '.join(sorted(twice))}")
        return self


class RouteTable:
    """Lookup of a path's route: the longest matching prefix, by whole segments. The time that it takes depends on the prefixes alone."""

    def __init__(self, routes: tuple[Route, ...]) -> None:
        self.routes = routes
        self.services = frozenset(route.service for route in routes)
        self._by_prefix = {route.prefix: route for route in routes}
        self._longest = max((len(route.prefix) for route in routes), default=0)

    def find(self, path: str) -> Route | None:
        """Return the route of a path, or None."""
        end = len(path)
        if end > self._longest:
            end = path.rfind("/", 0, self._longest + 1)
        while end > 0:
            if found := self._by_prefix.get(path[:end]):
                return found
            end = path.rfind("/", 0, end)
        return None


def load(file: Path) -> RouteTable:
    """Return the routes in a file, YAML or JSON.

    Raises:
        SettingsError: the file cannot be read, or a key or value in it is wrong.
    """
    name = named(FILE, file)
    try:
        return RouteTable(Routes.model_validate(parsed(file, name)).routes)
    except ValidationError as error:
        raise SettingsError(f"{name}: {wrong(error)}") from error
