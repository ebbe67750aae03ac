"""The routes of the gateway: a file in a ConfigMap, which it reads again when it changes."""

import json
from collections.abc import Mapping

import pulumi
from pulumi_kubernetes.core.v1 import ConfigMap

from infra.namespace import EstateNamespace
from infra.pods import metadata
from infra.settings import IngressSettings, ServiceSettings

NAME = "gateway-routes"
FOLDER = "/etc/app/routes"
FILE = "routes.json"


class GatewayRoutes(pulumi.ComponentResource):
    """Routes that the gateway has mounted. The ConfigMap keeps its name, so that new routes reach running pods without a restart."""

    config_map: ConfigMap
    services: list[str]
    """Names of those that a route leads to."""
    environment: dict[str, str]
    """What the gateway has in its environment."""

    def __init__(
        self, services: Mapping[str, ServiceSettings], ingress: IngressSettings, namespace: EstateNamespace
    ) -> None:
        """Create the ConfigMap.

        Args:
            services: by name.
            ingress: in front of the gateway.
            namespace: where the gateway runs.
        """
        super().__init__("estate:gateway_routes:GatewayRoutes", NAME, {}, pulumi.ResourceOptions(parent=namespace))
        self.config_map = ConfigMap(
            NAME,
            metadata=metadata(NAME, namespace.name),
            data={FILE: rendered(services)},
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.services = [name for name, service in services.items() if service.routes]
        self.environment = {
            "APP_ROUTES_FILE": f"{FOLDER}/{FILE}",
            "APP_ROUTES_TRUSTED": ",".join(ingress.trusted),
        }
        self.register_outputs({})


def rendered(services: Mapping[str, ServiceSettings]) -> str:
    """The file: every route with the name of its service."""
    routes = [
        {"service": name} | route.model_dump(exclude_none=True)
        for name, settings in services.items()
        for route in settings.routes
    ]
    return json.dumps({"routes": routes}, indent=1)
