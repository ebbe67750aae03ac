"""Each rule with examples that it allows and examples that it refuses."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any, cast

import pytest
from pulumi_policy.proxy import UNKNOWN_STRING_VALUE, unknown_checking_proxy

from policies import rules
from policies.resources import Resource
from policies.whole import amount
from tests.unit.policies.examples import (
    AUTOSCALER,
    BAD,
    BUDGET,
    CLAIM,
    CONTAINER,
    DEPLOYMENT,
    GOOD,
    IN_CONTAINER,
    IN_POD,
    INGRESS,
    POSTGRES,
    REMOVED,
    SERVICE,
    STATEFUL_SET,
    Bad,
    changed,
)

UNGUARDED = "has replicas that may all be evicted at once: add a PodDisruptionBudget that selects its pods"


def problems(resource: Resource) -> list[tuple[str, str]]:
    """Return the rules' findings on a resource: each rule's name, and its message."""
    return [(rule.__name__, problem) for rule in rules.RESOURCE_RULES for problem in rule(resource)]


def problems_of(*resources: Resource) -> list[tuple[str | None, str]]:
    """Return the rules' findings on a stack: the resource with the problem, and the message."""
    return [(found and found.type, problem) for rule in rules.STACK_RULES for found, problem in rule(resources)]


def as_previewed(resource: Resource) -> Resource:
    """Return the resource as Pulumi passes it in a preview."""
    return replace(resource, inputs=unknown_checking_proxy(dict(resource.inputs)))


def paths(value: Any, path: str = "") -> Iterator[str]:
    """Yield every path in a value."""
    listed = dict(enumerate(cast("list[Any]", value))) if isinstance(value, list) else value
    for key, item in cast("dict[Any, Any]", listed).items() if isinstance(listed, dict) else ():
        own = f"{path}.{key}" if path else str(key)
        yield own
        yield from paths(item, own)


@pytest.mark.parametrize("good", GOOD, ids=lambda good: good.kind)
def test_what_is_good_passes_every_rule(good: Resource) -> None:
    assert problems(good) == []


def test_a_stack_of_what_is_good_passes_every_rule() -> None:
    assert problems_of(*GOOD) == []


@pytest.mark.parametrize("bad", BAD, ids=str)
def test_a_bad_resource_breaks_its_rule_alone_with_a_remedy(bad: Bad) -> None:
    assert problems(bad.resource) == [(bad.rule.__name__, bad.problem)]


def test_what_holds_data_is_protected() -> None:
    for good in (STATEFUL_SET, CLAIM, POSTGRES):
        reported = "holds data and can be deleted: give it the resource option protect=True"
        assert problems(replace(good, protected=False)) == [("protected_state", reported)]


def test_every_rule_has_a_bad_example() -> None:
    elsewhere = {rules.protected_state}
    assert {bad.rule for bad in BAD} | elsewhere == {*rules.RESOURCE_RULES}


@pytest.mark.parametrize("good", GOOD, ids=lambda good: good.kind)
def test_a_value_that_a_preview_cannot_know_is_no_fault(good: Resource) -> None:
    for path in paths(good.inputs):
        unknown = as_previewed(changed(good, path, UNKNOWN_STRING_VALUE))
        assert problems(unknown) == [], path
        assert problems_of(*(other for other in GOOD if other is not good), unknown) == [], path


@pytest.mark.parametrize("bad", BAD, ids=str)
def test_what_is_bad_is_no_fault_before_it_is_known(bad: Bad) -> None:
    assert problems(as_previewed(changed(bad.good, bad.path, UNKNOWN_STRING_VALUE))) == []
    assert problems(as_previewed(bad.resource)) == problems(bad.resource)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (f"{IN_CONTAINER}.env.2", {"name": "DB_PASSWORD", "value": UNKNOWN_STRING_VALUE}),
        (f"{IN_CONTAINER}.env.2", {"name": "DB", "valueFrom": {"secretKeyRef": UNKNOWN_STRING_VALUE}}),
        (f"{IN_CONTAINER}.envFrom", [{"secretRef": UNKNOWN_STRING_VALUE}]),
        (f"{IN_POD}.securityContext.sysctls", [{"name": UNKNOWN_STRING_VALUE, "value": "1"}]),
    ],
)
def test_what_is_unknown_within_what_may_be_bad_is_no_fault(path: str, value: Any) -> None:
    assert problems(as_previewed(changed(DEPLOYMENT, path, value))) == []


def test_a_service_whose_name_is_unknown_may_be_one_that_is_meant_to_be_public() -> None:
    opened = changed(changed(SERVICE, "spec.type", "LoadBalancer"), "metadata.name", UNKNOWN_STRING_VALUE)
    assert list(rules.internal_services(as_previewed(opened))) == []


def test_the_rest_of_a_resource_is_looked_at_though_something_is_unknown() -> None:
    unknown = changed(DEPLOYMENT, f"{IN_CONTAINER}.image", UNKNOWN_STRING_VALUE)
    worse = changed(unknown, f"{IN_CONTAINER}.securityContext.privileged", value=True)
    assert [rule for rule, _ in problems(as_previewed(worse))] == ["restricted_pods"]


def test_the_pods_own_context_counts_for_its_containers() -> None:
    root = changed(DEPLOYMENT, f"{IN_POD}.securityContext.runAsUser", 0)
    assert [problem.partition(":")[0] for _, problem in problems(root)] == [
        "container prepare runs as root",
        "container app runs as root",
    ]
    own = changed(root, f"{IN_POD}.initContainers.0.securityContext.runAsUser", 7)
    assert problems(changed(own, f"{IN_CONTAINER}.securityContext.runAsUser", 7)) == []


def test_who_reads_logs_may_be_root_and_read_the_nodes_files_and_no_more() -> None:
    root = {"runAsNonRoot": False, "runAsUser": 0, "seccompProfile": {"type": "RuntimeDefault"}}
    volume = {"name": "logs", "hostPath": {"path": "/var/log/pods"}}
    mount = {"name": "logs", "mountPath": "/logs", "readOnly": True}
    agent = changed(changed(DEPLOYMENT, f"{IN_POD}.securityContext", root), f"{IN_POD}.volumes.1", volume)
    agent = changed(agent, f"{IN_CONTAINER}.volumeMounts", [mount])
    allowed = partial(rules.restricted_pods, log_readers=["app"])
    assert list(allowed(agent)) == []
    assert len(list(rules.restricted_pods(agent))) == 5  # its volume, and each container's user twice
    assert list(rules.restricted_pods(agent, log_readers=["another"])) == list(rules.restricted_pods(agent))
    writing = changed(agent, f"{IN_CONTAINER}.volumeMounts.0.readOnly", REMOVED)
    assert list(allowed(writing)) == [
        "container app can write files of the node: set volumeMounts[].readOnly: true",
    ]
    elsewhere = changed(agent, f"{IN_POD}.volumes.1.hostPath.path", "/etc")
    assert [problem.partition(":")[0] for problem in allowed(elsewhere)] == ["volume logs is of type hostPath"]
    assert list(allowed(elsewhere, log_folders=["/etc"])) == []
    for path in (f"{IN_POD}.hostPID", f"{IN_CONTAINER}.securityContext.privileged"):
        assert len(list(allowed(changed(agent, path, value=True)))) == 1
    for path in (f"{IN_CONTAINER}.volumeMounts.0", f"{IN_POD}.volumes.1.hostPath.path"):
        assert list(allowed(as_previewed(changed(agent, path, UNKNOWN_STRING_VALUE)))) == []


def test_a_container_that_says_nothing_breaks_what_it_can() -> None:
    bare = changed(DEPLOYMENT, IN_CONTAINER, {"name": "app", "image": CONTAINER["image"]})
    assert len(problems(bare)) == 3 + 4 + 2  # security, resources, probes


@pytest.mark.parametrize(
    ("image", "allowed"),
    [
        ("redis:7", "docker.io/library"),
        ("redis:7", "docker.io/library/redis"),
        ("prom/prometheus", "docker.io/prom"),
        ("localhost:5000/estate/app:1", "localhost:5000"),
        ("localhost:5000/estate/app", "localhost:5000/estate"),
        ("registry.example.com:443/app:1@sha256:0", "registry.example.com:443/app"),
    ],
)
def test_a_registry_is_allowed_by_the_beginning_of_its_repositories(image: str, allowed: str) -> None:
    resource = changed(DEPLOYMENT, f"{IN_POD}.initContainers", [])
    resource = changed(resource, f"{IN_CONTAINER}.image", image)
    assert list(rules.allowed_registries(resource, [allowed])) == []
    assert len(list(rules.allowed_registries(resource, [allowed[:-1], "ghcr.io"]))) == 1


def test_options_change_what_is_asked() -> None:
    opened = changed(SERVICE, "spec.type", "LoadBalancer")
    assert list(rules.internal_services(opened, public=["app"])) == []
    assert list(rules.private_backends(INGRESS, services=["app"])) != []
    assert list(rules.private_backends(INGRESS, ports=[80])) != []
    assert list(rules.owner_labels(SERVICE, labels=["team"])) == [
        "does not say whose it is: set team in metadata.labels"
    ]
    issuer = Resource("kubernetes:cert-manager.io/v1:ClusterIssuer", "ours", {"metadata": {"name": "ours"}})
    assert list(rules.no_default_namespace(issuer)) == []
    assert list(rules.no_default_namespace(issuer, clusterwide=[])) != []
    assert list(rules.protected_state(SERVICE, types=["kubernetes:core/v1:Serv*"])) != []
    known = changed(DEPLOYMENT, f"{IN_CONTAINER}.env.0.name", "LICENCE_KEY")
    assert list(rules.secrets_in_files(known)) == []
    assert list(rules.secrets_in_files(known, names=["*_KEY"])) != []


def test_an_ingress_for_every_host_needs_tls() -> None:
    everybody = changed(changed(INGRESS, "spec.tls", REMOVED), "spec.rules", [{"http": {"paths": []}}])
    assert list(rules.ingress_over_tls(everybody)) == [
        "serves every host without TLS: name hosts in spec.rules and in spec.tls"
    ]
    default = changed(everybody, "spec", {"defaultBackend": {"service": {"name": "app"}}})
    assert list(rules.ingress_over_tls(default)) == [
        "serves what no rule names without TLS: set spec.tls, or take spec.defaultBackend out"
    ]


def test_replicas_need_a_budget_that_selects_their_pods() -> None:
    assert problems_of(DEPLOYMENT) == [(DEPLOYMENT.type, UNGUARDED)]
    assert problems_of(DEPLOYMENT, BUDGET) == []
    for path, value in (
        ("metadata.namespace", "elsewhere"),
        ("spec.selector", REMOVED),
        ("spec.selector.matchLabels", {"app.kubernetes.io/name": "other"}),
        ("spec.selector.matchExpressions", [{"key": "tier", "operator": "Exists"}]),
    ):
        assert problems_of(DEPLOYMENT, changed(BUDGET, path, value)) == [(DEPLOYMENT.type, UNGUARDED)], path


@pytest.mark.parametrize(
    ("operator", "values"), [("In", ["app", "web"]), ("NotIn", ["web"]), ("Exists", []), ("DoesNotExist", None)]
)
def test_a_budget_may_select_by_expressions(operator: str, values: list[str] | None) -> None:
    key = "tier" if operator == "DoesNotExist" else "app.kubernetes.io/name"
    expression = {"key": key, "operator": operator, "values": values or []}
    assert problems_of(DEPLOYMENT, changed(BUDGET, "spec.selector", {"matchExpressions": [expression]})) == []


def test_one_replica_needs_no_budget_unless_an_autoscaler_makes_it_several() -> None:
    alone = changed(DEPLOYMENT, "spec.replicas", REMOVED)
    assert problems_of(alone) == []
    assert problems_of(alone, AUTOSCALER) == [(DEPLOYMENT.type, UNGUARDED)]
    assert problems_of(alone, changed(AUTOSCALER, "spec.minReplicas", 1)) == []


def test_what_a_stack_requests_has_a_limit() -> None:
    # 10 of the autoscaler, 3 of Postgres, 1 of the Job and of the CronJob: at 500m and 512Mi each
    stack = [good for good in GOOD if good != STATEFUL_SET]
    assert list(rules.cost_guard(stack, cpu="7.5", memory="7680Mi")) == []
    assert list(rules.cost_guard(stack, cpu="7499m", memory="7Gi")) == [
        (None, "requests 7.5 CPUs in all, more than 7499m: lower requests or replicas, or raise cost-guard.cpu"),
        (
            None,
            "requests 7.5Gi of memory in all, more than 7Gi: lower requests or replicas, or raise cost-guard.memory",
        ),
    ]


def test_a_container_that_prepares_a_pod_counts_where_it_asks_for_more() -> None:
    large = changed(DEPLOYMENT, f"{IN_POD}.initContainers.0.resources.requests.cpu", "2")
    assert list(rules.cost_guard([large], cpu="6")) == []
    assert len(list(rules.cost_guard([large], cpu="5999m"))) == 1


@pytest.mark.parametrize(
    ("quantity", "number"),
    [("250m", 0.25), ("2", 2), (2, 2), ("0.5", 0.5), ("1k", 1000), ("64Mi", 64 * 2**20), ("1e3", 1000), (None, 0)],
)
def test_quantities_are_read_as_kubernetes_does(quantity: Any, number: float) -> None:
    assert amount(quantity) == pytest.approx(number)
