"""An agent on every node that sends the logs of the stack's pods to a log store; there is none if the stack names no store."""

from typing import Any

import pulumi
import yaml
from pulumi_kubernetes.apps.v1 import DaemonSet
from pulumi_kubernetes.core.v1 import ConfigMap

from infra.namespace import EstateNamespace
from infra.otlp import leaving_to_otlp
from infra.pods import container_security, labels, manifest, metadata, resources, restricted_pod, selector, unnamed
from infra.settings.observability import LogSettings
from infra.waiting import ROLLOUT

NAME = "log-agent"
HEALTH_PORT = 13133
CONFIGURATION, POSITIONS, LOGS = "/etc/log-agent", "/var/lib/log-agent", "/var/log/pods"


class LogAgent(pulumi.ComponentResource):
    """The OpenTelemetry Collector, in a namespace of its own: it reads files of the node, and the estate's namespace admits no such pod."""

    def __init__(
        self, image: str, settings: LogSettings, watched: EstateNamespace, opts: pulumi.ResourceOptions
    ) -> None:
        """Create the agent.

        Args:
            image: reference of the upstream image, or of a compatible one.
            settings: the stack's log settings.
            watched: the only namespace whose pods' logs are sent.
            opts: resource options.
        """
        super().__init__("estate:log_agent:LogAgent", NAME, {}, opts)
        child = pulumi.ResourceOptions(parent=self)
        stack = pulumi.get_stack()
        own = EstateNamespace(f"estate-{stack}-logs", child, standard="privileged")
        configured = watched.name.apply(lambda of: yaml.safe_dump(configuration(of, stack, settings.endpoint)))
        config = ConfigMap(
            NAME, metadata=unnamed(NAME, own.name), data={"config.yaml": configured}, immutable=True, opts=child
        )
        flow = leaving_to_otlp(settings, NAME, "logs", own.name, child)
        template = {"metadata": {"labels": labels(NAME)}, "spec": pod(image, settings.folder, config.metadata.name)}
        DaemonSet(
            NAME,
            metadata=metadata(NAME, own.name),
            spec=manifest({"selector": {"matchLabels": selector(NAME)}, "template": template}),
            opts=pulumi.ResourceOptions(parent=self, depends_on=[flow], custom_timeouts=ROLLOUT),
        )
        self.register_outputs({})


def configuration(namespace: str, stack: str, endpoint: str) -> dict[str, Any]:
    """Return the agent's configuration (https://opentelemetry.io/docs/collector/configuration/).

    Nothing is queued: the files serve as the queue, and are read further once the store has what was read before.
    """
    at_every_line = [
        {"type": "container"},  # the kubelet's format: take the pod from the path, and join the parts of a line
        {"type": "remove", "field": 'attributes["log.file.path"]'},
        {"type": "copy", "from": 'resource["k8s.container.name"]', "to": 'resource["service.name"]'},
        {"type": "add", "field": 'resource["deployment.environment.name"]', "value": stack},
        {
            "type": "json_parser",
            "if": 'body startsWith "{"',
            "on_error": "send_quiet",
            "severity": {"parse_from": "attributes.level", "mapping": {"fatal": "critical"}},
            "trace": {
                "trace_id": {"parse_from": "attributes.trace_id"},
                "span_id": {"parse_from": "attributes.span_id"},
            },
        },
        {"type": "move", "if": "attributes.message != nil", "from": "attributes.message", "to": "body"},
    ]
    files = {
        "include": [f"{LOGS}/{namespace}_*/*/*.log"],
        "include_file_path": True,  # the path identifies the pod
        "include_file_name": False,
        "start_at": "beginning",
        "storage": "file_storage",
        "retry_on_failure": {"enabled": True, "max_elapsed_time": 0},
        "operators": at_every_line,
    }
    store = {"endpoint": endpoint, "sending_queue": {"enabled": False}, "retry_on_failure": {"enabled": False}}
    return {
        "extensions": {
            "health_check": {"endpoint": f"0.0.0.0:{HEALTH_PORT}"},
            "file_storage": {"directory": POSITIONS},
        },
        "receivers": {"file_log": files},
        "exporters": {"otlp_http": store},
        "service": {
            "extensions": ["health_check", "file_storage"],
            "pipelines": {"logs": {"receivers": ["file_log"], "exporters": ["otlp_http"]}},
            "telemetry": {"logs": {"encoding": "json"}, "metrics": {"level": "none"}},
        },
    }


def pod(image: str, folder: str, config: pulumi.Input[str]) -> dict[str, Any]:
    """Return the agent's pod: `restricted`, except that it runs as root and reads the node's log files."""
    base = restricted_pod(0)
    return {
        **base,
        "securityContext": base["securityContext"] | {"runAsNonRoot": False},
        "tolerations": [{"operator": "Exists"}],  # every node has pods with logs to read
        "containers": [
            {
                "name": NAME,
                "image": image,
                "args": [f"--config={CONFIGURATION}/config.yaml"],
                "env": [{"name": "GOMEMLIMIT", "value": "100MiB"}],
                "ports": [{"name": "health", "containerPort": HEALTH_PORT}],
                "readinessProbe": {"httpGet": {"path": "/", "port": "health"}, "periodSeconds": 5},
                "livenessProbe": {"tcpSocket": {"port": "health"}, "periodSeconds": 10, "failureThreshold": 6},
                "resources": resources("10m", "128Mi"),
                "securityContext": container_security(),
                "volumeMounts": [
                    {"name": "configuration", "mountPath": CONFIGURATION, "readOnly": True},
                    {"name": "logs", "mountPath": LOGS, "readOnly": True},
                    {"name": "positions", "mountPath": POSITIONS},
                ],
            }
        ],
        "volumes": [
            {"name": "configuration", "configMap": {"name": config}},
            {"name": "logs", "hostPath": {"path": folder, "type": "Directory"}},
            {"name": "positions", "emptyDir": {}},
        ],
    }
