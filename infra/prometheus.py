"""Prometheus, which scrapes all annotated pods, Consul, the kubelets and the Ingress controller every 15 s."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pulumi
import yaml
from pulumi_kubernetes.apps.v1 import StatefulSet
from pulumi_kubernetes.core.v1 import ConfigMap, Secret, Service

from infra import alerts, kube_access
from infra.ingress import console_url
from infra.kube_access import KubeAccess, readable
from infra.namespace import EstateNamespace
from infra.network_policy import Endpoint, Flow
from infra.pods import (
    container_security,
    labels,
    management_probes,
    manifest,
    metadata,
    resources,
    restricted_pod,
    scraped,
    selector,
    unnamed,
)
from infra.settings.cluster import Kubelets
from infra.settings.stack import StackSettings
from infra.volumes import claim_template, claims_of, on_claims

NAME = "prometheus"
UID = 65534  # of the upstream image
PORT = 9090
RETENTION = "15d"
FOLDER = "/run/secrets/prometheus"
RUNBOOKS = Path(__file__).parent.parent / "docs" / "runbooks"
ASSETS = "/etc/prometheus-assets"
"""Folder that Prometheus serves below /user/: the runbooks' pages."""


OF_NODES = (readable("", "nodes"), {"apiGroups": [""], "resources": ["nodes/metrics"], "verbs": ["get"]})
OWN = {"namespaces": {"own_namespace": True}}
KUBELET_METRICS = {
    # In addition to cAdvisor, which does not know the containers of every runtime.
    "/metrics/resource": "container_(cpu_usage_seconds_total|memory_working_set_bytes)",
    "/metrics/cadvisor": "container_(cpu_cfs(_throttled)?_periods|network_(receive|transmit)_bytes)_total",
    "/metrics": "kubelet_volume_stats_(used|capacity)_bytes",
}
"""Patterns of the metrics that are kept, of the thousands that a kubelet has, by path."""


@dataclass(frozen=True)
class Scraped:
    """Scrape configuration of targets that are not found by annotations of pods."""

    endpoints: Sequence[Endpoint]
    jobs: Sequence[dict[str, Any]]
    """Scrape jobs, as in prometheus.yml."""
    files: Mapping[str, pulumi.Output[str]] = field(default_factory=dict[str, pulumi.Output[str]])
    """Contents of the files in FOLDER, by name: tokens and certificates that the jobs refer to."""


class Prometheus(pulumi.ComponentResource):
    """The Prometheus server of the namespace."""

    endpoint = Endpoint(NAME, PORT)
    service: Service

    def __init__(
        self,
        settings: StackSettings,
        services: list[Endpoint],
        consul: Scraped,
        rules: str,
        alertmanager: Endpoint,
        namespace: EstateNamespace,
    ) -> None:
        """Create the server.

        Args:
            settings: the stack's settings.
            services: endpoints of our own services.
            consul: scrape configuration of the registry.
            rules: content of the rule file.
            alertmanager: endpoint that receives the alerts.
            namespace: namespace that it runs in.
        """
        super().__init__("estate:prometheus:Prometheus", NAME, {}, pulumi.ResourceOptions(parent=namespace))
        child = pulumi.ResourceOptions(parent=self)
        named = metadata(NAME, namespace.name)
        found = [consul, *outside(settings, namespace.name)]
        jobs = [annotated_pods(), *(job for scraped in found for job in scraped.jobs)]
        configuration = ConfigMap(
            NAME,
            metadata=unnamed(NAME, namespace.name),
            data={"prometheus.yml": configuration_of(jobs, alertmanager), alerts.FILE: rules},
            immutable=True,
            opts=child,
        )
        runbooks = ConfigMap(
            f"{NAME}-runbooks", metadata=metadata(f"{NAME}-runbooks", namespace.name), data=pages(), opts=child
        )
        of = unnamed(NAME, namespace.name)
        files = (
            Secret(NAME, metadata=of, string_data=consul.files, immutable=True, opts=child) if consul.files else None
        )
        self.service = Service(
            NAME,
            metadata=named,
            spec=manifest({"clusterIP": "None", "selector": selector(NAME), "ports": [{"name": "http", "port": PORT}]}),
            opts=child,
        )
        to = (
            kube_access.endpoint(settings.api_server),
            alertmanager,
            *services,
            *(to for each in found for to in each.endpoints),
        )
        flows = [Flow(NAME, endpoint, namespace.name, self) for endpoint in to]
        access = KubeAccess(NAME, [readable("", "pods")], namespace, self, OF_NODES if settings.kubelets else ())
        claims = claims_of(NAME, settings.storage.prometheus, namespace, self)
        StatefulSet(
            NAME,
            metadata=named,
            spec=manifest(
                {
                    "serviceName": NAME,
                    "replicas": 1,
                    "podManagementPolicy": "Parallel",  # a pod that never became ready is replaced too
                    "selector": {"matchLabels": selector(NAME)},
                    "template": {
                        "metadata": {
                            "labels": labels(NAME),
                            "annotations": scraped(PORT) | access.annotations,
                        },
                        "spec": pod(
                            settings,
                            configuration.metadata.name,
                            runbooks.metadata.name,
                            files.metadata.name if files else None,
                            access.account,
                        ),
                    },
                    "volumeClaimTemplates": [claim_template(settings.storage.prometheus)],
                }
            ),
            opts=on_claims(self, *flows, *claims),
        )
        self.register_outputs({})


def runbooks_url(settings: StackSettings) -> str | None:
    """Return the URL of the folder with the runbooks' pages, if they have one."""
    own = console_url(settings.ingress, NAME)
    return settings.alerts.runbooks or (f"{own}/user" if own else None)


def pages() -> dict[str, str]:
    """Return the runbooks' pages by their file names."""
    return {page.name: page.read_text() for page in sorted(RUNBOOKS.glob("*.md"))}


def configuration_of(jobs: Sequence[dict[str, Any]], alertmanager: Endpoint) -> pulumi.Output[str]:
    """Return prometheus.yml.

    Args:
        jobs: scrape jobs.
        alertmanager: endpoint that receives the alerts.
    """
    general = {
        "global": {"scrape_interval": "15s", "evaluation_interval": "15s"},
        "rule_files": [alerts.FILE],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [alertmanager.address]}]}]},
    }
    return pulumi.Output.from_input(jobs).apply(lambda known: yaml.safe_dump({**general, "scrape_configs": known}))


def annotated_pods() -> dict[str, Any]:
    """Return the scrape job for all annotated pods of the namespace, including those of new services."""
    annotation, pod_label = "__meta_kubernetes_pod_annotation_prometheus_io_", "__meta_kubernetes_pod_label_"
    return {
        "job_name": "pods",
        "kubernetes_sd_configs": [{"role": "pod", **OWN}],
        "relabel_configs": [
            {"source_labels": [f"{annotation}scrape"], "action": "keep", "regex": "true"},
            {"source_labels": ["__meta_kubernetes_pod_phase"], "action": "keep", "regex": "Pending|Running"},
            {
                "source_labels": ["__address__", f"{annotation}port"],
                "regex": r"([^:]+)(?::\d+)?;(\d+)",
                "replacement": "$1:$2",
                "target_label": "__address__",
            },
            {"source_labels": [f"{annotation}path"], "regex": "(.+)", "target_label": "__metrics_path__"},
            {"source_labels": [f"{pod_label}app_kubernetes_io_name"], "target_label": "job"},
            {"source_labels": [f"{annotation}job"], "regex": "(.+)", "target_label": "job"},
            {"source_labels": ["__meta_kubernetes_namespace"], "target_label": "namespace"},
            {"source_labels": ["__meta_kubernetes_pod_name"], "target_label": "pod"},
        ],
        # kube-state-metrics itself labels a metric with the pod that it is about.
        "honor_labels": True,
    }


def outside(settings: StackSettings, namespace: pulumi.Output[str]) -> list[Scraped]:
    """Return the scrape configuration of targets outside the namespace that the stack names: kubelets and the Ingress controller."""
    found: list[Scraped] = []
    if kubelets := settings.kubelets:
        to = Endpoint("kubelet", kubelets.port, networks=tuple(kubelets.networks))
        found.append(Scraped([to], [kubelet(path, kubelets, namespace) for path in KUBELET_METRICS]))
    if ingress := settings.ingress.metrics:
        to = Endpoint("ingress", ingress.port, networks=tuple(ingress.networks))
        found.append(Scraped([to], [{"job_name": "ingress", "static_configs": [{"targets": [ingress.target]}]}]))
    return found


def kubelet(path: str, kubelets: Kubelets, namespace: pulumi.Output[str]) -> dict[str, Any]:
    """Return the scrape job for one path of the kubelets, limited to metrics of the own namespace."""
    kept = namespace.apply(lambda name: f"{name};({KUBELET_METRICS[path]})")
    return {
        "job_name": f"kubelet{path.removeprefix('/metrics').replace('/', '-')}",
        "scheme": "https",
        "metrics_path": path,
        "kubernetes_sd_configs": [{"role": "node"}],
        "authorization": {"credentials_file": kube_access.TOKEN},
        "tls_config": {"ca_file": kube_access.CA} if kubelets.verify else {"insecure_skip_verify": True},
        "metric_relabel_configs": [
            {"source_labels": ["namespace", "__name__"], "action": "keep", "regex": kept},
            {"action": "labeldrop", "regex": "id|image|name"},
        ],
    }


def pod(
    settings: StackSettings,
    configuration: pulumi.Input[str],
    runbooks: pulumi.Input[str],
    files: pulumi.Input[str] | None,
    account: pulumi.Input[str],
) -> dict[str, Any]:
    """Return the server's pod."""
    url = console_url(settings.ingress, NAME)
    mounts = [{"name": "files", "mountPath": FOLDER, "readOnly": True}] if files else []
    volumes = [{"name": "files", "secret": {"secretName": files, "defaultMode": 0o440}}] if files else []
    return {
        "serviceAccountName": account,
        **restricted_pod(UID),
        "terminationGracePeriodSeconds": 60,
        "containers": [
            {
                "name": NAME,
                "image": settings.images.prometheus,
                "command": [
                    "prometheus",
                    "--config.file=/etc/prometheus/prometheus.yml",
                    "--storage.tsdb.path=/prometheus",
                    f"--storage.tsdb.retention.time={RETENTION}",
                    "--enable-feature=exemplar-storage",
                    f"--web.user-assets={ASSETS}",
                    *([f"--web.external-url={url}"] if url else []),
                ],
                "ports": [{"name": "http", "containerPort": PORT}],
                **management_probes(120),
                "resources": resources("50m", "384Mi"),
                "securityContext": container_security(),
                "volumeMounts": [
                    {"name": "data", "mountPath": "/prometheus"},
                    {"name": "configuration", "mountPath": "/etc/prometheus", "readOnly": True},
                    {"name": "runbooks", "mountPath": ASSETS, "readOnly": True},
                    kube_access.MOUNT,
                    *mounts,
                ],
            }
        ],
        "volumes": [
            {"name": "configuration", "configMap": {"name": configuration}},
            {"name": "runbooks", "configMap": {"name": runbooks}},
            kube_access.VOLUME,
            *volumes,
        ],
    }
