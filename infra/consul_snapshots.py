"""Snapshots of Consul, every hour, on a volume of their own; docs/recovery.md restores one."""

from collections.abc import Mapping
from typing import Any

import pulumi
from pulumi_kubernetes.batch.v1 import CronJob
from pulumi_kubernetes.core.v1 import PersistentVolumeClaim, Secret

from infra.namespace import EstateNamespace
from infra.network_policy import Endpoint, Flow
from infra.pods import container_security, labels, manifest, metadata, pod_security, resources

NAME = "consul-snapshot"
FOLDER = "/snapshots"
UID, GID = 100, 1000  # of the upstream image
SCHEDULE = "7 * * * *"
KEPT = 48
SAVE = f"""\
set -eu
consul snapshot save "{FOLDER}/.partial"
mv {FOLDER}/.partial "{FOLDER}/$(date -u +%Y%m%dT%H%M%SZ).snap"
ls -r {FOLDER} | tail -n +{KEPT + 1} | while read -r old; do rm -- "{FOLDER}/$old"; done
"""


class ConsulSnapshots(pulumi.ComponentResource):
    """The CronJob that takes them. A snapshot holds every token: who can read the volume can do everything."""

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
        """Create the CronJob and the volume.

        Args:
            image: of Consul.
            storage: size of the volume, a Kubernetes quantity.
            to: the server's API.
            environment: by which the `consul` command finds it.
            files: that the command needs: their folder, and content by name; None where it needs none.
            namespace: where it runs.
            parent: the Consul that is kept.
        """
        super().__init__("estate:consul_snapshots:ConsulSnapshots", NAME, {}, pulumi.ResourceOptions(parent=parent))
        child = pulumi.ResourceOptions(parent=self)
        claim = PersistentVolumeClaim(
            f"{NAME}s",
            # It is bound when the first snapshot is taken, which may be in an hour.
            metadata=metadata(f"{NAME}s", namespace.name) | {"annotations": {"pulumi.com/skipAwait": "true"}},
            spec=manifest({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": storage}}}),
            opts=child,
        )
        mounts: list[dict[str, Any]] = [
            {"name": "snapshots", "mountPath": FOLDER},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - a volume of the pod's own
        ]
        volumes: list[dict[str, Any]] = [
            {"name": "snapshots", "persistentVolumeClaim": {"claimName": claim.metadata.name}},
            {"name": "tmp", "emptyDir": {}},
        ]
        if files:
            folder, content = files
            of = manifest({"namespace": namespace.name})
            secret = Secret(NAME, metadata=of, string_data=content, immutable=True, opts=child)
            mounts.append({"name": "secrets", "mountPath": folder, "readOnly": True})
            volumes.append({"name": "secrets", "secret": {"secretName": secret.metadata.name, "defaultMode": 0o440}})
        container = {
            "name": NAME,
            "image": image,
            "command": ["sh", "-c", SAVE],
            "env": [{"name": name, "value": value} for name, value in environment.items()],
            "resources": resources("50m", "128Mi"),
            "securityContext": container_security(),
            "volumeMounts": mounts,
        }
        pod = {
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "restartPolicy": "Never",
            "securityContext": pod_security(UID, GID),
            "containers": [container],
            "volumes": volumes,
        }
        CronJob(
            NAME,
            metadata=metadata(NAME, namespace.name),
            spec=manifest(
                {
                    "schedule": SCHEDULE,
                    "concurrencyPolicy": "Forbid",
                    "startingDeadlineSeconds": 600,
                    "jobTemplate": {
                        "spec": {
                            "backoffLimit": 2,
                            "activeDeadlineSeconds": 300,
                            "template": {"metadata": {"labels": labels(NAME)}, "spec": pod},
                        }
                    },
                }
            ),
            opts=pulumi.ResourceOptions(parent=self, depends_on=[Flow(NAME, to, namespace.name, self)]),
        )
        self.register_outputs({})
