"""Objects that were changed, added to or deleted in the cluster by hand are as declared after the next update."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.running import Kubectl, settle
from tests.stacks import make
from toolchain.stack import Stack

KEPT = {"Namespace", "PersistentVolumeClaim", "Job"}
"""Kinds that hold data, or have done their work and may be gone."""
EDITED = {"default-deny", "api-gateway", "user-service"}
"""Names of what is changed, and not deleted."""
OPENED: dict[str, Any] = {"spec": {"ingress": [{}], "egress": [{}]}}
SECRETS: dict[str, Any] = {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "list"]}
SUBJECT: dict[str, Any] = {"kind": "ServiceAccount", "name": "default", "namespace": "default"}
CONSUL: dict[str, Any] = {"service": {"name": "consul", "port": {"number": 8500}}}
RULE: dict[str, Any] = {
    "host": "consul.example.com",
    "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": CONSUL}]},
}
ADDED: dict[str, tuple[str, Any]] = {
    "networkpolicy/redis-from-user-service": ("/spec/ingress/-", {}),
    "networkpolicy/default-deny": ("/spec/ingress", [{}]),
    "role/prometheus": ("/rules/-", SECRETS),
    "rolebinding/prometheus": ("/subjects/-", SUBJECT),
    "ingress/api": ("/spec/rules/-", RULE),
    "service/user-service": ("/spec/ports/-", {"name": "added", "port": 9999, "protocol": "TCP"}),
    "configmap/gateway-routes": ("/data/added", "by hand"),
}
"""Objects, and what is added to each: by a JSON Pointer."""
DECLARED = {"spec", "rules", "subjects", "data"}
"""What an object has of the program's, but for its metadata."""


def declared(stack: Stack) -> list[str]:
    """Return what kubectl calls each object in the stack's namespace that its state has and that may be deleted here."""
    exported = json.loads(stack.pulumi("stack", "export", "--stack", stack.name).stdout)
    found: list[str] = []
    for resource in exported["deployment"]["resources"]:
        kind, metadata = resource["type"].rpartition(":")[2], resource.get("inputs", {}).get("metadata", {})
        in_namespace = resource["type"].startswith("kubernetes:") and "namespace" in metadata
        if in_namespace and kind not in KEPT and metadata["name"] not in EDITED:
            found.append(f"{kind.lower()}/{metadata['name']}")
    return found


@pytest.fixture
def repaired(stack: Stack, kubectl: Kubectl) -> Iterator[None]:
    """Leave the estate whole, whatever the test has found."""
    yield
    make("up", stack.name)
    settle(kubectl)


@pytest.mark.usefixtures("repaired")
@pytest.mark.timeout(600)
def test_an_update_puts_back_all_that_was_deleted_scaled_edited_or_opened(stack: Stack, kubectl: Kubectl) -> None:
    objects = declared(stack)
    assert len({name.partition("/")[0] for name in objects}) > 8
    kubectl("delete", "--wait=false", *objects)
    kubectl("scale", "deployment/api-gateway", "--replicas=1")
    kubectl("label", "--overwrite", "service/user-service", "app.kubernetes.io/part-of=another")
    kubectl("patch", "networkpolicy/default-deny", "--type=merge", "--patch", json.dumps(OPENED))

    done = make("up", stack.name)
    assert done.returncode == 0, done.stdout + done.stderr

    found = json.loads(kubectl("get", *declared(stack), "-o", "json"))[
        "items"
    ]  # some have another name, which Pulumi makes
    assert len(found) == len(objects)
    assert [each["metadata"]["name"] for each in found if "deletionTimestamp" in each["metadata"]] == []
    settle(kubectl)  # with what they were given: a token of an account that is gone is worth nothing
    replicas = kubectl("get", "deployment/api-gateway", "-o", "jsonpath={.spec.replicas}")
    assert int(replicas) == stack.settings.of("api-gateway").replicas
    assert (
        kubectl("get", "service/user-service", "-o", "jsonpath={.metadata.labels['app\\.kubernetes\\.io/part-of']}")
        == "estate"
    )
    spec = json.loads(kubectl("get", "networkpolicy/default-deny", "-o", "json"))["spec"]
    assert not spec.get("ingress")
    assert {} not in spec["egress"]
    watched = make("drift", stack.name)
    assert watched.returncode == 0, watched.stdout + watched.stderr


def contents(kubectl: Kubectl) -> dict[str, Any]:
    """Return what the program declares of the objects to which something is added."""
    found = {name: json.loads(kubectl("get", name, "-o", "json")) for name in ADDED}
    return {name: {key: live[key] for key in DECLARED & live.keys()} for name, live in found.items()}


@pytest.mark.usefixtures("repaired")
@pytest.mark.timeout(300)
def test_an_update_takes_out_what_was_added_to_what_the_program_declares(stack: Stack, kubectl: Kubectl) -> None:
    before = contents(kubectl)
    for name, (path, value) in ADDED.items():
        kubectl("patch", name, "--type=json", f"--patch={json.dumps([{'op': 'add', 'path': path, 'value': value}])}")
    added = contents(kubectl)
    assert [name for name in ADDED if added[name] == before[name]] == []
    names = [f"`{name.partition('/')[2]}`" for name in ADDED]

    watched = make("drift", stack.name)
    assert watched.returncode != 0
    assert [name for name in names if name not in watched.stdout] == []

    done = make("up", stack.name)
    assert done.returncode == 0, done.stdout + done.stderr
    assert contents(kubectl) == before
    assert [name for name in names if name not in done.stderr] == []
    watched = make("drift", stack.name)
    assert watched.returncode == 0, watched.stdout + watched.stderr
