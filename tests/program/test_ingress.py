"""Requirements of the Ingresses on their cluster."""

from functools import cache
from typing import Any

import pytest

from estate.cluster import layout
from estate.pulumi.program import Registered, run_program, run_with, settings_of
from infra.ingress import CONTROLLERS, console_host
from infra.settings.routes import Route
from tests.program.test_program import kind, one


@cache
def issued(class_name: str = "nginx") -> list[Registered]:
    """Return the resources of stack `local`, with consoles, in a cluster with cert-manager."""
    settings = settings_of("local")
    ingress = settings["ingress"] | {"issuer": "letsencrypt", "class_name": class_name}
    return run_with("local", settings | {"ingress": ingress})


def ingresses(resources: list[Registered]) -> dict[str, dict[str, Any]]:
    return {resource.name: resource.inputs for resource in resources if kind(resource) == "Ingress"}


def test_every_host_has_a_certificate_of_its_own_from_the_issuer() -> None:
    found = ingresses(issued())
    for ingress in found.values():
        assert ingress["metadata"]["annotations"]["cert-manager.io/cluster-issuer"] == "letsencrypt"
    secrets = {name: ingress["spec"]["tls"][0]["secretName"] for name, ingress in found.items()}
    assert secrets == {name: f"{name}-tls" for name in ("api", "consul", "prometheus", "alertmanager")}


def test_the_controller_reaches_the_pods_that_answer_challenges() -> None:
    spec = one(issued(), "NetworkPolicy", "acme-solver-from-ingress").inputs["spec"]
    assert spec["podSelector"]["matchLabels"] == {"acme.cert-manager.io/http01-solver": "true"}
    assert spec["ingress"] == [
        {"from": [{"ipBlock": {"cidr": "10.213.1.1/32"}}], "ports": [{"protocol": "TCP", "port": 8089}]}
    ]


def test_ingress_nginx_limits_nothing_that_the_gateway_allows() -> None:
    (api,) = [ingress for name, ingress in ingresses(issued()).items() if name == "api"]
    reported = {
        key.rpartition("/")[2]: value for key, value in api["metadata"]["annotations"].items() if "nginx" in key
    }
    assert (reported["proxy-body-size"], reported["proxy-request-buffering"]) == ("0", "off")
    longest_s = Route.model_json_schema()["properties"]["timeout_s"]["maximum"]
    assert min(int(reported["proxy-read-timeout"]), int(reported["proxy-send-timeout"])) > longest_s


@pytest.mark.parametrize(
    ("class_name", "annotation", "value"),
    [
        ("nginx", "nginx.ingress.kubernetes.io/ssl-redirect", "true"),
        ("traefik", "traefik.ingress.kubernetes.io/router.entrypoints", "websecure"),
        ("traefik", "traefik.ingress.kubernetes.io/router.tls", "true"),
    ],
)
def test_no_host_answers_in_plain_text(class_name: str, annotation: str, value: str) -> None:
    found = ingresses(issued(class_name))
    assert len(found) == 4
    for ingress in found.values():
        assert ingress["metadata"]["annotations"][annotation] == value


def routed(path: str) -> bool:
    """Return whether a path of the API's host reaches the gateway (IngressSpec: Exact, or Prefix by whole segments)."""
    (rule,) = ingresses(run_program("local"))["api"]["spec"]["rules"]
    return any(
        path == entry["path"] or (entry["pathType"] == "Prefix" and path.startswith(entry["path"].rstrip("/") + "/"))
        for entry in rule["http"]["paths"]
    )


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/docs",
        "/docs/docs.css",
        "/openapi.json",
        "/auth/token",
        "/health",
        "/health/details",
        "/api/v1/users",
        "/api/v1/users/1",
    ],
)
def test_what_a_client_may_ask_for_reaches_the_gateway(path: str) -> None:
    assert routed(path)


@pytest.mark.parametrize(
    "path",
    [
        *("/metrics", "/livez", "/readyz", "/health/details/x", "/health/", "/healthz", "/auth", "/auth/token/x"),
        *("/openapi.json/x", "/docsx", "/openapi/index", "/api", "/favicon.ico"),
    ],
)
def test_nothing_else_reaches_the_gateway(path: str) -> None:
    assert not routed(path)


@pytest.mark.parametrize(
    ("host", "console"),
    [
        ("api.example.com", "consul.example.com"),
        ("api-eu.example.com", "consul-eu.example.com"),
        ("shop.example.com", "consul-shop.example.com"),
    ],
)
def test_stacks_of_one_domain_have_consoles_of_their_own(host: str, console: str) -> None:
    assert console_host(host, "consul") == console


def test_elsewhere_nothing_is_asked_of_either() -> None:
    for ingress in ingresses(run_program("local")).values():
        foreign = {"cert-manager.io/cluster-issuer"}.union(*CONTROLLERS.values())
        assert not foreign & set(ingress["metadata"]["annotations"])
        assert "secretName" not in ingress["spec"]["tls"][0]
    assert "acme-solver-from-ingress" not in {resource.name for resource in run_program("local")}


@pytest.mark.parametrize("stack", ["local", "dev", "staging", "prod"])
def test_only_the_embedded_controller_is_believed(stack: str) -> None:
    # On the machine's network, it connects from the machine's end of each pod's link, which has the first address of all pods.
    assert settings_of(stack)["ingress"]["trusted"] == [f"{layout.PODS[1]}/32"]
