"""Prometheus' recording rules and alerts, all derived from the declarations of the services."""

from collections.abc import Mapping
from typing import Any

import yaml

from infra.alerts import capacity, kubernetes, objectives, platform, services, watching
from infra.alerts.rule import group
from infra.settings.service import Slo

FILE = "rules.yml"
NONE = frozenset({"Watchdog"})
"""Alerts that report no problem."""


def rules(slos: Mapping[str, Slo], backup_too_old_h: int, runbooks: str | None) -> str:
    """Return the rule file.

    Args:
        slos: objectives of each service, by its name.
        backup_too_old_h: age of the newest dump of the database past which an alert fires.
        runbooks: URL of the folder with the runbooks' pages, if they have one.
    """
    return yaml.safe_dump({"groups": groups(slos, backup_too_old_h, runbooks)}, sort_keys=False, width=1000)


def groups(slos: Mapping[str, Slo], backup_too_old_h: int, runbooks: str | None) -> list[dict[str, Any]]:
    """Return the groups of the rule file."""
    return [
        *(part for name, slo in slos.items() for part in objectives.groups(name, slo, runbooks)),
        *(group(name, services.alerts(name), runbooks) for name in slos),
        group("capacity", capacity.ALERTS, runbooks),
        group("kubernetes", kubernetes.alerts(backup_too_old_h), runbooks),
        group("platform", platform.ALERTS, runbooks),
        group("watching", watching.ALERTS, runbooks),
    ]
