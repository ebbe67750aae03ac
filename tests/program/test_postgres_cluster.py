"""Resources of the highly available Postgres."""

import json
from typing import Any

import pytest
from cryptography import x509

from estate.pulumi.program import CANARY, Registered, run_program
from infra.postgres import Postgres
from tests.program.test_network_policies import Labels, chosen
from tests.program.test_program import kind, one

PODS: dict[str, Labels] = {
    "postgres": {"cnpg.io/cluster": "postgres", "app.kubernetes.io/name": "postgres"},
    "operator": {"app.kubernetes.io/name": "cloudnative-pg"},
    "stranger": {"app.kubernetes.io/name": "stranger"},
}


@pytest.fixture
def prod() -> list[Registered]:
    return run_program("prod")


@pytest.fixture
def cluster(prod: list[Registered]) -> dict[str, Any]:
    (cluster,) = [resource.inputs for resource in prod if kind(resource) == "Cluster"]
    return cluster


def secret(prod: list[Registered], name: str) -> dict[str, Any]:
    return one(prod, "Secret", name).inputs


def test_an_acknowledged_write_is_on_two_instances_and_one_of_them_is_promoted(cluster: dict[str, Any]) -> None:
    assert cluster["spec"]["instances"] == 3
    assert cluster["spec"]["postgresql"]["synchronous"] == {"method": "any", "number": 1, "dataDurability": "required"}
    assert cluster["metadata"]["annotations"]["alpha.cnpg.io/failoverQuorum"] == "true"


def test_it_is_waited_for(cluster: dict[str, Any]) -> None:
    assert cluster["metadata"]["annotations"]["pulumi.com/waitFor"] == "condition=Ready"


def test_its_pods_are_those_that_the_services_flows_lead_to(cluster: dict[str, Any]) -> None:
    labels = cluster["spec"]["inheritedMetadata"]["labels"]
    assert labels["app.kubernetes.io/name"] == Postgres.endpoint.name
    assert cluster["metadata"]["name"] == PODS["postgres"]["cnpg.io/cluster"]


def test_every_instance_has_requests_and_limits(cluster: dict[str, Any]) -> None:
    for bound in ("requests", "limits"):
        assert set(cluster["spec"]["resources"][bound]) == {"cpu", "memory", "ephemeral-storage"}


def test_passwords_and_keys_are_in_secrets_alone_that_the_cluster_follows(
    prod: list[Registered], cluster: dict[str, Any]
) -> None:
    spec = cluster["spec"]
    named = {
        "postgres-owner": spec["bootstrap"]["initdb"]["secret"]["name"],
        "postgres-admin": spec["superuserSecret"]["name"],
        "postgres-server": spec["certificates"]["serverTLSSecret"],
    }
    for name, used in named.items():
        found = secret(prod, name)
        assert found["metadata"]["name"] == used
        assert found["metadata"]["labels"]["cnpg.io/reload"] == "true"
    assert CANARY not in json.dumps(cluster)


def test_it_speaks_tls_alone_and_its_certificate_is_one_that_its_clients_trust(
    prod: list[Registered], cluster: dict[str, Any]
) -> None:
    assert "hostnossl all all all reject" in cluster["spec"]["postgresql"]["pg_hba"]
    content = secret(prod, "postgres-server")["stringData"]["value"]
    server = x509.load_pem_x509_certificate(content["tls.crt"].encode())
    server.verify_directly_issued_by(x509.load_pem_x509_certificate(content["ca.crt"].encode()))
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "postgres-rw" in names.get_values_for_type(x509.DNSName)


def peers(rule: dict[str, Any], direction: str) -> list[str]:
    """Return the peers that a policy's rule names."""
    outside = [peer["ipBlock"]["cidr"] for peer in rule[direction] if "ipBlock" in peer]
    return outside + [
        name for peer in rule[direction] if "podSelector" in peer for name in chosen(peer["podSelector"], PODS)
    ]


def test_its_instances_talk_with_each_other_the_operator_and_the_api_server_alone(
    prod: list[Registered],
) -> None:
    entering, leaving = set[tuple[str, str, int]](), set[tuple[str, str, int]]()
    for policy in prod:
        spec = policy.inputs.get("spec", {})
        if kind(policy) != "NetworkPolicy" or "cnpg.io/cluster" not in spec["podSelector"].get("matchLabels", {}):
            continue
        assert chosen(spec["podSelector"], PODS) == ["postgres"]
        for rule in spec.get("ingress", []):
            entering |= {(peer, "postgres", port["port"]) for peer in peers(rule, "from") for port in rule["ports"]}
        for rule in spec.get("egress", []):
            leaving |= {("postgres", peer, port["port"]) for peer in peers(rule, "to") for port in rule["ports"]}
    each_other = {("postgres", "postgres", 5432), ("postgres", "postgres", 8000)}
    assert entering == each_other | {("operator", "postgres", 8000)}
    assert leaving == each_other | {("postgres", "10.213.0.1/32", 6443)}
