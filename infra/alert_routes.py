"""Who hears of which alert, and which alerts say nothing that others have not said: Alertmanager's configuration."""

from collections.abc import Sequence
from typing import Any

import yaml

from infra.settings import Receiver

FOLDER = "/etc/alertmanager"
FILE = "alertmanager.yml"
NOBODY = "nobody"
AGAIN = {"critical": "1h", "warning": "12h"}
"""How often an alert that goes on is told once more."""
BUDGETS = "(Error|Latency)Budget.*"
INHIBITED = (
    # Who is down is down: that something of it is missing, too, is no news.
    ('alertname=~".+Down"', 'severity="warning"', True),
    ('alertname="ServiceDown"', f'alertname=~"RequestsFail|{BUDGETS}"', True),
    ('alertname="RequestsFail"', f'alertname=~"{BUDGETS}"', True),
    ('alertname="ErrorBudgetBurnsFast"', 'alertname="ErrorBudgetBurnsSlowly"', True),
    ('alertname="LatencyBudgetBurnsFast"', 'alertname="LatencyBudgetBurnsSlowly"', True),
    # Without the database, or a way in, every service that needs it fails.
    ('alertname="PostgresDown"', f'alertname=~"RequestsFail|{BUDGETS}|DatabasePoolExhausted"', False),
    ('alertname="ConsulDown"', 'alertname=~"ConsulHasNoLeader|InstancesUnregistered"', False),
    ('alertname="ConsulHasNoLeader"', 'alertname="InstancesUnregistered"', False),
)
"""While the first rings, the second says nothing; of the same service only, or of any."""


def configuration(receivers: Sequence[Receiver]) -> str:
    """alertmanager.yml; it names the files that hold secrets.

    Args:
        receivers: of the stack; without any, alerts are shown and go nowhere.
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
    """What leads to a receiver: the dead man's switch, every five minutes, or alerts by their severity."""
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


def addressed(receiver: Receiver) -> dict[str, Any]:
    """A receiver as alertmanager.yml has it."""
    secret = f"{FOLDER}/{receiver.secret}"
    mail: dict[str, Any] = {}
    if receiver.email:
        mail = {
            "to": receiver.email.to,
            "from": receiver.email.sender,
            "smarthost": f"{receiver.email.host}:{receiver.to_port}",
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
