"""The settings of one stack."""

from pydantic import Field, model_validator

from infra.mistakes import Contradiction, ContradictionError
from infra.services import GATEWAY, SERVICES, Service
from infra.settings.auth import OPERATOR, ClientSettings, JwksSettings
from infra.settings.base import Settings
from infra.settings.cluster import ApiServer, Kubelets, Storage
from infra.settings.consul import ConsulSettings
from infra.settings.database import PostgresSettings
from infra.settings.images import Images, Promoted
from infra.settings.ingress import IngressSettings
from infra.settings.observability import NOBODY, AlertSettings, LogSettings, Receiver, TracingSettings
from infra.settings.routes import Route
from infra.settings.secrets import GENERATED_SECRETS, service_secrets
from infra.settings.service import Outside, PlaceName, ServiceName, ServiceSettings
from infra.stack_file import Key
from infra.stages import Stage
from infra.values import ImageByDigest, Registry


class StackSettings(Settings):
    """The settings of one stack."""

    stage: Stage
    """Stage that provides the defaults (infra/stages.py)."""
    registry: Registry
    """Registry to which our images are pushed: host[:port]/path."""
    build: bool = False
    """Build and push our images; otherwise they are given by digest in `digests`."""
    digests: dict[ServiceName, ImageByDigest] = Field(default={})
    """Image reference by digest of each of our services, where the stack does not build."""
    promoted: Promoted | None = None
    """Origin of the images, if they are from another stack."""
    images: Images = Images()
    ingress: IngressSettings = Field(examples=[{"namespace": "ingress-nginx"}])
    storage: Storage = Storage()
    protected: bool = False
    """Protection of the stack: Pulumi refuses to delete resources that hold data, and `estate down` refuses to delete the stack."""
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
    clients: list[ClientSettings] = Field(default=[])
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
    receivers: list[Receiver] = Field(default=[])
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
