"""Alertmanager's configuration: routing, receivers and inhibition rules."""

from collections.abc import Sequence
from typing import Any

import yaml

from infra.settings.observability import NOBODY, Receiver

FOLDER = "/etc/alertmanager"
FILE = "alertmanager.yml"
AGAIN = {"critical": "1h", "warning": "12h"}
"""Interval at which a firing alert is sent again, by severity."""
BUDGETS = "(Error|Latency)Budget.*"
INHIBITED = (
    # While a service is down, warnings about it add nothing.
    ('alertname=~".+Down"', 'severity="warning"', True),
    ('alertname="ServiceDown"', f'alertname=~"RequestsFail|{BUDGETS}"', True),
    ('alertname="RequestsFail"', f'alertname=~"{BUDGETS}"', True),
    ('alertname="ErrorBudgetBurnsFast"', 'alertname="ErrorBudgetBurnsSlowly"', True),
    ('alertname="LatencyBudgetBurnsFast"', 'alertname="LatencyBudgetBurnsSlowly"', True),
    # Without the database or the registry, whatever needs it fails too.
    ('alertname="PostgresDown"', f'alertname=~"RequestsFail|{BUDGETS}|DatabasePoolExhausted"', False),
    ('alertname="ConsulDown"', 'alertname=~"ConsulHasNoLeader|InstancesUnregistered"', False),
    ('alertname="ConsulHasNoLeader"', 'alertname="InstancesUnregistered"', False),
)
"""Inhibition rules: matcher of the source, matcher of the target, and whether both have to be of the same service."""


def configuration(receivers: Sequence[Receiver]) -> str:
    """Return alertmanager.yml, which names the files that hold secrets.

    Args:
        receivers: the stack's receivers; if empty, Alertmanager shows alerts and sends none.
    """
    return yaml.safe_dump(
        {
            "route": {
                "receiver": NOBODY,
                "group_by": ["alertname", "service"],
                "group_wait": "10s",
                "group_interval": "1m",
                "routes": [route for receiver in receivers for route in routes(receiver)],
            },
            "inhibit_rules": [
                {"source_matchers": [source], "target_matchers": [target]} | ({"equal": ["service"]} if same else {})
                for source, target, same in INHIBITED
            ],
            "receivers": [{"name": NOBODY}, *(addressed(receiver) for receiver in receivers)],
        },
        sort_keys=False,
    )


def routes(receiver: Receiver) -> list[dict[str, Any]]:
    """Return the routes to a receiver: the dead man's switch, every five minutes, or alerts by their severity."""
    if receiver.watchdog:
        often = {"group_wait": "0s", "repeat_interval": "5m"}
        return [{"matchers": ['alertname="Watchdog"'], "receiver": receiver.name, "continue": True} | often]
    return [
        {
            "matchers": [f'severity="{severity}"'],
            "receiver": receiver.name,
            "repeat_interval": AGAIN[severity],
            "continue": True,
        }
        for severity in receiver.severities
    ]


def in_brackets(host: str) -> str:
    """Return a host as it stands before a port: an address of IPv6 in brackets."""
    return f"[{host}]" if ":" in host else host


def addressed(receiver: Receiver) -> dict[str, Any]:
    """Return a receiver's entry in alertmanager.yml."""
    secret = f"{FOLDER}/{receiver.secret}"
    mail: dict[str, Any] = {}
    if receiver.email:
        mail = {
            "to": receiver.email.to,
            "from": receiver.email.sender,
            "smarthost": f"{in_brackets(receiver.email.host)}:{receiver.to_port}",
        }
        if receiver.email.username:
            mail |= {"auth_username": receiver.email.username, "auth_password_file": secret}
    of: dict[str, dict[str, Any]] = {
        "webhook": {"url_file": secret},
        "slack": {"api_url_file": secret, "channel": receiver.channel},
        "pagerduty": {"routing_key_file": secret},
        "email": mail,
    }
    return {"name": receiver.name, f"{receiver.kind}_configs": [of[receiver.kind] | {"send_resolved": True}]}
