from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest

from infra.authority import authority, pem
from infra.services import check_names
from infra.settings import (
    GENERATED_SECRETS,
    SettingsError,
    StackSettings,
    TracingSettings,
    load_cluster,
    load_stack,
    parse,
)
from infra.stages import STAGES, Stage
from tests.minimum import MINIMUM
from toolchain.paths import PROJECT

CA = pem(authority("somebody else's"))


def test_every_stack_file_is_valid() -> None:
    for file in (PROJECT / "stacks").glob("Pulumi.*.yaml"):
        load_stack(file)


def parsed(stage: str = "local", **values: object) -> StackSettings:
    return parse(MINIMUM | {"stage": stage} | values, "here")


def test_a_service_has_the_stack_over_the_stage_over_what_holds_for_all() -> None:
    settings = parsed(services={"api-gateway": {"requests": {"cpu": "1"}}})
    gateway, other = settings.of("api-gateway"), settings.of("anything")
    assert (gateway.requests.cpu, gateway.requests.memory, gateway.replicas) == ("1", "64Mi", 2)
    assert (other.requests.cpu, other.replicas, other.limits.memory) == ("50m", 3, "128Mi")


def test_what_a_stack_says_of_every_service_gives_way_to_what_it_says_of_one() -> None:
    settings = parsed(service={"replicas": 5, "limits": {"cpu": "2"}}, services={"user-service": {"replicas": 4}})
    assert (settings.of("user-service").replicas, settings.of("anything").replicas) == (4, 5)
    assert (settings.of("user-service").limits.cpu, settings.of("user-service").limits.memory) == ("2", "128Mi")


@pytest.mark.parametrize(
    ("stage", "postgres", "servers"),
    [("local", "instance", 1), ("dev", "instance", 1), ("staging", "cluster", 3), ("prod", "cluster", 3)],
)
def test_a_stage_decides_what_may_be_lost(stage: Stage, postgres: str, servers: int) -> None:
    settings = parsed(stage)
    assert (settings.postgres.kind, settings.consul.servers) == (postgres, servers)


def test_in_prod_services_grow_with_their_load() -> None:
    scaling = parsed("prod").of("user-service").scaling
    assert scaling
    assert (scaling.least, scaling.most) == (3, 10)


def test_only_local_and_dev_build() -> None:
    assert [stage for stage in STAGES if parsed(stage).build] == ["local", "dev"]


def test_every_stage_is_in_the_table() -> None:
    assert set(STAGES) == set(get_args(Stage))


@pytest.mark.parametrize("values", [{"services": {"user-servise": {}}}, {"digests": {"user-servise": "r@sha256:0"}}])
def test_a_service_that_there_is_not_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=r"there is no service user-servise: did you mean user-service\?"):
        check_names(parsed(**values))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"ingres": {}}, "here: ingres is not known: did you mean ingress?"),
        ({"ingress": {"hots": "x"}}, "here: ingress.hots is not known: did you mean host?"),
        (
            {"services": {"a": {"requests": {"cpus": "1"}}}},
            "here: services.a.requests.cpus is not known: did you mean cpu?",
        ),
        ({"clients": [{"idd": "x"}]}, "clients.0.idd is not known: did you mean id?"),
        ({"services": {"a": {"replicas": 0}}}, r"services.a.replicas: .*greater than or equal to 1"),
        ({"service": {"scaling": {"least": 3, "most": 2}}}, r"least \(3\) is more than most \(2\)"),
        (
            {"ingress": {"issuer": "a", "tls_secret": "b"}},
            "issuer makes the certificates that tls_secret would be: take",
        ),
        ({"stage": "stagging"}, r"here: stage has to be one of local, dev, staging, prod \(it is 'stagging'\)"),
    ],
)
def test_a_wrong_setting_is_named_with_what_to_do(values: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        parsed(**values)


def test_what_is_missing_is_named() -> None:
    with pytest.raises(SettingsError, match="here: registry is missing; api_server is missing: set api_server"):
        parse({"stage": "local"}, "here")
    with pytest.raises(SettingsError, match="here has no settings: put them under"):
        parse(None, "here")


def test_a_file_that_is_not_yaml_is_named_with_the_line(tmp_path: Path) -> None:
    file = tmp_path / "Pulumi.x.yaml"
    file.write_text("config:\n  a: [\n")
    with pytest.raises(SettingsError, match=r"Pulumi.x.yaml line 3 is not YAML"):
        load_stack(file)


@pytest.mark.parametrize(
    "text",
    [
        "a: !!bool hunter2",
        "a: !!timestamp hunter2",
        "a: !!int ''",
        "a: *hunter2",
        "a: !hunter2 x",
        "[" * 5000,
        "a: 2026-99-99",
    ],
)
def test_any_file_that_is_not_yaml_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    file = tmp_path / "Pulumi.x.yaml"
    file.write_text(text)
    with pytest.raises(SettingsError, match=r"is not YAML") as refused:
        load_stack(file)
    assert "\n" not in str(refused.value)
    assert "hunter2" not in str(refused.value)


CLIENT = {"id": "a", "secret_hash": "$argon2id$x", "user_id": 1, "username": "x"}


@pytest.mark.parametrize(
    "values",
    [
        {"clients": [CLIENT, CLIENT]},
        {"receivers": [{"name": "a", "kind": "webhook"}, {"name": "a", "kind": "webhook"}]},
    ],
)
def test_one_name_for_two_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="have one name"):
        parsed(**values)


@pytest.mark.parametrize(
    "values",
    [
        {"ingress": {"trusted": ["hunter2"]}},
        {"ingress": {"metrics": {"target": "h:1", "networks": ["hunter2"]}}},
        {"api_server": {"networks": ["hunter2"]}},
        {"kubelets": {"networks": ["hunter2"]}},
        {"jwks": {"url": "https://h", "issuer": "i", "networks": ["hunter2"]}},
        {"receivers": [{"name": "a", "kind": "webhook", "networks": ["hunter2"]}]},
    ],
)
def test_a_network_is_a_cidr_wherever_it_is_set(values: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="this is no network: give a network as cidr") as refused:
        parsed(**values)
    assert "hunter2" not in str(refused.value)


def managed(**changed: object) -> dict[str, object]:
    return {"host": "db.example.com", "networks": ["192.0.2.0/24"], "ca": CA} | changed


def test_the_password_of_a_database_that_somebody_else_runs_is_not_generated() -> None:
    settings = parsed(postgres={"kind": "managed", "managed": managed()})
    assert set(parsed().generated_secrets) - set(settings.generated_secrets) == {"postgresPassword"}


def test_grafana_has_a_password_where_it_is() -> None:
    assert set(GENERATED_SECRETS) - set(parsed().generated_secrets) == {"grafanaPassword"}
    assert parsed(images={"grafana": "grafana:1"}).generated_secrets == list(GENERATED_SECRETS)


def test_an_image_that_is_not_used_is_not_asked_for() -> None:
    for postgres in ({}, {"kind": "managed", "managed": managed()}):
        settings = parsed(postgres=postgres)
        assert settings.images.postgres_cluster not in settings.image_references()
    assert parsed("prod").images.postgres_cluster in parsed("prod").image_references()
    logs = {"endpoint": "http://logs.observability:3100/otlp", "namespace": "observability"}
    assert parsed().images.log_agent not in parsed().image_references()
    assert parsed(logs=logs).images.log_agent in parsed(logs=logs).image_references()


@pytest.mark.parametrize(
    ("postgres", "message"),
    [
        ({"kind": "managed"}, r"kind: managed needs to know where: set managed: \{host, networks, ca\}"),
        ({"managed": managed()}, r"managed is given, and kind is instance: set kind: managed"),
        ({"kind": "managed", "managed": managed(networks=[])}, "managed.networks: .*at least 1 item"),
        (
            {"kind": "managed", "managed": managed(networks=["192.0.2.1/24"])},
            r"managed.networks.0: .*has host bits set: give a network as cidr, like 10\.0\.8\.0/24",
        ),
        ({"kind": "managed", "managed": managed(ca="/etc/ca.crt")}, "managed.ca: .*no certificates: give the text"),
    ],
)
def test_what_is_wrong_about_a_managed_database_is_named_with_what_to_do(
    postgres: dict[str, object], message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        parsed(postgres=postgres)


@pytest.mark.parametrize(
    ("tracing", "message"),
    [
        ({"endpoint": "collector:4318", "namespace": "n"}, "tracing.endpoint: .*wants http://host or https://host"),
        ({"endpoint": "http://collector:4318"}, "tracing: .*set either namespace, .* or networks"),
        (
            {"endpoint": "http://collector:4318", "namespace": "n", "networks": ["192.0.2.0/24"]},
            "tracing: .*set either namespace, .* or networks",
        ),
        ({"endpoint": "http://c", "namespace": "n", "ratio": 2}, "tracing.ratio: .*less than or equal to 1"),
        ({"endpoint": "http://c", "networks": ["192.0.2.1/24"]}, r"tracing.networks.0: .*has host bits set"),
    ],
)
def test_what_is_wrong_about_tracing_is_named_with_what_to_do(tracing: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        parsed(tracing=tracing)


@pytest.mark.parametrize(
    ("logs", "message"),
    [
        ({"endpoint": "http://loki:3100"}, "logs: .*set either namespace, .* or networks"),
        ({"endpoint": "http://loki:3100", "namespace": "n", "folder": "pods"}, "logs.folder: .*should match pattern"),
    ],
)
def test_what_is_wrong_about_logs_is_named_with_what_to_do(logs: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        parsed(logs=logs)


URL_OF: dict[str, Callable[[object], dict[str, Any]]] = {
    "jwks.url": lambda url: {"jwks": {"url": url, "issuer": "i"}},
    "tracing.endpoint": lambda url: {"tracing": {"endpoint": url, "namespace": "n"}},
    "logs.endpoint": lambda url: {"logs": {"endpoint": url, "namespace": "n"}},
    "alerts.runbooks": lambda url: {"alerts": {"runbooks": url}},
}


@pytest.mark.parametrize("key", URL_OF)
@pytest.mark.parametrize(
    "url", ["http://u:hunter2@h/x", "http://hunter2@h", "http://[", "http://h:65536", "http://h:hunter2", 1]
)
def test_a_url_that_cannot_work_is_refused_and_not_shown(key: str, url: object) -> None:
    with pytest.raises(SettingsError, match=f"here: {key}: ") as refused:
        parsed(**URL_OF[key](url))
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    "values",
    [
        {"clients": [{"id": "a", "secret_hash": "hunter2", "user_id": 1, "username": "x"}]},
        {"ingress": {"port": "hunter2"}},
        {"ingress": {"host": "u:hunter2@h"}},
        {"ingress": {"metrics": {"target": "h:hunter2", "networks": ["192.0.2.0/24"]}}},
        {"ingress": "hunter2"},
        {"ingress": {"https://u:hunter2@h": 1}},
        {"postgres": {"kind": "hunter2"}},
        {"postgres": {"kind": "managed", "managed": {"host": "h", "networks": ["hunter2"], "ca": "hunter2"}}},
        {"registry": ["hunter2"]},
        {"service": {"routes": [{"prefix": "/a", "cors": {"allow_origins": ["https://u:hunter2@h"]}}]}},
    ],
)
def test_nothing_of_a_refused_value_is_shown(values: dict[str, Any]) -> None:
    with pytest.raises(SettingsError) as refused:
        parsed(**values)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    "values", [{"ingress": {"port": True}}, {"service": {"replicas": True}}, {"postgres": {"backup": {"keep": True}}}]
)
def test_a_boolean_is_no_number(values: dict[str, Any]) -> None:
    with pytest.raises(SettingsError):
        parsed(**values)


def test_the_collector_listens_on_the_port_of_its_url() -> None:
    ports = [
        TracingSettings(endpoint=url, namespace="n").port
        for url in ("http://c:4318", "http://c", "https://c/otlp", "https://c:8443")
    ]
    assert ports == [4318, 80, 443, 8443]


def test_no_cluster_is_guessed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ESTATE_KUBECONFIG", raising=False)
    with pytest.raises(SettingsError, match="run this through make"):
        load_cluster()
