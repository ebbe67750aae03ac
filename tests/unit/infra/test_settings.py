import json
from collections.abc import Callable
from typing import Any, get_args

import pulumi
import pytest

from estate.core.paths import PROJECT
from infra.authority import authority, pem
from infra.settings.auth import HASH
from infra.settings.load import load_stack, parse
from infra.settings.observability import TracingSettings
from infra.settings.running import load_cluster, load_settings
from infra.settings.secrets import GENERATED_SECRETS
from infra.settings.stack import StackSettings
from infra.stack_file import SettingsError
from infra.stages import STAGES, Stage
from tests.support.minimum import MINIMUM

PLANTED = "planted-secret"
DIGEST = "r@sha256:" + "0" * 64
CA = pem(authority("somebody else's"))


def test_every_stack_file_is_valid() -> None:
    for file in (PROJECT / "stacks").glob("Pulumi.*.yaml"):
        load_stack(file)


def parsed(stage: str = "local", **values: object) -> StackSettings:
    return parse(MINIMUM | {"stage": stage} | values, "here")


def test_a_service_has_the_stack_over_the_stage_over_what_holds_for_all() -> None:
    settings = parsed(services={"api-gateway": {"requests": {"cpu": "500m"}}})
    gateway, other = settings.of("api-gateway"), settings.of("anything")
    assert (gateway.requests.cpu, gateway.requests.memory, gateway.replicas) == ("500m", "64Mi", 2)
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


@pytest.mark.parametrize(
    ("given", "own", "others"),
    [
        ({"service": {"replicas": 1}}, (1, None), (1, None)),
        ({"services": {"user-service": {"replicas": 1}}}, (1, None), (2, 3)),
        ({"service": {"replicas": 4}, "services": {"user-service": {"scaling": {"least": 5, "most": 6}}}}, (4, 5), (2, None)),
        ({"services": {"user-service": {"replicas": 4, "scaling": {"least": 5, "most": 6}}}}, (4, 5), (2, 3)),
    ],
)  # fmt: skip
def test_a_number_of_replicas_in_the_file_replaces_the_scaling_of_the_stage(
    given: dict[str, Any], own: tuple[int, int | None], others: tuple[int, int | None]
) -> None:
    settings = parsed("prod", **given)

    def of(service: str) -> tuple[int, int | None]:
        found = settings.of(service)
        return found.replicas, found.scaling and found.scaling.least

    assert of("user-service") == own
    assert of("api-gateway")[1] == others[1]


def test_in_prod_services_grow_with_their_load() -> None:
    scaling = parsed("prod").of("user-service").scaling
    assert scaling
    assert (scaling.least, scaling.most) == (3, 10)


def test_only_local_and_dev_build() -> None:
    assert [stage for stage in STAGES if parsed(stage).build] == ["local", "dev"]


def test_every_stage_is_in_the_table() -> None:
    assert set(STAGES) == set(get_args(Stage))


@pytest.mark.parametrize(("key", "value"), [("services", {}), ("digests", DIGEST)])
def test_a_service_that_there_is_not_is_refused(key: str, value: object) -> None:
    message = rf"here: {key}\.user-servise: there is no such service \(did you mean user-service\?\)"
    with pytest.raises(SettingsError, match=message):
        parse(MINIMUM | {key: {"user-servise": value}}, "here")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"ingres": {}}, r"here: ingres: is not known \(did you mean ingress\?\), such as ingress: "),
        ({"ingress": {"hots": "x"}}, r"here: ingress.hots: is not known \(did you mean host\?\), such as host: "),
        (
            {"services": {"user-service": {"requests": {"cpus": "1"}}}},
            r"here: services.user-service.requests.cpus: is not known \(did you mean cpu\?\), such as cpu: 250m",
        ),
        ({"clients": [{"idd": "x"}]}, r"here: clients.0.idd: is not known \(did you mean id\?\), such as id: billing"),
        (
            {"services": {"user-service": {"routes": [{"prefx": "/a"}]}}},
            r"here: services.user-service.routes.0.prefx: is not known \(did you mean prefix\?\)",
        ),
        (
            {"services": {"user-service": {"replicas": 0}}},
            r"services.user-service.replicas: wants 1 or more \(it is 0\)",
        ),
        (
            {"service": {"scaling": {"least": 3, "most": 2}}},
            "service.scaling.least: is 3, more than most, which is 2, such as least: 2",
        ),
        (
            {"ingress": {"namespace": "a", "issuer": "a", "tls_secret": "b"}},
            "ingress.tls_secret: .*issuer makes others",
        ),
        ({"stage": "stagging"}, "here: stage: wants 'local', 'dev', 'staging' or 'prod', such as stage: local"),
    ],
)
def test_a_wrong_setting_is_named_with_what_to_do(values: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        parsed(**values)


def test_what_is_missing_is_named() -> None:
    with pytest.raises(SettingsError) as refused:
        parse({"stage": "local"}, "here")
    assert str(refused.value).splitlines() == [
        "here: api_server: is missing, such as api_server: {networks: [10.0.8.0/24]}",
        (
            "here: ingress.namespace: is missing, and trusted too: who may connect from outside is the Ingress controller, "
            "by its namespace or networks, such as namespace: ingress-nginx"
        ),
        "here: registry: is missing, such as registry: registry.example.com/estate",
    ]
    with pytest.raises(SettingsError, match="here: estate:settings: is missing: wants a table"):
        parse(None, "here")


CLIENT = {"id": "a", "secret_hash": HASH, "user_id": 1, "username": "x"}


@pytest.mark.parametrize(
    "values",
    [
        {"clients": [CLIENT, CLIENT]},
        {"receivers": [{"name": "a", "kind": "webhook"}, {"name": "a", "kind": "webhook"}]},
    ],
)
def test_one_name_for_two_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=r"(clients\.1\.id|receivers\.1\.name): is the name of another one already"):
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
    with pytest.raises(SettingsError, match="wants a network as CIDR, address/bits, such as ") as refused:
        parsed(**values)
    assert "hunter2" not in str(refused.value)


def managed(**changed: object) -> dict[str, object]:
    return {"host": "db.example.com", "networks": ["192.0.2.0/24"], "ca": CA} | changed


def test_the_password_of_a_managed_database_is_not_generated() -> None:
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
        (
            {"kind": "managed"},
            r"postgres.managed: is missing, for kind: managed needs to know where: \{host, networks, ca\}",
        ),
        (
            {"managed": managed()},
            r"postgres.managed: is given, and kind is instance \(the default\), such as kind: managed",
        ),
        ({"kind": "managed", "managed": managed(networks=[])}, "managed.networks: wants one at the least, such as"),
        (
            {"kind": "managed", "managed": managed(networks=["192.0.2.1/24"])},
            r"managed.networks.0: .*has host bits set, such as 10\.0\.8\.0/24",
        ),
        ({"kind": "managed", "managed": managed(ca="/etc/ca.crt")}, "managed.ca: wants certificates: the text of"),
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
        ({"endpoint": "http://collector:4318"}, "tracing.n[a-z]+: wants either namespace, .* or networks"),
        (
            {"endpoint": "http://collector:4318", "namespace": "n", "networks": ["192.0.2.0/24"]},
            "tracing.n[a-z]+: wants either namespace, .* or networks",
        ),
        ({"endpoint": "http://c", "namespace": "n", "ratio": 2}, "tracing.ratio: wants 1 or less"),
        ({"endpoint": "http://c", "networks": ["192.0.2.1/24"]}, r"tracing.networks.0: .*has host bits set"),
    ],
)
def test_what_is_wrong_about_tracing_is_named_with_what_to_do(tracing: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        parsed(tracing=tracing)


@pytest.mark.parametrize(
    ("logs", "message"),
    [
        ({"endpoint": "http://loki:3100"}, "logs.namespace: wants either namespace, .* or networks"),
        ({"endpoint": "http://loki:3100", "namespace": "n", "folder": "pods"}, "logs.folder: wants an absolute path"),
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


@pytest.mark.parametrize(
    ("key", "is_secret", "said"),
    [
        ("estate:redisPassword", True, None),
        ("estate:redisPassword", False, "estate:redisPassword: is a secret that everyone can read"),
        ("estate:redisPasswort", True, "estate:redisPasswort: is not known"),
        ("aws:region", False, None),
    ],
)
def test_plain_pulumi_has_the_estates_keys_checked(
    monkeypatch: pytest.MonkeyPatch, key: str, said: str | None, *, is_secret: bool
) -> None:
    config = {"estate:settings": json.dumps(MINIMUM), key: PLANTED}
    monkeypatch.setenv("PULUMI_CONFIG", json.dumps(config))
    monkeypatch.setenv("PULUMI_CONFIG_SECRET_KEYS", json.dumps([key] if is_secret else []))
    monkeypatch.setattr(pulumi, "get_stack", lambda: "dev")
    if not said:
        assert load_settings().registry == MINIMUM["registry"]
        return
    with pytest.raises(SettingsError, match=f"stacks/Pulumi.dev.yaml: .*{said}") as refused:
        load_settings()
    assert PLANTED not in str(refused.value)


@pytest.mark.parametrize(
    ("given", "configured", "context"),
    [
        ("estate", None, "estate"),
        (None, "eks", "eks"),
        ("eks", "eks", "eks"),
        (None, None, None),
        ("estate", "eks", None),
    ],
)
def test_a_cluster_is_named_once_and_never_guessed(
    monkeypatch: pytest.MonkeyPatch, given: str | None, configured: str | None, context: str | None
) -> None:
    monkeypatch.delenv("ESTATE_KUBE_CONTEXT", raising=False)
    if given:
        monkeypatch.setenv("ESTATE_KUBE_CONTEXT", given)
    monkeypatch.setenv("PULUMI_CONFIG", json.dumps({"kubernetes:context": configured} if configured else {}))
    if context:
        assert load_cluster().context == context
    else:
        with pytest.raises(SettingsError, match=r"kubernetes:context"):
            load_cluster()
