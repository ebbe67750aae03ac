"""Find, and remove, additions in the cluster to lists and ConfigMaps that the program declares.

Pulumi does not detect them: its refresh compares only as many items of a list as the program declares, and only keys that it declares
(pruneLiveState and pruneSlice in pulumi-kubernetes, provider/pkg/provider/util.go, v4). The API server's defaults add keys to objects, never
items to lists, so an extra item is an addition. A field that the program does not declare and that has a field manager is an addition too:
defaults have none (https://kubernetes.io/docs/reference/using-api/server-side-apply/#field-management). Excluded are Secrets, whose inputs
are encrypted in the state; `metadata`, whose finalizers belong to controllers; fields that controllers set; and custom resources, whose
operators may fill in lists.
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, cast

from infra.stages import over
from toolchain.console import ToolchainError, report
from toolchain.deletion import held_by
from toolchain.events import SECRET, at
from toolchain.markdown import code
from toolchain.objects import Declared, Objects, is_built_in, kubectl_kind, objects_of
from toolchain.recovery import refuse_locked
from toolchain.stack import Stack, ask

EMPTY: dict[str, dict[str, Any]] = {
    "ConfigMap": {"data": {}, "binaryData": {}},
    "NetworkPolicy": {"spec": {"ingress": [], "egress": []}},
}
"""Fields that count as declared empty where the program omits them: the API server does not fill them with defaults."""
OWN_MANAGER = "estate"
"""Field manager of the values that the server sets in place of removed additions."""
KNOWN_MANAGER = re.compile(rf"{OWN_MANAGER}$|pulumi-kubernetes|kube-|.*(controller|operator)")
"""Field managers that are expected to set fields: the toolchain itself, Pulumi, Kubernetes' own programs, and the cluster's controllers."""
ALLOWING = ("NetworkPolicy", "Role", "RoleBinding", "Ingress")
"""Kinds with objects that grant access: an extra object allows what the others deny."""
SERVERS_OWN = ("metadata", "status")
DEFAULT_PROTOCOL = ("protocol", "TCP")
"""The only default within a value that is owned as a whole: the protocol of a NetworkPolicy's port."""
AUTOSCALED = ("spec", "replicas")
"""Field that is left to an autoscaler where the program does not declare it."""
IMMUTABLE = ("immutable",)
"""Path of the field that makes a ConfigMap unchangeable."""
NAMES = ("name", "host", "key")
"""Keys with the name of a list's item."""

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Addition:
    """A field, a list's item, or a ConfigMap's key that the program does not declare."""

    to: Declared
    path: Path
    name: str
    """Name of the item, if it has one; values are omitted."""

    def __str__(self) -> str:
        place = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in self.path).removeprefix(".")
        return f"{self.to.name}: {code(f'{place} {self.name}'.rstrip())} was added"


def additions(found: Objects) -> list[Addition]:
    """Return the additions in the cluster to the objects in a stack's state."""
    return [addition for one in readable(found.declared) for addition in added_to(one, found.live_of(one) or {})]


def foreign(found: Objects, namespace: str) -> list[str]:
    """Return a line for each object in a stack's namespace that grants access and is not declared by the program.

    What it allows adds to what the program allows. Objects with an owner reference are excluded: they belong to a controller.
    """
    known = {one.key for one in found.declared}
    return [
        f"{kind} {code(identity.rpartition('/')[2])} is none of the program's"
        for (kind, identity), live in sorted(found.live.items())
        if kind in ALLOWING
        and identity.startswith(f"{namespace}/")
        and (kind, identity) not in known
        and "ownerReferences" not in live["metadata"]
    ]


def deviations(found: Objects) -> list[str]:
    """Return a line for each of a stack's objects that is missing, being deleted, or has a different number of replicas, and for each addition."""
    objects = [one for one in found.declared if one.kind != "Job"]  # a finished Job may be deleted
    wrong = [deviation for one in objects if (deviation := off(one, found.live_of(one)))]
    return [*wrong, *leaving(found), *map(str, additions(found))]


def leaving(found: Objects) -> list[str]:
    """Return a line for each of a stack's objects that is being deleted, with the reason that it is still there."""
    held = ((one, held_by(found.live_of(one) or {})) for one in found.declared)
    return [f"{one.name} is being deleted, and {reason}" for one, reason in held if reason]


def off(declared: Declared, live: dict[str, Any] | None) -> str | None:
    """Return how an object deviates from its declaration; None if it exists with its declared replicas."""
    if live is None:
        return f"{declared.name} is missing"
    wanted, there = (at(one, "spec.replicas") for one in (declared.inputs, live))
    return (
        f"{declared.name} has {there} replicas, and {wanted} are declared"
        if wanted is not None and wanted != there
        else None
    )


def readable(objects: Iterable[Declared]) -> list[Declared]:
    """Return the objects of built-in kinds with readable inputs."""
    return [one for one in objects if is_built_in(one.type) and one.kind != "Secret"]


def added_to(declared: Declared, live: dict[str, Any]) -> list[Addition]:
    """Return the additions to a live object."""
    inputs = over(
        EMPTY.get(declared.kind, {}), {key: declared.inputs[key] for key in declared.inputs.keys() - {"metadata"}}
    )
    paths = {*items_added(inputs, live, ())}
    for entry in live.get("metadata", {}).get("managedFields", ()):
        if not KNOWN_MANAGER.match(entry["manager"]) and not entry.get("subresource"):
            paths.update(fields_added(inputs, live, entry.get("fieldsV1", {}), ()))
    paths.discard(AUTOSCALED)
    if declared.kind == "ConfigMap":
        paths |= {
            (table, key)
            for table in EMPTY["ConfigMap"]
            if SECRET not in inputs[table]
            for key in live.get(table, {}).keys() - inputs[table].keys()
        }
    return [Addition(declared, path, name_at(live, path)) for path in sorted(paths, key=str)]


def items_added(declared: Any, live: Any, path: Path) -> Iterator[Path]:
    """Yield the path of each item of a live list that is not declared."""
    if isinstance(declared, dict) and isinstance(live, dict) and SECRET not in declared:
        known, there = cast("dict[str, Any]", declared), cast("dict[str, Any]", live)
        for key in known.keys() & there.keys():
            yield from items_added(known[key], there[key], (*path, key))
    elif isinstance(declared, list) and isinstance(live, list):
        wanted, found = cast("list[Any]", declared), cast("list[Any]", live)
        places = matched(wanted, found)
        for item, place in zip(wanted, places, strict=False):
            yield from items_added(item, found[place], (*path, place))
        yield from ((*path, place) for place in places[len(wanted) :])


def fields_added(declared: Any, live: Any, owned: dict[str, Any], path: Path) -> Iterator[Path]:
    """Yield the path of each field that has a field manager and that the program does not declare; `items_added` covers items of lists.

    Args:
        declared: the value that the program declares.
        live: the value in the cluster.
        owned: the fields by their names in managedFields: `f:<key>` for an object's key, `k:<keys and values>` for a list's item; empty if
            the value is owned as a whole.
        path: the path of the value.
    """
    if not owned:
        yield from keys_added(declared, live, path)
    for step, below in owned.items():
        kind, _, name = step.partition(":")
        if kind == "f" and isinstance(declared, dict) and isinstance(live, dict) and name not in SERVERS_OWN:
            known, there = cast("dict[str, Any]", declared), cast("dict[str, Any]", live)
            if name in known and name in there:
                yield from fields_added(known[name], there[name], below, (*path, name))
            elif name in there and SECRET not in known:
                yield (*path, name)
        elif kind == "k" and isinstance(declared, list) and isinstance(live, list):
            for index, item in enumerate(cast("list[Any]", live)):
                if is_of(json.loads(name), item):
                    wanted = next((one for one in cast("list[Any]", declared) if is_of(one, item)), None)
                    yield from fields_added(wanted, item, below, (*path, index))


def keys_added(declared: Any, live: Any, path: Path) -> Iterator[Path]:
    """Yield the path of each key of a live object that is neither declared nor a default of the API server."""
    if isinstance(declared, dict) and isinstance(live, dict) and SECRET not in declared:
        known = cast("dict[str, Any]", declared)
        for key, value in cast("dict[str, Any]", live).items():
            if key in known:
                yield from keys_added(known[key], value, (*path, key))
            elif (key, value) != DEFAULT_PROTOCOL:
                yield (*path, key)
    elif isinstance(declared, list) and isinstance(live, list):
        wanted, found = cast("list[Any]", declared), cast("list[Any]", live)
        for item, place in zip(wanted, matched(wanted, found), strict=False):
            yield from keys_added(item, found[place], (*path, place))


def matched(declared: list[Any], live: list[Any]) -> list[int]:
    """Return the live list's indices: first those of the declared items, in their order, then those of the extra items.

    A declared item that was changed, and so is not found, is matched with one of the remaining items: Pulumi restores it.
    """
    free = list(range(len(live)))
    places: dict[int, int] = {}
    for index, item in enumerate(declared):
        alike = [place for place in free if is_of(item, live[place])]
        if alike:
            places[index] = index if index in alike else alike[0]
            free.remove(places[index])
    for index in range(min(len(declared), len(live))):
        if index not in places and free:
            places[index] = free.pop(0)
    return [places[index] for index in sorted(places)] + free


def is_of(declared: Any, live: Any) -> bool:
    """Return whether a live value is the declared one: by its name, or if it contains all that is declared (the server adds defaults)."""
    if isinstance(declared, dict) and isinstance(live, dict):
        known, there = cast("dict[str, Any]", declared), cast("dict[str, Any]", live)
        if "name" in known:
            return known["name"] == there.get("name")
        return SECRET in known or all(
            is_of(value, there[key]) if key in there else not value for key, value in known.items()
        )
    if isinstance(declared, list) and isinstance(live, list):
        wanted, found = cast("list[Any]", declared), cast("list[Any]", live)
        return len(wanted) <= len(found) and all(map(is_of, wanted, found))
    return declared == live


def name_at(live: Any, path: Path) -> str:
    """Return the name of the item at a path; empty if it has none."""
    for step in path:
        live = live[step]
    item = cast("dict[str, Any]", live) if isinstance(live, dict) else {}
    return next((str(item[key]) for key in NAMES if key in item), "")


def take_out_additions(stack: Stack, before: Objects) -> None:
    """Remove additions from the cluster, and report each: the update itself would leave them in place.

    Args:
        stack: the stack to update.
        before: the stack's objects.

    Raises:
        ToolchainError: the state cannot be read, the cluster does not answer, or an update of the stack is in progress (the state lacks its
            objects until it ends).
    """
    if not additions(before):
        return
    refuse_locked(stack)
    there = additions(objects_of(stack))  # an update may have ended meanwhile
    failed: list[str] = []
    for declared, group in groupby(there, key=lambda one: one.to):
        found = list(group)
        for addition in found:
            report(f"  {addition} outside of an update that ended: it is taken out")
        try:
            take_out(stack, declared, found)
        except ToolchainError as error:
            failed.append(f"{declared.name}: {error}")
    if failed:
        raise ToolchainError("not everything could be taken out, and nothing else was changed:\n" + "\n".join(failed))


def take_out(stack: Stack, declared: Declared, found: Sequence[Addition]) -> None:
    """Take additions out of one object.

    Raises:
        ToolchainError: the cluster refuses it, or does not answer.
    """
    what = [kubectl_kind(declared.type), declared.id.rpartition("/")[2], *declared.within]
    if any(addition.path == IMMUTABLE for addition in found):
        # There is no other way back (https://kubernetes.io/docs/concepts/configuration/configmap/#configmap-immutable); the update makes it again.
        ask(stack, "delete", *what, "--wait=false")
    else:
        patch = f"--patch={json.dumps(removal(found))}"
        ask(stack, "patch", *what, "--type=json", patch, f"--field-manager={OWN_MANAGER}")


def removal(found: Iterable[Addition]) -> list[dict[str, str]]:
    """Return the JSON patch that removes additions to one object: from each list the last item first, because indices shift."""
    # Two paths first differ at a key or an index of the same object or list.
    return [{"op": "remove", "path": pointer(path)} for path in sorted((one.path for one in found), reverse=True)]


def pointer(path: Path) -> str:
    """Return a path as a JSON Pointer (RFC 6901)."""
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in path)
