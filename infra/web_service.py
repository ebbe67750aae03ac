"""One of our services: its Deployment with probes and update strategy, and its address in the cluster."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import pulumi
from pulumi_kubernetes.apps.v1 import Deployment
from pulumi_kubernetes.autoscaling.v2 import HorizontalPodAutoscaler
from pulumi_kubernetes.core.v1 import Secret, Service, ServiceAccount
from pulumi_kubernetes.policy.v1 import PodDisruptionBudget

from infra import gateway_routes, key_sets, token_clients
from infra.gateway_routes import GatewayRoutes
from infra.namespace import EstateNamespace
from infra.network_policy import Endpoint, Flow, leaving
from infra.pods import (
    SCRATCH_LIMIT,
    SCRATCH_REQUEST,
    container_security,
    labels,
    manifest,
    metadata,
    restricted_pod,
    scraped,
    selector,
    unnamed,
)
from infra.services import DeclarationError, secret_variable
from infra.settings.service import Outside, Scaling, ServiceSettings
from infra.token_clients import TokenClients
from infra.token_keys import TokenKeys
from infra.tracing import Tracing
from infra.waiting import ROLLOUT

UID = 10001
PORT = 8080
SECRETS_FOLDER = "/run/secrets/app"
DRAIN_S = 5
"""Seconds between a pod's removal from the endpoints and SIGTERM: proxies still send to it for a moment."""


class Dependency(Protocol):
    """A dependency of a service."""

    @property
    def endpoint(self) -> Endpoint:
        """Return the endpoint at which it listens."""
        ...

    @property
    def calls_back(self) -> bool:
        """Return whether it also connects to the services that need it."""
        ...

    environment: dict[str, str]

    def secrets_of(self, app: str, /) -> dict[str, pulumi.Output[str]]:
        """Return the files that a service needs mounted, contents by name."""
        ...


@dataclass(frozen=True)
class App:
    """The contents of a service's pods, and of its migration's."""

    name: str
    image: pulumi.Output[str]
    """Reference by digest."""
    needs: tuple[Dependency, ...]
    """Dependencies that it connects to, with variables for its environment."""
    token_keys: TokenKeys | None = None
    """Token keys, mounted in key_sets.FOLDER; changed content reaches running pods."""
    clients: TokenClients | None = None
    """Clients, mounted in token_clients.FOLDER; likewise."""
    routes: GatewayRoutes | None = None
    """Routes, mounted in gateway_routes.FOLDER; likewise."""
    tracing: Tracing | None = None
    """Receiver of its spans; None: there is none."""
    variables: Mapping[str, str] = field(default_factory=dict[str, str])
    """Further environment variables, with names that nothing else here uses."""
    own_secrets: Mapping[str, pulumi.Output[str]] = field(default_factory=dict[str, pulumi.Output[str]])
    """Further secrets, by name; a variable names the file of each."""
    outside: Mapping[str, Outside] = field(default_factory=dict[str, Outside])
    """Destinations outside the estate that it connects to, by name."""

    def of(self, workload: str) -> "App":
        """Return the app for another workload of the service, which no caller reaches: it verifies no tokens, and does not register."""
        needs = tuple(need for need in self.needs if not need.calls_back)
        return replace(self, name=workload, needs=needs, token_keys=None)

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment variables from its parts."""
        parts = (*self.needs, self.token_keys, self.clients, self.routes, self.tracing)
        return {name: value for part in parts if part for name, value in part.environment.items()}

    @property
    def own(self) -> dict[str, str]:
        """Return its own environment variables."""
        files = {f"{secret_variable(name)}_FILE": f"{SECRETS_FOLDER}/{name}" for name in self.own_secrets}
        return {**self.variables, **files}

    @property
    def needed_secrets(self) -> dict[str, pulumi.Output[str]]:
        """Return the files that its dependencies need in SECRETS_FOLDER, contents by name."""
        return {name: content for need in self.needs for name, content in need.secrets_of(self.name).items()}

    @property
    def secrets(self) -> dict[str, pulumi.Output[str]]:
        """Return the files in SECRETS_FOLDER, contents by name; changed content rolls the pods."""
        return {**self.needed_secrets, **self.own_secrets}


class WebService(pulumi.ComponentResource):
    """A service that serves HTTP."""

    endpoint: Endpoint
    service: Service

    def __init__(
        self,
        app: App,
        settings: ServiceSettings,
        namespace: EstateNamespace,
        depends_on: Sequence[pulumi.Resource],
    ) -> None:
        """Create the service.

        Args:
            app: contents of the pods.
            settings: the service's settings.
            namespace: the stack's namespace.
            depends_on: resources that have to exist first.
        """
        super().__init__(
            "estate:web_service:WebService",
            app.name,
            {},
            pulumi.ResourceOptions(parent=namespace, depends_on=depends_on),
        )
        child = pulumi.ResourceOptions(parent=self)
        self.endpoint = Endpoint(app.name, PORT)
        named = metadata(app.name, namespace.name)
        account = ServiceAccount(app.name, metadata=named, automount_service_account_token=False, opts=child)
        behind = {"selector": selector(app.name), "ports": [{"name": "http", "port": PORT, "targetPort": "http"}]}
        self.service = Service(app.name, metadata=named, spec=manifest(behind), opts=child)
        # Headless: DNS names every pod, ready or not, for Prometheus.
        every = f"{app.name}-pods"
        headless = behind | {"clusterIP": "None", "publishNotReadyAddresses": True}
        Service(every, metadata=metadata(every, namespace.name), spec=manifest(headless), opts=child)
        if settings.least > 1:
            budget = {"maxUnavailable": 1, "selector": {"matchLabels": selector(app.name)}}
            PodDisruptionBudget(app.name, metadata=named, spec=manifest(budget), opts=child)
        secret = app_secret(app.name, app, namespace, self)
        Deployment(
            app.name,
            metadata=named,
            spec=manifest(deployment(app, settings, secret, account.metadata.name)),
            opts=pulumi.ResourceOptions(
                parent=self, depends_on=flows(app.name, app, namespace, self), custom_timeouts=ROLLOUT
            ),
        )
        if settings.scaling:
            HorizontalPodAutoscaler(
                app.name, metadata=named, spec=manifest(scaled(app.name, settings.scaling)), opts=child
            )
        self.register_outputs({})


def deployment(
    app: App, settings: ServiceSettings, secret: Secret | None, account: pulumi.Input[str]
) -> dict[str, Any]:
    """Return the service's Deployment; if there is an autoscaler, it decides the number of replicas."""
    return {
        **({} if settings.scaling else {"replicas": settings.replicas}),
        "selector": {"matchLabels": selector(app.name)},
        "strategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
        "template": {
            "metadata": {"labels": labels(app.name), "annotations": scraped(PORT)},
            "spec": pod(app, settings, secret, account),
        },
    }


def scaled(name: str, scaling: Scaling) -> dict[str, Any]:
    """Return the service's HorizontalPodAutoscaler, which scales by CPU and is slow to remove replicas."""
    utilization = {"type": "Utilization", "averageUtilization": scaling.cpu_percent}
    return {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
        "minReplicas": scaling.least,
        "maxReplicas": scaling.most,
        "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": utilization}}],
    }


def spread(name: str) -> list[dict[str, Any]]:
    """Return constraints that spread pods over zones and nodes, each version by itself, so that a rollout does not count the old pods."""
    return [
        {
            "topologyKey": key,
            "maxSkew": 1,
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": selector(name)},
            "matchLabelKeys": ["pod-template-hash"],
        }
        for key in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
    ]


def flows(name: str, app: App, namespace: EstateNamespace, parent: pulumi.Resource) -> list[pulumi.Resource]:
    """Create the network policies, in both directions, that follow from the app's dependencies and routes.

    Args:
        name: name of the workload that runs the app.
        app: contents of the pods.
        namespace: the stack's namespace.
        parent: parent of the policies.
    """
    routed = [Endpoint(service, PORT) for service in app.routes.services] if app.routes else []
    inside = [*(need.endpoint for need in app.needs), *routed]
    callers = [need.endpoint.name for need in app.needs if need.calls_back]
    jwks = app.token_keys.jwks if app.token_keys else None
    child = pulumi.ResourceOptions(parent=parent)
    return [
        *([leaving(name, "jwks", jwks.networks, jwks.port, namespace.name, child)] if jwks else []),
        *([app.tracing.flow(name, child)] if app.tracing else []),
        *(
            leaving(name, f"outside-{to}", place.networks, place.port, namespace.name, child)
            for to, place in app.outside.items()
        ),
        *(Flow(name, endpoint, namespace.name, parent) for endpoint in inside),
        *(Flow(caller, Endpoint(name, PORT), namespace.name, parent) for caller in callers),
    ]


def app_secret(name: str, app: App, namespace: EstateNamespace, parent: pulumi.Resource) -> Secret | None:
    """Create the Secret that the app's pods mount, if any. Changed content gives it another name, so that the pods roll."""
    if not app.secrets:
        return None
    opts = pulumi.ResourceOptions(parent=parent)
    metadata = unnamed(name, namespace.name)
    return Secret(name, metadata=metadata, string_data=app.secrets, immutable=True, opts=opts)


def pod(app: App, settings: ServiceSettings, secret: Secret | None, account: pulumi.Input[str]) -> dict[str, Any]:
    """Return the service's pod, with the reference system's probe times; liveness checks only the process."""
    serving = container(app, secret) | {
        "ports": [{"name": "http", "containerPort": PORT}],
        "startupProbe": {"httpGet": {"path": "/livez", "port": "http"}, "periodSeconds": 1, "failureThreshold": 60},
        "livenessProbe": {"httpGet": {"path": "/livez", "port": "http"}, "periodSeconds": 10, "timeoutSeconds": 5},
        "readinessProbe": {"httpGet": {"path": "/readyz", "port": "http"}, "periodSeconds": 5, "timeoutSeconds": 3},
        "lifecycle": {"preStop": {"sleep": {"seconds": DRAIN_S}}},
        "resources": {
            "requests": settings.requests.model_dump() | SCRATCH_REQUEST,
            "limits": settings.limits.model_dump() | SCRATCH_LIMIT,
        },
    }
    return pod_of(serving, app, secret) | {
        "serviceAccountName": account,
        "terminationGracePeriodSeconds": 40,
        "topologySpreadConstraints": spread(app.name),
    }


def container(app: App, secret: Secret | None) -> dict[str, Any]:
    """Return the app's container, without the parts that differ between serving and migrating."""
    pod_ip: dict[str, Any] = {"name": "APP_SERVICE_ADDRESS", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}
    fixed = {"APP_SERVER_PORT": str(PORT), "APP_SERVICE_NAME": app.name} | app.environment
    refuse_set(app, {pod_ip["name"], *fixed})
    mounts = [{"name": name, "mountPath": folder, "readOnly": True} for name, folder, _ in mounted(app, secret)]
    return {
        "name": app.name,
        "image": app.image,
        "env": [
            pod_ip,
            *({"name": name, "value": value} for name, value in sorted({**fixed, **app.own}.items())),
        ],
        "securityContext": container_security(),
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}, *mounts],  # noqa: S108 - the pod's own
    }


def refuse_set(app: App, names: set[str]) -> None:
    """Refuse an app's own variables and secrets that would override those set for it.

    Raises:
        DeclarationError: there is one; the message names it.
    """
    own = {name: f"the variable {name}" for name in app.variables}
    own |= {secret_variable(name): f"the secret {name}" for name in app.own_secrets}
    taken = names | {secret_variable(name) for name in app.needed_secrets}
    for name, said in own.items():
        # A value takes precedence over the file that is named for it.
        if {name, f"{name}_FILE", name.removesuffix("_FILE")} & taken:
            raise DeclarationError(
                f"service {app.name} in infra/services.py has {said}, which follows from what it needs or calls: take it out"
            )


def pod_of(only: dict[str, Any], app: App, secret: Secret | None) -> dict[str, Any]:
    """Return a pod of one of our containers."""
    volumes = [{"name": name} | source for name, _, source in mounted(app, secret)]
    return {
        **restricted_pod(UID),
        "containers": [only],
        "volumes": [{"name": "tmp", "emptyDir": {}}, *volumes],
    }


def mounted(app: App, secret: Secret | None) -> list[tuple[str, str, dict[str, Any]]]:
    """Return name, folder and source of each volume with the app's files."""

    def of(name: str, folder: str, content: Secret) -> tuple[str, str, dict[str, Any]]:
        return name, folder, {"secret": {"secretName": content.metadata.name, "defaultMode": 0o440}}

    own = [of("secrets", SECRETS_FOLDER, secret)] if secret else []
    keys = [of(key_sets.NAME, key_sets.FOLDER, app.token_keys.secret)] if app.token_keys else []
    clients = [of(token_clients.NAME, token_clients.FOLDER, app.clients.secret)] if app.clients else []
    routes = app.routes and {"configMap": {"name": app.routes.config_map.metadata.name}}
    return own + keys + clients + ([(gateway_routes.NAME, gateway_routes.FOLDER, routes)] if routes else [])
