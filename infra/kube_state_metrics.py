"""kube-state-metrics: metrics about the stack's own workloads in Kubernetes."""

from typing import Any

import pulumi
from pulumi_kubernetes.apps.v1 import Deployment

from infra import kube_access, prometheus
from infra.kube_access import KubeAccess, readable
from infra.namespace import EstateNamespace
from infra.network_policy import Endpoint, Flow
from infra.pods import container_security, labels, manifest, metadata, resources, restricted_pod, scraped, selector
from infra.settings.cluster import ApiServer
from infra.waiting import ROLLOUT

NAME = "kube-state-metrics"
UID = 65534  # of the upstream image
PORT, TELEMETRY = 8080, 8081
READS = {
    "": ("persistentvolumeclaims", "pods"),
    "apps": ("daemonsets", "deployments", "replicasets", "statefulsets"),
    "autoscaling": ("horizontalpodautoscalers",),
    "batch": ("cronjobs", "jobs"),
    "policy": ("poddisruptionbudgets",),
}
"""Resources with metrics, by API group."""


class KubeStateMetrics(pulumi.ComponentResource):
    """The exporter, which sees only its own namespace."""

    endpoint = Endpoint(NAME, PORT)

    def __init__(self, image: str, api_server: ApiServer, namespace: EstateNamespace) -> None:
        """Create the exporter.

        Args:
            image: reference of the upstream image, or of a compatible one.
            api_server: address of the Kubernetes API.
            namespace: namespace that it runs in and reports on.
        """
        super().__init__(
            "estate:kube_state_metrics:KubeStateMetrics", NAME, {}, pulumi.ResourceOptions(parent=namespace)
        )
        access = KubeAccess(NAME, [readable(group, *kinds) for group, kinds in READS.items()], namespace, self)
        flows = [
            Flow(NAME, kube_access.endpoint(api_server), namespace.name, self),
            Flow(prometheus.NAME, self.endpoint, namespace.name, self),
        ]
        template = {
            "metadata": {"labels": labels(NAME), "annotations": scraped(PORT) | access.annotations},
            "spec": pod(image, namespace.name, access.account),
        }
        Deployment(
            NAME,
            metadata=metadata(NAME, namespace.name),
            spec=manifest({"replicas": 1, "selector": {"matchLabels": selector(NAME)}, "template": template}),
            opts=pulumi.ResourceOptions(parent=self, depends_on=flows, custom_timeouts=ROLLOUT),
        )
        self.register_outputs({})


def pod(image: str, namespace: pulumi.Output[str], account: pulumi.Output[str]) -> dict[str, Any]:
    """Return the exporter's pod."""
    kinds = ",".join(kind for of_group in READS.values() for kind in of_group)
    return {
        "serviceAccountName": account,
        **restricted_pod(UID),
        "containers": [
            {
                "name": NAME,
                "image": image,
                "args": [pulumi.Output.concat("--namespaces=", namespace), f"--resources={kinds}"],
                "ports": [
                    {"name": "http", "containerPort": PORT},
                    {"name": "telemetry", "containerPort": TELEMETRY},
                ],
                "readinessProbe": {"httpGet": {"path": "/readyz", "port": "telemetry"}, "periodSeconds": 5},
                "livenessProbe": {
                    "httpGet": {"path": "/livez", "port": "http"},
                    "periodSeconds": 10,
                    "timeoutSeconds": 5,
                    "failureThreshold": 6,
                },
                "resources": resources("10m", "96Mi"),
                "securityContext": container_security(),
                "volumeMounts": [kube_access.MOUNT],
            }
        ],
        "volumes": [kube_access.VOLUME],
    }
