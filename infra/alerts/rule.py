"""An alert, and how Prometheus has it."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

RUNBOOKS = "docs/runbooks"
"""Folder of their pages in the repository."""
SERVICE_OF_CONTAINER = {"service": "{{ $labels.container }}"}
"""Our containers have the names of their workloads."""


@dataclass(frozen=True)
class Alert:
    """What rings, when, and what it says then."""

    name: str
    expr: str
    severity: Literal["critical", "warning", "none"]
    summary: str
    description: str
    """With the value."""
    lasting: str = "1m"
    """How long it has to be true."""
    labels: dict[str, str] = field(default_factory=dict[str, str])
    """`service`, where the expression does not say it."""

    @property
    def runbook(self) -> str:
        """Of the page in docs/runbooks."""
        return re.sub(r"(?<!^)(?=[A-Z])", "-", self.name).lower()

    def link(self, runbooks: str | None) -> dict[str, str]:
        """Return the annotation that leads to the page: a URL below `runbooks`, or without one the file in the repository."""
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
