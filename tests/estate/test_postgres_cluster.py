"""What the highly available Postgres is made of."""

import json
from typing import Any

import pulumi
import pytest

from infra.namespace import EstateNamespace
from infra.postgres import Postgres
from infra.postgres_cluster import ApiServer, PostgresCluster
from infra.web_service import Dependency
from tests.estate.test_network_policies import Connection, Labels, chosen
from tests.estate.test_program import kind
from toolchain.program import CANARY, Registered, against_mocks

PODS: dict[str, Labels] = {
    "postgres": {"cnpg.io/cluster": "postgres", "app.kubernetes.io/name": "postgres"},
    "operator": {"app.kubernetes.io/name": "cloudnative-pg"},
    "stranger": {"app.kubernetes.io/name": "stranger"},
}


@pytest.fixture(scope="module")
def made() -> tuple[PostgresCluster, list[Registered]]:
    """The component, and every resource that it registers."""
    made: list[PostgresCluster] = []

    def program() -> None:
        password = pulumi.Output.secret(CANARY)
        made.append(
            PostgresCluster("image:15", 3, "1Gi", password, ApiServer(["192.0.2.1/32"]), EstateNamespace("estate-try"))
        )

    registered = against_mocks(program, "estate", "try")
    return made[0], registered


@pytest.fixture
def cluster(made: tuple[PostgresCluster, list[Registered]]) -> dict[str, Any]:
    (cluster,) = [resource.inputs for resource in made[1] if kind(resource) == "Cluster"]
    return cluster


def test_services_need_it_as_they_need_the_other_postgres(made: tuple[PostgresCluster, list[Registered]]) -> None:
    database: Dependency = made[0]
    assert database.endpoint == Postgres.endpoint
    assert database.environment["APP_DATABASE_HOST"] == "postgres-rw"
    assert set(database.secrets) == {"database-password"}


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
        assert set(cluster["spec"]["resources"][bound]) == {"cpu", "memory"}


def test_the_owners_password_is_in_a_secret_alone_that_the_cluster_follows(
    made: tuple[PostgresCluster, list[Registered]], cluster: dict[str, Any]
) -> None:
    (secret,) = [resource.inputs for resource in made[1] if kind(resource) == "Secret"]
    assert secret["stringData"]["value"] == {"username": "myuser", "password": CANARY}
    assert secret["metadata"]["labels"]["cnpg.io/reload"] == "true"
    assert cluster["spec"]["bootstrap"]["initdb"]["secret"]["name"] == secret["metadata"]["name"]
    assert CANARY not in json.dumps(cluster)


def peers(rule: dict[str, Any], direction: str) -> list[str]:
    """Whom a rule of a policy names."""
    outside = [peer["ipBlock"]["cidr"] for peer in rule[direction] if "ipBlock" in peer]
    return outside + [
        name for peer in rule[direction] if "podSelector" in peer for name in chosen(peer["podSelector"], PODS)
    ]


def test_its_instances_talk_with_each_other_the_operator_and_the_api_server_alone(
    made: tuple[PostgresCluster, list[Registered]],
) -> None:
    entering, leaving = set[Connection](), set[Connection]()
    for policy in made[1]:
        if kind(policy) != "NetworkPolicy" or policy.name == "default-deny":
            continue
        spec = policy.inputs["spec"]
        assert chosen(spec["podSelector"], PODS) == ["postgres"]
        for rule in spec.get("ingress", []):
            entering |= {(peer, "postgres", port["port"]) for peer in peers(rule, "from") for port in rule["ports"]}
        for rule in spec.get("egress", []):
            leaving |= {("postgres", peer, port["port"]) for peer in peers(rule, "to") for port in rule["ports"]}
    each_other = {("postgres", "postgres", 5432), ("postgres", "postgres", 8000)}
    assert entering == each_other | {("operator", "postgres", 8000)}
    assert leaving == each_other | {("postgres", "192.0.2.1/32", 6443)}
