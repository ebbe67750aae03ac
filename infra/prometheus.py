"""Prometheus: scrapes every pod that asks for it, and Consul, every 15 s."""

from typing import Any

import pulumi
import yaml
from pulumi_kubernetes.apps.v1 import StatefulSet
from pulumi_kubernetes.core.v1 import ConfigMap, Service, ServiceAccount
from pulumi_kubernetes.rbac.v1 import Role, RoleBinding

from infra.namespace import EstateNamespace
from infra.pods import container_security, labels, manifest, metadata, pod_security, resources, selector
from infra.postgres import volume_claim
from infra.waiting import ROLLOUT

NAME = "prometheus"
UID = 65534  # of the upstream image
PORT = 9090
RETENTION = "15d"


class Prometheus(pulumi.ComponentResource):
    """Metrics of the namespace."""

    service: Service
    port = PORT

    def __init__(self, image: str, storage: str, namespace: EstateNamespace) -> None:
        """Create the server.

        Args:
            image: reference of the upstream image or of one like it.
            storage: size of the volume, a Kubernetes quantity.
            namespace: where it runs, and what it sees.
        """
        super().__init__("estate:prometheus:Prometheus", NAME, {}, pulumi.ResourceOptions(parent=namespace))
        child = pulumi.ResourceOptions(parent=self)
        named = metadata(NAME, namespace.name)
        account = ServiceAccount(NAME, metadata=named, automount_service_account_token=False, opts=child)
        role = Role(
            NAME,
            metadata=named,
            rules=manifest([{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}]),
            opts=child,
        )
        binding = RoleBinding(
            NAME,
            metadata=named,
            role_ref=manifest({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": role.metadata.name}),
            subjects=manifest([{"kind": "ServiceAccount", "name": account.metadata.name, "namespace": namespace.name}]),
            opts=child,
        )
        configuration = ConfigMap(
            NAME,
            metadata=manifest({"namespace": namespace.name, "labels": labels(NAME)}),
            data={"prometheus.yml": namespace.name.apply(scrapes)},
            opts=child,
        )
        self.service = Service(
            NAME,
            metadata=named,
            spec=manifest({"selector": selector(NAME), "ports": [{"name": "http", "port": PORT}]}),
            opts=child,
        )
        StatefulSet(
            NAME,
            metadata=named,
            spec=manifest(
                {
                    "serviceName": NAME,
                    "replicas": 1,
                    "selector": {"matchLabels": selector(NAME)},
                    "template": {
                        "metadata": {"labels": labels(NAME)},
                        "spec": pod(image, configuration.metadata.name, account.metadata.name),
                    },
                    "volumeClaimTemplates": [volume_claim(storage)],
                }
            ),
            opts=pulumi.ResourceOptions(parent=self, depends_on=[binding], custom_timeouts=ROLLOUT),
        )
        self.register_outputs({})


def scrapes(namespace: str) -> str:
    """prometheus.yml: pods of the namespace by their annotations, and Consul."""
    wanted = "__meta_kubernetes_pod_annotation_prometheus_io_"
    pods: dict[str, Any] = {
        "job_name": "pods",
        "kubernetes_sd_configs": [{"role": "pod", "namespaces": {"names": [namespace]}}],
        "relabel_configs": [
            {"source_labels": [f"{wanted}scrape"], "action": "keep", "regex": "true"},
            {
                "source_labels": ["__meta_kubernetes_pod_ip", f"{wanted}port"],
                "separator": ":",
                "target_label": "__address__",
            },
            # One target per pod, however many ports it declares.
            {"source_labels": ["__meta_kubernetes_pod_label_app_kubernetes_io_name"], "target_label": "job"},
            {"source_labels": ["__meta_kubernetes_pod_name"], "target_label": "pod"},
        ],
    }
    consul = {
        "job_name": "consul",
        "metrics_path": "/v1/agent/metrics",
        "params": {"format": ["prometheus"]},
        "static_configs": [{"targets": ["consul:8500"]}],
    }
    return yaml.safe_dump({"global": {"scrape_interval": "15s"}, "scrape_configs": [pods, consul]})


def pod(image: str, configuration: pulumi.Input[str], account: pulumi.Input[str]) -> dict[str, Any]:
    """The server's pod: the only one with a token, since it asks the API for the pods to scrape."""
    return {
        "serviceAccountName": account,
        "automountServiceAccountToken": True,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 60,
        "securityContext": pod_security(UID),
        "containers": [
            {
                "name": NAME,
                "image": image,
                "command": [
                    "prometheus",
                    "--config.file=/etc/prometheus/prometheus.yml",
                    "--storage.tsdb.path=/prometheus",
                    f"--storage.tsdb.retention.time={RETENTION}",
                ],
                "ports": [{"name": "http", "containerPort": PORT}],
                "startupProbe": {
                    "httpGet": {"path": "/-/ready", "port": "http"},
                    "periodSeconds": 1,
                    "failureThreshold": 120,
                },
                "readinessProbe": {"httpGet": {"path": "/-/ready", "port": "http"}, "periodSeconds": 5},
                "livenessProbe": {
                    "httpGet": {"path": "/-/healthy", "port": "http"},
                    "periodSeconds": 10,
                    "failureThreshold": 6,
                },
                "resources": resources("50m", "384Mi"),
                "securityContext": container_security(),
                "volumeMounts": [
                    {"name": "data", "mountPath": "/prometheus"},
                    {"name": "configuration", "mountPath": "/etc/prometheus", "readOnly": True},
                ],
            }
        ],
        "volumes": [{"name": "configuration", "configMap": {"name": configuration}}],
    }
