"""Grafana, where the stack names its image: its dashboards, the way to reach it, and its outgoing connections."""

import json
from typing import Any

import pytest
import yaml

from estate.pulumi.program import CANARY, Registered
from estate.report.status import slos
from estate.stack.model import load
from infra.dashboards.catalogue import dashboards
from infra.grafana import PASSWORD, SHOWN
from tests.program.conftest import with_grafana
from tests.program.test_network_policies import leaving, pods_of, policies_of
from tests.program.test_program import files, kind, one, template

SHOWN_HERE = dashboards(slos(load("local")))


@pytest.fixture
def resources() -> list[Registered]:
    return with_grafana()


@pytest.fixture
def container(resources: list[Registered]) -> dict[str, Any]:
    (found,) = template(one(resources, "Deployment", "grafana"))["spec"]["containers"]
    return found


def provisioned(resources: list[Registered], name: str) -> dict[str, str]:
    """Return the files of a ConfigMap."""
    return one(resources, "ConfigMap", f"grafana-{name}").inputs["data"]


def test_there_is_none_where_its_image_is_not_named(estate: list[Registered]) -> None:
    named = any(kind(resource) == "Deployment" and resource.name == "grafana" for resource in estate)
    assert named == (estate is with_grafana())


def test_every_dashboard_is_provisioned_with_every_panel(resources: list[Registered]) -> None:
    found = {name: json.loads(content) for name, content in provisioned(resources, "dashboards").items()}
    assert set(found) == {f"{shown.name}.json" for shown in SHOWN_HERE}
    for shown in SHOWN_HERE:
        drawn = [panel for panel in found[f"{shown.name}.json"]["panels"] if panel["type"] != "row"]
        declared = [panel for row in shown.rows for panel in row.panels]
        assert [panel["title"] for panel in drawn] == [panel.title for panel in declared]
        for panel, declaration in zip(drawn, declared, strict=True):
            queries = [(target["expr"], target["legendFormat"]) for target in panel["targets"]]
            assert queries == [(query.expression, query.legend) for query in declaration.queries]
            assert len({target["refId"] for target in panel["targets"]}) == len(queries)


def test_its_files_are_where_it_looks_and_its_data_are_prometheus(
    resources: list[Registered], container: dict[str, Any]
) -> None:
    files_of = provisioned(resources, "provisioning")
    (source,) = yaml.safe_load(files_of["datasources.yaml"])["datasources"]
    assert (source["uid"], source["url"]) == ("prometheus", "http://prometheus:9090")
    (provider,) = yaml.safe_load(files_of["dashboards.yaml"])["providers"]
    mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert provider["options"]["path"] == SHOWN
    assert mounted >= {SHOWN, *(f"/etc/grafana/provisioning/{name.split('.')[0]}/{name}" for name in files_of)}


def test_its_password_is_a_file_of_a_secret(resources: list[Registered], container: dict[str, Any]) -> None:
    assert files(resources, "grafana") == {"admin-password": CANARY}
    assert {"name": "GF_SECURITY_ADMIN_PASSWORD__FILE", "value": PASSWORD} in container["env"]


def test_it_is_a_console_and_reaches_prometheus_alone(resources: list[Registered]) -> None:
    assert one(resources, "Ingress", "grafana").inputs["spec"]["rules"][0]["host"] == "grafana.myapp.com"
    pods, policies = pods_of(resources), policies_of(resources)
    assert {to for to in leaving(policies, pods) if to[0] == "grafana"} == {("grafana", "prometheus", "TCP", 9090)}
