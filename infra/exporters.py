"""Prometheus exporters for Postgres and Redis, each of which queries its server whenever it is scraped."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pulumi
from pulumi_kubernetes.apps.v1 import Deployment
from pulumi_kubernetes.core.v1 import Secret

from infra import prometheus, redis
from infra.database import Server
from infra.database_names import DATABASE, METRICS
from infra.namespace import EstateNamespace
from infra.network_policy import Endpoint, Flow
from infra.pods import (
    container_security,
    labels,
    manifest,
    metadata,
    resources,
    restricted_pod,
    scraped,
    selector,
    unnamed,
)
from infra.waiting import ROLLOUT

FOLDER = "/run/secrets/exporter"


@dataclass(frozen=True)
class Program:
    """An exporter's image and configuration."""

    image: str
    uid: int
    """User of the upstream image."""
    port: int
    environment: Mapping[str, str]
    files: Mapping[str, pulumi.Input[str]]
    """Contents of the files in FOLDER, by name."""
    args: Sequence[str] = field(default=())


class Exporter(pulumi.ComponentResource):
    """A Deployment of one pod. It is up whether its server is or not, and reports that (`pg_up`, `redis_up`)."""

    endpoint: Endpoint

    def __init__(
        self, job: str, program: Program, asked: Endpoint, namespace: EstateNamespace, after: pulumi.Resource
    ) -> None:
        """Create the exporter.

        Args:
            job: label `job` of its metrics in Prometheus.
            program: the exporter to run.
            asked: endpoint of the server that it queries.
            namespace: namespace that it runs in.
            after: resource that has to exist first.
        """
        name = f"{job}-metrics"
        super().__init__("estate:exporters:Exporter", name, {}, pulumi.ResourceOptions(parent=namespace))
        self.endpoint = Endpoint(name, program.port)
        secret = Secret(
            name,
            metadata=unnamed(name, namespace.name),
            string_data=program.files,
            immutable=True,
            opts=pulumi.ResourceOptions(parent=self),
        )
        flows = [
            Flow(name, asked, namespace.name, self),
            Flow(prometheus.NAME, self.endpoint, namespace.name, self),
        ]
        template = {
            "metadata": {"labels": labels(name), "annotations": scraped(program.port, job)},
            "spec": pod(name, program, secret.metadata.name),
        }
        Deployment(
            name,
            metadata=metadata(name, namespace.name),
            spec=manifest({"replicas": 1, "selector": {"matchLabels": selector(name)}, "template": template}),
            opts=pulumi.ResourceOptions(parent=self, depends_on=[*flows, after], custom_timeouts=ROLLOUT),
        )
        self.register_outputs({})


def postgres_metrics(
    image: str, server: Server, password: pulumi.Output[str], namespace: EstateNamespace, roles: pulumi.Resource
) -> Exporter:
    """Create the exporter for the database, wherever that runs.

    Args:
        image: image of postgres_exporter.
        server: the database server.
        password: password of the login METRICS.
        namespace: namespace of the exporter.
        roles: resource that creates the login.
    """
    verified = f"sslmode=verify-full&sslrootcert={FOLDER}/ca.crt&connect_timeout=5"
    environment = {
        "DATA_SOURCE_URI": f"{server.host}:{server.endpoint.port}/{DATABASE}?{verified}",
        "DATA_SOURCE_USER": METRICS,
        "DATA_SOURCE_PASS_FILE": f"{FOLDER}/password",
    }
    program = Program(image, 65534, 9187, environment, {"password": password, "ca.crt": server.ca})
    return Exporter("postgres", program, server.endpoint, namespace, roles)


def redis_metrics(
    image: str, password: pulumi.Output[str], namespace: EstateNamespace, cache: pulumi.Resource
) -> Exporter:
    """Create the exporter for the cache.

    Args:
        image: image of redis_exporter.
        password: password of the cache's clients.
        namespace: namespace of the exporter.
        cache: the cache, which has to exist first.
    """
    address = f"redis://{redis.Redis.endpoint.address}"
    passwords = password.apply(lambda known: json.dumps({address: known}))
    program = Program(
        image, 59000, 9121, {"REDIS_ADDR": address}, {"passwords.json": passwords},
        [f"--redis.password-file={FOLDER}/passwords.json"],
    )  # fmt: skip
    return Exporter("redis", program, redis.Redis.endpoint, namespace, cache)


def pod(name: str, program: Program, secret: pulumi.Input[str]) -> dict[str, Any]:
    """Return an exporter's pod."""
    # The exporter's front page, which does not query the server.
    answers = {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 10, "timeoutSeconds": 5}
    return {
        **restricted_pod(program.uid),
        "containers": [
            {
                "name": name,
                "image": program.image,
                "args": list(program.args),
                "env": [{"name": key, "value": value} for key, value in program.environment.items()],
                "ports": [{"name": "http", "containerPort": program.port}],
                "readinessProbe": answers,
                "livenessProbe": {"tcpSocket": {"port": "http"}, "periodSeconds": 10, "failureThreshold": 6},
                "resources": resources("10m", "32Mi"),
                "securityContext": container_security(),
                "volumeMounts": [{"name": "files", "mountPath": FOLDER, "readOnly": True}],
            }
        ],
        "volumes": [{"name": "files", "secret": {"secretName": secret, "defaultMode": 0o440}}],
    }
