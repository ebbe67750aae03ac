"""A service that uses everything a declaration can have, in the program of every stack."""

import re
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from estate.pulumi.program import CANARY, DIGEST, Registered, run_with, settings_of
from infra import kinds, services
from infra.services import LONGEST_NAME, Job, Service, Worker, callees_first
from infra.settings import running, service
from policies.resources import Resource
from policies.rules import RESOURCE_RULES, STACK_RULES
from tests.program.test_network_policies import entering, leaving, pods_of, policies_of
from tests.program.test_program import containers, files, kind, one, template
from tests.support.declarations import declare

ORDERS = Service(
    "orders",
    needs=("postgres", "redis", "consul"),
    prefixes=("/api/v1/orders",),
    calls=("user-service",),
    passes_token_to=("user-service",),
    variables={"APP_MAIL_SENDER": "orders@example.com"},
    secrets=("mail-password",),
    egress=("mail",),
    migrates=True,
    jobs=(Job("tidy", schedule="0 3 * * *", module="orders.tidy", deadline_s=600),),
    workers=(Worker("mailer", module="orders.mailer"), Worker("counter", module="orders.counter", replicas=2)),
)
WORK = ("orders-tidy", "orders-mailer", "orders-counter")
MAIL = {"mail": {"networks": ["192.0.2.0/24"], "port": 587}}


@pytest.fixture(scope="module", params=["local", "dev", "staging", "prod"])
def whole(request: pytest.FixtureRequest) -> Iterator[list[Registered]]:
    """Yield the program's resources for a stack with the service."""
    with declared(ORDERS):
        content = settings_of(request.param)
        digests = {name: f"registry.example.com/{name}@{DIGEST}" for name in services.NAMES}
        yield run_with(request.param, content | {"outside": MAIL, "digests": digests | content.get("digests", {})})


@contextmanager
def declared(*more: Service) -> Generator[None]:
    """Declare additional services."""
    known, names = (*services.SERVICES, *more), (*services.NAMES, *(service.name for service in more))
    with pytest.MonkeyPatch.context() as patch:
        for module in (services, service, running, kinds):
            patch.setattr(module, "NAMES", names)
        patch.setattr(services, "SERVICES", known)
        declare(patch, *known)
        patch.setattr(services, "CALLEES_FIRST", callees_first(known))
        yield


def workload(whole: list[Registered], name: str) -> tuple[Registered, dict[str, Any], dict[str, Any]]:
    """Return one of its workloads, with its pod and container."""
    found = one(whole, "CronJob" if name == "orders-tidy" else "Deployment", name)
    pod = template(found)["spec"]
    (container,) = pod["containers"]
    return found, pod, container


def environment(container: dict[str, Any]) -> dict[str, str]:
    return {entry["name"]: entry["value"] for entry in container["env"] if "value" in entry}


def test_jobs_and_workers_are_the_services_image_with_its_environment_and_resources(whole: list[Registered]) -> None:
    _, _, serving = workload(whole, "orders")
    for name in WORK:
        _, _, container = workload(whole, name)
        assert container["image"] == serving["image"]
        assert container["resources"] == serving["resources"]
        assert container["command"] == ["/app/.venv/bin/python", "-m", f"orders.{name.removeprefix('orders-')}"]
        own, of_service = environment(container), environment(serving)
        assert own.pop("APP_SERVICE_NAME") == name
        assert own.items() <= of_service.items()
        left_out = of_service.keys() - own.keys() - {"APP_SERVICE_NAME"}
        assert all(key.startswith(("APP_AUTH_", "APP_SERVICE_REGISTRY_")) for key in left_out)
        assert own["APP_MAIL_PASSWORD_FILE"] == "/run/secrets/app/mail-password"
        assert own["APP_CALLS_USER_SERVICE_URL"] == "http://user-service:8080"
        assert files(whole, name)["mail-password"] == CANARY


def test_jobs_and_workers_connect_like_the_service_and_accept_nothing(
    whole: list[Registered],
) -> None:
    pods, policies = pods_of(whole), policies_of(whole)
    gone, come = leaving(policies, pods), entering(policies, pods)
    of_service = {to for own, *to in gone if own == "orders" for to in [tuple(to)]}
    for name in WORK:
        mine = {to for own, *to in gone if own == name for to in [tuple(to)]}
        assert mine <= of_service
        assert {to[0] for to in of_service - mine} <= {"consul"}
        assert {"redis", "user-service", "192.0.2.0/24"} <= {str(to[0]) for to in mine}
        assert not [source for source, own, *_ in come if own == name]


def test_its_login_is_its_own_and_reveals_no_other(whole: list[Registered]) -> None:
    names = {
        name: files(whole, name)["database-username"] for name in ("orders", *WORK, "orders-migration", "user-service")
    }
    assert names == {
        "orders": "svc_orders__a",
        **dict.fromkeys(WORK, "svc_orders__a"),
        "orders-migration": "svc_orders__owner",
        "user-service": "myuser_a",
    }
    passwords = {files(whole, name)["database-password"] for name in ("orders", "orders-migration", "user-service")}
    assert len(passwords) == 3
    assert {len(password) for password in passwords} >= {43}
    reported = files(whole, "postgres-roles")
    assert not passwords - {CANARY} & {line for content in reported.values() for line in content.split()}
    assert reported["verifiers.sql"].count("\\set svc_orders__") == 3
    assert "\\set role svc_orders\n" in reported["services.sql"]


def test_a_job_runs_once_at_a_time_within_its_deadline_and_is_left_to_be_looked_at(whole: list[Registered]) -> None:
    found, pod, _ = workload(whole, "orders-tidy")
    spec = found.inputs["spec"]
    assert (spec["schedule"], spec["timeZone"], spec["concurrencyPolicy"]) == ("0 3 * * *", "UTC", "Forbid")
    assert (spec["successfulJobsHistoryLimit"], spec["failedJobsHistoryLimit"]) == (1, 1)
    assert spec["jobTemplate"]["spec"]["activeDeadlineSeconds"] == 600
    assert pod["restartPolicy"] == "Never"


def test_a_worker_is_probed_by_its_heartbeat_and_has_its_replicas(whole: list[Registered]) -> None:
    for name, replicas in (("orders-mailer", 1), ("orders-counter", 2)):
        found, _, container = workload(whole, name)
        assert found.inputs["spec"]["replicas"] == replicas
        assert all(
            "find /tmp/heartbeat" in container[probe]["exec"]["command"][2]
            for probe in ("livenessProbe", "readinessProbe")
        )
        assert "ports" not in container
        assert "annotations" not in template(found)["metadata"]
        assert not [r for r in whole if kind(r) == "Service" and r.name == name]
        assert bool([r for r in whole if kind(r) == "PodDisruptionBudget" and r.name == name]) == (replicas > 1)


def test_they_give_up_what_they_do_not_need(whole: list[Registered]) -> None:
    for name in (*WORK, "orders"):
        _, pod, _ = workload(whole, name)
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["automountServiceAccountToken"] is False
        for container in containers(pod):
            assert container["securityContext"]["readOnlyRootFilesystem"] is True


def test_the_policies_find_nothing(whole: list[Registered]) -> None:
    resources = [Resource(r.type, r.name, r.inputs, protected=r.protected) for r in whole]
    mine = [resource for resource in resources if resource.name.startswith("orders")]
    assert {resource.kind for resource in mine} >= {"CronJob", "Deployment", "Job", "NetworkPolicy", "Secret"}
    for rule in RESOURCE_RULES:
        if rule.__name__ not in ("allowed_registries", "images_by_digest"):  # the images are the test's own
            assert [problem for resource in mine for problem in rule(resource)] == [], rule.__name__
    guards = [problem for rule in STACK_RULES for whose, problem in rule(resources) if whose in mine]
    assert guards == []


def test_services_with_the_longest_names_that_call_each_other_are_valid_objects() -> None:
    one, other = ("a" * (LONGEST_NAME - 1) + last for last in "bc")
    caller = Service(one, needs=("postgres", "redis", "consul"), prefixes=(), calls=(other,), migrates=True)
    callee = Service(other, needs=("postgres", "consul"), prefixes=(), migrates=True)
    with declared(caller, callee):
        found = run_with("dev", settings_of("dev") | {"outside": MAIL})
    values = [
        (resource.name, value)
        for resource in found
        for value in resource.inputs.get("metadata", {}).get("labels", {}).values()
    ]
    assert [
        (name, value)
        for name, value in values
        if not re.fullmatch(r"[a-z0-9A-Z]([a-zA-Z0-9._-]{0,61}[a-zA-Z0-9])?", value)
    ] == []
    policies = [resource for resource in found if kind(resource) == "NetworkPolicy" and one in resource.name]
    assert len({policy.inputs["metadata"]["labels"]["app.kubernetes.io/name"] for policy in policies}) == len(policies)
