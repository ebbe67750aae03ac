"""Consul with one server: the registry in which services register and the gateway finds them."""

from typing import Any

import pulumi
from pulumi_kubernetes.apps.v1 import StatefulSet
from pulumi_kubernetes.core.v1 import Service

from infra.consul_pods import GID, NAME, PORT, UID
from infra.consul_snapshots import ConsulSnapshots
from infra.namespace import EstateNamespace
from infra.network_policy import Endpoint
from infra.pods import container_security, labels, manifest, metadata, resources, restricted_pod, selector
from infra.prometheus import Scraped
from infra.volumes import claim_template, claims_of, on_claims

COMMAND = [
    "consul",
    "agent",
    "-server",
    "-bootstrap-expect=1",
    "-ui",
    "-node=consul-0",
    "-data-dir=/consul/data",
    "-client=0.0.0.0",
    "-bind=0.0.0.0",
    "-advertise=$(POD_IP)",
    '-hcl=telemetry { prometheus_retention_time = "60s" }',
]


class Consul(pulumi.ComponentResource):
    """A service registry of one server, on a volume of its own."""

    endpoint = Endpoint(NAME, PORT)
    calls_back = True  # it runs health checks against registered services
    environment: dict[str, str]
    """Environment variables of a service that registers."""
    scraped: Scraped
    service: Service

    def __init__(self, image: str, storage: str, namespace: EstateNamespace) -> None:
        """Create the registry.

        Args:
            image: reference of the upstream image, or of a compatible one.
            storage: size of the volume, a Kubernetes quantity.
            namespace: namespace that it runs in.
        """
        super().__init__("estate:consul:Consul", NAME, {}, pulumi.ResourceOptions(parent=namespace))
        child = pulumi.ResourceOptions(parent=self)
        behind = {"selector": selector(NAME), "ports": [{"name": "http", "port": PORT}]}
        self.service = Service(NAME, metadata=metadata(NAME, namespace.name), spec=manifest(behind), opts=child)
        # Headless, as a StatefulSet requires.
        every = f"{NAME}-pods"
        headless = manifest(behind | {"clusterIP": "None"})
        Service(every, metadata=metadata(every, namespace.name), spec=headless, opts=child)
        StatefulSet(
            NAME,
            metadata=metadata(NAME, namespace.name),
            spec=manifest(
                {
                    "serviceName": every,
                    "replicas": 1,
                    "podManagementPolicy": "Parallel",  # a pod that never became ready is replaced too
                    "selector": {"matchLabels": selector(NAME)},
                    "template": {"metadata": {"labels": labels(NAME)}, "spec": pod(image)},
                    "volumeClaimTemplates": [claim_template(storage)],
                }
            ),
            opts=on_claims(self, *claims_of(NAME, storage, namespace, self)),
        )
        self.environment = {"APP_SERVICE_REGISTRY_ADDRESS": self.endpoint.address}
        job = {
            "job_name": NAME,
            "metrics_path": "/v1/agent/metrics",
            "params": {"format": ["prometheus"]},
            "static_configs": [{"targets": [self.endpoint.address]}],
        }
        self.scraped = Scraped((self.endpoint,), [job])
        server = {"CONSUL_HTTP_ADDR": f"http://{self.endpoint.address}"}
        ConsulSnapshots(image, storage, self.endpoint, server, None, namespace, self)
        self.register_outputs({})

    def secrets_of(self, _app: str, /) -> dict[str, pulumi.Output[str]]:
        """Return the files that a service needs mounted: none, since no token is needed."""
        return {}


def pod(image: str) -> dict[str, Any]:
    """Return the server's pod, which is ready once Consul reports a leader."""
    leader = {"exec": {"command": ["sh", "-c", "consul operator raft list-peers | grep -q leader"]}}
    return {
        **restricted_pod(UID, GID),
        "terminationGracePeriodSeconds": 20,
        "containers": [
            {
                "name": NAME,
                "image": image,
                "command": COMMAND,
                "env": [{"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
                "ports": [{"name": "http", "containerPort": PORT}],
                "startupProbe": leader | {"periodSeconds": 1, "timeoutSeconds": 5, "failureThreshold": 120},
                "readinessProbe": {"httpGet": {"path": "/v1/status/leader", "port": "http"}, "periodSeconds": 5},
                "livenessProbe": {
                    "httpGet": {"path": "/v1/agent/self", "port": "http"},
                    "periodSeconds": 10,
                    "failureThreshold": 6,
                },
                "resources": resources("50m", "256Mi"),
                "securityContext": container_security(),
                "volumeMounts": [
                    {"name": "data", "mountPath": "/consul/data"},
                    {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - a volume of the pod's own
                ],
            }
        ],
        "volumes": [{"name": "tmp", "emptyDir": {}}],
    }
