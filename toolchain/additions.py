"""Find, and take out, what was added in the cluster to lists and ConfigMaps that the program declares.

Pulumi does not see it: its refresh compares as many items of a list as the program declares, and keys that it declares
(pruneLiveState and pruneSlice in pulumi-kubernetes, provider/pkg/provider/util.go, v4). The API server's defaults add keys to tables, never
items to lists, so an item more is an addition. Left out are Secrets, whose inputs are encrypted in the state; `metadata`, whose finalizers
belong to controllers; and custom resources, whose operators may fill in lists.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any, cast

from infra.stages import over
from toolchain.console import ToolchainError, report
from toolchain.events import SECRET
from toolchain.markdown import code
from toolchain.recovery import kubectl_kind
from toolchain.stack import Stack, ask

EMPTY: dict[str, dict[str, Any]] = {
    "ConfigMap": {"data": {}, "binaryData": {}},
    "NetworkPolicy": {"spec": {"ingress": [], "egress": []}},
}
"""Declared empty where the program leaves it out: no default of the API server fills it."""
NAMES = ("name", "host", "key")
"""Keys whose value names an item of a list."""

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Declared:
    """A Kubernetes object as the state has it."""

    type: str
    """kubernetes:<group/version>:<kind>, as Pulumi calls it."""
    id: str
    """<namespace>/<name>, or <name>."""
    inputs: dict[str, Any]

    @property
    def kind(self) -> str:
        return self.type.rpartition(":")[2]

    @property
    def namespace(self) -> str:
        return self.id.rpartition("/")[0]

    @property
    def within(self) -> list[str]:
        """Options of kubectl."""
        return [f"--namespace={self.namespace}"] if self.namespace else []


@dataclass(frozen=True)
class Addition:
    """A list's item, or a ConfigMap's key, that the program does not declare."""

    to: Declared
    path: Path
    name: str
    """Of the item, where it has one; values are left out."""

    def __str__(self) -> str:
        place = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in self.path).removeprefix(".")
        return f"{self.to.kind} {code(self.to.id.rpartition('/')[2])}: {code(f'{place} {self.name}')} was added"


def additions(stack: Stack) -> list[Addition]:
    """Return what was added in the cluster to the objects in the stack's state.

    Raises:
        ToolchainError: the state cannot be read, or the cluster does not answer.
    """
    exported = stack.pulumi("stack", "export", "--stack", stack.name)
    if exported.returncode != 0:
        raise ToolchainError(f"the state of stack {stack.name} cannot be read: {exported.stderr.strip()}")
    objects = declared_in(json.loads(exported.stdout))
    live = live_objects(stack, objects)
    return [found for one in objects for found in added_to(one, live.get((one.kind, one.id), {}))]


def declared_in(exported: dict[str, Any]) -> list[Declared]:
    """Return the objects of an exported state whose inputs can be read, and which are there to stay."""
    state: dict[str, Any] = exported.get("deployment") or {}
    kept = [one for one in state.get("resources", ()) if not one.get("delete") and not one.get("external")]
    found = [Declared(one["type"], one.get("id", ""), one.get("inputs", {})) for one in kept]
    return [one for one in found if is_built_in(one.type) and one.kind != "Secret"]


def is_built_in(resource_type: str) -> bool:
    """Return whether a type is one of Kubernetes' own."""
    package, _, rest = resource_type.partition(":")
    group = rest.partition("/")[0]
    return package == "kubernetes" and "/" in rest and ("." not in group or group.endswith(".k8s.io"))


def live_objects(stack: Stack, objects: Iterable[Declared]) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the cluster's objects of the same kinds in the same namespaces, by kind and id: one request of kubectl for each namespace."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for _, group in groupby(sorted(objects, key=lambda one: one.namespace), key=lambda one: one.namespace):
        there = list(group)
        kinds = ",".join(sorted({kubectl_kind(one.type) for one in there}))
        for live in json.loads(ask(stack, "get", kinds, "-o", "json", *there[0].within))["items"]:
            names = (live["metadata"].get("namespace"), live["metadata"]["name"])
            found[live["kind"], "/".join(filter(None, names))] = live
    return found


def added_to(declared: Declared, live: dict[str, Any]) -> list[Addition]:
    """Return what a live object has more than is declared."""
    inputs = over(
        EMPTY.get(declared.kind, {}), {key: declared.inputs[key] for key in declared.inputs.keys() - {"metadata"}}
    )
    paths = list(items_added(inputs, live, ()))
    if declared.kind == "ConfigMap":
        paths += [
            (table, key)
            for table in EMPTY["ConfigMap"]
            if SECRET not in inputs[table]
            for key in live.get(table, {}).keys() - inputs[table].keys()
        ]
    return [Addition(declared, path, name_at(live, path)) for path in sorted(paths, key=str)]


def items_added(declared: Any, live: Any, path: Path) -> Iterator[Path]:
    """Yield the path of each item that a live list has more than the declared one."""
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


def matched(declared: list[Any], live: list[Any]) -> list[int]:
    """Return the live list's indices: first those of the declared items, in their order, then those of the items that are too many.

    A declared item that was changed, and so is not found, has one of the items that are left: Pulumi puts it back.
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
    """Return whether a live value is the declared one: by its name, or with all that is declared, to which the server has added defaults."""
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
    """Return the name of what is at a path; nothing where it has none."""
    for step in path:
        live = live[step]
    item = cast("dict[str, Any]", live) if isinstance(live, dict) else {}
    return next((str(item[key]) for key in NAMES if key in item), "")


def take_out_additions(stack: Stack) -> None:
    """Take out of the cluster what was added by hand, and say so: the update itself would leave it there."""
    for declared, group in groupby(additions(stack), key=lambda one: one.to):
        found = list(group)
        for addition in found:
            report(f"  {addition} by hand: it is taken out")
        what = [kubectl_kind(declared.type), declared.id.rpartition("/")[2]]
        ask(stack, "patch", *what, "--type=json", f"--patch={json.dumps(removal(found))}", *declared.within)


def removal(found: Iterable[Addition]) -> list[dict[str, str]]:
    """Return the JSON patch that removes additions to one object: of a list the last first, for the indices move."""
    # Two paths differ first at a key, or at an index, of the same table or list.
    return [{"op": "remove", "path": pointer(path)} for path in sorted((one.path for one in found), reverse=True)]


def pointer(path: Path) -> str:
    """Return a path as a JSON Pointer (RFC 6901)."""
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in path)
