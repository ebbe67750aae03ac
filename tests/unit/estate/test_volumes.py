"""Sizes that the claims of a stack cannot have are refused before any change."""

import json
from typing import Any

import pytest

from estate.core.console import EstateError
from estate.ops import volumes
from estate.ops.volumes import CLUSTER, MEMBER_OF
from estate.pulumi.events import CLAIM

REFUSED = 'the cluster does not answer: Error from server (Forbidden): persistentvolumeclaims "{}" is forbidden: only some can be resized'


def claim(name: str, size: str, capacity: str = "2Gi", cluster: str = "") -> dict[str, Any]:
    """Return a claim as the cluster has it; without a capacity where it has no volume."""
    status = {"phase": "Bound", "capacity": {"storage": capacity}} if capacity else {"phase": "Pending"}
    labels = {"labels": {MEMBER_OF: cluster}} if cluster else {}
    spec = {"resources": {"requests": {"storage": size}}}
    return {"metadata": {"name": name} | labels, "spec": spec, "status": status}


class Cluster:
    """A cluster whose storage class lets no volume grow."""

    name, namespace = "local", "estate-local"

    def __init__(self, *claims: dict[str, Any]) -> None:
        self.claims = claims
        self.tried: list[str] = []

    def ask(self, _stack: object, *words: str) -> str:
        if words[0] == "get":
            return json.dumps({"items": self.claims})
        assert "--dry-run=server" in words
        self.tried.append(words[2])
        raise EstateError(REFUSED.format(words[2]))


def step(kind: str, name: str, size: str) -> dict[str, Any]:
    """Return a preview's event for a claim, or for a database of CloudNativePG."""
    spec = {"storage": {"size": size}} if kind == CLUSTER else {"resources": {"requests": {"storage": size}}}
    new = {"inputs": {"metadata": {"name": name}, "spec": spec}}
    return {"resourcePreEvent": {"metadata": {"op": "update", "type": kind, "urn": name, "new": new}}}


@pytest.fixture
def cluster(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    made = Cluster(*request.param)
    monkeypatch.setattr(volumes, "ask", made.ask)
    return made


@pytest.mark.parametrize("cluster", [[claim("data-postgres-0", "2Gi"), claim("data-consul-0", "256Mi")]], indirect=True)
def test_a_size_that_the_cluster_refuses_is_named_by_its_claim_with_the_reason(cluster: Cluster) -> None:
    reported = [
        step(CLAIM, "data-postgres-0", "3Gi"),
        step(CLAIM, "data-consul-0", "256Mi"),
        step(CLAIM, "data-prometheus-0", "9Gi"),  # which does not exist yet
    ]
    with pytest.raises(EstateError, match=r"  data-postgres-0 2Gi → 3Gi: is forbidden: only some can .*\nGive"):
        volumes.refuse_sizes(cluster, reported)  # pyright: ignore[reportArgumentType]
    assert cluster.tried == ["data-postgres-0"]


@pytest.mark.parametrize(
    "cluster", [[claim(f"postgres-{number}", "2Gi", cluster="postgres") for number in (1, 4)]], indirect=True
)
def test_so_is_that_of_each_instance_of_a_replicated_database(cluster: Cluster) -> None:
    with pytest.raises(EstateError, match=r"postgres-1 2Gi → 3Gi: .*\n  postgres-4 2Gi → 3Gi: "):
        volumes.refuse_sizes(cluster, [step(CLUSTER, "postgres", "3Gi")])  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("cluster", [[claim("postgres-backup", "2Gi", capacity="")]], indirect=True)
def test_a_claim_without_a_volume_can_be_deleted(cluster: Cluster) -> None:
    with pytest.raises(EstateError, match="kubectl delete pvc/postgres-backup --namespace=estate-local"):
        volumes.refuse_sizes(cluster, [step(CLAIM, "postgres-backup", "3Gi")])  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("kind", "cluster"),
    [(CLAIM, [claim("postgres", "2Gi")]), (CLUSTER, [claim("postgres-1", "2Gi", cluster="postgres")])],
    indirect=["cluster"],
)
def test_a_size_that_stays_is_not_asked_about(kind: str, cluster: Cluster) -> None:
    volumes.refuse_sizes(cluster, [step(kind, "postgres", "2Gi"), {"summaryEvent": {}}])  # pyright: ignore[reportArgumentType]
    assert cluster.tried == []


@pytest.mark.parametrize(
    "cluster",
    [
        [
            claim("small", "3Gi", capacity="2Gi"),
            claim("grown", "2Gi", capacity="2048Mi"),
            claim("larger", "1Gi", capacity="2Gi"),
            claim("without", "1Gi", capacity=""),
        ]
    ],
    indirect=True,
)
def test_volumes_that_have_yet_to_grow_are_named(cluster: Cluster) -> None:
    (line,) = volumes.growing(cluster)  # pyright: ignore[reportArgumentType]
    assert line.startswith("the volume of small has 2Gi of 3Gi: ")
