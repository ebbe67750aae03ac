"""Hourly snapshots of Consul on a volume of their own; docs/recovery.md describes how to restore one."""

from collections.abc import Mapping, Sequence
from typing import Any

import pulumi
from pulumi_kubernetes.batch.v1 import CronJob
from pulumi_kubernetes.core.v1 import Secret

from infra.consul_pods import CLIENT, LEADER
from infra.namespace import EstateNamespace
from infra.network_policy import Endpoint, Flow
from infra.pods import container_security, labels, manifest, metadata, resources, restricted_pod, unnamed
from infra.volumes import volume_claim

SAVE, RESTORE, CLAIM = "consul-snapshot", "consul-restore", "consul-snapshots"
FOLDER = "/snapshots"
SCHEDULE = "7 * * * *"
KEPT = 48
SAVING = f"""\
{LEADER}consul snapshot save {FOLDER}/.partial.$HOSTNAME
mv {FOLDER}/.partial.$HOSTNAME "{FOLDER}/$(date -u +%Y%m%dT%H%M%SZ).snap"
ls -r {FOLDER}/*.snap | tail -n +{KEPT + 1} | while read -r old; do rm -- "$old"; done
ls {FOLDER}
"""
RESTORING = f"""\
{LEADER}snapshot=${{SNAPSHOT:-$(cd {FOLDER} && ls *.snap | tail -n 1)}}
echo "restoring $snapshot"
consul snapshot restore "{FOLDER}/$snapshot"
"""


class ConsulSnapshots(pulumi.ComponentResource):
    """Two CronJobs: one takes snapshots; the other is suspended, and restores the latest one when it is run on demand.

    A snapshot contains every token: read access to the volume is full access to Consul.
    """

    def __init__(
        self,
        image: str,
        storage: str,
        to: Endpoint,
        environment: Mapping[str, str],
        files: tuple[str, Mapping[str, pulumi.Output[str]]] | None,
        namespace: EstateNamespace,
        parent: pulumi.Resource,
    ) -> None:
        """Create the CronJobs and the volume.

        Args:
            image: image of Consul.
            storage: size of the volume, a Kubernetes quantity.
            to: endpoint of the server's API.
            environment: variables with which the `consul` command finds it.
            files: files that the command needs, as their folder and contents by name; None if it needs none.
            namespace: namespace that it runs in.
            parent: the Consul component that is saved.
        """
        super().__init__("estate:consul_snapshots:ConsulSnapshots", CLAIM, {}, pulumi.ResourceOptions(parent=parent))
        child = pulumi.ResourceOptions(parent=self)
        claim = volume_claim(CLAIM, storage, namespace, self)
        volumes: list[tuple[str, dict[str, Any]]] = [
            (FOLDER, {"name": "snapshots", "persistentVolumeClaim": {"claimName": claim.metadata.name}}),
            ("/tmp", {"name": "tmp", "emptyDir": {}}),  # noqa: S108 - a volume of the pod's own
        ]
        if files:
            folder, content = files
            of = unnamed(SAVE, namespace.name)
            secret = Secret(SAVE, metadata=of, string_data=content, immutable=True, opts=child)
            source = {"secretName": secret.metadata.name, "defaultMode": 0o440}
            volumes.append((folder, {"name": "secrets", "secret": source}))
        for name, script in ((SAVE, SAVING), (RESTORE, RESTORING)):
            CronJob(
                name,
                metadata=metadata(name, namespace.name),
                spec=manifest(
                    {
                        "schedule": SCHEDULE,
                        "timeZone": "UTC",
                        "suspend": name == RESTORE,
                        "concurrencyPolicy": "Forbid",
                        "startingDeadlineSeconds": 600,
                        "jobTemplate": {"spec": job(name, image, script, environment, volumes)},
                    }
                ),
                opts=pulumi.ResourceOptions(parent=self, depends_on=[Flow(name, to, namespace.name, self)]),
            )
        self.register_outputs({})


def job(
    name: str, image: str, script: str, environment: Mapping[str, str], volumes: Sequence[tuple[str, dict[str, Any]]]
) -> dict[str, Any]:
    """Return a Job that runs a script once, with volumes by their folders."""
    container = {
        "name": name,
        "image": image,
        "command": ["sh", "-c", script],
        "env": [{"name": key, "value": value} for key, value in environment.items()],
        "resources": resources("50m", "128Mi"),
        "securityContext": container_security(),
        "volumeMounts": [{"name": volume["name"], "mountPath": folder} for folder, volume in volumes],
    }
    pod = {
        **restricted_pod(CLIENT),
        "restartPolicy": "Never",
        "containers": [container],
        "volumes": [volume for _, volume in volumes],
    }
    template = {"metadata": {"labels": labels(name)}, "spec": pod}
    return {"backoffLimit": 2, "activeDeadlineSeconds": 300, "template": template}
