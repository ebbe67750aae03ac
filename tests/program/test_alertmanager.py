"""Alertmanager's configuration: the receivers of the estate's alerts."""

import pytest
import yaml

from estate.pulumi.program import CANARY, Registered, run_with, settings_of
from infra.alert_routes import addressed
from infra.settings.observability import Receiver
from tests.program.test_network_policies import leaving, pods_of, policies_of
from tests.program.test_program import files, one

HOOK = {"name": "hook", "kind": "webhook", "networks": ["192.0.2.7/32"], "port": 8443}
MAIL = {"name": "mail", "kind": "email", "email": {"host": "smtp.example.com", "sender": "a@b.c", "to": "d@e.f"}}


@pytest.fixture(scope="module")
def telling() -> list[Registered]:
    """Return the resources of stack `local` with two receivers."""
    return run_with("local", settings_of("local") | {"receivers": [HOOK, MAIL]})


def test_prometheus_gives_its_alerts_to_alertmanager(resources: list[Registered]) -> None:
    config = yaml.safe_load(one(resources, "ConfigMap", "prometheus").inputs["data"]["prometheus.yml"])
    (manager,) = config["alerting"]["alertmanagers"]
    assert manager["static_configs"] == [{"targets": ["alertmanager:9093"]}]


def test_local_notifies_no_receiver(resources: list[Registered]) -> None:
    reported = yaml.safe_load(files(resources, "alertmanager")["alertmanager.yml"])
    assert [receiver["name"] for receiver in reported["receivers"]] == ["nobody"]


def test_a_receiver_has_its_secret_in_a_file(telling: list[Registered]) -> None:
    held = files(telling, "alertmanager")
    assert {name for name, content in held.items() if CANARY in content} == {"receiver-hook"}
    reported = yaml.safe_load(held["alertmanager.yml"])
    (hook,) = [receiver for receiver in reported["receivers"] if receiver["name"] == "hook"]
    assert hook["webhook_configs"][0]["url_file"] == "/etc/alertmanager/receiver-hook"


def test_alertmanager_connects_to_the_receivers_alone(telling: list[Registered]) -> None:
    allowed = leaving(policies_of(telling), pods_of(telling))
    own = {(to, *port) for source, to, *port in allowed if source == "alertmanager"}
    assert own == {("192.0.2.7/32", "TCP", 8443), ("0.0.0.0/0", "TCP", 587)}


def test_a_mail_server_by_its_address_of_ipv6_is_in_brackets() -> None:
    email = {"host": "2001:db8::1", "sender": "estate@example.com", "to": "us@example.com"}
    receiver = Receiver.model_validate({"name": "mail", "kind": "email", "email": email})
    (config,) = addressed(receiver)["email_configs"]
    assert config["smarthost"] == "[2001:db8::1]:587"
