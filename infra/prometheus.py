"""Prometheus: scrapes every pod of the services, and Consul, every 15 s."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
import yaml
from pulumi_kubernetes.apps.v1 import StatefulSet
from pulumi_kubernetes.core.v1 import ConfigMap, Secret, Service

from infra import alerts
from infra.namespace import EstateNamespace
from infra.network_policy import Endpoint, Flow
from infra.pods import container_security, labels, manifest, metadata, pod_security, resources, selector
from infra.volumes import volume_claim
from infra.waiting import ROLLOUT

NAME = "prometheus"
UID = 65534  # of the upstream image
PORT = 9090
RETENTION = "15d"
FOLDER = "/run/secrets/prometheus"


@dataclass(frozen=True)
class Scraped:
    """What is not one of our services, and scraped too."""

    endpoints: Sequence[Endpoint]
    jobs: Sequence[dict[str, Any]]
    """As prometheus.yml has them."""
    files: Mapping[str, pulumi.Output[str]]
    """In FOLDER, by name: tokens and certificates that the jobs name."""


class Prometheus(pulumi.ComponentResource):
    """Metrics of the namespace."""

    endpoint = Endpoint(NAME, PORT)
    service: Service

    def __init__(
        self,
        image: str,
        storage: str,
        services: list[Endpoint],
        consul: Scraped,
        rules: str,
        alertmanager: Endpoint,
        namespace: EstateNamespace,
    ) -> None:
        """Create the server.

        Args:
            image: reference of the upstream image or of one like it.
            storage: size of the volume, a Kubernetes quantity.
            services: those to scrape.
            consul: the registry, scraped too.
            rules: the rule file.
            alertmanager: tells of what they find.
            namespace: where it runs.
        """
        super().__init__("estate:prometheus:Prometheus", NAME, {}, pulumi.ResourceOptions(parent=namespace))
        child = pulumi.ResourceOptions(parent=self)
        named = metadata(NAME, namespace.name)
        configuration = ConfigMap(
            NAME,
            metadata=manifest({"namespace": namespace.name, "labels": labels(NAME)}),
            data={"prometheus.yml": scrapes(services, consul.jobs, alertmanager), alerts.FILE: rules},
            immutable=True,
            opts=child,
        )
        of = manifest({"namespace": namespace.name})
        files = (
            Secret(NAME, metadata=of, string_data=consul.files, immutable=True, opts=child) if consul.files else None
        )
        self.service = Service(
            NAME,
            metadata=named,
            spec=manifest({"clusterIP": "None", "selector": selector(NAME), "ports": [{"name": "http", "port": PORT}]}),
            opts=child,
        )
        flows = [Flow(NAME, scraped, namespace.name, self) for scraped in (*services, *consul.endpoints, alertmanager)]
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
                        "metadata": {"labels": labels(NAME)},
                        "spec": pod(image, configuration.metadata.name, files.metadata.name if files else None),
                    },
                    "volumeClaimTemplates": [volume_claim(storage)],
                }
            ),
            opts=pulumi.ResourceOptions(parent=self, depends_on=flows, custom_timeouts=ROLLOUT),
        )
        self.register_outputs({})


def scrapes(services: list[Endpoint], others: Sequence[dict[str, Any]], alertmanager: Endpoint) -> str:
    """prometheus.yml: a job per service, whose pods DNS names.

    Args:
        services: each with a headless Service beside its own.
        others: further jobs.
        alertmanager: gets the alerts.
    """
    pods = [{"job_name": service.name, "dns_sd_configs": [every_pod(service)]} for service in services]
    told = {"alertmanagers": [{"static_configs": [{"targets": [alertmanager.address]}]}]}
    general = {"scrape_interval": "15s", "evaluation_interval": "15s"}
    return yaml.safe_dump(
        {"global": general, "rule_files": [alerts.FILE], "alerting": told, "scrape_configs": [*pods, *others]}
    )


def every_pod(service: Endpoint) -> dict[str, Any]:
    """The addresses of a service's pods; asked for more often than they are scraped."""
    return {"names": [f"{service.name}-pods"], "type": "A", "port": service.port, "refresh_interval": "5s"}


def pod(image: str, configuration: pulumi.Input[str], files: pulumi.Input[str] | None) -> dict[str, Any]:
    """The server's pod."""
    mounts = [{"name": "files", "mountPath": FOLDER, "readOnly": True}] if files else []
    volumes = [{"name": "files", "secret": {"secretName": files, "defaultMode": 0o440}}] if files else []
    return {
        "automountServiceAccountToken": False,
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
                    *mounts,
                ],
            }
        ],
        "volumes": [{"name": "configuration", "configMap": {"name": configuration}}, *volumes],
    }
