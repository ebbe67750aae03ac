"""What is changed or deleted in the cluster by hand is as declared after the next update."""

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


def declared(stack: Stack) -> dict[str, str]:
    """Return what kubectl calls one object of each kind that the stack's state has in its namespace."""
    exported = json.loads(stack.pulumi("stack", "export", "--stack", stack.name).stdout)
    found: dict[str, str] = {}
    for resource in exported["deployment"]["resources"]:
        kind, metadata = resource["type"].rpartition(":")[2], resource.get("inputs", {}).get("metadata", {})
        if resource["type"].startswith("kubernetes:") and "namespace" in metadata and metadata["name"] not in EDITED:
            found.setdefault(kind, f"{kind.lower()}/{metadata['name']}")
    return {kind: name for kind, name in found.items() if kind not in KEPT}


@pytest.fixture
def repaired(stack: Stack, kubectl: Kubectl) -> Iterator[None]:
    """Leave the estate whole, whatever the test has found."""
    yield
    make("up", stack.name)
    settle(kubectl)


@pytest.mark.usefixtures("repaired")
@pytest.mark.timeout(600)
def test_an_update_puts_back_what_was_deleted_scaled_edited_or_opened(stack: Stack, kubectl: Kubectl) -> None:
    objects = declared(stack)
    assert len(objects) > 8
    kubectl("delete", "--wait=false", *objects.values())
    kubectl("scale", "deployment/api-gateway", "--replicas=1")
    kubectl("label", "--overwrite", "service/user-service", "app.kubernetes.io/part-of=another")
    kubectl("patch", "networkpolicy/default-deny", "--type=merge", "--patch", json.dumps(OPENED))

    done = make("up", stack.name)
    assert done.returncode == 0, done.stdout + done.stderr

    for name in declared(stack).values():  # some have another name, which Pulumi makes
        assert "deletionTimestamp" not in json.loads(kubectl("get", name, "-o", "json"))["metadata"], name
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
