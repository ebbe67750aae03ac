"""Examples for each rule: good resources, and changes that make each of them bad."""
# ruff: noqa: FBT003 - values of manifests

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from policies import rules
from policies.resources import Resource

REMOVED = object()
"""Marker in place of a value that is to be removed."""
DIGEST = "sha256:" + "0" * 64
LABELS = {"app.kubernetes.io/name": "app"}
OWNED = LABELS | {"app.kubernetes.io/part-of": "shop", "app.kubernetes.io/managed-by": "pulumi"}
METADATA = {"name": "app", "namespace": "shop", "labels": OWNED}
PROBE = {"httpGet": {"path": "/", "port": 80}}
BOUNDS = {"cpu": "500m", "memory": "512Mi"}
CONTAINER: dict[str, Any] = {
    "name": "app",
    "image": f"ghcr.io/shop/app:1@{DIGEST}",
    "env": [
        {"name": "LEVEL", "value": "info"},
        {"name": "PASSWORD_FILE", "value": "/run/secrets/password"},
        {"name": "PASSES_TOKEN", "value": "true"},
    ],
    "resources": {"requests": BOUNDS, "limits": BOUNDS},
    "readinessProbe": PROBE,
    "livenessProbe": PROBE,
    "ports": [{"containerPort": 80}],
    "securityContext": {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]},
    },
}
PREPARING = {key: value for key, value in CONTAINER.items() if not key.endswith("Probe")} | {"name": "prepare"}
POD: dict[str, Any] = {
    "automountServiceAccountToken": False,
    "securityContext": {"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
    "initContainers": [PREPARING],
    "containers": [CONTAINER],
    "volumes": [{"name": "tmp", "emptyDir": {}}],
}
ENDING = POD | {"containers": [PREPARING], "restartPolicy": "Never"}
TEMPLATE = {"metadata": {"labels": OWNED}, "spec": POD}


def resource(of: str, spec: dict[str, Any], **more: Any) -> Resource:
    """Return a resource named `app`."""
    return Resource(f"kubernetes:{of}", "app", {"metadata": METADATA, "spec": spec}, **more)


DEPLOYMENT = resource("apps/v1:Deployment", {"replicas": 3, "template": TEMPLATE})
STATEFUL_SET = resource("apps/v1:StatefulSet", {"replicas": 3, "template": TEMPLATE}, protected=True)
JOB = resource("batch/v1:Job", {"template": {"spec": ENDING}})
CRON_JOB = resource("batch/v1:CronJob", {"jobTemplate": {"spec": {"template": {"spec": ENDING}}}})
SERVICE = resource("core/v1:Service", {"selector": LABELS, "ports": [{"port": 80}]})
INGRESS = resource(
    "networking.k8s.io/v1:Ingress",
    {
        "tls": [{"hosts": ["app.example.com", "*.shop.example.com"]}],
        "rules": [
            {
                "host": host,
                "http": {"paths": [{"path": "/", "backend": {"service": {"name": "app", "port": {"number": 80}}}}]},
            }
            for host in ("app.example.com", "api.shop.example.com")
        ],
    },
)
CLAIM = resource("core/v1:PersistentVolumeClaim", {"accessModes": ["ReadWriteOnce"]}, protected=True)
POSTGRES = resource(
    "postgresql.cnpg.io/v1:Cluster",
    {"instances": 3, "imageName": f"ghcr.io/shop/postgres@{DIGEST}", "resources": {"requests": BOUNDS}},
    protected=True,
)
NAMESPACE = Resource(
    "kubernetes:core/v1:Namespace", "shop", {"metadata": {"name": "shop", "labels": OWNED}}, protected=True
)
BUDGET = resource("policy/v1:PodDisruptionBudget", {"maxUnavailable": 1, "selector": {"matchLabels": LABELS}})
AUTOSCALER = resource(
    "autoscaling/v2:HorizontalPodAutoscaler",
    {
        "minReplicas": 2,
        "maxReplicas": 10,
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "app"},
    },
)
PROVIDER = Resource("pulumi:providers:kubernetes", "cluster", {"kubeconfig": "…"})

GOOD = (
    DEPLOYMENT, STATEFUL_SET, JOB, CRON_JOB, SERVICE, INGRESS, CLAIM, POSTGRES, NAMESPACE, BUDGET, AUTOSCALER, PROVIDER,
)  # fmt: skip
"""Resources that pass every rule, each alone and all together as a stack."""


def changed(good: Resource, path: str, value: Any) -> Resource:
    """Return a resource with another value at a path, like `spec.tls.0.hosts`; missing tables on the way are created."""
    inputs: dict[str, Any] = json.loads(json.dumps(good.inputs))
    *parents, last = (int(part) if part.isdigit() else part for part in path.split("."))
    table: Any = inputs
    for part in parents:
        if part not in table and isinstance(part, str):
            table[part] = {}
        table = table[part]
    if value is REMOVED:
        del table[last]
    elif last == len(table):
        table.append(value)
    else:
        table[last] = value
    return replace(good, inputs=inputs)


@dataclass(frozen=True)
class Bad:
    """A change that makes a good resource bad, and the expected message."""

    rule: Callable[..., Any]
    good: Resource
    path: str
    value: Any
    problem: str

    @property
    def resource(self) -> Resource:
        return changed(self.good, self.path, self.value)

    def __str__(self) -> str:
        return f"{self.rule.__name__} {self.path}"


IN_POD, IN_CONTAINER = "spec.template.spec", "spec.template.spec.containers.0"


def of_pod(rule: Callable[..., Any], path: str, value: Any, problem: str) -> Bad:
    """Return a bad pod of a Deployment."""
    return Bad(rule, DEPLOYMENT, f"{IN_POD}.{path}", value, problem)


def of_container(rule: Callable[..., Any], path: str, value: Any, problem: str) -> Bad:
    """Return a bad container of a Deployment."""
    return Bad(rule, DEPLOYMENT, f"{IN_CONTAINER}.{path}", value, f"container app {problem}")


def restricted(path: str, value: Any, problem: str) -> Bad:
    """Return a container with a setting that `restricted` forbids."""
    return of_container(rules.restricted_pods, path, value, problem)


BAD = (
    of_pod(rules.restricted_pods, "hostNetwork", True, "is on the node's network: take hostNetwork out"),
    of_pod(rules.restricted_pods, "hostPID", True, "sees the node's processes: take hostPID out"),
    of_pod(rules.restricted_pods, "hostIPC", True, "shares the node's memory between processes: take hostIPC out"),
    of_pod(
        rules.restricted_pods,
        "securityContext.windowsOptions.hostProcess",
        True,
        "runs on a Windows node itself: take securityContext.windowsOptions.hostProcess out",
    ),
    of_pod(
        rules.restricted_pods,
        "volumes.1",
        {"name": "node", "hostPath": {"path": "/"}},
        "volume node is of type hostPath: take one of configMap, csi, downwardAPI, emptyDir, ephemeral, persistentVolumeClaim, projected, secret",
    ),
    of_pod(
        rules.restricted_pods,
        "securityContext.sysctls",
        [{"name": "net.ipv4.tcp_syncookies", "value": "1"}, {"name": "kernel.msgmax", "value": "65536"}],
        "sets kernel.msgmax, which is the node's: take it out of securityContext.sysctls",
    ),
    restricted("securityContext.privileged", True, "is privileged: take securityContext.privileged out"),
    restricted(
        "securityContext.allowPrivilegeEscalation",
        REMOVED,
        "may gain privileges: set securityContext.allowPrivilegeEscalation: false",
    ),
    restricted(
        "securityContext.readOnlyRootFilesystem",
        False,
        "can write its own image: set securityContext.readOnlyRootFilesystem: true",
    ),
    restricted("securityContext.runAsNonRoot", False, "may run as root: set securityContext.runAsNonRoot: true"),
    restricted("securityContext.runAsUser", 0, "runs as root: set securityContext.runAsUser to the image's own user"),
    restricted(
        "securityContext.seccompProfile.type",
        "Unconfined",
        "may make any system call: set securityContext.seccompProfile.type: RuntimeDefault",
    ),
    restricted(
        "securityContext.appArmorProfile.type",
        "Unconfined",
        "is not confined by AppArmor: take securityContext.appArmorProfile.type out",
    ),
    restricted(
        "securityContext.seLinuxOptions.type",
        "spc_t",
        "has an SELinux type of its own: take securityContext.seLinuxOptions.type out",
    ),
    restricted("securityContext.procMount", "Unmasked", "sees all of /proc: take securityContext.procMount out"),
    restricted(
        "securityContext.capabilities.drop",
        ["CHOWN"],
        "keeps capabilities: set securityContext.capabilities.drop: [ALL]",
    ),
    restricted(
        "securityContext.capabilities.add",
        ["NET_BIND_SERVICE", "SYS_ADMIN"],
        "has the capability SYS_ADMIN: take it out of securityContext.capabilities.add",
    ),
    restricted("ports.0.hostPort", 80, "takes port 80 of the node: take ports[].hostPort out, a Service reaches it"),
    restricted(
        "livenessProbe.httpGet.host", "10.0.0.1", "has the node ask another host: take livenessProbe.httpGet.host out"
    ),
    Bad(
        rules.restricted_pods,
        DEPLOYMENT,
        f"{IN_POD}.initContainers.0.securityContext.privileged",
        True,
        "container prepare is privileged: take securityContext.privileged out",
    ),
    Bad(
        rules.restricted_pods,
        CRON_JOB,
        "spec.jobTemplate.spec.template.spec.hostNetwork",
        True,
        "is on the node's network: take hostNetwork out",
    ),
    of_pod(
        rules.no_token_by_default,
        "automountServiceAccountToken",
        REMOVED,
        "mounts a token of the Kubernetes API: set automountServiceAccountToken: false",
    ),
    of_container(
        rules.secrets_in_files,
        "env.2",
        {"name": "DB_PASSWORD", "valueFrom": {"secretKeyRef": {"name": "db", "key": "password"}}},
        "has a Secret in its environment as DB_PASSWORD: mount the Secret as a file",
    ),
    of_container(
        rules.secrets_in_files,
        "env.2",
        {"name": "api_token", "value": "0123"},
        "has what looks like a secret in its environment as api_token: mount a Secret as a file",
    ),
    of_container(
        rules.secrets_in_files,
        "envFrom",
        [{"secretRef": {"name": "db"}}],
        "has a whole Secret in its environment: mount the Secret as files in place of envFrom",
    ),
    of_container(
        rules.bounded_resources, "resources.limits.memory", REMOVED, "has no limits.memory: set resources.limits.memory"
    ),
    of_container(
        rules.probed_containers, "readinessProbe", REMOVED, "gets requests before it is ready: set readinessProbe"
    ),
    Bad(
        rules.probed_containers,
        STATEFUL_SET,
        f"{IN_CONTAINER}.livenessProbe",
        REMOVED,
        "container app may hang: set livenessProbe",
    ),
    of_container(
        rules.images_by_digest,
        "image",
        "ghcr.io/shop/app:1",
        "runs ghcr.io/shop/app:1 by a tag: name it by digest, ghcr.io/shop/app:1@sha256:…",
    ),
    Bad(
        rules.images_by_digest,
        POSTGRES,
        "spec.imageName",
        "ghcr.io/shop/postgres:15",
        "each instance runs ghcr.io/shop/postgres:15 by a tag: name it by digest, ghcr.io/shop/postgres:15@sha256:…",
    ),
    of_container(
        rules.allowed_registries,
        "image",
        f"docker.io.example/app@{DIGEST}",
        f"runs docker.io.example/app@{DIGEST} from elsewhere than docker.io, ghcr.io, quay.io, registry.k8s.io: "
        "allow its registry in allowed-registries.registries, or take another image",
    ),
    Bad(
        rules.internal_services,
        SERVICE,
        "spec.type",
        "NodePort",
        "is open to the world as NodePort: take spec.type out and use an Ingress, or name it in internal-services.public",
    ),
    Bad(
        rules.internal_services,
        SERVICE,
        "spec.type",
        "LoadBalancer",
        "is open to the world as LoadBalancer: take spec.type out and use an Ingress, or name it in internal-services.public",
    ),
    Bad(
        rules.ingress_over_tls,
        INGRESS,
        "spec.rules.0.host",
        "www.example.com",
        "serves www.example.com without TLS: name the host in spec.tls[].hosts",
    ),
    Bad(
        rules.ingress_over_tls,
        INGRESS,
        "spec.rules.1.host",
        "a.b.shop.example.com",
        "serves a.b.shop.example.com without TLS: name the host in spec.tls[].hosts",
    ),
    Bad(
        rules.private_backends,
        INGRESS,
        "spec.rules.0.http.paths.0.backend.service.name",
        "consul",
        "makes the Service consul public: take the backend out, and reach it with kubectl port-forward",
    ),
    Bad(
        rules.private_backends,
        INGRESS,
        "spec.defaultBackend.service",
        {"name": "app", "port": {"number": 5432}},
        "makes the Service app public: take the backend out, and reach it with kubectl port-forward",
    ),
    Bad(
        rules.no_default_namespace,
        SERVICE,
        "metadata.namespace",
        REMOVED,
        "is in the default namespace: set metadata.namespace",
    ),
    Bad(
        rules.no_default_namespace,
        DEPLOYMENT,
        "metadata.namespace",
        "default",
        "is in the default namespace: set metadata.namespace",
    ),
    Bad(
        rules.owner_labels,
        NAMESPACE,
        "metadata.labels",
        LABELS,
        "does not say whose it is: set app.kubernetes.io/part-of and app.kubernetes.io/managed-by in metadata.labels",
    ),
)
"""Bad resources, each of which breaks one rule with the given message."""
