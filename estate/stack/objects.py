"""Kubernetes objects of a stack, as declared in its state and as they are in the cluster."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from estate.core.console import EstateError
from estate.core.markdown import code
from estate.stack.model import Stack, ask, state_of

NO_SUCH_KIND = "doesn't have a resource type"
"""Part of kubectl's error message for an unknown kind."""


@dataclass(frozen=True)
class Declared:
    """A Kubernetes object in the state."""

    type: str
    """Pulumi type: kubernetes:<group/version>:<kind>."""
    id: str
    """Pulumi id: <namespace>/<name>, or <name>."""
    inputs: dict[str, Any]

    @property
    def kind(self) -> str:
        return self.type.rpartition(":")[2]

    @property
    def key(self) -> tuple[str, str]:
        return self.kind, self.id

    @property
    def name(self) -> str:
        """Return the kind and name, as Markdown."""
        return f"{self.kind} {code(self.id.rpartition('/')[2])}"

    @property
    def namespace(self) -> str:
        return self.id.rpartition("/")[0]

    @property
    def within(self) -> list[str]:
        """Return kubectl's options for the object's namespace."""
        return [f"--namespace={self.namespace}"] if self.namespace else []


@dataclass(frozen=True)
class Objects:
    """Snapshot of the state, and of the cluster read after it."""

    declared: list[Declared]
    live: dict[tuple[str, str], dict[str, Any]]
    """Cluster objects of the same kinds in the same namespaces, by kind and id."""

    def live_of(self, declared: Declared) -> dict[str, Any] | None:
        """Return the object in the cluster; None if it does not exist."""
        return self.live.get(declared.key)


def objects_of(stack: Stack) -> Objects:
    """Return a stack's objects.

    Raises:
        EstateError: the state cannot be read, or the cluster does not answer.
    """
    declared = declared_in(state_of(stack))
    return Objects(declared, live_objects(stack, declared))


def declared_in(state: dict[str, Any]) -> list[Declared]:
    """Return the Kubernetes objects of a state, except external ones and those pending deletion."""
    kept = [one for one in state.get("resources", ()) if not one.get("delete") and not one.get("external")]
    found = [Declared(one["type"], one.get("id", ""), one.get("inputs", {})) for one in kept]
    return [one for one in found if one.type.startswith("kubernetes:")]


def live_objects(stack: Stack, objects: Iterable[Declared]) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the cluster's objects of the same kinds in the same namespaces, with one kubectl command for each namespace and each custom kind.

    Raises:
        EstateError: the cluster does not answer.
    """
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for _, group in groupby(sorted(objects, key=asked_with), key=asked_with):
        for live in live_alike(stack, list(group)):
            names = (live["metadata"].get("namespace"), live["metadata"]["name"])
            found[live["kind"], "/".join(filter(None, names))] = live
    return found


def asked_with(one: Declared) -> tuple[str, str]:
    """Return the key of the objects to request together: a custom kind is requested alone, since the cluster may no longer have it."""
    return one.namespace, "" if is_built_in(one.type) else one.type


def live_alike(stack: Stack, objects: Sequence[Declared]) -> list[dict[str, Any]]:
    """Return the cluster's objects of the same kinds in one namespace; an empty list for a custom kind that the cluster does not have.

    Raises:
        EstateError: the cluster does not answer.
    """
    kinds = ",".join(sorted({kubectl_kind(one.type) for one in objects}))
    try:
        answer = ask(stack, "get", kinds, "--output=json", "--show-managed-fields", *objects[0].within)
    except EstateError as error:
        if NO_SUCH_KIND in str(error) and not is_built_in(objects[0].type):
            return []
        raise
    return json.loads(answer)["items"]


def is_built_in(resource_type: str) -> bool:
    """Return whether a type is built into Kubernetes."""
    package, _, rest = resource_type.partition(":")
    group = rest.partition("/")[0]
    return package == "kubernetes" and "/" in rest and ("." not in group or group.endswith(".k8s.io"))


def kubectl_kind(resource_type: str) -> str:
    """Return kubectl's name of a resource's kind, with version and group, because names of kinds are not unique."""
    _, group_version, kind = resource_type.split(":")
    group, _, version = group_version.rpartition("/")
    return f"{kind}.{version}.{group.removeprefix('core')}".lower()
