"""Alertmanager's parsing of the stack's receivers, with amtool."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from infra import alert_routes
from infra.alert_routes import FILE, FOLDER, INHIBITED, configuration
from infra.alerts import NONE
from infra.settings.load import parse
from infra.settings.observability import Receiver
from infra.stack_file import SettingsError
from tests.support.minimum import MINIMUM
from tests.tools.rules.test_rules import ALERTS, tool

RECEIVERS: list[dict[str, Any]] = [
    {"name": "pager", "kind": "pagerduty", "severities": ["critical"]},
    {"name": "chat", "kind": "slack", "channel": "#estate"},
    {
        "name": "mail",
        "kind": "email",
        "severities": ["warning"],
        "email": {"host": "smtp.example.com", "sender": "estate@example.com", "to": "us@example.com", "username": "us"},
    },
    {"name": "hook", "kind": "webhook", "networks": ["192.0.2.7/32"], "port": 8443},
    {"name": "dead-man", "kind": "webhook", "watchdog": True},
]


def settings_with(*receivers: dict[str, Any]) -> list[Receiver]:
    return parse(MINIMUM | {"receivers": list(receivers)}, "here").receivers


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return alertmanager.yml with one receiver of each kind; their secrets are in the same folder."""
    monkeypatch.setattr(alert_routes, "FOLDER", str(tmp_path))
    receivers = settings_with(*RECEIVERS)
    for receiver in receivers:
        (tmp_path / str(receiver.secret)).write_text("https://example.com/hook")
    (tmp_path / FILE).write_text(configuration(receivers))
    return tmp_path / FILE


def amtool(*words: str) -> str:
    """Return the output of amtool."""
    done = subprocess.run([str(tool("amtool")), *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_alertmanager_takes_the_configuration_of_every_kind_of_receiver(file: Path) -> None:
    assert f"{len(RECEIVERS) + 1} receivers" in amtool("check-config", str(file))  # and the null receiver


@pytest.mark.parametrize(
    ("labels", "reported"),
    [
        (["alertname=ServiceDown", "severity=critical"], "pager,chat,hook"),
        (["alertname=CacheDown", "severity=warning"], "chat,mail,hook"),
        (["alertname=Watchdog", "severity=none"], "dead-man"),
    ],
)
def test_an_alert_goes_to_those_who_want_its_severity_and_the_watchdog_to_its_own(
    file: Path, labels: list[str], reported: str
) -> None:
    assert amtool("config", "routes", "test", f"--config.file={file}", *labels).strip() == reported


def test_without_receivers_alerts_go_nowhere(tmp_path: Path) -> None:
    file = tmp_path / FILE
    file.write_text(configuration([]))
    amtool("check-config", str(file))
    assert amtool("config", "routes", "test", f"--config.file={file}", "severity=critical").strip() == "nobody"


def test_no_secret_is_in_the_configuration_and_each_is_a_file_that_it_names() -> None:
    receivers = settings_with(*RECEIVERS)
    rendered = configuration(receivers)
    assert all(f"{FOLDER}/{receiver.secret}" in rendered for receiver in receivers)


def test_inhibitions_name_alerts_that_there_are() -> None:
    for source, target, _ in INHIBITED:
        for matcher in (source, target):
            name, _, pattern = matcher.partition("=")
            if name == "alertname":
                assert any(matches(pattern, alert) for alert in ALERTS if alert not in NONE), matcher


def matches(pattern: str, alert: str) -> bool:
    return bool(re.fullmatch(pattern.removeprefix("~").strip('"'), alert))


@pytest.mark.parametrize(
    ("receiver", "message"),
    [
        ({"name": "a", "kind": "slack"}, "channel: goes with kind: slack"),
        ({"name": "a", "kind": "email"}, r"email: goes with kind: email, as \{host, sender, to\}"),
        ({"name": "a", "kind": "webhook", "netwoks": []}, r"netwoks: is not known \(did you mean networks"),
        ({"name": "a", "kind": "pager"}, "kind"),
    ],
)
def test_a_receiver_that_is_not_whole_is_refused_with_what_is_missing(receiver: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        settings_with(receiver)


def test_mail_without_a_login_needs_no_secret() -> None:
    (mail,) = settings_with(
        {"name": "m", "kind": "email", "email": {"host": "h", "sender": "a@example.com", "to": "b@example.com"}}
    )
    assert (mail.secret, mail.to_port) == (None, 587)
