"""Ingresses: the public entry points of the estate."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import pulumi
from pulumi_kubernetes.core.v1 import Service
from pulumi_kubernetes.networking.v1 import Ingress, NetworkPolicy

from infra.addresses import console_host
from infra.namespace import EstateNamespace
from infra.network_policy import Endpoint, entering
from infra.pods import MANAGED_BY, manifest, metadata
from infra.settings.ingress import IngressSettings
from infra.waiting import ROLLOUT

OWN_PATHS = {
    "/": "Exact",
    "/auth/token": "Exact",
    "/docs": "Prefix",
    "/health": "Exact",
    "/health/details": "Exact",
    "/openapi.json": "Exact",
}
"""Paths that the gateway answers itself, with their pathType; the details need a token. The others (/metrics, /livez, /readyz) are internal."""
CONTROLLERS = {
    "nginx": {
        # The gateway and the services limit bodies and time: these timeouts exceed the maximum of a route's `timeout_s`.
        "nginx.ingress.kubernetes.io/proxy-body-size": "0",
        "nginx.ingress.kubernetes.io/proxy-request-buffering": "off",
        "nginx.ingress.kubernetes.io/proxy-read-timeout": "3660",
        "nginx.ingress.kubernetes.io/proxy-send-timeout": "3660",
        # No token in plain text, whatever the controller's ConfigMap says. It exempts ACME challenges itself (no-tls-redirect-locations).
        "nginx.ingress.kubernetes.io/ssl-redirect": "true",
    },
    "traefik": {
        # By default a route is on every entry point, including the one in plain text.
        "traefik.ingress.kubernetes.io/router.entrypoints": "websecure",
        "traefik.ingress.kubernetes.io/router.tls": "true",
    },
}
"""Annotations that an Ingress needs, by its class."""
SOLVER = {"acme.cert-manager.io/http01-solver": "true"}
"""Labels of the pods with which cert-manager solves HTTP-01 challenges, to prove to a certificate authority that a host is ours."""
SOLVER_PORT = 8089


class Backend(Protocol):
    """A workload that an Ingress can route to."""

    @property
    def endpoint(self) -> Endpoint:
        """Return the endpoint at which its pods listen."""
        ...

    service: Service


class PublicIngress(pulumi.ComponentResource):
    """The public hosts, over TLS."""

    urls: dict[str, str]
    """URL of each host, by the name of its backend."""

    def __init__(
        self,
        settings: IngressSettings,
        paths: Sequence[str],
        gateway: Backend,
        consoles: dict[str, Backend],
        namespace: EstateNamespace,
    ) -> None:
        """Create the Ingresses.

        Args:
            settings: the stack's settings.
            paths: prefixes that the gateway serves.
            gateway: backend of the whole API, so that no request bypasses its rules.
            consoles: consoles by name; published only if the stack says so.
            namespace: namespace of the backends.
        """
        super().__init__("estate:ingress:PublicIngress", "public", {}, pulumi.ResourceOptions(parent=namespace))
        if settings.issuer:
            self._let_in_to_solvers(settings, namespace)
        hosts = {"gateway": settings.host}
        self._ingress("api", settings, settings.host, gateway, dict.fromkeys(paths, "Prefix") | OWN_PATHS, namespace)
        for name, console in consoles.items() if settings.consoles else ():
            hosts[name] = console_host(settings.host, name)
            self._ingress(name, settings, hosts[name], console, {"/": "Prefix"}, namespace)
        self.urls = {name: settings.url(host) for name, host in hosts.items()}
        self.register_outputs({"urls": self.urls})

    def _ingress(
        self,
        name: str,
        settings: IngressSettings,
        host: str,
        backend: Backend,
        paths: Mapping[str, str],
        namespace: EstateNamespace,
    ) -> None:
        child = pulumi.ResourceOptions(parent=self)
        policy = entering(backend.endpoint, "ingress", controller(settings), namespace.name, child)
        to = {"service": {"name": backend.service.metadata.name, "port": {"number": backend.endpoint.port}}}
        Ingress(
            name,
            metadata=manifest(
                {
                    "name": name,
                    "namespace": namespace.name,
                    "labels": MANAGED_BY,
                    "annotations": annotations(settings),
                }
            ),
            spec=manifest(
                {
                    **({"ingressClassName": settings.class_name} if settings.class_name else {}),
                    "tls": [tls(settings, name, host)],
                    "rules": [
                        {
                            "host": host,
                            "http": {"paths": [{"path": p, "pathType": of, "backend": to} for p, of in paths.items()]},
                        }
                    ],
                }
            ),
            opts=pulumi.ResourceOptions(parent=self, depends_on=[policy], custom_timeouts=ROLLOUT),
        )

    def _let_in_to_solvers(self, settings: IngressSettings, namespace: EstateNamespace) -> None:
        NetworkPolicy(
            "acme-solver-from-ingress",
            metadata=metadata("acme-solver-from-ingress", namespace.name),
            spec=manifest(
                {
                    "podSelector": {"matchLabels": SOLVER},
                    "policyTypes": ["Ingress"],
                    "ingress": [{"from": controller(settings), "ports": [{"protocol": "TCP", "port": SOLVER_PORT}]}],
                }
            ),
            opts=pulumi.ResourceOptions(parent=self),
        )


def annotations(settings: IngressSettings) -> dict[str, str]:
    """Return an Ingress's annotations for Pulumi, cert-manager and the controller."""
    # If the controller publishes no status, Pulumi would wait in vain: https://github.com/pulumi/pulumi-kubernetes/issues/1810
    waiting = {} if settings.wait else {"pulumi.com/skipAwait": "true"}
    issuing = {"cert-manager.io/cluster-issuer": settings.issuer} if settings.issuer else {}
    return waiting | issuing | CONTROLLERS.get(settings.class_name or "", {})


def controller(settings: IngressSettings) -> list[dict[str, Any]]:
    """Return the NetworkPolicyPeers that the Ingress controller connects from."""
    networks = [{"ipBlock": {"cidr": network}} for network in settings.trusted]
    selected = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": settings.namespace}}}
    return [*networks, *([selected] if settings.namespace else [])]


def tls(settings: IngressSettings, name: str, host: str) -> dict[str, Any]:
    """Return the TLS entry of an Ingress and its host; without a Secret the controller's own certificate is used."""
    secret = f"{name}-tls" if settings.issuer else settings.tls_secret
    return {"hosts": [host]} | ({"secretName": secret} if secret else {})


def console_url(settings: IngressSettings, name: str) -> str | None:
    """Return the public URL of a console, if the stack publishes them."""
    return settings.url(console_host(settings.host, name)) if settings.consoles else None
