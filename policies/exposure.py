"""Rules about network exposure, through Services and Ingresses."""

from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from typing import Annotated, Any

from policies.resources import UNKNOWN, Resource, at, each, is_known

SERVICE = "kubernetes:core/v1:Service"
INGRESS = "kubernetes:networking.k8s.io/v1:Ingress"


def internal_services(
    resource: Resource,
    public: Annotated[Sequence[str], "Names of the Services that are meant to be reached from outside"] = (),
) -> Iterator[str]:
    """Forbid Services of type NodePort or LoadBalancer, which are public without the Ingress: no TLS, no rules, no log of them (https://kubernetes.io/docs/concepts/services-networking/service/#publishing-services-service-types)."""
    if resource.type != SERVICE:
        return
    opened = at(resource.properties, "spec", "type")
    name = at(resource.properties, "metadata", "name")
    if opened in ("NodePort", "LoadBalancer") and not (name is UNKNOWN or name in public):
        yield f"is open to the world as {opened}: take spec.type out and use an Ingress, or name it in internal-services.public"


def ingress_over_tls(resource: Resource) -> Iterator[str]:
    """Require TLS for the hosts of an Ingress: without it, everyone on the path can read and change the traffic (https://kubernetes.io/docs/concepts/services-networking/ingress/#tls)."""
    if resource.type != INGRESS:
        return
    tls = at(resource.properties, "spec", "tls")
    if not is_known(tls):
        return
    hosts = [host for entry in each(resource.properties, "spec", "tls") for host in each(entry, "hosts")]
    for rule in each(resource.properties, "spec", "rules"):
        host = at(rule, "host")
        if host is None and not tls:
            yield "serves every host without TLS: name hosts in spec.rules and in spec.tls"
        if isinstance(host, str) and not any(covers(given, host) for given in hosts):
            yield f"serves {host} without TLS: name the host in spec.tls[].hosts"
    if at(resource.properties, "spec", "defaultBackend") not in (None, UNKNOWN) and not tls:
        yield "serves what no rule names without TLS: set spec.tls, or take spec.defaultBackend out"


def covers(given: str, host: str) -> bool:
    """Return whether the host of a certificate covers a host; `*.` stands for one label."""
    return given == host or (given.startswith("*.") and given[2:] == host.partition(".")[2])


def private_backends(
    resource: Resource,
    services: Annotated[Sequence[str], "Patterns of the Services that nothing outside may reach"] = (
        "consul*",
        "postgres*",
    ),
    ports: Annotated[Sequence[int], "Ports that nothing outside may reach"] = (5432, 8500, 8501),
) -> Iterator[str]:
    """Forbid Ingresses to the registry and the database: whoever reaches them can move traffic, or try passwords (https://developer.hashicorp.com/consul/docs/security/security-models/core)."""
    if resource.type != INGRESS:
        return
    for backend in backends(resource):
        name, port = at(backend, "service", "name"), at(backend, "service", "port", "number")
        private = isinstance(name, str) and any(fnmatch(name, pattern) for pattern in services)
        if private or port in ports:
            where = f"port {port} of a Service" if name is UNKNOWN else f"the Service {name}"
            yield f"makes {where} public: take the backend out, and reach it with kubectl port-forward"


def backends(resource: Resource) -> Iterator[Any]:
    """Yield every backend that an Ingress sends requests to."""
    if (default := at(resource.properties, "spec", "defaultBackend")) is not None:
        yield default
    for rule in each(resource.properties, "spec", "rules"):
        for path in each(rule, "http", "paths"):
            yield at(path, "backend")
