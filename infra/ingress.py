"""How the world reaches the estate."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import pulumi
from pulumi_kubernetes.core.v1 import Service
from pulumi_kubernetes.networking.v1 import Ingress, NetworkPolicy

from infra.namespace import EstateNamespace
from infra.network_policy import Endpoint, entering
from infra.pods import MANAGED_BY, manifest, metadata
from infra.settings import IngressSettings
from infra.waiting import ROLLOUT

OWN_PATHS = {
    "/": "Exact",
    "/auth/token": "Exact",
    "/docs": "Prefix",
    "/health": "Exact",
    "/health/details": "Exact",
    "/openapi.json": "Exact",
}
"""Those that the gateway answers itself, with their pathType; the details to who brings a token. Its others (/metrics, /livez, /readyz) are the cluster's."""
CONTROLLERS = {
    "nginx": {
        # The gateway and the services limit bodies and time: seconds are more than any route's `timeout_s` may be.
        "nginx.ingress.kubernetes.io/proxy-body-size": "0",
        "nginx.ingress.kubernetes.io/proxy-request-buffering": "off",
        "nginx.ingress.kubernetes.io/proxy-read-timeout": "3660",
        "nginx.ingress.kubernetes.io/proxy-send-timeout": "3660",
        # Whatever its ConfigMap says: no token in plain text. It lets ACME's challenges through by itself (no-tls-redirect-locations).
        "nginx.ingress.kubernetes.io/ssl-redirect": "true",
    },
    "traefik": {
        # By default a route is on every entry point, the one in plain text among them.
        "traefik.ingress.kubernetes.io/router.entrypoints": "websecure",
        "traefik.ingress.kubernetes.io/router.tls": "true",
    },
}
"""Annotations that an Ingress needs, by the name of its class."""
SOLVER = {"acme.cert-manager.io/http01-solver": "true"}
"""Labels of the pods by which cert-manager shows a certificate authority that a host is ours."""
SOLVER_PORT = 8089


class Backend(Protocol):
    """What an Ingress can send to."""

    @property
    def endpoint(self) -> Endpoint:
        """Where its pods listen."""
        ...

    service: Service


class PublicIngress(pulumi.ComponentResource):
    """The public hosts, over TLS."""

    urls: dict[str, str]
    """URL of each host by what it leads to."""

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
            settings: of the stack.
            paths: prefixes that the gateway serves.
            gateway: answers the API. All of it goes through the gateway, so that no request comes in past its rules.
            consoles: by name; published only where the stack says so.
            namespace: where the backends run.
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
    """Return what an Ingress asks of Pulumi, of cert-manager and of the controller."""
    # Without a status to wait for, Pulumi would wait in vain: https://github.com/pulumi/pulumi-kubernetes/issues/1810
    waiting = {} if settings.wait else {"pulumi.com/skipAwait": "true"}
    issuing = {"cert-manager.io/cluster-issuer": settings.issuer} if settings.issuer else {}
    return waiting | issuing | CONTROLLERS.get(settings.class_name or "", {})


def controller(settings: IngressSettings) -> list[dict[str, Any]]:
    """Return where the Ingress controller connects from."""
    networks = [{"ipBlock": {"cidr": network}} for network in settings.trusted]
    selected = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": settings.namespace}}}
    return [*networks, *([selected] if settings.namespace else [])]


def tls(settings: IngressSettings, name: str, host: str) -> dict[str, Any]:
    """Return the TLS entry of an Ingress and its host; without a Secret the controller's own certificate is used."""
    secret = f"{name}-tls" if settings.issuer else settings.tls_secret
    return {"hosts": [host]} | ({"secretName": secret} if secret else {})


def console_url(settings: IngressSettings, name: str) -> str | None:
    """Return the public URL of a console, where the stack publishes them."""
    return settings.url(console_host(settings.host, name)) if settings.consoles else None


def console_host(host: str, name: str) -> str:
    """Return the host of a console: consul.example.com for api.example.com, consul-eu.example.com for api-eu.example.com or eu.example.com.

    Two stacks of one domain have consoles of their own: of two Ingresses with one host, either may answer.
    """
    label, _, domain = host.partition(".")
    own = label.removeprefix("api").removeprefix("-")
    return f"{name}-{own}.{domain}" if own else f"{name}.{domain}"
