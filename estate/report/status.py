"""`estate status`: show the health of a stack, on one screen or as JSON."""

import json
import math
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, computed_field

from estate.core.console import EstateError, say
from estate.reconcile.additions import deviations
from estate.report.metrics import Metrics, metrics
from estate.stack import releases
from estate.stack.model import OURS, Stack, ask, load, outputs
from estate.stack.objects import objects_of
from estate.stack.target import target
from infra.alerts.objectives import recorded
from infra.dashboards.catalogue import WINDOW
from infra.services import NAMES
from infra.settings.service import Slo
from infra.settings.stack import StackSettings

KINDS = ("statefulsets", "deployments", "daemonsets")
CLUSTERS = "clusters.postgresql.cnpg.io"
WELL, WARNED, ILL = "✓", "!", "✗"
"""Marks at the start of a line; a stack is healthy if no line is marked ILL."""
MINUTE_S, HOUR_S, DAY_S = 60, 3600, 86400


class Report(BaseModel):
    """Base of the models that --json prints: their names are the keys of the JSON."""

    model_config = ConfigDict(frozen=True)


class Workload(Report):
    """A workload and its pods."""

    name: str
    kind: str
    ready: int
    desired: int
    restarts: int
    """Restarts of the containers in the current pods."""
    image: str
    """Image without registry and path; with the first digits of its digest if it is named by digest."""
    age_s: int
    """Seconds since the creation of the youngest pod."""

    @property
    def well(self) -> bool:
        """Return whether all desired pods are ready."""
        return self.ready >= self.desired


class Objective(Report):
    """Service level objective of a service, and its result."""

    service: str
    what: Literal["answered", "in time"]
    """Kind of the objective: requests answered without a failure of the service, or within the promised time."""
    promised: float
    """Promised share of the requests."""
    kept: float | None
    """Actual share of the requests over `window`; null if there were none."""
    budget_left: float | None
    """Remaining share of the error budget of `window`; negative if it is exceeded."""
    window: str

    @property
    def well(self) -> bool:
        """Return whether the objective was kept."""
        return self.kept is None or self.kept >= self.promised


class Alert(Report):
    """A firing alert."""

    name: str
    severity: str
    service: str
    summary: str
    runbook: str
    since: datetime

    @property
    def well(self) -> bool:
        """Return whether the alert is only a warning, not critical: it says what may go wrong, not what has."""
        return self.severity != "critical"


class Status(Report):
    """Current status of a stack."""

    stack: str
    at: datetime
    workloads: list[Workload]
    objectives: list[Objective]
    alerts: list[Alert]
    deviations: list[str]
    """Objects of the stack that are missing, being deleted or scaled, and additions to its objects."""
    unanswered: str | None
    """Reason that Prometheus did not answer; `alerts` and `objectives` are then unknown."""
    release: dict[str, str]
    """Images of our services in the last `make up`."""
    releases: int
    """Number of releases that `estate rollback` knows."""
    versions: dict[str, str]
    """Third-party images."""
    urls: dict[str, str]

    @computed_field
    @property
    def healthy(self) -> bool:
        """Return whether the stack has no faults: workloads ready and as declared, objectives kept, no critical alert, Prometheus answers."""
        return not self.faults

    @property
    def faults(self) -> list[str]:
        """Return the faults by kind, with their numbers."""
        unready, missed, critical = (
            sum(not found.well for found in kind) for kind in (self.workloads, self.objectives, self.alerts)
        )
        counted = (
            (not self.workloads, "nothing runs"),
            (self.deviations, f"not as declared: {len(self.deviations)}"),
            (unready, f"workloads not ready: {unready} of {len(self.workloads)}"),
            (missed, f"objectives missed: {missed} of {len(self.objectives)}"),
            (critical, f"critical alerts: {critical}"),
            (self.unanswered, "Prometheus does not answer"),
        )
        return [fault for wrong, fault in counted if wrong]


def status_of(stack: Stack) -> Status:
    """Return the status of a stack, from the cluster and Prometheus.

    Raises:
        EstateError: the cluster does not answer, or the stack is not up.
    """
    known, now = outputs(stack), datetime.now(UTC)
    found = list(workloads(stack, now))
    promises: list[Objective] = []
    firing: list[Alert] = []
    unanswered: str | None = None
    try:
        with metrics(stack) as prometheus:
            firing = alerts(prometheus)
            running = {workload.name for workload in found}
            promises = [
                promise
                for name, slo in slos(stack.settings).items()
                if name in running  # a service that was declared since the last update has no objectives yet
                for promise in objectives(prometheus, name, slo)
            ]
    except EstateError as error:
        unanswered = str(error)
    return Status(
        stack=stack.name,
        at=now,
        workloads=found,
        objectives=promises,
        alerts=firing,
        deviations=deviations(objects_of(stack)),
        unanswered=unanswered,
        release=known["images"],
        releases=len(releases.known(stack)),
        versions=known["versions"],
        urls=known["urls"],
    )


def workloads(stack: Stack, now: datetime) -> Iterator[Workload]:
    """Yield the workloads that should run all the time."""
    kinds = (*KINDS, CLUSTERS) if stack.settings.postgres.kind == "cluster" else KINDS
    items = json.loads(ask(stack, "get", f"{','.join(kinds)},pods", OURS, "-o", "json"))["items"]
    pods = [item for item in items if item["kind"] == "Pod"]
    for item in sorted((item for item in items if item["kind"] != "Pod"), key=lambda item: item["metadata"]["name"]):
        yield workload(item, [pod for pod in pods if belongs(pod, item)], now)


def belongs(pod: dict[str, Any], item: dict[str, Any]) -> bool:
    """Return whether a pod belongs to a workload; CloudNativePG's pods belong to their Cluster."""
    labels = pod["metadata"].get("labels", {})
    if item["kind"] == "Cluster":
        return labels.get("cnpg.io/cluster") == item["metadata"]["name"]
    return item["spec"]["selector"]["matchLabels"].items() <= labels.items()


def workload(item: dict[str, Any], pods: Sequence[dict[str, Any]], now: datetime) -> Workload:
    """Return the status of a workload from its object and pods."""
    spec, state = item["spec"], item["status"]
    if item["kind"] == "DaemonSet":
        ready, desired = state.get("numberReady", 0), state.get("desiredNumberScheduled", 0)
    elif item["kind"] == "Cluster":
        ready, desired = state.get("readyInstances", 0), spec["instances"]
    else:
        ready, desired = state.get("readyReplicas", 0), spec["replicas"]
    image = spec["imageName"] if item["kind"] == "Cluster" else spec["template"]["spec"]["containers"][0]["image"]
    containers = [container for pod in pods for container in pod["status"].get("containerStatuses", ())]
    made = [datetime.fromisoformat(thing["metadata"]["creationTimestamp"]) for thing in pods or [item]]
    return Workload(
        name=item["metadata"]["name"],
        kind=item["kind"],
        ready=ready,
        desired=desired,
        restarts=sum(container["restartCount"] for container in containers),
        image=short(image),
        age_s=int((now - max(made)).total_seconds()),
    )


def short(image: str) -> str:
    """Return an image without its registry, with the first digits of its digest."""
    name, _, digest = image.rpartition("/")[2].partition("@sha256:")
    return f"{name}@{digest[:12]}" if digest else name


def slos(settings: StackSettings) -> dict[str, Slo]:
    """Return the service level objectives of each service."""
    return {name: settings.of(name).slo for name in NAMES}


def objectives(prometheus: Metrics, service: str, slo: Slo) -> Iterator[Objective]:
    """Yield the two objectives of a service, from the recorded series, or if there are none yet, from the recording rules' expressions."""
    rules = {rule["record"]: rule["expr"] for rule in recorded(service, slo, WINDOW)}
    kinds: tuple[tuple[Literal["answered", "in time"], str, float], ...] = (
        ("answered", "errors", slo.availability_percent),
        ("in time", "slow", slo.latency_percent),
    )
    for what, name, percent in kinds:
        record, promised = f"slo:{name}:ratio_rate{WINDOW}", round(percent / 100, 9)
        series = prometheus.now(f'{record}{{service="{service}"}}') or prometheus.now(rules[record])
        wrong = [value for one in series if math.isfinite(value := float(one["value"][1]))]
        yield Objective(
            service=service,
            what=what,
            promised=promised,
            kept=1 - wrong[0] if wrong else None,
            budget_left=1 - wrong[0] / (1 - promised) if wrong else None,
            window=WINDOW,
        )


def alerts(prometheus: Metrics) -> list[Alert]:
    """Return the firing alerts, the critical ones first."""
    found = [
        Alert(
            name=alert["labels"]["alertname"],
            severity=alert["labels"].get("severity", "warning"),
            service=alert["labels"].get("service") or alert["labels"].get("component", ""),
            summary=alert["annotations"].get("summary", ""),
            runbook=alert["annotations"].get("runbook_url") or alert["annotations"].get("runbook", ""),
            since=alert["activeAt"],
        )
        for alert in prometheus.alerts()
        if alert["labels"].get("severity") != "none"  # the watchdog always fires, so that its absence is noticed
    ]
    return sorted(found, key=lambda alert: (alert.severity, alert.name, alert.service))


def screen(status: Status) -> Iterator[str]:
    """Yield the lines of the human-readable status."""
    faults = f"degraded ({'; '.join(status.faults)})"
    yield f"{mark(status.healthy)} stack {status.stack} is {'healthy' if status.healthy else faults}"
    yield ""
    if not status.workloads:
        yield f"{ILL} nothing runs"
    yield from table(
        ("workload", "ready", "restarts", "age", "image"),
        [
            (
                f"{mark(found.well)} {found.name}",
                f"{found.ready}/{found.desired}",
                str(found.restarts),
                span(found.age_s),
                found.image,
            )
            for found in status.workloads
        ],
    )
    if status.deviations:
        yield ""
        yield from (f"{ILL} {deviation}" for deviation in status.deviations)
        yield f"  estate up --stack {status.stack} makes it as it is declared"
    if status.objectives:
        yield ""
        yield from table(
            (f"objective, over {WINDOW}", "promised", "kept", "budget left"),
            [
                (f"{mark(o.well)} {o.service}, {o.what}", share(o.promised), share(o.kept), share(o.budget_left, 2))
                for o in status.objectives
            ],
        )
    yield ""
    if status.unanswered:
        yield f"{ILL} alerts and objectives are not known: {status.unanswered}"
    elif not status.alerts:
        yield "  no alert fires"
    for alert in status.alerts:
        since = span(int((status.at - alert.since).total_seconds()))
        yield f"{WARNED if alert.well else ILL} {alert.name} ({alert.severity}, for {since}): {alert.summary}  {alert.runbook}".rstrip()
    yield ""
    facts = {
        "release": f"{', '.join(map(short, status.release.values()))} ({status.releases} known to estate rollback)",
        "versions": ", ".join(map(short, status.versions.values())),
        **dict(sorted(status.urls.items())),
    }
    width = max(map(len, facts))
    yield from (f"  {name:<{width}}  {fact}" for name, fact in facts.items())


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """Yield the lines of a table with aligned columns."""
    lines = [(f"  {head[0]}", *head[1:]), *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    for line in lines:
        yield "  ".join(f"{word:<{width}}" for word, width in zip(line, widths, strict=True)).rstrip()


def share(value: float | None, digits: int = 5) -> str:
    """Return a share as a percentage; a negative one is shown as zero."""
    # Rounded first: with only two digits, 99.5 would be formatted as 1e+02.
    return "-" if value is None else f"{float(f'{max(value, 0) * 100:.{digits}g}'):g} %"


def mark(well: bool) -> str:  # noqa: FBT001 - the subject of the function
    """Return the mark at the start of a line."""
    return WELL if well else ILL


def span(seconds: int) -> str:
    """Return a duration in its largest unit."""
    for unit, size in (("d", DAY_S), ("h", HOUR_S), ("m", MINUTE_S)):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def show(name: str, *, as_json: bool) -> bool:
    """Print the status of a stack, and return whether it is healthy."""
    status = status_of(Stack(name, load(name), target()))
    say(status.model_dump_json(indent=2) if as_json else "\n".join(screen(status)))
    return status.healthy
