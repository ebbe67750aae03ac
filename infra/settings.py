"""Everything in which stacks differ, typed: stacks/Pulumi.<stack>.yaml holds it under `estate:settings`."""

import difflib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

import pulumi
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

GENERATED_SECRETS = ("postgresPassword", "redisPassword", "tokenKey", "operatorSecret")
"""Pulumi config secrets (`estate:<name>`) that every stack needs, and `make up` generates where they are missing."""
OTHER_TOKEN_KEYS = ("nextTokenKey", "previousTokenKey")
"""Secrets that are there while keys are rotated: tokens by these are accepted too."""


class SettingsError(Exception):
    """What is wrong with a stack's settings, in which file, and what to do."""


class Settings(BaseModel):
    """Common to every table of settings: no unknown key, no change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Quantities(Settings):
    """Kubernetes quantities of CPU and memory."""

    cpu: str
    memory: str


class RateLimit(Settings):
    """How much one client may ask: whom its token names, or its address where it has none."""

    requests: int = Field(ge=1)
    per_s: int = Field(default=60, ge=1, le=3600)
    """Seconds of the window."""


class Route(Settings):
    """A path at which the gateway serves a service, and on which terms."""

    prefix: str = Field(pattern=r"^(/[A-Za-z0-9._~-]+)+$")
    methods: list[str] | None = None
    """Absent: all of them."""
    auth: Literal["none", "optional", "required"] = "required"
    """Whether a token is needed."""
    timeout_s: float = Field(default=30, gt=0, le=3600)
    attempts: int = Field(default=3, ge=1, le=3)
    """How often an idempotent request is tried at the most."""
    balance: Literal["least_busy", "round_robin", "consistent_hash"] = "least_busy"
    rate_limit: RateLimit | None = None
    """Absent: none."""


class ServiceSettings(Settings):
    """How one of our services runs; defaults from the reference system's Deployment."""

    routes: list[Route] = []
    """Where the gateway serves it."""

    replicas: int = Field(default=3, ge=1)
    requests: Quantities = Quantities(cpu="250m", memory="64Mi")
    limits: Quantities = Quantities(cpu="500m", memory="128Mi")


class UserServiceSettings(ServiceSettings):
    """How user-service runs; its routes are the reference system's."""

    routes: list[Route] = [Route(prefix=prefix) for prefix in ("/api/v1/users", "/api/v2/users", "/users")]


class ClientSettings(Settings):
    """A program that may have tokens by POST /auth/token; `make client` makes one."""

    id: str = Field(min_length=1)
    secret_hash: str = Field(pattern=r"^\$argon2id\$")
    user_id: int
    username: str


class JwksSettings(Settings):
    """Another issuer, whose tokens are accepted beside our own."""

    url: str = Field(pattern=r"^https?://")
    """Of its JWK Set."""
    issuer: str = Field(min_length=1)
    """What its tokens have as `iss`."""
    networks: list[str] = Field(default=["0.0.0.0/0"], min_length=1)
    """Where its host is, as CIDRs: who verifies tokens may connect there, on the URL's port."""

    @property
    def port(self) -> int:
        """Of the URL."""
        parts = urlsplit(self.url)
        return parts.port or {"http": 80, "https": 443}[parts.scheme]


class GatewaySettings(ServiceSettings):
    """How the gateway runs."""

    replicas: int = Field(default=2, ge=1)
    limits: Quantities = Quantities(cpu="500m", memory="256Mi")
    """More memory than others: it verifies secrets with Argon2, and holds what slow clients do not take."""
    clients: list[ClientSettings] = []
    """Who may have tokens, beside the operator."""


class IngressSettings(Settings):
    """How the world reaches the estate."""

    host: str = "api.myapp.com"
    port: int = Field(default=443, ge=1, le=65535)
    """Port of the public URLs."""
    class_name: str | None = None
    """Ingress class; absent: the cluster's default."""
    tls_secret: str | None = None
    """Secret with the certificate; absent: the controller's own."""
    trusted: list[str] = []
    """Networks of the controller's pods, which may connect and whose X-Forwarded-For the gateway believes."""
    namespace: str | None = None
    """Namespace of the controller's pods, which may connect: for clusters whose network policies do not know pods by their networks."""
    wait: bool = True
    """Wait until the controller has published a status; some never do."""
    consoles: bool = False
    """Publish Consul and Prometheus beside the API, without authentication: for a machine of one's own only."""

    def url(self, host: str) -> str:
        """The public URL of a host."""
        return f"https://{host}" + ("" if self.port == 443 else f":{self.port}")


class Images(Settings):
    """Third-party images, and the base of our own."""

    python: str = "docker.io/library/python:3.11-slim-bookworm"
    postgres: str = "docker.io/library/postgres:15"
    redis: str = "docker.io/library/redis:7.0"
    consul: str = "docker.io/hashicorp/consul:1.22.0"
    prometheus: str = "docker.io/prom/prometheus:v2.42.0"


class Storage(Settings):
    """Sizes of the volumes, as Kubernetes quantities."""

    postgres: str = "2Gi"
    consul: str = "256Mi"
    prometheus: str = "2Gi"


class StackSettings(Settings):
    """The settings of one stack."""

    registry: str
    """Where our images are pushed: host[:port]/path."""
    build: bool = False
    """Build and push our images; otherwise they are given by digest in `digests`."""
    digests: dict[str, str] = {}
    """Image reference by digest of each of our services, where the stack does not build."""
    images: Images = Images()
    ingress: IngressSettings = IngressSettings()
    storage: Storage = Storage()
    user_service: UserServiceSettings = UserServiceSettings()
    api_gateway: GatewaySettings = GatewaySettings()
    jwks: JwksSettings | None = None
    """Another issuer of tokens; absent: the gateway alone."""

    def image_references(self) -> list[str]:
        """Every third-party image that the stack uses."""
        return sorted(self.images.model_dump().values())


@dataclass(frozen=True)
class Cluster:
    """The one Kubernetes that the program may touch."""

    kubeconfig: str
    context: str


def load_cluster() -> Cluster:
    """The cluster that the environment names.

    Raises:
        SettingsError: it names none; a default would be somebody's wrong cluster.
    """
    kubeconfig, context = os.environ.get("ESTATE_KUBECONFIG"), os.environ.get("ESTATE_KUBE_CONTEXT")
    if not kubeconfig or not context:
        raise SettingsError(
            "no cluster is named: run this through make (make up STACK=…), or set ESTATE_KUBECONFIG and ESTATE_KUBE_CONTEXT"
        )
    return Cluster(kubeconfig, context)


def load_stack(file: Path) -> StackSettings:
    """The settings in a stack file.

    Raises:
        SettingsError: the file cannot be read, or a key or value is wrong.
    """
    try:
        content: Any = yaml.safe_load(file.read_text())
    except OSError as error:
        raise SettingsError(f"{file} cannot be read: {error.strerror}") from error
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f" line {where.line + 1}" if where else ""
        raise SettingsError(f"{file}{line} is not YAML: {getattr(error, 'problem', error)}") from error
    try:
        values: Any = content["config"]["estate:settings"]
    except (TypeError, KeyError):
        values = None
    return parse(values, str(file))


def parse(values: Any, source: str) -> StackSettings:
    """Validated settings.

    Args:
        values: as in the stack file.
        source: where they are from, for the error.

    Raises:
        SettingsError: names each wrong key, with the nearest known one.
    """
    if not isinstance(values, dict):
        raise SettingsError(f"{source} has no settings: put them under config: estate:settings:")
    try:
        return StackSettings.model_validate(values)
    except ValidationError as error:
        problems = "; ".join(describe(dict(problem)) for problem in error.errors())
        raise SettingsError(f"{source}: {problems}") from error


def describe(problem: dict[str, Any]) -> str:
    """One problem that pydantic found, for the person who wrote the file."""
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] != "extra_forbidden":
        return f"{key}: {problem['msg'].lower()} (it is {problem['input']!r})"
    *parents, unknown = problem["loc"]
    names = list(table(tuple(str(p) for p in parents)).model_fields)
    nearest = difflib.get_close_matches(str(unknown), names, n=1)
    return f"{key} is not known: " + (f"did you mean {nearest[0]}?" if nearest else f"known are {', '.join(names)}")


def table(path: tuple[str, ...]) -> type[Settings]:
    """The model of the table at `path` of the settings."""
    model: type[Settings] = StackSettings
    for part in path:
        annotation = model.model_fields[part].annotation
        candidates = [annotation, *get_args(annotation)]
        model = next(c for c in candidates if isinstance(c, type) and issubclass(c, Settings))
    return model


@dataclass(frozen=True)
class Secrets:
    """The passwords and keys of a stack."""

    postgres_password: pulumi.Output[str]
    redis_password: pulumi.Output[str]
    token_keys: tuple[pulumi.Output[str], ...]
    """The first one signs."""
    operator_secret: pulumi.Output[str]


def load_settings() -> StackSettings:
    """The settings of the stack that Pulumi runs.

    Raises:
        SettingsError: it has none, or a key or value is wrong.
    """
    values: Any = pulumi.Config("estate").get_object("settings")
    return parse(values, f"stacks/Pulumi.{pulumi.get_stack()}.yaml")


def load_secrets() -> Secrets:
    """The passwords and keys of the stack that Pulumi runs, as Pulumi secrets.

    Raises:
        SettingsError: one is missing.
    """
    config = pulumi.Config("estate")
    found: dict[str, pulumi.Output[str]] = {}
    for name in GENERATED_SECRETS:
        value = config.get_secret(name)
        if value is None:
            raise SettingsError(
                f"the secret {name} is missing: pulumi config set --secret estate:{name} (make up generates it)"
            )
        found[name] = value
    others = [value for name in OTHER_TOKEN_KEYS if (value := config.get_secret(name)) is not None]
    keys = (found["tokenKey"], *others)
    return Secrets(found["postgresPassword"], found["redisPassword"], keys, found["operatorSecret"])
