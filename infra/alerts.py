"""The alerts that Prometheus evaluates: the same of every service, from its name alone. Nothing rings yet: there is no Alertmanager."""

from collections.abc import Sequence
from typing import Any

import yaml

from infra.network_policy import Endpoint

FILE = "rules.yml"
ERRORS, SLOW_S = 0.05, 1.0
"""The share of answers that are failures, and the 99th percentile of their times, above which somebody should look."""


def rules(services: Sequence[Endpoint]) -> str:
    """The rule file: a group per service."""
    return yaml.safe_dump({"groups": [group(service.name) for service in services]}, sort_keys=False)


def group(service: str) -> dict[str, Any]:
    """The alerts of one service, which Prometheus scrapes as a job of its name."""
    answers = f'http_request_duration_seconds_count{{job="{service}"}}'
    failed = f'http_request_duration_seconds_count{{job="{service}",status_code=~"5.."}}'
    times = f'http_request_duration_seconds_bucket{{job="{service}"}}'
    up = f'up{{job="{service}"}}'
    return {
        "name": service,
        "rules": [
            alert(service, "ServiceDown", f"sum({up}) == 0 or absent({up})", "1m", "critical", "no instance answers"),
            alert(
                service,
                "ServiceFails",
                f"sum(rate({failed}[5m])) / sum(rate({answers}[5m])) > {ERRORS}",
                "5m",
                "critical",
                f"more than {ERRORS:.0%} of the answers are failures",
            ),
            alert(
                service,
                "ServiceSlow",
                f"histogram_quantile(0.99, sum by (le) (rate({times}[5m]))) > {SLOW_S}",
                "10m",
                "warning",
                f"one answer of a hundred takes more than {SLOW_S} s",
            ),
        ],
    }


def alert(service: str, name: str, expression: str, lasting: str, severity: str, what: str) -> dict[str, Any]:
    """An alerting rule."""
    return {
        "alert": name,
        "expr": expression,
        "for": lasting,
        "labels": {"severity": severity, "service": service},
        "annotations": {"summary": f"{service}: {what}", "next": f"make status, make logs APP={service}"},
    }
