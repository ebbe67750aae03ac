"""Redis as a cache: bounded memory, nothing on disk; its content may vanish at any time."""

from typing import Any

import pulumi
from pulumi_kubernetes.apps.v1 import Deployment
from pulumi_kubernetes.core.v1 import Secret, Service

from infra.namespace import EstateNamespace
from infra.network_policy import Endpoint
from infra.pods import container_security, labels, manifest, metadata, resources, restricted_pod, selector, unnamed
from infra.waiting import ROLLOUT

NAME = "redis"
UID = 10002  # any: it owns nothing
PORT = 6379
CONFIGURATION = """\
port {port}
requirepass {password}
maxmemory 64mb
maxmemory-policy allkeys-lru
save ""
appendonly no
dir /tmp
"""


class Redis(pulumi.ComponentResource):
    """The cache, and the environment with which our services reach it."""

    endpoint = Endpoint(NAME, PORT)
    calls_back = False
    environment: dict[str, str]
    """Environment variables of a service that uses the cache."""

    def __init__(self, image: str, password: pulumi.Output[str], namespace: EstateNamespace) -> None:
        """Create the cache.

        Args:
            image: reference of the upstream image, or of a compatible one.
            password: password of the clients.
            namespace: namespace that it runs in.
        """
        super().__init__("estate:redis:Redis", NAME, {}, pulumi.ResourceOptions(parent=namespace))
        child = pulumi.ResourceOptions(parent=self)
        configuration = password.apply(lambda known: CONFIGURATION.format(port=PORT, password=known))
        secret = Secret(
            NAME,
            metadata=unnamed(NAME, namespace.name),
            string_data={"redis.conf": configuration},
            immutable=True,
            opts=child,
        )
        Service(
            NAME,
            metadata=metadata(NAME, namespace.name),
            spec=manifest({"selector": selector(NAME), "ports": [{"name": NAME, "port": PORT}]}),
            opts=pulumi.ResourceOptions(parent=self, depends_on=[self._deployment(image, secret, namespace)]),
        )
        self.environment = {
            "APP_CACHE_HOST": NAME,
            "APP_CACHE_PORT": str(PORT),
            "APP_CACHE_PASSWORD_FILE": "/run/secrets/app/cache-password",
        }
        self._secrets = {"cache-password": password}
        self.register_outputs({})

    def secrets_of(self, _app: str, /) -> dict[str, pulumi.Output[str]]:
        """Return the files that a service needs mounted, contents by name."""
        return self._secrets

    def _deployment(self, image: str, secret: Secret, namespace: EstateNamespace) -> Deployment:
        return Deployment(
            NAME,
            metadata=metadata(NAME, namespace.name),
            spec=manifest(
                {
                    "replicas": 1,
                    "selector": {"matchLabels": selector(NAME)},
                    "template": {"metadata": {"labels": labels(NAME)}, "spec": pod(image, secret.metadata.name)},
                }
            ),
            opts=pulumi.ResourceOptions(parent=self, custom_timeouts=ROLLOUT),
        )


def pod(image: str, secret: pulumi.Input[str]) -> dict[str, Any]:
    """Return the cache's pod."""
    return {
        **restricted_pod(UID),
        "containers": [
            {
                "name": NAME,
                "image": image,
                "command": ["redis-server", "/etc/redis/redis.conf"],
                "ports": [{"name": NAME, "containerPort": PORT}],
                "readinessProbe": {"exec": {"command": ["redis-cli", "ping"]}, "periodSeconds": 5, "timeoutSeconds": 3},
                "livenessProbe": {"tcpSocket": {"port": NAME}, "periodSeconds": 10, "failureThreshold": 6},
                "resources": resources("50m", "128Mi"),
                "securityContext": container_security(),
                "volumeMounts": [
                    {"name": "configuration", "mountPath": "/etc/redis", "readOnly": True},
                    {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - a volume of the pod's own
                ],
            }
        ],
        "volumes": [
            {"name": "configuration", "secret": {"secretName": secret, "defaultMode": 0o440}},
            {"name": "tmp", "emptyDir": {}},
        ],
    }
