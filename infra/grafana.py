"""Grafana with the estate's dashboards, if the stack names its image. It stores nothing, since all that it shows is in the program."""

from typing import Any

import pulumi
import yaml
from pulumi_kubernetes.apps.v1 import Deployment
from pulumi_kubernetes.core.v1 import ConfigMap, Secret, Service

from infra.dashboards.grafana import SOURCE, file_of
from infra.dashboards.panels import Dashboard
from infra.namespace import EstateNamespace
from infra.network_policy import Endpoint, Flow
from infra.pods import container_security, labels, manifest, metadata, resources, restricted_pod, selector
from infra.prometheus import Prometheus
from infra.waiting import ROLLOUT

NAME = "grafana"
UID = 10003  # any: it owns nothing
PORT = 3000
PASSWORD = "/run/secrets/grafana/admin-password"  # noqa: S105 - a path
SHOWN = "/etc/grafana/dashboards"
ENVIRONMENT = {
    "GF_SECURITY_ADMIN_PASSWORD__FILE": PASSWORD,
    "GF_USERS_ALLOW_SIGN_UP": "false",
    "GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH": f"{SHOWN}/estate.json",
    # It may connect only to Prometheus.
    "GF_ANALYTICS_REPORTING_ENABLED": "false",
    "GF_ANALYTICS_CHECK_FOR_UPDATES": "false",
    "GF_ANALYTICS_CHECK_FOR_PLUGIN_UPDATES": "false",
    "GF_PLUGINS_PREINSTALL_DISABLED": "true",
}


class Grafana(pulumi.ComponentResource):
    """The Grafana server of the namespace."""

    endpoint = Endpoint(NAME, PORT)
    service: Service

    def __init__(
        self,
        image: str,
        shown: tuple[Dashboard, ...],
        password: pulumi.Output[str],
        prometheus: Prometheus,
        namespace: EstateNamespace,
    ) -> None:
        """Create the server.

        Args:
            image: reference of the upstream image.
            shown: dashboards to show.
            password: password of its user admin.
            prometheus: source of its data.
            namespace: namespace that it runs in.
        """
        super().__init__("estate:grafana:Grafana", NAME, {}, pulumi.ResourceOptions(parent=namespace))
        child = pulumi.ResourceOptions(parent=self)
        of = manifest({"namespace": namespace.name, "labels": labels(NAME)})
        provisioning = ConfigMap(
            f"{NAME}-provisioning",
            metadata=of,
            data={"datasources.yaml": data_sources(prometheus.endpoint), "dashboards.yaml": providers()},
            immutable=True,
            opts=child,
        )
        dashboards = ConfigMap(
            f"{NAME}-dashboards",
            metadata=of,
            data={f"{one.name}.json": file_of(one) for one in shown},
            immutable=True,
            opts=child,
        )
        secret = Secret(NAME, metadata=of, string_data={"admin-password": password}, immutable=True, opts=child)
        names = [provisioning.metadata.name, dashboards.metadata.name, secret.metadata.name]
        self.service = Service(
            NAME,
            metadata=metadata(NAME, namespace.name),
            spec=manifest({"selector": selector(NAME), "ports": [{"name": "http", "port": PORT}]}),
            opts=child,
        )
        flow = Flow(NAME, prometheus.endpoint, namespace.name, self)
        Deployment(
            NAME,
            metadata=metadata(NAME, namespace.name),
            spec=manifest(
                {
                    "replicas": 1,
                    "selector": {"matchLabels": selector(NAME)},
                    "template": {"metadata": {"labels": labels(NAME)}, "spec": pod(image, *names)},
                }
            ),
            opts=pulumi.ResourceOptions(parent=self, depends_on=[flow], custom_timeouts=ROLLOUT),
        )
        self.register_outputs({})


def data_sources(prometheus: Endpoint) -> str:
    """Return the file with which Grafana provisions its data source."""
    source = {
        "name": "Prometheus",
        "uid": SOURCE.uid,
        "type": SOURCE.type_val,
        "access": "proxy",
        "url": f"http://{prometheus.address}",
        "isDefault": True,
        "editable": False,
        "jsonData": {"timeInterval": "15s"},
    }
    return yaml.safe_dump({"apiVersion": 1, "datasources": [source]})


def providers() -> str:
    """Return the file with which Grafana provisions its dashboards."""
    files = {"name": "estate", "type": "file", "allowUiUpdates": False, "options": {"path": SHOWN}}
    return yaml.safe_dump({"apiVersion": 1, "providers": [files]})


def pod(
    image: str, provisioning: pulumi.Input[str], dashboards: pulumi.Input[str], secret: pulumi.Input[str]
) -> dict[str, Any]:
    """Return the server's pod."""
    kinds = ("datasources", "dashboards")
    return {
        **restricted_pod(UID),
        "containers": [
            {
                "name": NAME,
                "image": image,
                "ports": [{"name": "http", "containerPort": PORT}],
                "env": [{"name": name, "value": value} for name, value in ENVIRONMENT.items()],
                "startupProbe": {
                    "httpGet": {"path": "/api/health", "port": "http"},
                    "periodSeconds": 2,
                    "failureThreshold": 60,
                },
                "readinessProbe": {"httpGet": {"path": "/api/health", "port": "http"}, "periodSeconds": 5},
                "livenessProbe": {"tcpSocket": {"port": "http"}, "periodSeconds": 10, "failureThreshold": 6},
                "resources": resources("50m", "256Mi"),
                "securityContext": container_security(),
                "volumeMounts": [
                    *(
                        {"name": "provisioning", "mountPath": f"/etc/grafana/provisioning/{kind}/{kind}.yaml"}
                        | {"subPath": f"{kind}.yaml", "readOnly": True}
                        for kind in kinds
                    ),
                    {"name": "dashboards", "mountPath": SHOWN, "readOnly": True},
                    {"name": "secret", "mountPath": PASSWORD.rpartition("/")[0], "readOnly": True},
                    {"name": "data", "mountPath": "/var/lib/grafana"},
                    {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - a volume of the pod's own
                ],
            }
        ],
        "volumes": [
            {"name": "provisioning", "configMap": {"name": provisioning}},
            {"name": "dashboards", "configMap": {"name": dashboards}},
            {"name": "secret", "secret": {"secretName": secret, "defaultMode": 0o440}},
            {"name": "data", "emptyDir": {}},
            {"name": "tmp", "emptyDir": {}},
        ],
    }
