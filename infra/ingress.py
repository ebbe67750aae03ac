"""How the world reaches the estate."""

from typing import Any, Protocol

import pulumi
from pulumi_kubernetes.core.v1 import Service
from pulumi_kubernetes.networking.v1 import Ingress

from infra.namespace import EstateNamespace
from infra.pods import MANAGED_BY, manifest
from infra.settings import IngressSettings
from infra.waiting import ROLLOUT

API_PATHS = ("/api/v1/users", "/api/v2/users", "/users", "/auth/token", "/health", "/docs", "/openapi.json")


class Backend(Protocol):
    """What an Ingress can send to."""

    service: Service
    port: int


class PublicIngress(pulumi.ComponentResource):
    """The public hosts, over TLS."""

    urls: dict[str, str]
    """URL of each host by what it leads to."""

    def __init__(
        self, settings: IngressSettings, gateway: Backend, consoles: dict[str, Backend], namespace: EstateNamespace
    ) -> None:
        """Create the Ingresses.

        Args:
            settings: of the stack.
            gateway: answers the API. All of it goes through the gateway, so that no request comes in past its rules.
            consoles: by name; published only where the stack says so.
            namespace: where the backends run.
        """
        super().__init__("estate:ingress:PublicIngress", "public", {}, pulumi.ResourceOptions(parent=namespace))
        domain = settings.host.partition(".")[2]
        hosts = {"gateway": settings.host}
        self._ingress("api", settings, settings.host, gateway, API_PATHS, namespace)
        for name, console in consoles.items() if settings.consoles else ():
            hosts[name] = f"{name}.{domain}"
            self._ingress(name, settings, hosts[name], console, ("/",), namespace)
        self.urls = {name: settings.url(host) for name, host in hosts.items()}
        self.register_outputs({"urls": self.urls})

    def _ingress(
        self,
        name: str,
        settings: IngressSettings,
        host: str,
        backend: Backend,
        paths: tuple[str, ...],
        namespace: EstateNamespace,
    ) -> None:
        to = {"service": {"name": backend.service.metadata.name, "port": {"number": backend.port}}}
        Ingress(
            name,
            metadata=manifest(
                {
                    "name": name,
                    "namespace": namespace.name,
                    "labels": MANAGED_BY,
                    # Without a status to wait for, Pulumi would wait in vain: https://github.com/pulumi/pulumi-kubernetes/issues/1810
                    "annotations": {} if settings.wait else {"pulumi.com/skipAwait": "true"},
                }
            ),
            spec=manifest(
                {
                    **({"ingressClassName": settings.class_name} if settings.class_name else {}),
                    "tls": [tls(settings, host)],
                    "rules": [
                        {
                            "host": host,
                            "http": {"paths": [{"path": p, "pathType": "Prefix", "backend": to} for p in paths]},
                        }
                    ],
                }
            ),
            opts=pulumi.ResourceOptions(parent=self, custom_timeouts=ROLLOUT),
        )


def tls(settings: IngressSettings, host: str) -> dict[str, Any]:
    """The TLS entry of a host; without a Secret the controller's own certificate is used."""
    return {"hosts": [host]} | ({"secretName": settings.tls_secret} if settings.tls_secret else {})
