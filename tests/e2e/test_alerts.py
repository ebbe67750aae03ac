"""Somebody is told within two minutes of everything that is broken here, told again when it is mended, and of nothing while all is well."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.running import Kubectl, connect, eventually, kubectl_of
from tests.sink import RECEIVERS, SECRETS, Sink, listening
from tests.stacks import beside_local, local_images
from toolchain.estate import new_token
from toolchain.stack import Stack, outputs

NAME = "test-alerts"
ONE = {"replicas": 1, "requests": {"cpu": "10m"}}
WITHIN_S = 120
QUIET_S = 60
ACTIVE = ("amtool", "--alertmanager.url=http://localhost:9093", "alert", "query", "--output=json")
PACE_S = 0.2
"""Between requests: few enough that those of a later test count among them."""
pytestmark = pytest.mark.timeout(900)  # it brings a stack up, and removes it


@pytest.fixture(scope="module")
def sink() -> Iterator[Sink]:
    with listening() as sink:
        yield sink


@pytest.fixture(scope="module")
def stack(sink: Sink) -> Iterator[Stack]:
    """A stack that tells the sink of its alerts."""
    del sink  # it listens before the first alert
    services = {"api-gateway": ONE}
    with beside_local(
        NAME, "local", local_images(), SECRETS, service=ONE, services=services, receivers=RECEIVERS
    ) as stack:
        yield stack


@pytest.fixture(scope="module")
def told_stack(stack: Stack) -> Kubectl:
    return kubectl_of(stack)


@pytest.fixture(scope="module")
def client(stack: Stack) -> Iterator[httpx.Client]:
    with connect(outputs(stack)["urls"]["gateway"], new_token(stack)) as client:
        yield client


def ringing(sink: Sink) -> set[str]:
    """Names of the alerts that ring; the dead man's switch aside, which always does."""
    return {name for name in {one.alertname for one in sink.told} - {"Watchdog"} if sink.ringing(name)}


def test_the_dead_mans_switch_is_heard_by_its_own_receiver_alone(told_stack: Kubectl, sink: Sink) -> None:
    del told_stack
    eventually(lambda: bool(sink.of("Watchdog")), "the Watchdog is heard", WITHIN_S)
    assert {told.receiver for told in sink.of("Watchdog")} == {"dead-man"}


def test_nothing_rings_while_all_is_well(told_stack: Kubectl, sink: Sink, client: httpx.Client) -> None:
    # While a stack comes up for the first time, Prometheus is there before the services.
    def settled() -> bool:
        known = told_stack("exec", "alertmanager-0", "--", *ACTIVE)
        return {alert["labels"]["alertname"] for alert in json.loads(known)} == {"Watchdog"} and not ringing(sink)

    eventually(settled, "what rang while the stack came up is over", 3 * WITHIN_S)
    sink.told.clear()
    end = time.monotonic() + QUIET_S
    while time.monotonic() < end:
        assert client.get("/api/v1/users?limit=1").status_code == 200
        time.sleep(PACE_S)
    assert ringing(sink) == set()


def test_a_service_that_is_gone_is_told_of_within_two_minutes_and_so_is_its_return(
    told_stack: Kubectl, sink: Sink, client: httpx.Client
) -> None:
    sink.told.clear()
    begun = time.monotonic()
    told_stack("scale", "deployment", "user-service", "--replicas=0")

    def told() -> bool:
        client.get("/api/v1/users?limit=1")  # fails, which is told of the gateway
        return bool(sink.of("ServiceDown", service="user-service") and sink.of("RequestsFail", service="api-gateway"))

    eventually(told, "ServiceDown and RequestsFail are told", WITHIN_S)
    (first, *_) = sink.of("ServiceDown", service="user-service")
    assert first.at - begun < WITHIN_S
    assert (first.receiver, first.labels["severity"]) == ("sink", "critical")
    assert first.annotations["runbook_url"] == "docs/runbooks/service-down.md"
    assert not sink.of("ServiceDown", service="api-gateway")
    told_stack("scale", "deployment", "user-service", "--replicas=1")
    eventually(
        lambda: bool(sink.of("ServiceDown", "resolved", service="user-service")), "its end is told", 2 * WITHIN_S
    )


def of_ours(kubectl: Kubectl, name: str, command: str, **more: Any) -> dict[str, Any]:
    """A pod like user-service's that runs something else."""
    template = json.loads(kubectl("get", "deployment", "user-service", "-o", "json"))["spec"]["template"]["spec"]
    (container,) = template["containers"]
    kept = {key: container[key] for key in ("image", "resources", "securityContext")}
    spec = {
        "automountServiceAccountToken": False,
        "securityContext": template["securityContext"],
        "terminationGracePeriodSeconds": 0,
        "containers": [kept | {"name": name, "command": ["sh", "-c", command]} | more],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app.kubernetes.io/name": name}},
        "spec": spec,
    }


def broken(kubectl: Kubectl) -> list[dict[str, Any]]:
    """A pod that ends again and again, one that cannot start, one that answers no scrape, and a Job that fails."""
    silent = of_ours(kubectl, "silent", "sleep 3600")
    silent["metadata"]["annotations"] = {"prometheus.io/scrape": "true", "prometheus.io/port": "9"}
    failing = of_ours(kubectl, "failing", "exit 1")["spec"] | {"restartPolicy": "Never"}
    job = {"backoffLimit": 0, "template": {"spec": failing}}
    return [
        of_ours(kubectl, "ending", "exit 1"),
        of_ours(kubectl, "nameless", "true", image="localhost:5000/estate/there-is-no-such-image:1"),
        silent,
        {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "failing"}, "spec": job},
    ]


DOWN = {"deployment/redis": "CacheDown", "statefulset/postgres": "PostgresDown", "statefulset/consul": "ConsulDown"}
LONG_AGO = {"status": {"lastSuccessfulTime": "2020-01-01T00:00:00Z"}}
TOLD = {
    *DOWN.values(),
    "PodCrashLooping",
    "PodCannotStart",
    "TargetDown",
    "JobFailed",
    "BackupTooOld",
    "RestoreNotRehearsed",
}
"""What is told when everything of the test below is broken at once."""


def test_everything_that_breaks_is_told_of_within_two_minutes_and_that_it_is_mended(
    told_stack: Kubectl, sink: Sink, tmp_path: Path
) -> None:
    manifests = tmp_path / "broken.json"
    manifests.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": broken(told_stack)}))
    sink.told.clear()
    told_stack("apply", "-f", str(manifests))
    for cron_job in ("postgres-backup", "postgres-restore"):
        told_stack(
            "patch", "cronjob", cron_job, "--subresource=status", "--type=merge", f"--patch={json.dumps(LONG_AGO)}"
        )
    for workload in DOWN:
        told_stack("scale", workload, "--replicas=0")
    eventually(lambda: ringing(sink) >= TOLD, f"all of {TOLD} are told", WITHIN_S)

    told_stack("delete", "-f", str(manifests), "--wait=false")
    for workload in DOWN:
        told_stack("scale", workload, "--replicas=1")
    told_stack("scale", "deployment/kube-state-metrics", "--replicas=0")  # without which nothing is known of pods
    eventually(lambda: bool(sink.ringing("MetricsMissing")), "MetricsMissing is told", WITHIN_S)
    assert not ringing(sink) & {*DOWN.values()}
    told_stack("scale", "deployment/kube-state-metrics", "--replicas=1")
    eventually(lambda: not sink.ringing("MetricsMissing"), "its end is told", 2 * WITHIN_S)
