"""Alerts, and their form in Prometheus' rule file."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

RUNBOOKS = "docs/runbooks"
"""Folder of the runbooks' pages in the repository."""
SERVICE_OF_CONTAINER = {"service": "{{ $labels.container }}"}
"""Label of an alert about a container: our containers have the names of their workloads."""


@dataclass(frozen=True)
class Alert:
    """An alert: its condition and its texts."""

    name: str
    expr: str
    severity: Literal["critical", "warning", "none"]
    summary: str
    description: str
    """Description, which includes the value."""
    lasting: str = "1m"
    """Duration for which the expression has to be true."""
    labels: dict[str, str] = field(default_factory=dict[str, str])
    """Label `service`, if the expression does not provide it."""

    @property
    def runbook(self) -> str:
        """Return the name of its page in docs/runbooks, without .md."""
        return re.sub(r"(?<!^)(?=[A-Z])", "-", self.name).lower()

    def link(self, runbooks: str | None) -> dict[str, str]:
        """Return the annotation that leads to the page: a URL below `runbooks`, or the file in the repository if that is None."""
        page = f"{self.runbook}.md"
        return {"runbook_url": f"{runbooks}/{page}"} if runbooks else {"runbook": f"{RUNBOOKS}/{page}"}

    def rule(self, runbooks: str | None) -> dict[str, Any]:
        """Return the alert as the rule file has it."""
        return {
            "alert": self.name,
            "expr": self.expr,
            "for": self.lasting,
            "labels": {"severity": self.severity} | self.labels,
            "annotations": {
                "summary": self.summary,
                "description": self.description,
            }
            | self.link(runbooks),
        }


def group(name: str, alerts: Iterable[Alert], runbooks: str | None) -> dict[str, Any]:
    """Return a group of the rule file."""
    return {"name": name, "rules": [alert.rule(runbooks) for alert in alerts]}
