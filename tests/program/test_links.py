"""Targets of the links in an alert."""

from typing import Any

import pytest
import yaml

from estate.core.paths import PROJECT
from estate.pulumi.program import Registered, run_program, run_with, settings_of
from infra.settings.load import parse
from infra.stack_file import SettingsError
from tests.program.test_program import containers, kind, one, template
from tests.support.minimum import MINIMUM

CONSOLES = ("prometheus", "alertmanager")
REPOSITORY = "https://example.com/estate/blob/main/docs/runbooks"


def external_urls(resources: list[Registered]) -> list[str]:
    """Return the external URLs of Prometheus and Alertmanager."""
    words = [
        word
        for name in CONSOLES
        for container in containers(template(one(resources, "StatefulSet", name))["spec"])
        for word in container["command"]
    ]
    return [word.partition("=")[2] for word in words if word.startswith("--web.external-url=")]


def annotations(resources: list[Registered]) -> list[dict[str, str]]:
    """Return the annotations of every alert."""
    rules = yaml.safe_load(one(resources, "ConfigMap", "prometheus").inputs["data"]["rules.yml"])
    return [rule["annotations"] for group in rules["groups"] for rule in group["rules"] if "alert" in rule]


def with_runbooks(stack: str) -> list[Registered]:
    return run_with(stack, settings_of(stack) | {"alerts": {"runbooks": REPOSITORY}})


def hosts(resources: list[Registered]) -> dict[str, Any]:
    return {each.name: each.inputs["spec"]["rules"][0]["host"] for each in resources if kind(each) == "Ingress"}


def test_published_consoles_know_their_public_addresses() -> None:
    resources = run_program("local")
    published = hosts(resources)
    assert external_urls(resources) == [f"https://{published[name]}:8443" for name in CONSOLES]


def test_consoles_that_are_not_published_claim_no_address() -> None:
    assert external_urls(run_program("prod")) == []


def test_a_published_prometheus_has_the_page_of_every_alert() -> None:
    resources = run_program("local")
    own = f"https://{hosts(resources)['prometheus']}:8443/user/"
    pages = one(resources, "ConfigMap", "prometheus-runbooks").inputs["data"]
    links = [each["runbook_url"] for each in annotations(resources)]
    assert links
    for link in links:
        assert link.startswith(own)
        assert pages[link.removeprefix(own)] == (PROJECT / "docs/runbooks" / link.removeprefix(own)).read_text()


@pytest.mark.parametrize("stack", ["local", "prod"])
def test_the_repository_has_the_pages_where_the_stack_says_where_it_is(stack: str) -> None:
    for each in annotations(with_runbooks(stack)):
        folder, _, page = each["runbook_url"].rpartition("/")
        assert folder == REPOSITORY
        assert (PROJECT / "docs/runbooks" / page).is_file()


def test_without_an_address_an_alert_names_the_file_and_calls_it_no_url() -> None:
    for each in annotations(run_program("prod")):
        assert "runbook_url" not in each
        assert (PROJECT / each["runbook"]).is_file()


@pytest.mark.parametrize(
    "wrong", ["docs/runbooks", "https://example.com/", "ftp://example.com/x", "https://example.com/x?y"]
)
def test_what_is_no_url_of_a_folder_is_refused(wrong: str) -> None:
    with pytest.raises(SettingsError, match=r"alerts\.runbooks"):
        parse(MINIMUM | {"alerts": {"runbooks": wrong}}, "here")
