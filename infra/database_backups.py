"""Dumps of the database, every night and on demand, on a volume of their own, and the restore of one."""

from typing import Any

import pulumi
from pulumi_kubernetes.batch.v1 import CronJob
from pulumi_kubernetes.core.v1 import Secret

from infra.database import Server, client, client_pod, client_secret, script
from infra.database_names import BACKUP, OWNER
from infra.database_roles import NAME as ROLES
from infra.database_roles import DatabaseRoles
from infra.namespace import EstateNamespace
from infra.network_policy import Flow
from infra.pods import labels, manifest, metadata
from infra.settings.stack import StackSettings
from infra.stack_secrets import DatabaseSecrets
from infra.volumes import volume_claim

NAME = "postgres-backup"
RESTORE = "postgres-restore"
FOLDER = "/backups"
NEVER = "0 0 31 2 *"
DAY_S = 24 * 3600
DEADLINE_S = 3600
"""Seconds by which a missed dump may start late."""


class DatabaseBackups(pulumi.ComponentResource):
    """A CronJob that makes backups, and one that never runs: the template of the Job that `estate restore` creates."""

    def __init__(
        self,
        server: Server,
        settings: StackSettings,
        roles: DatabaseRoles,
        secrets: DatabaseSecrets,
        namespace: EstateNamespace,
    ) -> None:
        """Create both CronJobs and their volume.

        Args:
            server: the database server.
            settings: the stack's settings.
            roles: roles of the database; after a total loss they are created before the data is restored.
            secrets: passwords of the logins.
            namespace: namespace of the Jobs.
        """
        super().__init__(
            "estate:database_backups:DatabaseBackups",
            NAME,
            {},
            pulumi.ResourceOptions(parent=namespace, depends_on=[roles]),
        )
        image, when = settings.images.postgres, settings.postgres.backup
        volume_claim(NAME, settings.storage.backups, namespace, self)
        files = client_secret(NAME, server, secrets.backup, namespace, self)
        backup = on_volume(client(NAME, image, server, BACKUP), {"KEEP": str(when.keep)})
        restore = on_volume(client(RESTORE, image, server, OWNER), {})
        schema = {"schema.sql": script("schema.sql")}
        owner_files = client_secret(RESTORE, server, secrets.owner, namespace, self, schema)
        after = {"initContainers": [roles.container]}
        for name, schedule, spec in (
            (NAME, when.schedule, pod(backup, {NAME: files})),
            (RESTORE, NEVER, pod(restore, {RESTORE: owner_files, ROLES: roles.secret}) | after),
        ):
            CronJob(
                name,
                metadata=metadata(name, namespace.name),
                spec=manifest(cron_job(name, schedule, spec)),
                opts=pulumi.ResourceOptions(
                    parent=self, depends_on=[Flow(name, server.endpoint, namespace.name, self)]
                ),
            )
        self.register_outputs({})


def on_volume(container: dict[str, Any], environment: dict[str, str]) -> dict[str, Any]:
    """Return a client's container with the volume of backups mounted.

    Args:
        container: the client's container.
        environment: further environment variables.
    """
    mounts = [*container["volumeMounts"], {"name": "backups", "mountPath": FOLDER}]
    known = [*container["env"], *({"name": name, "value": value} for name, value in environment.items())]
    return container | {"volumeMounts": mounts, "env": known}


def pod(container: dict[str, Any], secrets: dict[str, Secret]) -> dict[str, Any]:
    """Return the pod of a client, with the volume of backups."""
    of = client_pod(container, secrets)
    return of | {"volumes": [*of["volumes"], {"name": "backups", "persistentVolumeClaim": {"claimName": NAME}}]}


def cron_job(name: str, schedule: str, spec: dict[str, Any]) -> dict[str, Any]:
    """Return a CronJob that allows one run at a time; with the schedule NEVER it is suspended as well."""
    return {
        "schedule": schedule,
        "timeZone": "UTC",
        "suspend": schedule == NEVER,
        "concurrencyPolicy": "Forbid",
        "startingDeadlineSeconds": DEADLINE_S,
        "jobTemplate": {
            "metadata": {"labels": labels(name)},
            "spec": {
                "backoffLimit": 0,
                "activeDeadlineSeconds": DAY_S - DEADLINE_S,  # a run that hangs ends before the next
                "ttlSecondsAfterFinished": DAY_S,
                "template": {"metadata": {"labels": labels(name)}, "spec": spec},
            },
        },
    }
