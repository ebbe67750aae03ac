from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from estate.core.console import EstateError
from estate.report import status
from estate.report.metrics import Metrics
from estate.report.status import Alert, Objective, Status, Workload, belongs, screen, share, short, span, workload
from estate.stack.model import Stack
from estate.stack.objects import Objects
from estate.stack.target import Target
from infra.dashboards.catalogue import WINDOW
from infra.settings.load import parse
from infra.settings.service import Slo
from tests.support.minimum import MINIMUM

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
READY = Workload(name="redis", kind="Deployment", ready=1, desired=1, restarts=0, image="redis:7.0", age_s=60)
SLO = Slo(availability_percent=99.9, latency_percent=99, latency_s=0.5)
ALERT = Alert(
    name="ServiceDown",
    severity="critical",
    service="redis",
    summary="no redis",
    runbook="",
    since=NOW - timedelta(hours=2),
)


PROMISE = Objective(service="api-gateway", what="answered", promised=0.999, kept=0.9995, budget_left=0.5, window=WINDOW)
MISSED = PROMISE.model_copy(update={"kept": 0.99, "budget_left": -9})


class Answers(Metrics):
    """A Prometheus that has some series."""

    def __init__(self, values: dict[str, str]) -> None:
        self.values = values

    def alerts(self) -> list[dict[str, Any]]:
        return []

    def now(self, expression: str) -> list[dict[str, Any]]:
        return [{"value": [0, value]} for name, value in self.values.items() if expression.startswith(name)]


def made(ago_s: int, **labels: str) -> dict[str, Any]:
    return {"labels": labels, "creationTimestamp": (NOW - timedelta(seconds=ago_s)).isoformat()}


def pod(ago_s: int, restarts: int, **labels: str) -> dict[str, Any]:
    return {
        "kind": "Pod",
        "metadata": made(ago_s, **labels),
        "status": {"containerStatuses": [{"restartCount": restarts}]},
    }


def deployment(ready: int, wanted: int) -> dict[str, Any]:
    image = f"localhost:5000/estate/redis:local@sha256:{'ab' * 32}"
    template = {"spec": {"containers": [{"image": image}]}}
    return {
        "kind": "Deployment",
        "metadata": {"name": "redis"} | made(9000),
        "spec": {"replicas": wanted, "selector": {"matchLabels": {"name": "redis"}}, "template": template},
        "status": {"readyReplicas": ready},
    }


def report(**changed: Any) -> Status:
    whole: dict[str, Any] = {
        "stack": "local", "at": NOW, "workloads": [READY], "objectives": [], "alerts": [], "deviations": [], "unanswered": None,
        "release": {}, "releases": 0, "versions": {}, "urls": {"gateway": "https://api.myapp.com"},
    }  # fmt: skip
    return Status(**(whole | changed))


def test_a_workload_is_what_the_cluster_has_of_it_and_its_pods() -> None:
    found = workload(deployment(1, 2), [pod(7000, 3), pod(120, 1)], NOW)
    assert (found.ready, found.desired, found.restarts, found.age_s) == (1, 2, 4, 120)
    assert found.image == "redis:local@abababababab"
    assert not found.well
    assert workload(deployment(2, 2), [], NOW).well


def test_a_daemon_set_and_an_operators_cluster_say_in_their_own_way_how_many_are_ready() -> None:
    agents = deployment(0, 0) | {"kind": "DaemonSet", "status": {"numberReady": 2, "desiredNumberScheduled": 3}}
    assert (workload(agents, [], NOW).ready, workload(agents, [], NOW).desired) == (2, 3)
    spec = {"instances": 3, "imageName": "ghcr.io/cloudnative-pg/postgresql:15"}
    cluster = {
        "kind": "Cluster",
        "metadata": {"name": "postgres"} | made(9),
        "spec": spec,
        "status": {"readyInstances": 2},
    }
    found = workload(cluster, [], NOW)
    assert (found.ready, found.desired, found.image) == (2, 3, "postgresql:15")
    assert belongs(pod(1, 0, **{"cnpg.io/cluster": "postgres"}), cluster)


def test_pods_belong_to_the_app_of_their_labels() -> None:
    assert belongs(pod(1, 0, name="redis", more="x"), deployment(1, 1))
    assert not belongs(pod(1, 0, name="postgres"), deployment(1, 1))


def test_the_screen_says_what_is_wrong_at_the_head_of_its_lines() -> None:
    unready = READY.model_copy(update={"ready": 0})
    lines = list(screen(report(workloads=[unready], alerts=[ALERT])))
    assert [line for line in lines if line.startswith("✗")] == [
        "✗ stack local is degraded (workloads not ready: 1 of 1; critical alerts: 1)",
        "✗ redis     0/1    0         1m   redis:7.0",
        "✗ ServiceDown (critical, for 2h): no redis",
    ]


def test_the_screen_of_a_healthy_stack_has_nothing_wrong_and_its_urls() -> None:
    text = "\n".join(screen(report()))
    assert "✗" not in text
    assert "no alert fires" in text
    assert "https://api.myapp.com" in text


def test_the_screen_says_so_when_prometheus_does_not_answer() -> None:
    text = "\n".join(screen(report(unanswered="Prometheus cannot be reached")))
    assert "alerts and objectives are not known: Prometheus cannot be reached" in text
    assert "no alert fires" not in text


WORKLOADS: tuple[list[Workload], ...] = [], [READY], [READY, READY.model_copy(update={"ready": 0})]
OBJECTIVES: tuple[list[Objective], ...] = (
    [],
    [PROMISE],
    [PROMISE, MISSED],
    [PROMISE.model_copy(update={"kept": None, "budget_left": None})],
)
ALERTS: tuple[list[Alert], ...] = [], [ALERT], [ALERT.model_copy(update={"severity": "warning"})]


@pytest.mark.parametrize("unanswered", [None, "Prometheus cannot be reached"])
@pytest.mark.parametrize("alerts", ALERTS)
@pytest.mark.parametrize("objectives", OBJECTIVES)
@pytest.mark.parametrize("workloads", WORKLOADS)
def test_a_stack_is_healthy_when_no_line_says_that_something_is_not_as_it_should_be(
    workloads: list[Workload], objectives: list[Objective], alerts: list[Alert], unanswered: str | None
) -> None:
    found = report(workloads=workloads, objectives=objectives, alerts=alerts, unanswered=unanswered)
    head, *rest = screen(found)
    assert head.startswith("✓ stack local is healthy" if found.healthy else "✗ stack local is degraded (")
    assert found.healthy == (not any(line.startswith("✗") for line in rest))
    assert found.model_dump()["healthy"] == found.healthy


def test_a_missed_objective_makes_a_stack_degraded_and_a_warning_does_not() -> None:
    missed = report(objectives=[PROMISE, MISSED])
    assert next(screen(missed)) == "✗ stack local is degraded (objectives missed: 1 of 2)"
    assert report(alerts=[ALERT.model_copy(update={"severity": "warning"})]).healthy


def test_objectives_are_those_that_prometheus_has_recorded() -> None:
    prometheus = Answers({f"slo:errors:ratio_rate{WINDOW}": "0.0005", f"slo:slow:ratio_rate{WINDOW}": "0.02"})
    answered, in_time = status.objectives(prometheus, "api-gateway", SLO)
    assert (answered.promised, answered.kept, answered.well) == (0.999, 0.9995, True)
    assert answered.budget_left == pytest.approx(0.5)  # pyright: ignore[reportUnknownMemberType]
    assert (in_time.promised, in_time.kept, in_time.well) == (0.99, 0.98, False)
    assert in_time.budget_left == pytest.approx(-1)  # pyright: ignore[reportUnknownMemberType]


def test_objectives_that_are_not_recorded_yet_are_computed() -> None:
    answered, in_time = status.objectives(Answers({"(sum(rate(": "0.001", "1 - sum(rate(": "NaN"}), "api-gateway", SLO)
    assert answered.kept == 0.999
    assert (in_time.kept, in_time.budget_left, in_time.well) == (None, None, True)


def test_the_screen_shows_objectives_with_their_targets() -> None:
    lines = [line.split("  ") for line in screen(report(objectives=[PROMISE, MISSED])) if "api-gateway" in line]
    assert [[word.strip() for word in line if word] for line in lines] == [
        ["✓ api-gateway, answered", "99.9 %", "99.95 %", "50 %"],
        ["✗ api-gateway, answered", "99.9 %", "99 %", "0 %"],
    ]


@pytest.mark.parametrize("percent", [0.001, 0.95, 9.5, 99.4, 99.5, 99.9995, 100])
@pytest.mark.parametrize("digits", [2, 5])
def test_a_share_is_written_without_an_exponent(percent: float, digits: int) -> None:
    number, _, unit = share(percent / 100, digits).partition(" ")
    assert unit == "%"
    assert "e" not in number
    assert float(number) == pytest.approx(percent, rel=0.5 * 10 ** (1 - digits))  # pyright: ignore[reportUnknownMemberType]


@pytest.fixture
def stack(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Stack:
    """Return a stack whose Prometheus does not answer."""

    def found(_stack: Stack, _now: datetime) -> list[Workload]:
        return [READY]

    def refused(_stack: Stack) -> None:
        raise EstateError("Prometheus cannot be reached")

    known: dict[str, dict[str, str]] = {"images": {}, "versions": {}, "urls": {}}
    monkeypatch.setattr(status, "outputs", lambda _stack: known)  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
    monkeypatch.setattr(status, "workloads", found)
    monkeypatch.setattr(status, "metrics", refused)
    monkeypatch.setattr(status, "objects_of", lambda _stack: Objects([], {}))  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
    monkeypatch.setattr(status.releases, "known", lambda _stack: [])  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
    settings = parse(MINIMUM, "here")
    return Stack("local", settings, Target(tmp_path, "context", {}, embedded=False))


def test_without_prometheus_there_is_a_report_and_it_is_not_healthy(stack: Stack) -> None:
    found = status.status_of(stack)
    assert found.workloads == [READY]
    assert found.unanswered == "Prometheus cannot be reached"
    assert not found.healthy


def test_only_services_that_run_have_objectives(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    gateway = READY.model_copy(update={"name": "api-gateway"})
    recorded = {f"slo:errors:ratio_rate{WINDOW}": "0", f"slo:slow:ratio_rate{WINDOW}": "0"}

    def found(_stack: Stack, _now: datetime) -> list[Workload]:
        return [gateway]

    monkeypatch.setattr(status, "workloads", found)
    monkeypatch.setattr(status, "metrics", lambda _stack: nullcontext(Answers(recorded)))  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
    assert {promise.service for promise in status.status_of(stack).objectives} == {"api-gateway"}


def test_what_is_not_as_declared_is_shown_and_makes_a_stack_degraded() -> None:
    found = report(deviations=["NetworkPolicy `default-deny` is missing"])
    assert not found.healthy
    lines = list(screen(found))
    assert lines[0] == "✗ stack local is degraded (not as declared: 1)"
    assert "✗ NetworkPolicy `default-deny` is missing" in lines


def test_a_report_reads_back_from_its_json() -> None:
    whole = report(alerts=[ALERT])
    assert Status.model_validate_json(whole.model_dump_json()) == whole


@pytest.mark.parametrize(
    ("image", "brief"),
    [
        ("docker.io/library/postgres:15", "postgres:15"),
        (f"localhost:5000/estate/user-service@sha256:{'12' * 32}", "user-service@121212121212"),
    ],
)
def test_an_image_is_short_and_still_known(image: str, brief: str) -> None:
    assert short(image) == brief


@pytest.mark.parametrize(("seconds", "text"), [(5, "5s"), (60, "1m"), (7199, "1h"), (200_000, "2d")])
def test_a_time_is_shown_in_its_largest_unit(seconds: int, text: str) -> None:
    assert span(seconds) == text
