"""Settings of api-gateway."""

from servicekit.settings import ServiceSettings


class GatewaySettings(ServiceSettings):
    """All of them: those that every service has."""
