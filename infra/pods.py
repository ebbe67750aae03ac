"""What every pod of the estate has in common: the Pod Security Standard `restricted`, and labels."""

from typing import Any

import pulumi

SCRATCH_REQUEST, SCRATCH_LIMIT = {"ephemeral-storage": "16Mi"}, {"ephemeral-storage": "256Mi"}
"""What a container's log, its emptyDirs and whatever else it writes to the node's disk may take together."""

MANAGED_BY = {"app.kubernetes.io/managed-by": "pulumi", "app.kubernetes.io/part-of": "estate"}


def manifest(fields: Any) -> Any:
    """A part of a manifest, in the names that Kubernetes' own documents use; Pulumi's typed dicts spell them otherwise."""
    return fields


def metadata(name: str, namespace: pulumi.Input[str]) -> Any:
    """Metadata of an object with a fixed name."""
    return {"name": name, "namespace": namespace, "labels": labels(name)}


def unnamed(name: str, namespace: pulumi.Input[str]) -> Any:
    """Metadata of an object whose name Pulumi makes; it begins with that of the resource."""
    return {"namespace": namespace, "labels": labels(name)}


def selector(name: str) -> dict[str, str]:
    """Labels that choose a workload's pods; they never change, since selectors cannot."""
    return {"app.kubernetes.io/name": name}


def labels(name: str) -> dict[str, str]:
    """Labels of a workload and its pods."""
    return selector(name) | MANAGED_BY


def scraped(port: int, job: str | None = None) -> dict[str, str]:
    """Annotations by which Prometheus, the stack's own or the cluster's, finds a pod at /metrics.

    Args:
        port: where it answers.
        job: what its metrics are called by; absent: the workload's name.
    """
    of_job = {"prometheus.io/job": job} if job else {}
    return {"prometheus.io/scrape": "true", "prometheus.io/port": str(port)} | of_job


def restricted_pod(uid: int, gid: int | None = None) -> dict[str, Any]:
    """What the spec of a pod under `restricted` begins with (https://kubernetes.io/docs/concepts/security/pod-security-standards/).

    It knows nothing of the cluster, either: it has no token, and no addresses of Services in its environment.
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
    """A container's security context: nothing to gain, nothing to write."""
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def resources(cpu: str, memory: str) -> dict[str, Any]:
    """Requests, and the memory limit; no CPU limit for what others wait on."""
    return {
        "requests": {"cpu": cpu, "memory": memory} | SCRATCH_REQUEST,
        "limits": {"memory": memory, "cpu": "1"} | SCRATCH_LIMIT,
    }


def management_probes(startup_s: int) -> dict[str, Any]:
    """Probes of Prometheus and Alertmanager (https://prometheus.io/docs/prometheus/latest/management_api/).

    Args:
        startup_s: seconds that it may take to read what it has stored.
    """
    ready = {"httpGet": {"path": "/-/ready", "port": "http"}}
    healthy = {"httpGet": {"path": "/-/healthy", "port": "http"}}
    return {
        "startupProbe": ready | {"periodSeconds": 1, "failureThreshold": startup_s},
        "readinessProbe": ready | {"periodSeconds": 5},
        "livenessProbe": healthy | {"periodSeconds": 10, "failureThreshold": 6},
    }
