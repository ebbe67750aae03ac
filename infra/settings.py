"""Typed settings of a stack, from `estate:settings` in stacks/Pulumi.<stack>.yaml."""

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self, cast, get_args
from urllib.parse import urlsplit

import pulumi
import pulumi.runtime.config as runtime_config
from cryptography import x509
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from infra.addresses import Host, HostAndPort, Network, Url, console_host, place
from infra.database_names import OWN_ROLES, ROLES
from infra.mail_addresses import MailAddress, MailAddresses
from infra.mistakes import Contradiction, ContradictionError, mistakes_of
from infra.services import GATEWAY, NAMES, PLACE, RECEIVER, SERVICES, VARIABLE, Service
from infra.stack_file import (
    EXAMPLE,
    NO_LINES,
    SETTINGS,
    Key,
    Mistake,
    SettingsError,
    nearest,
    read,
    refusal,
    source_of,
    wrong_secrets,
)
from infra.stages import STAGES, Stage, with_defaults
from infra.values import (
    INT32,
    ZEROS,
    Cpu,
    Folder,
    Image,
    ImageByDigest,
    Instant,
    Label,
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
    public_host,
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


TOKEN_KEYS = ("tokenKey", "nextTokenKey", "previousTokenKey")
"""Names of the token keys. The first one signs; the others exist while keys are rotated, and tokens signed with them are accepted too."""
DATABASE_LOGIN = "databaseLogin"
"""Name of the value that selects the services' login, `a` or `b`; absent: `a`."""


STAND_INS = "ESTATE_STAND_INS"
"""Environment variable with the path of a JSON file that maps third-party images to the images that this machine has for them."""


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
    headers: list[Token] = ["authorization", "content-type", "idempotency-key", "if-match", "if-none-match"]
    """Request headers that a page may send."""
    expose_headers: list[Token] = [
        "etag",
        "link",
        "location",
        "ratelimit",
        "ratelimit-policy",
        "retry-after",
        "x-request-id",
    ]
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


class Scaling(Settings):
    """Bounds and target of a HorizontalPodAutoscaler."""

    least: int = Field(ge=1, le=INT32, examples=[3])
    """Minimum number of replicas."""
    most: int = Field(ge=1, le=INT32, examples=[10])
    """Maximum number of replicas."""
    cpu_percent: int = Field(default=70, ge=1, le=100)
    """Target utilization in percent of the CPU request; above it there are more replicas, below it fewer."""

    @model_validator(mode="after")
    def _ordered(self) -> "Scaling":
        if self.least > self.most:
            raise ContradictionError(
                Contradiction(
                    ("least",),
                    f"is {self.least}, more than most, which is {self.most}",
                    f"least: {self.most}",
                    Contradiction(
                        ("most",), f"is {self.most}, less than least, which is {self.least}", f"most: {self.least}"
                    ),
                )
            )
        return self


BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""Bucket bounds of http_request_duration_seconds, in seconds."""


def bound(given: float) -> float:
    """Return one of BOUNDS_S.

    Raises:
        ValueError: the value is invalid.
    """
    if given not in BOUNDS_S:
        raise ValueError(f"wants one of {', '.join(map(str, BOUNDS_S))}, by which requests are counted")
    return given


class Slo(Settings):
    """Objectives of a service, over a month."""

    availability_percent: float = Field(gt=0, lt=100, examples=[99.9])
    """Percentage of requests that do not fail."""
    latency_percent: float = Field(gt=0, lt=100, examples=[99])
    """Percentage of requests that are answered within `latency_s`."""
    latency_s: Annotated[float, AfterValidator(bound), Field(examples=[0.5], json_schema_extra={"enum": [*BOUNDS_S]})]
    """Seconds: a bound of the histogram of requests."""


def variable(value: str) -> str:
    """Return the name of a variable of a service.

    Raises:
        ValueError: the value is invalid.
    """
    return matching(VARIABLE, value, "wants APP_ and capital letters, digits and _")


Variable = Annotated[
    str,
    AfterValidator(variable),
    Field(examples=["APP_MAIL_SENDER"], json_schema_extra={"pattern": f"^{VARIABLE}$"}),
]


class ServiceSettings(Settings):
    """Settings of one of our services; defaults are in infra/stages.py."""

    replicas: int = Field(ge=1, le=INT32, examples=[3])
    """Number of its pods, if `scaling` is absent."""
    scaling: Scaling | None = None
    """Autoscaling; absent: there are `replicas` pods."""
    requests: Quantities
    """CPU and memory that are reserved for a pod."""
    limits: Quantities
    """Maximum CPU and memory of a pod."""
    slo: Slo
    """Objectives from which alerts are derived."""
    routes: list[Route] | None = Field(default=None, min_length=1)
    """Routes at which the gateway serves it; absent: those that the service declares."""
    variables: dict[Variable, str] = Field(default={}, examples=[{}])
    """Other values for variables that the service declares (infra/services.py)."""

    @model_validator(mode="after")
    def _requests_are_within_limits(self) -> Self:
        """Refuse requests that exceed limits, as the cluster would."""
        asked, most = self.requests, self.limits
        if above := [
            Contradiction(
                ("requests", key),
                f"is more than limits.{key}, which is {limit}",
                f"{key}: {limit}",
                Contradiction(("limits", key), f"is less than requests.{key}, which is {request}", f"{key}: {request}"),
            )
            for key, request, limit in (("cpu", asked.cpu, most.cpu), ("memory", asked.memory, most.memory))
            if amount(request) > amount(limit)
        ]:
            raise ContradictionError(*above)
        return self

    @model_validator(mode="after")
    def _prefixes_are_unique(self) -> Self:
        """Refuse two routes with one prefix, for which the gateway would refuse all routes."""
        prefixes = [route.prefix for route in self.routes or ()]
        if found := [
            Contradiction(("routes", index, "prefix"), "is that of another route already", "prefix: /api/v1/users-2")
            for index, prefix in enumerate(prefixes)
            if prefix in prefixes[:index]
        ]:
            raise ContradictionError(*found)
        return self

    @property
    def least(self) -> int:
        """Return the minimum number of replicas."""
        return self.scaling.least if self.scaling else self.replicas


NUMBER = r"([1-9]\d{0,9})"
ARGON2ID = rf"\$argon2id\$v=19\$m={NUMBER},t={NUMBER},p={NUMBER}\$([A-Za-z0-9+/]+)\$([A-Za-z0-9+/]+)"
"""Pattern of a hash (https://github.com/P-H-C/phc-string-format)."""
MOST_MEMORY_KIB, MOST_PASSES, MOST_LANES = 64 * 1024, 64, 64
"""Maximum cost of one token for the gateway: a quarter of its memory, and the time that a client waits. RFC 9106 ends at 2^32 and 2^24."""
SALT_BYTES, HASH_BYTES = range(8, 65), range(16, 129)
"""Lengths of salt and hash. RFC 9106, section 3.1, has 16 bytes of salt, and at least 4 of hash; libargon2 accepts 8 of salt."""


def argon2id(value: str) -> str:
    """Return a hash of a secret that can be verified (RFC 9106, section 3.1).

    Raises:
        ValueError: the value is invalid.
    """
    wanted = "wants the whole hash that make client prints"
    matching(ARGON2ID, value, wanted)
    memory, passes, lanes, salt, tag = cast("re.Match[str]", re.fullmatch(ARGON2ID, value)).groups()
    if (
        len(salt) % 4 == 1
        or len(tag) % 4 == 1
        or len(salt) * 3 // 4 not in SALT_BYTES
        or len(tag) * 3 // 4 not in HASH_BYTES
    ):
        raise ValueError(f"{wanted}: 8 to 64 bytes of salt and 16 to 128 of hash, in base64 without =")
    if int(passes) > MOST_PASSES or int(lanes) > MOST_LANES or not 8 * int(lanes) <= int(memory) <= MOST_MEMORY_KIB:
        raise ValueError(
            f"{wanted}: m of 8 times p to {MOST_MEMORY_KIB}, t and p of 1 to {MOST_PASSES}, which the gateway can verify"
        )
    return value


HASH = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0$aGFzaGhhc2hoYXNoaGFzaA"
OPERATOR = "operator"
"""The client that every stack has; its secret is the stack's `operatorSecret`."""
MOST_PRECISE = 10**15 - 1
"""Largest number that Pulumi keeps exactly."""


class ClientSettings(Settings):
    """A program that may get tokens from POST /auth/token; `make client` creates one."""

    id: Text
    """Name that it sends as client_id."""
    secret_hash: Annotated[str, AfterValidator(argon2id)] = Field(
        examples=[HASH], json_schema_extra={"pattern": f"^{ARGON2ID}$"}
    )
    """Hash of its secret, made with Argon2id."""
    user_id: int = Field(ge=0, le=MOST_PRECISE, examples=[7])
    """Id of the user that its tokens are for."""
    username: Text
    """Name of the same user."""


class JwksSettings(Settings):
    """Another issuer, whose tokens are accepted in addition to our own."""

    url: Url
    """URL of its JWK Set."""
    issuer: Text = Field(examples=["https://login.example.com/"])
    """Value of `iss` in its tokens."""
    networks: list[Network] = Field(default=["0.0.0.0/0"], min_length=1)
    """CIDRs of its host; services that verify tokens may connect there, on the URL's port."""

    @property
    def port(self) -> int:
        """Return the port of the URL."""
        return port_of(self.url)


class IngressMetrics(Settings):
    """Metrics endpoint of the Ingress controller."""

    target: HostAndPort
    """Address of the endpoint, as host:port."""
    networks: list[Network] = Field(min_length=1)
    """CIDRs of the endpoint."""

    @property
    def port(self) -> int:
        """Return the port of the target."""
        return int(self.target.rpartition(":")[2])


LONGEST_CONSOLE = "alertmanager"
"""Longest name of a console that has a host."""


class IngressSettings(Settings):
    """Public access to the estate."""

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
    """Metrics endpoint of the controller; absent: it is not scraped."""
    consoles: bool = False
    """Publish Consul, Prometheus and Alertmanager next to the API, without authentication: for a personal machine only."""

    @model_validator(mode="after")
    def _controller_is_known(self) -> "IngressSettings":
        """Refuse an Ingress whose backends no controller may reach, since network policies admit only named peers."""
        if not self.trusted and not self.namespace:
            why = "is missing, and trusted too: who may connect from outside is the Ingress controller, by its namespace or networks"
            raise ContradictionError(Contradiction(("namespace",), why))
        return self

    @model_validator(mode="after")
    def _one_certificate(self) -> "IngressSettings":
        if self.issuer and self.tls_secret:
            why = "is one certificate, where issuer makes others: wants one of the two taken out"
            raise ContradictionError(Contradiction(("tls_secret",), why, "issuer alone"))
        return self

    @model_validator(mode="after")
    def _consoles_have_hosts(self) -> "IngressSettings":
        """Refuse a host from which the consoles' hosts cannot be derived."""
        if self.consoles:
            try:
                public_host(console_host(self.host, LONGEST_CONSOLE))
            except ValueError as error:
                why = "wants a dot, 50 characters at the most before it and 240 in all, for hosts of consoles are named after it"
                where = Contradiction(
                    ("consoles",), "is true, and host is none after which theirs can be named", "consoles: false"
                )
                raise ContradictionError(Contradiction(("host",), why, "host: api.example.com", where)) from error
        return self

    def url(self, host: str) -> str:
        """Return the public URL of a host."""
        return f"https://{host}" + ("" if self.port == 443 else f":{self.port}")


class Images(Settings):
    """Third-party images, and the base of our own."""

    python: Image = "docker.io/library/python:3.11-slim-bookworm"
    """Base image of our own images, which `make` builds."""
    postgres: Image = "docker.io/library/postgres:15"
    """Image of the instance, and of the Jobs that dump and restore."""
    postgres_cluster: Image = "ghcr.io/cloudnative-pg/postgresql:15"
    """Image of the cluster that CloudNativePG runs."""
    redis: Image = "docker.io/library/redis:7.0"
    """Image of the cache."""
    consul: Image = "docker.io/hashicorp/consul:1.22.0"
    """Image of the registry, its servers and agents."""
    prometheus: Image = "docker.io/prom/prometheus:v3.16.0"
    """Image of Prometheus."""
    kube_state_metrics: Image = "registry.k8s.io/kube-state-metrics/kube-state-metrics:v2.18.0"
    """Image of the exporter for the state of workloads."""
    postgres_exporter: Image = "docker.io/prometheuscommunity/postgres-exporter:v0.11.1"
    """Image of the exporter for the state of Postgres."""
    redis_exporter: Image = "docker.io/oliver006/redis_exporter:v1.45.0"
    """Image of the exporter for the state of Redis."""
    alertmanager: Image = "docker.io/prom/alertmanager:v0.28.1"
    """Image of Alertmanager."""
    log_agent: Image = "docker.io/otel/opentelemetry-collector-contrib:0.165.0"
    """Image of the agent that sends logs to the store in `logs`."""
    grafana: Image | None = None
    """Image of Grafana, such as docker.io/grafana/grafana:12.2.1; absent: there is none, and `make dashboard` shows the same."""


class Storage(Settings):
    """Sizes of the volumes, as Kubernetes quantities."""

    postgres: Size = "2Gi"
    """Size for each instance of the database."""
    backups: Size = "2Gi"
    """Size for the dumps."""
    consul: Size = "256Mi"
    """Size for each server of the registry."""
    prometheus: Size = "2Gi"
    """Size for the metrics."""
    alertmanager: Size = "64Mi"
    """Size for the record of sent alerts, and for silences."""


class ApiServer(Settings):
    """The Kubernetes API as network policies see it: its endpoints, not its Service. `kubectl get endpointslices kubernetes` shows them."""

    networks: list[Network] = Field(min_length=1)
    """CIDRs of the API servers."""
    port: int = Field(default=6443, ge=1, le=65535)
    """Port on which it listens."""


class Kubelets(Settings):
    """The kubelets of the nodes, which know the resource usage of containers."""

    networks: list[Network] = Field(min_length=1)
    """CIDRs of the nodes."""
    port: int = Field(default=10250, ge=1, le=65535)
    """Port on which they listen."""
    verify: bool = True
    """Verification of their certificates, which are by the cluster's own authority; those of some clusters are by none."""


def place_name(value: str) -> str:
    """Return the name of a destination that services connect to.

    Raises:
        ValueError: the value is invalid.
    """
    return matching(PLACE, value, "wants up to 32 lower-case letters, digits and -, a letter first")


PlaceName = Annotated[
    str,
    AfterValidator(place_name),
    Field(examples=["mail"], json_schema_extra={"pattern": f"^{PLACE}$"}),
]


class Outside(Settings):
    """A destination outside the estate, to which services connect."""

    networks: list[Network] = Field(min_length=1)
    """CIDRs of the destination."""
    port: int = Field(ge=1, le=65535, examples=[443])
    """Port on which it listens."""


class BackupSettings(Settings):
    """Dumps of the database."""

    schedule: Schedule = "17 2 * * *"
    """Schedule in cron's syntax, in UTC."""
    keep: int = Field(default=7, ge=1, le=INT32)
    """Maximum number of dumps that are kept."""
    too_old_h: int = Field(default=26, ge=1, le=INT32)
    """Age of the newest dump, in hours, past which an alert fires."""


def port_of(url: str) -> int:
    """Return the port of a URL."""
    parts = urlsplit(url)
    return parts.port or {"http": 80, "https": 443}[parts.scheme]


def certificates(given: str) -> str:
    """Return certificates as PEM.

    Raises:
        ValueError: the value is invalid.
    """
    try:
        x509.load_pem_x509_certificates(given.encode())
    except ValueError as error:
        raise ValueError("wants certificates: the text of the provider's PEM file") from error
    return given


class OtlpSettings(Settings):
    """A receiver of OTLP over HTTP (https://opentelemetry.io/docs/specs/otlp/)."""

    endpoint: Url
    """Its URL, without /v1/traces and the like."""
    networks: list[Network] = []
    """CIDRs of a receiver outside the cluster; senders may connect there, on the URL's port."""
    namespace: Label | None = Field(default=None, examples=["observability"])
    """Namespace of a receiver in the cluster, whose pods listen on the URL's port, too."""

    @model_validator(mode="after")
    def _somewhere(self) -> Self:
        if bool(self.networks) == bool(self.namespace):
            why = "wants either namespace, where it is in the cluster, or networks, where it is not"
            key, right = ("networks", "namespace alone") if self.networks else ("namespace", None)
            raise ContradictionError(Contradiction((key,), why, right))
        return self

    @property
    def port(self) -> int:
        """Return the port of the URL."""
        return port_of(self.endpoint)


class TracingSettings(OtlpSettings):
    """The receiver of the spans of requests: a collector, or a store of traces."""

    ratio: float = Field(default=0.1, ge=0, le=1)
    """Fraction of the traces that begin here that is recorded; for a trace that a caller began, the caller decides."""


class LogSettings(OtlpSettings):
    """The receiver of the logs of the stack's pods: a collector, or a store of logs such as Loki."""

    folder: Folder = "/var/log/pods"
    """Folder in which the kubelets keep them on the nodes."""


def role_of_the_server(value: str) -> str:
    """Return the name of a role that the estate does not create; one that it creates would lose its privileges.

    Raises:
        ValueError: the estate creates that role.
    """
    if value in ROLES or value.startswith(OWN_ROLES):
        raise ValueError(
            "is a role that the estate makes: wants the server's own admin, or another that whoever runs it makes"
        )
    return value


class ManagedPostgresSettings(Settings):
    """An externally managed Postgres; its admin's password is the secret `postgresPassword`."""

    host: Host
    """Name of its host, which its certificate has too."""
    port: int = Field(default=5432, ge=1, le=65535)
    """Port on which it listens."""
    networks: list[Network] = Field(min_length=1)
    """CIDRs of the server; clients of the database may connect there."""
    ca: Annotated[str, AfterValidator(certificates)] = Field(examples=["-----BEGIN CERTIFICATE-----"])
    """Certificate authority of its certificate, as PEM."""
    admin: Annotated[Role, AfterValidator(role_of_the_server)] = "postgres"
    """Login that creates the roles; it may create roles and databases, and owns the database or its owner's role."""


class PostgresSettings(Settings):
    """The database server."""

    kind: Literal["instance", "cluster", "managed"] = "instance"
    """Kind of server: one instance; three run by the operator CloudNativePG, of which one may fail; or an externally managed one."""
    managed: ManagedPostgresSettings | None = None
    """Description of the managed server."""
    backup: BackupSettings = BackupSettings()
    """Schedule and retention of its dumps."""

    @model_validator(mode="after")
    def _whole(self) -> "PostgresSettings":
        if self.kind == "managed" and self.managed is None:
            why = "is missing, for kind: managed needs to know where: {host, networks, ca}"
            raise ContradictionError(Contradiction(("managed",), why))
        if self.kind != "managed" and self.managed:
            why = f"is {self.kind}, and managed is given: set kind: managed, or take managed out"
            where = Contradiction(("managed",), f"is given, and kind is {self.kind}", "kind: managed")
            raise ContradictionError(Contradiction(("kind",), why, "kind: managed", where))
        return self


class Promoted(Settings):
    """Origin of a stack's images; `make promote` writes it."""

    stack: StackName
    """Stack that ran them before."""
    commit: Text = Field(examples=["4f1d7c2"])
    """Commit that they were built from."""
    at: Instant
    """Time of the promotion."""
    by: Text = Field(examples=["ada@example.com"])
    """Person who promoted them."""


def no_boolean(value: Any) -> Any:
    """Return any value except true and false, which are 1 and 0 in Python.

    Raises:
        ValueError: the value is one of them.
    """
    if isinstance(value, bool):
        raise ValueError("wants a number")  # noqa: TRY004 - pydantic reports a ValueError as a mistake in the file
    return value


class ConsulSettings(Settings):
    """The service registry."""

    servers: Annotated[Literal[1, 3], BeforeValidator(no_boolean)] = 1
    """Number of servers; three: with an agent on each node, gossip encryption, ACLs and TLS."""


class Email(Settings):
    """Server and addresses for mail."""

    host: Host
    """Host of the SMTP server, which has to support TLS."""
    sender: MailAddress
    """Address that mail is from."""
    to: MailAddresses
    """Addresses that mail goes to."""
    username: Text | None = Field(default=None, examples=["us"])
    """Name of the login at the server; absent: the server needs no password."""


NOBODY = "nobody"
"""Name of the receiver that every stack has, which gets the alerts that no other one takes."""


Severity = Literal["critical", "warning"]


def each_once(values: list[Severity]) -> list[Severity]:
    """Return a list of severities without duplicates, which would have alerts sent twice.

    Raises:
        ValueError: there is a duplicate.
    """
    if len({*values}) < len(values):
        raise ValueError("wants each once, for alerts are sent as often as it is there")
    return values


def without_template(value: str) -> str:
    """Return a text that Alertmanager sends unchanged: {{ would begin a template.

    Raises:
        ValueError: the text contains a template.
    """
    if "{{" in value:
        raise ValueError("wants no {{, with which a template of Alertmanager's begins")
    return value


class Receiver(Settings):
    """A receiver of alerts. Its address, key or password is a secret: `make secret NAME=receiver-<name>`."""

    name: Label = Field(examples=["pager"])
    """Name of the receiver, and of its secret, receiver-<name>."""
    kind: Literal["webhook", "email", "slack", "pagerduty"]
    """Kind of service that takes the alerts."""
    severities: Annotated[list[Severity], AfterValidator(each_once)] = Field(
        default=["critical", "warning"], min_length=1
    )
    """Severities of the alerts that it gets."""
    watchdog: bool = False
    """Use as dead man's switch instead: it gets the Watchdog alert every five minutes, and raises an alarm when that stops."""
    networks: list[Network] = Field(default=["0.0.0.0/0"], min_length=1)
    """CIDRs of the receiver; Alertmanager may connect there."""
    port: int | None = Field(default=None, ge=1, le=65535)
    """Port that Alertmanager connects to; absent: 443, or 587 for mail."""
    channel: Annotated[Text, AfterValidator(without_template)] | None = Field(default=None, examples=["#estate"])
    """Channel of Slack."""
    email: Email | None = None
    """Server and addresses, only with kind email."""

    @property
    def to_port(self) -> int:
        """Return the port that Alertmanager connects to."""
        return self.port or (587 if self.kind == "email" else 443)

    @property
    def secret(self) -> str | None:
        """Return the name of the secret that it needs, if any: a URL, a routing key or a password."""
        return None if self.email and not self.email.username else f"{RECEIVER}{self.name}"

    @model_validator(mode="after")
    def _whole(self) -> "Receiver":
        if (self.kind == "email") != bool(self.email):
            why = "goes with kind: email, as {host, sender, to}, and with no other"
            raise ContradictionError(Contradiction(("email",), why, "kind: email" if self.email else None))
        if (self.kind == "slack") != bool(self.channel):
            why = "goes with kind: slack, and with no other"
            raise ContradictionError(Contradiction(("channel",), why, "kind: slack" if self.channel else None))
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
    """Contents of alerts."""

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
    """Stage that provides the defaults (infra/stages.py)."""
    registry: Registry
    """Registry to which our images are pushed: host[:port]/path."""
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
    """Protection of the stack: Pulumi refuses to delete resources that hold data, and `make down` refuses to delete the stack."""
    api_server: ApiServer
    """The Kubernetes API, which Prometheus asks for scrape targets, and the instances of a database cluster for their roles."""
    kubelets: Kubelets | None = None
    """The kubelets as scrape targets; absent: the resource usage of containers is not measured."""
    postgres: PostgresSettings = PostgresSettings()
    consul: ConsulSettings = ConsulSettings()
    service: ServiceSettings = Field(examples=[{"replicas": 3}])
    """Settings of every service that is not in `services`."""
    services: dict[ServiceName, ServiceSettings] = Field(default={}, examples=[{GATEWAY: {"replicas": 3}}])
    """Settings by name of the service; keys that are left out are as in `service`."""
    outside: dict[PlaceName, Outside] = Field(
        default={}, examples=[{"mail": {"networks": ["192.0.2.0/24"], "port": 587}}]
    )
    """Destinations outside the estate that services connect to (`egress` in infra/services.py)."""
    clients: list[ClientSettings] = []
    """Clients that may get tokens, in addition to the operator."""
    jwks: JwksSettings | None = None
    """Another issuer of tokens; absent: the gateway alone."""
    tracing: TracingSettings | None = Field(
        default=None, examples=[{"endpoint": "http://collector.observability:4318", "namespace": "observability"}]
    )
    """Receiver of the spans of requests; absent: none are recorded."""
    logs: LogSettings | None = Field(
        default=None, examples=[{"endpoint": "http://loki.observability:3100/otlp", "namespace": "observability"}]
    )
    """Receiver of the logs; absent: they stay on the nodes."""
    alerts: AlertSettings = AlertSettings()
    receivers: list[Receiver] = []
    """Receivers of alerts; if there are none, Alertmanager only shows the alerts."""

    @model_validator(mode="after")
    def _names_are_unique(self) -> "StackSettings":
        """Refuse duplicate names, of which one would be ignored; each list begins with a name that every stack has."""
        named = {
            "clients": ("id", [OPERATOR, *(c.id for c in self.clients)]),
            "receivers": ("name", [NOBODY, *(r.name for r in self.receivers)]),
        }
        if found := [
            Contradiction((key, index, part), f"is the name of {whose}", f"{part}: billing-2")
            for key, (part, names) in named.items()
            for index, name in enumerate(names[1:])
            if name in names[: index + 1]
            for whose in ["one that every stack has" if name == names[0] else "another one already"]
        ]:
            raise ContradictionError(*found)
        return self

    @model_validator(mode="after")
    def _issuers_differ(self) -> "StackSettings":
        """Refuse our own name for the other issuer, with which no service would start: keys of one may not sign for the other."""
        if self.jwks and self.jwks.issuer == self.ingress.url(self.ingress.host):
            why = "is the stack's own issuer, by ingress.host: wants what the tokens of the other one have as iss"
            raise ContradictionError(Contradiction(("jwks", "issuer"), why, "issuer: https://login.example.com/"))
        return self

    @model_validator(mode="after")
    def _variables_are_declared(self) -> "StackSettings":
        """Refuse variables that no service declares, which would be ignored."""
        declared = {service.name: service.variables for service in SERVICES}
        why = "are each service's own: wants them below services"
        wrong = [Contradiction(("service", "variables"), why, "variables: {}")]
        found = [
            Contradiction(
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
        """Refuse a stack that does not say where a destination of a service is."""
        for service in SERVICES:
            for name in service.egress:
                if name not in self.outside:
                    right = f"outside: {{{name}: {{networks: [192.0.2.0/24], port: 443}}}}"
                    why = f"lacks {name}, to which {service.name} connects"
                    raise ContradictionError(Contradiction(("outside",), why, right))
        return self

    @model_validator(mode="after")
    def _prefixes_have_one_service(self) -> "StackSettings":
        """Refuse two services with one prefix, for which the gateway would refuse all routes, and routes to the gateway itself."""
        found = [
            Contradiction(("services", GATEWAY, "routes"), "are to the services behind the gateway", "variables: {}")
            for gateway in [self.services.get(GATEWAY)]
            if gateway and gateway.routes and gateway.routes != self.service.routes
        ]
        taken: dict[str, str] = {}
        # Prefixes that services declare take precedence over those that a stack gives to others.
        for service in sorted(SERVICES, key=lambda service: self.of(service.name).routes is not None):
            table: Key = ("services", service.name) if service.name in self.services else ("service",)
            for index, route in enumerate(self.routes_of(service)):
                if (owner := taken.setdefault(route.prefix, service.name)) != service.name:
                    key, why = (*table, "routes", index, "prefix"), f"is that of {owner} already"
                    found.append(Contradiction(key, why, f"prefix: /{service.name}"))
        if found:
            raise ContradictionError(*found)
        return self

    def variables_of(self, service: Service) -> dict[str, str]:
        """Return the variables of one of our services, with the stack's values."""
        return {**service.variables, **self.of(service.name).variables}

    def outside_of(self, service: Service) -> dict[str, Outside]:
        """Return the destinations of one of our services outside the estate, by name."""
        return {name: self.outside[name] for name in service.egress}

    def of(self, service: str) -> ServiceSettings:
        """Return the settings of one of our services."""
        return self.services.get(service, self.service)

    def routes_of(self, service: Service) -> list[Route]:
        """Return the routes of one of our services."""
        own = self.of(service.name).routes
        return [Route(prefix=prefix) for prefix in service.prefixes] if own is None else own

    def image_references(self) -> list[str]:
        """Return every third-party image that the stack uses."""
        used = {"postgres_cluster": self.postgres.kind == "cluster", "log_agent": self.logs is not None}
        unused = {name for name, is_used in used.items() if not is_used}
        return sorted(self.images.model_dump(exclude=unused, exclude_none=True).values())

    @property
    def secrets(self) -> list[str]:
        """Return GENERATED_SECRETS without those that the stack does not use."""
        return [name for name in GENERATED_SECRETS if name != "grafanaPassword" or self.images.grafana]

    @property
    def receiver_secrets(self) -> list[str]:
        """Return the names of the alert receivers' secrets, which the user must supply."""
        return [receiver.secret for receiver in self.receivers if receiver.secret]

    @property
    def given_secrets(self) -> list[str]:
        """Return the names of the secrets that are in the stack's configuration."""
        own = ["postgresPassword"] if self.postgres.managed else []
        return [*own, *self.receiver_secrets, *service_secrets()]

    @property
    def generated_secrets(self) -> list[str]:
        """Return the names of the secrets that the program generates."""
        return [name for name in self.secrets if name not in self.given_secrets]


@dataclass(frozen=True)
class Cluster:
    """The only Kubernetes cluster that the program may change, or a folder in its place."""

    context: str | None = None
    """Context in the kubeconfig that KUBECONFIG or ~/.kube/config holds; the file's path differs between machines, and is not in the state."""
    folder: str | None = None
    """Folder into which manifests are written, without changing a cluster."""


def load_cluster() -> Cluster:
    """Return the cluster that the stack's configuration or make names.

    Raises:
        SettingsError: neither names one, since a default could be the wrong cluster, or they name different ones.
    """
    if folder := os.environ.get(MANIFESTS):
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


MANIFESTS = "ESTATE_MANIFESTS"
"""Environment variable with the folder for manifests, if they are rendered without a cluster."""


def service_secrets() -> list[str]:
    """Return the names of the secrets that services have of their own, in every stack."""
    return [service.secret_key(name) for service in SERVICES for name in service.secrets]


def load_stack(file: Path) -> StackSettings:
    """Return the settings in a stack file.

    Raises:
        SettingsError: the file cannot be read, or a key or value is wrong; with a line for each mistake.
    """
    config, lines = read(file)
    settings = checked(config["estate:settings"])
    if isinstance(settings, StackSettings):
        found, own = list[Mistake](), settings.given_secrets
    else:  # the receivers of wrong settings are not known
        receivers = [key.removeprefix("estate:") for key in config if key.startswith("estate:receiver-")]
        found, own = settings, [*receivers, *service_secrets()]
    found += misplaced(config, own, file.name.removeprefix("Pulumi.").removesuffix(".yaml"))
    if found or not isinstance(settings, StackSettings):
        raise refusal(source_of(file), lines, found)
    return settings


def misplaced(config: Mapping[str, Any], given: Iterable[str], stack: str) -> Iterator[Mistake]:
    """Yield mistakes in the estate's keys next to its settings: keys of no known secret, and secrets that are not encrypted.

    Args:
        config: configuration of the stack, with encrypted values as Pulumi writes them.
        given: names of the secrets that the user supplies.
        stack: name of the stack.
    """
    return wrong_secrets(config, [*GENERATED_SECRETS, *given], [*TOKEN_KEYS[1:], DATABASE_LOGIN], stack)


def config_of_pulumi() -> dict[str, Any]:
    """Return the configuration of the running stack as in its file, except for encrypted values.

    It is empty if manifests are rendered: their secrets are placeholders.
    """
    if MANIFESTS in os.environ:
        return {}
    secret = set(runtime_config.get_config_secret_keys_env())
    values = runtime_config.get_config_env()
    return {key: {"secure": "by Pulumi"} if key in secret else value for key, value in values.items()}


def parse(values: Any, source: str) -> StackSettings:
    """Return validated settings.

    Args:
        values: settings as in the stack file.
        source: name of their origin, for the error.

    Raises:
        SettingsError: names each wrong key, with an example of what is right.
    """
    settings = checked(values)
    if not isinstance(settings, StackSettings):
        raise refusal(source, NO_LINES, settings)
    return settings


def checked(values: Any) -> StackSettings | list[Mistake]:
    """Return the settings, or the mistakes in them."""
    if not isinstance(values, dict):
        return [Mistake(SETTINGS, "is missing: wants a table, in which the settings are", EXAMPLE)]
    given = cast("dict[str, Any]", values)
    # Other mistakes are reported for a stack without a stage too.
    stage: Stage = given["stage"] if given.get("stage") in list(STAGES) else "local"
    try:
        return StackSettings.model_validate(with_defaults(given, stage))
    except ValidationError as error:
        return mistakes_of(error, StackSettings, given, stage)


def load_settings() -> StackSettings:
    """Return the settings of the stack that Pulumi runs.

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
    if wrong := [*misplaced(config_of_pulumi(), settings.given_secrets, stack), *wanted_digests(settings)]:
        raise refusal(source, NO_LINES, wrong)
    return with_stand_ins(settings)


def wanted_digests(settings: StackSettings) -> list[Mistake]:
    """Return a mistake for each image that an update would lack; a file may lack it until `make promote` has written it."""
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
    """Return the settings with third-party images replaced by those that this machine has, according to STAND_INS."""
    file = os.environ.get(STAND_INS)
    if not file or not Path(file).exists():
        return settings
    known: dict[str, str] = json.loads(Path(file).read_text())
    given: dict[str, str] = settings.images.model_dump(exclude_none=True)
    images = {name: known.get(image, image) for name, image in given.items()}
    return settings.model_copy(update={"images": settings.images.model_copy(update=images)})
