"""Objects that were changed, extended or deleted in the cluster by hand are as declared after the next update."""

import json
import random
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal, cast

import pytest

from estate.reconcile.additions import NAMES, Path, claimed, pointer, readable
from estate.stack.model import Stack, state_of
from estate.stack.objects import Declared, declared_in, objects_of
from tests.support.running import Kubectl, settle
from tests.support.stacks import estate

KEPT = {"Namespace", "PersistentVolumeClaim", "Job"}
"""Kinds that hold data, or that have done their work and may be gone."""
EDITED = {"default-deny", "api-gateway", "user-service"}
"""Names of objects that are changed and not deleted."""
OPENED: dict[str, Any] = {"spec": {"ingress": [{}], "egress": [{}]}}
SECRETS: dict[str, Any] = {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "list"]}
SUBJECT: dict[str, Any] = {"kind": "ServiceAccount", "name": "default", "namespace": "default"}
CONSUL: dict[str, Any] = {"service": {"name": "consul", "port": {"number": 8500}}}
RULE: dict[str, Any] = {
    "host": "consul.example.com",
    "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": CONSUL}]},
}
DECLARED = {"spec", "rules", "subjects", "data", "automountServiceAccountToken", "imagePullSecrets"}
"""Fields of an object that the program declares, without its metadata."""
BY_HAND = "made-by-hand"
OF_POD: dict[str, Any] = {
    "/hostNetwork": True,
    "/hostPID": True,
    "/shareProcessNamespace": True,
    "/containers/0/stdin": True,
    "/containers/0/securityContext/privileged": True,
}
OPENED_FIELDS: dict[str, tuple[str, dict[str, Any]]] = {
    "Deployment": ("/spec/template/spec", OF_POD),
    "StatefulSet": ("/spec/template/spec", OF_POD),
    "DaemonSet": ("/spec/template/spec", OF_POD),
    "CronJob": ("/spec/jobTemplate/spec/template/spec", OF_POD),
    "Service": ("/spec", {"/externalIPs": ["203.0.113.9"], "/publishNotReadyAddresses": True}),
    "ServiceAccount": ("", {"/imagePullSecrets": [{"name": "x"}]}),
    "NetworkPolicy": ("/spec/ingress/0/from/0", {"/namespaceSelector": {}}),
    "Ingress": ("/spec", {"/defaultBackend": CONSUL}),
    "PodDisruptionBudget": ("/spec", {"/unhealthyPodEvictionPolicy": "AlwaysAllow"}),
}
"""A path and fields there that would widen access, by kind."""


def declared(stack: Stack) -> list[str]:
    """Return the kubectl names of the objects in the stack's namespace that are in its state and may be deleted here."""
    exported = json.loads(stack.pulumi("stack", "export", "--stack", stack.name).stdout)
    found: list[str] = []
    for resource in exported["deployment"]["resources"]:
        kind, metadata = resource["type"].rpartition(":")[2], resource.get("inputs", {}).get("metadata", {})
        in_namespace = resource["type"].startswith("kubernetes:") and "namespace" in metadata
        if in_namespace and kind not in KEPT and metadata["name"] not in EDITED:
            found.append(f"{kind.lower()}/{metadata['name']}")
    return found


@dataclass(frozen=True)
class Change:
    """A change of an object by hand: a JSON patch of one operation (RFC 6902)."""

    name: str
    """Kind and name, in kubectl's form."""
    op: Literal["add", "replace"]
    path: str
    value: Any

    def by(self, kubectl: Kubectl, *options: str) -> dict[str, Any]:
        """Make the change, and return the object."""
        patch = json.dumps([{"op": self.op, "path": self.path, "value": self.value}])
        return json.loads(kubectl("patch", self.name, "--type=json", f"--patch={patch}", "-o", "json", *options))


ADDED = [
    Change("networkpolicy/redis-from-user-service", "add", "/spec/ingress/-", {}),
    Change("networkpolicy/default-deny", "add", "/spec/ingress", [{}]),
    Change("role/prometheus", "add", "/rules/-", SECRETS),
    Change("rolebinding/prometheus", "add", "/subjects/-", SUBJECT),
    Change("ingress/api", "add", "/spec/rules/-", RULE),
    Change("service/user-service", "add", "/spec/ports/-", {"name": "added", "port": 9999, "protocol": "TCP"}),
    Change("configmap/gateway-routes", "add", "/data/added", "by hand"),
]
"""The most dangerous additions, which are always made."""
CONTAINER = "/spec/template/spec/containers/0"
REIDENTIFIED = [
    Change("service/redis", "replace", "/spec/ports/0/port", 6380),
    Change("service/postgres", "replace", "/spec/ports/0/protocol", "UDP"),
    Change("deployment/api-gateway", "replace", f"{CONTAINER}/ports/0/containerPort", 8099),
    Change("deployment/user-service", "replace", f"{CONTAINER}/env/0/name", "BY_HAND"),
    Change("statefulset/consul", "replace", f"{CONTAINER}/volumeMounts/0/mountPath", "/elsewhere"),
]
"""Edits of what identifies an item to the API server, which are always made: it takes the declared item for another one."""


@pytest.fixture
def repaired(stack: Stack, kubectl: Kubectl) -> Iterator[None]:
    """Leave the estate healthy, whatever the test has found."""
    yield
    kubectl("delete", "role", BY_HAND, "--ignore-not-found")
    estate("up", stack=stack.name)
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

    done = estate("up", stack=stack.name)
    assert done.returncode == 0, done.stdout + done.stderr

    found = json.loads(kubectl("get", *declared(stack), "-o", "json"))[
        "items"
    ]  # some have another name, which Pulumi generates
    assert len(found) == len(objects)
    assert [each["metadata"]["name"] for each in found if "deletionTimestamp" in each["metadata"]] == []
    settle(kubectl)  # with the tokens they were given: a token of a deleted account is worth nothing
    replicas = kubectl("get", "deployment/api-gateway", "-o", "jsonpath={.spec.replicas}")
    assert int(replicas) == stack.settings.of("api-gateway").replicas
    assert (
        kubectl("get", "service/user-service", "-o", "jsonpath={.metadata.labels['app\\.kubernetes\\.io/part-of']}")
        == "estate"
    )
    spec = json.loads(kubectl("get", "networkpolicy/default-deny", "-o", "json"))["spec"]
    assert not spec.get("ingress")
    assert {} not in spec["egress"]
    watched = estate("drift", stack=stack.name)
    assert watched.returncode == 0, watched.stdout + watched.stderr


def other(value: Any) -> Any:
    """Return another value of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, str):
        return value + "x"
    if isinstance(value, list):
        items = cast("list[Any]", value)
        return [other(items[0]), *items[1:]] if items else items
    named = [key for key in NAMES if key in value] or [*value][:1]
    return value | {key: other(value[key]) for key in named}


def parts(value: Any, path: Path = ()) -> Iterator[tuple[str, Any]]:
    """Yield every value nested in another, with its JSON Pointer."""
    yield pointer(path), value
    inner: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        inner = list(cast("dict[str, Any]", value).items())
    elif isinstance(value, list):
        inner = list(enumerate(cast("list[Any]", value)))
    for key, one in inner:
        yield from parts(one, (*path, key))


def edits(one: Declared, name: str) -> list[Change]:
    """Return changes of declared fields: another value for each, and another item for each list."""
    inside = {key: one.inputs[key] for key in one.inputs.keys() & DECLARED}
    found = [*parts(inside)]
    replaced = [Change(name, "replace", path, other(value)) for path, value in found if isinstance(value, str | int)]
    return replaced + [
        Change(name, "add", f"{path}/-", other(value[-1])) for path, value in found if isinstance(value, list) and value
    ]


def openings(one: Declared, name: str) -> list[Change]:
    """Return changes of fields that the program does not declare."""
    place, fields = OPENED_FIELDS.get(one.kind, ("", {}))
    known = dict(parts(one.inputs))
    return [Change(name, "add", place + key, value) for key, value in fields.items() if place + key not in known]


def accepted(changes: list[Change], kubectl: Kubectl) -> Change | None:
    """Return a change that the API server accepts and that alters a declared field; None where there is none."""
    for change in random.sample(changes, len(changes)):
        with suppress(AssertionError):  # the API server refuses it
            before = json.loads(kubectl("get", change.name, "-o", "json"))
            if specification(change.by(kubectl, "--dry-run=server")) != specification(before):
                return change
    return None


def specification(live: dict[str, Any]) -> dict[str, Any]:
    """Return the declared fields of a live object."""
    return {key: live[key] for key in DECLARED & live.keys()}


def chosen(stack: Stack, kubectl: Kubectl) -> list[Change]:
    """Choose an object of each kind, and for each an edited or added declared item, and a field that the program does not declare."""
    objects = [one for one in readable(declared_in(state_of(stack))) if one.kind not in KEPT]
    found = [*ADDED, *REIDENTIFIED]
    for kind in sorted({one.kind for one in objects}):
        for ways in (edits, openings):
            of_kind = [one for one in objects if one.kind == kind]
            one = random.choice(of_kind)  # noqa: S311
            changes = ways(one, f"{kind.lower()}/{one.id.rpartition('/')[2]}")
            if change := accepted(changes, kubectl):
                found.append(change)
    return found


@pytest.mark.usefixtures("repaired")
@pytest.mark.timeout(600)
def test_an_update_puts_back_what_was_edited_added_or_opened_of_every_kind(stack: Stack, kubectl: Kubectl) -> None:
    changes = chosen(stack, kubectl)
    print(*changes, sep="\n")
    kinds = {change.name.partition("/")[0] for change in changes}
    assert {"deployment", "statefulset", "service", "configmap", "role", "cronjob", "ingress", "networkpolicy"} <= kinds
    names = sorted({change.name for change in changes})
    before = {name: specification(json.loads(kubectl("get", name, "-o", "json"))) for name in names}
    for change in changes:
        with suppress(AssertionError):  # it conflicts with another one of the same object
            change.by(kubectl)
    kubectl("create", "role", BY_HAND, "--verb=get", "--resource=secrets")
    after = {name: specification(json.loads(kubectl("get", name, "-o", "json"))) for name in names}
    assert [name for name in names if after[name] == before[name]] == []

    watched = estate("drift", stack=stack.name)
    assert watched.returncode != 0
    assert f"Role `{BY_HAND}` is none of the program's" in watched.stdout
    kubectl("delete", "role", BY_HAND)
    said = [
        f"`{name.partition('/')[2].removeprefix(stack.namespace + '-')}`" for name in names
    ]  # as the program declares it
    assert [name for name in said if name not in watched.stdout] == []

    done = estate("up", stack=stack.name)
    assert done.returncode == 0, done.stdout + done.stderr
    for name in names:
        assert specification(json.loads(kubectl("get", name, "-o", "json"))) == before[name], name
    watched = estate("drift", stack=stack.name)
    assert watched.returncode == 0, watched.stdout + watched.stderr
    assert claimed(objects_of(stack)) == []
