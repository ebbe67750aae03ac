"""Settings of api-gateway."""

from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path

from pydantic import Field, field_validator
from servicekit.settings import Cache, Service, ServiceName, ServiceSettings, Settings


class Gateway(Service):
    """The name of the gateway."""

    name: ServiceName = "api-gateway"


class Routing(Settings):
    """The file of routes, and the trusted networks."""

    file: Path = Path("/etc/app/routes/routes.json")
    """File of the routes, YAML or JSON; read again when it changes."""
    trusted: str = ""
    """Networks from which X-Forwarded-… headers are trusted, separated by commas: those of the Ingress."""

    @field_validator("trusted")
    @classmethod
    def networks_are_known(cls, trusted: str) -> str:
        """Refuse a value that is not a list of networks, without showing it."""
        try:
            networks(trusted)
        except ValueError as error:
            raise ValueError("wants networks as CIDRs, separated by commas, such as 10.0.0.0/8, fd00::/8") from error
        return trusted

    def networks(self) -> list[IPv4Network | IPv6Network]:
        """Return the trusted networks."""
        return networks(self.trusted)


def networks(words: str) -> list[IPv4Network | IPv6Network]:
    """Return the networks in a comma-separated list.

    Raises:
        ValueError: an item is not a network.
    """
    return [ip_network(word.strip()) for word in words.split(",") if word.strip()]


class Clients(Settings):
    """The clients that may obtain tokens."""

    file: Path | None = None
    """File of the clients, JSON; absent: there are none."""


class GatewaySettings(ServiceSettings):
    """All settings of the gateway: those that every service has, and its own."""

    service: Gateway = Gateway()  # pyright: ignore[reportIncompatibleVariableOverride] - it is frozen
    routes: Routing = Field(default=Routing())
    clients: Clients = Clients()
    cache: Cache = Cache()
    """Redis in which the replicas share the counts of rate limits; without a host they are not shared."""
