"""Settings of api-gateway."""

from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path

from pydantic import Field
from servicekit.settings import Cache, Service, ServiceSettings, Settings


class Gateway(Service):
    """What the gateway is called."""

    name: str = "api-gateway"


class Routing(Settings):
    """What leads where."""

    file: Path = Path("/etc/app/routes/routes.json")
    """The routes, YAML or JSON; read again when it changes."""
    trusted: str = ""
    """Networks, separated by commas, from which X-Forwarded-… is believed: those of the Ingress."""

    def networks(self) -> list[IPv4Network | IPv6Network]:
        """The trusted networks."""
        return [ip_network(word.strip()) for word in self.trusted.split(",") if word.strip()]


class Clients(Settings):
    """Who may have tokens."""

    file: Path | None = None
    """JSON; absent: nobody."""


class GatewaySettings(ServiceSettings):
    """All of them: those that every service has, and the routes."""

    service: Gateway = Gateway()  # pyright: ignore[reportIncompatibleVariableOverride] - it is frozen
    routes: Routing = Field(default=Routing())
    clients: Clients = Clients()
    cache: Cache = Cache()
    """Where the counts of rate limits are shared; nowhere without a host."""
