import json
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from estate.cluster.layout import REGISTRY
from estate.core.console import EstateError
from estate.ops import starting
from estate.ops.starting import PATIENCE_BEFORE_S, PATIENCE_S, Starts, refuse_missing
from estate.stack import model
from estate.stack.model import Stack
from estate.stack.target import Target
from infra.settings.load import parse
from tests.support.minimum import MINIMUM

DIGEST = "sha256:" + "a" * 64
UNKNOWN = "ERROR: docker.io/x/y:1: not found"
"""Output of buildx where a registry answers that it has no such image."""


def stack_on(folder: Path, *, embedded: bool, digests: dict[str, str]) -> Stack:
    settings = SimpleNamespace(build=False, digests=digests, image_references=lambda: ["docker.io/library/redis:7"])
    environment = {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}
    return Stack("dev", cast("Any", settings), Target(folder, "context", environment, embedded=embedded))


def buildx(folder: Path, said: str, code: int) -> None:
    """Put programs on PATH that answer like buildx."""
    for name in ("docker", "docker-buildx"):
        (folder / name).write_text(f"#!/bin/sh\necho '{said}' >&2\nexit {code}\n")
        (folder / name).chmod(0o755)


@pytest.mark.parametrize("embedded", [True, False])
def test_an_image_that_its_registry_does_not_have_is_refused(tmp_path: Path, *, embedded: bool) -> None:
    buildx(tmp_path, UNKNOWN, 1)
    stack = stack_on(tmp_path, embedded=embedded, digests={"user-service": f"ghcr.io/x/y@{DIGEST}"})
    with pytest.raises(EstateError, match="nothing was changed") as refused:
        refuse_missing(stack)
    assert f"ghcr.io/x/y@{DIGEST}" in str(refused.value)
    assert ("docker.io/library/redis:7" in str(refused.value)) is not embedded


@pytest.mark.parametrize(
    ("said", "code"), [("", 0), ("dial tcp: lookup ghcr.io: no such host", 1), ("unauthorized: access denied", 1)]
)
def test_a_registry_that_does_not_say_so_refuses_nothing(tmp_path: Path, said: str, code: int) -> None:
    buildx(tmp_path, said, code)
    refuse_missing(stack_on(tmp_path, embedded=False, digests={"user-service": f"ghcr.io/x/y@{DIGEST}"}))


@pytest.mark.parametrize("there", [True, False])
def test_the_embedded_registry_is_asked_itself(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, there: bool) -> None:
    asked: list[str] = []

    def in_registry(reference: str) -> bool:
        asked.append(reference)
        return there

    monkeypatch.setattr(starting, "in_registry", in_registry)
    stack = stack_on(tmp_path, embedded=True, digests={"user-service": f"{REGISTRY}/user-service@{DIGEST}"})
    if there:
        refuse_missing(stack)
    else:
        with pytest.raises(EstateError, match="does not have"):
            refuse_missing(stack)
    assert asked == [f"{REGISTRY}/user-service@{DIGEST}"]


def pod(uid: str, reason: str, **metadata: str) -> dict[str, Any]:
    held: dict[str, Any] = {"waiting": {"reason": reason, "message": "Back-off pulling image\nmore"}}
    status: dict[str, Any] = {
        "containerStatuses": [{"name": "app", "state": held}, {"name": "other", "state": {"running": {}}}]
    }
    return {"kind": "Pod", "metadata": {"uid": uid, "name": f"pod-{uid}", **metadata}, "status": status}


QUOTA = 'pods "x" is forbidden: exceeded quota: none'


def controller(kind: str, replicas: int) -> dict[str, Any]:
    return {
        "kind": kind,
        "metadata": {"uid": "1", "name": "thing"},
        "spec": {"replicas": 2},
        "status": {"replicas": replicas},
    }


def refused(reason: str = "FailedCreate", age_s: float = 5) -> dict[str, Any]:
    last = (datetime.now(UTC) - timedelta(seconds=age_s)).strftime("%Y-%m-%dT%H:%M:%SZ")
    about = {"involvedObject": {"uid": "1"}, "message": QUOTA}
    return {"kind": "Event", "metadata": {"uid": "e"}, "reason": reason, "lastTimestamp": last, **about}


class Cluster:
    """A clock, and pods."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.pods: list[dict[str, Any]] | None = []
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        monkeypatch.setattr(starting, "ask", self.ask)
        self.starts = Starts(cast("Stack", None))

    def ask(self, _stack: Stack, *_words: str) -> str:
        if self.pods is None:
            raise EstateError("it does not answer")
        return json.dumps({"items": self.pods})

    def after(self, seconds: float, *there: dict[str, Any]) -> str | None:
        self.now += seconds
        self.pods = list(there)
        return self.starts.hopeless()


@pytest.mark.parametrize(
    "reason", ["ErrImagePull", "ImagePullBackOff", "InvalidImageName", "CreateContainerConfigError"]
)
def test_a_container_that_cannot_start_has_its_time(monkeypatch: pytest.MonkeyPatch, reason: str) -> None:
    cluster = Cluster(monkeypatch)
    assert cluster.after(0) is None
    assert cluster.after(5, pod("a", reason)) is None
    assert cluster.after(PATIENCE_S - 1, pod("a", reason)) is None
    assert cluster.after(1, pod("a", reason)) == f"pod pod-a, container app: {reason}: Back-off pulling image"


@pytest.mark.parametrize("kind", ["ReplicaSet", "StatefulSet"])
def test_a_controller_whose_pods_are_refused_has_its_time(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    cluster = Cluster(monkeypatch)
    assert cluster.after(0) is None
    assert cluster.after(5, controller(kind, 1), refused()) is None
    assert cluster.after(PATIENCE_S, controller(kind, 1), refused()) == f"{kind} thing: {QUOTA}"


@pytest.mark.parametrize(
    ("there", "event"),
    [(2, refused()), (1, refused(age_s=600)), (1, refused("SuccessfulCreate"))],
    ids=["it has them", "long ago", "another event"],
)
def test_a_controller_that_goes_on_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, there: int, event: dict[str, Any]
) -> None:
    cluster = Cluster(monkeypatch)
    for seconds in (0, 5, PATIENCE_S, PATIENCE_S):
        assert cluster.after(seconds, controller("ReplicaSet", there), event) is None


def test_one_that_is_replaced_or_starts_after_all_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(monkeypatch)
    cluster.after(0)
    assert cluster.after(5, pod("a", "ErrImagePull")) is None
    assert cluster.after(PATIENCE_S, pod("b", "ErrImagePull"), pod("c", "ContainerCreating")) is None
    assert cluster.after(PATIENCE_S, pod("b", "ErrImagePull", deletionTimestamp="now")) is None
    assert cluster.after(5, pod("b", "ErrImagePull")) is None


def test_one_of_before_the_update_has_more_time(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(monkeypatch)
    assert cluster.after(0, pod("a", "ImagePullBackOff")) is None
    assert cluster.after(PATIENCE_BEFORE_S - 1, pod("a", "ImagePullBackOff")) is None
    assert cluster.after(1, pod("a", "ImagePullBackOff"))


def test_a_cluster_that_does_not_answer_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(monkeypatch)
    cluster.pods = None
    assert cluster.starts.hopeless() is None


ENDING = "trap 'echo ended; exit 255' INT; while :; do sleep 0.1; done"


@pytest.mark.parametrize(("pulumi", "hopeless"), [(ENDING, True), ("exit 0", True), ("sleep 0.3", False)])
def test_an_update_is_asked_to_end_where_it_is_hopeless(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str], pulumi: str, *, hopeless: bool
) -> None:
    program = tmp_path / "pulumi"
    program.write_text(f"#!/bin/sh\n{pulumi}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(model, "LOOK_EVERY_S", 0.1)
    stack = Stack("dev", parse(MINIMUM, "here"), Target(tmp_path, "context", dict(os.environ), embedded=False))
    reason = "pod a: ErrImagePull" if hopeless else None
    if pulumi is ENDING:
        with pytest.raises(EstateError, match=r"pod a: ErrImagePull\nIt was ended there; estate up --stack dev"):
            stack.pulumi_shown("up", hopeless=lambda: reason)
        assert capfd.readouterr().out == "ended\n"
    else:
        stack.pulumi_shown("up", hopeless=lambda: reason)


@pytest.mark.parametrize(("status", "waits"), [({}, False), ({"active": 1}, True), ({"succeeded": 1}, True)])
def test_a_job_that_may_have_no_pod_ends_the_wait_for_it(
    monkeypatch: pytest.MonkeyPatch, status: dict[str, int], *, waits: bool
) -> None:
    cluster = Cluster(monkeypatch)
    cluster.starts = Starts(cast("Stack", None), "backup-now")
    job = {"kind": "Job", "metadata": {"uid": "1", "name": "backup-now"}, "spec": {}, "status": status}
    others = pod("other", "ErrImagePull")  # no affair of this Job's
    assert cluster.after(0, job, refused(), others) is None
    said = cluster.after(PATIENCE_BEFORE_S, job, refused(), others)
    assert said == (None if waits else f"Job backup-now: {QUOTA}")
