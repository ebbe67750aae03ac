"""What was added in the cluster to what the program declares."""

import copy
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from toolchain.additions import Declared, added_to, declared_in, removal
from toolchain.events import SECRET

WORDS = st.text("abc/~", min_size=1, max_size=3)
SCALARS: st.SearchStrategy[Any] = st.booleans() | st.integers() | WORDS
TABLES = st.dictionaries(WORDS, SCALARS, max_size=3)


def named(tables: list[dict[str, Any]], names: list[str]) -> list[dict[str, Any]]:
    return [table | {"name": name} for table, name in zip(tables, names, strict=False)]


NAMED = st.builds(named, st.lists(TABLES, max_size=4), st.lists(WORDS, min_size=4, max_size=4, unique=True))
"""Lists whose items have names, as containers and ports do."""


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
    """Return what the API server makes of a declared value: further keys in its tables."""
    if isinstance(value, dict):
        table: dict[str, Any] = {key: with_defaults(one) for key, one in cast("dict[str, Any]", value).items()}
        table[DEFAULT] = ["a default", {}]
        return table
    return [with_defaults(one) for one in cast("list[Any]", value)] if isinstance(value, list) else value


def lists_in(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Return the paths of the lists in a value, but of those that the server has set."""
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


def patched(live: Any, patch: list[dict[str, str]]) -> Any:
    """Return an object after a JSON patch that only removes."""
    live = copy.deepcopy(live)
    for one in patch:
        assert one["op"] == "remove"
        *steps, last = [step.replace("~1", "/").replace("~0", "~") for step in one["path"].split("/")[1:]]
        place = live
        for step in steps:
            place = place[int(step) if isinstance(place, list) else step]
        del place[int(last) if isinstance(place, list) else last]
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


def test_no_value_of_an_item_is_named() -> None:
    spec = {"env": [{"name": "a", "value": "1"}]}
    live = {"spec": {"env": [*spec["env"], {"name": "PASSWORD", "value": "planted-secret"}]}}
    [found] = added_to(thing(spec), live)
    assert "PASSWORD" in str(found)
    assert "planted" not in str(found)


def test_what_is_encrypted_in_the_state_is_left_out() -> None:
    encrypted = {SECRET: "1b47061264138c4ac30d75fd1eb44270", "ciphertext": "v1:abc"}
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
    assert [one.id for one in declared_in({"deployment": {"resources": resources}})] == ["estate-test/kept"]
    assert declared_in({}) == []
