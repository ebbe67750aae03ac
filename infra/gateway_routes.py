"""The gateway's routes: a file in a ConfigMap, which the gateway reloads when it changes."""

import json
from collections.abc import Mapping, Sequence

import pulumi
from pulumi_kubernetes.core.v1 import ConfigMap

from infra.namespace import EstateNamespace
from infra.pods import metadata
from infra.settings.ingress import IngressSettings
from infra.settings.routes import Route

NAME = "gateway-routes"
FOLDER = "/etc/app/routes"
FILE = "routes.json"


class GatewayRoutes(pulumi.ComponentResource):
    """Routes that the gateway has mounted. The ConfigMap keeps its name, so that new routes reach running pods without a restart."""

    config_map: ConfigMap
    services: list[str]
    """Names of the services that a route leads to."""
    paths: list[str]
    """Prefixes of all routes."""
    environment: dict[str, str]
    """Environment variables of the gateway."""

    def __init__(
        self, routes: Mapping[str, Sequence[Route]], ingress: IngressSettings, namespace: EstateNamespace
    ) -> None:
        """Create the ConfigMap.

        Args:
            routes: routes of each service, by its name.
            ingress: settings of the Ingress in front of the gateway.
            namespace: namespace of the gateway.
        """
        super().__init__("estate:gateway_routes:GatewayRoutes", NAME, {}, pulumi.ResourceOptions(parent=namespace))
        self.config_map = ConfigMap(
            NAME,
            metadata=metadata(NAME, namespace.name),
            data={FILE: rendered(routes)},
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.services = [name for name, own in routes.items() if own]
        self.paths = [route.prefix for own in routes.values() for route in own]
        self.environment = {
            "APP_ROUTES_FILE": f"{FOLDER}/{FILE}",
            "APP_ROUTES_TRUSTED": ",".join(ingress.trusted),
        }
        self.register_outputs({})


def rendered(routes: Mapping[str, Sequence[Route]]) -> str:
    """Return the file's content: every route with the name of its service."""
    entries = [{"service": name} | route.model_dump(exclude_none=True) for name, own in routes.items() for route in own]
    return json.dumps({"routes": entries}, indent=1)
