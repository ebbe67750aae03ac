"""Calls from one of our services to another."""

import pulumi

from infra.network_policy import Endpoint
from infra.services import Service
from infra.web_service import PORT


class Callee:
    """One of our services, as another one that calls it needs it.

    It is found by its Service's name: that leads to the pods that are ready and not about to end, without a token of Consul's or a
    list of one's own that could be old, and it stays through every rollout.
    """

    calls_back = False

    def __init__(self, service: Service, caller: Service) -> None:
        """Say how a service calls another.

        Args:
            service: that is called.
            caller: of it.
        """
        self.endpoint = Endpoint(service.name, PORT)
        settings = f"APP_CALLS_{service.package.upper()}"
        self.environment = {
            f"{settings}_URL": f"http://{self.endpoint.address}",
            f"{settings}_PASSES_TOKEN": "true" if service.name in caller.passes_token_to else "false",
        }

    def secrets_of(self, _app: str, /) -> dict[str, pulumi.Output[str]]:
        """Files that a service has mounted for it: none."""
        return {}
