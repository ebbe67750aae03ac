"""Everything in which stacks differ, typed: stacks/Pulumi.<stack>.yaml holds it under `estate:settings`."""

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self, cast, get_args
from urllib.parse import urlsplit

import pulumi
from cryptography import x509
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from infra.addresses import Host, HostAndPort, Network, Url, place
from infra.mistakes import ContradictionError, mistakes_of
from infra.services import GATEWAY, NAMES, PLACE, SERVICES, VARIABLE, Service
from infra.stack_file import (
    EXAMPLE,
    NO_LINES,
    SETTINGS,
    Lines,
    Mistake,
    SettingsError,
    nearest,
    read,
    refusal,
    source_of,
)
from infra.stages import STAGES, Stage, with_defaults
from infra.values import (
    ZEROS,
    Cpu,
    Folder,
    Image,
    ImageByDigest,
    Instant,
    Label,
    MailAddress,
    MailAddresses,
    PublicHost,
    Registry,
    Role,
    Schedule,
    Size,
    StackName,
    Subdomain,
    Text,
    amount,
    matching,
    stack_name,
)

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
"""Secrets that every stack needs, and the program generates (infra/stack_secrets.py).

Except the password of a managed database's admin, which is given, and `grafanaPassword` where there is no Grafana.
"""


STAND_INS = "ESTATE_STAND_INS"
"""Environment variable with the name of a JSON file: the image that this machine has for each reference of a third-party one."""


INT32 = 2**31 - 1
"""The largest of most of Kubernetes' numbers."""


class Settings(BaseModel):
    """Base of every table of settings: no unknown key, no value of another type, no change after loading."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class Quantities(Settings):
    """Kubernetes quantities of CPU and memory."""

    cpu: Cpu
    """CPUs, such as 250m or 0.25, a quarter of one."""
    memory: Size
    """Bytes, such as 128Mi."""


class RateLimit(Settings):
    """How much one client may ask: whom its token names, or its address where it has none."""

    requests: int = Field(ge=1, examples=[600])
    """Requests of one client in a window."""
    per_s: int = Field(default=60, ge=1, le=3600)
    """Seconds of the window."""


Method = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::[1-9]\d{0,4})?")


def origin(value: str) -> str:
    """Return an origin as browsers send it (RFC 6454, section 6.2), or `*`.

    Raises:
        ValueError: it is none.
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
        ValueError: it is none.
    """
    return matching(HEADER_NAME, value, "wants the name of a header")


Token = Annotated[
    str, AfterValidator(token), Field(examples=["content-type"], json_schema_extra={"pattern": f"^{HEADER_NAME}$"})
]


OWN = re.compile(r"/(?:livez|readyz|metrics|openapi\.json|(?:auth|docs|health)(?:/.*)?)")
"""Paths at which the gateway itself answers, which routes would hide."""


def prefix(value: str) -> str:
    """Return a prefix that requests can have and that leaves the gateway its own paths.

    Raises:
        ValueError: it is another one.
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
"""Of a route's paths."""


class Cors(Settings):
    """Which pages of other origins may use a route, by a browser (https://fetch.spec.whatwg.org/#http-cors-protocol)."""

    allow_origins: list[Origin] = Field(min_length=1)
    """Exactly those; `*`: all."""
    methods: list[Method] | None = Field(default=None, min_length=1)
    """That a preflight allows; absent: those of the route."""
    headers: list[Token] = ["authorization", "content-type", "idempotency-key", "if-match", "if-none-match"]
    """That a page may send."""
    expose_headers: list[Token] = [
        "etag",
        "link",
        "location",
        "ratelimit",
        "ratelimit-policy",
        "retry-after",
        "x-request-id",
    ]
    """That a page may read."""
    credentials: bool = False
    """Whether the browser may add cookies and the like; tokens in Authorization do not need it."""
    max_age_s: int = Field(default=600, ge=0, le=86400)
    """For which a browser remembers the answer to a preflight."""

    @model_validator(mode="after")
    def _credentials_are_for_named_origins(self) -> "Cors":
        """Refuse `*` with credentials, which no browser takes for all: it would lend every page the user's session."""
        lists = {"allow_origins": self.allow_origins, "headers": self.headers, "expose_headers": self.expose_headers}
        if found := [key for key, names in lists.items() if self.credentials and "*" in names]:
            raise ContradictionError(
                *(((key,), "wants each by its name in place of * where credentials is true", None) for key in found)
            )
        return self


class Route(Settings):
    """A path at which the gateway serves a service, and on which terms."""

    prefix: Prefix
    """Prefix of the paths: this one and all below it; the longest that fits wins."""
    methods: list[Method] | None = Field(default=None, min_length=1)
    """Absent: all of them."""
    auth: Literal["none", "optional", "required"] = "required"
    """Whether a token is needed."""
    timeout_s: float = Field(default=30, gt=0, le=3600)
    """Seconds until the head of the answer, and between two pieces of its body."""
    attempts: int = Field(default=3, ge=1, le=3)
    """How often an idempotent request is tried at the most."""
    balance: Literal["least_busy", "round_robin", "consistent_hash"] = "least_busy"
    """Choice of an instance: of two the less busy, each in turn, or by the address of the client."""
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
            right = f"methods: [{', '.join(sorted(taken))}]"
            raise ContradictionError((("cors", "methods"), "holds a method that the route does not take", right))
        return self


class Scaling(Settings):
    """How many replicas a HorizontalPodAutoscaler keeps."""

    least: int = Field(ge=1, le=INT32, examples=[3])
    """Replicas that there always are."""
    most: int = Field(ge=1, le=INT32, examples=[10])
    """Replicas that there are at the most."""
    cpu_percent: int = Field(default=70, ge=1, le=100)
    """Of the CPU request; above it there are more replicas, below it fewer."""

    @model_validator(mode="after")
    def _ordered(self) -> "Scaling":
        if self.least > self.most:
            why = f"is {self.least}, more than most, which is {self.most}"
            raise ContradictionError((("least",), why, f"least: {self.most}"))
        return self


BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""Of http_request_duration_seconds' buckets."""


def bound(given: float) -> float:
    """Return one of BOUNDS_S.

    Raises:
        ValueError: it is none.
    """
    if given not in BOUNDS_S:
        raise ValueError(f"wants one of {', '.join(map(str, BOUNDS_S))}, by which requests are counted")
    return given


class Slo(Settings):
    """What is promised of a service, over a month."""

    availability_percent: float = Field(gt=0, lt=100, examples=[99.9])
    """Of the requests that do not fail."""
    latency_percent: float = Field(gt=0, lt=100, examples=[99])
    """Of the requests that are answered within `latency_s`."""
    latency_s: Annotated[float, AfterValidator(bound), Field(examples=[0.5], json_schema_extra={"enum": [*BOUNDS_S]})]
    """Seconds: a bound of the histogram of requests."""


def variable(value: str) -> str:
    """Return the name of a variable of a service.

    Raises:
        ValueError: it is none.
    """
    return matching(VARIABLE, value, "wants APP_ and capital letters, digits and _")


Variable = Annotated[
    str,
    AfterValidator(variable),
    Field(examples=["APP_MAIL_SENDER"], json_schema_extra={"pattern": f"^{VARIABLE}$"}),
]


class ServiceSettings(Settings):
    """How one of our services runs; defaults are in infra/stages.py."""

    replicas: int = Field(ge=1, le=INT32, examples=[3])
    """Pods of it, where `scaling` is absent."""
    scaling: Scaling | None = None
    """Absent: `replicas` is what runs."""
    requests: Quantities
    """CPU and memory that a pod is sure to have."""
    limits: Quantities
    """CPU and memory that a pod may take at the most."""
    slo: Slo
    """Objectives, from which alerts are made."""
    routes: list[Route] | None = None
    """Where the gateway serves it; absent: as the service declares."""
    variables: dict[Variable, str] = Field(default={}, examples=[{}])
    """Other values for variables that the service declares (infra/services.py)."""

    @model_validator(mode="after")
    def _requests_are_within_limits(self) -> Self:
        """Refuse what the cluster would: a pod that asks for more than it may have."""
        asked, most = self.requests, self.limits
        above = [
            (key, getattr(most, key))
            for key in ("cpu", "memory")
            if amount(getattr(asked, key)) > amount(getattr(most, key))
        ]
        if above:
            raise ContradictionError(
                *(
                    (("requests", key), f"is more than limits.{key}, which is {limit}", f"{key}: {limit}")
                    for key, limit in above
                )
            )
        return self

    @model_validator(mode="after")
    def _prefixes_are_unique(self) -> Self:
        """Refuse one prefix for two routes, of which the gateway would refuse all."""
        prefixes = [route.prefix for route in self.routes or ()]
        if found := [
            (("routes", index, "prefix"), "is that of another route already", "prefix: /api/v1/users-2")
            for index, prefix in enumerate(prefixes)
            if prefix in prefixes[:index]
        ]:
            raise ContradictionError(*found)
        return self

    @property
    def least(self) -> int:
        """How many replicas there are at the least."""
        return self.scaling.least if self.scaling else self.replicas


ARGON2ID = r"\$argon2id\$v=\d+\$m=\d+,t=\d+,p=\d+\$[A-Za-z0-9+/]+\$[A-Za-z0-9+/]+"
"""https://github.com/P-H-C/phc-string-format"""


def argon2id(value: str) -> str:
    """Return a hash of a secret.

    Raises:
        ValueError: it is none.
    """
    return matching(ARGON2ID, value, "wants the whole hash that make client prints")


HASH = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0$aGFzaGhhc2hoYXNoaGFzaA"
MOST_PRECISE = 10**15 - 1
"""The largest number with which Pulumi is exact."""


class ClientSettings(Settings):
    """A program that may have tokens by POST /auth/token; `make client` makes one."""

    id: Text
    """Name that it gives as client_id."""
    secret_hash: Annotated[str, AfterValidator(argon2id)] = Field(
        examples=[HASH], json_schema_extra={"pattern": f"^{ARGON2ID}$"}
    )
    """Hash of its secret, made with Argon2id."""
    user_id: int = Field(ge=0, le=MOST_PRECISE, examples=[7])
    """Id of the user that its tokens are for."""
    username: Text
    """Name of the same user."""


class JwksSettings(Settings):
    """Another issuer, whose tokens are accepted beside our own."""

    url: Url
    """Of its JWK Set."""
    issuer: Text = Field(examples=["https://login.example.com/"])
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

    host: PublicHost = "api.myapp.com"
    """Host of the API; those of the consoles are named after it."""
    port: int = Field(default=443, ge=1, le=65535)
    """Port of the public URLs."""
    class_name: Subdomain | None = Field(default=None, examples=["nginx"])
    """Ingress class; absent: the cluster's default."""
    tls_secret: Subdomain | None = None
    """Secret with the certificate; absent: the controller's own, or the issuer's."""
    issuer: Subdomain | None = Field(default=None, examples=["letsencrypt"])
    """ClusterIssuer of cert-manager, which then makes a certificate for each host and renews it."""
    trusted: list[Network] = []
    """Networks of the controller's pods, which may connect and whose X-Forwarded-For the gateway believes."""
    namespace: Label | None = Field(default=None, examples=["ingress-nginx"])
    """Namespace of the controller's pods, which may connect: for clusters whose network policies do not know pods by their networks."""
    wait: bool = True
    """Wait until the controller has published a status; some never do."""
    metrics: IngressMetrics | None = None
    """Absent: they are not scraped."""
    consoles: bool = False
    """Publish Consul, Prometheus and Alertmanager beside the API, without authentication: for a machine of one's own only."""

    @model_validator(mode="after")
    def _controller_is_known(self) -> "IngressSettings":
        """Refuse an Ingress that no controller may reach, for the network policies let in who is named alone."""
        if not self.trusted and not self.namespace:
            why = "is missing, and trusted too: who may connect from outside is the Ingress controller, by its namespace or networks"
            raise ContradictionError((("namespace",), why, None))
        return self

    @model_validator(mode="after")
    def _one_certificate(self) -> "IngressSettings":
        if self.issuer and self.tls_secret:
            why = "is one certificate, where issuer makes others: wants one of the two taken out"
            raise ContradictionError((("tls_secret",), why, "issuer alone"))
        return self

    def url(self, host: str) -> str:
        """The public URL of a host."""
        return f"https://{host}" + ("" if self.port == 443 else f":{self.port}")


class Images(Settings):
    """Third-party images, and the base of our own."""

    python: Image = "docker.io/library/python:3.11-slim-bookworm"
    """Base of our own images, with what `make` builds."""
    postgres: Image = "docker.io/library/postgres:15"
    """Image of the instance, and of the Jobs that dump and restore."""
    postgres_cluster: Image = "ghcr.io/cloudnative-pg/postgresql:15"
    """Image of the cluster that CloudNativePG runs."""
    redis: Image = "docker.io/library/redis:7.0"
    """Image of the cache."""
    consul: Image = "docker.io/hashicorp/consul:1.22.0"
    """Image of the registry, its servers and agents."""
    prometheus: Image = "docker.io/prom/prometheus:v3.16.0"
    """Image of the server that measures."""
    kube_state_metrics: Image = "registry.k8s.io/kube-state-metrics/kube-state-metrics:v2.18.0"
    """Image of the exporter for the state of workloads."""
    postgres_exporter: Image = "docker.io/prometheuscommunity/postgres-exporter:v0.11.1"
    """Image of the exporter for the state of Postgres."""
    redis_exporter: Image = "docker.io/oliver006/redis_exporter:v1.45.0"
    """Image of the exporter for the state of Redis."""
    alertmanager: Image = "docker.io/prom/alertmanager:v0.28.1"
    """Image of the sender of alerts."""
    log_agent: Image = "docker.io/otel/opentelemetry-collector-contrib:0.165.0"
    """Image of the agent that sends logs to the store in `logs`."""
    grafana: Image | None = None
    """Such as docker.io/grafana/grafana:12.2.1; absent: there is none, and `make dashboard` shows the same."""


class Storage(Settings):
    """Sizes of the volumes, as Kubernetes quantities."""

    postgres: Size = "2Gi"
    """Size for each instance of the database."""
    backups: Size = "2Gi"
    """Size for the dumps."""
    consul: Size = "256Mi"
    """Size for each server of the registry."""
    prometheus: Size = "2Gi"
    """Size for its measurements."""
    alertmanager: Size = "64Mi"
    """Size for its record of sent alerts, and for silences."""


class ApiServer(Settings):
    """The Kubernetes API as network policies see it: past its Service. `kubectl get endpointslices kubernetes` shows it."""

    networks: list[Network] = Field(min_length=1)
    """Where it is, as CIDRs."""
    port: int = Field(default=6443, ge=1, le=65535)
    """Port on which it listens."""


class Kubelets(Settings):
    """The kubelets of the nodes, who know what containers take."""

    networks: list[Network] = Field(min_length=1)
    """Where the nodes are, as CIDRs."""
    port: int = Field(default=10250, ge=1, le=65535)
    """Port on which they listen."""
    verify: bool = True
    """Whether their certificates are by the cluster's own authority; some clusters' are by none."""


def place_name(value: str) -> str:
    """Return the name of a place that services connect to.

    Raises:
        ValueError: it is none.
    """
    return matching(PLACE, value, "wants up to 32 lower-case letters, digits and -, a letter first")


PlaceName = Annotated[
    str,
    AfterValidator(place_name),
    Field(examples=["mail"], json_schema_extra={"pattern": f"^{PLACE}$"}),
]


class Outside(Settings):
    """A place outside the estate, to which services connect."""

    networks: list[Network] = Field(min_length=1)
    """Where it is, as CIDRs."""
    port: int = Field(ge=1, le=65535, examples=[443])
    """At which it listens."""


class BackupSettings(Settings):
    """Dumps of the database."""

    schedule: Schedule = "17 2 * * *"
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
    """Return certificates as PEM.

    Raises:
        ValueError: they are none.
    """
    try:
        x509.load_pem_x509_certificates(given.encode())
    except ValueError as error:
        raise ValueError("wants certificates: the text of the provider's PEM file") from error
    return given


class OtlpSettings(Settings):
    """What takes OTLP over HTTP (https://opentelemetry.io/docs/specs/otlp/), and where it is."""

    endpoint: Url
    """Its URL, without /v1/traces and the like."""
    networks: list[Network] = []
    """Where it is outside the cluster, as CIDRs: who sends may connect there, on the URL's port."""
    namespace: Label | None = Field(default=None, examples=["observability"])
    """Its namespace, where it is in the cluster; its pods listen on the URL's port, too."""

    @model_validator(mode="after")
    def _somewhere(self) -> Self:
        if bool(self.networks) == bool(self.namespace):
            why = "wants either namespace, where it is in the cluster, or networks, where it is not"
            key, right = ("networks", "namespace alone") if self.networks else ("namespace", None)
            raise ContradictionError(((key,), why, right))
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

    folder: Folder = "/var/log/pods"
    """Where the kubelets keep them on the nodes."""


class ManagedPostgresSettings(Settings):
    """A Postgres that somebody else runs; its admin's password is the secret `postgresPassword`."""

    host: Host
    """Its name, which its certificate bears."""
    port: int = Field(default=5432, ge=1, le=65535)
    """Port on which it listens."""
    networks: list[Network] = Field(min_length=1)
    """Where it is, as CIDRs: who needs the database may connect there."""
    ca: Annotated[str, AfterValidator(certificates)] = Field(examples=["-----BEGIN CERTIFICATE-----"])
    """Whom to trust for its certificate, as PEM."""
    admin: Role = "postgres"
    """Who makes the roles; may create roles and databases, and owns the database or its owner's role."""


class PostgresSettings(Settings):
    """Where the database is."""

    kind: Literal["instance", "cluster", "managed"] = "instance"
    """One instance; three by the operator CloudNativePG, of which one may be lost; or one that somebody else runs."""
    managed: ManagedPostgresSettings | None = None
    """Where that is."""
    backup: BackupSettings = BackupSettings()
    """Schedule of its dumps, and how many are kept."""

    @model_validator(mode="after")
    def _whole(self) -> "PostgresSettings":
        if self.kind == "managed" and self.managed is None:
            why = "is missing, for kind: managed needs to know where: {host, networks, ca}"
            raise ContradictionError((("managed",), why, None))
        if self.kind != "managed" and self.managed:
            why = f"is {self.kind}, and managed is given: set kind: managed, or take managed out"
            raise ContradictionError((("kind",), why, "kind: managed"))
        return self


class Promoted(Settings):
    """Where the images of a stack come from; `make promote` writes it."""

    stack: StackName
    """Stack that ran them before."""
    commit: Text = Field(examples=["4f1d7c2"])
    """What they were built from."""
    at: Instant
    """Time of the promotion."""
    by: Text = Field(examples=["ada@example.com"])
    """Person who promoted them."""


def no_boolean(value: Any) -> Any:
    """Return anything but true and false, which are 1 and 0 in Python.

    Raises:
        ValueError: it is one of them.
    """
    if isinstance(value, bool):
        raise ValueError("wants a number")  # noqa: TRY004 - which pydantic takes for a mistake of the file's
    return value


class ConsulSettings(Settings):
    """The service registry."""

    servers: Annotated[Literal[1, 3], BeforeValidator(no_boolean)] = 1
    """Three: with an agent on each node, gossip encryption, ACLs and TLS."""


class Email(Settings):
    """Where mail goes."""

    host: Host
    """Of the SMTP server, which has to speak TLS."""
    sender: MailAddress
    """Address that mail is from."""
    to: MailAddresses
    """Addresses that mail goes to."""
    username: Text | None = Field(default=None, examples=["us"])
    """Absent: the server wants no password."""


class Receiver(Settings):
    """Who is told of alerts. Its address, key or password is a secret: `make secret NAME=receiver-<name>`."""

    name: Label = Field(examples=["pager"])
    """Name of the receiver, and of its secret, receiver-<name>."""
    kind: Literal["webhook", "email", "slack", "pagerduty"]
    """Kind of service that takes the alerts."""
    severities: list[Literal["critical", "warning"]] = Field(default=["critical", "warning"], min_length=1)
    """Of the alerts that it is told of."""
    watchdog: bool = False
    """It is told of the dead man's switch instead, every five minutes: what rings when it hears nothing."""
    networks: list[Network] = Field(default=["0.0.0.0/0"], min_length=1)
    """Where it is, as CIDRs: Alertmanager may connect there."""
    port: int | None = Field(default=None, ge=1, le=65535)
    """Absent: 443, or 587 for mail."""
    channel: Text | None = Field(default=None, examples=["#estate"])
    """Of Slack."""
    email: Email | None = None
    """Server and addresses, with kind email alone."""

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
            why = "goes with kind: email, as {host, sender, to}, and with no other"
            raise ContradictionError((("email",), why, "kind: email" if self.email else None))
        if (self.kind == "slack") != bool(self.channel):
            why = "goes with kind: slack, and with no other"
            raise ContradictionError((("channel",), why, "kind: slack" if self.channel else None))
        return self


def without_end(value: str) -> str:
    """Return a URL to which /page.md can be added.

    Raises:
        ValueError: it ends in a slash, or has a query.
    """
    if value.endswith("/") or "?" in value:
        raise ValueError("wants no / at the end and no ?, since /<page>.md is put behind it")
    return value


class AlertSettings(Settings):
    """What alerts say."""

    runbooks: Annotated[Url, AfterValidator(without_end)] | None = Field(
        default=None, examples=["https://github.com/acme/estate/blob/main/docs/runbooks"]
    )
    """URL of the folder docs/runbooks where the repository is.

    Absent: Prometheus shows the pages where the stack publishes its consoles, and alerts name the files where it does not.
    """


def service_name(value: str) -> str:
    """Return the name of one of our services.

    Raises:
        ValueError: there is no such service.
    """
    if value not in NAMES:
        raise ValueError(f"there is no such service ({nearest(value, NAMES)})")
    return value


ServiceName = Annotated[str, AfterValidator(service_name), Field(examples=[GATEWAY])]
"""Name of a service in infra/services.py."""


class StackSettings(Settings):
    """The settings of one stack."""

    stage: Stage
    """Whose defaults it has (infra/stages.py)."""
    registry: Registry
    """Where our images are pushed: host[:port]/path."""
    build: bool = False
    """Build and push our images; otherwise they are given by digest in `digests`."""
    digests: dict[ServiceName, ImageByDigest] = {}
    """Image reference by digest of each of our services, where the stack does not build."""
    promoted: Promoted | None = None
    """Origin of the images, if they are from another stack."""
    images: Images = Images()
    ingress: IngressSettings = Field(examples=[{"namespace": "ingress-nginx"}])
    storage: Storage = Storage()
    protected: bool = False
    """Whether Pulumi refuses to delete what holds data, and `make down` the stack."""
    api_server: ApiServer
    """Asked by Prometheus what there is to scrape, and by the instances of a database that is a cluster who they are."""
    kubelets: Kubelets | None = None
    """Absent: nobody measures what containers take."""
    postgres: PostgresSettings = PostgresSettings()
    consul: ConsulSettings = ConsulSettings()
    service: ServiceSettings = Field(examples=[{"replicas": 3}])
    """How every service runs that `services` has nothing about."""
    services: dict[ServiceName, ServiceSettings] = Field(default={}, examples=[{GATEWAY: {"replicas": 3}}])
    """By name; what is left out is as in `service`."""
    outside: dict[PlaceName, Outside] = Field(
        default={}, examples=[{"mail": {"networks": ["192.0.2.0/24"], "port": 587}}]
    )
    """Where the places are that services connect to (`egress` in infra/services.py)."""
    clients: list[ClientSettings] = []
    """Who may have tokens, beside the operator."""
    jwks: JwksSettings | None = None
    """Another issuer of tokens; absent: the gateway alone."""
    tracing: TracingSettings | None = Field(
        default=None, examples=[{"endpoint": "http://collector.observability:4318", "namespace": "observability"}]
    )
    """Where the spans of requests go; absent: none are recorded."""
    logs: LogSettings | None = Field(
        default=None, examples=[{"endpoint": "http://loki.observability:3100/otlp", "namespace": "observability"}]
    )
    """Where the logs go; absent: they stay on the nodes."""
    alerts: AlertSettings = AlertSettings()
    receivers: list[Receiver] = []
    """Who is told of alerts; nobody: Alertmanager shows them."""

    @model_validator(mode="after")
    def _names_are_unique(self) -> "StackSettings":
        """Refuse one name for two, of which one would be passed over."""
        named = {
            "clients": ("id", [c.id for c in self.clients]),
            "receivers": ("name", [r.name for r in self.receivers]),
        }
        if found := [
            ((key, index, part), "is the name of another one already", f"{part}: billing-2")
            for key, (part, names) in named.items()
            for index, name in enumerate(names)
            if name in names[:index]
        ]:
            raise ContradictionError(*found)
        return self

    @model_validator(mode="after")
    def _variables_are_declared(self) -> "StackSettings":
        """Refuse variables that no service has, which would be passed over."""
        declared = {service.name: service.variables for service in SERVICES}
        wrong = [(("service", "variables"), "are each service's own: wants them below services", "variables: {}")]
        found = [
            (
                ("services", name, "variables"),
                f"{variable} is none of those that {name} declares in infra/services.py",
                "variables: {}",
            )
            for name, own in self.services.items()
            for variable in own.variables
            if variable not in declared.get(name, ()) and variable not in self.service.variables
        ]
        if self.service.variables or found:
            raise ContradictionError(*(wrong if self.service.variables else []), *found)
        return self

    @model_validator(mode="after")
    def _places_are_known(self) -> "StackSettings":
        """Refuse services that connect to somewhere, and the stack does not say where that is."""
        for service in SERVICES:
            for name in service.egress:
                if name not in self.outside:
                    right = f"outside: {{{name}: {{networks: [192.0.2.0/24], port: 443}}}}"
                    raise ContradictionError((("outside",), f"lacks {name}, to which {service.name} connects", right))
        return self

    def variables_of(self, service: Service) -> dict[str, str]:
        """Return the variables of one of our services, with the stack's values."""
        return {**service.variables, **self.of(service.name).variables}

    def outside_of(self, service: Service) -> dict[str, Outside]:
        """Return where one of our services connects to outside the estate."""
        return {name: self.outside[name] for name in service.egress}

    def of(self, service: str) -> ServiceSettings:
        """How one of our services runs."""
        return self.services.get(service, self.service)

    def routes_of(self, service: Service) -> list[Route]:
        """Return the routes of one of our services."""
        own = self.of(service.name).routes
        return [Route(prefix=prefix) for prefix in service.prefixes] if own is None else own

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
    def given_secrets(self) -> list[str]:
        """Return the names of the secrets that are in the stack's configuration."""
        return [*self.receiver_secrets, *(["postgresPassword"] if self.postgres.managed else [])]

    @property
    def generated_secrets(self) -> list[str]:
        """Return the names of the secrets that the program generates."""
        return [name for name in self.secrets if name not in self.given_secrets]


@dataclass(frozen=True)
class Cluster:
    """The one Kubernetes that the program may touch, or a folder in its place."""

    context: str | None = None
    """Context in the kubeconfig that KUBECONFIG or ~/.kube/config holds; the file's path differs between machines, and is not in the state."""
    folder: str | None = None
    """Where manifests are written, and nothing is touched."""


def load_cluster() -> Cluster:
    """Return the cluster that the stack's configuration or make names.

    Raises:
        SettingsError: neither names one, since a default could be the wrong cluster, or they differ.
    """
    if folder := os.environ.get("ESTATE_MANIFESTS"):
        return Cluster(folder=folder)
    given, configured = os.environ.get("ESTATE_KUBE_CONTEXT"), pulumi.Config("kubernetes").get("context")
    if given and configured and given != configured:
        raise SettingsError(
            f"stack {pulumi.get_stack()} belongs to the context {configured} (kubernetes:context), and this is for {given}: "
            f"TOOLS=system KUBE_CONTEXT={configured} takes make there"
        )
    context = configured or given
    if not context:
        raise SettingsError(
            "no cluster is named: pulumi config set kubernetes:context <context> names one of your kubeconfig "
            "(kubectl config get-contexts lists them), and make up brings one up"
        )
    return Cluster(context)


def load_stack(file: Path) -> StackSettings:
    """Return the settings in a stack file.

    Raises:
        SettingsError: the file cannot be read, or a key or value is wrong; with a line for each mistake.
    """
    values, lines = read(file)
    return parse(values, source_of(file), lines)


def parse(values: Any, source: str, lines: Lines = NO_LINES) -> StackSettings:
    """Return validated settings.

    Args:
        values: as in the stack file.
        source: where they are from, for the error.
        lines: where their keys are, if that is known.

    Raises:
        SettingsError: names each wrong key, with an example of what is right.
    """
    if not isinstance(values, dict):
        raise refusal(
            source, lines, [Mistake(SETTINGS, "is missing: wants a table, in which the settings are", EXAMPLE)]
        )
    given = cast("dict[str, Any]", values)
    # Whatever else is wrong is said of a stack without a stage too.
    stage: Stage = given["stage"] if given.get("stage") in list(STAGES) else "local"
    try:
        return StackSettings.model_validate(with_defaults(given, stage))
    except ValidationError as error:
        raise refusal(source, lines, mistakes_of(error, StackSettings, given)) from None


def load_settings() -> StackSettings:
    """The settings of the stack that Pulumi runs.

    Raises:
        SettingsError: it has none, a key or value is wrong, or an image of ours is neither built nor given.
    """
    stack = pulumi.get_stack()
    try:
        stack_name(stack)
        values: Any = pulumi.Config("estate").get_object("settings")
    except pulumi.ConfigTypeError:  # which quotes the text
        values = None
    except ValueError as error:
        raise SettingsError(f"stack {stack!r}: {error}") from error
    source = f"stacks/Pulumi.{stack}.yaml"
    settings = parse(values, source)
    if missing := wanted_digests(settings):
        raise refusal(source, NO_LINES, missing)
    return with_stand_ins(settings)


def wanted_digests(settings: StackSettings) -> list[Mistake]:
    """Return which images an update would lack; a file may lack them until `make promote` has written them."""
    return [
        Mistake(
            (*SETTINGS, "digests", name),
            "is missing, and the stack does not build: wants build: true, or the image (make promote writes it)",
            f"{name}: {settings.registry}/{name}@{ZEROS}",
        )
        for name in NAMES
        if not settings.build and name not in settings.digests
    ]


def with_stand_ins(settings: StackSettings) -> StackSettings:
    """Return the settings with the images that this machine has in place of third-party ones, as STAND_INS says."""
    file = os.environ.get(STAND_INS)
    if not file or not Path(file).exists():
        return settings
    known: dict[str, str] = json.loads(Path(file).read_text())
    given: dict[str, str] = settings.images.model_dump(exclude_none=True)
    images = {name: known.get(image, image) for name, image in given.items()}
    return settings.model_copy(update={"images": settings.images.model_copy(update=images)})
