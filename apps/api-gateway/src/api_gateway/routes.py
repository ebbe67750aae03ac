"""The routes: which paths lead to which service, and on which terms. Data, from a file."""

import json
from pathlib import Path
from typing import Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from servicekit.settings import SettingsError

Method = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


class Table(BaseModel):
    """Common to every table: no unknown key, no change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class RateLimit(Table):
    """How much one client may ask."""

    requests: int = Field(ge=1)
    per_s: int = Field(default=60, ge=1, le=3600)
    """Seconds of the window."""


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
    except (yaml.YAMLError, json.JSONDecodeError) as error:
        raise SettingsError(f"routes file {file} is neither YAML nor JSON: {error}") from error
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise SettingsError(f"routes file {file}: {wrong}") from error
