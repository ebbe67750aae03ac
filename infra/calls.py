"""Calls from one of our services to another."""

import pulumi

from infra.network_policy import Endpoint
from infra.services import Service
from infra.web_service import PORT


class Callee:
    """One of our services as the dependency of another one that calls it.

    The caller uses the name of its Kubernetes Service, which leads to the pods that are ready and not terminating. That needs neither a
    Consul token nor a list of instances that could be stale, and the name stays through every rollout.
    """

    calls_back = False

    def __init__(self, service: Service, caller: Service) -> None:
        """Describe how one service calls another.

        Args:
            service: the service that is called.
            caller: the service that calls it.
        """
        self.endpoint = Endpoint(service.name, PORT)
        settings = f"APP_CALLS_{service.package.upper()}"
        self.environment = {
            f"{settings}_URL": f"http://{self.endpoint.address}",
            f"{settings}_PASSES_TOKEN": "true" if service.name in caller.passes_token_to else "false",
        }

    def secrets_of(self, _app: str, /) -> dict[str, pulumi.Output[str]]:
        """Return the files that a caller needs mounted: none."""
        return {}
