"""The routes: which paths lead to which service, and on which terms. Data, from a file."""

import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from servicekit.settings import SettingsError

Method = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::[1-9]\d{0,4})?")


def origin(value: str) -> str:
    """Return an origin as browsers send it (RFC 6454, section 6.2), or `*`.

    Raises:
        ValueError: it is none.
    """
    default = {"http": ":80", "https": ":443"}.get(value.partition(":")[0])
    if value == "*" or (ORIGIN.fullmatch(value) and not (default and value.endswith(default))):
        return value
    raise ValueError(
        f"{value} is no origin: scheme://host or scheme://host:port, in lower case, no path, no default port, as https://app.example.com"
    )


Origin = Annotated[str, AfterValidator(origin)]
Token = Annotated[str, Field(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")]
"""The name of a header (RFC 9110, section 5.1)."""


class Table(BaseModel):
    """Common to every table: no unknown key, no change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class RateLimit(Table):
    """How much one client may ask."""

    requests: int = Field(ge=1)
    per_s: int = Field(default=60, ge=1, le=3600)
    """Seconds of the window."""


class Cors(Table):
    """Which pages of other origins may use a route, by a browser (https://fetch.spec.whatwg.org/#http-cors-protocol)."""

    allow_origins: tuple[Origin, ...] = Field(min_length=1)
    """Exactly those; `*`: all."""
    methods: frozenset[Method] | None = None
    """That a preflight allows; absent: those of the route."""
    headers: tuple[Token, ...] = ("authorization", "content-type", "idempotency-key", "if-match", "if-none-match")
    """That a page may send."""
    expose_headers: tuple[Token, ...] = (
        "etag",
        "link",
        "location",
        "ratelimit",
        "ratelimit-policy",
        "retry-after",
        "x-request-id",
    )
    """That a page may read."""
    credentials: bool = False
    """Whether the browser may add cookies and the like; tokens in Authorization do not need it."""
    max_age_s: int = Field(default=600, ge=0, le=86400)
    """For which a browser remembers the answer to a preflight."""

    @model_validator(mode="after")
    def credentials_are_for_named_origins(self) -> "Cors":
        """Refuse `*` with credentials, which no browser takes for all: it would lend every page the user's session."""
        if self.credentials and "*" in (*self.allow_origins, *self.headers, *self.expose_headers):
            raise ValueError("with credentials, name each origin and header in place of *")
        return self


class Route(Table):
    """Everything at or below a path."""

    prefix: str = Field(pattern=r"^(/[A-Za-z0-9._~-]+)+$")
    service: str = Field(min_length=1)
    """Name in Consul."""
    methods: frozenset[Method] = frozenset(get_args(Method))
    auth: Literal["none", "optional", "required"] = "required"
    timeout_s: float = Field(default=30, gt=0, le=3600)
    """Until the head of the answer, or the whole of one that is held, over all attempts; and between two pieces of its body."""
    attempts: int = Field(default=3, ge=1, le=3)
    """How often an idempotent request is tried at the most."""
    balance: Literal["least_busy", "round_robin", "consistent_hash"] = "least_busy"
    rate_limit: RateLimit | None = None
    cors: Cors | None = None

    @field_validator("methods")
    @classmethod
    def head_is_where_get_is(cls, methods: frozenset[Method]) -> frozenset[Method]:
        """Take HEAD for every path that has GET (RFC 9110, section 9.1)."""
        return methods | frozenset[Method]({"HEAD"}) if "GET" in methods else methods

    @property
    def template(self) -> str:
        """What metrics and logs call it."""
        return f"{self.prefix}/{{path}}"


class Routes(Table):
    """All of them."""

    routes: tuple[Route, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def prefixes_are_unique(self) -> "Routes":
        """Refuse two routes for one path."""
        prefixes = [route.prefix for route in self.routes]
        if twice := {prefix for prefix in prefixes if prefixes.count(prefix) > 1}:
            raise ValueError(f"more than one route for {', '.join(sorted(twice))}")
        return self


class RouteTable:
    """Finds the route of a path: the longest prefix; one ends where a segment does. How long that takes depends on the prefixes alone."""

    def __init__(self, routes: tuple[Route, ...]) -> None:
        self.routes = routes
        self.services = frozenset(route.service for route in routes)
        self._by_prefix = {route.prefix: route for route in routes}
        self._longest = max((len(route.prefix) for route in routes), default=0)

    def find(self, path: str) -> Route | None:
        """Return the route, or None."""
        end = len(path)
        if end > self._longest:
            end = path.rfind("/", 0, self._longest + 1)
        while end > 0:
            if found := self._by_prefix.get(path[:end]):
                return found
            end = path.rfind("/", 0, end)
        return None


def load(file: Path) -> RouteTable:
    """The routes in a file, YAML or JSON.

    Raises:
        SettingsError: the file cannot be read, or a key or value in it is wrong.
    """
    try:
        values: Any = json.loads(text) if (text := file.read_text()).startswith("{") else yaml.safe_load(text)
        return RouteTable(Routes.model_validate(values).routes)
    except OSError as error:
        raise SettingsError(f"routes file {file} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise SettingsError(f"routes file {file}: {wrong}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: not JSON, or not UTF-8
        raise SettingsError(f"routes file {file} is neither YAML nor JSON: {error}") from error
