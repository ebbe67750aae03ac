"""Everything in which stacks differ, typed: stacks/Pulumi.<stack>.yaml holds it under `estate:settings`."""

import difflib
import ipaddress
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, cast, get_args, get_origin
from urllib.parse import urlsplit

import pulumi
import yaml
from cryptography import x509
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from infra.stages import STAGES, Stage, with_defaults

GENERATED_SECRETS = (
    "postgresPassword",
    "databaseOwnerPassword",
    "databaseBackupPassword",
    "databasePasswordA",
    "databasePasswordB",
    "redisPassword",
    "tokenKey",
    "operatorSecret",
    "authoritySeed",
    "consulSeed",
)
"""Pulumi config secrets (`estate:<name>`) that every stack needs, and `make up` generates where they are missing; but what somebody else's database has."""
OTHER_TOKEN_KEYS = ("nextTokenKey", "previousTokenKey")
"""Secrets that are there while keys are rotated: tokens by these are accepted too."""
DATABASE_LOGIN = "databaseLogin"
"""Which of their two logins the services use, `a` or `b`; absent: `a`."""


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


class Scaling(Settings):
    """How many replicas a HorizontalPodAutoscaler keeps."""

    least: int = Field(ge=1)
    most: int = Field(ge=1)
    cpu_percent: int = Field(default=70, ge=1, le=100)
    """Of the CPU request; above it there are more replicas, below it fewer."""

    @model_validator(mode="after")
    def _ordered(self) -> "Scaling":
        if self.least > self.most:
            raise ValueError(f"least ({self.least}) is more than most ({self.most})")
        return self


class ServiceSettings(Settings):
    """How one of our services runs; defaults are in infra/stages.py."""

    replicas: int = Field(ge=1)
    scaling: Scaling | None = None
    """Absent: `replicas` is what runs."""
    requests: Quantities
    limits: Quantities
    routes: list[Route] | None = None
    """Where the gateway serves it; absent: as the service declares."""

    @property
    def least(self) -> int:
        """How many replicas there are at the least."""
        return self.scaling.least if self.scaling else self.replicas


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


class IngressSettings(Settings):
    """How the world reaches the estate."""

    host: str = "api.myapp.com"
    port: int = Field(default=443, ge=1, le=65535)
    """Port of the public URLs."""
    class_name: str | None = None
    """Ingress class; absent: the cluster's default."""
    tls_secret: str | None = None
    """Secret with the certificate; absent: the controller's own, or the issuer's."""
    issuer: str | None = None
    """ClusterIssuer of cert-manager, which then makes a certificate for each host and renews it."""
    trusted: list[str] = []
    """Networks of the controller's pods, which may connect and whose X-Forwarded-For the gateway believes."""
    namespace: str | None = None
    """Namespace of the controller's pods, which may connect: for clusters whose network policies do not know pods by their networks."""
    wait: bool = True
    """Wait until the controller has published a status; some never do."""
    consoles: bool = False
    """Publish Consul and Prometheus beside the API, without authentication: for a machine of one's own only."""

    @model_validator(mode="after")
    def _one_certificate(self) -> "IngressSettings":
        if self.issuer and self.tls_secret:
            raise ValueError("issuer makes the certificates that tls_secret would be: take one of them out")
        return self

    def url(self, host: str) -> str:
        """The public URL of a host."""
        return f"https://{host}" + ("" if self.port == 443 else f":{self.port}")


class Images(Settings):
    """Third-party images, and the base of our own."""

    python: str = "docker.io/library/python:3.11-slim-bookworm"
    postgres: str = "docker.io/library/postgres:15"
    postgres_cluster: str = "ghcr.io/cloudnative-pg/postgresql:15"
    redis: str = "docker.io/library/redis:7.0"
    consul: str = "docker.io/hashicorp/consul:1.22.0"
    prometheus: str = "docker.io/prom/prometheus:v2.42.0"


class Storage(Settings):
    """Sizes of the volumes, as Kubernetes quantities."""

    postgres: str = "2Gi"
    backups: str = "2Gi"
    consul: str = "256Mi"
    prometheus: str = "2Gi"


class ApiServer(Settings):
    """The Kubernetes API as network policies see it: past its Service. `kubectl get endpointslices kubernetes` shows it."""

    networks: list[str] = Field(min_length=1)
    """Where it is, as CIDRs."""
    port: int = Field(default=6443, ge=1, le=65535)


class BackupSettings(Settings):
    """Dumps of the database."""

    schedule: str = "17 2 * * *"
    """When one is made, as cron has it, in UTC."""
    keep: int = Field(default=7, ge=1)
    """How many there are at the most."""


def network(given: str) -> str:
    """A CIDR.

    Raises:
        ValueError: it is none.
    """
    try:
        ipaddress.ip_network(given)
    except ValueError as error:
        raise ValueError(f"{error}: give a network as CIDR, like 10.0.8.0/24 or 203.0.113.7/32") from error
    return given


def certificates(given: str) -> str:
    """Certificates as PEM.

    Raises:
        ValueError: they are none.
    """
    try:
        x509.load_pem_x509_certificates(given.encode())
    except ValueError as error:
        raise ValueError("no certificates: give the text of the provider's PEM file (ca: |)") from error
    return given


class ManagedPostgresSettings(Settings):
    """A Postgres that somebody else runs; its admin's password is the secret `postgresPassword`."""

    host: str = Field(min_length=1)
    """Its name, which its certificate bears."""
    port: int = Field(default=5432, ge=1, le=65535)
    networks: list[Annotated[str, AfterValidator(network)]] = Field(min_length=1)
    """Where it is, as CIDRs: who needs the database may connect there."""
    ca: Annotated[str, AfterValidator(certificates)]
    """Whom to trust for its certificate, as PEM."""
    admin: str = Field(default="postgres", min_length=1)
    """Who makes the roles; may create roles and databases, and owns the database or its owner's role."""


class PostgresSettings(Settings):
    """Where the database is."""

    kind: Literal["instance", "cluster", "managed"] = "instance"
    """One instance; three by the operator CloudNativePG, of which one may be lost; or one that somebody else runs."""
    managed: ManagedPostgresSettings | None = None
    """Where that is."""
    backup: BackupSettings = BackupSettings()

    @model_validator(mode="after")
    def _whole(self) -> "PostgresSettings":
        if self.kind == "managed" and self.managed is None:
            raise ValueError("kind: managed needs to know where: set managed: {host, networks, ca}")
        if self.kind != "managed" and self.managed:
            raise ValueError(f"managed is given, and kind is {self.kind}: set kind: managed, or take managed out")
        return self


class Promoted(Settings):
    """Where the images of a stack come from; `make promote` writes it."""

    stack: str
    commit: str
    """What they were built from."""
    at: str
    by: str


class ConsulSettings(Settings):
    """The service registry."""

    servers: Literal[1, 3] = 1
    """Three: with an agent on each node, gossip encryption, ACLs and TLS."""


class StackSettings(Settings):
    """The settings of one stack."""

    stage: Stage
    """Whose defaults it has (infra/stages.py)."""
    registry: str
    """Where our images are pushed: host[:port]/path."""
    build: bool = False
    """Build and push our images; otherwise they are given by digest in `digests`."""
    digests: dict[str, str] = {}
    """Image reference by digest of each of our services, where the stack does not build."""
    promoted: Promoted | None = None
    images: Images = Images()
    ingress: IngressSettings = IngressSettings()
    storage: Storage = Storage()
    api_server: ApiServer | None = None
    """Needed where the database is a cluster, whose instances ask it who they are."""
    postgres: PostgresSettings = PostgresSettings()
    consul: ConsulSettings = ConsulSettings()
    service: ServiceSettings
    """How every service runs that `services` has nothing about."""
    services: dict[str, ServiceSettings] = {}
    """By name; what is left out is as in `service`."""
    clients: list[ClientSettings] = []
    """Who may have tokens, beside the operator."""
    jwks: JwksSettings | None = None
    """Another issuer of tokens; absent: the gateway alone."""

    def of(self, service: str) -> ServiceSettings:
        """How one of our services runs."""
        return self.services.get(service, self.service)

    def image_references(self) -> list[str]:
        """Every third-party image that the stack uses."""
        unused = set[str]() if self.postgres.kind == "cluster" else {"postgres_cluster"}
        return sorted(self.images.model_dump(exclude=unused).values())

    @property
    def generated_secrets(self) -> list[str]:
        """GENERATED_SECRETS but what somebody else has said."""
        given = {"postgresPassword"} if self.postgres.managed else set[str]()
        return [name for name in GENERATED_SECRETS if name not in given]


@dataclass(frozen=True)
class Cluster:
    """The one Kubernetes that the program may touch, or a folder in its place."""

    kubeconfig: str | None = None
    context: str | None = None
    folder: str | None = None
    """Where manifests are written, and nothing is touched."""


def load_cluster() -> Cluster:
    """The cluster that the environment names.

    Raises:
        SettingsError: it names none; a default would be somebody's wrong cluster.
    """
    if folder := os.environ.get("ESTATE_MANIFESTS"):
        return Cluster(folder=folder)
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
    given = cast("dict[str, Any]", values)
    if given.get("stage") not in STAGES:
        raise SettingsError(f"{source}: stage has to be one of {', '.join(STAGES)} (it is {given.get('stage')!r})")
    try:
        return StackSettings.model_validate(with_defaults(given, given["stage"]))
    except ValidationError as error:
        problems = "; ".join(describe(dict(problem)) for problem in error.errors())
        raise SettingsError(f"{source}: {problems}") from error


def describe(problem: dict[str, Any]) -> str:
    """One problem that pydantic found, for the person who wrote the file."""
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "missing":
        return f"{key} is missing"
    if problem["type"] != "extra_forbidden":
        return f"{key}: {problem['msg'].lower()} (it is {problem['input']!r})"
    *parents, unknown = problem["loc"]
    return f"{key} is not known: {nearest(str(unknown), list(table(parents).model_fields))}"


def nearest(unknown: str, known: Iterable[str]) -> str:
    """What somebody may have meant."""
    names = sorted(known)
    close = difflib.get_close_matches(unknown, names, n=1)
    return f"did you mean {close[0]}?" if close else f"known are {', '.join(names)}"


def table(path: Sequence[str | int]) -> type[Settings]:
    """The model of the table at `path` of the settings."""
    model: type[Settings] = StackSettings
    parts = iter(path)
    for part in parts:
        annotation = model.model_fields[str(part)].annotation
        model = next(c for c in (annotation, *get_args(annotation)) if isinstance(c, type) and issubclass(c, Settings))
        if get_origin(annotation) in (dict, list):
            next(parts, None)  # the key or index of the one
    return model


@dataclass(frozen=True)
class DatabaseSecrets:
    """The passwords of the database's logins."""

    admin: pulumi.Output[str]
    owner: pulumi.Output[str]
    backup: pulumi.Output[str]
    app: dict[str, pulumi.Output[str]]
    """Of the services' two logins, `a` and `b`."""
    active: pulumi.Output[str]
    """The one of them that they use."""


@dataclass(frozen=True)
class Secrets:
    """The passwords and keys of a stack."""

    database: DatabaseSecrets
    redis_password: pulumi.Output[str]
    token_keys: tuple[pulumi.Output[str], ...]
    """The first one signs."""
    operator_secret: pulumi.Output[str]
    authority_seed: pulumi.Output[str]
    consul_seed: pulumi.Output[str]


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
                f"the secret {name} is missing: make secret NAME={name} STACK={pulumi.get_stack()} asks for it"
            )
        found[name] = value
    others = [value for name in OTHER_TOKEN_KEYS if (value := config.get_secret(name)) is not None]
    keys = (found["tokenKey"], *others)
    return Secrets(
        database=DatabaseSecrets(
            admin=found["postgresPassword"],
            owner=found["databaseOwnerPassword"],
            backup=found["databaseBackupPassword"],
            app={"a": found["databasePasswordA"], "b": found["databasePasswordB"]},
            active=config.get_secret(DATABASE_LOGIN) or pulumi.Output.from_input("a"),
        ),
        redis_password=found["redisPassword"],
        token_keys=keys,
        operator_secret=found["operatorSecret"],
        authority_seed=found["authoritySeed"],
        consul_seed=found["consulSeed"],
    )
