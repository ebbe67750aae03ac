"""Additions in the cluster to the objects that the program declares."""

import copy
import json
from contextlib import nullcontext
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from estate.core.console import EstateError
from estate.pulumi.events import SECRET
from estate.reconcile import additions
from estate.reconcile.additions import added_to, off, readable, removal
from estate.stack.model import Stack
from estate.stack.objects import Declared, Objects, declared_in

WORDS = st.text("abc/~", min_size=1, max_size=3)
SCALARS: st.SearchStrategy[Any] = st.booleans() | st.integers() | WORDS
TABLES = st.dictionaries(WORDS, SCALARS, max_size=3)


def named(tables: list[dict[str, Any]], names: list[str]) -> list[dict[str, Any]]:
    return [table | {"name": name} for table, name in zip(tables, names, strict=False)]


NAMED = st.builds(named, st.lists(TABLES, max_size=4), st.lists(WORDS, min_size=4, max_size=4, unique=True))
"""Lists whose items have names, as those of containers and ports do."""


def tables_and_lists(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.dictionaries(WORDS, inner, max_size=4) | st.lists(inner, max_size=4) | NAMED


VALUES: st.SearchStrategy[Any] = st.recursive(SCALARS, tables_and_lists, max_leaves=12)
SPECS: st.SearchStrategy[dict[str, Any]] = st.dictionaries(WORDS, VALUES, max_size=5)
DEFAULT = "set-by-the-server"
"""A key that no generated table has."""
NEW = {"name": "added"}
"""An item that no generated list has."""


def thing(spec: Any, kind: str = "networking.k8s.io/v1:Ingress") -> Declared:
    return Declared(f"kubernetes:{kind}", "estate-test/thing", {"metadata": {"name": "thing"}, "spec": spec})


def with_defaults(value: Any) -> Any:
    """Return a declared value with the API server's defaults: further keys in its tables."""
    if isinstance(value, dict):
        table: dict[str, Any] = {key: with_defaults(one) for key, one in cast("dict[str, Any]", value).items()}
        table[DEFAULT] = ["a default", {}]
        return table
    return [with_defaults(one) for one in cast("list[Any]", value)] if isinstance(value, list) else value


def lists_in(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Return the paths of the lists in a value, except those that the server has set."""
    inner: list[tuple[str | int, Any]] = []
    if isinstance(value, dict):
        inner = [(key, one) for key, one in cast("dict[str, Any]", value).items() if key != DEFAULT]
    if isinstance(value, list):
        inner = list(enumerate(cast("list[Any]", value)))
    found = [path] if isinstance(value, list) else []
    return found + [below for step, one in inner for below in lists_in(one, (*path, step))]


def at(value: Any, path: tuple[str | int, ...]) -> Any:
    for step in path:
        value = value[step]
    return value


def patched(live: Any, patch: list[dict[str, Any]]) -> Any:
    """Return an object after a JSON patch that removes and replaces."""
    live = copy.deepcopy(live)
    for one in patch:
        *steps, last = [step.replace("~1", "/").replace("~0", "~") for step in one["path"].split("/")[1:]]
        place = live
        for step in steps:
            place = place[int(step) if isinstance(place, list) else step]
        key = int(last) if isinstance(place, list) else last
        if one["op"] == "replace":
            place[key] = one["value"]
        else:
            assert one["op"] == "remove"
            del place[key]
    return live


def paths(declared: Declared, live: Any) -> list[tuple[str | int, ...]]:
    return [found.path for found in added_to(declared, live)]


@given(SPECS)
def test_the_servers_defaults_are_no_additions(spec: Any) -> None:
    assert added_to(thing(spec), {"spec": with_defaults(spec)}) == []


@given(st.data(), SPECS)
def test_an_appended_item_is_found_exactly_and_the_patch_removes_just_it(data: st.DataObject, spec: Any) -> None:
    spec["list"] = ["one"]
    before = {"spec": with_defaults(spec)}
    live = copy.deepcopy(before)
    chosen = data.draw(st.sets(st.sampled_from(lists_in(live)), min_size=1, max_size=3))
    for path in chosen:
        at(live, path).append(NEW)
    expected = {(*path, len(at(live, path)) - 1) for path in chosen}

    found = added_to(thing(spec), live)
    assert {one.path for one in found} == expected
    assert {one.name for one in found} == {"added"}
    assert patched(live, removal(found)) == before


@given(st.data(), NAMED)
def test_an_item_put_anywhere_among_named_ones_is_found(data: st.DataObject, items: list[Any]) -> None:
    live = {"spec": {"list": with_defaults(items)}}
    place = data.draw(st.integers(0, len(items)))
    live["spec"]["list"].insert(place, NEW)
    assert paths(thing({"list": items}), live) == [("spec", "list", place)]


@given(st.data(), SPECS, SPECS)
def test_whatever_the_cluster_has_nothing_is_left_to_find_after_the_patch(
    data: st.DataObject, spec: Any, edited: Any
) -> None:
    live = {"spec": with_defaults(spec) | edited}
    for _ in range(data.draw(st.integers(0, 3))):
        if lists := lists_in(live):
            items = at(live, data.draw(st.sampled_from(lists)))
            items.insert(data.draw(st.integers(0, len(items))), data.draw(VALUES))
    assert added_to(thing(spec), patched(live, removal(added_to(thing(spec), live)))) == []


@given(st.dictionaries(WORDS, WORDS), st.dictionaries(WORDS, WORDS), st.dictionaries(WORDS, WORDS))
def test_further_keys_of_a_configmap_are_found_and_removed(
    data: dict[str, str], more: dict[str, str], binary: dict[str, str]
) -> None:
    declared = Declared("kubernetes:core/v1:ConfigMap", "estate-test/thing", {"data": data})
    live = {"data": more | data, "binaryData": binary}
    found = added_to(declared, live)
    assert {one.path for one in found} == {("data", key) for key in more.keys() - data.keys()} | {
        ("binaryData", key) for key in binary
    }
    assert patched(live, removal(found)) == {"data": data, "binaryData": {}}


def test_a_policy_without_rules_may_have_none_in_the_cluster() -> None:
    policy = thing({"podSelector": {}, "policyTypes": ["Ingress"]}, "networking.k8s.io/v1:NetworkPolicy")
    live: dict[str, Any] = {"spec": {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{}]}}
    assert [str(one) for one in added_to(policy, live)] == ["NetworkPolicy `thing`: `spec.ingress[0]` was added"]


def test_an_addition_to_an_edited_list_is_found() -> None:
    live: dict[str, Any] = {"spec": {"rules": [{"verbs": ["delete"]}, {"verbs": ["list"]}, {"verbs": ["watch"]}]}}
    assert paths(thing({"rules": [{"verbs": ["get"]}, {"verbs": ["list"]}]}), live) == [("spec", "rules", 2)]


DEPLOYMENT = {
    "replicas": 2,
    "template": {
        "spec": {
            "containers": [
                {"name": "app", "image": "a"},
                {"name": "proxy", "image": "b", "ports": [{"containerPort": 1}]},
            ]
        }
    },
}
POD = ("spec", "template", "spec")


def owned_by(manager: str, fields: Any, **more: str) -> dict[str, Any]:
    return {"managedFields": [{"manager": manager, "fieldsV1": fields, **more}]}


def opened() -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a live Deployment with defaults and with fields set by hand, and the fields that have a manager."""
    spec: dict[str, Any] = with_defaults(DEPLOYMENT)
    pod = spec["template"]["spec"]
    pod |= {"hostNetwork": True, "dnsPolicy": "ClusterFirst"}
    pod["containers"][1] |= {"securityContext": {"privileged": True}, "image": "edited"}
    port: dict[str, Any] = {'k:{"containerPort":1,"protocol":"TCP"}': {".": {}, "f:hostPort": {}}}
    pod["containers"][1]["ports"][0] |= {"hostPort": 80, "protocol": "TCP"}
    container: dict[str, Any] = {"f:image": {}, "f:securityContext": {"f:privileged": {}}, "f:ports": port}
    item = 'k:{"name":"proxy"}'
    fields: dict[str, Any] = {"f:hostNetwork": {}, "f:containers": {item: container}, "f:gone": {}}
    return spec, {"f:metadata": {"f:labels": {}}, "f:spec": {"f:template": {"f:metadata": {}, "f:spec": fields}}}


PORTS = st.lists(st.integers(1, 4), min_size=1, max_size=4, unique=True)
UNREADABLE = {SECRET: "1b47061264138c4ac30d75fd1eb44270", "ciphertext": "v1:abc"}


def service(ports: list[int], order: list[int]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return declared ports, and a live Service with ports of the same names and other numbers, as the API server returns it."""
    declared = [{"name": f"p{place}", "port": number} for place, number in enumerate(ports)]
    live = [
        {"name": f"p{place}", "port": number, "protocol": "TCP", "targetPort": 1} for place, number in enumerate(order)
    ]
    fields: dict[str, Any] = {
        f'k:{{"port":{one["port"]},"protocol":"TCP"}}': {"f:name": {}, "f:port": {}} for one in live
    }
    return declared, {"metadata": owned_by("kubectl-edit", {"f:spec": {"f:ports": fields}}), "spec": {"ports": live}}


@given(PORTS, PORTS)
def test_a_port_with_another_number_is_replaced_by_a_declared_one(ports: list[int], order: list[int]) -> None:
    declared, live = service(ports, order)
    found = added_to(thing({"ports": declared}), live)
    assert {live["spec"]["ports"][one.path[-1]]["port"] for one in found} == {*order} - {*ports}
    assert len([one for one in found if one.instead]) == min(len({*order} - {*ports}), len({*ports} - {*order}))

    numbers = [one["port"] for one in patched(live, removal(found))["spec"]["ports"]]
    assert len(numbers) == len({*numbers})
    assert {*numbers} <= {*ports}
    assert len(numbers) == min(len(ports), len(order))


def test_a_port_of_another_protocol_is_another_port() -> None:
    declared, live = service([53], [53])
    live["spec"]["ports"][0]["protocol"] = "UDP"
    [found] = added_to(thing({"ports": declared}), live)
    assert (found.path, found.instead) == (("spec", "ports", 0), declared[0])
    assert str(found) == "Ingress `thing`: `spec.ports[0] p0` was added in the place of a declared item"


@pytest.mark.parametrize("item", [UNREADABLE, {"name": UNREADABLE, "port": 1}])
def test_no_encrypted_item_is_written_to_the_cluster(item: dict[str, Any]) -> None:
    _, live = service([1], [2])
    found = added_to(thing({"ports": [item]}), live)
    assert SECRET not in str(removal(found))


def test_an_encrypted_item_is_taken_for_one_that_is_there() -> None:
    _, live = service([1, 2], [1, 2])
    assert added_to(thing({"ports": [UNREADABLE, {"name": "p1", "port": 2}]}), live) == []


def test_the_program_and_controllers_own_declared_fields_after_an_update() -> None:
    spec: dict[str, Any] = {"ports": [{"name": "p", "port": 1}], "selector": {}}
    item = 'k:{"port":1,"protocol":"TCP"}'
    label: dict[str, Any] = {"f:metadata": {"f:labels": {"f:mine": {}}}}
    managers: dict[str, Any] = {
        "pulumi-kubernetes-1b4706": {"f:spec": {"f:selector": {}}},
        "kubectl-edit": {"f:spec": {"f:ports": {item: {"f:name": {}}}}} | label,
        "estate": {"f:spec": {"f:ports": {item: {"f:port": {}}}}},
        "kube-controller-manager": {"f:status": {}},
    }
    entries = [
        {"manager": manager, "operation": "Apply" if manager.startswith("pulumi") else "Update", "fieldsV1": fields}
        for manager, fields in managers.items()
    ]
    metadata: dict[str, Any] = {"managedFields": entries, "resourceVersion": "7"}
    one = thing(spec)
    assert additions.claimed(Objects([one], {one.key: {"metadata": metadata, "spec": spec}})) == [one]
    test, replaced = additions.handover(one, metadata)
    assert test == {"op": "test", "path": "/metadata/resourceVersion", "value": "7"}
    assert {entry["manager"]: entry["fieldsV1"] for entry in replaced["value"]} == {
        "pulumi-kubernetes-1b4706": {"f:spec": {"f:selector": {}, "f:ports": {item: {"f:name": {}, "f:port": {}}}}},
        "kubectl-edit": label,
        "kube-controller-manager": {"f:status": {}},
    }
    left = {"metadata": metadata | {"managedFields": replaced["value"]}, "spec": spec}
    assert additions.claimed(Objects([one], {one.key: left})) == []


@pytest.mark.parametrize("fields", [{"f:metadata": {"f:labels": {}}}, {"f:status": {}}, {"f:other": {}}, {}])
def test_labels_status_and_undeclared_fields_are_no_claim(fields: dict[str, Any]) -> None:
    one = thing({})
    live = {"metadata": owned_by("kubectl-edit", fields), "spec": {}}
    assert additions.claimed(Objects([one], {one.key: live})) == []


def test_fields_with_an_owner_are_additions_where_the_program_declares_none() -> None:
    spec, fields = opened()
    live = {"metadata": owned_by("kubectl-edit", fields), "spec": spec}
    found = added_to(thing(DEPLOYMENT), live)
    in_container = (*POD, "containers", 1)
    assert {one.path for one in found} == {
        (*POD, "hostNetwork"),
        (*in_container, "securityContext"),
        (*in_container, "ports", 0, "hostPort"),
    }
    assert "Ingress `thing`: `spec.template.spec.hostNetwork` was added" in map(str, found)
    assert added_to(thing(DEPLOYMENT), patched(live, removal(found))) == []


@pytest.mark.parametrize(
    ("manager", "more"),
    [
        ("pulumi-kubernetes-1b4706", {}),
        ("kube-scheduler", {}),
        ("aws-load-balancer-controller", {}),
        ("estate", {}),
        ("before-first-apply", {}),
        ("anything", {"subresource": "scale"}),
    ],
)
def test_fields_of_pulumi_controllers_and_subresources_are_no_additions(manager: str, more: dict[str, str]) -> None:
    spec, fields = opened()
    assert added_to(thing(DEPLOYMENT), {"metadata": owned_by(manager, fields, **more), "spec": spec}) == []


def test_replicas_that_the_program_leaves_to_an_autoscaler_are_no_addition() -> None:
    live = {"metadata": owned_by("kubectl-patch", {"f:spec": {"f:replicas": {}}}), "spec": {"replicas": 5}}
    assert added_to(thing({}), live) == []


def test_in_a_list_that_is_owned_as_a_whole_every_further_key_is_an_addition() -> None:
    peer: dict[str, Any] = {"podSelector": {"matchLabels": {"app": "a"}}}
    spec: dict[str, Any] = {"ingress": [{"from": [peer], "ports": [{"port": 1}]}], "podSelector": {}}
    live = copy.deepcopy(spec)
    live["ingress"][0]["from"][0]["namespaceSelector"] = {}
    live["ingress"][0]["ports"][0]["protocol"] = "TCP"
    live["podSelector"]["matchExpressions"] = [{"key": "a", "operator": "Exists"}]
    there = {"metadata": owned_by("kubectl-edit", {"f:spec": {"f:ingress": {}, "f:podSelector": {}}}), "spec": live}
    policy = thing(spec, "networking.k8s.io/v1:NetworkPolicy")
    assert set(paths(policy, there)) == {
        ("spec", "ingress", 0, "from", 0, "namespaceSelector"),
        ("spec", "podSelector", "matchExpressions"),
    }
    assert added_to(policy, patched(there, removal(added_to(policy, there)))) == []


def test_no_value_of_an_item_is_named() -> None:
    spec = {"env": [{"name": "a", "value": "1"}]}
    live = {"spec": {"env": [*spec["env"], {"name": "PASSWORD", "value": "planted-secret"}]}}
    [found] = added_to(thing(spec), live)
    assert "PASSWORD" in str(found)
    assert "planted" not in str(found)


def test_what_is_encrypted_in_the_state_is_left_out() -> None:
    encrypted = UNREADABLE
    declared = Declared("kubernetes:core/v1:ConfigMap", "estate-test/thing", {"data": encrypted})
    assert added_to(declared, {"data": {"a": "b"}}) == []
    assert added_to(thing({"env": encrypted}), {"spec": {"env": [NEW]}}) == []


def test_secrets_custom_resources_and_what_is_to_be_deleted_are_not_asked_for() -> None:
    resources: list[dict[str, Any]] = [
        {"type": "kubernetes:core/v1:Service", "id": "estate-test/kept", "inputs": {}},
        {"type": "kubernetes:core/v1:Service", "id": "estate-test/old", "inputs": {}, "delete": True},
        {"type": "kubernetes:core/v1:Secret", "id": "estate-test/secret", "inputs": {}},
        {"type": "kubernetes:postgresql.cnpg.io/v1:Cluster", "id": "estate-test/postgres", "inputs": {}},
        {"type": "pulumi:providers:kubernetes", "id": "1234", "inputs": {}},
        {"type": "estate:consul:Consul"},
    ]
    declared = declared_in({"resources": resources})
    assert [one.id for one in readable(declared)] == ["estate-test/kept"]
    assert [one.id for one in declared] == [f"estate-test/{name}" for name in ("kept", "secret", "postgres")]
    assert declared_in({}) == []


@pytest.mark.parametrize(
    ("live", "said"),
    [
        (None, "Deployment `thing` is missing"),
        ({"spec": {"replicas": 0}}, "Deployment `thing` has 0 replicas, and 3 are declared"),
        ({"spec": {"replicas": 3}}, None),
    ],
)
def test_what_is_missing_or_scaled_is_known(live: dict[str, Any] | None, said: str | None) -> None:
    declared = Declared("kubernetes:apps/v1:Deployment", "estate-test/thing", {"spec": {"replicas": 3}})
    assert off(declared, live) == said


def test_replicas_of_an_autoscaler_are_its_own() -> None:
    declared = Declared("kubernetes:apps/v1:Deployment", "estate-test/thing", {"spec": {}})
    assert off(declared, {"spec": {"replicas": 7}}) is None


def config_map(name: str, **more: Any) -> tuple[Declared, dict[str, Any]]:
    """Return a ConfigMap as the state has it, and as the cluster has it with something more, set by kubectl."""
    declared = Declared("kubernetes:core/v1:ConfigMap", f"estate-local/{name}", {"data": {"a": "b"}})
    owned: list[dict[str, Any]] = [{"manager": "kubectl-patch", "fieldsV1": {f"f:{key}": {} for key in more}}]
    return declared, {"data": {"a": "b"}, "metadata": {"managedFields": owned}, **more}


def test_one_that_cannot_be_taken_out_keeps_none_of_the_others_and_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = [
        config_map("immutable", immutable=True),
        config_map("refused", data={"a": "b", "c": "d"}),
        config_map("last", data={"a": "b", "c": "d"}),
    ]
    found = Objects([one for one, _ in pairs], {one.key: live for one, live in pairs})
    done: list[tuple[str, ...]] = []

    def ask(_stack: object, *words: str) -> str:
        done.append(words[:3])
        if words[2] == "refused":
            raise EstateError("the cluster refuses: it is so")
        return json.dumps({"metadata": {"managedFields": [], "resourceVersion": "1"}})

    monkeypatch.setattr(additions, "ask", ask)
    monkeypatch.setattr(additions, "objects_of", lambda _stack: found)  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
    monkeypatch.setattr(additions, "refuse_locked", lambda _stack: None)  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
    with pytest.raises(EstateError, match="ConfigMap `refused`: the cluster refuses: it is so"):
        additions.take_out_additions(cast("Stack", None), found)
    kind = "configmap.v1."
    last = [(verb, kind, "last") for verb in ("patch", "get", "patch")]
    refused = [(verb, kind, "refused") for verb in ("patch", "get")]
    assert done == [("delete", kind, "immutable"), *refused, *last]


@pytest.mark.parametrize("failures", [0, 3, additions.TRIES])
def test_ownership_is_taken_of_the_object_as_it_is_now(monkeypatch: pytest.MonkeyPatch, failures: int) -> None:
    version = 0
    tested: list[str] = []

    def ask(_stack: object, verb: str, *words: str) -> str:
        nonlocal version
        if verb == "get":
            version += 1
            return json.dumps({"metadata": {"managedFields": [], "resourceVersion": f"{version}"}})
        [patch] = [word.removeprefix("--patch=") for word in words if word.startswith("--patch=")]
        tested.append(json.loads(patch)[0]["value"])
        if version <= failures:
            raise EstateError("the cluster refuses: the object has been modified")
        return ""

    monkeypatch.setattr(additions, "ask", ask)
    monkeypatch.setattr(additions.time, "sleep", lambda _seconds: None)  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
    taken = pytest.raises(EstateError) if failures == additions.TRIES else nullcontext()
    with taken:
        additions.take_out(cast("Stack", None), thing({}), [])
    assert tested == [f"{number + 1}" for number in range(min(failures + 1, additions.TRIES))]


PROBE = {"name": "app", "livenessProbe": {"tcpSocket": {"port": 1}}, "env": [{"name": "A", "value": UNREADABLE}]}
EDITED = {
    "name": "app",
    "livenessProbe": {"httpGet": {"path": "/"}, "periodSeconds": 10},
    "env": [{"name": "A", "value": "secret"}],
}


def test_an_exchanged_alternative_is_put_back_in_one_step() -> None:
    live = {"spec": {"containers": [EDITED], "default": 1}}
    one = thing({"containers": [PROBE]})
    path = ("spec", "containers", 0, "livenessProbe", "httpGet")
    [replaced] = additions.restoration(one, live, [additions.Addition(one, path, "")])
    container = {**EDITED, "livenessProbe": {"tcpSocket": {"port": 1}, "periodSeconds": 10}}
    assert replaced == {"op": "replace", "path": "/spec", "value": {"containers": [container], "default": 1}}


@given(SPECS, SPECS)
def test_what_is_restored_has_every_declared_value_and_no_addition(spec: Any, edited: Any) -> None:
    live = {"spec": with_defaults(spec) | edited}
    one = thing(spec)
    restored = additions.restoration(one, live, added_to(one, live))
    assert [operation["path"] for operation in restored] == ["/spec"]
    assert added_to(one, {"spec": restored[0]["value"]}) == []
    assert additions.put_over(restored[0]["value"], spec) == restored[0]["value"]


def test_each_item_is_put_over_one_of_its_own() -> None:
    mounts: list[dict[str, Any]] = [
        {"name": "data", "mountPath": "/a", "readOnly": True},
        {"name": "data", "mountPath": "/b"},
    ]
    assert additions.put_over(mounts, copy.deepcopy(mounts)) == mounts
