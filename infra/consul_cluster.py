"""Consul of three servers, of which one may be lost, with an agent on each node, where services register."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pulumi
from pulumi_kubernetes.apps.v1 import DaemonSet, StatefulSet
from pulumi_kubernetes.batch.v1 import Job
from pulumi_kubernetes.core.v1 import Secret, Service
from pulumi_kubernetes.policy.v1 import PodDisruptionBudget

from infra import consul_access
from infra.authority import Authority
from infra.consul import NAME, PORT
from infra.consul_access import Keys
from infra.consul_snapshots import GID, UID, ConsulSnapshots
from infra.namespace import EstateNamespace
from infra.network_policy import Endpoint, Flow, Protocol
from infra.pods import container_security, labels, manifest, metadata, pod_security, resources, selector
from infra.postgres import volume_claim
from infra.prometheus import FOLDER as PROMETHEUS_FOLDER
from infra.prometheus import Scraped
from infra.waiting import ROLLOUT

SERVERS = f"{NAME}-server"
ACCESS = f"{NAME}-access"
NODES = [f"{SERVERS}-{number}" for number in range(3)]
FOLDER = "/run/secrets/consul"
HTTPS = 8501
GOSSIP: tuple[tuple[Protocol, int], ...] = (("TCP", 8301), ("UDP", 8301))
SERVER_NAME, AGENT_NAME = "server.dc1.consul", "client.dc1.consul"
"""What certificates are for: the first one only servers have."""
TOKEN_FILE = "/run/secrets/app/consul-token"  # noqa: S105 - where it is, not what it is
HANDOVER_S = 15
"""So long an agent that is replaced goes on: services look every 5 s whether the node's agent, the new one by then, knows them."""
STABLE_S = 15
"""Autopilot makes a server that has joined a voter after 10 s; the next one is not replaced before that."""
RPC_AND_GOSSIP = Endpoint(SERVERS, 8300, GOSSIP)
API = Endpoint(SERVERS, HTTPS)
CLI = {
    "CONSUL_HTTP_ADDR": f"https://{SERVERS}:{HTTPS}",
    "CONSUL_CACERT": f"{FOLDER}/ca.crt",
    "CONSUL_HTTP_TOKEN_FILE": f"{FOLDER}/management.token",
}
"""For the `consul` command, on the servers; there is no other way in than by HTTPS with a token."""
JOIN_OTHERS = f"""\
for node in {" ".join(NODES)}; do
  # One that could join itself would be content with that, and look for nobody.
  [ "$node" = "$HOSTNAME" ] || set -- "$@" "-retry-join=$node.{SERVERS}"
done
exec "$@"
"""
IS_VOTER = 'consul operator raft list-peers -stale | grep -q "^$HOSTNAME .* true "'
GRANT = """\
set -eu
deadline=$(($(date +%s) + 240))
until reason=$(consul acl token read -self 2>&1 >/dev/null); do
  if [ "$(date +%s)" -ge "$deadline" ]; then
    echo "the servers have no leader after 240 s, look at the logs of consul-server: $reason" >&2
    exit 1
  fi
  sleep 1
done
for rules in "$1"/*.hcl; do
  name=$(basename "$rules" .hcl)
  if consul acl policy read -name "$name" >/dev/null 2>&1
  then consul acl policy update -name "$name" -no-merge -rules "@$rules" >/dev/null
  else consul acl policy create -name "$name" -rules "@$rules" >/dev/null
  fi
  if ! consul acl token read -self -token-file "$1/$name.token" >/dev/null 2>&1
  then consul acl token create -policy-name "$name" -description "estate: $name" -secret "$(cat "$1/$name.token")" >/dev/null
  fi
  echo "granted: $name"
done
"""


class ConsulCluster(pulumi.ComponentResource):
    """A service registry that outlives any one of its servers; who uses it needs a token."""

    endpoint = Endpoint(NAME, PORT)
    """The agent on the caller's own node. What is said to it is not encrypted, and never leaves the node."""
    calls_back = True  # the agents check the health of what registers with them
    environment: dict[str, str]
    """What a service that registers has in its environment."""
    scraped: Scraped
    service: Service

    def __init__(
        self,
        image: str,
        storage: str,
        keys: Keys,
        authority: Authority,
        apps: Sequence[str],
        gateway: str,
        namespace: EstateNamespace,
    ) -> None:
        """Create the servers, what everybody may, and the agents.

        Args:
            image: reference of the upstream image or of one like it.
            storage: size of each server's volume, a Kubernetes quantity.
            keys: tokens, and the key of gossip.
            authority: of the certificates.
            apps: services that register.
            gateway: the one of them that looks for the others.
            namespace: where it runs.
        """
        super().__init__("estate:consul_cluster:ConsulCluster", NAME, {}, pulumi.ResourceOptions(parent=namespace))
        self._image, self._keys, self._authority, self._namespace = image, keys, authority, namespace
        self._rules = consul_access.policies(apps, gateway, f"{SERVERS}-", f"{NAME}-")
        servers = self._servers(storage)
        granted = self._access(servers)
        self.service = self._agents(granted)
        management = {"management.token": keys.token(consul_access.MANAGEMENT), "ca.crt": authority.certificate}
        ConsulSnapshots(image, storage, API, CLI, (FOLDER, management), namespace, self)
        self.environment = {
            "APP_SERVICE_REGISTRY_ADDRESS": self.endpoint.address,
            "APP_SERVICE_REGISTRY_TOKEN_FILE": TOKEN_FILE,
        }
        self.scraped = self._scraped()
        self.register_outputs({})

    def secrets_of(self, app: str, /) -> dict[str, pulumi.Output[str]]:
        """Files that a service has mounted: its own token."""
        return {"consul-token": self._keys.token(app)}

    def _servers(self, storage: str) -> StatefulSet:
        child = pulumi.ResourceOptions(parent=self)
        named = metadata(SERVERS, self._namespace.name)
        management = self._keys.token(consul_access.MANAGEMENT)
        tokens = {"initial_management": management, "agent": self._keys.token(consul_access.SERVER)}
        secret = self._secret(
            SERVERS,
            {"agent.json": self._configuration(server(), tokens), "management.token": management}
            | self._authority.issue(SERVERS, [SERVER_NAME, SERVERS, "localhost"]),
        )
        headless = {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,  # they have to find each other before any is ready
            "selector": selector(SERVERS),
            "ports": [{"name": "https", "port": HTTPS}],
        }
        Service(SERVERS, metadata=named, spec=manifest(headless), opts=child)
        budget = {"maxUnavailable": 1, "selector": {"matchLabels": selector(SERVERS)}}
        PodDisruptionBudget(SERVERS, metadata=named, spec=manifest(budget), opts=child)
        return StatefulSet(
            SERVERS,
            metadata=named,
            spec=manifest(
                {
                    "serviceName": SERVERS,
                    "replicas": len(NODES),
                    "podManagementPolicy": "Parallel",  # none becomes ready without the others
                    "minReadySeconds": STABLE_S,
                    "selector": {"matchLabels": selector(SERVERS)},
                    "template": {
                        "metadata": {"labels": labels(SERVERS)},
                        "spec": server_pod(self._image, secret.metadata.name),
                    },
                    "volumeClaimTemplates": [volume_claim(storage)],
                }
            ),
            opts=pulumi.ResourceOptions(
                parent=self,
                depends_on=[self._flow(SERVERS, RPC_AND_GOSSIP)],
                custom_timeouts=ROLLOUT,
            ),
        )

    def _access(self, servers: StatefulSet) -> Job:
        """Policies and tokens, by a Job; its name is Pulumi's, since other rules are another Job."""
        files = {f"{name}.hcl": pulumi.Output.from_input(rules) for name, rules in self._rules.items()}
        files |= {f"{name}.token": self._keys.token(name) for name in (*self._rules, consul_access.MANAGEMENT)}
        secret = self._secret(ACCESS, files | {"ca.crt": self._authority.certificate})
        container = {
            "name": ACCESS,
            "image": self._image,
            "command": ["sh", "-c", GRANT, "sh", FOLDER],
            "env": [{"name": name, "value": value} for name, value in CLI.items()],
            "resources": resources("50m", "128Mi"),
        }
        template = {
            "metadata": {"labels": labels(ACCESS)},
            "spec": pod(container, secret.metadata.name) | {"restartPolicy": "Never"},
        }
        return Job(
            ACCESS,
            metadata=manifest(
                {
                    "namespace": self._namespace.name,
                    "labels": labels(ACCESS),
                    # A Job that failed is made anew: https://github.com/pulumi/pulumi-kubernetes/issues/449
                    "annotations": {"pulumi.com/replaceUnready": "true"},
                }
            ),
            spec=manifest({"backoffLimit": 3, "template": template}),
            opts=pulumi.ResourceOptions(
                parent=self, depends_on=[servers, self._flow(ACCESS, API)], custom_timeouts=ROLLOUT
            ),
        )

    def _agents(self, granted: Job) -> Service:
        named = metadata(NAME, self._namespace.name)
        tokens = {"agent": self._keys.token(consul_access.AGENT)}
        secret = self._secret(
            NAME,
            {"agent.json": self._configuration(agent(), tokens)} | self._authority.issue(NAME, [AGENT_NAME]),
        )
        gossip = Endpoint(NAME, 8301, (("UDP", 8301),))
        flows = [
            self._flow(NAME, RPC_AND_GOSSIP),
            self._flow(NAME, gossip),
            self._flow(SERVERS, gossip),
        ]
        agents = DaemonSet(
            NAME,
            metadata=named,
            spec=manifest(
                {
                    "selector": {"matchLabels": selector(NAME)},
                    "updateStrategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
                    "template": {
                        "metadata": {"labels": labels(NAME)},
                        "spec": agent_pod(self._image, secret.metadata.name),
                    },
                }
            ),
            opts=pulumi.ResourceOptions(parent=self, depends_on=[granted, *flows], custom_timeouts=ROLLOUT),
        )
        child = pulumi.ResourceOptions(parent=self, depends_on=[agents])
        # Headless: DNS names every agent, for Prometheus.
        every = f"{NAME}-pods"
        headless = {"clusterIP": "None", "selector": selector(NAME), "ports": [{"name": "https", "port": HTTPS}]}
        Service(every, metadata=metadata(every, self._namespace.name), spec=manifest(headless), opts=child)
        local = {
            "internalTrafficPolicy": "Local",
            "selector": selector(NAME),
            "ports": [{"name": "http", "port": PORT}],
        }
        return Service(NAME, metadata=named, spec=manifest(local), opts=child)

    def _scraped(self) -> Scraped:
        jobs = [
            {
                "job_name": name,
                "scheme": "https",
                "metrics_path": "/v1/agent/metrics",
                "params": {"format": ["prometheus"]},
                "authorization": {"credentials_file": f"{PROMETHEUS_FOLDER}/consul-token"},
                "tls_config": {"ca_file": f"{PROMETHEUS_FOLDER}/ca.crt", "server_name": host},
                "dns_sd_configs": [{"names": [found], "type": "A", "port": HTTPS, "refresh_interval": "5s"}],
            }
            for name, host, found in ((SERVERS, SERVER_NAME, SERVERS), (NAME, AGENT_NAME, f"{NAME}-pods"))
        ]
        files = {
            "consul-token": self._keys.token(consul_access.PROMETHEUS),
            "ca.crt": self._authority.certificate,
        }
        return Scraped((API, Endpoint(NAME, HTTPS)), jobs, files)

    def _secret(self, name: str, files: Mapping[str, pulumi.Output[str]]) -> Secret:
        """Files for a workload's pods; other content is another name, so that the pods roll."""
        return Secret(
            name,
            metadata=manifest({"namespace": self._namespace.name}),
            string_data=files,
            immutable=True,
            opts=pulumi.ResourceOptions(parent=self),
        )

    def _configuration(self, fields: dict[str, Any], tokens: Mapping[str, pulumi.Output[str]]) -> pulumi.Output[str]:
        def rendered(known: dict[str, Any]) -> str:
            return json.dumps(fields | {"encrypt": known.pop("gossip"), "acl": acl(known)})

        return pulumi.Output.secret(pulumi.Output.all(gossip=self._keys.gossip, **tokens).apply(rendered))

    def _flow(self, source: str, to: Endpoint) -> Flow:
        return Flow(source, to, self._namespace.name, self)


def acl(tokens: dict[str, str]) -> dict[str, Any]:
    """Nothing without a token; what is known of tokens stays good while no server answers."""
    return {"enabled": True, "default_policy": "deny", "down_policy": "extend-cache", "tokens": tokens}


def server() -> dict[str, Any]:
    """A server's configuration, without what is secret."""
    return common() | {
        "server": True,
        "bootstrap_expect": len(NODES),
        # Leaving hands the leadership over at once, in place of an election that waits for the dead.
        "leave_on_terminate": True,
        "rejoin_after_leave": True,
        "autopilot": {"min_quorum": len(NODES)},
        "ports": {"http": -1, "https": HTTPS, "dns": -1, "grpc": -1, "grpc_tls": -1, "serf_wan": -1},
    }


def agent() -> dict[str, Any]:
    """An agent's configuration, without what is secret."""
    return common() | {
        "server": False,
        "leave_on_terminate": True,
        "retry_join": [f"{node}.{SERVERS}" for node in NODES],
        "ports": {"http": PORT, "https": HTTPS, "dns": -1, "grpc": -1, "grpc_tls": -1},
    }


def common() -> dict[str, Any]:
    """What servers and agents have in common."""
    return {
        "data_dir": "/consul/data",
        "client_addr": "0.0.0.0",  # noqa: S104 - a pod is reached from outside itself
        "bind_addr": "0.0.0.0",  # noqa: S104 - likewise
        "disable_update_check": True,
        "retry_interval": "2s",
        "reconnect_timeout": "8h",  # of a node that was killed; the least that there is
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
    """A server's pod: ready once it has a vote."""
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
        # One that was alone for two minutes starts again, and looks for the others anew.
        "startupProbe": voter | {"periodSeconds": 2, "timeoutSeconds": 10, "failureThreshold": 60},
        "readinessProbe": leader | {"periodSeconds": 5, "timeoutSeconds": 3},
        "livenessProbe": leader | {"periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": 6},
        "resources": resources("50m", "256Mi"),
        "volumeMounts": [{"name": "data", "mountPath": "/consul/data"}],
    }
    others = {"labelSelector": {"matchLabels": selector(SERVERS)}, "topologyKey": "kubernetes.io/hostname"}
    apart = {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "podAffinityTerm": others}]}
    return pod(container, secret) | {"terminationGracePeriodSeconds": 30, "affinity": {"podAntiAffinity": apart}}


def agent_pod(image: str, secret: pulumi.Input[str]) -> dict[str, Any]:
    """An agent's pod: ready once it has found the servers. It stays so without them: what it knows is still of use."""
    found = {"httpGet": {"path": "/v1/status/leader", "port": "http"}}
    alive = {"tcpSocket": {"port": "http"}}
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
        "startupProbe": found | {"periodSeconds": 1, "timeoutSeconds": 3, "failureThreshold": 120},
        "readinessProbe": alive | {"periodSeconds": 5},
        "livenessProbe": alive | {"periodSeconds": 10, "failureThreshold": 6},
        "lifecycle": {"preStop": {"sleep": {"seconds": HANDOVER_S}}},
        "resources": resources("50m", "128Mi"),
        "volumeMounts": [{"name": "data", "mountPath": "/consul/data"}],
    }
    data: dict[str, Any] = {"name": "data", "emptyDir": {}}
    own = pod(container, secret)
    return own | {"terminationGracePeriodSeconds": HANDOVER_S + 20, "volumes": [*own["volumes"], data]}


def identity() -> list[dict[str, Any]]:
    """The pod's name, which is its node's in Consul, and its address."""
    fields = {"HOSTNAME": "metadata.name", "POD_IP": "status.podIP"}
    return [{"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}} for name, path in fields.items()]


def pod(container: dict[str, Any], secret: pulumi.Input[str]) -> dict[str, Any]:
    """A pod of one container with a Secret's files."""
    mounts = [
        {"name": "secrets", "mountPath": FOLDER, "readOnly": True},
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - a volume of the pod's own
        *container.get("volumeMounts", []),
    ]
    return {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": pod_security(UID, GID),
        "containers": [container | {"securityContext": container_security(), "volumeMounts": mounts}],
        "volumes": [
            {"name": "secrets", "secret": {"secretName": secret, "defaultMode": 0o440}},
            {"name": "tmp", "emptyDir": {}},
        ],
    }
