"""Everything in which stacks differ, typed: stacks/Pulumi.<stack>.yaml holds it under `estate:settings`."""

import difflib
import ipaddress
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self, cast, get_args, get_origin
from urllib.parse import urlsplit

import pulumi
import yaml
from cryptography import x509
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from infra.addresses import Host, HostAndPort, Url, place
from infra.stages import STAGES, Stage, with_defaults

GENERATED_SECRETS = (
    "postgresPassword",
    "databaseOwnerPassword",
    "databaseBackupPassword",
    "databaseMetricsPassword",
    "databasePasswordA",
    "databasePasswordB",
    "redisPassword",
    "tokenKey",
    "operatorSecret",
    "authoritySeed",
    "consulSeed",
    "grafanaPassword",
)
"""Pulumi config secrets (`estate:<name>`) that every stack needs, and `make up` generates where they are missing.

But what somebody else's database has, and `grafanaPassword` where there is no Grafana.
"""
OTHER_TOKEN_KEYS = ("nextTokenKey", "previousTokenKey")
"""Secrets that are there while keys are rotated: tokens by these are accepted too."""
DATABASE_LOGIN = "databaseLogin"
"""Which of their two logins the services use, `a` or `b`; absent: `a`."""


class SettingsError(Exception):
    """What is wrong with a stack's settings, in which file, and what to do."""


class Settings(BaseModel):
    """Common to every table of settings: no unknown key, no change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @field_validator("*", mode="before")
    @classmethod
    def _numbers_are_no_booleans(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse true and false as 1 and 0."""
        wanted: Any = cls.model_fields[str(info.field_name)].annotation
        if isinstance(value, bool) and wanted in (int, float, int | None):
            raise ValueError("wants a number")
        return value


class Quantities(Settings):
    """Kubernetes quantities of CPU and memory."""

    cpu: str
    memory: str


class RateLimit(Settings):
    """How much one client may ask: whom its token names, or its address where it has none."""

    requests: int = Field(ge=1)
    per_s: int = Field(default=60, ge=1, le=3600)
    """Seconds of the window."""


def network(given: str) -> str:
    """A CIDR.

    Raises:
        ValueError: it is none.
    """
    try:
        ipaddress.ip_network(given)
    except ValueError as error:
        reason = "the network has host bits set" if is_interface(given) else "this is no network"
        raise ValueError(f"{reason}: give a network as CIDR, like 10.0.8.0/24 or 203.0.113.7/32") from error
    return given


def is_interface(given: str) -> bool:
    """Whether a text is an address within a network."""
    try:
        ipaddress.ip_interface(given)
    except ValueError:
        return False
    return True


Network = Annotated[str, AfterValidator(network)]
"""As CIDR."""

Method = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::[1-9]\d{0,4})?")


def origin(value: str) -> str:
    """Return an origin as browsers send it (RFC 6454, section 6.2), or `*`.

    Raises:
        ValueError: it is none.
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
"""The name of a header (RFC 9110, section 5.1)."""


OWN = re.compile(r"/(?:livez|readyz|metrics|openapi\.json|(?:auth|docs|health)(?:/.*)?)")
"""Paths at which the gateway itself answers, which routes would hide."""


def prefix(value: str) -> str:
    """Return a prefix that requests can have and that leaves the gateway its own paths.

    Raises:
        ValueError: it is another one.
    """
    if {".", ".."} & set(value.split("/")):
        raise ValueError("no request matches a prefix with the segment . or .., which the gateway refuses in paths")
    if OWN.fullmatch(value):
        raise ValueError("the gateway itself answers there: choose another prefix")
    return value


Prefix = Annotated[str, Field(pattern=r"^(/[A-Za-z0-9._~-]+)+$"), AfterValidator(prefix)]
"""Of a route's paths."""


class Cors(Settings):
    """Which pages of other origins may use a route, by a browser (https://fetch.spec.whatwg.org/#http-cors-protocol)."""

    allow_origins: tuple[Origin, ...] = Field(min_length=1)
    """Exactly those; `*`: all."""
    methods: list[Method] | None = Field(default=None, min_length=1)
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
    def _credentials_are_for_named_origins(self) -> "Cors":
        """Refuse `*` with credentials, which no browser takes for all: it would lend every page the user's session."""
        if self.credentials and "*" in (*self.allow_origins, *self.headers, *self.expose_headers):
            raise ValueError("with credentials, name each origin and header in place of *")
        return self


class Route(Settings):
    """A path at which the gateway serves a service, and on which terms."""

    prefix: Prefix
    methods: list[Method] | None = Field(default=None, min_length=1)
    """Absent: all of them."""
    auth: Literal["none", "optional", "required"] = "required"
    """Whether a token is needed."""
    timeout_s: float = Field(default=30, gt=0, le=3600)
    attempts: int = Field(default=3, ge=1, le=3)
    """How often an idempotent request is tried at the most."""
    balance: Literal["least_busy", "round_robin", "consistent_hash"] = "least_busy"
    rate_limit: RateLimit | None = None
    """Absent: none."""
    cors: Cors | None = None
    """Absent: pages of other origins may not use it."""

    @model_validator(mode="after")
    def _cors_is_within_the_route(self) -> "Route":
        """Refuse a preflight that allows what the route then refuses."""
        taken = set(self.methods or get_args(Method))
        taken |= {"HEAD"} if "GET" in taken else set()  # as the gateway has it
        if self.cors and not set(self.cors.methods or ()) <= taken:
            raise ValueError("cors.methods holds a method that the route does not take")
        return self


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


BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""Of http_request_duration_seconds' buckets."""


def bound(given: float) -> float:
    """A time that requests are counted by.

    Raises:
        ValueError: it is none.
    """
    if given not in BOUNDS_S:
        raise ValueError(f"requests are counted up to {', '.join(map(str, BOUNDS_S))} s: choose one")
    return given


class Slo(Settings):
    """What is promised of a service, over a month."""

    availability_percent: float = Field(gt=0, lt=100)
    """Of the requests that do not fail."""
    latency_percent: float = Field(gt=0, lt=100)
    """Of the requests that are answered within `latency_s`."""
    latency_s: Annotated[float, AfterValidator(bound)]
    """One of BOUNDS_S."""


class ServiceSettings(Settings):
    """How one of our services runs; defaults are in infra/stages.py."""

    replicas: int = Field(ge=1)
    scaling: Scaling | None = None
    """Absent: `replicas` is what runs."""
    requests: Quantities
    limits: Quantities
    slo: Slo
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

    url: Url
    """Of its JWK Set."""
    issuer: str = Field(min_length=1)
    """What its tokens have as `iss`."""
    networks: list[Network] = Field(default=["0.0.0.0/0"], min_length=1)
    """Where its host is, as CIDRs: who verifies tokens may connect there, on the URL's port."""

    @property
    def port(self) -> int:
        """Of the URL."""
        return port_of(self.url)


class IngressMetrics(Settings):
    """Where the Ingress controller answers with its metrics."""

    target: HostAndPort
    """host:port"""
    networks: list[Network] = Field(min_length=1)
    """Where that is, as CIDRs."""

    @property
    def port(self) -> int:
        """Of the target."""
        return int(self.target.rpartition(":")[2])


class IngressSettings(Settings):
    """How the world reaches the estate."""

    host: Host = "api.myapp.com"
    port: int = Field(default=443, ge=1, le=65535)
    """Port of the public URLs."""
    class_name: str | None = None
    """Ingress class; absent: the cluster's default."""
    tls_secret: str | None = None
    """Secret with the certificate; absent: the controller's own, or the issuer's."""
    issuer: str | None = None
    """ClusterIssuer of cert-manager, which then makes a certificate for each host and renews it."""
    trusted: list[Network] = []
    """Networks of the controller's pods, which may connect and whose X-Forwarded-For the gateway believes."""
    namespace: str | None = None
    """Namespace of the controller's pods, which may connect: for clusters whose network policies do not know pods by their networks."""
    wait: bool = True
    """Wait until the controller has published a status; some never do."""
    metrics: IngressMetrics | None = None
    """Absent: they are not scraped."""
    consoles: bool = False
    """Publish Consul, Prometheus and Alertmanager beside the API, without authentication: for a machine of one's own only."""

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
    prometheus: str = "docker.io/prom/prometheus:v3.16.0"
    kube_state_metrics: str = "registry.k8s.io/kube-state-metrics/kube-state-metrics:v2.18.0"
    postgres_exporter: str = "docker.io/prometheuscommunity/postgres-exporter:v0.11.1"
    redis_exporter: str = "docker.io/oliver006/redis_exporter:v1.45.0"
    alertmanager: str = "docker.io/prom/alertmanager:v0.28.1"
    log_agent: str = "docker.io/otel/opentelemetry-collector-contrib:0.165.0"
    grafana: str | None = None
    """Such as docker.io/grafana/grafana:12.2.1; absent: there is none, and `make dashboard` shows the same."""


class Storage(Settings):
    """Sizes of the volumes, as Kubernetes quantities."""

    postgres: str = "2Gi"
    backups: str = "2Gi"
    consul: str = "256Mi"
    prometheus: str = "2Gi"
    alertmanager: str = "64Mi"


class ApiServer(Settings):
    """The Kubernetes API as network policies see it: past its Service. `kubectl get endpointslices kubernetes` shows it."""

    networks: list[Network] = Field(min_length=1)
    """Where it is, as CIDRs."""
    port: int = Field(default=6443, ge=1, le=65535)


class Kubelets(Settings):
    """The kubelets of the nodes, who know what containers take."""

    networks: list[Network] = Field(min_length=1)
    """Where the nodes are, as CIDRs."""
    port: int = Field(default=10250, ge=1, le=65535)
    verify: bool = True
    """Whether their certificates are by the cluster's own authority; some clusters' are by none."""


class BackupSettings(Settings):
    """Dumps of the database."""

    schedule: str = "17 2 * * *"
    """When one is made, as cron has it, in UTC."""
    keep: int = Field(default=7, ge=1)
    """How many there are at the most."""
    too_old_h: int = Field(default=26, ge=1)
    """Age of the newest past which an alert rings."""


def port_of(url: str) -> int:
    """The port of a URL."""
    parts = urlsplit(url)
    return parts.port or {"http": 80, "https": 443}[parts.scheme]


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


class OtlpSettings(Settings):
    """What takes OTLP over HTTP (https://opentelemetry.io/docs/specs/otlp/), and where it is."""

    endpoint: Url
    """Its URL, without /v1/traces and the like."""
    networks: list[Network] = []
    """Where it is outside the cluster, as CIDRs: who sends may connect there, on the URL's port."""
    namespace: str | None = None
    """Its namespace, where it is in the cluster; its pods listen on the URL's port, too."""

    @model_validator(mode="after")
    def _somewhere(self) -> Self:
        if bool(self.networks) == bool(self.namespace):
            raise ValueError("set either namespace, where it is in the cluster, or networks, where it is not")
        return self

    @property
    def port(self) -> int:
        """Of the URL."""
        return port_of(self.endpoint)


class TracingSettings(OtlpSettings):
    """Where the spans of requests go: a collector, or a store of traces."""

    ratio: float = Field(default=0.1, ge=0, le=1)
    """Of the traces that begin here, how many are recorded; of one that a caller began, it says so itself."""


class LogSettings(OtlpSettings):
    """Where the logs of the stack's pods go: a collector, or a store of logs such as Loki."""

    folder: str = Field(default="/var/log/pods", pattern=r"^/.")
    """Where the kubelets keep them on the nodes."""


class ManagedPostgresSettings(Settings):
    """A Postgres that somebody else runs; its admin's password is the secret `postgresPassword`."""

    host: Host
    """Its name, which its certificate bears."""
    port: int = Field(default=5432, ge=1, le=65535)
    networks: list[Network] = Field(min_length=1)
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


class Email(Settings):
    """Where mail goes."""

    host: Host
    """Of the SMTP server, which has to speak TLS."""
    sender: str
    to: str
    username: str | None = None
    """Absent: the server wants no password."""


class Receiver(Settings):
    """Who is told of alerts. Its address, key or password is a secret: `make secret NAME=receiver-<name>`."""

    name: str = Field(pattern=r"^[a-z][a-z0-9-]*$")
    kind: Literal["webhook", "email", "slack", "pagerduty"]
    severities: list[Literal["critical", "warning"]] = ["critical", "warning"]
    """Of the alerts that it is told of."""
    watchdog: bool = False
    """It is told of the dead man's switch instead, every five minutes: what rings when it hears nothing."""
    networks: list[Network] = ["0.0.0.0/0"]
    """Where it is, as CIDRs: Alertmanager may connect there."""
    port: int | None = Field(default=None, ge=1, le=65535)
    """Absent: 443, or 587 for mail."""
    channel: str | None = None
    """Of Slack."""
    email: Email | None = None

    @property
    def to_port(self) -> int:
        """Where Alertmanager connects to."""
        return self.port or (587 if self.kind == "email" else 443)

    @property
    def secret(self) -> str | None:
        """Name of the secret that it needs: a URL, a routing key or a password."""
        return None if self.email and not self.email.username else f"receiver-{self.name}"

    @model_validator(mode="after")
    def _whole(self) -> "Receiver":
        if (self.kind == "email") != bool(self.email):
            raise ValueError("email: {host, sender, to} goes with kind: email, and with no other")
        if (self.kind == "slack") != bool(self.channel):
            raise ValueError("channel goes with kind: slack, and with no other")
        return self


class AlertSettings(Settings):
    """What alerts say."""

    runbooks: Annotated[Url, Field(pattern=r"^[^?]*[^?/]$")] | None = None
    """URL of the folder docs/runbooks where the repository is, such as https://github.com/acme/estate/blob/main/docs/runbooks.

    Absent: Prometheus shows the pages where the stack publishes its consoles, and alerts name the files where it does not.
    """


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
    protected: bool = False
    """Whether Pulumi refuses to delete what holds data, and `make down` the stack."""
    api_server: ApiServer
    """Asked by Prometheus what there is to scrape, and by the instances of a database that is a cluster who they are."""
    kubelets: Kubelets | None = None
    """Absent: nobody measures what containers take."""
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
    tracing: TracingSettings | None = None
    """Where the spans of requests go; absent: none are recorded."""
    logs: LogSettings | None = None
    """Where the logs go; absent: they stay on the nodes."""
    alerts: AlertSettings = AlertSettings()
    receivers: list[Receiver] = []
    """Who is told of alerts; nobody: Alertmanager shows them."""

    @model_validator(mode="after")
    def _names_are_unique(self) -> "StackSettings":
        """Refuse one name for two, of which one would be passed over."""
        for key, names in (("clients", [c.id for c in self.clients]), ("receivers", [r.name for r in self.receivers])):
            if len(set(names)) < len(names):
                raise ValueError(f"two {key} have one name")
        return self

    def of(self, service: str) -> ServiceSettings:
        """How one of our services runs."""
        return self.services.get(service, self.service)

    def image_references(self) -> list[str]:
        """Every third-party image that the stack uses."""
        used = {"postgres_cluster": self.postgres.kind == "cluster", "log_agent": self.logs is not None}
        unused = {name for name, is_used in used.items() if not is_used}
        return sorted(self.images.model_dump(exclude=unused, exclude_none=True).values())

    @property
    def secrets(self) -> list[str]:
        """GENERATED_SECRETS but what is of no use here."""
        return [name for name in GENERATED_SECRETS if name != "grafanaPassword" or self.images.grafana]

    @property
    def receiver_secrets(self) -> list[str]:
        """Names of the secrets of who is told of alerts, which somebody has to give."""
        return [receiver.secret for receiver in self.receivers if receiver.secret]

    @property
    def generated_secrets(self) -> list[str]:
        """Secrets but what somebody else has said."""
        given = {"postgresPassword"} if self.postgres.managed else set[str]()
        return [name for name in self.secrets if name not in given]


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
        content: Any = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{file} cannot be read: {error.strerror}") from error
    except yaml.MarkedYAMLError as error:
        where = error.problem_mark
        line = f" line {where.line + 1}" if where else ""
        # An alias, a tag: a name of the file's own, such as a secret in the wrong place.
        problem = re.sub(r"'[^']{2,}'", "this", (error.problem or "").partition("\n")[0])
        raise SettingsError(f"{file}{line} is not YAML: {problem}") from error
    except Exception as error:  # by a tag or a number that is none, PyYAML raises whatever that leads to
        raise SettingsError(f"{file} is not YAML in UTF-8 ({type(error).__name__})") from error
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
        stage = given.get("stage")
        shown = f" (it is {stage!r})" if re.fullmatch(r"[a-z-]{1,10}", str(stage)) else ""
        raise SettingsError(f"{source}: stage has to be one of {', '.join(STAGES)}{shown}")
    try:
        return StackSettings.model_validate(with_defaults(given, given["stage"]))
    except ValidationError as error:
        problems = "; ".join(describe(dict(problem)) for problem in error.errors())
        raise SettingsError(f"{source}: {problems}") from error


KEY = re.compile(r"[\w.-]{1,80}", re.ASCII)
MISSING = {"api_server": ": set api_server: {networks: […]}; kubectl get endpointslices kubernetes shows the addresses"}
"""What to do about settings that have no default."""


def describe(problem: dict[str, Any]) -> str:
    """One problem that pydantic found, for the person who wrote the file."""
    # A key that is none may be a value in the wrong place.
    key = ".".join(str(part) if KEY.fullmatch(str(part)) else "a key" for part in problem["loc"])
    if problem["type"] == "missing":
        return f"{key} is missing{MISSING.get(key, '')}"
    if problem["type"] != "extra_forbidden":
        given = problem["input"]
        # Of whatever else is wrong nothing is shown, since it may be a secret in the wrong place.
        harmless = isinstance(given, bool | int | float) and abs(given) < 1e9
        return f"{key}: {problem['msg'].lower()}{f' (it is {given!r})' if harmless else ''}"
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
    metrics: pulumi.Output[str]
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
    grafana_password: pulumi.Output[str] | None
    """Where there is a Grafana."""
    receivers: dict[str, pulumi.Output[str]]
    """By the names that the receivers have for them."""


def load_settings() -> StackSettings:
    """The settings of the stack that Pulumi runs.

    Raises:
        SettingsError: it has none, or a key or value is wrong.
    """
    values: Any = pulumi.Config("estate").get_object("settings")
    return parse(values, f"stacks/Pulumi.{pulumi.get_stack()}.yaml")


def load_secrets(settings: StackSettings) -> Secrets:
    """The passwords and keys of the stack that Pulumi runs, as Pulumi secrets.

    Args:
        settings: of the stack, which say what it needs.

    Raises:
        SettingsError: one is missing.
    """
    config = pulumi.Config("estate")
    found: dict[str, pulumi.Output[str]] = {}
    for name in (*settings.secrets, *settings.receiver_secrets):
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
            metrics=found["databaseMetricsPassword"],
            app={"a": found["databasePasswordA"], "b": found["databasePasswordB"]},
            active=config.get_secret(DATABASE_LOGIN) or pulumi.Output.from_input("a"),
        ),
        redis_password=found["redisPassword"],
        token_keys=keys,
        operator_secret=found["operatorSecret"],
        authority_seed=found["authoritySeed"],
        consul_seed=found["consulSeed"],
        grafana_password=found.get("grafanaPassword"),
        receivers={name: found[name] for name in settings.receiver_secrets},
    )
