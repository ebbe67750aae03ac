"""Find, and remove, additions in the cluster to lists and ConfigMaps that the program declares.

Pulumi does not detect them: its refresh compares only as many items of a list as the program declares, and only keys that it declares
(pruneLiveState and pruneSlice in pulumi-kubernetes, provider/pkg/provider/util.go, v4). The API server's defaults add keys to objects, never
items to lists, so an extra item is an addition. A field that the program does not declare and that has a field manager is an addition too:
defaults have none (https://kubernetes.io/docs/reference/using-api/server-side-apply/#field-management). An item of a list with merge keys
(a port's number and protocol) whose key was edited is another item to the API server, which would keep it next to the declared one, or refuse
both: it is an addition in the place of the declared item. Excluded are Secrets, whose inputs
are encrypted in the state; `metadata`, whose finalizers belong to controllers; fields that controllers set; and custom resources, whose
operators may fill in lists.
"""

import copy
import json
import re
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import chain, repeat
from typing import Any, cast

from estate.core.console import EstateError, report
from estate.core.markdown import code
from estate.pulumi.events import SECRET, at
from estate.pulumi.recovery import refuse_locked
from estate.reconcile.deletion import held_by
from estate.stack.model import Stack, ask
from estate.stack.objects import Declared, Objects, is_built_in, kubectl_kind, objects_of
from infra.stages import over

EMPTY: dict[str, dict[str, Any]] = {
    "ConfigMap": {"data": {}, "binaryData": {}},
    "NetworkPolicy": {"spec": {"ingress": [], "egress": []}},
}
"""Fields that count as declared empty where the program omits them: the API server does not fill them with defaults."""
OWN_MANAGER = "estate"
"""Field manager of the values that replace additions."""
PULUMI = "pulumi-kubernetes"
"""Start of the name of the field manager with which Pulumi applies the program's objects."""
BEFORE_FIRST_APPLY = "before-first-apply"
"""Manager to which the API server attributes every field, defaults too, of an object without managedFields."""
KNOWN_MANAGER = re.compile(rf"{OWN_MANAGER}$|{BEFORE_FIRST_APPLY}$|{PULUMI}|kube-|.*(controller|operator)")
"""Field managers that are expected to set fields: this project, Pulumi, Kubernetes' own programs, and the cluster's controllers."""
ALLOWING = ("NetworkPolicy", "Role", "RoleBinding", "Ingress")
"""Kinds with objects that grant access: an extra object allows what the others deny."""
SERVERS_OWN = ("metadata", "status")
DEFAULT_PROTOCOL = ("protocol", "TCP")
"""The only default within a value that is owned as a whole, and the only one of a merge key: the protocol of a port."""
AUTOSCALED = ("spec", "replicas")
"""Field that is left to an autoscaler where the program does not declare it."""
IMMUTABLE = ("immutable",)
"""Path of the field that makes a ConfigMap unchangeable."""
TRIES = 10
"""Number of attempts to change an object's managedFields, a second apart; each fails if the object has changed since it was read."""
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
    instead: Any = None
    """The declared item of a list with merge keys whose place the addition has; None if there is none."""

    def __str__(self) -> str:
        place = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in self.path).removeprefix(".")
        replaces = "" if self.instead is None else " in the place of a declared item"
        return f"{self.to.name}: {code(f'{place} {self.name}'.rstrip())} was added{replaces}"


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
    entries = live.get("metadata", {}).get("managedFields", ())
    owned = reduce(over, (entry.get("fieldsV1", {}) for entry in entries), {})
    paths: dict[Path, Any] = dict(items_added(inputs, live, owned, ()))
    for entry in filter(is_by_hand, entries):
        paths.update((path, None) for path in fields_added(inputs, live, entry.get("fieldsV1", {}), ()))
    paths.pop(AUTOSCALED, None)
    if declared.kind == "ConfigMap":
        paths |= {
            (table, key): None
            for table in EMPTY["ConfigMap"]
            if SECRET not in inputs[table]
            for key in live.get(table, {}).keys() - inputs[table].keys()
        }
    return [Addition(declared, path, name_at(live, path), paths[path]) for path in sorted(paths, key=str)]


def is_by_hand(entry: dict[str, Any]) -> bool:
    """Return whether an entry of managedFields belongs to a manager that is not expected to set fields."""
    return not KNOWN_MANAGER.match(entry["manager"]) and not entry.get("subresource")


def items_added(declared: Any, live: Any, owned: dict[str, Any], path: Path) -> Iterator[tuple[Path, Any]]:
    """Yield the path of each item of a live list that is not declared, and the declared item in whose place it is, if any.

    Args:
        declared: the value that the program declares.
        live: the value in the cluster.
        owned: the fields of the value in managedFields, of all managers.
        path: the path of the value.
    """
    if isinstance(declared, dict) and isinstance(live, dict) and SECRET not in declared:
        known, there = cast("dict[str, Any]", declared), cast("dict[str, Any]", live)
        for key in known.keys() & there.keys():
            yield from items_added(known[key], there[key], owned.get(f"f:{key}", {}), (*path, key))
    elif isinstance(declared, list) and isinstance(live, list):
        wanted, found = cast("list[Any]", declared), cast("list[Any]", live)
        keys = merge_keys(owned)
        places, extra = matched(wanted, found, keys)
        for index, place in places.items():
            yield from items_added(wanted[index], found[place], item_of(owned, found[place]), (*path, place))
        missing = (item for index, item in enumerate(wanted) if index not in places)
        readable_ones = (None if SECRET in str(item) else item for item in missing)
        yield from (
            ((*path, place), item) for place, item in zip(extra, chain(readable_ones, repeat(None)), strict=False)
        )


def merge_keys(owned: dict[str, Any]) -> list[str]:
    """Return the names of the fields that identify a list's item, as managedFields name them; none if the list is owned as a whole."""
    for step in owned:
        if step.startswith("k:"):
            return list(json.loads(step[2:]))
    return []


def item_of(owned: dict[str, Any], item: Any) -> dict[str, Any]:
    """Return the fields in managedFields of an item of a list with merge keys; an empty table if there are none."""
    for step, below in owned.items():
        if step.startswith("k:") and (identity := json.loads(step[2:])) == identity_of(item, identity):
            return below
    return {}


def identity_of(item: Any, keys: Iterable[str]) -> dict[str, Any]:
    """Return the merge keys of a list's item, with their values."""
    there = dict([DEFAULT_PROTOCOL]) | cast("dict[str, Any]", item)
    return {key: there.get(key) for key in keys}


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
            identity = json.loads(name)
            wanted, found = (
                [index for index, one in enumerate(items) if identity_of(one, identity) == identity]
                for items in (cast("list[Any]", declared), cast("list[Any]", live))
            )
            for index, place in zip(wanted, found, strict=False):
                yield from fields_added(declared[index], live[place], below, (*path, place))


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
        places, _ = matched(wanted, found, [])
        for index, place in places.items():
            yield from keys_added(wanted[index], found[place], (*path, place))


def matched(declared: list[Any], live: list[Any], keys: Sequence[str]) -> tuple[dict[int, int], list[int]]:
    """Match the items of a list with those in the cluster.

    An item of a list without merge keys that was changed, and so is not found, is matched with one of the remaining items: Pulumi restores it.
    So is an encrypted item, whose merge keys cannot be read.

    Args:
        declared: the list that the program declares.
        live: the list in the cluster.
        keys: the list's merge keys; empty if it has none.

    Returns:
        Declared indices with their live ones, and the live indices that are left.
    """
    free = list(range(len(live)))
    places: dict[int, int] = {}
    for index, item in enumerate(declared):
        alike = [place for place in free if is_same(item, live[place], keys)]
        if alike:
            places[index] = index if index in alike else alike[0]
            free.remove(places[index])
    for index, item in enumerate(declared):
        if index not in places and free and (not keys or SECRET in item):
            places[index] = free.pop(0)
    return places, free


def is_same(declared: Any, live: Any, keys: Sequence[str]) -> bool:
    """Return whether an item in the cluster is the declared one: by the list's merge keys, if it has any."""
    return identity_of(declared, keys) == identity_of(live, keys) if keys else is_of(declared, live)


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


def claimed(found: Objects) -> list[Declared]:
    """Return the objects with declared fields that have an owner other than the program and the cluster's controllers.

    The API server keeps such a field after the program has dropped it: a port with another number would be there twice, with one name.
    """

    def is_claimed(one: Declared) -> bool:
        entries = (found.live_of(one) or {}).get("metadata", {}).get("managedFields", ())
        declared = {f"f:{key}" for key in one.inputs.keys() - SERVERS_OWN}
        return any(declared & entry.get("fieldsV1", {}).keys() for entry in entries if is_claim(entry))

    return [one for one in readable(found.declared) if is_claimed(one)]


def is_claim(entry: dict[str, Any]) -> bool:
    """Return whether an entry of managedFields is of this module, or of a manager that is not expected to set fields."""
    return entry["manager"] in (OWN_MANAGER, BEFORE_FIRST_APPLY) or is_by_hand(entry)


def take_out_additions(stack: Stack, before: Objects) -> None:
    """Remove additions from the cluster, and report each; make the program the owner of declared fields that others claim.

    The update itself would leave additions in place, or fail where an item's merge key was edited.

    Args:
        stack: the stack to update.
        before: the stack's objects.

    Raises:
        EstateError: the state cannot be read, the cluster does not answer, or an update of the stack is in progress (the state lacks its
            objects until it ends).
    """
    if not additions(before) and not claimed(before):
        return
    refuse_locked(stack)
    there = objects_of(stack)  # an update may have ended meanwhile
    found = additions(there)
    for addition in found:
        report(f"  {addition} outside of an update that ended: it is taken out")
    failed: list[str] = []
    claims = claimed(there)
    for declared in there.declared:
        to_it = [addition for addition in found if addition.to == declared]
        try:
            if to_it or declared in claims:
                take_out(stack, declared, to_it)
        except EstateError as error:
            failed.append(f"{declared.name}: {error}")
    if failed:
        raise EstateError("not everything could be taken out, and nothing else was changed:\n" + "\n".join(failed))


def take_out(stack: Stack, declared: Declared, found: Sequence[Addition]) -> None:
    """Take additions out of one object, and give the program the fields that others claim.

    Raises:
        EstateError: the cluster refuses it, or does not answer.
    """
    what = [kubectl_kind(declared.type), declared.id.rpartition("/")[2], *declared.within]
    if any(addition.path == IMMUTABLE for addition in found):
        # There is no other way back (https://kubernetes.io/docs/concepts/configuration/configmap/#configmap-immutable); the update makes it again.
        ask(stack, "delete", *what, "--wait=false")
        return
    if found:
        try:
            patch(stack, what, removal(found))
        except EstateError:  # one alternative was exchanged for another: neither may be missing
            live = json.loads(ask(stack, "get", *what, "--output=json"))
            patch(stack, what, restoration(declared, live, found))
    for tries_left in reversed(range(TRIES)):  # controllers write the status of an object that has changed
        live = json.loads(ask(stack, "get", *what, "--output=json", "--show-managed-fields"))
        try:
            patch(stack, what, handover(declared, live["metadata"]))
        except EstateError:
            if not tries_left:
                raise
            time.sleep(1)
        else:
            return


def patch(stack: Stack, what: Sequence[str], operations: Sequence[dict[str, Any]]) -> None:
    """Apply a JSON patch to an object.

    Raises:
        EstateError: the cluster refuses it, or does not answer.
    """
    ask(stack, "patch", *what, "--type=json", f"--patch={json.dumps(operations)}", f"--field-manager={OWN_MANAGER}")


def removal(found: Iterable[Addition]) -> list[dict[str, Any]]:
    """Return the JSON patch that removes additions to one object, or replaces them with the declared item."""
    # Two paths first differ at a key or an index of the same object or list: the last item first, because indices shift.
    return [
        {"op": "remove", "path": pointer(one.path)}
        if one.instead is None
        else {"op": "replace", "path": pointer(one.path), "value": one.instead}
        for one in sorted(found, key=lambda one: one.path, reverse=True)
    ]


def restoration(declared: Declared, live: dict[str, Any], found: Iterable[Addition]) -> list[dict[str, Any]]:
    """Return the JSON patch that replaces what is declared of an object as a whole: without additions, and with every declared value."""
    live = copy.deepcopy(live)
    for one in sorted(found, key=lambda one: one.path, reverse=True):
        *steps, last = one.path
        place: Any = live
        for step in steps:
            place = place[step]
        if one.instead is None:
            del place[last]
        else:
            place[last] = one.instead
    keys = declared.inputs.keys() & live.keys() - {*SERVERS_OWN}
    return [
        {"op": "replace", "path": pointer((key,)), "value": put_over(live[key], declared.inputs[key])}
        for key in sorted(keys)
    ]


def put_over(live: Any, declared: Any) -> Any:
    """Return a live value with every declared one in it, except those that are encrypted in the state."""
    if isinstance(declared, dict) and SECRET in declared:
        return live
    if isinstance(declared, dict) and isinstance(live, dict):
        known, there = cast("dict[str, Any]", declared), cast("dict[str, Any]", live)
        missing = {key: value for key, value in known.items() if key not in there and SECRET not in str(value)}
        return there | missing | {key: put_over(there[key], known[key]) for key in known.keys() & there.keys()}
    if isinstance(declared, list) and isinstance(live, list):
        wanted, found = cast("list[Any]", declared), cast("list[Any]", live)
        places, _ = matched(wanted, found, [])
        return [put_over(found[places[index]] if index in places else item, item) for index, item in enumerate(wanted)]
    return cast("Any", declared)


def handover(declared: Declared, metadata: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the JSON patch that makes the program the owner of the fields that others claim.

    A field without an owner would stay after the program has dropped it. `metadata` and undeclared fields keep their owners. The version is
    tested so that no change is lost that comes between.

    Args:
        declared: the object in the state.
        metadata: the object's metadata in the cluster.
    """
    fields = {f"f:{key}" for key in declared.inputs.keys() - SERVERS_OWN}
    entries = copy.deepcopy(metadata["managedFields"])
    claims = [taken for entry in entries if is_claim(entry) for taken in [taken_from(entry, fields)] if taken]
    for entry in entries:
        if is_programs(entry):
            entry["fieldsV1"] = reduce(over, claims, entry.get("fieldsV1", {}))
    return [
        {"op": "test", "path": "/metadata/resourceVersion", "value": metadata["resourceVersion"]},
        {
            "op": "replace",
            "path": "/metadata/managedFields",
            "value": [entry for entry in entries if entry.get("fieldsV1")] or [{}],
        },
    ]


def taken_from(entry: dict[str, Any], fields: Collection[str]) -> dict[str, Any]:
    """Remove fields from an entry of managedFields, and return them."""
    owned = entry.get("fieldsV1", {})
    return {field: owned.pop(field) for field in [*owned] if field in fields}


def is_programs(entry: dict[str, Any]) -> bool:
    """Return whether an entry of managedFields is of the program: Pulumi's, by server-side apply."""
    return entry["operation"] == "Apply" and entry["manager"].startswith(PULUMI)


def pointer(path: Path) -> str:
    """Return a path as a JSON Pointer (RFC 6901)."""
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in path)
