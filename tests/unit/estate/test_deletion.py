"""Objects whose deletion does not complete are reported with their finalizers, and end the wait of an update."""

import json
import time
from typing import Any, cast

import pytest

from estate.core.console import EstateError
from estate.reconcile.additions import leaving
from estate.reconcile.deletion import PATIENCE_S, Deletions, deleted_by, held_by
from estate.stack import objects
from estate.stack.model import Stack
from estate.stack.objects import Declared, Objects, declared_in

SERVICE: dict[str, Any] = {"type": "kubernetes:core/v1:Service", "id": "estate-local/orders", "inputs": {}}
NAMESPACE: dict[str, Any] = {"type": "kubernetes:core/v1:Namespace", "id": "estate-local", "inputs": {}}
CUSTOM: dict[str, Any] = {
    "type": "kubernetes:postgresql.cnpg.io/v1:Cluster",
    "id": "estate-local/postgres",
    "inputs": {},
}
NO_KIND = 'error: the server doesn\'t have a resource type "cluster"'


def service(*finalizers: str, leaves: bool = True, **metadata: Any) -> dict[str, Any]:
    own: dict[str, Any] = {"name": "orders", "namespace": "estate-local", "finalizers": list(finalizers)} | metadata
    return {"kind": "Service", "metadata": own | ({"deletionTimestamp": "2026-01-01T00:00:00Z"} if leaves else {})}


class Cluster:
    """A clock, a state, and a cluster that has some objects and no custom kind."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.items, self.answers = 0.0, list[dict[str, Any]](), True
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        monkeypatch.setattr(objects, "ask", self.ask)
        self.deletions = Deletions(cast("Stack", None), declared_in({"resources": [SERVICE, NAMESPACE, CUSTOM]}))

    def ask(self, _stack: Stack, *words: str) -> str:
        if not self.answers:
            raise EstateError("it does not answer")
        if "cnpg" in words[1]:
            raise EstateError(NO_KIND)
        namespaced = any(word.startswith("--namespace") for word in words)
        return json.dumps({"items": [one for one in self.items if ("namespace" in one["metadata"]) == namespaced]})

    def after(self, seconds: float, *there: dict[str, Any]) -> str | None:
        self.now, self.items = self.now + seconds, list(there)
        return self.deletions.hopeless()


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    return Cluster(monkeypatch)


def test_what_is_held_has_its_time_and_is_named_with_what_holds_it(cluster: Cluster) -> None:
    assert cluster.after(0, service("example.com/held")) is None
    assert cluster.after(PATIENCE_S - 1, service("example.com/held")) is None
    said = cluster.after(1, service("example.com/held"))
    assert said
    assert "Service orders was deleted, and is still there after 120 s: it is held by" in said
    assert "example.com/held" in said
    assert "kubectl edit service/orders" in said


def test_what_goes_meanwhile_or_stays_is_waited_for(cluster: Cluster) -> None:
    assert cluster.after(0, service("example.com/held")) is None
    assert cluster.after(PATIENCE_S) is None
    assert cluster.after(0, service("example.com/held")) is None  # another object of the same name
    assert cluster.after(PATIENCE_S - 1, service("example.com/held", leaves=False)) is None


def test_a_cluster_that_does_not_answer_ends_no_wait(cluster: Cluster) -> None:
    cluster.after(0, service("example.com/held"))
    cluster.answers = False
    assert cluster.after(PATIENCE_S) is None


def test_another_stacks_object_is_none_of_this_one(cluster: Cluster) -> None:
    for seconds in (0, PATIENCE_S):
        assert cluster.after(seconds, service("example.com/held", name="another")) is None


def test_a_namespace_says_which_content_holds_it(cluster: Cluster) -> None:
    conditions = [
        {"type": "NamespaceContentRemaining", "status": "True", "message": "Some resources are remaining: pods."},
        {"type": "NamespaceDeletionDiscoveryFailure", "status": "False", "message": "All is discovered"},
    ]
    metadata = {"name": "estate-local", "deletionTimestamp": "2026-01-01T00:00:00Z"}
    namespace = {"kind": "Namespace", "metadata": metadata, "status": {"conditions": conditions}}
    cluster.after(0, namespace)
    said = cluster.after(PATIENCE_S, namespace)
    assert said
    assert said.endswith("waits for its content: Some resources are remaining: pods.")


def test_an_update_that_has_nothing_to_do_names_what_leaves() -> None:
    declared = Declared("kubernetes:core/v1:Service", "estate-local/orders", {})
    assert leaving(Objects([declared], {declared.key: service("a.b/c")}))[0].startswith(
        "Service `orders` is being deleted, and is held by a.b/c"
    )
    assert leaving(Objects([declared], {declared.key: service("a.b/c", leaves=False)})) == []
    assert leaving(Objects([declared], {})) == []
    assert held_by(service()) == "waits for the cluster"


def test_an_update_waits_for_what_it_deletes_and_for_nothing_else() -> None:
    def step(op: str, name: str, kind: str = "kubernetes:core/v1:Service") -> dict[str, Any]:
        old = None if op == "create" else {"type": kind, "id": f"estate-local/{name}"}
        return {"resourcePreEvent": {"metadata": {"op": op, "type": kind, "urn": name, "old": old}}}

    reported: list[dict[str, Any]] = [
        *(step(op, op) for op in ("create", "same", "update", "refresh", "delete", "replace", "delete-replaced")),
        step("delete", "image", "docker-build:index:Image"),
        {"summaryEvent": {}},
    ]
    assert [one.id.rpartition("/")[2] for one in deleted_by(reported)] == ["delete", "replace", "delete-replaced"]
