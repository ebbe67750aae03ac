"""Alertmanager, with the receivers that the stack configures."""

from collections.abc import Mapping
from typing import Any

import pulumi
from pulumi_kubernetes.apps.v1 import StatefulSet
from pulumi_kubernetes.core.v1 import Secret, Service

from infra.alert_routes import FILE, FOLDER, configuration
from infra.ingress import console_url
from infra.namespace import EstateNamespace
from infra.network_policy import Endpoint, leaving
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
)
from infra.settings.stack import StackSettings
from infra.volumes import claim_template, claims_of, on_claims

NAME = "alertmanager"
UID = 65534  # of the upstream image
PORT = 9093


class Alertmanager(pulumi.ComponentResource):
    """The stack's Alertmanager server."""

    endpoint = Endpoint(NAME, PORT)
    service: Service

    def __init__(
        self,
        settings: StackSettings,
        secrets: Mapping[str, pulumi.Output[str]],
        namespace: EstateNamespace,
    ) -> None:
        """Create the server.

        Args:
            settings: the stack's settings.
            secrets: addresses, keys and passwords of the receivers, by the names of their secrets.
            namespace: namespace that it runs in.
        """
        super().__init__("estate:alertmanager:Alertmanager", NAME, {}, pulumi.ResourceOptions(parent=namespace))
        child = pulumi.ResourceOptions(parent=self)
        named = metadata(NAME, namespace.name)
        held = Secret(
            NAME,
            metadata=manifest({"namespace": namespace.name, "labels": labels(NAME)}),
            string_data={FILE: configuration(settings.receivers), **secrets},
            immutable=True,
            opts=child,
        )
        for receiver in settings.receivers:
            leaving(NAME, receiver.name, receiver.networks, receiver.to_port, namespace.name, child)
        behind = {"clusterIP": "None", "selector": selector(NAME), "ports": [{"name": "http", "port": PORT}]}
        self.service = Service(NAME, metadata=named, spec=manifest(behind), opts=child)
        size = settings.storage.alertmanager
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
                        "metadata": {"labels": labels(NAME), "annotations": scraped(PORT)},
                        "spec": pod(settings, held.metadata.name),
                    },
                    "volumeClaimTemplates": [claim_template(size)],
                }
            ),
            opts=on_claims(self, *claims_of(NAME, size, namespace, self)),
        )
        self.register_outputs({})


def pod(settings: StackSettings, held: pulumi.Input[str]) -> dict[str, Any]:
    """Return the server's pod."""
    url = console_url(settings.ingress, NAME)
    return {
        **restricted_pod(UID),
        "containers": [
            {
                "name": NAME,
                "image": settings.images.alertmanager,
                "command": [
                    "alertmanager",
                    f"--config.file={FOLDER}/{FILE}",
                    "--storage.path=/alertmanager",
                    "--cluster.listen-address=",  # one is enough: if it fails, the Watchdog stops, which is noticed
                    *([f"--web.external-url={url}"] if url else []),
                ],
                "ports": [{"name": "http", "containerPort": PORT}],
                **management_probes(60),
                "resources": resources("10m", "64Mi"),
                "securityContext": container_security(),
                "volumeMounts": [
                    {"name": "data", "mountPath": "/alertmanager"},
                    {"name": "configuration", "mountPath": FOLDER, "readOnly": True},
                ],
            }
        ],
        "volumes": [{"name": "configuration", "secret": {"secretName": held, "defaultMode": 0o440}}],
    }
