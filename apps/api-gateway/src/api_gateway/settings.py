"""Settings of api-gateway."""

from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path

from pydantic import Field, field_validator
from servicekit.settings import Cache, Service, ServiceName, ServiceSettings, Settings


class Gateway(Service):
    """What the gateway is called."""

    name: ServiceName = "api-gateway"


class Routing(Settings):
    """What leads where."""

    file: Path = Path("/etc/app/routes/routes.json")
    """The routes, YAML or JSON; read again when it changes."""
    trusted: str = ""
    """Networks, separated by commas, from which X-Forwarded-… is believed: those of the Ingress."""

    @field_validator("trusted")
    @classmethod
    def networks_are_known(cls, trusted: str) -> str:
        """Refuse what is no list of networks, and show none of it."""
        try:
            networks(trusted)
        except ValueError as error:
            raise ValueError("wants networks as CIDRs, separated by commas, such as 10.0.0.0/8, fd00::/8") from error
        return trusted

    def networks(self) -> list[IPv4Network | IPv6Network]:
        """The trusted networks."""
        return networks(self.trusted)


def networks(words: str) -> list[IPv4Network | IPv6Network]:
    """Return the networks in a list that commas separate.

    Raises:
        ValueError: a word is none.
    """
    return [ip_network(word.strip()) for word in words.split(",") if word.strip()]


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
