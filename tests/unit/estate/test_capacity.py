import json
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from estate.core.console import EstateError
from estate.ops import capacity
from estate.ops.capacity import ASKED, fits, pods, refuse_too_large, requests, room, total
from estate.stack.model import Stack

HERE = {"nodeName": "estate"}
NODE = {"cpu": "4", "memory": "8Gi", "pods": "110"}


def container(cpu: str, memory: str, **more: str) -> dict[str, Any]:
    return {"name": "app", "resources": {"requests": {"cpu": cpu, "memory": memory}}, **more}


def event(kind: str, spec: dict[str, Any], op: str = "create") -> dict[str, Any]:
    declared = {"metadata": {"name": "app"}, "spec": spec}
    return {"resourcePreEvent": {"metadata": {"type": f"kubernetes:{kind}", "op": op, "new": {"inputs": declared}}}}


def deployment(replicas: int | None, *containers: dict[str, Any], op: str = "create") -> dict[str, Any]:
    number = {} if replicas is None else {"replicas": replicas}
    return event("apps/v1:Deployment", {**number, "template": {"spec": {"containers": list(containers)}}}, op)


def stack_on(monkeypatch: pytest.MonkeyPatch, *, embedded: bool, taken: str = "0", nodes: int = 1) -> Stack:
    """Return a stack on nodes of 4 CPU and 8Gi; another stack uses some CPU, and a completed pod requests more than a node has."""

    def running(
        namespace: str, cpu: str, phase: str = "Running", node: dict[str, str] = HERE, **metadata: str
    ) -> dict[str, Any]:
        return {
            "metadata": {"namespace": namespace, **metadata},
            "spec": {"containers": [container(cpu, "0")], **node},
            "status": {"phase": phase},
        }

    there = [
        running("other", taken),
        running("other", "64", deletionTimestamp="now"),
        running("other", "64", "Pending", node={}),
        running("other", "64", "Succeeded"),
        running("estate-dev", "3"),
    ]
    answers = {
        "nodes": [{"status": {"allocatable": NODE}}] * nodes,
        "pods": there,
    }

    def ask(_stack: Stack, _get: str, kind: str, *_words: str) -> str:
        return json.dumps({"items": answers[kind]})

    monkeypatch.setattr(capacity, "ask", ask)
    found = SimpleNamespace(name="dev", namespace="estate-dev", target=SimpleNamespace(embedded=embedded))
    return cast("Stack", found)


@pytest.mark.parametrize("embedded", [True, False])
@pytest.mark.parametrize(("cpu", "memory"), [("4001m", "1Gi"), ("1", "9Gi")])
def test_a_pod_that_no_node_can_take_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], cpu: str, memory: str, *, embedded: bool
) -> None:
    stack = stack_on(monkeypatch, embedded=embedded, nodes=3)
    reported = [deployment(1, container("1", "1Gi")), deployment(1, container(cpu, memory))]
    if embedded:
        with pytest.raises(EstateError, match=r"no node (?s:.*)Deployment app asks for (?s:.*)Nothing was changed"):
            refuse_too_large(stack, reported)
    else:
        refuse_too_large(stack, reported)
        assert "They wait until an autoscaler brings a larger node" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("reported", "taken", "refused"),
    [
        ([deployment(4, container("1", "1Gi"))], "0", False),
        ([deployment(5, container("1", "1Gi"))], "0", True),
        ([deployment(4, container("1", "1Gi"))], "100m", True),
        ([deployment(None, container("1", "1Gi"))], "3", False),
        ([deployment(9, container("1", "1Gi"), op="delete")], "3", False),
        ([event("batch/v1:Job", {"template": {"spec": {"containers": [container("4", "1Gi")]}}})], "3", False),
        (
            [event("postgresql.cnpg.io/v1:Cluster", {"instances": 3, "resources": {"requests": {"cpu": "2"}}})],
            "0",
            True,
        ),
        ([event("core/v1:Secret", {})], "4", False),
    ],
)
def test_the_embedded_cluster_has_room_for_all_or_refuses(
    monkeypatch: pytest.MonkeyPatch, reported: list[dict[str, Any]], taken: str, *, refused: bool
) -> None:
    stack = stack_on(monkeypatch, embedded=True, taken=taken)
    if refused:
        with pytest.raises(EstateError, match="nothing was changed"):
            refuse_too_large(stack, reported)
    else:
        refuse_too_large(stack, reported)


def test_an_autoscaler_is_left_to_make_room_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_too_large(stack_on(monkeypatch, embedded=False, taken="4"), [deployment(99, container("1", "1Gi"))])


def test_a_cron_job_is_looked_at_by_its_pod() -> None:
    spec = {"jobTemplate": {"spec": {"template": {"spec": {"containers": [container("2", "1Gi")]}}}}}
    assert [(name, number, of["cpu"]) for name, number, of in pods([event("batch/v1:CronJob", spec)])] == [
        ("CronJob app", 0, 2)
    ]


def test_what_runs_before_the_containers_counts_where_it_is_larger() -> None:
    pod = {
        "containers": [container("1", "1Gi"), {"name": "bare"}],
        "initContainers": [container("3", "512Mi"), container("500m", "1Gi", restartPolicy="Always")],
    }
    assert requests(pod) == room({"cpu": "3", "memory": "2Gi"})


ROOMS = st.fixed_dictionaries({key: st.fractions(min_value=0, max_value=100) for key in ASKED})


@given(st.lists(ROOMS), ROOMS)
def test_what_fits_together_fits_alone(rooms: list[Any], there: Any) -> None:
    if fits(total(rooms), there):
        assert all(fits(one, there) for one in rooms)
