"""Public hosts, TLS and the Ingress controller."""

from pydantic import Field, model_validator

from infra.addresses import HostAndPort, Network, console_host
from infra.mistakes import Contradiction, ContradictionError
from infra.settings.base import Settings
from infra.values import Label, PublicHost, Subdomain, public_host


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
    trusted: list[Network] = Field(default=[])
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
