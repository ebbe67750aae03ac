"""Parts that all pods of the estate share: the Pod Security Standard `restricted`, and labels."""

import hashlib
from typing import Any

import pulumi

SCRATCH_REQUEST, SCRATCH_LIMIT = {"ephemeral-storage": "16Mi"}, {"ephemeral-storage": "256Mi"}
"""Ephemeral storage of a container: its log, its emptyDirs and whatever else it writes to the node's disk."""

LONGEST_LABEL = 63
"""Maximum characters of a label's value."""
MANAGED_BY = {"app.kubernetes.io/managed-by": "pulumi", "app.kubernetes.io/part-of": "estate"}


def manifest(fields: Any) -> Any:
    """Return a part of a manifest with the field names of Kubernetes' own documents, which Pulumi's typed dicts spell differently."""
    return fields


def metadata(name: str, namespace: pulumi.Input[str]) -> Any:
    """Return metadata of an object with a fixed name."""
    return {"name": name, "namespace": namespace, "labels": labels(name)}


def unnamed(name: str, namespace: pulumi.Input[str]) -> Any:
    """Return metadata of an object that Pulumi names; the name begins with that of the resource."""
    return {"namespace": namespace, "labels": labels(name)}


def selector(name: str) -> dict[str, str]:
    """Return the labels that select a workload's pods; they never change, since selectors cannot."""
    return {"app.kubernetes.io/name": label_value(name)}


def label_value(name: str) -> str:
    """Return a name as a label value; a name that is too long is cut, and ends with a hash.

    The name of a network policy consists of the names of two workloads
    (https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set).
    """
    if len(name) <= LONGEST_LABEL:
        return name
    end = f"-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    return name[: LONGEST_LABEL - len(end)].rstrip("-") + end


def labels(name: str) -> dict[str, str]:
    """Return the labels of a workload and its pods."""
    return selector(name) | MANAGED_BY


def scraped(port: int, job: str | None = None) -> dict[str, str]:
    """Return annotations with which Prometheus, the stack's own or the cluster's, finds a pod's /metrics.

    Args:
        port: port that serves /metrics.
        job: label `job` of its metrics; absent: the workload's name.
    """
    of_job = {"prometheus.io/job": job} if job else {}
    return {"prometheus.io/scrape": "true", "prometheus.io/port": str(port)} | of_job


def restricted_pod(uid: int, gid: int | None = None) -> dict[str, Any]:
    """Return the common part of a pod's spec under `restricted` (https://kubernetes.io/docs/concepts/security/pod-security-standards/).

    The pod also has no token, and no addresses of Services in its environment.
    """
    group = uid if gid is None else gid
    return {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": uid,
            "runAsGroup": group,
            "fsGroup": group,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }


def container_security() -> dict[str, Any]:
    """Return a container's security context: no privilege escalation, no capabilities, a read-only root file system."""
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def resources(cpu: str, memory: str) -> dict[str, Any]:
    """Return requests and limits: the memory limit is the request, the CPU limit is one CPU."""
    return {
        "requests": {"cpu": cpu, "memory": memory} | SCRATCH_REQUEST,
        "limits": {"memory": memory, "cpu": "1"} | SCRATCH_LIMIT,
    }


def management_probes(startup_s: int) -> dict[str, Any]:
    """Return the probes of Prometheus and Alertmanager (https://prometheus.io/docs/prometheus/latest/management_api/).

    Args:
        startup_s: seconds that it may take to read its stored data.
    """
    ready = {"httpGet": {"path": "/-/ready", "port": "http"}}
    healthy = {"httpGet": {"path": "/-/healthy", "port": "http"}}
    return {
        "startupProbe": ready | {"periodSeconds": 1, "failureThreshold": startup_s},
        "readinessProbe": ready | {"periodSeconds": 5},
        "livenessProbe": healthy | {"periodSeconds": 10, "failureThreshold": 6},
    }
