"""Settings of api-gateway."""

from servicekit.settings import Service, ServiceSettings


class Gateway(Service):
    """What the gateway is called."""

    name: str = "api-gateway"


class GatewaySettings(ServiceSettings):
    """All of them: those that every service has."""

    service: Gateway = Gateway()  # pyright: ignore[reportIncompatibleVariableOverride] - it is frozen
