"""Pods and configuration of Consul's servers and agents."""

from typing import Any

import pulumi

from infra.pods import container_security, resources, restricted_pod, selector

NAME = "consul"
PORT = 8500
UID, GID = 100, 1000  # of the upstream image
CLIENT = 10004
"""UID of our client programs. Any would do, since it owns no file of a server or an agent."""
SERVERS = f"{NAME}-server"
NODES = [f"{SERVERS}-{number}" for number in range(3)]
FOLDER = "/run/secrets/consul"
HTTPS = 8501
SERVER_NAME, AGENT_NAME = "server.dc1.consul", "client.dc1.consul"
"""DNS names in the certificates; only servers have the first one."""
HANDOVER_S = 15
"""Seconds that a replaced agent keeps running: services check every 5 s whether the node's agent, by then the new one, knows them."""
CLI = {
    "CONSUL_HTTP_ADDR": f"https://{SERVERS}:{HTTPS}",
    "CONSUL_CACERT": f"{FOLDER}/ca.crt",
    "CONSUL_HTTP_TOKEN_FILE": f"{FOLDER}/management.token",
}
"""Environment of the `consul` command for the servers, which accept only HTTPS with a token."""
LEADER = """\
set -eu
deadline=$(($(date +%s) + 240))
until reason=$(consul operator raft list-peers 2>&1 >/dev/null); do
  if [ "$(date +%s)" -ge "$deadline" ]; then
    echo "Consul has no leader after 240 s, look at the logs of its servers: $reason" >&2
    exit 1
  fi
  sleep 1
done
"""
"""Start of a script in a pod of its own, which may also run before its network policies are in effect."""
JOIN_OTHERS = f"""\
for node in {" ".join(NODES)}; do
  # One that could join itself would be content with that, and look for no other.
  [ "$node" = "$HOSTNAME" ] || set -- "$@" "-retry-join=$node.{SERVERS}"
done
exec "$@"
"""
IS_VOTER = 'consul operator raft list-peers -stale | grep -q "^$HOSTNAME .* true "'


def acl(tokens: dict[str, str]) -> dict[str, Any]:
    """Return the ACL configuration: nothing without a token; cached tokens stay valid while no server answers."""
    return {"enabled": True, "default_policy": "deny", "down_policy": "extend-cache", "tokens": tokens}


def server() -> dict[str, Any]:
    """Return a server's configuration, without secrets."""
    return common() | {
        "server": True,
        "bootstrap_expect": len(NODES),
        # Leaving hands the leadership over at once, instead of an election that first waits for the lost server.
        "leave_on_terminate": True,
        "rejoin_after_leave": True,
        "autopilot": {"min_quorum": len(NODES)},
        "ports": {"http": -1, "https": HTTPS, "dns": -1, "grpc": -1, "grpc_tls": -1, "serf_wan": -1},
    }


def agent() -> dict[str, Any]:
    """Return an agent's configuration, without secrets."""
    return common() | {
        "server": False,
        "leave_on_terminate": True,
        "retry_join": [f"{node}.{SERVERS}" for node in NODES],
        "ports": {"http": PORT, "https": HTTPS, "dns": -1, "grpc": -1, "grpc_tls": -1},
    }


def common() -> dict[str, Any]:
    """Return the configuration that servers and agents share."""
    return {
        "data_dir": "/consul/data",
        "client_addr": "0.0.0.0",  # noqa: S104 - a pod is reached from outside itself
        "bind_addr": "0.0.0.0",  # noqa: S104 - likewise
        "disable_update_check": True,
        "retry_interval": "2s",
        "reconnect_timeout": "8h",  # until a killed node is removed; the minimum
        "tls": {
            "defaults": {
                "ca_file": f"{FOLDER}/ca.crt",
                "cert_file": f"{FOLDER}/tls.crt",
                "key_file": f"{FOLDER}/tls.key",
                "verify_outgoing": True,
            },
            "internal_rpc": {"verify_incoming": True, "verify_server_hostname": True},
        },
        "telemetry": {"prometheus_retention_time": "60s"},
    }


def server_pod(image: str, secret: pulumi.Input[str]) -> dict[str, Any]:
    """Return a server's pod, which is ready once it has a vote."""
    run = ["consul", "agent", f"-config-file={FOLDER}/agent.json", "-node=$(HOSTNAME)", "-advertise=$(POD_IP)"]
    leader = {"httpGet": {"path": "/v1/status/leader", "port": "https", "scheme": "HTTPS"}}
    voter = {"exec": {"command": ["sh", "-c", IS_VOTER]}}
    container = {
        "name": SERVERS,
        "image": image,
        "command": ["sh", "-c", JOIN_OTHERS, "sh", *run],
        "env": [
            *identity(),
            *({"name": n, "value": v} for n, v in (CLI | {"CONSUL_HTTP_ADDR": f"https://localhost:{HTTPS}"}).items()),
        ],
        "ports": [{"name": "https", "containerPort": HTTPS}],
        # A server that is alone for two minutes is restarted, and looks for the others again.
        "startupProbe": voter | {"periodSeconds": 2, "timeoutSeconds": 10, "failureThreshold": 60},
        "readinessProbe": leader | {"periodSeconds": 5, "timeoutSeconds": 3},
        "livenessProbe": {
            "tcpSocket": {"port": "https"},
            "periodSeconds": 10,
            "timeoutSeconds": 5,
            "failureThreshold": 6,
        },
        "resources": resources("50m", "256Mi"),
        "volumeMounts": [{"name": "data", "mountPath": "/consul/data"}],
    }
    others = {"labelSelector": {"matchLabels": selector(SERVERS)}, "topologyKey": "kubernetes.io/hostname"}
    apart = {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "podAffinityTerm": others}]}
    return pod(container, secret) | {"terminationGracePeriodSeconds": 30, "affinity": {"podAntiAffinity": apart}}


def agent_pod(image: str, secret: pulumi.Input[str]) -> dict[str, Any]:
    """Return an agent's pod. It is ready once it has found the servers, and stays so for a while without them."""
    found = {"httpGet": {"path": "/v1/status/leader", "port": "http"}}
    container = {
        "name": NAME,
        "image": image,
        "command": [
            "consul",
            "agent",
            f"-config-file={FOLDER}/agent.json",
            "-node=$(HOSTNAME)",
            "-advertise=$(POD_IP)",
        ],
        "env": identity(),
        "ports": [{"name": "http", "containerPort": PORT}, {"name": "https", "containerPort": HTTPS}],
        "startupProbe": found | {"periodSeconds": 1, "timeoutSeconds": 3, "failureThreshold": 600},
        "readinessProbe": {"tcpSocket": {"port": "http"}, "periodSeconds": 5},
        # If all servers come back with other addresses, they are found only by their names, which are resolved at start.
        # Registrations survive the restart.
        "livenessProbe": found | {"periodSeconds": 10, "timeoutSeconds": 3, "failureThreshold": 4},
        "lifecycle": {"preStop": {"sleep": {"seconds": HANDOVER_S}}},
        "resources": resources("50m", "128Mi"),
        "volumeMounts": [{"name": "data", "mountPath": "/consul/data"}],
    }
    data: dict[str, Any] = {"name": "data", "emptyDir": {}}
    own = pod(container, secret)
    return own | {"terminationGracePeriodSeconds": HANDOVER_S + 20, "volumes": [*own["volumes"], data]}


def identity() -> list[dict[str, Any]]:
    """Return the variables with the pod's name, which is its node's name in Consul, and its address."""
    fields = {"HOSTNAME": "metadata.name", "POD_IP": "status.podIP"}
    return [{"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}} for name, path in fields.items()]


def client_pod(container: dict[str, Any], secret: pulumi.Input[str]) -> dict[str, Any]:
    """Return a pod that runs a program once, with a Secret's files."""
    return pod(container, secret) | {"restartPolicy": "Never"} | restricted_pod(CLIENT)


def pod(container: dict[str, Any], secret: pulumi.Input[str]) -> dict[str, Any]:
    """Return a pod of one container with a Secret's files."""
    mounts = [
        {"name": "secrets", "mountPath": FOLDER, "readOnly": True},
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - a volume of the pod's own
        *container.get("volumeMounts", []),
    ]
    return {
        **restricted_pod(UID, GID),
        "containers": [container | {"securityContext": container_security(), "volumeMounts": mounts}],
        "volumes": [
            {"name": "secrets", "secret": {"secretName": secret, "defaultMode": 0o440}},
            {"name": "tmp", "emptyDir": {}},
        ],
    }
