"""A service's jobs, on schedules, and its permanent workers, in pods of the service's own image."""

from collections.abc import Sequence
from typing import Any

import pulumi
from pulumi_kubernetes.apps.v1 import Deployment
from pulumi_kubernetes.batch.v1 import CronJob
from pulumi_kubernetes.core.v1 import Secret
from pulumi_kubernetes.policy.v1 import PodDisruptionBudget

from infra.namespace import EstateNamespace
from infra.pods import SCRATCH_LIMIT, SCRATCH_REQUEST, labels, manifest, metadata, selector
from infra.services import Job, Worker
from infra.settings.service import ServiceSettings
from infra.waiting import ROLLOUT
from infra.web_service import App, app_secret, container, flows, pod_of, spread

HEARTBEAT = "/tmp/heartbeat"  # noqa: S108 - the pod's own
"""File that servicekit.working writes."""
STALE_S = 30
"""Age of the heartbeat, in seconds, at which the worker's event loop counts as blocked; it writes every five seconds."""
ALIVE = {
    "exec": {"command": ["sh", "-c", f"test -n \"$(find {HEARTBEAT} -newermt '{STALE_S} seconds ago' 2>/dev/null)\""]}
}
START_WITHIN_S = 600
"""Seconds by which a run may start late."""
DAY_S = 24 * 3600


class ScheduledJob(pulumi.ComponentResource):
    """The CronJob of a service's job."""

    def __init__(
        self,
        app: App,
        job: Job,
        settings: ServiceSettings,
        namespace: EstateNamespace,
        depends_on: Sequence[pulumi.Resource],
    ) -> None:
        """Create the CronJob.

        Args:
            app: contents of the pods, with the name of the job.
            job: declaration of the job.
            settings: settings of the service.
            namespace: the stack's namespace.
            depends_on: resources that have to exist first.
        """
        super().__init__(
            "estate:work:ScheduledJob", app.name, {}, pulumi.ResourceOptions(parent=namespace, depends_on=depends_on)
        )
        pod = pod_running(job.module, app, settings, app_secret(app.name, app, namespace, self))
        CronJob(
            app.name,
            metadata=metadata(app.name, namespace.name),
            spec=manifest(cron_job(job, app.name, pod)),
            opts=pulumi.ResourceOptions(parent=self, depends_on=flows(app.name, app, namespace, self)),
        )
        self.register_outputs({})


class BackgroundWorker(pulumi.ComponentResource):
    """The Deployment of a service's worker."""

    def __init__(
        self,
        app: App,
        worker: Worker,
        settings: ServiceSettings,
        namespace: EstateNamespace,
        depends_on: Sequence[pulumi.Resource],
    ) -> None:
        """Create the Deployment.

        Args:
            app: contents of the pods, with the name of the worker.
            worker: declaration of the worker.
            settings: settings of the service.
            namespace: the stack's namespace.
            depends_on: resources that have to exist first.
        """
        super().__init__(
            "estate:work:BackgroundWorker",
            app.name,
            {},
            pulumi.ResourceOptions(parent=namespace, depends_on=depends_on),
        )
        named = metadata(app.name, namespace.name)
        if worker.replicas > 1:
            budget = {"maxUnavailable": 1, "selector": {"matchLabels": selector(app.name)}}
            PodDisruptionBudget(
                app.name, metadata=named, spec=manifest(budget), opts=pulumi.ResourceOptions(parent=self)
            )
        pod = pod_running(worker.module, app, settings, app_secret(app.name, app, namespace, self), probes())
        Deployment(
            app.name,
            metadata=named,
            spec=manifest(deployment(worker, app.name, pod)),
            opts=pulumi.ResourceOptions(
                parent=self, depends_on=flows(app.name, app, namespace, self), custom_timeouts=ROLLOUT
            ),
        )
        self.register_outputs({})


def cron_job(job: Job, name: str, pod: dict[str, Any]) -> dict[str, Any]:
    """Return a CronJob that allows one run at a time. A failed run is not retried before it is due, and is kept for a day to be inspected."""
    return {
        "schedule": job.schedule,
        "timeZone": "UTC",
        "concurrencyPolicy": "Forbid",
        "startingDeadlineSeconds": START_WITHIN_S,
        "successfulJobsHistoryLimit": 1,
        "failedJobsHistoryLimit": 1,
        "jobTemplate": {
            "metadata": {"labels": labels(name)},
            "spec": {
                "backoffLimit": 0,
                "activeDeadlineSeconds": job.deadline_s,
                "ttlSecondsAfterFinished": DAY_S,
                "template": {"metadata": {"labels": labels(name)}, "spec": pod | {"restartPolicy": "Never"}},
            },
        },
    }


def deployment(worker: Worker, name: str, pod: dict[str, Any]) -> dict[str, Any]:
    """Return a Deployment whose pods accept no connections."""
    return {
        "replicas": worker.replicas,
        "selector": {"matchLabels": selector(name)},
        "strategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
        "template": {
            "metadata": {"labels": labels(name)},
            "spec": pod | {"terminationGracePeriodSeconds": 40, "topologySpreadConstraints": spread(name)},
        },
    }


def probes() -> dict[str, Any]:
    """Return a worker's probes, which check the age of its heartbeat."""
    return {
        "startupProbe": ALIVE | {"periodSeconds": 2, "failureThreshold": 30, "timeoutSeconds": 5},
        "readinessProbe": ALIVE | {"periodSeconds": 5, "timeoutSeconds": 5},
        "livenessProbe": ALIVE | {"periodSeconds": 10, "timeoutSeconds": 5},
    }


def pod_running(
    module: str, app: App, settings: ServiceSettings, secret: Secret | None, more: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Return a pod of the service's image that runs another module, with the requests and limits of the service."""
    working = container(app, secret) | {
        "command": ["/app/.venv/bin/python", "-m", module],
        "resources": {
            "requests": settings.requests.model_dump() | SCRATCH_REQUEST,
            "limits": settings.limits.model_dump() | SCRATCH_LIMIT,
        },
    }
    return pod_of(working | (more or {}), app, secret)
