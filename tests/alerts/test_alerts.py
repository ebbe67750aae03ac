"""Alerts fire within two minutes of every fault injected here, resolve after its repair, and do not fire while the stack is healthy."""

import json
import subprocess
import threading
import time
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from estate.cluster.layout import NODE_NAME
from estate.stack.model import Stack, outputs
from tests.support.broken import (
    CONNECT,
    LAST_WORDS,
    LOCK,
    NO_IMAGE,
    PYTHON,
    UNLOCK,
    applied,
    at_once,
    cut_off,
    down,
    for_minutes,
    small_disk,
    with_other_rules,
)
from tests.support.running import Kubectl, alerts, all_reported, connect, eventually
from tests.support.sink import Sink

WITHIN_S = 120
QUIET_S = 60
PACE_S = 0.2
"""Seconds between requests: long enough that the requests of a later test are a significant share."""
CLIENTS = 10
"""Number of clients, more than user-service has connections to Postgres."""
LIST = "/api/v1/users?limit=1"
pytestmark = pytest.mark.timeout(900)  # it brings a stack up, and removes it


def firing(sink: Sink) -> set[str]:
    """Return the names of the alerts that fire, except the dead man's switch, which always does."""
    return {name for name in {one.alertname for one in sink.notifications} - {"Watchdog"} if sink.firing(name)}


def test_the_dead_mans_switch_is_heard_by_its_own_receiver_alone(kubectl: Kubectl, sink: Sink) -> None:
    del kubectl
    eventually(lambda: bool(sink.of("Watchdog")), "the Watchdog is heard", WITHIN_S)
    assert {reported.receiver for reported in sink.of("Watchdog")} == {"dead-man"}


def test_nothing_rings_while_all_is_well(kubectl: Kubectl, sink: Sink, client: httpx.Client) -> None:
    # While a stack comes up for the first time, Prometheus is ready before the services.
    def settled() -> bool:
        return alerts(kubectl) == {"Watchdog"} and not firing(sink)

    eventually(settled, "what rang while the stack came up is over", 3 * WITHIN_S)
    sink.notifications.clear()
    end = time.monotonic() + QUIET_S
    while time.monotonic() < end:
        assert client.get(LIST).status_code == 200
        time.sleep(PACE_S)
    assert firing(sink) == set()


@pytest.fixture(scope="module")
def for_long(kubectl: Kubectl, sink: Sink, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Inject the faults whose alerts need minutes before the others, and repair them last."""
    with small_disk(tmp_path_factory.mktemp("disk")) as disk:
        file = tmp_path_factory.mktemp("broken") / "for_minutes.json"
        with applied(kubectl, for_minutes(kubectl, disk, NODE_NAME), file):
            kubectl("rollout", "status", "deployment/stuck", "--timeout=60s")
            kubectl("set", "image", "deployment/stuck", f"stuck={NO_IMAGE}")
            sink.refused.add("dead-man")
            yield
            sink.refused.clear()


@contextmanager
def traffic(client: httpx.Client, pace_s: float = PACE_S) -> Generator[None]:
    """Send reads of users from many clients, each `pace_s` seconds after its last answer, whatever it is, for the time of the context."""
    end = threading.Event()

    def ask() -> None:
        while not end.wait(pace_s):
            client.get(LIST, timeout=30)

    with ThreadPoolExecutor(CLIENTS) as threads:
        asking = [threads.submit(ask) for _ in range(CLIENTS)]
        try:
            yield
        finally:
            end.set()
    for thread in asking:
        thread.result()


@pytest.mark.usefixtures("for_long")
def test_a_service_that_is_gone_and_its_return_are_reported_in_time(
    kubectl: Kubectl, sink: Sink, client: httpx.Client, stack: Stack
) -> None:
    begun = time.monotonic()
    kubectl("scale", "deployment", "user-service", "--replicas=0")
    failing = ("RequestsFail", "RequestsShed")

    def reported() -> bool:
        of_gateway = all(sink.of(name, service="api-gateway") for name in failing)
        return of_gateway and bool(sink.of("ServiceDown", service="user-service"))

    with traffic(client):
        eventually(reported, f"ServiceDown and {failing} are reported", WITHIN_S)
        budgets = {"ErrorBudgetBurnsFast", "ErrorBudgetBurnsSlowly"}  # RequestsFail reports this too
        all_reported(lambda: alerts(kubectl, "--inhibited"), budgets, WITHIN_S)  # for Alertmanager, which inhibits them
    (first, *_) = sink.of("ServiceDown", service="user-service")
    assert first.at - begun < WITHIN_S
    assert (first.receiver, first.labels["severity"]) == ("sink", "critical")
    with connect(outputs(stack)["urls"]["prometheus"]) as prometheus:
        page = prometheus.get(first.annotations["runbook_url"])
    assert page.text.startswith("# ServiceDown\n")
    assert not sink.of("ServiceDown", service="api-gateway")
    kubectl("scale", "deployment", "user-service", "--replicas=1")
    eventually(
        lambda: bool(sink.of("ServiceDown", "resolved", service="user-service")), "its end is reported", 2 * WITHIN_S
    )
    eventually(lambda: not sink.firing("RequestsFail"), "its end is reported", 2 * WITHIN_S)
    eventually(lambda: bool(sink.firing("ErrorBudgetBurnsFast")), "what it has cost is reported", WITHIN_S)


LONG_AGO = {"status": {"lastSuccessfulTime": "2020-01-01T00:00:00Z"}}


@pytest.mark.usefixtures("for_long")
def test_locks_sessions_registry_and_old_backups_are_reported_in_time(
    stack: Stack, kubectl: Kubectl, sink: Sink, client: httpx.Client, tmp_path: Path
) -> None:
    passing = {"DatabasePoolExhausted", "InstancesUnregistered", "PostgresConnectionsNearLimit"}
    reported = passing | {"LatencyBudgetBurnsFast", "BackupTooOld", "RestoreNotRehearsed"}
    for cron_job in ("postgres-backup", "postgres-restore"):
        patch = f"--patch={json.dumps(LONG_AGO)}"
        kubectl("patch", "cronjob", cron_job, "--subresource=status", "--type=merge", patch)
    psql = ("exec", "postgres-0", "--", "psql", "--username=postgres", "--dbname=myapp")
    locking = stack.kubectl(*psql, *(f"--command={LOCK}" for _ in range(120)))
    connecting = stack.kubectl("exec", "deployment/user-service", "--", PYTHON, "-c", CONNECT)
    environment = stack.target.environment
    with (
        subprocess.Popen(connecting, env=environment, stdout=subprocess.PIPE, text=True) as connected,
        subprocess.Popen(locking, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL),
        cut_off(kubectl, "api-gateway-to-consul", tmp_path / "flow.json"),
        traffic(client, pace_s=0),  # so that every scrape finds them waiting
    ):
        try:
            all_reported(lambda: firing(sink), reported, WITHIN_S)
            all_reported(lambda: alerts(kubectl, "--inhibited"), {"LatencyBudgetBurnsSlowly"}, WITHIN_S)
        finally:
            kubectl(*psql, f"--command={UNLOCK}")  # as the runbook says
            connected.terminate()
    assert "user-service" in sink.firing("LatencyBudgetBurnsFast")
    kubectl("delete", "pod", "--selector=app.kubernetes.io/name=user-service", "--wait=false")
    eventually(lambda: not firing(sink) & passing, f"the end of {passing} is reported", 2 * WITHIN_S)


DOWN = {"deployment/redis": "CacheDown", "statefulset/postgres": "PostgresDown", "statefulset/consul": "ConsulDown"}
REPORTED = {
    *DOWN.values(),
    "PodCrashLooping",
    "PodCannotStart",
    "TargetDown",
    "JobFailed",
}
"""Alerts that fire when every fault of the test below is injected at once; PostgresDown inhibits its other warnings."""


@pytest.mark.usefixtures("for_long")
def test_everything_that_breaks_and_its_repair_are_reported_in_time(
    kubectl: Kubectl, sink: Sink, tmp_path: Path
) -> None:
    with applied(kubectl, at_once(kubectl), tmp_path / "at_once.json"), down(kubectl, DOWN):
        all_reported(lambda: firing(sink), REPORTED, WITHIN_S)
        # As the runbook says; the kubelet keeps the last log lines of the latest container alone.
        said = ("logs", "ending", "--previous", "--tail=50")
        eventually(lambda: LAST_WORDS in kubectl(*said), "why a pod ends is in its log", 60)
    eventually(lambda: not firing(sink) & {*DOWN.values()}, "the end of what was down is reported", 2 * WITHIN_S)


LONG = {
    "ContainerMemoryNearLimit": "holding",
    "CpuThrottled": "busy",
    "NotificationsFail": "alertmanager",
    "ReplicasMissing": "missing",
    "RolloutStuck": "stuck",
    "VolumeFilling": "small",
}
"""Alerts of the faults that last for minutes."""


@pytest.mark.usefixtures("for_long")
def test_what_has_lasted_for_minutes_was_reported(sink: Sink) -> None:
    def reported() -> set[str]:
        return {alert for alert, service in LONG.items() if service in sink.firing(alert)}

    all_reported(reported, {*LONG}, 3 * WITHIN_S)


def test_missing_metrics_and_expiring_certificates_are_reported_in_time(
    kubectl: Kubectl, sink: Sink, tmp_path: Path
) -> None:
    kubectl("scale", "deployment/kube-state-metrics", "--replicas=0")  # without it, pods have no metrics
    eventually(lambda: bool(sink.firing("MetricsMissing")), "MetricsMissing is reported", WITHIN_S)
    kubectl("scale", "deployment/kube-state-metrics", "--replicas=1")
    eventually(lambda: not sink.firing("MetricsMissing"), "its end is reported", 2 * WITHIN_S)
    by_rules = {"RulesFail", "CertificateExpires"}
    configuration, patch = with_other_rules(kubectl)
    with applied(kubectl, [configuration], tmp_path / "other_rules.json"):
        kubectl("patch", "statefulset", "prometheus", f"--patch={patch}")
        all_reported(lambda: firing(sink), by_rules, WITHIN_S)
