"""`make status`: what runs and how well, on one screen or as JSON."""

import json
import math
import os
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, computed_field

from infra.alerts.objectives import recorded
from infra.dashboards.catalogue import WINDOW
from infra.services import NAMES
from infra.settings import Slo, StackSettings
from toolchain import releases
from toolchain.console import DEVIATION, ToolchainError, run_command, say
from toolchain.metrics import Metrics, metrics
from toolchain.stack import Stack, ask, load, outputs
from toolchain.target import target

KINDS = ("statefulsets", "deployments", "daemonsets")
CLUSTERS = "clusters.postgresql.cnpg.io"
WELL, WARNED, ILL = "✓", "!", "✗"
"""Marks at the head of a line; a stack is healthy when none is ill."""
MINUTE_S, HOUR_S, DAY_S = 60, 3600, 86400


class Report(BaseModel):
    """What JSON=1 prints has these names."""

    model_config = ConfigDict(frozen=True)


class Workload(Report):
    """Pods of one name."""

    name: str
    kind: str
    ready: int
    desired: int
    restarts: int
    """Of the containers of the pods that there are."""
    image: str
    """Without registry and path; by the first digits of its digest where it is named by digest."""
    age_s: int
    """Since its youngest pod was made."""

    @property
    def well(self) -> bool:
        """Whether as many are ready as should be."""
        return self.ready >= self.desired


class Objective(Report):
    """What is promised of a service, and whether it was kept."""

    service: str
    what: Literal["answered", "in time"]
    """Without a failure of the service, or as fast as is promised."""
    promised: float
    """Share of the requests."""
    kept: float | None
    """Likewise, over `window`; null: there were no requests."""
    budget_left: float | None
    """Share of the failures that are allowed in `window`; negative: there were more."""
    window: str

    @property
    def well(self) -> bool:
        """Whether it was kept."""
        return self.kept is None or self.kept >= self.promised


class Alert(Report):
    """One that fires."""

    name: str
    severity: str
    service: str
    summary: str
    runbook: str
    since: datetime

    @property
    def well(self) -> bool:
        """Return whether it is a warning, which says what may go wrong, and not what has."""
        return self.severity != "critical"


class Status(Report):
    """A stack as it is now."""

    stack: str
    at: datetime
    workloads: list[Workload]
    objectives: list[Objective]
    alerts: list[Alert]
    unanswered: str | None
    """Why Prometheus did not answer; then `alerts` and `objectives` say nothing."""
    release: dict[str, str]
    """Image of each of our services, as `make up` last had it."""
    releases: int
    """How many `make rollback` knows."""
    versions: dict[str, str]
    """Images of everybody else's."""
    urls: dict[str, str]

    @computed_field
    @property
    def healthy(self) -> bool:
        """Return whether every workload is ready, Prometheus answers, every objective is kept, and no critical alert fires."""
        return not self.faults

    @property
    def faults(self) -> list[str]:
        """Return what is not as it should be, counted."""
        unready, missed, critical = (
            sum(not found.well for found in kind) for kind in (self.workloads, self.objectives, self.alerts)
        )
        counted = (
            (not self.workloads, "nothing runs"),
            (unready, f"workloads not ready: {unready} of {len(self.workloads)}"),
            (missed, f"objectives missed: {missed} of {len(self.objectives)}"),
            (critical, f"critical alerts: {critical}"),
            (self.unanswered, "Prometheus does not answer"),
        )
        return [fault for wrong, fault in counted if wrong]


def status_of(stack: Stack) -> Status:
    """Ask the cluster and Prometheus.

    Raises:
        ToolchainError: the cluster does not answer, or the stack is not up.
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
                if name in running  # a service that was declared since the last update has none yet
                for promise in objectives(prometheus, name, slo)
            ]
    except ToolchainError as error:
        unanswered = str(error)
    return Status(
        stack=stack.name,
        at=now,
        workloads=found,
        objectives=promises,
        alerts=firing,
        unanswered=unanswered,
        release=known["images"],
        releases=len(releases.known(stack)),
        versions=known["versions"],
        urls=known["urls"],
    )


def workloads(stack: Stack, now: datetime) -> Iterator[Workload]:
    """Everything that should be running all the time."""
    kinds = (*KINDS, CLUSTERS) if stack.settings.postgres.kind == "cluster" else KINDS
    items = json.loads(ask(stack, "get", f"{','.join(kinds)},pods", "-o", "json"))["items"]
    pods = [item for item in items if item["kind"] == "Pod"]
    for item in sorted((item for item in items if item["kind"] != "Pod"), key=lambda item: item["metadata"]["name"]):
        yield workload(item, [pod for pod in pods if belongs(pod, item)], now)


def belongs(pod: dict[str, Any], item: dict[str, Any]) -> bool:
    """Whether a pod is of a workload; an operator's pods are of its cluster."""
    labels = pod["metadata"].get("labels", {})
    if item["kind"] == "Cluster":
        return labels.get("cnpg.io/cluster") == item["metadata"]["name"]
    return item["spec"]["selector"]["matchLabels"].items() <= labels.items()


def workload(item: dict[str, Any], pods: Sequence[dict[str, Any]], now: datetime) -> Workload:
    """One, from what the cluster has of it and its pods."""
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
    """An image without its registry, with as much of its digest as tells it from others."""
    name, _, digest = image.rpartition("/")[2].partition("@sha256:")
    return f"{name}@{digest[:12]}" if digest else name


def slos(settings: StackSettings) -> dict[str, Slo]:
    """What is promised of each service."""
    return {name: settings.of(name).slo for name in NAMES}


def objectives(prometheus: Metrics, service: str, slo: Slo) -> Iterator[Objective]:
    """The two of a service, by what Prometheus has recorded, or where it has not yet, by what it has seen."""
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
    """Those that fire, the critical ones first."""
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
        if alert["labels"].get("severity") != "none"  # which always fires, for who listens to hear something
    ]
    return sorted(found, key=lambda alert: (alert.severity, alert.name, alert.service))


def screen(status: Status) -> Iterator[str]:
    """Lines for a person."""
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
        "release": f"{', '.join(map(short, status.release.values()))} ({status.releases} known to make rollback)",
        "versions": ", ".join(map(short, status.versions.values())),
        **dict(sorted(status.urls.items())),
    }
    width = max(map(len, facts))
    yield from (f"  {name:<{width}}  {fact}" for name, fact in facts.items())


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """Columns as wide as what is in them."""
    lines = [(f"  {head[0]}", *head[1:]), *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    for line in lines:
        yield "  ".join(f"{word:<{width}}" for word, width in zip(line, widths, strict=True)).rstrip()


def share(value: float | None, digits: int = 5) -> str:
    """A share for a person; what is less than nothing is nothing."""
    # Rounded first: of two digits alone, 99.5 would be written as 1e+02.
    return "-" if value is None else f"{float(f'{max(value, 0) * 100:.{digits}g}'):g} %"


def mark(well: bool) -> str:  # noqa: FBT001 - what it is about
    """At the head of a line."""
    return WELL if well else ILL


def span(seconds: int) -> str:
    """A time in its largest unit."""
    for unit, size in (("d", DAY_S), ("h", HOUR_S), ("m", MINUTE_S)):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def main() -> None:
    if len(sys.argv) != 2:
        raise ToolchainError("usage: python -m toolchain.status STACK (JSON=1 in the environment prints JSON)")
    status = status_of(Stack(sys.argv[1], load(sys.argv[1]), target()))
    say(status.model_dump_json(indent=2) if os.environ.get("JSON") else "\n".join(screen(status)))
    if not status.healthy:
        sys.exit(DEVIATION)


if __name__ == "__main__":
    run_command(main)
