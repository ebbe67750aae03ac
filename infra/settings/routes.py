"""Routes of the gateway: prefixes, limits, and who may use them from a browser."""

import re
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, Field, model_validator

from infra.addresses import place
from infra.mistakes import Contradiction, ContradictionError
from infra.settings.base import Settings
from infra.values import INT32, matching


class RateLimit(Settings):
    """Limit on the requests of one client, identified by the user in its token, or by its address if it has none."""

    requests: int = Field(ge=1, le=INT32, examples=[600])
    """Requests of one client in a window."""
    per_s: int = Field(default=60, ge=1, le=3600)
    """Seconds of the window."""


Method = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::[1-9]\d{0,4})?")


def origin(value: str) -> str:
    """Return an origin as browsers send it (RFC 6454, section 6.2), or `*`.

    Raises:
        ValueError: the value is invalid.
    """
    if value == "*":
        return value
    wanted = "this is no origin: scheme://host or scheme://host:port, in lower case, no path, no default port"
    default = {"http": ":80", "https": ":443"}.get(value.partition(":")[0])
    if not ORIGIN.fullmatch(value) or (default and value.endswith(default)):
        raise ValueError(wanted)
    place(value, wanted)
    return value


Origin = Annotated[
    str, AfterValidator(origin), Field(examples=["https://app.example.com"], json_schema_extra={"minLength": 1})
]
HEADER_NAME = r"[A-Za-z0-9!#$%&'*+.^_`|~-]+"


def token(value: str) -> str:
    """Return the name of a header (RFC 9110, section 5.1).

    Raises:
        ValueError: the value is invalid.
    """
    return matching(HEADER_NAME, value, "wants the name of a header")


Token = Annotated[
    str, AfterValidator(token), Field(examples=["content-type"], json_schema_extra={"pattern": f"^{HEADER_NAME}$"})
]
OWN = re.compile(r"/(?:livez|readyz|metrics|openapi\.json|(?:auth|docs|health)(?:/.*)?)")
"""Paths at which the gateway itself answers, which routes would hide."""


def prefix(value: str) -> str:
    """Return a path prefix that requests can match and that leaves the gateway its own paths.

    Raises:
        ValueError: the value is invalid.
    """
    if not PREFIX.fullmatch(value):
        raise ValueError(
            "wants the beginning of a path: / and segments of letters, digits and ._~-, without / at the end"
        )
    if {".", ".."} & set(value.split("/")):
        raise ValueError("no request matches a prefix with the segment . or .., which the gateway refuses in paths")
    if OWN.fullmatch(value):
        raise ValueError("the gateway itself answers there: choose another prefix")
    return value


PREFIX = re.compile(r"(?:/[A-Za-z0-9._~-]+)+")
Prefix = Annotated[
    str, AfterValidator(prefix), Field(examples=["/api/v1/users"], json_schema_extra={"pattern": f"^{PREFIX.pattern}$"})
]
"""Prefix of a route's paths."""


class Cors(Settings):
    """Access to a route by pages of other origins in a browser (https://fetch.spec.whatwg.org/#http-cors-protocol)."""

    allow_origins: list[Origin] = Field(min_length=1)
    """Origins that may use the route, compared exactly; `*`: all."""
    methods: list[Method] | None = Field(default=None, min_length=1)
    """Methods that a preflight allows; absent: those of the route."""
    headers: list[Token] = Field(
        default=["authorization", "content-type", "idempotency-key", "if-match", "if-none-match"]
    )
    """Request headers that a page may send."""
    expose_headers: list[Token] = Field(
        default=[
            "etag",
            "link",
            "location",
            "ratelimit",
            "ratelimit-policy",
            "retry-after",
            "x-request-id",
        ]
    )
    """Response headers that a page may read."""
    credentials: bool = False
    """Permission for the browser to add cookies and the like; tokens in Authorization do not need it."""
    max_age_s: int = Field(default=600, ge=0, le=86400)
    """Seconds for which a browser caches the answer to a preflight."""

    @model_validator(mode="after")
    def _credentials_are_for_named_origins(self) -> "Cors":
        """Refuse `*` with credentials, which browsers do not take for all: it would lend every page the user's session."""
        lists = {"allow_origins": self.allow_origins, "headers": self.headers, "expose_headers": self.expose_headers}
        if found := [key for key, names in lists.items() if self.credentials and "*" in names]:
            raise ContradictionError(
                *(
                    Contradiction((key,), "wants each by its name in place of * where credentials is true")
                    for key in found
                )
            )
        return self


class Route(Settings):
    """A path prefix at which the gateway serves a service, and its options."""

    prefix: Prefix
    """Prefix of the paths: this one and all below it; the longest match wins."""
    methods: list[Method] | None = Field(default=None, min_length=1)
    """Methods that are accepted; absent: all of them."""
    auth: Literal["none", "optional", "required"] = "required"
    """Requirement for a token in requests."""
    timeout_s: float = Field(default=30, gt=0, le=3600)
    """Seconds until the head of the answer, and between two pieces of its body."""
    attempts: int = Field(default=3, ge=1, le=3)
    """Maximum attempts of an idempotent request."""
    balance: Literal["least_busy", "round_robin", "consistent_hash"] = "least_busy"
    """Choice of an instance: of two the less busy, each in turn, or by the address of the client."""
    rate_limit: RateLimit | None = None
    """Limit on the requests of each client; absent: none."""
    cors: Cors | None = None
    """Access by pages of other origins; absent: they may not use it."""

    @model_validator(mode="after")
    def _cors_is_within_the_route(self) -> "Route":
        """Refuse a preflight that allows what the route then refuses."""
        taken = set(self.methods or get_args(Method))
        taken |= {"HEAD"} if "GET" in taken else set()  # as in the gateway
        if self.cors and not set(self.cors.methods or ()) <= taken:
            right = f"methods: [{', '.join(sorted(taken))}]"
            wrong = "holds a method that the route does not take"
            raise ContradictionError(Contradiction(("cors", "methods"), wrong, right))
        return self
