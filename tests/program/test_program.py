"""Rules that hold for every resource of the estate."""

import base64
import json
import re
import runpy
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pulumi
import pytest
import yaml
from api_gateway.routes import load as load_routes
from cryptography import x509
from servicekit.registration import CALL_TIMEOUT_S, LOOK_EVERY_S

from estate.core.paths import PROJECT
from estate.pulumi.program import CANARY, DIGEST, GIVEN, OURS, UID, Registered, against_mocks, run_program, settings_of
from infra import prometheus
from infra.services import SERVICES
from infra.settings.cluster import Kubelets

WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob")
ENDS = ("Job", "CronJob")
CLUSTER_WIDE = ("Namespace", "ClusterRole", "ClusterRoleBinding")


def test_the_program_that_pulumi_runs_is_the_estate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the file at the root, of which the other tests run what it imports: without it an update would delete everything."""
    monkeypatch.delitem(sys.modules, "infra.__main__", raising=False)
    content = {"estate:settings": json.dumps(settings_of("local"))}
    secrets = {f"estate:{name}": CANARY for name in GIVEN}
    root = against_mocks(lambda: runpy.run_path(str(PROJECT / "__main__.py")), "estate", "local", content, secrets)
    assert {(found.type, found.name) for found in root} == {(found.type, found.name) for found in run_program("local")}


def kind(resource: Registered) -> str:
    return resource.type.rpartition(":")[2]


def one(resources: list[Registered], of: str, name: str) -> Registered:
    """Return the resource of a kind and name."""
    (found,) = [resource for resource in resources if (kind(resource), resource.name) == (of, name)]
    return found


def files(resources: list[Registered], name: str) -> dict[str, str]:
    """Return the content of a Secret, which Pulumi has marked as secret."""
    return one(resources, "Secret", name).inputs["stringData"]["value"]


def template(resource: Registered) -> dict[str, Any]:
    """Return the pod template of a workload."""
    spec = resource.inputs["spec"]
    return (spec["jobTemplate"]["spec"] if kind(resource) == "CronJob" else spec)["template"]


def containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    """Return every container of a pod, including the init containers."""
    return [*pod.get("initContainers", ()), *pod["containers"]]


def workloads(resources: list[Registered]) -> Iterator[tuple[Registered, dict[str, Any]]]:
    """Yield every workload with the spec of its pods."""
    for resource in resources:
        if kind(resource) in WORKLOADS:
            yield resource, template(resource)["spec"]


def test_the_program_makes_the_whole_estate(resources: list[Registered]) -> None:
    made = {resource.name for resource in resources if kind(resource) in WORKLOADS}
    migrations = {f"{service.name}-migration" for service in SERVICES if service.migrates}
    work = {service.workload(each) for service in SERVICES for each in (*service.jobs, *service.workers)}
    databases = {"postgres", "postgres-roles", "postgres-backup", "postgres-restore"}
    registries = {"consul", "consul-snapshot", "consul-restore"}
    exporters = {"postgres-metrics", "redis-metrics", "kube-state-metrics"}
    assert made == {
        "redis",
        "prometheus",
        "alertmanager",
        *exporters,
        *databases,
        *registries,
        *migrations,
        *work,
        *OURS,
    }


@pytest.mark.parametrize("stack", ["local", "prod"])
def test_everything_is_in_the_stacks_namespace(stack: str) -> None:
    for resource in run_program(stack):
        if resource.type.startswith("kubernetes:") and kind(resource) not in CLUSTER_WIDE:
            assert resource.inputs["metadata"]["namespace"] == f"estate-{stack}", resource.name


def test_the_namespace_admits_restricted_pods_only(estate: list[Registered]) -> None:
    (namespace,) = [resource for resource in estate if kind(resource) == "Namespace"]
    assert namespace.inputs["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_every_pod_gives_up_what_it_does_not_need(estate: list[Registered]) -> None:
    for resource, pod in workloads(estate):
        assert pod["automountServiceAccountToken"] is False, resource.name
        assert pod["enableServiceLinks"] is False, resource.name
        assert pod["securityContext"]["runAsNonRoot"] is True, resource.name
        assert pod["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault", resource.name
        for container in containers(pod):
            security = container["securityContext"]
            assert security["readOnlyRootFilesystem"] is True, resource.name
            assert security["allowPrivilegeEscalation"] is False, resource.name
            assert security["capabilities"] == {"drop": ["ALL"]}, resource.name


def test_every_container_has_requests_and_limits(estate: list[Registered]) -> None:
    for resource, pod in workloads(estate):
        for container in containers(pod):
            for bound in ("requests", "limits"):
                assert set(container["resources"][bound]) == {"cpu", "memory", "ephemeral-storage"}, resource.name


def test_everything_that_serves_is_probed(estate: list[Registered]) -> None:
    for resource, pod in workloads(estate):
        if kind(resource) not in ENDS:
            for container in pod["containers"]:
                assert {"readinessProbe", "livenessProbe"} <= set(container), resource.name


def test_our_images_are_named_by_digest(estate: list[Registered]) -> None:
    for resource, pod in workloads(estate):
        if resource.name.removesuffix("-migration") in OURS:
            assert pod["containers"][0]["image"].endswith(f"@{DIGEST}"), resource.name


def test_images_are_never_built_for_a_preview_and_never_deleted_from_the_registry(resources: list[Registered]) -> None:
    images = [resource for resource in resources if kind(resource) == "Image"]
    assert {image.name for image in images} == OURS
    assert all(image.inputs["push"] is True and image.inputs["buildOnPreview"] is False for image in images)


def test_selectors_are_the_names_alone(estate: list[Registered]) -> None:
    for resource, _ in workloads(estate):
        if kind(resource) not in ENDS:
            selector = resource.inputs["spec"]["selector"]["matchLabels"]
            assert selector == {"app.kubernetes.io/name": resource.name}


@pytest.mark.parametrize(("name", "replicas"), [("user-service", 3), ("api-gateway", 2)])
def test_a_service_has_its_replicas(resources: list[Registered], name: str, replicas: int) -> None:
    assert one(resources, "Deployment", name).inputs["spec"]["replicas"] == replicas


@pytest.mark.parametrize("name", sorted(OURS))
def test_a_service_is_replaced_without_a_gap(estate: list[Registered], name: str) -> None:
    deployment = one(estate, "Deployment", name)
    assert deployment.inputs["spec"]["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    pod = deployment.inputs["spec"]["template"]["spec"]
    drain_s = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert drain_s > 0
    assert pod["terminationGracePeriodSeconds"] > drain_s + 25  # the app's own draining
    assert one(estate, "PodDisruptionBudget", name).inputs["spec"]["maxUnavailable"] == 1


@pytest.mark.parametrize("name", sorted(OURS))
def test_a_service_is_spread_over_zones_and_nodes_each_version_by_itself(estate: list[Registered], name: str) -> None:
    constraints = one(estate, "Deployment", name).inputs["spec"]["template"]["spec"]["topologySpreadConstraints"]
    assert [c["topologyKey"] for c in constraints] == ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]
    for constraint in constraints:
        assert constraint["labelSelector"]["matchLabels"] == {"app.kubernetes.io/name": name}
        assert constraint["matchLabelKeys"] == ["pod-template-hash"]


@pytest.mark.parametrize("name", sorted(OURS))
def test_where_an_autoscaler_keeps_the_replicas_the_deployment_says_nothing_of_them(name: str) -> None:
    prod = run_program("prod")
    assert "replicas" not in one(prod, "Deployment", name).inputs["spec"]
    scaler = one(prod, "HorizontalPodAutoscaler", name).inputs["spec"]
    assert scaler["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (3, 10)


def test_no_resource_depends_on_where_the_clone_is(estate: list[Registered]) -> None:
    for resource in estate:
        assert str(PROJECT) not in json.dumps(resource.inputs, default=str), resource.name


def test_secrets_are_in_secrets_alone(estate: list[Registered]) -> None:
    for resource in estate:
        if kind(resource) not in ("Secret", "GeneratedSecrets"):
            assert CANARY not in json.dumps(resource.inputs, default=str), resource.name


@pytest.mark.parametrize("stack", ["staging", "prod"])
def test_consul_keeps_its_majority_and_its_agents_while_they_are_replaced(stack: str) -> None:
    resources = run_program(stack)
    servers = one(resources, "StatefulSet", "consul-server").inputs["spec"]
    assert (servers["replicas"], servers["podManagementPolicy"]) == (3, "Parallel")
    assert servers["minReadySeconds"] > 10  # autopilot waits this long before a server gets its vote
    assert one(resources, "PodDisruptionBudget", "consul-server").inputs["spec"]["maxUnavailable"] == 1
    agents = one(resources, "DaemonSet", "consul").inputs["spec"]
    assert agents["updateStrategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    pod = agents["template"]["spec"]
    handover_s = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert LOOK_EVERY_S + CALL_TIMEOUT_S < handover_s < pod["terminationGracePeriodSeconds"]
    assert one(resources, "Service", "consul").inputs["spec"]["internalTrafficPolicy"] == "Local"


@pytest.mark.parametrize("stack", ["staging", "prod"])
def test_consul_asks_for_certificates_and_tokens_and_everybody_has_another(stack: str) -> None:
    secrets = {r.name: r.inputs["stringData"]["value"] for r in run_program(stack) if kind(r) == "Secret"}
    for name in ("consul-server", "consul"):
        settings = json.loads(secrets[name]["agent.json"])
        assert len(base64.b64decode(settings["encrypt"])) == 32
        assert settings["acl"]["default_policy"] == "deny"
        assert settings["tls"]["internal_rpc"] == {"verify_incoming": True, "verify_server_hostname": True}
        assert settings["tls"]["defaults"]["verify_outgoing"] is True
    given = secrets["consul-access"]
    tokens = {name.removesuffix(".token"): token for name, token in given.items() if name.endswith(".token")}
    assert set(tokens) == {*OURS, "server", "agent", "prometheus", "management"}
    assert len({uuid.UUID(token) for token in tokens.values()}) == len(tokens)
    for name in OURS:
        assert secrets[name]["consul-token"] == tokens[name]
        assert re.findall(r'^service "(\S+)" { policy = "write" }$', given[f"{name}.hcl"], re.MULTILINE) == [name]
    for name in {*OURS, "agent", "prometheus"}:
        assert tokens["management"] not in json.dumps(secrets.get(name, {}))


def test_content_changes_in_place_where_its_name_is_fixed_and_rolls_the_pods_where_it_is_not(
    resources: list[Registered],
) -> None:
    (provider,) = [resource for resource in resources if resource.type == "pulumi:providers:kubernetes"]
    assert {provider.inputs.get(f"enable{name}Mutable") for name in ("Secret", "ConfigMap")} == {"true"}
    held = [resource for resource in resources if kind(resource) in ("Secret", "ConfigMap")]
    fixed = {resource.name for resource in held if "name" in resource.inputs["metadata"]}
    assert fixed == {"token-keys", "token-clients", "gateway-routes", "prometheus-runbooks"}
    for resource in held:
        assert resource.inputs.get("immutable", False) == (resource.name not in fixed), resource.name


def test_the_api_and_the_consoles_are_public_over_tls(resources: list[Registered]) -> None:
    ingresses = {resource.name: resource.inputs["spec"] for resource in resources if kind(resource) == "Ingress"}
    hosts = {name: spec["rules"][0]["host"] for name, spec in ingresses.items()}
    consoles = {name: f"{name}.myapp.com" for name in ("consul", "prometheus", "alertmanager")}
    assert hosts == {"api": "api.myapp.com"} | consoles
    assert all(spec["tls"][0]["hosts"] == [hosts[name]] for name, spec in ingresses.items())


def test_prometheus_scrapes_what_says_so_and_consul_kubelets_and_the_ingress_every_15_s(
    resources: list[Registered],
) -> None:
    config = yaml.safe_load(one(resources, "ConfigMap", "prometheus").inputs["data"]["prometheus.yml"])
    assert config["global"]["scrape_interval"] == "15s"
    assert {job["job_name"] for job in config["scrape_configs"]} == {
        "pods", "consul", "kubelet", "kubelet-resource", "kubelet-cadvisor", "ingress",
    }  # fmt: skip
    says_so = {
        resource.name
        for resource, _ in workloads(resources)
        if template(resource)["metadata"].get("annotations", {}).get("prometheus.io/scrape") == "true"
    }
    others = {"prometheus", "alertmanager", "kube-state-metrics", "postgres-metrics", "redis-metrics"}
    assert says_so == {*OURS, *others}


@pytest.mark.parametrize("stack", ["local", "prod"])
def test_the_kubernetes_api_is_read_and_no_more_than_that(stack: str) -> None:
    found = run_program(stack)
    roles = [resource for resource in found if kind(resource) in ("Role", "ClusterRole")]
    assert {resource.name for resource in roles} == {"prometheus", "kube-state-metrics"}
    for role in roles:
        for rule in role.inputs["rules"]:
            assert set(rule["verbs"]) <= {"get", "list", "watch"}, role.name
            assert "secrets" not in rule["resources"], role.name
    (wide,) = [role for role in roles if kind(role) == "ClusterRole"]
    assert wide.inputs["metadata"]["name"] == f"estate-{stack}-prometheus"  # stacks share a cluster
    assert {resource for rule in wide.inputs["rules"] for resource in rule["resources"]} == {"nodes", "nodes/metrics"}


def test_a_pod_with_a_token_is_replaced_when_its_account_is_made_again(estate: list[Registered]) -> None:
    with_token: set[str] = set()
    for resource, pod in workloads(estate):
        sources = [each for volume in pod.get("volumes", ()) for each in volume.get("projected", {}).get("sources", ())]
        if any("serviceAccountToken" in source for source in sources):
            with_token.add(resource.name)
            assert template(resource)["metadata"]["annotations"]["estate/service-account-uid"] == UID
    assert with_token == {"prometheus", "kube-state-metrics"}


def test_a_kubelet_is_known_by_its_certificate_unless_the_stack_says_otherwise() -> None:
    def jobs(*, verify: bool) -> list[Any]:
        kubelets = Kubelets(networks=["192.0.2.0/24"], verify=verify)
        return [
            prometheus.kubelet(path, kubelets, pulumi.Output.from_input("n"))["tls_config"]
            for path in prometheus.KUBELET_METRICS
        ]

    assert all("ca_file" in tls and "insecure_skip_verify" not in tls for tls in jobs(verify=True))
    assert all(tls == {"insecure_skip_verify": True} for tls in jobs(verify=False))


def test_prometheus_has_the_same_alerts_for_every_service(resources: list[Registered]) -> None:
    groups = yaml.safe_load(one(resources, "ConfigMap", "prometheus").inputs["data"]["rules.yml"])["groups"]
    of = {
        name: [rule for group in groups if group["name"].startswith(name) for rule in group["rules"]] for name in OURS
    }
    alerts = {name: {rule["alert"] for rule in rules if "alert" in rule} for name, rules in of.items()}
    assert {"ServiceDown", "RequestsFail", "ErrorBudgetBurnsFast"} <= alerts["user-service"]
    assert all(alerts[name] == alerts["user-service"] for name in OURS)
    assert all(f'"{name}"' in rule["expr"] for name, rules in of.items() for rule in rules)


def test_every_route_of_a_service_is_one_that_the_gateway_can_read(resources: list[Registered], tmp_path: Path) -> None:
    (config,) = [r.inputs["data"] for r in resources if (kind(r), r.name) == ("ConfigMap", "gateway-routes")]
    file = tmp_path / "routes.json"
    file.write_text(config["routes.json"])
    table = load_routes(file)
    found = {(route.service, route.prefix) for route in table.routes}
    assert found == {(service.name, prefix) for service in SERVICES for prefix in service.prefixes}
    assert all(route.auth == "required" for route in table.routes)


def test_postgres_speaks_tls_alone_and_its_certificate_is_one_that_its_clients_trust(
    resources: list[Registered],
) -> None:
    (pod,) = [pod for resource, pod in workloads(resources) if resource.name == "postgres"]
    assert "ssl=on" in pod["containers"][0]["args"]
    hba = one(resources, "ConfigMap", "postgres").inputs["data"]["pg_hba.conf"]
    rules = [line.split() for line in hba.splitlines() if not line.startswith("#")]
    assert {rule[0] for rule in rules} == {"local", "hostssl"}
    own = files(resources, "postgres")
    server = x509.load_pem_x509_certificate(own["tls.crt"].encode())
    programs = [files(resources, f"postgres-{name}")["ca.crt"] for name in ("roles", "backup", "restore", "metrics")]
    for trusted in (*programs, files(resources, "user-service")["database-ca.crt"]):
        server.verify_directly_issued_by(x509.load_pem_x509_certificate(trusted.encode()))


def test_a_service_has_the_login_that_is_active_and_its_migration_the_owners(resources: list[Registered]) -> None:
    assert files(resources, "user-service")["database-username"] == "myuser_a"
    assert files(resources, "user-service-migration")["database-username"] == "myuser_owner"


def test_the_server_gets_no_password_but_the_superusers(resources: list[Registered]) -> None:
    reported = files(resources, "postgres-roles")
    assert {name for name, content in reported.items() if CANARY in content} == {"password"}
    own = [service for service in SERVICES if service.schema == "own" and "postgres" in service.needs]
    assert reported["verifiers.sql"].count("SCRAM-SHA-256$4096:") == 5 + 3 * len(own)


@pytest.mark.parametrize(
    ("name", "job", "port"), [("postgres-metrics", "postgres", 9187), ("redis-metrics", "redis", 9121)]
)
def test_an_exporter_says_where_it_is_scraped_and_as_what(
    estate: list[Registered], name: str, job: str, port: int
) -> None:
    said = template(one(estate, "Deployment", name))
    wanted = {"scrape": "true", "port": str(port), "job": job}
    assert said["metadata"]["annotations"] == {f"prometheus.io/{key}": value for key, value in wanted.items()}
    (container,) = said["spec"]["containers"]
    assert container["ports"] == [{"name": "http", "containerPort": port}]


def test_the_exporter_of_postgres_verifies_it_and_logs_in_as_who_reads_no_row(estate: list[Registered]) -> None:
    (container,) = containers(template(one(estate, "Deployment", "postgres-metrics"))["spec"])
    environment = {entry["name"]: entry["value"] for entry in container["env"]}
    assert environment["DATA_SOURCE_USER"] == "metrics"
    (folder,) = [mount["mountPath"] for mount in container["volumeMounts"]]
    assert f"/myapp?sslmode=verify-full&sslrootcert={folder}/ca.crt&" in environment["DATA_SOURCE_URI"]
    assert environment["DATA_SOURCE_PASS_FILE"] == f"{folder}/password"
    assert set(files(estate, "postgres-metrics")) == {"password", "ca.crt"}


def test_the_exporter_of_redis_has_its_password_by_its_address(resources: list[Registered]) -> None:
    (container,) = containers(template(one(resources, "Deployment", "redis-metrics"))["spec"])
    (address,) = [entry["value"] for entry in container["env"]]
    assert json.loads(files(resources, "redis-metrics")["passwords.json"]) == {address: CANARY}


def test_what_restores_waits_to_be_asked(resources: list[Registered]) -> None:
    assert one(resources, "CronJob", "postgres-backup").inputs["spec"]["suspend"] is False
    assert one(resources, "CronJob", "postgres-restore").inputs["spec"]["suspend"] is True


def test_every_claim_of_a_statefulset_is_declared_by_the_name_that_it_looks_for(estate: list[Registered]) -> None:
    declared = {claim.inputs["metadata"]["name"]: claim for claim in estate if kind(claim) == "PersistentVolumeClaim"}
    expected: set[str] = set()
    for server in (resource for resource in estate if kind(resource) == "StatefulSet"):
        spec = server.inputs["spec"]
        (made,) = spec["volumeClaimTemplates"]
        assert server.ignored == ("spec.volumeClaimTemplates",), server.name  # otherwise another size would replace it
        for number in range(int(spec["replicas"])):
            claim = declared[f"{made['metadata']['name']}-{server.inputs['metadata']['name']}-{number}"]
            assert claim.inputs["spec"] == made["spec"]
            labels = claim.inputs["metadata"]["labels"].items()
            assert spec["selector"]["matchLabels"].items() <= labels, claim.name  # the controller sets these
            expected.add(claim.name)
    assert {name for name in declared if name.startswith("data-")} == expected


def test_no_claim_goes_before_its_namespace(estate: list[Registered]) -> None:
    claims = [resource for resource in estate if kind(resource) == "PersistentVolumeClaim"]
    assert claims
    assert all(claim.retained for claim in claims)
