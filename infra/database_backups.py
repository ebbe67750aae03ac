"""Dumps of the database: made every night and whenever asked for, on a volume of their own; and how one is restored."""

from typing import Any

import pulumi
from pulumi_kubernetes.batch.v1 import CronJob
from pulumi_kubernetes.core.v1 import Secret

from infra.database import BACKUP, OWNER, Server, client, client_pod, client_secret
from infra.database_roles import NAME as ROLES
from infra.database_roles import DatabaseRoles
from infra.namespace import EstateNamespace
from infra.network_policy import Flow
from infra.pods import labels, manifest, metadata
from infra.settings import StackSettings
from infra.stack_secrets import DatabaseSecrets
from infra.volumes import volume_claim

NAME = "postgres-backup"
RESTORE = "postgres-restore"
FOLDER = "/backups"
NEVER = "0 0 31 2 *"
DAY_S = 24 * 3600
DEADLINE_S = 3600
"""How late one that was missed is still made."""


class DatabaseBackups(pulumi.ComponentResource):
    """A CronJob that makes backups, and one that never runs: the restoring Job that `make restore` makes is of its kind."""

    def __init__(
        self,
        server: Server,
        settings: StackSettings,
        roles: DatabaseRoles,
        secrets: DatabaseSecrets,
        namespace: EstateNamespace,
    ) -> None:
        """Create both, and their volume.

        Args:
            server: of the database.
            settings: of the stack.
            roles: of the database; after a total loss it gets them before its data.
            secrets: the logins' passwords.
            namespace: where the Jobs run.
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
        owner_files = client_secret(RESTORE, server, secrets.owner, namespace, self)
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
    """A client with the backups before it.

    Args:
        container: the client.
        environment: what else it has to know.
    """
    mounts = [*container["volumeMounts"], {"name": "backups", "mountPath": FOLDER}]
    known = [*container["env"], *({"name": name, "value": value} for name, value in environment.items())]
    return container | {"volumeMounts": mounts, "env": known}


def pod(container: dict[str, Any], secrets: dict[str, Secret]) -> dict[str, Any]:
    """A pod of a client that has the backups before it."""
    of = client_pod(container, secrets)
    return of | {"volumes": [*of["volumes"], {"name": "backups", "persistentVolumeClaim": {"claimName": NAME}}]}


def cron_job(name: str, schedule: str, spec: dict[str, Any]) -> dict[str, Any]:
    """A CronJob, one run at a time; one that NEVER runs is suspended as well."""
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
                "activeDeadlineSeconds": DAY_S - DEADLINE_S,  # one that hangs is gone before the next
                "ttlSecondsAfterFinished": DAY_S,
                "template": {"metadata": {"labels": labels(name)}, "spec": spec},
            },
        },
    }
