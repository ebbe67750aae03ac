"""Faults that the tests inject into a stack so that alerts fire."""

import json
import subprocess
from collections.abc import Collection, Generator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from infra.alerts.platform import RENEWED_D
from infra.authority import NOT_AFTER
from tests.support.running import Kubectl

NO_IMAGE = "localhost:5000/estate/there-is-no-such-image:1"
LAST_WORDS = "this is why it ends"
MEMORY_MI, HELD = 128, 122_000_000
"""Memory limit of a container in MiB, and bytes that fill nine tenths of it together with Python itself."""
DISK = "16m"
CONNECTED = 82
"""Number of sessions that uses more than four fifths of Postgres' hundred connections."""
CONNECT = f"""
import asyncio, os, ssl, asyncpg

def of(name):
    return os.environ["APP_DATABASE_" + name]

def held(name):
    return open(of(name + "_FILE")).read()

async def main():
    trust = ssl.create_default_context(cafile=of("CA_FILE"))
    user, password = held("USERNAME"), held("PASSWORD")
    sessions = [
        await asyncpg.connect(host=of("HOST"), user=user, password=password, database=of("NAME"), ssl=trust)
        for _ in range({CONNECTED})
    ]
    print(len(sessions), flush=True)
    await asyncio.sleep(180)

asyncio.run(main())
"""
"""Script that user-service's Python runs."""
LOCK = "begin; lock table users; select pg_sleep(1.2); commit"
"""Statement that locks for longer than the latency objective, and for less than the statement timeout."""
UNLOCK = "select pg_terminate_backend(pid) from pg_stat_activity where query like 'begin; lock%'"
PYTHON = "/app/.venv/bin/python"


def like_ours(kubectl: Kubectl, name: str, *command: str, **more: Any) -> dict[str, Any]:
    """Return a pod like user-service's that runs another command, with other fields of the container."""
    template = json.loads(kubectl("get", "deployment", "user-service", "-o", "json"))["spec"]["template"]["spec"]
    (container,) = template["containers"]
    kept = {key: container[key] for key in ("image", "resources", "securityContext")}
    spec = {
        "automountServiceAccountToken": False,
        "securityContext": template["securityContext"],
        "terminationGracePeriodSeconds": 0,
        "containers": [kept | {"name": name, "command": [*command]} | more],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app.kubernetes.io/name": name}},
        "spec": spec,
    }


def at_once(kubectl: Kubectl) -> list[dict[str, Any]]:
    """Return a pod that crash-loops, one that cannot start, one that answers no scrape, and a Job that fails."""
    silent = like_ours(kubectl, "silent", "sleep", "3600")
    silent["metadata"]["annotations"] = {"prometheus.io/scrape": "true", "prometheus.io/port": "9"}
    failing = like_ours(kubectl, "failing", "false")["spec"] | {"restartPolicy": "Never"}
    job = {"backoffLimit": 0, "template": {"spec": failing}}
    return [
        like_ours(kubectl, "ending", "sh", "-c", f"echo {LAST_WORDS}; exit 1"),
        like_ours(kubectl, "nameless", "true", image=NO_IMAGE),
        silent,
        {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "failing"}, "spec": job},
    ]


def for_minutes(kubectl: Kubectl, disk: Path, node: str) -> list[dict[str, Any]]:
    """Return manifests of workloads that fail after minutes.

    A pod that wants more CPU than its limit, one that uses nearly all of its memory, one that has filled its volume, and a workload without
    its only pod; also one that is healthy until it gets an image that does not exist.

    Args:
        kubectl: kubectl in the namespace.
        disk: a folder of the node with little room.
        node: the name of the node.
    """
    own = {"requests": {"cpu": "10m", "memory": "32Mi"}}
    little = own | {"limits": {"cpu": "50m", "memory": f"{MEMORY_MI}Mi"}}
    enough = own | {"limits": {"cpu": "1", "memory": f"{MEMORY_MI}Mi"}}
    busy = like_ours(kubectl, "busy", "sh", "-c", "while :; do :; done", resources=little)
    holding = like_ours(
        kubectl, "holding", PYTHON, "-c", f"import time; held = b'x' * {HELD}; time.sleep(3600)", resources=enough
    )
    filling = like_ours(
        kubectl, "filling", "sh", "-c", "head -c 15000000 /dev/zero > /disk/full; sleep 3600",
        volumeMounts=[{"name": "disk", "mountPath": "/disk"}],
    )  # fmt: skip
    filling["spec"]["volumes"] = [{"name": "disk", "persistentVolumeClaim": {"claimName": "small"}}]
    missing = workload(like_ours(kubectl, "missing", "true", image=NO_IMAGE))
    stuck = workload(like_ours(kubectl, "stuck", "sleep", "3600", resources=enough))
    return [busy, holding, filling, missing, stuck, *volume(kubectl, disk, node)]


def workload(pod: dict[str, Any]) -> dict[str, Any]:
    """Return a Deployment of a pod."""
    template = {"metadata": {"labels": pod["metadata"]["labels"]}, "spec": pod["spec"]}
    # The grace period of its only pod is not under test.
    template["spec"].pop("terminationGracePeriodSeconds")
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": pod["metadata"],
        "spec": {"selector": {"matchLabels": pod["metadata"]["labels"]}, "template": template},
    }


def volume(kubectl: Kubectl, disk: Path, node: str) -> list[dict[str, Any]]:
    """Return a folder of the node as a PersistentVolume, and its claim `small`."""
    namespace = json.loads(kubectl("get", "serviceaccount", "default", "-o", "json"))["metadata"]["namespace"]
    size = {"storage": DISK.upper() + "i"}
    on_node = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}
    spec = {
        "capacity": size,
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": "",
        "claimRef": {"namespace": namespace, "name": "small"},
        "local": {"path": str(disk)},
        "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [on_node]}]}},
    }
    claim = {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": "",
        "volumeName": f"{namespace}-small",
        "resources": {"requests": size},
    }
    return [
        {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": f"{namespace}-small"}, "spec": spec},
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "small"}, "spec": claim},
    ]


@contextmanager
def small_disk(folder: Path) -> Generator[Path]:
    """Mount a small tmpfs at a folder of this machine for the time of the context."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK},mode=1777", "tests", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def applied(kubectl: Kubectl, objects: list[dict[str, Any]], file: Path) -> Generator[None]:
    """Apply objects for the time of the context.

    Args:
        kubectl: kubectl in the namespace.
        objects: whole manifests.
        file: the file to write the manifests to.
    """
    file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))
    kubectl("apply", "-f", str(file))
    try:
        yield
    finally:
        kubectl("delete", "-f", str(file), "--ignore-not-found", "--wait=false")


@contextmanager
def down(kubectl: Kubectl, workloads: Collection[str]) -> Generator[None]:
    """Scale workloads of one pod to zero for the time of the context."""
    for workload in workloads:
        kubectl("scale", workload, "--replicas=0")
    try:
        yield
    finally:
        for workload in workloads:
            kubectl("scale", workload, "--replicas=1")


@contextmanager
def cut_off(kubectl: Kubectl, flow: str, file: Path) -> Generator[None]:
    """Remove a network policy for the time of the context.

    Args:
        kubectl: kubectl in the namespace.
        flow: the name of the network policy that allows the flow.
        file: the file to save the policy to.
    """
    file.write_text(kubectl("get", "networkpolicy", flow, "-o", "json"))
    kubectl("delete", "networkpolicy", flow)
    try:
        yield
    finally:
        kubectl("create", "-f", str(file))


def with_other_rules(kubectl: Kubectl) -> tuple[dict[str, Any], str]:
    """Return Prometheus' configuration with one more rule, which cannot be evaluated, and with certificates that expire in days.

    Returns:
        The ConfigMap, and a patch that mounts it into the server.
    """
    server = json.loads(kubectl("get", "statefulset", "prometheus", "-o", "json"))
    volumes = server["spec"]["template"]["spec"]["volumes"]
    name = next(volume["configMap"]["name"] for volume in volumes if volume["name"] == "configuration")
    data = json.loads(kubectl("get", "configmap", name, "-o", "json"))["data"]
    bad = "\n- name: bad\n  rules:\n  - {record: bad, expr: 'up + on() up'}\n"
    end, near = (f"vector({at.timestamp():.0f})" for at in (NOT_AFTER, datetime.now(UTC) + timedelta(RENEWED_D - 1)))
    assert end in data["rules.yml"]
    configuration = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "other-rules"},
        "data": data | {"rules.yml": data["rules.yml"].replace(end, near).rstrip() + bad},
    }
    volume = {"name": "configuration", "configMap": {"name": "other-rules"}}
    return configuration, json.dumps({"spec": {"template": {"spec": {"volumes": [volume]}}}})
